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

from domain.as_of import AsOf
from watchtower.http.dispute_endpoints import DISPUTES
from watchtower.http.endpoint import Call, Endpoint, Reply
from watchtower.http.feed import Subscription
from watchtower.http.liquidity_endpoints import LIQUIDITY
from watchtower.http.preimage_endpoints import PREIMAGES
from watchtower.http.problems import EdgeRefusal
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
from watchtower.wire.history import AsOfQuery, PastChannelsQuery, PastTimelineQuery, as_of


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
    query: PastChannelsQuery = call.query
    point = whole_tower_at(call)
    if point is not None:
        return services.past.list_channels(point, query.after, query.limit, query.status)
    return services.list_channels(query.after, query.limit, query.status, call.principal.key)


def _get_channel(services: Services, call: Call) -> ChannelBody:
    point = as_of(call.query)
    return services.get_channel(call.name) if point is None else services.past.get_channel(call.name, point)


def _get_timeline(services: Services, call: Call) -> TimelinePage:
    query: PastTimelineQuery = call.query
    point = as_of(query)
    if point is not None:
        return services.past.get_timeline(call.name, point, query.after, query.limit)
    return services.get_timeline(call.name, query.after, query.limit)


def _get_tower(services: Services, call: Call) -> TowerBody:
    point = whole_tower_at(call)
    return services.get_tower(call.principal.key) if point is None else services.get_past_tower(point)


def whole_tower_at(call: Call) -> AsOf | None:
    """The point of a question about all channels: it costs too much, and tells too much, for a party."""
    point = as_of(call.query)
    if point is not None and call.principal.is_party:
        raise EdgeRefusal("forbidden", "a party may ask about the past of its own channels only, one by one")
    return point


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

IN_THE_PAST = "With one of `position`, `id`, `at`, `height` and `block`: as of that point of the tower's log."
OF_THE_PAST = ("unknown-point", "past-too-long")

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
        description=(
            "`next` of a page is the `after` of the following one. A party sees its own channels. "
            "With one of the last five parameters: those of the tower as of a point of its log; for operators. Then, "
            "and with `status`, a page may be short although more follow."
        ),
        scope="channels:read",
        parties=True,
        query=PastChannelsQuery,
        answer=ChannelPage,
        problems=OF_THE_PAST,
        call=_list_channels,
    ),
    Endpoint(
        name="get_channel",
        method="GET",
        path="/v1/channels/{id}",
        summary="One channel",
        description=IN_THE_PAST,
        scope="channels:read",
        query=AsOfQuery,
        answer=ChannelBody,
        problems=OF_THE_PAST,
        call=_get_channel,
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
        description=f"Oldest first; `next` of a page is the `after` of the following one. {IN_THE_PAST}",
        scope="channels:read",
        query=PastTimelineQuery,
        answer=TimelinePage,
        problems=OF_THE_PAST,
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
        description=(
            "A party is told the number and capacity of its own channels, and no addresses in `reasons`. "
            "With a parameter: the tower as of a point of its log; for operators."
        ),
        scope="status:read",
        parties=True,
        query=AsOfQuery,
        answer=TowerBody,
        problems=OF_THE_PAST,
        call=_get_tower,
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
