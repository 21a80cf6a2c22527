"""What the node's answer to a broadcast means. The only place that judges it.

The default is `UNKNOWN`, which means: nothing is known, try again. No answer means *give up*. The texts are those
of Bitcoin Core 28-31 and Bitcoin Knots 29; they are compared by their stable beginnings, because details follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from domain.chain import display, double_sha256
from domain.events import BroadcastOutcome
from watchtower.ports import Answer, NodeError

DECODE_ERROR = -22
"""RPC_DESERIALIZATION_ERROR: the bytes are no transaction."""

VERIFY_ERROR = -25
"""RPC_VERIFY_ERROR: a parent is missing or an input is spent - perhaps by our own, confirmed and spent again."""

VERIFY_REJECTED = -26
"""RPC_VERIFY_REJECTED: against a rule of consensus or of this node's policy; the text says which."""

ALREADY_IN_UTXO_SET = -27
"""RPC_VERIFY_ALREADY_IN_UTXO_SET: confirmed, with an unspent output."""

TEXT_LIMIT = 300

_NO_INPUT = "bad-txns-inputs-missingorspent"
_BY_TEXT = (
    ("txn-already-in-mempool", BroadcastOutcome.ALREADY_KNOWN),
    ("txn-already-known", BroadcastOutcome.ALREADY_KNOWN),
    ("txn-same-nonwitness-data-in-mempool", BroadcastOutcome.ALREADY_KNOWN),
    ("insufficient fee", BroadcastOutcome.INSUFFICIENT_FEE),  # also "insufficient feerate: …"
    ("replacement-failed", BroadcastOutcome.INSUFFICIENT_FEE),  # Core 31: the feerate diagram does not improve
    ("not enough additional fees", BroadcastOutcome.INSUFFICIENT_FEE),
    ("min relay fee not met", BroadcastOutcome.BELOW_MINIMUM),
    ("mempool min fee not met", BroadcastOutcome.BELOW_MINIMUM),
    ("mempool full", BroadcastOutcome.BELOW_MINIMUM),
    ("non-final", BroadcastOutcome.NOT_YET_FINAL),
    ("bad-txns-nonfinal", BroadcastOutcome.NOT_YET_FINAL),
    ("non-BIP68-final", BroadcastOutcome.NOT_YET_FINAL),
    ("bad-txns-premature-spend-of-coinbase", BroadcastOutcome.NOT_YET_FINAL),
    (_NO_INPUT, BroadcastOutcome.MISSING_INPUTS),
    ("missing-inputs", BroadcastOutcome.MISSING_INPUTS),
)
"""Beginnings of -26 texts. Everything else there is `REJECTED`: our bug or a client's bad signature, for a person."""


def accepted() -> Answer:
    """The node answered with the txid: in its mempool, now or already before."""
    return Answer(BroadcastOutcome.ACCEPTED)


def refused(code: int, text: str) -> Answer:
    """The meaning of a JSON-RPC error of `sendrawtransaction`."""
    return Answer(_outcome(code, text), code, text[:TEXT_LIMIT])


def rejected_by_test(reason: str) -> Answer:
    """The meaning of a `reject-reason` of `testmempoolaccept`, which carries no code."""
    code = VERIFY_ERROR if reason.startswith(("missing-inputs", _NO_INPUT)) else VERIFY_REJECTED
    return refused(code, reason)


def parent_missing(answer: Answer) -> Answer:
    """`MISSING_INPUTS` seen by a caller who knows that the parent is not in this node's chain or mempool.

    The node uses one answer (-25) for *parent unknown* and *input spent*; only who knows the parent can tell.
    """
    if answer.outcome is not BroadcastOutcome.MISSING_INPUTS:
        return answer
    return msgspec.structs.replace(answer, outcome=BroadcastOutcome.PARENT_MISSING)


def package_refused(code: int, text: str, count: int) -> tuple[Answer, ...]:
    """A package that was refused as a whole says nothing about its members, unless one is no transaction."""
    outcome = BroadcastOutcome.REJECTED if code == DECODE_ERROR else BroadcastOutcome.UNKNOWN
    return (Answer(outcome, code, text[:TEXT_LIMIT]),) * count


def package_answers(raws: Sequence[bytes], result: object) -> tuple[Answer, ...]:
    """One answer per transaction from the result of `submitpackage`; raises `NodeError` if it has another shape."""
    results = result.get("tx-results") if isinstance(result, Mapping) else None
    if not isinstance(result, Mapping) or not isinstance(results, Mapping):
        raise NodeError("submitpackage: the result has no tx-results")
    message = str(result.get("package_msg", ""))
    answers: list[Answer] = []
    for raw in raws:
        wtxid = display(double_sha256(raw))
        answer = _member(results.get(wtxid), message)
        if not all(earlier.in_mempool for earlier in answers):
            answer = parent_missing(answer)
        answers.append(answer)
    return tuple(answers)


def _member(entry: Any, message: str) -> Answer:
    if not isinstance(entry, Mapping):
        return Answer(BroadcastOutcome.UNKNOWN, 0, message[:TEXT_LIMIT])
    error = entry.get("error")
    if error is None:
        new = "effective-feerate" in (entry.get("fees") or {})
        return Answer(BroadcastOutcome.ACCEPTED if new else BroadcastOutcome.ALREADY_KNOWN)
    text = str(error)
    if text.startswith("package-not-validated"):
        return Answer(BroadcastOutcome.UNKNOWN, 0, text)
    code = VERIFY_ERROR if text.startswith(_NO_INPUT) else VERIFY_REJECTED
    return refused(code, text)


def _outcome(code: int, text: str) -> BroadcastOutcome:
    if code == ALREADY_IN_UTXO_SET:
        return BroadcastOutcome.ALREADY_KNOWN
    if code == DECODE_ERROR:
        return BroadcastOutcome.REJECTED
    if code == VERIFY_ERROR:
        # The same code reports limits that a caller can set (maxfeerate, maxburnamount); we set none.
        return BroadcastOutcome.UNKNOWN if "exceeds maximum" in text else BroadcastOutcome.MISSING_INPUTS
    if code != VERIFY_REJECTED:
        return BroadcastOutcome.UNKNOWN
    return next((meaning for start, meaning in _BY_TEXT if text.startswith(start)), BroadcastOutcome.REJECTED)
