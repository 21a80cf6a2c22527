"""The RPC transport against a scripted server that fails in every way a node can."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO

import pytest

from watchtower.node import connection, transport
from watchtower.node.transport import RpcRefused, RpcTransport
from watchtower.ports import NodeAuthError, NodeError, NodeUnavailable, NodeWarmingUp

Script = Callable[[bytes, bytes], bytes | list[bytes] | None]


class ScriptedNode:
    """An HTTP server on loopback: each request is answered by the next script, the last one for ever.

    A script gets head and body and returns the whole reply, or its parts, which are sent slowly; None closes the
    connection, `HANG` never answers.
    """

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self._clients: list[socket.socket] = []
        self.released = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Stop and wait for all threads."""
        self.released.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def heard(self, count: int) -> None:
        """Wait until that many requests were read: whoever gave up did not wait for this thread."""
        deadline = time.monotonic() + HANG_SECONDS
        while len(self.bodies) < count and time.monotonic() < deadline:
            self.released.wait(0.01)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._clients.append(client)
            self._threads.append(threading.Thread(target=self._serve, args=(client,), daemon=True))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as stream, contextlib.suppress(OSError):
            while head := _head(stream):
                length = int(next((x.split(b":")[1] for x in head if x.lower().startswith(b"content-length")), 0))
                body = stream.read(length)
                self.heads.append(b"".join(head))
                self.bodies.append(body)
                answer = (self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0])(self.heads[-1], body)
                if answer is HANG:
                    self.released.wait(HANG_SECONDS)
                if not answer:
                    return
                for part in [answer] if isinstance(answer, bytes) else answer:
                    client.sendall(part)
                    self.released.wait(0 if part is answer else 0.01)
                if b"Connection: close" in answer:
                    return


def _head(stream: IO[bytes]) -> list[bytes]:
    """Lines of one request head, empty at the end of the connection."""
    lines: list[bytes] = []
    try:
        while (line := stream.readline()) not in (b"", b"\r\n"):
            lines.append(line)
    except OSError:
        return []
    return lines


HANG = b""
HANG_SECONDS = 120.0
"""Then it hangs up without an answer; who gives up by itself does so long before."""


def reply(body: object, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """A complete HTTP reply."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw


def always(answer: bytes | None) -> Script:
    """The same answer to every request."""
    return lambda _head, _body: answer


def ok(result: object) -> Script:
    """A successful single reply."""
    return always(reply({"result": result, "error": None, "id": 1}))


def refusal(code: int, text: str) -> Script:
    """A JSON-RPC error as bitcoind sends it."""
    return always(
        reply({"result": None, "error": {"code": code, "message": text}, "id": 1}, "500 Internal Server Error")
    )


EMPTY_401 = always(reply(b"", "401 Unauthorized", "text/html"))
EMPTY_403 = always(reply(b"", "403 Forbidden", "text/html"))
FULL_503 = always(reply(b"Work queue depth exceeded", "503 Service Unavailable", "text/html"))
CLOSE = always(None)
SILENCE = always(HANG)


@pytest.fixture
def serve() -> Iterator[Callable[..., ScriptedNode]]:
    """Start scripted nodes; all are closed at the end."""
    started: list[ScriptedNode] = []

    def start(*scripts: Script) -> ScriptedNode:
        started.append(ScriptedNode(*scripts))
        return started[-1]

    yield start
    for node in started:
        node.close()


Serve = Callable[..., ScriptedNode]


def rpc(node: ScriptedNode, **options: object) -> RpcTransport:
    """A transport to the scripted node."""
    return RpcTransport(node.url, **{"user": "u", "password": "p", **options})  # type: ignore[arg-type]


def test_call_sends_method_and_positional_parameters(serve: Serve) -> None:
    """A call is one POST with the method, its parameters, and our credentials."""
    node = serve(ok("done"))

    assert "done" == rpc(node, password="p%4 :ü").call("getblockhash", 7)

    sent = json.loads(node.bodies[0])
    assert ("getblockhash", [7]) == (sent["method"], sent["params"])
    authorization = next(line for line in node.heads[0].splitlines() if line.startswith(b"Authorization"))
    assert "u:p%4 :ü".encode() == base64.b64decode(authorization.split()[-1])


def test_amounts_stay_exact(serve: Serve) -> None:
    """Numbers with a point are decimals, in calls and in batches."""
    raw = b'{"result": 0.00000001, "error": null, "id": 1}'
    node = serve(always(reply(raw)), always(reply(b'[{"jsonrpc":"2.0","result":0.00000001,"id":0}]')))
    client = rpc(node)

    assert Decimal("1E-8") == client.call("x")
    assert [Decimal("1E-8")] == client.batch([("x", ())])


def test_credentials_in_the_url_are_decoded(serve: Serve) -> None:
    """Percent-encoded credentials in the address mean the decoded ones."""
    node = serve(ok(1))
    client = RpcTransport(node.url.replace("http://", "http://us%40er:p%25w@"))

    client.call("x")

    authorization = next(line for line in node.heads[0].splitlines() if line.startswith(b"Authorization"))
    assert b"us@er:p%w" == base64.b64decode(authorization.split()[-1])
    assert "p%" not in repr(client)


def test_connection_is_kept(serve: Serve) -> None:
    """Calls of one thread share one connection, refusals included."""
    node = serve(ok(1), refusal(-5, "no"), ok(2))
    client = rpc(node)

    client.call("x")
    with pytest.raises(RpcRefused):
        client.call("x")
    client.call("x")

    assert 1 == node.connections


def test_idle_connection_is_replaced(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that the node may have closed is not used again."""
    node = serve(ok(1))
    client = rpc(node)
    client.call("x")
    monkeypatch.setattr(transport, "IDLE_SECONDS", -1.0)

    client.call("x")

    assert 2 == node.connections


def test_each_thread_has_its_own_connection(serve: Serve) -> None:
    """Four threads never share a connection."""
    node = serve(ok(1))
    client = rpc(node)
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait(HANG_SECONDS)
        client.call("x")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_SECONDS)

    assert 4 == node.connections


def test_refusal_carries_code_and_text(serve: Serve) -> None:
    """A JSON-RPC error is the node's own answer."""
    with pytest.raises(RpcRefused, match="the node answered -5: Block not found") as caught:
        rpc(serve(refusal(-5, "Block not found"))).call("getblock")

    assert (-5, "Block not found") == (caught.value.code, caught.value.text)


def test_warming_up_is_its_own_error(serve: Serve) -> None:
    """-28 means: later."""
    with pytest.raises(NodeWarmingUp, match="Loading banlist"):
        rpc(serve(refusal(-28, "Loading banlist…"))).call("x")


def test_initial_download_means_later(serve: Serve) -> None:
    """-10 says that the node cannot tell yet."""
    with pytest.raises(NodeUnavailable, match="downloading"):
        rpc(serve(refusal(-10, "Bitcoin Core is in initial sync"))).call("getblock")


def test_forbidden_method_is_named(serve: Serve) -> None:
    """403 with an empty body says which method the whitelist lacks."""
    with pytest.raises(NodeAuthError, match=r"getpeerinfo.*rpcwhitelist"):
        rpc(serve(EMPTY_403)).call("getpeerinfo")


def test_wrong_password_is_not_repeated(serve: Serve) -> None:
    """401 with a fixed password cannot get better by asking again."""
    node = serve(EMPTY_401)

    with pytest.raises(NodeAuthError, match="rpc_password"):
        rpc(node).call("x")

    assert 1 == len(node.bodies)


def test_cookie_is_read_again_after_401(serve: Serve, tmp_path: Path) -> None:
    """A node that restarted has a new cookie."""
    cookie = tmp_path / ".cookie"
    cookie.write_text("__cookie__:old")

    def rotate(_head: bytes, _body: bytes) -> bytes:
        cookie.write_text("__cookie__:new")
        return reply(b"", "401 Unauthorized", "text/html")

    node = serve(rotate, ok("fine"))

    assert "fine" == RpcTransport(node.url, cookie_path=cookie).call("sendrawtransaction", "00")
    assert base64.b64encode(b"__cookie__:new") in node.heads[1]


def test_absent_cookie_means_unavailable(tmp_path: Path) -> None:
    """Without a cookie the node is not running."""
    client = RpcTransport("http://127.0.0.1:1", cookie_path=tmp_path / "none")

    with pytest.raises(NodeUnavailable, match="is the node running"):
        client.call("x")


@pytest.mark.parametrize("broken", [CLOSE, FULL_503, always(reply(b"{", "200 OK")), always(b"HTTP/1.1 200 OK\r\n\r\n")])
def test_broken_exchange_is_repeated_once_on_a_new_connection(serve: Serve, broken: Script) -> None:
    """A lost connection, a full work queue or damaged JSON does not reach the caller if the second try works."""
    node = serve(broken, ok("fine"))

    assert "fine" == rpc(node).call("getbestblockhash")
    assert (2, 2) == (len(node.bodies), node.connections)


@pytest.mark.slow
def test_a_full_work_queue_is_asked_four_times(serve: Serve) -> None:
    """It drains within milliseconds; after three more tries the pass ends."""
    node = serve(FULL_503, FULL_503, FULL_503, ok("fine"), FULL_503)

    assert "fine" == rpc(node).call("getbestblockhash")
    with pytest.raises(NodeUnavailable, match="503"):
        rpc(node).call("getbestblockhash")
    assert 4 + 4 == len(node.bodies)


@pytest.mark.parametrize("method", ["sendrawtransaction", "submitpackage"])
def test_broadcast_is_not_repeated(serve: Serve, method: str) -> None:
    """The transport never sends a transaction twice by itself."""
    node = serve(CLOSE, ok("fine"))

    with pytest.raises(NodeUnavailable):
        rpc(node).call(method, "00")

    assert 1 == len(node.bodies)


def test_refused_connection_is_unavailable() -> None:
    """A node that is down is unavailable, and the error says where it was looked for."""
    with pytest.raises(NodeUnavailable, match=r"127\.0\.0\.1:1: ConnectionRefusedError"):
        RpcTransport("http://127.0.0.1:1", "u", "p").call("x")


def test_hanging_call_ends_in_time_and_the_next_works(serve: Serve) -> None:
    """Silence ends after the limit, and the next call uses a fresh connection."""
    node = serve(SILENCE)
    client = rpc(node)
    started = time.monotonic()

    with pytest.raises(NodeUnavailable, match=r"within \d+\.\d s"):
        client.call("getbestblockhash", seconds=0.1)

    assert time.monotonic() - started < HANG_SECONDS / 2
    node.scripts = [ok("fine")]
    assert "fine" == client.call("getbestblockhash")


@pytest.mark.slow
def test_a_lost_request_is_asked_again_before_the_limit(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a share of the limit a silent call is repeated; a broadcast is not."""
    monkeypatch.setattr(transport, "FIRST_SHARE", 0.02)
    node = serve(SILENCE, ok("fine"), SILENCE)
    client = rpc(node)
    started = time.monotonic()

    assert "fine" == client.call("getbestblockhash", seconds=30.0)
    assert time.monotonic() - started < HANG_SECONDS / 2
    with pytest.raises(NodeUnavailable, match=r"within \d+\.\d s"):
        client.call("sendrawtransaction", "00", seconds=0.1)
    node.heard(3)
    assert 3 == len(node.bodies)


@pytest.mark.slow
def test_trickling_reply_ends_at_the_deadline(serve: Serve) -> None:
    """A reply that comes byte by byte may not exceed the limit in total."""
    whole = reply({"result": "x" * 20_000, "error": None, "id": 1})  # 200 s in all
    node = serve(lambda _head, _body: [whole[n : n + 1] for n in range(len(whole))])
    started = time.monotonic()

    with pytest.raises(NodeUnavailable, match=r"within \d+\.\d s"):
        rpc(node).call("x", seconds=0.2)

    assert time.monotonic() - started < HANG_SECONDS


def test_gigantic_reply_is_refused(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply above the limit is not read, whether its length is announced or not."""
    monkeypatch.setattr(connection, "REPLY_LIMIT", 1000)
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + b"x" * 5000

    with pytest.raises(NodeError, match="larger than"):
        rpc(serve(ok("x" * 2000))).call("x")
    with pytest.raises(NodeError, match="larger than"):
        rpc(serve(always(endless))).call("x")


@pytest.mark.parametrize(
    "body",
    [b"[]", b"7", b'"text"', b"{}", b'{"error": "odd"}', b'{"error": {"code": "x"}}', b"\xff", b"[" * 200_000],
)
def test_reply_of_another_shape_is_a_node_error(serve: Serve, body: bytes) -> None:
    """Whatever JSON comes back, the caller sees a `NodeError`."""
    with pytest.raises(NodeError):
        rpc(serve(always(reply(body)))).call("x")


def test_batch_is_matched_by_id(serve: Serve) -> None:
    """Replies in another order, with an error among them, go to the right calls."""
    replies = [
        {"jsonrpc": "2.0", "id": 1, "error": {"code": -5, "message": "no"}},
        {"jsonrpc": "2.0", "id": 0, "result": "zero"},
    ]

    first, second = rpc(serve(always(reply(replies)))).batch([("a", (1,)), ("b", ())])

    assert "zero" == first
    assert isinstance(second, RpcRefused)
    assert ("b", -5) == (second.method, second.code)


@pytest.mark.parametrize(
    "replies",
    [
        [],
        [{"id": 5, "result": 1}],
        {"error": None},
        [{"id": 0}],
        [7],
        None,
        [{"id": 0, "error": {"code": -28, "message": "x"}}],
    ],
)
def test_incomplete_batch_is_a_node_error(serve: Serve, replies: object) -> None:
    """A batch without an answer to each call, or from a node that starts, has no usable part."""
    with pytest.raises(NodeError):
        rpc(serve(always(reply(replies)))).batch([("a", ())])


def test_forbidden_batch_is_an_auth_error(serve: Serve) -> None:
    """One forbidden method makes the node refuse the whole batch."""
    with pytest.raises(NodeAuthError):
        rpc(serve(EMPTY_403)).batch([("a", ()), ("b", ())])


def test_empty_batch_asks_nothing() -> None:
    """No call, no request."""
    assert [] == RpcTransport("http://127.0.0.1:1", "u", "p").batch([])


def test_long_text_skips_the_json_parser(serve: Serve) -> None:
    """A block as text comes back as its bytes; an error there is a refusal all the same."""
    client = rpc(serve(always(reply(b'{"jsonrpc":"2.0","result":"00ff","id":0}')), refusal(-1, "pruned")))

    assert b"00ff" == client.call_text("getblock", "aa", 0)
    with pytest.raises(RpcRefused, match="pruned"):
        client.call_text("getblock", "aa", 0)


def test_rest_needs_no_credentials(serve: Serve) -> None:
    """A GET sends no credentials and gives None for anything but success."""
    node = serve(always(reply(b"\x01\x02", kind="application/octet-stream")), always(reply(b"no", "404 Not Found")))
    client = rpc(node)

    assert b"\x01\x02" == client.get(node.url + "/rest", "/block/aa.bin", "getblock")
    assert client.get(node.url + "/rest", "/block/aa.bin", "getblock") is None
    assert b"GET /rest/block/aa.bin" in node.heads[0]
    assert b"Authorization" not in node.heads[0]


@pytest.mark.slow
def test_a_silent_rest_request_is_given_up_sooner_than_a_slow_one(serve: Serve) -> None:
    """`silence` bounds the wait for bytes, not the whole exchange."""
    whole = reply(b"block" * 40)  # 2.7 s in all
    node = serve(SILENCE)
    client = rpc(node)

    with pytest.raises(NodeUnavailable):
        client.get(node.url, "/block/aa.bin", "getblock", seconds=30.0, silence=0.1)
    node.scripts = [lambda _head, _body: [whole[n : n + 1] for n in range(len(whole))]]

    assert b"block" * 40 == client.get(node.url, "/block/aa.bin", "getblock", seconds=120.0, silence=30.0)


def test_every_try_is_observed(serve: Serve) -> None:
    """Metrics see method and outcome of each try."""
    seen: list[tuple[str, str]] = []
    node = serve(ok(1), CLOSE, ok(1), refusal(-5, "no"), EMPTY_403, SILENCE)
    client = rpc(node, observe=lambda method, outcome, seconds: seen.append((method, outcome)))

    client.call("a")
    client.call("b")
    for method, seconds in (("c", 30.0), ("d", 30.0), ("e", 0.5)):
        with pytest.raises(NodeError):
            client.call(method, seconds=seconds)

    expected = [
        ("a", "ok"),
        ("b", "transport_error"),
        ("b", "ok"),
        ("c", "rpc_error"),
        ("d", "auth_error"),
        ("e", "timeout"),
        ("e", "timeout"),
    ]
    assert expected == seen


@pytest.mark.slow
def test_calls_in_flight_are_bounded(serve: Serve) -> None:
    """A caller that finds all slots taken gets an error in time instead of waiting for ever."""
    node = serve(SILENCE)
    client = rpc(node, in_flight=1)

    def hang() -> None:
        with pytest.raises(NodeUnavailable):
            client.call("x", seconds=HANG_SECONDS)

    first = threading.Thread(target=hang)
    first.start()
    while not node.bodies:
        node.released.wait(0.01)

    with pytest.raises(NodeUnavailable, match="under way"):
        client.call("y", seconds=0.05)
    node.released.set()
    first.join(HANG_SECONDS)


def test_secrets_are_in_no_text(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Neither errors nor reprs nor debug logs show password or parameters."""
    caplog.set_level(logging.DEBUG)
    client = rpc(serve(EMPTY_401), password="hunter2")

    with pytest.raises(NodeAuthError) as caught:
        client.call("sendrawtransaction", "c0ffee")

    everything = f"{caught.value!r} {client!r} {caplog.text}"
    assert "hunter2" not in everything
    assert "c0ffee" not in everything


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "127.0.0.1:8332", "http://", "ftp://x"])
def test_unusable_address_is_refused(url: str) -> None:
    """Only plain HTTP to a host is spoken."""
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:8332"):
        RpcTransport(url, "u", "p")
