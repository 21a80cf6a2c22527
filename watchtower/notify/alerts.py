"""What the conditions of single channels mean to a person: the table of the log's alerts."""

from __future__ import annotations

import msgspec

from domain.events import AlertKind
from watchtower.notify.notice import Severity


class Meaning(msgspec.Struct, frozen=True):
    """How urgent a condition is, what to say, whether a person has to act, and which alert's section explains it."""

    severity: Severity
    title: str
    text: str
    act: bool
    alert: str


ALERTS: dict[AlertKind, Meaning] = {
    AlertKind.UNARMED_BREACH: Meaning(
        "page",
        "Breach that the tower cannot punish",
        "The tower has no key for this revoked state. Restore the keystore, or register the channel again.",
        True,
        "WatchtowerUnexpectedSpend",
    ),
    AlertKind.SELF_BREACH: Meaning(
        "page",
        "Own side published a revoked state",
        "The counterparty may take the whole channel. Find and stop the program that runs on old data.",
        True,
        "WatchtowerUnexpectedSpend",
    ),
    AlertKind.FUTURE_STATE: Meaning(
        "page",
        "A state that the tower does not know was published",
        "It is newer than all that were uploaded. Upload the newest state, or settle with the owner's party.",
        True,
        "WatchtowerUnexpectedSpend",
    ),
    AlertKind.UNKNOWN_SPEND: Meaning(
        "page",
        "The funding was spent by an unknown transaction",
        "It is no state of this channel: look for leaked keys or for a close that the tower was not told of.",
        True,
        "WatchtowerUnexpectedSpend",
    ),
    AlertKind.EQUIVOCATION: Meaning(
        "ticket",
        "Two states with one number",
        "The counterparty signed two different states with the same number. Close the channel.",
        True,
        "WatchtowerEquivocation",
    ),
    AlertKind.FUNDS_LOST: Meaning(
        "page",
        "Funds lost",
        "A revoked state was settled in a block before a penalty was. The tower goes on in case the block is undone.",
        True,
        "WatchtowerFundsLost",
    ),
    AlertKind.UNECONOMICAL_TO_PUNISH: Meaning(
        "ticket",
        "Penalty costs more than it brings",
        "The contested value does not cover the fee that is needed now. The tower tries again as fees fall.",
        False,
        "WatchtowerPartyMustAct",
    ),
    AlertKind.OUTPUT_CLAIMED_BY_COUNTERPARTY: Meaning(
        "page",
        "The counterparty took an output",
        "An output that was contested went to the counterparty. The tower goes on in case the block is undone.",
        True,
        "WatchtowerOutputMissed",
    ),
    AlertKind.SECRET_INCONSISTENT: Meaning(
        "ticket",
        "Revocation secrets do not fit together",
        "The counterparty handed over secrets of which not all can be right. Close the channel.",
        True,
        "WatchtowerPartyMustAct",
    ),
    AlertKind.SETTLEMENT_UNAVAILABLE: Meaning(
        "ticket",
        "No settlement for a close",
        "The tower holds no settlement for the state that was published. Upload that state, or settle by hand.",
        True,
        "WatchtowerPartyMustAct",
    ),
    AlertKind.UNARMED_CLAIM: Meaning(
        "page",
        "A payment's output cannot be taken",
        "The tower has no key or preimage for it. The owner's party can take it, before it expires.",
        True,
        "WatchtowerAnswerHindered",
    ),
    AlertKind.PENALTY_REFUSED: Meaning(
        "page",
        "The node refuses the penalty",
        "It breaks a rule of the node. Set a second node; the log has the words of the refusal.",
        True,
        "WatchtowerAnswerHindered",
    ),
    AlertKind.PENALTY_SKIPPED: Meaning(
        "page",
        "Blocks pass over the penalty",
        "It pays enough and is not mined. Broadcast it through other nodes, ask a miner.",
        True,
        "WatchtowerAnswerHindered",
    ),
    AlertKind.LADDER_TOO_SHORT: Meaning(
        "page",
        "No prepared penalty pays enough",
        "Fees are above the highest penalty that was signed in advance. The owner's party can show higher ones.",
        True,
        "WatchtowerAnswerHindered",
    ),
}

UNKNOWN_ALERT = Meaning(
    "page",
    "A condition that this version does not know",
    "`watchtower channel history` shows it.",
    True,
    "WatchtowerUnexpectedSpend",
)
