"""From events of the log to notices: a fold without I/O or clock. The same events give the same notices and ids.

It keeps of the past only what later words need: the breaches that stand, the height of the tip, and how deep the
present reorganization is. `changes` hands that out to be stored together with the position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from domain.chain import display
from domain.events import (
    AlertCleared,
    AlertRaised,
    BlockConnected,
    BlockDisconnected,
    BreachDetected,
    ChannelRegistered,
    ChannelResolved,
    CursorStarted,
    FundingDoubleSpent,
    Payload,
    PenaltyBroadcast,
    PenaltyConfirmed,
    PenaltyDisconnected,
    PenaltyPrepared,
    Recorded,
    ResolvedAs,
    SettleConfirmed,
    SettleDisconnected,
    SoftFinal,
    SpendConfirmed,
    SpendDisconnected,
    SpendKind,
    SpendReplaced,
    StoreRestored,
)
from watchtower.notify.alerts import ALERTS, UNKNOWN_ALERT
from watchtower.notify.breaches import Breaches, Tracked
from watchtower.notify.deadlines import due_warning
from watchtower.notify.notice import Notice, Severity, blocks, notice_id, sats
from watchtower.telemetry.runbook import runbook_url

DEEP = 4
"""Disconnected blocks in a row that are told: the alert for Prometheus says more than three."""

_TIP = "tip"

_ENDS: dict[ResolvedAs, tuple[Severity, str, str]] = {
    ResolvedAs.PUNISHED: ("ticket", "penalty_final", "Penalty final"),
    ResolvedAs.LOST: ("ticket", "channel_lost", "Channel lost for good"),
    ResolvedAs.DOUBLE_SPENT: ("ticket", "channel_void", "Channel void for good"),
}
"""How an end is told; all others are a `channel_resolved` for information."""

_CLOSES: dict[SpendKind, tuple[Severity, str, str]] = {
    SpendKind.PEER_CLOSE: ("ticket", "peer_closed", "The counterparty closed on chain"),
    SpendKind.OWN_CLOSE: ("info", "own_close", "Own close on chain"),
    SpendKind.COOP: ("info", "cooperative_close", "Cooperative close on chain"),
}


class _Place(msgspec.Struct, frozen=True):
    """Where an event stands: enough for the id of a notice."""

    log_id: str
    id: int
    stream: str
    at: int


class Story:
    """Told event by event in the order of the log; `told` returns what to say about one."""

    def __init__(self, log_id: bytes, facts: dict[str, bytes] | None = None, *, deadline_blocks: int = 0) -> None:
        """`facts` are what `changes` gave before; `deadline_blocks` the setting."""
        self._log_id = log_id.hex()
        self.breaches = Breaches(facts)
        self.tip, self._undone = msgspec.msgpack.decode((facts or {}).get(_TIP, b"\x92\x00\x00"), type=tuple[int, int])
        self.deadline_blocks = deadline_blocks
        self._tell: dict[type[Payload], Callable[[_Place, Any], Iterable[Notice]]] = {
            AlertCleared: self._alert_cleared,
            AlertRaised: self._alert_raised,
            BlockConnected: self._connected,
            BlockDisconnected: self._disconnected,
            BreachDetected: self._breach,
            ChannelRegistered: self._registered,
            ChannelResolved: self._resolved,
            CursorStarted: self._connected,
            FundingDoubleSpent: self._double_spent,
            PenaltyBroadcast: self._penalty_sent,
            PenaltyConfirmed: self._penalty_confirmed,
            PenaltyDisconnected: self._penalty_undone,
            PenaltyPrepared: self._prepared,
            SettleConfirmed: self._settled,
            SettleDisconnected: self._settle_undone,
            SoftFinal: self._soft_final,
            SpendConfirmed: self._spend_confirmed,
            SpendDisconnected: self._spend_undone,
            SpendReplaced: self._spend_replaced,
            StoreRestored: self._restored,
        }

    def told(self, recorded: Recorded) -> list[Notice]:
        """What a person may want to know about an event; mostly nothing."""
        payload, stream = recorded.envelope.payload, recorded.envelope.stream
        tell = self._tell.get(type(payload))
        if tell is None:
            return []
        return list(tell(_Place(self._log_id, recorded.id, stream, payload.recorded_at), payload))

    def changes(self) -> dict[str, bytes | None]:
        """What has to be stored with the position since the last call."""
        tip = msgspec.msgpack.encode((self.tip, self._undone))
        return {**self.breaches.changes(), _TIP: tip}

    # --- breaches -----------------------------------------------------------------------------------------------

    def _breach(self, place: _Place, event: BreachDetected) -> Iterable[Notice]:
        known = self.breaches.get(place.stream, event.txid)
        one = known or Tracked(stream=place.stream, txid=event.txid, sequence=event.sequence, value=event.contest_value)
        height = None if event.block is None else event.block.height
        one = msgspec.structs.replace(one, height=height, deadline=event.deadline)
        self.breaches.put(one)
        if known is not None:
            where = "is back in the mempool" if height is None else f"is in block {height:,}"
            text = f"The revoked state {where}. {self._until(one)}"
            yield self._about(place, one, "breach_confirmed", "info", f"Breach goes on: {sats(one.value)}", text)
            return
        where = "is in the mempool" if height is None else f"is in block {height:,}"
        text = f"Revoked state {one.sequence} {where}. The tower answers now. {self._until(one)} Nothing to do."
        yield self._about(place, one, "breach_seen", "page", f"Breach: {sats(one.value)}", text)

    def _spend_undone(self, place: _Place, event: SpendDisconnected) -> Iterable[Notice]:
        one = self.breaches.get(place.stream, event.txid)
        if one is None:
            return
        one = msgspec.structs.replace(one, height=None, deadline=None, warned=None)
        self.breaches.put(one)
        text = "The block with the revoked state left the chain. The tower goes on."
        yield self._about(place, one, "breach_unconfirmed", "info", "Breach is unconfirmed again", text)

    def _spend_replaced(self, place: _Place, event: SpendReplaced) -> Iterable[Notice]:
        one = self.breaches.get(place.stream, event.txid)
        if one is not None:
            text = "The revoked state left the mempool. The tower goes on watching for it."
            yield self._about(place, one, "breach_withdrawn", "ticket", "Breach left the mempool", text)

    def _prepared(self, place: _Place, event: PenaltyPrepared) -> Iterable[Notice]:
        one = self.breaches.get(place.stream, event.commit_txid)
        if one is not None:
            self.breaches.put(one.with_bid(event.txid, event.fee))
        return ()

    def _penalty_sent(self, place: _Place, event: PenaltyBroadcast) -> Iterable[Notice]:
        one = self.breaches.of_bid(place.stream, event.txid)
        if one is None:
            return
        fee = one.fee_of(event.txid) or 0
        text = f"The node holds the penalty; it pays {sats(fee)}. {self._until(one)} Nothing to do."
        if one.sent:
            yield self._about(place, one, "penalty_raised", "info", f"Penalty raised to {sats(fee)}", text, event.txid)
            return
        self.breaches.put(msgspec.structs.replace(one, sent=True))
        title = f"Penalty sent: {sats(one.value)}"
        yield self._about(place, one, "penalty_sent", "ticket", title, text, event.txid)

    def _penalty_confirmed(self, place: _Place, event: PenaltyConfirmed) -> Iterable[Notice]:
        one = self.breaches.get(place.stream, event.commit_txid)
        if one is not None:
            self.breaches.put(msgspec.structs.replace(one, ended_by=event.txid))
        yield self._notice(
            place,
            "penalty_confirmed",
            "ticket",
            f"Penalty confirmed: {sats(event.swept)}",
            f"In block {event.block.height:,}, fee {sats(event.fee)}. Final after 100 blocks. Nothing to do.",
            alert="WatchtowerBreachOpen",
            txid=event.txid,
            sats=event.swept,
            height=event.block.height,
        )

    def _penalty_undone(self, place: _Place, event: PenaltyDisconnected) -> Iterable[Notice]:
        one = self.breaches.ended_by(place.stream, event.txid)
        if one is None:
            return
        one = msgspec.structs.replace(one, ended_by=None, warned=None)
        self.breaches.put(one)
        text = f"Its block left the chain. The tower sends it again. {self._until(one)}"
        title = f"Penalty unconfirmed again: {sats(one.value)}"
        yield self._about(place, one, "penalty_disconnected", "ticket", title, text, event.txid)

    def _settled(self, place: _Place, event: SettleConfirmed) -> Iterable[Notice]:
        """Whether it means a loss is told by the alert that the log raises with it."""
        one = self.breaches.get(place.stream, event.commit_txid)
        if one is not None:
            self.breaches.put(msgspec.structs.replace(one, ended_by=event.txid))
        return ()

    def _settle_undone(self, place: _Place, event: SettleDisconnected) -> Iterable[Notice]:
        one = self.breaches.ended_by(place.stream, event.txid)
        if one is not None:
            self.breaches.put(msgspec.structs.replace(one, ended_by=None, warned=None))
        return ()

    def _soft_final(self, place: _Place, event: SoftFinal) -> Iterable[Notice]:
        one = self.breaches.ended_by(place.stream, event.txid)
        if one is not None:
            text = f"{event.depth} blocks deep."
            yield self._about(place, one, "penalty_settling", "info", "Penalty is deep", text, event.txid)

    # --- ends and closes ----------------------------------------------------------------------------------------

    def _resolved(self, place: _Place, event: ChannelResolved) -> Iterable[Notice]:
        one = self.breaches.ended_by(place.stream, event.txid)
        self.breaches.forget(place.stream)
        severity, kind, title = _ENDS.get(event.outcome, ("info", "channel_resolved", "Channel resolved"))
        yield self._notice(
            place,
            kind,
            severity,
            title if one is None else f"{title}: {sats(one.value)}",
            f"{event.depth} blocks deep: outcome {event.outcome.name.lower().replace('_', ' ')}. Nothing to do.",
            txid=event.txid,
            sats=None if one is None else one.value,
            height=event.block.height,
        )

    def _spend_confirmed(self, place: _Place, event: SpendConfirmed) -> Iterable[Notice]:
        if event.kind in _CLOSES:
            severity, kind, title = _CLOSES[event.kind]
            text = f"In block {event.block.height:,}. The tower looks after the rest. Nothing to do."
            yield self._notice(
                place,
                kind,
                severity,
                title,
                text,
                txid=event.txid,
                sequence=event.sequence,
                height=event.block.height,
            )

    def _double_spent(self, place: _Place, event: FundingDoubleSpent) -> Iterable[Notice]:
        text = "Another transaction took the coins of the funding. The channel is void: accept nothing over it."
        yield self._notice(
            place,
            "funding_double_spent",
            "page",
            "Funding was double-spent",
            text,
            act=True,
            alert="WatchtowerUnexpectedSpend",
            txid=event.conflict,
            height=event.block.height,
        )

    def _registered(self, place: _Place, _event: ChannelRegistered) -> Iterable[Notice]:
        yield self._notice(place, "channel_registered", "info", "Channel registered", "The tower watches it.")

    # --- conditions ---------------------------------------------------------------------------------------------

    def _alert_raised(self, place: _Place, event: AlertRaised) -> Iterable[Notice]:
        meaning = ALERTS.get(event.kind, UNKNOWN_ALERT)
        yield self._notice(
            place,
            event.kind.name.lower(),
            meaning.severity,
            meaning.title,
            meaning.text,
            status="begins",
            act=meaning.act,
            alert=meaning.alert,
            txid=event.txid,
            sequence=event.sequence,
            height=event.height,
        )

    def _alert_cleared(self, place: _Place, event: AlertCleared) -> Iterable[Notice]:
        meaning = ALERTS.get(event.kind, UNKNOWN_ALERT)
        title, text = f"Over: {meaning.title}", "The condition ended. Nothing to do."
        kind = event.kind.name.lower()
        yield self._notice(place, kind, meaning.severity, title, text, status="ends", height=event.height)

    def _restored(self, place: _Place, _event: StoreRestored) -> Iterable[Notice]:
        text = "The tower goes on with an older copy of its log. Owners' programs upload what it lacks."
        alert = "WatchtowerNotReadyCritical"
        yield self._notice(place, "store_restored", "ticket", "Log was restored", text, alert=alert)

    # --- the chain ----------------------------------------------------------------------------------------------

    def _connected(self, place: _Place, event: BlockConnected | CursorStarted) -> Iterable[Notice]:
        self.tip, self._undone = event.block.height, 0
        for one in list(self.breaches):
            step = due_warning(one, self.tip, self.deadline_blocks)
            if step is not None:
                self.breaches.put(msgspec.structs.replace(one, warned=step))
                yield self._warning(place, one)

    def _disconnected(self, place: _Place, event: BlockDisconnected) -> Iterable[Notice]:
        self.tip, self._undone = event.parent.height, self._undone + 1
        if self._undone != DEEP:
            return
        yield self._notice(
            place,
            "deep_reorg",
            "page",
            "Deep reorganization",
            f"{DEEP} or more blocks left the chain. The tower follows; look at the node and at what you took as paid.",
            act=True,
            alert="WatchtowerDeepReorg",
            height=event.parent.height,
        )

    def _warning(self, place: _Place, one: Tracked) -> Notice:
        left = (one.deadline or 0) - self.tip
        state = "The penalty is in the mempool" if one.sent else "No node has accepted a penalty"
        how = f"{blocks(left)} left" if left >= 0 else f"passed {blocks(-left)} ago"
        text = f"{state} and no block has it. Deadline {one.deadline:,}: {how}. Look at node and fees."
        title = f"Deadline near, {how}: {sats(one.value)}"
        return self._about(place, one, "deadline_approaching", "page", title, text, act=True)

    # --- words --------------------------------------------------------------------------------------------------

    def _until(self, one: Tracked) -> str:
        if one.deadline is None:
            return "No deadline yet."
        return f"Deadline {one.deadline:,}: {blocks(max(one.deadline - self.tip, 0))} left."

    def _about(
        self,
        place: _Place,
        one: Tracked,
        kind: str,
        severity: Severity,
        title: str,
        text: str,
        txid: bytes | None = None,
        *,
        act: bool = False,
    ) -> Notice:
        return self._notice(
            place,
            kind,
            severity,
            title,
            text,
            act=act,
            alert="WatchtowerBreachDeadlineAtRisk" if kind == "deadline_approaching" else "WatchtowerBreachOpen",
            txid=txid or one.txid,
            sequence=one.sequence,
            sats=one.value,
            height=one.height,
            deadline=one.deadline,
            blocks_left=None if one.deadline is None else one.deadline - self.tip,
            stream=one.stream,
        )

    def _notice(
        self,
        place: _Place,
        kind: str,
        severity: Severity,
        title: str,
        text: str,
        *,
        alert: str = "",
        txid: bytes | None = None,
        stream: str = "",
        **facts: Any,
    ) -> Notice:
        channel = stream or (place.stream if is_channel(place.stream) else "")
        shown = None if txid is None else display(txid)
        return Notice(
            id=notice_id(place.log_id, place.id, place.at, kind, channel, shown),
            kind=kind,
            severity=severity,
            at=place.at // 1_000_000,
            title=title,
            text=f"Channel {channel}: {text}" if channel else text,
            runbook_url=runbook_url(alert) if alert else "",
            channel=channel or None,
            txid=shown,
            **facts,
        )


def is_channel(stream: str) -> bool:
    """Whether a stream is the history of one channel, and so a name that commands take."""
    return len(stream) == STREAM_LENGTH and stream[0] == "c"


STREAM_LENGTH = 23
"""Characters of a channel's stream: its letter and 16 bytes."""
