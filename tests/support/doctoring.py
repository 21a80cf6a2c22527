"""A case for the doctor: a healthy node in memory, a new tower on disk, and whatever is broken about them.

case = doctored(home, node=SoundNode(forbidden={"submitpackage"}), environ={...})
found = findings(rights.look(case))
found["rights.methods"].level                     # "fail"
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from domain.chain import GENESIS_DISPLAY
from watchtower.config import load
from watchtower.doctor.case import Case
from watchtower.doctor.finding import Finding
from watchtower.node.failures import MethodForbidden, RpcRefused
from watchtower.node.hearing import Heard
from watchtower.ports import NodeError

NOW = 1_800_000_000.0
ENDPOINT = "tcp://127.0.0.1:28332"
DISK = "21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw,errors=remount-ro"


class SoundNode:
    """Answers like a node that lacks nothing. `changes` replaces fields of answers, by method."""

    def __init__(
        self,
        changes: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        forbidden: Collection[str] = ("uptime",),
        down: NodeError | None = None,
        unknown: Collection[str] = (),
    ) -> None:
        self.changes = changes or {}
        self.forbidden, self.down, self.unknown = forbidden, down, unknown
        self.asked: list[str] = []
        self.mempool_sequence = [100, 100]
        self.published = [{"type": f"pub{topic}", "address": ENDPOINT, "hwm": 1000} for topic in ("sequence", "rawtx")]
        self.peers = [{"timeoffset": offset} for offset in (-1, 0, 2)]

    def __call__(self, method: str, *params: object) -> Any:
        """The answer, or the error."""
        self.asked.append(method)
        if self.down is not None:
            raise self.down
        if method in self.forbidden:
            raise MethodForbidden(f"{method}: the node does not allow this user the method (403)")
        if method in self.unknown:
            raise RpcRefused(method, -32601, "Method not found")
        if method == "getrawmempool" and params == (False, True):
            return {"txids": [], "mempool_sequence": self.mempool_sequence.pop(0)}
        if method in ("getzmqnotifications", "getpeerinfo"):
            return self.published if method == "getzmqnotifications" else self.peers
        answers = {
            "getblockchaininfo": {
                "chain": "regtest",
                "blocks": 200,
                "headers": 200,
                "initialblockdownload": False,
                "pruned": False,
                "time": int(NOW) - 300,
                "mediantime": int(NOW) - 3_900,
            },
            "getnetworkinfo": {
                "version": 290_400,
                "subversion": "/Satoshi:29.4.0/",
                "connections": 10,
                "connections_out": 8,
                "networkactive": True,
                "localrelay": True,
                "warnings": [],
            },
            "getmempoolinfo": {"loaded": True, "minrelaytxfee": Decimal("0.00001")},
        }
        if method in answers:
            return answers[method] | dict(self.changes.get(method, {}))
        if method == "getblockhash":
            return GENESIS_DISPLAY["regtest"]
        raise RpcRefused(method, -8, "no such thing")


def heard(**messages: int) -> Heard:
    """What a listener heard, connected everywhere."""
    return Heard(messages, frozenset({ENDPOINT}), 10.0)


def doctored(
    home: Path,
    *,
    node: Any = None,
    second: Any = None,
    environ: Mapping[str, str] | None = None,
    mounts: str = DISK,
    sound: Heard | None = None,
    now: float = NOW,
) -> Case:
    """A case for the tower in `home`; `environ` adds settings."""
    given = {"STATE_CHANNEL_NODE__ZMQ_SEQUENCE": ENDPOINT, "STATE_CHANNEL_NODE__ZMQ_RAWTX": ENDPOINT} | dict(
        environ or {}
    )
    return Case(
        load(given, config_path=str(home / "config.toml")),
        ask=node or SoundNode(),
        ask_second=second,
        listen=lambda _endpoints, _seconds: sound or heard(sequence=3, rawtx=2),
        seconds=10.0,
        now=lambda: now,
        mounts=lambda: mounts,
        environ=given,
    )


def findings(found: Iterable[Finding]) -> dict[str, Finding]:
    """By check; the worst one where a check says several things."""
    order = ("ok", "warn", "fail")
    kept: dict[str, Finding] = {}
    for each in found:
        before = kept.get(each.check)
        if before is None or order.index(each.level) > order.index(before.level):
            kept[each.check] = each
    return kept


def levels(found: Iterable[Finding]) -> dict[str, str]:
    """The level of every check."""
    return {check: finding.level for check, finding in findings(found).items()}
