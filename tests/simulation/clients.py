"""The owners' clients: they register, upload state after state, try again after every failure, and keep each answer."""

from __future__ import annotations

import random
from collections import Counter

from domain.errors import Refusal
from tests.simulation.case import Case
from watchtower.channels.accept_state import accept_state
from watchtower.channels.context import Context
from watchtower.channels.register import register
from watchtower.channels.revoke import revoke
from watchtower.ports import NodeError, StoreError, WrongChain


class Clients:
    """One client per channel. `counts` tells what they were answered."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def act(self, context: Context, case: Case, source: random.Random) -> bool:
        """The next thing that this client has to say; False if it was refused or could not be taken now."""
        try:
            self._say(context, case, source)
        except Refusal as refusal:
            self.counts["refused_" + refusal.slug] += 1
            return False
        except (NodeError, WrongChain, StoreError):
            self.counts["to_be_repeated"] += 1
            return False
        return True

    def reveal(self, context: Context, case: Case, sequence: int) -> bool:
        """The cheater's secret of one state, without the state after it."""
        try:
            revoke(context, case.stream, case.channel.revocations[sequence])
        except (Refusal, StoreError):
            self.counts["to_be_repeated"] += 1
            return False
        self.counts["revocation"] += 1
        return True

    def _say(self, context: Context, case: Case, source: random.Random) -> None:
        if not self._holds(case, 0):
            register(context, case.channel.registration)
            self._keep(case, 0)
            return
        following = case.answers[-1][0] + 1
        if following > len(case.channel.uploads) or source.random() < 0.1:
            following = max(1, case.answers[-1][0])  # once more: the answer must be the same
        accepted = accept_state(context, case.stream, case.channel.uploads[following - 1])
        if accepted.answer.sequence == following:
            self._keep(case, following)

    def _keep(self, case: Case, sequence: int) -> None:
        if not self._holds(case, sequence):
            case.answers.append((sequence, case.channel.headers[sequence]))
            self.counts["registration" if sequence == 0 else "upload"] += 1

    def _holds(self, case: Case, sequence: int) -> bool:
        return any(held == sequence for held, _ in case.answers)
