"""`audit verify` with every rule: signatures verified per CPU second of one core, beside the library's bare loop.

The log holds real channels whose updates take turns. Everything is in it that a default audit of a log does but the
replay of the read models: hash chain, decoding, four transactions rebuilt per state, eight signatures, the secret.
The bare loop calls libsecp256k1 for one signature after the other, with parsed keys, and does nothing else.
"""

from __future__ import annotations

import gc
import io
import tempfile
import threading
import time
from hashlib import sha256
from pathlib import Path

from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT

from domain.contract import keys
from domain.contract.scripts import funding_output
from tests.bench.installation import OWNER, Installation
from tests.bench.scale import Scale
from tests.bench.updates import BLOCK, HEIGHT, made_pair
from tests.support.towers import CoinNode
from watchtower.audit.findings import ExitCode
from watchtower.audit.progress import Progress
from watchtower.audit.resume import Notebook
from watchtower.audit.rules import rules_for
from watchtower.audit.verify import Audit, Wish
from watchtower.channels.accept_state import accept_state
from watchtower.new_tower import create
from watchtower.store.sqlite_source import open_file

NAMES = (
    "audit_signatures_per_s",
    "bare_signatures_per_s",
    "audit_signatures_ratio_to_bare",
    "audit_rules_without_signatures_events_per_s",
)


def measure(scale: Scale, directory: Path) -> dict[str, float]:
    """All figures of this part; the best of several runs, bare and whole by turns."""
    log = _log(scale, directory)
    bare, whole, light = 0.0, 0.0, 0.0
    for _ in range(scale.audit_runs):
        bare = max(bare, bare_rate(scale.bare_signatures))
        whole = max(whole, _rate(log, "signatures"))
        light = max(light, _rate(log, "events"))
    return dict(zip(NAMES, (round(whole), round(bare), round(whole / bare, 2), round(light)), strict=True))


def _log(scale: Scale, directory: Path) -> Path:
    """The log of a tower with real channels whose updates came in by turns."""
    pairs = [made_pair(number, scale.audit_pair_updates) for number in range(scale.audit_pairs)]
    tower = create(directory / "tower", directory / "tower" / "config.toml", "regtest")
    node = CoinNode()
    for pair in pairs:
        node.add_coin(pair.params.funding_outpoint, pair.params.capacity, funding_output(pair.params).spk)
    with Installation(tower, node, HEIGHT) as installation:  # type: ignore[arg-type]
        streams = [installation.watch(pair, BLOCK, updates=0) for pair in pairs]
        for sequence in range(1, scale.audit_pair_updates + 1):
            for stream, pair in zip(streams, pairs, strict=True):
                accept_state(installation.context, stream, pair.update_request(OWNER, sequence))
    return tower.data_dir / "events.db"


def _rate(log: Path, counted: str) -> float:
    """`signatures` verified per CPU second, or `events` looked at without them; raises `RuntimeError` on findings."""
    gc.collect()
    rules = rules_for(signatures=counted == "signatures")
    with open_file(log) as source, tempfile.TemporaryDirectory(dir=log.parent) as scratch:
        notebook = Notebook(None, Path(scratch), time.monotonic)
        progress = Progress("none", io.StringIO(), time.monotonic)
        begun = time.process_time()
        report = Audit(source, Wish(rules=rules), notebook, progress, threading.Event()).run()
        took = time.process_time() - begun
    if report.exit_code != ExitCode.PASSED:
        raise RuntimeError(f"the audit of a good log says: {report.verdict}")
    return next(check.items for check in report.checks if check.name == counted) / took


def bare_rate(count: int) -> float:
    """Signatures per CPU second that libsecp256k1 verifies when nothing else is done."""
    secret, context = bytes(31) + b"\x0b", GLOBAL_CONTEXT.ctx
    key = ffi.new("secp256k1_xonly_pubkey *")
    lib.secp256k1_xonly_pubkey_parse(context, key, keys.public_key(secret)[1:])
    messages = [sha256(b"message %d" % number).digest() for number in range(count)]
    signed = [(keys.sign_schnorr(secret, message, bytes(32)), message) for message in messages]
    verify, begun = lib.secp256k1_schnorrsig_verify, time.process_time()
    valid = sum(verify(context, signature, message, 32, key) for signature, message in signed)
    took = time.process_time() - begun
    if valid != count:
        raise RuntimeError("a signature made just now does not verify")
    return count / took
