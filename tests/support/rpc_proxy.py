"""An HTTP proxy between a tower and its node that breaks JSON-RPC and REST on demand, by rules per method.

    with RpcProxy(node.rpc_url) as proxy:
        adapter = BitcoindNode(proxy.url, cookie_path=node.cookie_path, rest_url=proxy.rest_url)
        proxy.fail_after("sendrawtransaction", times=1)   # the node has it, the answer is lost

A rule without methods holds for all of them. REST requests for a block count as `getblock` with the hash in display
order. In a batch a rule of one call that concerns the transport (lost, late, cut, HTTP status) hits the whole batch;
`replace` and `error` change only that call's entry. The first rule that applies wins. Seeded: the same requests in the
same order meet the same faults.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

UPSTREAM_SECONDS = 120.0
TRANSCRIPT_LIMIT = 20_000


class Break(Enum):
    """What a rule does."""

    FAIL_BEFORE = "lost on the way to the node"
    FAIL_AFTER = "done, and the answer lost"
    HANG = "taken and never answered"
    DELAY = "answered late"
    TRUNCATE = "answered, the reply cut in the middle"
    STATUS = "answered by an HTTP status"
    ERROR = "answered by a JSON-RPC error, without asking the node"
    REPLACE = "answered with another result"
    GARBLE = "answered with other bytes than JSON"


class Rule:
    """One fault. `hits` counts how often it was played; `cancel` ends it."""

    def __init__(
        self,
        kind: Break,
        methods: Sequence[str],
        *,
        times: int | None,
        skip: int,
        probability: float,
        value: Any = None,
    ) -> None:
        self.kind = kind
        self.methods = frozenset(methods)
        self.left = times
        self.skip = skip
        self.probability = probability
        self.value = value
        self.hits = 0

    def concerns(self, method: str) -> bool:
        """Whether it may be played for this method now."""
        return self.left != 0 and (not self.methods or method in self.methods)

    def applies(self, rng: random.Random) -> bool:
        """Decide for one call that it concerns, and count it."""
        if self.skip:
            self.skip -= 1
            return False
        if self.probability < 1.0 and rng.random() >= self.probability:
            return False
        if self.left is not None:
            self.left -= 1
        self.hits += 1
        return True

    def cancel(self) -> None:
        """Let everything pass from now on."""
        self.left = 0


class Call(NamedTuple):
    """A question as the tower asked it."""

    method: str
    params: Any
    id: Any = None


class Exchange(NamedTuple):
    """A line of the transcript: what was asked and what was broken."""

    method: str
    params: Any
    fault: Break | None


class Reply(NamedTuple):
    """What goes back to the tower."""

    status: int
    body: bytes
    content_type: str = "application/json"


class RpcProxy:
    """Listens on a free port of loopback from its creation until `close`.

    `before_call`, if set, runs before each call of a request is judged (with the proxy's rules unlocked): the place for
    a reorg between two calls. `transcript` has the last calls in order; `connections` and `most_in_flight` count what
    the tower opened and asked at the same time.
    """

    def __init__(self, target: str, *, seed: int = 0) -> None:
        """`target` is the node's `http://host:port`."""
        parts = urlsplit(target)
        self.target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.before_call: Callable[[str, Any], None] | None = None
        self.transcript: deque[Exchange] = deque(maxlen=TRANSCRIPT_LIMIT)
        self.connections = 0
        self.most_in_flight = 0
        self._in_flight = 0
        self._rules: list[Rule] = []
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._open: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), _Exchanges)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where the tower finds the node."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def rest_url(self) -> str:
        """Where the tower finds the node's REST interface."""
        return f"{self.url}/rest"

    def close(self) -> None:
        """Release what hangs, stop listening, cut the connections."""
        self._released.set()
        self._server.shutdown()
        self.cut()
        self._server.server_close()
        self._thread.join(5)

    def cut(self) -> None:
        """Reset every open connection of the tower."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def retarget(self, target: str) -> None:
        """Send the calls of new connections to another node, and cut the old ones."""
        parts = urlsplit(target)
        self.target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.cut()

    # ── rules ─────────────────────────────────────────────────────────────────────────────────────────────

    def fail_before(self, *methods: str, times: int | None = None, skip: int = 0, p: float = 1.0) -> Rule:
        """Close the connection instead of asking the node."""
        return self._add(Rule(Break.FAIL_BEFORE, methods, times=times, skip=skip, probability=p))

    def fail_after(self, *methods: str, times: int | None = None, skip: int = 0, p: float = 1.0) -> Rule:
        """Ask the node, then close the connection without its answer."""
        return self._add(Rule(Break.FAIL_AFTER, methods, times=times, skip=skip, probability=p))

    def hang(self, *methods: str, times: int | None = None, skip: int = 0, p: float = 1.0) -> Rule:
        """Take the question and say nothing, until `release` or `close`; the node is not asked."""
        return self._add(Rule(Break.HANG, methods, times=times, skip=skip, probability=p))

    def delay(self, seconds: float, *methods: str, times: int | None = None, skip: int = 0, p: float = 1.0) -> Rule:
        """Wait, then pass the question on."""
        return self._add(Rule(Break.DELAY, methods, times=times, skip=skip, probability=p, value=seconds))

    def truncate(self, *methods: str, times: int | None = None, skip: int = 0, p: float = 1.0) -> Rule:
        """Announce the whole reply, send half of it and close."""
        return self._add(Rule(Break.TRUNCATE, methods, times=times, skip=skip, probability=p))

    def status(self, code: int, *methods: str, times: int | None = None, skip: int = 0, p: float = 1.0) -> Rule:
        """Answer with an HTTP status (401, 403, 503) and a line of text."""
        return self._add(Rule(Break.STATUS, methods, times=times, skip=skip, probability=p, value=code))

    def error(
        self, code: int, text: str, *methods: str, times: int | None = None, skip: int = 0, p: float = 1.0
    ) -> Rule:
        """Answer with a JSON-RPC error; a REST request gets a 503."""
        value = {"code": code, "message": text}
        return self._add(Rule(Break.ERROR, methods, times=times, skip=skip, probability=p, value=value))

    def replace(
        self,
        change: Callable[[Any, Any], Any],
        *methods: str,
        times: int | None = None,
        skip: int = 0,
        p: float = 1.0,
    ) -> Rule:
        """Answer with `change(params, result)`; numbers with a point are floats, a block is hex over REST too."""
        return self._add(Rule(Break.REPLACE, methods, times=times, skip=skip, probability=p, value=change))

    def garble(self, body: bytes, *methods: str, times: int | None = None, skip: int = 0, p: float = 1.0) -> Rule:
        """Answer 200 with these bytes."""
        return self._add(Rule(Break.GARBLE, methods, times=times, skip=skip, probability=p, value=body))

    def heal(self) -> None:
        """Drop all rules and release what hangs."""
        with self._lock:
            self._rules.clear()
        self.release()

    def release(self) -> None:
        """Close the connections that hang now; later ones hang again."""
        with self._lock:
            released, self._released = self._released, threading.Event()
        released.set()

    def asked(self, method: str) -> list[Exchange]:
        """The transcript of one method."""
        with self._lock:
            return [line for line in self.transcript if line.method == method]

    def _add(self, rule: Rule) -> Rule:
        with self._lock:
            self._rules.append(rule)
        return rule

    # ── what the exchanges ask ────────────────────────────────────────────────────────────────────────────

    def opened(self, connection: socket.socket) -> None:
        """A connection of the tower begins."""
        with self._lock:
            self.connections += 1
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """And ends."""
        with self._lock:
            self._open.discard(connection)

    def under_way(self, change: int) -> None:
        """A request begins (1) or ends (-1)."""
        with self._lock:
            self._in_flight += change
            self.most_in_flight = max(self.most_in_flight, self._in_flight)

    def judge(self, calls: Sequence[Call]) -> list[Rule | None]:
        """The rule for each call, with a line of the transcript."""
        rules: list[Rule | None] = []
        judged: set[Rule] = set()
        for call in calls:
            if self.before_call is not None:
                self.before_call(call.method, call.params)
            with self._lock:
                rule = next((rule for rule in self._rules if self._hits(rule, call.method, judged)), None)
                self.transcript.append(Exchange(call.method, call.params, rule.kind if rule else None))
            rules.append(rule)
        return rules

    def _hits(self, rule: Rule, method: str, judged: set[Rule]) -> bool:
        """Rules about the transport are judged once in a batch, not once for each of its calls."""
        if rule in judged or not rule.concerns(method):
            return False
        if rule.kind not in (Break.REPLACE, Break.ERROR):
            judged.add(rule)
        return rule.applies(self._rng)

    def wait_released(self, seconds: float | None = None) -> None:
        """Until `release` or `close`, or the time is over."""
        with self._lock:
            released = self._released
        released.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    proxy: RpcProxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A tower that goes away in the middle is what is tested here, not an error of the proxy."""


class _Exchanges(BaseHTTPRequestHandler):
    """The requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body leave in two writes; waiting for an ACK costs 40 ms
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._upstream: http.client.HTTPConnection | None = None
        self.server.proxy.opened(self.connection)

    def finish(self) -> None:
        self.server.proxy.closed(self.connection)
        if self._upstream is not None:
            self._upstream.close()
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Say nothing."""

    def do_GET(self) -> None:
        """REST."""
        name = self.path.rpartition("/")[2].partition(".")[0]
        self._exchange([Call("getblock", [name])], b"", rest=True)

    def do_POST(self) -> None:
        """JSON-RPC."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        request = json.loads(body)
        entries = request if isinstance(request, list) else [request]
        calls = [Call(each["method"], each.get("params", []), each.get("id")) for each in entries]
        self._exchange(calls, body, rest=False)

    def _exchange(self, calls: Sequence[Call], body: bytes, *, rest: bool) -> None:
        proxy = self.server.proxy
        proxy.under_way(1)
        try:
            rules = proxy.judge(calls)
            reply = self._reply(calls, rules, body, rest=rest)
            if reply is None:
                self.close_connection = True
                return
            cut = any(rule is not None and rule.kind is Break.TRUNCATE for rule in rules)
            self._send(reply, len(reply.body) // 2 if cut else len(reply.body))
            self.close_connection = self.close_connection or cut
        except OSError:  # the tower went away
            self.close_connection = True
        finally:
            proxy.under_way(-1)

    def _reply(self, calls: Sequence[Call], rules: Sequence[Rule | None], body: bytes, *, rest: bool) -> Reply | None:
        by_kind = {rule.kind: rule for rule in reversed(rules) if rule is not None}
        if Break.FAIL_BEFORE in by_kind:
            return None
        if Break.HANG in by_kind:
            self.server.proxy.under_way(-1)  # the tower gives it up; it must not count as being under way
            self.server.proxy.wait_released()
            self.server.proxy.under_way(1)
            return None
        if (late := by_kind.get(Break.DELAY)) is not None:
            self.server.proxy.wait_released(late.value)
        if (refused := by_kind.get(Break.STATUS)) is not None:
            return Reply(refused.value, b"refused by the proxy", "text/plain")
        if (garbled := by_kind.get(Break.GARBLE)) is not None:
            return Reply(200, garbled.value)
        if rest and Break.ERROR in by_kind:
            return Reply(503, by_kind[Break.ERROR].value["message"].encode(), "text/plain")
        if len(calls) == 1 and Break.ERROR in by_kind:
            reply = {"result": None, "error": by_kind[Break.ERROR].value, "id": calls[0].id}
            return Reply(500, json.dumps(reply).encode())
        reply_of_node = self._ask(body)
        if reply_of_node is None or Break.FAIL_AFTER in by_kind:
            return None
        if Break.REPLACE in by_kind or Break.ERROR in by_kind:
            return _changed(calls, rules, reply_of_node, rest=rest)
        return reply_of_node

    def _ask(self, body: bytes) -> Reply | None:
        """The node's own answer, None if it is away."""
        if self._upstream is None:
            self._upstream = http.client.HTTPConnection(*self.server.proxy.target, timeout=UPSTREAM_SECONDS)
        kept = ("Authorization", "Content-Type")
        headers = {name: self.headers[name] for name in kept if name in self.headers}
        try:
            self._upstream.request(self.command, self.path, body or None, headers)
            with self._upstream.getresponse() as answer:
                return Reply(answer.status, answer.read(), answer.getheader("Content-Type", "application/json"))
        except (OSError, http.client.HTTPException):
            self._upstream.close()
            return None

    def _send(self, reply: Reply, size: int) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body[:size])


def _changed(calls: Sequence[Call], rules: Sequence[Rule | None], reply: Reply, *, rest: bool) -> Reply:
    """The reply with the entries of `replace` and `error` rules changed."""
    if rest:
        (rule,) = rules
        assert rule is not None
        if reply.status != 200:  # the node itself refused: nothing to replace
            return reply
        return reply._replace(body=bytes.fromhex(rule.value(calls[0].params, reply.body.hex())))
    document = json.loads(reply.body)
    entries = {each["id"]: each for each in (document if isinstance(document, list) else [document])}
    for call, rule in zip(calls, rules, strict=True):
        entry = entries[call.id]
        if rule is not None and rule.kind is Break.ERROR:
            entry |= {"result": None, "error": rule.value}
        elif rule is not None and rule.kind is Break.REPLACE and entry.get("error") is None:
            entry["result"] = rule.value(call.params, entry["result"])
    return reply._replace(body=json.dumps(document).encode())
