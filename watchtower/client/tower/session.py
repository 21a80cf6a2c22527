"""One connection to a tower: HTTP, time limits, and problem documents as exceptions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx
import msgspec

from domain.as_of import AsOf
from domain.chain import GENESIS_DISPLAY
from domain.contract.header import VERSION as PROTOCOL_VERSION
from domain.contract.params import profile_for
from watchtower.client.config import StateChannelConfig
from watchtower.client.errors import (
    ConfigurationError,
    NotConnected,
    TowerUnreachable,
    UnexpectedAnswer,
    WrongTower,
    error_of,
)
from watchtower.client.ids import channel_name
from watchtower.client.party.party import ChannelParty
from watchtower.client.past import parameters
from watchtower.client.tower.following import follow
from watchtower.client.tower.receipt_folder import ReceiptFolder
from watchtower.client.tower.receipts import ReceiptBook
from watchtower.client.types import ProtocolState
from watchtower.wire.api import Problem
from watchtower.wire.events import EventBody
from watchtower.wire.hexes import to_json

REPLAYED = "Idempotency-Replayed"
PROBLEM_TYPE = "application/problem+json"

IDLE_SECONDS = 2.0
"""So long a connection without a request is kept. The tower closes it after 5 s: a request that is on its way at that
moment would be lost without an answer."""

T = TypeVar("T")


class TowerSession:
    """Use as an async context manager, or call `connect` and `disconnect`."""

    def __init__(
        self,
        config: StateChannelConfig | None = None,
        *,
        url: str = "http://127.0.0.1:9815",
        token: str = "",
        party: ChannelParty | None = None,
        auth: httpx.Auth | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        tower_id: bytes | None = None,
        receipts_path: str | Path | None = None,
    ) -> None:
        """`auth` signs requests instead of a token, for example `PartySigner`; `tower_id` (32 bytes) pins the tower.

        `receipts_path` is a directory in which the tower's receipts are kept, one file per channel.
        """
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(f"a tower's address begins with http:// or https://, got {url[:100]!r}")
        pinned: object = tower_id
        if pinned is not None and not (isinstance(pinned, bytes) and len(pinned) == 32):
            raise ConfigurationError("tower_id has 32 bytes; `bytes.fromhex` makes them of the text that a tower shows")
        self.config = config or StateChannelConfig()
        self.party = party
        self._url = url
        self._token = token
        self._auth = auth
        self._transport = transport
        self._http: httpx.AsyncClient | None = None
        self._pinned = tower_id
        self._tower_id = b""
        self._book = ReceiptBook()
        self._folder = None if receipts_path is None else ReceiptFolder(Path(receipts_path))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.config.network} at {self._url}>"

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    async def connect(self) -> None:
        """Open the session. Raises `WrongTower` unless protocol version, chain, tower id and profile are as expected.

        `ConfigurationError` if the party is set to another network than the client.
        """
        if self.party is not None and self.party.settings.network != self.config.network:
            raise ConfigurationError(
                f"the party is one of {self.party.settings.network}, the client is set to {self.config.network}"
            )
        if self._http is None:
            headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
            self._http = httpx.AsyncClient(
                base_url=self._url,
                headers=headers,
                auth=self._auth,
                timeout=self.config.timeout_seconds,
                limits=httpx.Limits(keepalive_expiry=IDLE_SECONDS),
                transport=self._transport,
            )
        try:
            state = await self.get_state()
            check_tower(state, self.config, self._pinned)
            self._tower_id = bytes.fromhex(state.tower_id)
            self._load_receipts()
        except BaseException:
            await self.disconnect()
            raise

    async def disconnect(self) -> None:
        """Close the session; harmless if there is none."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def get_state(self, as_of: AsOf | None = None) -> ProtocolState:
        """The tower's own state.

        `as_of`: what its log said at that point, for operators; `PointNotFound`, or `PastIsTooLong` for a point that
        only `watchtower audit` can answer about.
        """
        raw, _ = await self._call("GET", "/v1/info", query=parameters(as_of))
        state = read(raw, ProtocolState)
        if as_of is not None:
            return state
        if self.party is not None and state.height is not None and state.network == self.config.network:
            self.party.note_height(state.height)
        return state

    def follow(self, channel_id: str | None = None, after: int | None = None) -> AsyncIterator[EventBody]:
        """Events of a channel, or of all channels, as they are stored: each once, across interruptions.

        `after`: begin behind the event with this id, 0 for the whole history; None means from now on.
        """
        path = "/v1/events" if channel_id is None else f"/v1/channels/{channel_name(channel_id)}/events"
        return follow(self._session(), path, after)

    def _session(self) -> httpx.AsyncClient:
        if self._http is None:
            raise NotConnected("call connect() first, or use the client as an async context manager")
        return self._http

    async def _call(
        self, method: str, path: str, body: object = None, query: dict[str, str] | None = None
    ) -> tuple[bytes, httpx.Response]:
        http = self._session()
        content = None if body is None else to_json(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            # The library's limit is that of each piece of an answer, which may come in any number of them.
            async with asyncio.timeout(self.config.timeout_seconds):
                answer = await http.request(method, path, content=content, headers=headers, params=query)
        except (httpx.TimeoutException, TimeoutError):
            raise TowerUnreachable(f"the tower did not answer within {self.config.timeout_ms} ms") from None
        except httpx.HTTPError as error:
            raise TowerUnreachable(
                f"the tower at {self._url} cannot be reached ({type(error).__name__}); "
                "does it run, and is this its api.listen?"
            ) from None
        if answer.is_success:
            return answer.content, answer
        if not answer.headers.get("content-type", "").startswith(PROBLEM_TYPE):
            raise UnexpectedAnswer(
                f"{self._url} answers with status {answer.status_code} and without a problem document; "
                "is this a tower's api.listen?"
            )
        refusal = error_of(read(answer.content, Problem))
        if refusal.slug == "not-found":
            raise UnexpectedAnswer(
                f"there is no {path} at {self._url}; is this a tower's api.listen, and as new as this client?"
            )
        raise refusal

    def _load_receipts(self) -> None:
        """What this client holds from this tower, from the party's log and from files."""
        self._book = ReceiptBook()
        for channel in () if self.party is None else self.party.channels():
            self._book.load((signed for _, signed in channel.receipts), self._tower_id)
        if self._folder is not None:
            self._book.load(self._folder.read(), self._tower_id)

    def _own_party(self) -> ChannelParty:
        if self.party is None:
            raise NotConnected("this call needs a client that was made with a party")
        return self.party


def check_tower(state: ProtocolState, config: StateChannelConfig, pinned: bytes | None) -> None:
    """Raise `WrongTower` for a tower that this client must not trust its channels to."""
    if state.network != config.network:
        raise WrongTower(f"the tower serves {state.network}, this client is set to {config.network}")
    if state.chain_hash != GENESIS_DISPLAY[config.network]:
        raise WrongTower(f"the tower follows a chain from {state.chain_hash}, which is not {config.network}")
    if state.protocol_version != PROTOCOL_VERSION:
        raise WrongTower(f"the tower speaks protocol {state.protocol_version}, this client {PROTOCOL_VERSION}")
    if pinned is not None and state.tower_id != pinned.hex():
        raise WrongTower(f"this is tower {state.tower_id}, expected was {pinned.hex()}")
    if profile_for(config.taproot_enabled) not in state.profiles:
        wanted = "with" if config.taproot_enabled else "without"
        raise WrongTower(f"the tower takes no channels {wanted} Taproot; set taproot_enabled alike on both sides")


def read(raw: bytes, form: type[T]) -> T:
    """An answer as a struct; `UnexpectedAnswer` if it is none."""
    try:
        return msgspec.json.decode(raw, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnexpectedAnswer(f"the tower's answer cannot be read: {error}") from None


def is_replayed(answer: httpx.Response) -> bool:
    """Whether the tower had stored exactly this before."""
    return REPLAYED in answer.headers
