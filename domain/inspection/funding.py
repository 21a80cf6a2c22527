"""The funding transaction (protocol 3.1). Its own inputs are foreign coins: their signatures are the node's matter."""

from __future__ import annotations

from domain.contract.params import ChannelParams
from domain.contract.scripts import funding_txout
from domain.inspection.findings import Finding, Inspection, TransactionKind, equals, holds, size
from domain.transaction import Transaction


def inspect_funding(params: ChannelParams, tx: Transaction) -> Inspection:
    """Exactly the capacity to exactly the funding script, from segwit inputs only."""
    wanted = funding_txout(params)
    findings: list[Finding] = []
    if params.funding_vout < len(tx.outputs):
        found = tx.outputs[params.funding_vout]
        findings.append(equals("value", wanted.value, found.value))
        findings.append(equals("script", wanted.spk.hex(), found.spk.hex()))
    else:
        findings.append(Finding("output", ok=False, detail=f"there is no output {params.funding_vout}"))
    bare = [place for place, txin in enumerate(tx.inputs) if not txin.witness]
    wrong = f"input {bare[0]} has no witness: with it the txid could be changed by others" if bare else ""
    findings.append(holds("segwit-inputs", not bare, "every input has a witness", wrong))
    findings.append(size(tx))
    return Inspection(TransactionKind.FUNDING, tuple(findings))
