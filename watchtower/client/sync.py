"""`SyncStateChannelClient`: every method of `StateChannelClient` without asyncio.

    with SyncStateChannelClient(config, url=url, token=token) as client:
        print(client.get_state().height)

The client runs in an event loop of its own thread, which `close` (or the end of the `with` block) ends. Calls may come
from several threads at once. An interrupted call (Ctrl-C) is cancelled: it may be repeated like any other.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from watchtower.client.client import StateChannelClient
from watchtower.client.config import StateChannelConfig
from watchtower.client.errors import NotConnected
from watchtower.client.fee_children import FeeChildPolicy
from watchtower.client.party.party import ChannelParty
from watchtower.client.peers.port import Closer, Peer
from watchtower.client.tower.finality import Alarm, log_alarm
from watchtower.client.wallet import FundingWallet
from watchtower.wire.events import EventBody

P = ParamSpec("P")
T = TypeVar("T")

STOP_SECONDS = 10.0
"""How long `close` waits for the thread; what it runs then has been cancelled."""


def _twin(
    method: Callable[Concatenate[StateChannelClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncStateChannelClient, P], T]:
    """The method with the same signature and docstring that returns when the result is there."""

    @functools.wraps(method)
    def call(self: SyncStateChannelClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(method(self.asynchronous, *args, **kwargs))

    return call


class SyncStateChannelClient:
    """Talks to one tower. Use as a context manager, or call `connect` and `close`.

    `asynchronous` is the client behind it, for the event loop of this object only. A `peer` lives in this loop, too:
    that of `open_client` does, a `PeerLink` of another loop does not.
    """

    _thread: threading.Thread | None

    def __init__(
        self,
        config: StateChannelConfig | None = None,
        *,
        url: str = "http://127.0.0.1:9815",
        token: str = "",
        party: ChannelParty | None = None,
        peer: Peer | None = None,
        wallet: FundingWallet | None = None,
        closer: Closer | None = None,
        auth: httpx.Auth | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        tower_id: bytes | None = None,
        max_unacked: int = 0,
        receipts_path: str | Path | None = None,
        alarm_ms: int = 60_000,
        alarm: Alarm = log_alarm,
        fee_children: FeeChildPolicy | None = None,
    ) -> None:
        """`party` signs, `peer` reaches the other party, `wallet` funds channels, `closer` replaces it for closes.

        `auth` replaces the token, `tower_id` (32 bytes) pins the tower. `max_unacked` 0 is mode strict: a state is at
        the tower before a call returns; 1 to 10 is mode async: so many states may still be on their way.
        `receipts_path` is a directory in which the tower's receipts are kept as files. `alarm` is told of a channel
        whose newest state has no good receipt for `alarm_ms`: it is not armed so long. With a `party` and a wallet that
        knows the market (`FeeWallet`) own closes get fee children by themselves, as `fee_children` allows.
        """
        self._begin(
            StateChannelClient(
                config,
                url=url,
                token=token,
                party=party,
                peer=peer,
                wallet=wallet,
                closer=closer,
                auth=auth,
                transport=transport,
                tower_id=tower_id,
                max_unacked=max_unacked,
                receipts_path=receipts_path,
                alarm_ms=alarm_ms,
                alarm=alarm,
                fee_children=fee_children,
            )
        )

    @classmethod
    def of(cls, client: StateChannelClient) -> Self:
        """The twin of a client that is not connected yet, for example one of `open_client`."""
        made = cls.__new__(cls)
        made._begin(client)
        return made

    def __repr__(self) -> str:
        return repr(self.asynchronous).replace("<", "<Sync", 1)

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect and end the thread; harmless if that was done. The object cannot be used again."""
        with self._mutex:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            asyncio.run_coroutine_threadsafe(self.asynchronous.disconnect(), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(STOP_SECONDS)

    connect = _twin(StateChannelClient.connect)
    disconnect = _twin(StateChannelClient.disconnect)
    get_state = _twin(StateChannelClient.get_state)

    create_channel = _twin(StateChannelClient.create_channel)
    abandon_channel = _twin(StateChannelClient.abandon_channel)
    register_channel = _twin(StateChannelClient.register_channel)
    confirm_holdings = _twin(StateChannelClient.confirm_holdings)
    synchronize = _twin(StateChannelClient.synchronize)

    update_state = _twin(StateChannelClient.update_state)
    approve_update = _twin(StateChannelClient.approve_update)
    upload_state = _twin(StateChannelClient.upload_state)
    revoke_state = _twin(StateChannelClient.revoke_state)
    add_htlc = _twin(StateChannelClient.add_htlc)
    fulfil_htlc = _twin(StateChannelClient.fulfil_htlc)
    fail_htlc = _twin(StateChannelClient.fail_htlc)
    expire_htlc = _twin(StateChannelClient.expire_htlc)
    add_preimage = _twin(StateChannelClient.add_preimage)
    get_preimages = _twin(StateChannelClient.get_preimages)
    exchange_preimages = _twin(StateChannelClient.exchange_preimages)

    close_channel_cooperative = _twin(StateChannelClient.close_channel_cooperative)
    close_channel_unilateral = _twin(StateChannelClient.close_channel_unilateral)
    get_fee_children = _twin(StateChannelClient.get_fee_children)
    approve_close = _twin(StateChannelClient.approve_close)
    challenge_state = _twin(StateChannelClient.challenge_state)
    respond_to_challenge = _twin(StateChannelClient.respond_to_challenge)
    get_receipt = _twin(StateChannelClient.get_receipt)
    check_receipts = _twin(StateChannelClient.check_receipts)
    verify_proof = _twin(StateChannelClient.verify_proof)
    validate_transaction = _twin(StateChannelClient.validate_transaction)

    get_channel_info = _twin(StateChannelClient.get_channel_info)
    get_channel_state = _twin(StateChannelClient.get_channel_state)
    get_funding_status = _twin(StateChannelClient.get_funding_status)
    get_liquidity = _twin(StateChannelClient.get_liquidity)
    get_total_liquidity = _twin(StateChannelClient.get_total_liquidity)
    get_timeline = _twin(StateChannelClient.get_timeline)
    list_channels = _twin(StateChannelClient.list_channels)
    wait_for_status = _twin(StateChannelClient.wait_for_status)

    def follow(self, channel_id: str | None = None, after: int | None = None) -> Iterator[EventBody]:
        """Events of a channel, or of all channels, as they are stored: each once, across interruptions.

        `after`: begin behind the event with this id, 0 for the whole history; None means from now on.
        """
        events = self.asynchronous.follow(channel_id, after)
        try:
            while (event := self._run(_next(events))) is not None:
                yield event
        finally:
            self._run(_close(events))

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, client: StateChannelClient) -> None:
        self.asynchronous = client
        self._mutex = threading.Lock()
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_run_loop, args=(self._loop,), name="state channel client", daemon=True)
        thread.start()
        self._thread = thread

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._mutex:
            thread = self._thread
            if thread is None or thread is threading.current_thread():
                work.close()
                raise NotConnected("this client was closed, or is used in its own event loop; make another one")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Run until stopped, then give every task that is left its chance to end."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _next(events: AsyncIterator[EventBody]) -> EventBody | None:
    """The next event, None at the end: `StopAsyncIteration` does not survive a future."""
    async for event in events:
        return event
    return None


async def _close(events: AsyncIterator[EventBody]) -> None:
    if isinstance(events, AsyncGenerator):
        await events.aclose()
