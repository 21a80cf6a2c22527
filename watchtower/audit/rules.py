"""The rules of the domain that an audit applies."""

from __future__ import annotations

from watchtower.audit.domain_rules import DomainRules
from watchtower.audit.rules_chain import CursorWalk
from watchtower.audit.rules_channel import ChannelRules


def rules_for(*, signatures: bool) -> tuple[DomainRules, ...]:
    """All rules. Signatures and secrets, which take most of the time, are verified only if asked for."""
    return CursorWalk(), ChannelRules(signatures=signatures)
