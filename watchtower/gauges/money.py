"""Gauges of channels, breaches, penalties and incidents, from the read models: they say the same after a restart.

Nothing here looks at all channels: the sums are kept with each change, and breaches are few or summed by the database.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from projections.catalog import PROJECTIONS
from projections.milestones import STATE_UPDATE, MilestoneRow
from projections.totals import TotalsNow
from watchtower.store.breach_sums import BreachSums
from watchtower.telemetry.catalog import CHANNEL_STATES, INCIDENTS
from watchtower.telemetry.metrics import Metrics

STAGES = ("detected", "deferred", "broadcast", "confirming", "blocked")


class MoneyGauges:
    """Sets them from what it is given: functions that may be called in any thread."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        totals: Callable[[], TotalsNow],
        breaches: Callable[[], BreachSums],
        milestones: Callable[[], Iterable[MilestoneRow]],
        allowed: Callable[[], int],
        watched: Callable[[], int],
        tip: Callable[[], int],
        deferred: Callable[[], Collection[str]],
        position: Callable[[], int],
    ) -> None:
        """`allowed` is the number of parties that may register and have no channel, `watched` that of outpoints.

        `tip` is the height that deadlines are counted from, `deferred` names the channels whose breach waits for a
        block, `position` is how far the projections are.
        """
        self._metrics = metrics
        self._totals = totals
        self._breaches = breaches
        self._milestones = milestones
        self._allowed = allowed
        self._watched = watched
        self._tip = tip
        self._deferred = deferred
        self._position = position

    def refresh(self) -> None:
        """Set all of them. Raises `StoreError` if the views cannot be read."""
        self._set_channels(self._totals())
        self._set_breaches(self._breaches())
        self._set_milestones()
        for projection in PROJECTIONS:
            self._metrics.set("projection_position", projection.name, value=self._position())

    def _set_channels(self, found: TotalsNow) -> None:
        put = self._metrics.set
        by_state = {status.lower(): number for status, number in found.channels.items()}
        for state in CHANNEL_STATES:
            put("channels", state, value=by_state.get(state, 0))
        put("watched_outpoints", value=self._watched())
        put("protected_sats", value=found.protected_sats)
        put("revoked_states_covered", value=found.revoked_states)
        put("clients", "active", value=found.owners)
        put("clients", "allowed", value=self._allowed())

    def _set_breaches(self, found: BreachSums) -> None:
        put = self._metrics.set
        deferred = found.waiting.keys() & set(self._deferred())
        stages = dict.fromkeys(STAGES, 0) | found.stages
        stages["detected"] -= len(deferred)
        stages["deferred"] += len(deferred)
        for name in STAGES:
            put("breaches_open", name, value=stages[name])
        put("breach_min_remaining_blocks", value=None if found.deadline is None else found.deadline - self._tip())
        put("breach_at_risk_sats", value=found.value)
        put("breach_oldest_unanswered_timestamp_seconds", value=_unanswered(found, deferred))
        put("penalty_unconfirmed", value=found.sent)
        feerate = found.feerate_kvb
        put("penalty_min_feerate_sats_per_vbyte", value=None if feerate is None else feerate / 1_000)
        put("penalty_max_fee_ratio", value=found.fee_ratio)

    def _set_milestones(self) -> None:
        for row in self._milestones():
            if row.kind == STATE_UPDATE:
                self._metrics.set("last_state_update_timestamp_seconds", value=row.recorded_at / 1e6)
            elif row.kind in INCIDENTS:
                self._metrics.set("incident_last_timestamp_seconds", row.kind, value=row.recorded_at / 1e6)


def _unanswered(found: BreachSums, deferred: Collection[str]) -> float | None:
    """A breach that waits for its block is not late: its clock begins there."""
    begun = [since for stream, since in found.waiting.items() if stream not in deferred]
    if found.unanswered_from is not None:
        begun.append(found.unanswered_from)
    return min(begun) / 1e6 if begun else None
