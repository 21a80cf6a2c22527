"""The rules of the domain that an audit applies."""

from __future__ import annotations

from watchtower.audit.domain_rules import DomainRules
from watchtower.audit.rules_chain import CursorWalk


def rules_for(*, signatures: bool) -> tuple[DomainRules, ...]:
    """All rules; those that verify signatures and secrets, which take most of the time, only if asked for."""
    rules: tuple[DomainRules, ...] = (CursorWalk(),)
    return rules if signatures else tuple(each for each in rules if not getattr(each, "verifies_signatures", False))
