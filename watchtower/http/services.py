"""What the HTTP edge needs from the inside: plain callables, so that tests can put others in their place."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from domain.as_of import AsOf
from domain.contract.header import VERSION as PROTOCOL_VERSION
from domain.contract.params import SEGWIT, TAPROOT
from domain.deadlines import LAST_BLOCKS, PROMISED_OUTAGE, PROMISED_REORG
from watchtower.channels import queries
from watchtower.channels.accept_state import Accepted, accept_state
from watchtower.channels.confirming import Confirmed, confirm
from watchtower.channels.context import Context
from watchtower.channels.disputes import Disputes, bind_disputes
from watchtower.channels.finding import find_stream
from watchtower.channels.funding import get_funding
from watchtower.channels.liquidity import get_liquidity, get_total_liquidity
from watchtower.channels.ownership import admit_registration, require_owner, streams_of
from watchtower.channels.past import Past, totals_of
from watchtower.channels.preimages import Preimages, bind_preimages
from watchtower.channels.receipts import Receipts, bind_receipts
from watchtower.channels.register import Registered, register
from watchtower.channels.revoke import Revoked, revoke
from watchtower.http.feed import Feed, Subscription
from watchtower.wire.api import (
    ChannelBody,
    ChannelPage,
    FundingBody,
    LogBody,
    PromiseBody,
    ReadyBody,
    RegisterRequest,
    RevocationRequest,
    TimelinePage,
    TowerBody,
    UpdateRequest,
)
from watchtower.wire.hexes import BlockHashHex, Hex16, Hex32
from watchtower.wire.liquidity import LiquidityBody, TotalLiquidityBody
from watchtower.wire.restores import ConfirmationRequest


class Standing(msgspec.Struct, frozen=True):
    """What the process knows about itself. `operational` = states can be stored durably.

    `reasons` may be told to anybody; `details` say more and name addresses and files: they are for the operator.
    `height` and `tip_hash` (internal order) are those of the tower's cursor; `lag` in blocks behind the node.
    """

    operational: bool
    watching: bool
    phase: str
    reasons: tuple[str, ...] = ()
    height: int | None = None
    tip_hash: bytes | None = None
    lag: int | None = None
    details: tuple[str, ...] = ()


class Services(msgspec.Struct, frozen=True):
    """All questions and commands of the API. They are called in worker threads.

    `admit_registration` and `require_owner` refuse what a party (x-only key) may not do with its own key.
    """

    admit_registration: Callable[[RegisterRequest, bytes], None]
    require_owner: Callable[[str, bytes], None]

    register: Callable[[RegisterRequest], Registered]
    accept_state: Callable[[str, UpdateRequest], Accepted]
    revoke: Callable[[str, RevocationRequest], Revoked]
    confirm: Callable[[str, ConfirmationRequest], Confirmed]
    get_channel: Callable[[str], ChannelBody]
    list_channels: Callable[[str | None, int, str | None, bytes | None], ChannelPage]
    get_funding: Callable[[str], FundingBody]
    get_timeline: Callable[[str, int, int], TimelinePage]
    preimages: Preimages
    get_liquidity: Callable[[str], LiquidityBody]
    get_total_liquidity: Callable[[bytes | None], TotalLiquidityBody]
    get_tower: Callable[[bytes | None], TowerBody]
    get_ready: Callable[[], ReadyBody]
    subscribe: Callable[[str | None, bytes | None, int | None], Subscription]
    disputes: Disputes
    receipts: Receipts
    past: Past
    get_past_tower: Callable[[AsOf], TowerBody]


def bind(
    context: Context, standing: Callable[[], Standing], *, version: str, network: str, tower_id: bytes
) -> Services:
    """The services of a running tower. `tower_id` is its x-only public key."""
    past = Past(context)

    def tower(owner: bytes | None) -> TowerBody:
        now = standing()
        told = describe(now, queries.totals(context, owner), now.reasons if owner is not None else now.details)
        return replace(told, behind_receipts=queries.behind(context, owner), log=_log_body(context))

    def past_tower(as_of: AsOf) -> TowerBody:
        then = past.get_tower(as_of)
        tip = then.point.tip_hash
        moment = Standing(operational=False, watching=False, phase="past", height=then.point.height, tip_hash=tip)
        return replace(describe(moment, totals_of(then), ()), past=then)

    def describe(now: Standing, totals: tuple[int, int], reasons: tuple[str, ...]) -> TowerBody:
        profile = context.policy.params.profile
        return TowerBody(
            version=version,
            protocol_version=PROTOCOL_VERSION,
            tower_id=Hex32(tower_id),
            network=network,
            chain_hash=BlockHashHex(context.policy.params.chain_hash),
            profiles=(TAPROOT, SEGWIT) if profile is None else (profile,),
            operational=now.operational,
            watching=now.watching,
            phase=now.phase,
            reasons=reasons or now.reasons,
            height=now.height,
            tip_hash=None if now.tip_hash is None else BlockHashHex(now.tip_hash),
            channels=totals[0],
            capacity=totals[1],
            lag=now.lag,
            promise=PromiseBody(
                reorg=PROMISED_REORG,
                outage=PROMISED_OUTAGE,
                last_blocks=LAST_BLOCKS,
                min_challenge_period=context.policy.params.min_challenge_period,
            ),
        )

    def ready() -> ReadyBody:
        now = standing()
        return ReadyBody(ready=now.operational, watching=now.watching, phase=now.phase, reasons=now.reasons)

    feed = Feed(context.store, context.channels)

    def subscribe(name: str | None, owner: bytes | None, after: int | None) -> Subscription:
        if name is not None:
            stream = find_stream(context, name)
            return Subscription(feed, stream, owner, after, own=lambda: (feed.last_id(), (stream,)))
        if owner is None:
            return Subscription(feed, after=after)
        seen_until, streams = streams_of(context, owner)
        if streams:
            return Subscription(feed, None, owner, after, own=lambda: streams_of(context, owner))
        # Anybody can make a key: for one without a channel the log must not be read from its beginning.
        begin = None if after is None else max(after, seen_until)
        return Subscription(feed, None, owner, begin, is_stranger=True)

    return Services(
        admit_registration=lambda request, key: admit_registration(context, request, key),
        require_owner=lambda name, key: require_owner(context, name, key),
        register=lambda request: register(context, request),
        accept_state=lambda name, request: accept_state(context, find_stream(context, name), request),
        revoke=lambda name, request: revoke(context, find_stream(context, name), request),
        confirm=lambda name, request: confirm(context, find_stream(context, name), request),
        get_channel=lambda name: queries.get_channel(context, find_stream(context, name)),
        list_channels=lambda after, limit, status, owner: queries.list_channels(context, after, limit, status, owner),
        get_funding=lambda name: get_funding(context, find_stream(context, name)),
        get_timeline=lambda name, after, limit: queries.get_timeline(context, find_stream(context, name), after, limit),
        get_liquidity=lambda name: get_liquidity(context, find_stream(context, name)),
        get_total_liquidity=lambda owner: get_total_liquidity(context, owner),
        preimages=bind_preimages(context),
        get_tower=tower,
        get_ready=ready,
        subscribe=subscribe,
        disputes=bind_disputes(context),
        receipts=bind_receipts(context),
        past=past,
        get_past_tower=past_tower,
    )


def _log_body(context: Context) -> LogBody | None:
    """How far the log is, for clients that hold receipts; None while the tower says nothing about it."""
    signer = context.receipts
    if signer is None or not signer.may_sign:
        return None
    last = context.store.last_id()
    return LogBody(log_id=Hex16(signer.log_id), epoch=signer.epoch_at(last), position=last)
