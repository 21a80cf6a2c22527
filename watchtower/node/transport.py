"""JSON-RPC to bitcoind: the one owner of python-bitcoinrpc. It knows no Bitcoin.

python-bitcoinrpc 1.0 cannot be used again after any transport error, must not be shared between threads, and
its batches fail on nodes since 28. So every thread has its own connection, which is dropped after 20 s of
idleness and after each error; batches are posted here. Sizes and times are bounded.
"""

from __future__ import annotations

import base64
import http.client
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import SplitResult, unquote, urlsplit

from bitcoinrpc.authproxy import AuthServiceProxy, JSONRPCException

from watchtower.node.connection import NodeConnection
from watchtower.node.failures import BROKEN, Failure, RpcRefused, failure, refusal
from watchtower.ports import NodeError, NodeUnavailable

__all__ = ["CALL_SECONDS", "Observer", "RpcRefused", "RpcTransport"]

logging.getLogger("BitcoinRPC").setLevel(logging.WARNING)
"""Pinned here and not in a configuration: at DEBUG the library logs every parameter and every result."""

Observer = Callable[[str, str, float], None]
"""Told the method, the outcome (ok, rpc_error, transport_error, timeout, auth_error) and the seconds."""

CALL_SECONDS = 10.0
IDLE_SECONDS = 20.0
"""bitcoind closes an idle connection after `-rpcservertimeout`, 30 s by default."""

FIRST_SHARE = 0.3
"""Of a call's time limit: after so much silence it is asked a second time, on a new connection."""

IN_FLIGHT = 4
"""As many as our own threads need; nodes before 29 have 4 RPC threads."""

NOT_TWICE = frozenset({"sendrawtransaction", "submitpackage"})
"""Never repeated here: the responder repeats them, after it has looked at the chain again."""


class _Place(NamedTuple):
    host: str
    port: int
    with_credentials: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class RpcTransport:
    """Calls to one node, from any thread. Raises `RpcRefused`, `NodeError` and the `NodeUnavailable` family.

    Either `user` and `password`, or credentials in `url` (percent-encoded), or a `cookie_path`, which is read
    again for each new connection, because bitcoind writes a new cookie at each start.
    """

    def __init__(
        self,
        url: str,
        user: str | None = None,
        password: str | None = None,
        cookie_path: Path | None = None,
        observe: Observer | None = None,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        parts = _http_url(url)
        self._place = _Place(parts.hostname or "", parts.port or 80, with_credentials=True)
        self._path = parts.path or "/"
        name = user if user is not None else unquote(parts.username or "")
        secret = password if password is not None else unquote(parts.password or "")
        self._authorization = _basic(f"{name}:{secret}".encode())
        self._cookie_path = cookie_path
        self._observe = observe or (lambda _method, _outcome, _seconds: None)
        self._local = threading.local()
        self._in_flight = in_flight
        self._slots = threading.BoundedSemaphore(in_flight)

    def __repr__(self) -> str:
        return f"RpcTransport(http://{self._place})"

    def call(self, method: str, *params: object, seconds: float = CALL_SECONDS) -> Any:
        """Result of one call; numbers with a decimal point are `Decimal`."""
        url = f"http://our:connection@{self._place}{self._path}"  # the connection puts the credentials in

        def work(connection: NodeConnection) -> Any:
            return AuthServiceProxy(url, method, seconds, connection)(*params)

        return self._perform(method, work, seconds, self._place)

    def batch(self, calls: Sequence[tuple[str, Sequence[object]]], seconds: float = CALL_SECONDS) -> list[Any]:
        """Results of many calls in one request, in order; a refused one is a `NodeError` value in the list."""
        if not calls:
            return []
        requests = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            for number, (method, params) in enumerate(calls)
        ]
        body = json.dumps(requests).encode()

        def work(connection: NodeConnection) -> list[Any]:
            return _in_order(calls, json.loads(self._post(connection, body), parse_float=Decimal))

        results: list[Any] = self._perform(calls[0][0], work, seconds, self._place)
        return results

    def call_text(self, method: str, *params: object, seconds: float = CALL_SECONDS) -> bytes:
        """Result of a call that is one long ASCII string; it does not pass through the JSON parser."""
        body = json.dumps({"jsonrpc": "2.0", "id": 0, "method": method, "params": params}).encode()

        def work(connection: NodeConnection) -> bytes:
            return _long_string(self._post(connection, body))

        result: bytes = self._perform(method, work, seconds, self._place)
        return result

    def get(
        self, base_url: str, path: str, name: str, seconds: float = CALL_SECONDS, silence: float | None = None
    ) -> bytes | None:
        """Body of a GET without credentials (the node's REST interface), None unless the status is 200.

        `seconds` bound the whole exchange, `silence` bounds each wait for the next bytes. Tried once: whoever asks
        has another way to the same answer.
        """
        parts = _http_url(base_url)

        def work(connection: NodeConnection) -> bytes | None:
            connection.request("GET", parts.path.rstrip("/") + path)
            body = connection.getresponse().read()
            return body if connection.status == http.client.OK else None

        place = _Place(parts.hostname or "", parts.port or 80, with_credentials=False)
        result = self._attempt(name, work, place, seconds, silence)
        if isinstance(result, Failure):
            raise result.error
        return cast("bytes | None", result)

    def close(self) -> None:
        """Close this thread's connections; the next call opens new ones."""
        for connection in self._connections().values():
            connection.close()
        self._connections().clear()

    def _perform(self, method: str, work: Callable[[NodeConnection], Any], seconds: float, place: _Place) -> Any:
        """Run `work`; run it again on a new connection where that can help and can do no harm.

        All tries together take `seconds` at most. The first one ends earlier if the node stays silent: one lost request
        must not cost a pass.
        """
        deadline = time.monotonic() + seconds
        if not self._slots.acquire(timeout=seconds):
            raise NodeUnavailable(f"{method}: {self._in_flight} other calls to the node are under way")
        try:
            silence = None if method in NOT_TWICE else seconds * FIRST_SHARE
            result = self._attempt(method, work, place, seconds, silence)
            tries = 1
            while isinstance(result, Failure) and self._may_repeat(method, result, tries):
                # Spreads the callers, so that a full queue drains.
                time.sleep(random.uniform(0.005, 0.05) * tries)  # noqa: S311 - guards nothing
                if (left := deadline - time.monotonic()) <= 0:
                    break
                result = self._attempt(method, work, place, left)
                tries += 1
        finally:
            self._slots.release()
        if isinstance(result, Failure):
            raise result.error
        return result

    def _may_repeat(self, method: str, failed: Failure, tries: int) -> bool:
        if tries > failed.again:
            return False
        return self._cookie_path is not None if failed.outcome == "auth_error" else method not in NOT_TWICE

    def _attempt(
        self,
        method: str,
        work: Callable[[NodeConnection], Any],
        place: _Place,
        seconds: float,
        silence: float | None = None,
    ) -> Any:
        """The result of `work`, or a `Failure`. Observed once; after a failure the connection is gone."""
        started = time.monotonic()
        connection: NodeConnection | None = None
        result: Any
        try:
            connection = self._connection(place)
            connection.allow(seconds, silence)
            result = work(connection)
        except BROKEN as error:
            status = connection.status if connection is not None else 0
            result = failure(method, error, status, str(place), time.monotonic() - started)
        outcome = result.outcome if isinstance(result, Failure) else "ok"
        if connection is not None:
            connection.last_used = time.monotonic()
        if outcome not in ("ok", "rpc_error") and (dropped := self._connections().pop(place, None)) is not None:
            dropped.close()
        self._observe(method, outcome, time.monotonic() - started)
        return result

    def _post(self, connection: NodeConnection, body: bytes) -> bytes:
        connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse().read()
        if connection.status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN, http.client.SERVICE_UNAVAILABLE):
            raise http.client.HTTPException(f"status {connection.status}")
        return reply

    def _connections(self) -> dict[_Place, NodeConnection]:
        if not hasattr(self._local, "connections"):
            self._local.connections = {}
        connections: dict[_Place, NodeConnection] = self._local.connections
        return connections

    def _connection(self, place: _Place) -> NodeConnection:
        """This thread's connection to a place, a new one if the last use is too long ago."""
        connections = self._connections()
        connection = connections.get(place)
        if connection is not None and time.monotonic() - connection.last_used <= IDLE_SECONDS:
            return connection
        if connection is not None:
            connection.close()
        connection = NodeConnection(place.host, place.port)
        if place.with_credentials:
            connection.authorization = self._credentials()
        connections[place] = connection
        return connection

    def _credentials(self) -> str:
        if self._cookie_path is None:
            return self._authorization
        try:
            return _basic(self._cookie_path.read_bytes().strip())
        except OSError as error:
            text = f"the cookie {self._cookie_path} cannot be read ({error.strerror}); is the node running?"
            raise NodeUnavailable(text) from error


def _http_url(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError("the address of the node must look like http://127.0.0.1:8332")
    return parts


def _basic(credentials: bytes) -> str:
    return "Basic " + base64.b64encode(credentials).decode("ascii")


def _in_order(calls: Sequence[tuple[str, Sequence[object]]], replies: Any) -> list[Any]:
    """Match the replies of a batch by id; raises unless there is one for each call."""
    if isinstance(replies, dict):  # the node refused the batch as a whole
        raise JSONRPCException(replies.get("error"))
    by_number = {reply["id"]: reply for reply in replies}
    results: list[Any] = []
    for number, (method, _) in enumerate(calls):
        reply = by_number[number]
        error = reply.get("error")
        results.append(reply["result"] if error is None else refusal(method, error))
    for result in results:
        if isinstance(result, NodeError) and not isinstance(result, RpcRefused):
            raise result  # starting, or not readable: then nothing in the batch can be relied on
    return results


def _long_string(reply: bytes) -> bytes:
    """The one string of a JSON-RPC reply; raises what `failure` understands if there is none."""
    start = reply.find(b'"result":"')
    end = reply.find(b'"', start + 10)
    if start < 0 or end < 0:
        raise JSONRPCException(json.loads(reply)["error"])
    return reply[start + 10 : end]
