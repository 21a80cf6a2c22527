"""The table of endpoints. Routes, authentication, metric labels and the OpenAPI document are made from it.

To add an endpoint: write the use case (`watchtower/channels/`), give it a callable in `Services` (`services.py`), its
bodies a file in `watchtower/wire/`, and add a row here::

    Endpoint(
        name="get_liquidity",
        method="GET",
        path="/v1/channels/{id}/liquidity",
        summary="What can be spent and received",
        scope="channels:read",
        answer=LiquidityBody,
        problems=("channel-closed",),
        call=lambda services, call: services.get_liquidity(call.name),
    ),

An address without `{id}` takes operators' tokens only, unless the row says `parties=True`; its callable then looks at
`call.principal`. `call.body` and `call.query` are structs of the types `body` and `query`. Return a body, or `Reply`
for another status or a repetition. Then print the document again (`watchtower api openapi > docs/openapi.json`) and
describe the address in docs/api.md; tests compare both with this table.
"""

from __future__ import annotations

from watchtower.http.dispute_endpoints import DISPUTES
from watchtower.http.endpoint import Call, Endpoint, Reply
from watchtower.http.feed import Subscription
from watchtower.http.liquidity_endpoints import LIQUIDITY
from watchtower.http.preimage_endpoints import PREIMAGES
from watchtower.http.receipt_endpoints import RECEIPTS
from watchtower.http.restore_endpoints import RESTORES
from watchtower.http.services import Services
from watchtower.wire.api import (
    AliveBody,
    ChannelBody,
    ChannelPage,
    FundingBody,
    ReadyBody,
    RegisterRequest,
    RevocationAnswer,
    RevocationRequest,
    TimelinePage,
    TowerBody,
    UpdateAnswer,
    UpdateRequest,
)
from watchtower.wire.events import EventBody, EventsQuery
from watchtower.wire.queries import ChannelsQuery, TimelineQuery


def _register(services: Services, call: Call) -> Reply:
    if call.principal.key is not None:
        services.admit_registration(call.body, call.principal.key)
    done = services.register(call.body)
    return Reply(done.channel, 201 if done.created else 200, replayed=not done.created)


def _accept_state(services: Services, call: Call) -> Reply:
    done = services.accept_state(call.name, call.body)
    return Reply(done.answer, replayed=done.duplicate)


def _revoke(services: Services, call: Call) -> Reply:
    done = services.revoke(call.name, call.body)
    return Reply(done.answer, replayed=done.duplicate)


def _list_channels(services: Services, call: Call) -> ChannelPage:
    query: ChannelsQuery = call.query
    return services.list_channels(query.after, query.limit, query.status, call.principal.key)


def _get_timeline(services: Services, call: Call) -> TimelinePage:
    query: TimelineQuery = call.query
    return services.get_timeline(call.name, query.after, query.limit)


def _position(call: Call) -> int | None:
    query: EventsQuery = call.query
    return query.after if call.last_event_id is None else call.last_event_id


def _follow_channel(services: Services, call: Call) -> Subscription:
    return services.subscribe(call.name, call.principal.key, _position(call))


def _follow(services: Services, call: Call) -> Subscription:
    return services.subscribe(None, call.principal.key, _position(call))


def _ready(services: Services, call: Call) -> Reply:
    del call
    body = services.get_ready()
    return Reply(body, 200 if body.ready else 503)


FOLLOWING = (
    "Server-sent events. The id of an event is its place in the log; a client that comes back with `Last-Event-ID` "
    "misses nothing. A comment with the position comes while nothing happens."
)

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        name="register",
        method="POST",
        path="/v1/channels",
        summary="Put a channel under watch",
        description=(
            "201 for a new channel, 200 if exactly this was registered before. Durable when it answers. "
            "A party signs with the auth key of the side that it registers for."
        ),
        scope="channels:write",
        parties=True,
        body=RegisterRequest,
        answer=ChannelBody,
        statuses=(201, 200),
        problems=(
            "invalid-params",
            "invalid-state",
            "invalid-signature",
            "invalid-secret",
            "channel-exists",
            "tower-full",
            "funding-mismatch",
            "keystore-conflict",
            "keystore-error",
            "node-unavailable",
            "wrong-chain",
            "worker-unavailable",
            "store-full",
        ),
        call=_register,
    ),
    Endpoint(
        name="list_channels",
        method="GET",
        path="/v1/channels",
        summary="List channels, a page at a time",
        description="`next` of a page is the `after` of the following one. A party sees its own channels.",
        scope="channels:read",
        parties=True,
        query=ChannelsQuery,
        answer=ChannelPage,
        call=_list_channels,
    ),
    Endpoint(
        name="get_channel",
        method="GET",
        path="/v1/channels/{id}",
        summary="One channel",
        scope="channels:read",
        answer=ChannelBody,
        call=lambda services, call: services.get_channel(call.name),
    ),
    Endpoint(
        name="accept_state",
        method="POST",
        path="/v1/channels/{id}/states",
        summary="Store the next complete state",
        description="Durable when it answers. The same state again gets the same answer and stores nothing.",
        scope="channels:write",
        body=UpdateRequest,
        answer=UpdateAnswer,
        problems=(
            "invalid-state",
            "invalid-signature",
            "invalid-secret",
            "sequence-gap",
            "equivocation",
            "channel-closed",
            "channel-not-ready",
            "worker-unavailable",
            "store-full",
        ),
        call=_accept_state,
    ),
    Endpoint(
        name="revoke",
        method="POST",
        path="/v1/channels/{id}/revocations",
        summary="Store a revocation",
        description="The counterparty's secret, or the fact that the own side released one.",
        scope="channels:write",
        body=RevocationRequest,
        answer=RevocationAnswer,
        problems=("invalid-secret", "refused", "sequence-gap", "channel-closed", "channel-not-ready", "store-full"),
        call=_revoke,
    ),
    Endpoint(
        name="get_funding",
        method="GET",
        path="/v1/channels/{id}/funding",
        summary="Where the funding output stands",
        scope="channels:read",
        answer=FundingBody,
        call=lambda services, call: services.get_funding(call.name),
    ),
    Endpoint(
        name="get_timeline",
        method="GET",
        path="/v1/channels/{id}/timeline",
        summary="The history of a channel in plain words",
        description="Oldest first; `next` of a page is the `after` of the following one.",
        scope="channels:read",
        query=TimelineQuery,
        answer=TimelinePage,
        call=_get_timeline,
    ),
    Endpoint(
        name="follow_channel",
        method="GET",
        path="/v1/channels/{id}/events",
        summary="The events of a channel as they happen",
        description=FOLLOWING,
        scope="channels:read",
        query=EventsQuery,
        answer=EventBody,
        is_stream=True,
        problems=("too-busy",),
        call=_follow_channel,
    ),
    Endpoint(
        name="follow",
        method="GET",
        path="/v1/events",
        summary="The events of all channels as they happen",
        description=f"{FOLLOWING} A party sees those of its own channels.",
        scope="channels:read",
        parties=True,
        query=EventsQuery,
        answer=EventBody,
        is_stream=True,
        problems=("too-busy",),
        call=_follow,
    ),
    Endpoint(
        name="get_tower",
        method="GET",
        path="/v1/info",
        summary="The tower itself",
        description="A party is told the number and capacity of its own channels, and no addresses in `reasons`.",
        scope="status:read",
        parties=True,
        answer=TowerBody,
        call=lambda services, call: services.get_tower(call.principal.key),
    ),
    Endpoint(
        name="health",
        method="GET",
        path="/healthz",
        summary="Whether the process answers",
        scope=None,
        answer=AliveBody,
        call=lambda _services, _call: AliveBody(alive=True),
    ),
    Endpoint(
        name="ready",
        method="GET",
        path="/readyz",
        summary="Whether states can be stored durably",
        description="503 while they cannot. The body says whether the tower watches.",
        scope=None,
        answer=ReadyBody,
        statuses=(200, 503),
        call=_ready,
    ),
    *DISPUTES,
    *LIQUIDITY,
    *PREIMAGES,
    *RESTORES,
    *RECEIPTS,
)

PATHS: tuple[str, ...] = tuple(dict.fromkeys(endpoint.path for endpoint in ENDPOINTS))
"""The addresses, each once, in the order of the table."""
