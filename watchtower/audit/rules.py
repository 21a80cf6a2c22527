"""The rules of the domain that an audit applies."""

from __future__ import annotations

from watchtower.audit.domain_rules import DomainRules
from watchtower.audit.rules_chain import CursorWalk
from watchtower.audit.rules_channel import ChannelRules
from watchtower.audit.rules_log import LogRules


def rules_for(*, signatures: bool, tower_key: bytes | None = None) -> tuple[DomainRules, ...]:
    """All rules. What costs operations on the curve, which take most of the time, only if `signatures` are asked for.

    `tower_key` (x-only, 32 bytes) verifies sealed heads.
    """
    return CursorWalk(), ChannelRules(signatures=signatures), LogRules(tower_key if signatures else None)
