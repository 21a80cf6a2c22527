"""What each answer of the node to a broadcast means; the texts are those that real nodes gave."""

from __future__ import annotations

import pytest

from domain.chain import display, double_sha256
from domain.events import BroadcastOutcome
from watchtower.node import answers
from watchtower.ports import NodeError

REFUSALS = [
    (
        -26,
        "insufficient fee, rejecting replacement aa, not enough additional fees to relay; 0.1 < 0.2",
        "INSUFFICIENT_FEE",
    ),
    (-26, "insufficient fee, rejecting replacement aa; new feerate 0.1 BTC/kvB <= old feerate 0.2", "INSUFFICIENT_FEE"),
    (-26, "insufficient fee, rejecting replacement aa, less fees than conflicting txs; 1 < 2", "INSUFFICIENT_FEE"),
    (-26, "insufficient feerate: does not improve feerate diagram", "INSUFFICIENT_FEE"),
    (-26, "replacement-failed, insufficient feerate: does not improve feerate diagram", "INSUFFICIENT_FEE"),
    (-26, "not enough additional fees to relay", "INSUFFICIENT_FEE"),
    (-26, "min relay fee not met, 0 < 13", "BELOW_MINIMUM"),
    (-26, "mempool min fee not met, 111 < 222", "BELOW_MINIMUM"),
    (-26, "mempool full", "BELOW_MINIMUM"),
    (-26, "non-final", "NOT_YET_FINAL"),
    (-26, "non-BIP68-final", "NOT_YET_FINAL"),
    (-26, "bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth 1", "NOT_YET_FINAL"),
    (-26, "txn-already-in-mempool", "ALREADY_KNOWN"),
    (-26, "txn-already-known", "ALREADY_KNOWN"),
    (-26, "txn-same-nonwitness-data-in-mempool", "ALREADY_KNOWN"),
    (-26, "mempool-script-verify-flag-failed (Invalid Schnorr signature)", "REJECTED"),
    (-26, "dust, tx with dust output must be 0-fee", "REJECTED"),
    (-26, "truc-vsize-toobig, version=3 tx aa is too big", "REJECTED"),
    (-26, "scriptpubkey", "REJECTED"),
    (-26, "", "REJECTED"),
    (-25, "bad-txns-inputs-missingorspent", "MISSING_INPUTS"),
    (-25, "Missing inputs", "MISSING_INPUTS"),
    (-25, "Fee exceeds maximum configured by user (maxfeerate)", "UNKNOWN"),
    (-27, "Transaction outputs already in utxo set", "ALREADY_KNOWN"),
    (-27, "Transaction already in block chain", "ALREADY_KNOWN"),
    (-22, "TX decode failed. Make sure the tx has at least one input.", "REJECTED"),
    (-28, "Loading block index…", "UNKNOWN"),
    (-10, "Bitcoin Core is in initial sync and waiting for blocks", "UNKNOWN"),
    (-1, "something new", "UNKNOWN"),
    (0, "", "UNKNOWN"),
]

PARENT, CHILD = b"\x03\0\0\0parent", b"\x03\0\0\0child"


def result(parent: object, child: object, message: str = "transaction failed") -> dict[str, object]:
    """A `submitpackage` result for the two transactions."""
    names = [display(double_sha256(raw)) for raw in (PARENT, CHILD)]
    return {"package_msg": message, "tx-results": dict(zip(names, (parent, child), strict=True))}


@pytest.mark.parametrize(("code", "text", "outcome"), REFUSALS)
def test_refusal_has_its_meaning(code: int, text: str, outcome: str) -> None:
    """Each known refusal has one meaning, and an unknown one means: try again."""
    assert BroadcastOutcome[outcome] is answers.refused(code, text).outcome


def test_refusal_keeps_the_nodes_words() -> None:
    """Code and text are kept for the log, but not more than a line."""
    answer = answers.refused(-26, "x" * 10_000)

    assert (-26, "x" * answers.TEXT_LIMIT) == (answer.code, answer.text)
    assert not answer.in_mempool


def test_accepted_is_in_the_mempool() -> None:
    """An answer with a txid means that the transaction is where it should be."""
    assert answers.accepted().in_mempool


def test_missing_inputs_become_missing_parent_only_for_who_knows() -> None:
    """The caller's knowledge about the parent changes -25 and nothing else."""
    missing, late = answers.refused(-25, "bad-txns-inputs-missingorspent"), answers.refused(-26, "non-final")

    assert BroadcastOutcome.PARENT_MISSING is answers.parent_missing(missing).outcome
    assert late == answers.parent_missing(late)


def test_package_accepted_and_known_are_told_apart() -> None:
    """A member with an effective feerate is new, one without was already there."""
    new = {"txid": "aa", "vsize": 100, "fees": {"base": 1, "effective-feerate": 2}}
    known = {"txid": "bb", "vsize": 100, "fees": {"base": 1}}

    found = answers.package_answers([PARENT, CHILD], result(known, new, "success"))

    assert [BroadcastOutcome.ALREADY_KNOWN, BroadcastOutcome.ACCEPTED] == [answer.outcome for answer in found]


def test_package_same_txid_with_other_witness_is_known() -> None:
    """The mempool holds the transaction with another witness: nothing needs to be sent."""
    other = {"txid": "aa", "other-wtxid": "cc"}

    found = answers.package_answers([PARENT, CHILD], result(other, other, "success"))

    assert [BroadcastOutcome.ALREADY_KNOWN] * 2 == [answer.outcome for answer in found]


def test_package_child_of_a_refused_parent_lacks_its_parent() -> None:
    """The child's missing input is explained by the parent's refusal."""
    refused = {"error": "min relay fee not met, 0 < 135"}
    orphan = {"error": "bad-txns-inputs-missingorspent"}

    found = answers.package_answers([PARENT, CHILD], result(refused, orphan))

    assert [BroadcastOutcome.BELOW_MINIMUM, BroadcastOutcome.PARENT_MISSING] == [answer.outcome for answer in found]


def test_package_members_without_a_result_are_unknown() -> None:
    """A package refused as a whole says nothing about its members."""
    whole = {"package_msg": "package-not-child-with-unconfirmed-parents", "tx-results": {}}

    found = answers.package_answers([PARENT, CHILD], whole)

    assert [BroadcastOutcome.UNKNOWN] * 2 == [answer.outcome for answer in found]
    assert "package-not-child-with-unconfirmed-parents" == found[0].text


def test_package_member_not_validated_is_unknown() -> None:
    """A member that the node did not look at may be fine."""
    skipped = {"error": "package-not-validated"}

    found = answers.package_answers([PARENT, CHILD], result({"error": "non-final"}, skipped))

    assert [BroadcastOutcome.NOT_YET_FINAL, BroadcastOutcome.UNKNOWN] == [answer.outcome for answer in found]


@pytest.mark.parametrize(("code", "outcome"), [(-22, BroadcastOutcome.REJECTED), (-25, BroadcastOutcome.UNKNOWN)])
def test_package_refused_as_a_call(code: int, outcome: BroadcastOutcome) -> None:
    """Only bytes that are no transaction are blamed on the package's members."""
    assert (outcome, outcome) == tuple(answer.outcome for answer in answers.package_refused(code, "text", 2))


@pytest.mark.parametrize("damaged", [None, [], {}, {"tx-results": []}, "success"])
def test_package_result_of_another_shape_is_no_answer(damaged: object) -> None:
    """A damaged result raises instead of being guessed at."""
    with pytest.raises(NodeError, match="tx-results"):
        answers.package_answers([PARENT, CHILD], damaged)
