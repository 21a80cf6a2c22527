"""A party that runs: it answers its peers and its commands until it is told to end.

    run(PartyPlace(Path("alice"), passphrase))      # returns the exit code
    ask(PartyPlace(Path("alice"), passphrase), UpdateChannel(channel="3f9a", balances=(49, 51)))

`ask` lets a running party do a call; if there is none it opens the directory, does the call and closes it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from watchtower.applications import GuardedApplication
from watchtower.client.client import StateChannelClient
from watchtower.client.config import StateChannelConfig
from watchtower.client.errors import AWAY
from watchtower.client.open_client import open_client
from watchtower.client.party.home import PartyHome, open_home
from watchtower.client.payments import ForwardingPolicy, Payments
from watchtower.client.peers.served import ServedPeer
from watchtower.client.sync import SyncStateChannelClient
from watchtower.client.tower.finality import RETRY_SECONDS
from watchtower.client.tower.request_signing import PartyAuth
from watchtower.descriptors import resolve
from watchtower.host.hygiene import forbid_core_dumps
from watchtower.party import control
from watchtower.party.calls import Call, plain
from watchtower.party.control import ControlServer
from watchtower.party.desk import Desk, open_wallet, read_secret
from watchtower.party.faults import CallFailed, Fault
from watchtower.party.settings import SOCKET_NAME, PartyFile, addresses, identities, read_peers, read_settings
from watchtower.party.wire import fault_of

Started = Callable[[dict[str, Any]], None]
"""Told once that the party listens: its key, its address, its socket."""

_log = logging.getLogger(__name__)


class PartyPlace(msgspec.Struct, frozen=True):
    """A party's directory, how to get its passphrase, and what was said for this run only."""

    home: Path
    passphrase: Callable[[], bytes]
    listen: str = ""
    peers: tuple[str, ...] = ()
    applications: tuple[str, ...] = ()
    anyone: bool = False
    forward: bool = False
    payments: bool = True

    @property
    def socket(self) -> Path:
        """Where a running party is asked."""
        return self.home / SOCKET_NAME

    def settings(self) -> PartyFile:
        """Those of the file with those of this run."""
        found = read_settings(self.home)
        return msgspec.structs.replace(
            found,
            listen=self.listen or found.listen,
            applications=tuple(dict.fromkeys((*found.applications, *self.applications))),
            anyone=self.anyone or found.anyone,
            forwarding=found.forwarding or (ForwardingPolicy() if self.forward else None),
        )


def ask(place: PartyPlace, call: Call) -> Any:
    """The document that a call gives; raises `CallFailed`."""
    try:
        answered, document = control.ask(place.socket, call)
        return document if answered else asyncio.run(_alone(place, call))
    except control.REFUSALS as error:
        raise CallFailed(fault_of(error)) from None


def ask_tower(network: str, timeout_ms: int, url: str, token_file: str, call: Call) -> Any:
    """The document that a call gives which the tower can answer alone; raises `CallFailed`."""

    async def asked() -> Any:
        config = StateChannelConfig(network=network, timeout_ms=timeout_ms)
        token = read_secret(token_file).strip() if token_file else ""
        async with StateChannelClient(config, url=url, token=token) as client:
            return plain(await call.answer(Desk(client)))

    try:
        return asyncio.run(asked())
    except control.REFUSALS as error:
        raise CallFailed(fault_of(error)) from None


def tower_of(place: PartyPlace) -> tuple[str, int, str, str]:
    """Network, milliseconds, address and file with the token of a party's tower; raises `CallFailed`."""
    try:
        settings = place.settings()
        config = settings.config(os.environ)
    except control.REFUSALS as error:
        raise CallFailed(fault_of(error)) from None
    return config.network, config.timeout_ms, settings.tower.url, settings.tower.token_file


def follow_tower(
    network: str, timeout_ms: int, url: str, token_file: str, channel: str | None, after: int | None
) -> Generator[dict[str, Any], None, None]:
    """The events of a channel, or of all, as a tower stores them, for ever; raises `CallFailed`.

    `after`: begin behind the event with this id, 0 for the whole history; None means from now on.
    """
    try:
        config = StateChannelConfig(network=network, timeout_ms=timeout_ms)
        token = read_secret(token_file).strip() if token_file else ""
        with SyncStateChannelClient(config, url=url, token=token) as client:
            name = None if channel is None else client.get_channel_info(channel).channel_id
            for event in client.follow(name, after):
                yield plain(event)
    except control.REFUSALS as error:
        raise CallFailed(fault_of(error)) from None


def run(place: PartyPlace, started: Started) -> int:
    """Run until SIGTERM or SIGINT: 0. Raises `CallFailed` if it cannot start, or cannot trust its own log any more."""
    forbid_core_dumps()
    try:
        return asyncio.run(_serve(place, started))
    except control.REFUSALS as error:
        raise CallFailed(fault_of(error)) from None


# ── inside ───────────────────────────────────────────────────────────────────────────────────────────────


async def _alone(place: PartyPlace, call: Call) -> Any:
    """One call of a party that does not run: it dials its peers for this call only."""
    with _opened(place, payments=call.payments) as (_, desk):
        try:
            with contextlib.suppress(*AWAY if call.offline else ()):
                await desk.client.connect()
            async with desk.paying():
                return plain(await call.answer(desk))
        finally:
            await desk.client.disconnect()


async def _serve(place: PartyPlace, started: Started) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with _opened(place, payments=place.payments) as (home, desk):
        for app_id in sorted(home.party.applications_without_rules()):
            _log.warning("application_unknown app=%s", app_id.hex()[:16])
        async with _connected(desk.client, stop) as connected:
            if not connected:
                return 0
            async with desk.paying(), ControlServer(place.socket, lambda call: call.answer(desk)):
                peer = desk.client.peer
                assert isinstance(peer, ServedPeer), "it was made so"
                address = str(peer.address) if peer.address is not None else None
                started({"key": home.transport_key.public.hex(), "address": address, "socket": str(place.socket)})
                _log.info("party_started address=%s", address)
                await _until(stop, peer.wait, *[desk.payments.wait] if place.payments else [])
    return 0


async def _until(stop: asyncio.Event, *running: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Wait for a signal; raises what made the party end by itself: its peers, or who watches over its HTLCs."""
    waits: list[asyncio.Task[Any]] = [asyncio.create_task(each()) for each in (stop.wait, *running)]
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except Exception as error:  # noqa: BLE001 - the border of the program: whatever it is, the party ends loudly
        _log.exception("party_failed")
        first = _first(error)
        text = f"the party ended by itself ({type(first).__name__}: {first}); start it again"
        raise CallFailed(Fault("party-failed", text)) from None
    finally:
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def _first(error: Exception) -> Exception:
    """The innermost first error of a group."""
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


@asynccontextmanager
async def _connected(client: StateChannelClient, stop: asyncio.Event) -> AsyncIterator[bool]:
    """A connected client; a tower that cannot answer now is tried again until there is a signal (False)."""
    while not stop.is_set():
        try:
            await client.connect()
        except AWAY as error:
            _log.warning("tower_unreachable reason=%s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS):
                    await stop.wait()
            continue
        try:
            yield True
        finally:
            await client.disconnect()
        return
    yield False


@contextmanager
def _opened(place: PartyPlace, *, payments: bool) -> Iterator[tuple[PartyHome, Desk]]:
    """The directory, open, and a client that is not connected yet."""
    settings = place.settings()
    config = settings.config(os.environ)
    known = (*read_peers(place.home), *place.peers)
    admitted = set(identities(known))
    with ExitStack() as stack:
        applications = [_application(stack, name) for name in settings.applications]
        home = stack.enter_context(
            open_home(
                place.home,
                place.passphrase(),
                config.party_settings(),
                applications=applications,
                resolve=resolve,
            )
        )
        client = open_client(
            home,
            config,
            url=settings.tower.url,
            token=read_secret(settings.tower.token_file).strip() if settings.tower.token_file else "",
            peers=addresses(known),
            listen=settings.listen_address,
            admission=lambda key: settings.anyone or key in admitted,
            wallet=open_wallet(settings.wallet),
            auth=_auth(home, settings),
            tower_id=settings.tower_id,
            fee_children=settings.fee_policy,
        )
        paying = _payments(home, client, settings) if payments else None
        yield home, Desk(client, place.home, settings, home.transport_key.public, admitted.add, paying)


def _payments(home: PartyHome, client: StateChannelClient, settings: PartyFile) -> Payments:
    peer = client.peer
    assert isinstance(peer, ServedPeer), "it was made so"
    return Payments(home.party, peer.link_of, tower=client, policy=settings.forwarding)


def _application(stack: ExitStack, name: str) -> GuardedApplication:
    guarded = GuardedApplication(name)
    stack.callback(guarded.close)
    return guarded


def _auth(home: PartyHome, settings: PartyFile) -> httpx.Auth | None:
    """Without a token requests are signed with the keys of the channels that they are about."""
    tower = settings.tower_id
    return None if settings.tower.token_file or tower is None else PartyAuth(home.party, tower)
