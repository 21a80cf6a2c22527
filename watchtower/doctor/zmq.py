"""The node's notifications: does it publish them where the tower listens, and do they really come.

Never a failure: without them the tower polls. But it then sees a breach a quarter of a minute later.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from watchtower.doctor.case import Case
from watchtower.doctor.finding import Finding, ok, warn
from watchtower.node.checks import ZmqTopicMissing, require_topics
from watchtower.node.hearing import Heard
from watchtower.node.rpc import ZmqNotification
from watchtower.node.zmq import REQUIRED_TOPICS

LEAST_HWM = 1_000
"""bitcoind's own default: fewer messages are held for a subscriber that is slow."""


def sequence_of_mempool(case: Case) -> int | None:
    """Counts what entered or left the node's mempool; None if the node does not say."""
    found = case.node.ask("getrawmempool", False, True)
    return found.get("mempool_sequence") if isinstance(found, dict) else None


def look(case: Case, heard: Future[Heard], before: int | None) -> Iterator[Finding]:
    """Findings; `heard` ends when enough was listened, `before` is `sequence_of_mempool` from when that began."""
    published = case.node.find("getzmqnotifications")
    if published is not None:
        yield from _published(case, published)
    yield from _delivered(case, heard.result(), before)


def _published(case: Case, published: list[dict[str, Any]]) -> Iterator[Finding]:
    known = [ZmqNotification(str(each["type"]), str(each["address"]), int(each["hwm"])) for each in published]
    try:
        require_topics(known, case.endpoints)
    except ZmqTopicMissing as error:
        what, _, lines = str(error).partition("; add to bitcoin.conf")
        yield warn("zmq.published", what, _mend(lines))
    else:
        yield ok("zmq.published", f"{' and '.join(REQUIRED_TOPICS)} are published where the tower listens")
    small = [each.type for each in known if each.hwm < LEAST_HWM]
    if small:
        mend = " ".join(f"{'zmq' + name}hwm={LEAST_HWM}" for name in small)
        yield warn("zmq.hwm", f"the node holds few messages for {', '.join(small)}", f"set in bitcoin.conf: {mend}")


def _mend(lines: str) -> str:
    """One sentence; bitcoind would take two settings on one line for one long address."""
    wanted = [f"`{each}`" for each in lines.split() if each.startswith("zmqpub")]
    if not wanted:
        return "set node.zmq_* to the addresses of `getzmqnotifications`"
    return f"add to bitcoin.conf, each on a line of its own, {' and '.join(wanted)}; restart bitcoind"


def _delivered(case: Case, heard: Heard, before: int | None) -> Iterator[Finding]:
    """Silence proves something only if the node had something to tell."""
    apart = [address for address in case.endpoints.values() if address not in heard.connected]
    if apart:
        mend = "set node.zmq_* to where bitcoind publishes; between machines or containers open the port"
        yield warn("zmq.connected", f"no connection to {', '.join(dict.fromkeys(apart))}", mend)
        return
    seconds = f"{heard.seconds:.1f} s"
    silent = [topic for topic in heard.silent(REQUIRED_TOPICS) if topic in case.endpoints]
    if not silent:
        numbers = ", ".join(f"{heard.messages[topic]} {topic}" for topic in REQUIRED_TOPICS)
        yield ok("zmq.delivered", f"messages come: {numbers} in {seconds}")
        return
    after = sequence_of_mempool(case)
    if before is not None and after is not None and after != before and "sequence" in silent:
        mend = "restart bitcoind, and look for a proxy or firewall between it and the tower"
        what = f"the mempool changed {after - before} times in {seconds}, and no message came of {' and '.join(silent)}"
        yield warn("zmq.delivered", what, mend)
        return
    is_quiet = before is not None and before == after
    quiet = "; the node had nothing to tell" if is_quiet else ""
    what = f"connected, but {' and '.join(silent)} not seen in {seconds}{quiet}"
    yield ok("zmq.delivered", what) if is_quiet else warn("zmq.delivered", what, "listen longer: --seconds 60")
