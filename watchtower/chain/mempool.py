"""Early warnings: who spends our outpoints in the mempool, and who stopped doing so.

There is no mirror of the mempool: the node is asked per outpoint. What the door-bell heard only decides which
outpoints are asked first; after each block and each gap all of them are swept in slices between passes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from domain.chain import BlockRef, OutPoint, Txid
from domain.channel import Channel, Spend
from domain.classifier import classify, encoded_number, possible_spends
from domain.conditional import ConditionalOutput, conditional_outputs, preimages_learned
from domain.errors import MalformedInput
from domain.events import Payload, Source, SpendKind
from domain.spending import funding_confirmed, funding_seen, reclassified, spend_gone, spend_seen
from domain.transaction import Transaction
from watchtower.chain.facts import Facts
from watchtower.chain.follow import Follower
from watchtower.chain.needs import Needs
from watchtower.ports import NodeError, PendingFunding, StoreConflict, Utxo

SLICE = 1_000
"""Outpoints asked in one call: about 10 ms of the node's time and ours, which a breach may have to wait."""

PUT_OFF_LIMIT = 20
"""Looks in a row that may be short because something was touched: an attacker must not put the sweep off for ever."""


class Hints(msgspec.Struct, frozen=True):
    """What the door-bell heard: outpoints that were touched, signed bytes by txid, whether something may be missing."""

    touched: frozenset[OutPoint] = frozenset()
    captured: Mapping[bytes, bytes] = {}
    full_sweep: bool = False


class MempoolWatch:
    """Compares the mempool with what the log says about it. Called from the pass thread only."""

    def __init__(self, needs: Needs, follower: Follower) -> None:
        self._node = needs.node
        self._store = needs.store
        self._channels = needs.channels
        self._models = needs.models
        self._follower = follower
        self._conditions = needs.conditions
        self._clock = needs.clock
        self._swept_to: OutPoint | None = OutPoint(b"")
        self._sweep_again = False
        self._funding_asked_to = ""
        self._put_off = 0

    @property
    def sweep_pending(self) -> bool:
        """True while a full sweep has slices left, or a short look left it out: another pass should follow soon."""
        return self._swept_to is not None or self._put_off > 0

    def look(self, hints: Hints) -> bool:
        """One look: touched outpoints, all contested channels, one slice of the sweep and of the fundings.

        When something was touched only that is looked at, and everything else in the next look: the answer to a
        breach must not wait. Returns whether the look was complete.
        """
        if hints.full_sweep:
            self._ask_for_sweep()
        short = bool(hints.touched) and self._put_off < PUT_OFF_LIMIT
        self._put_off = self._put_off + 1 if short else 0
        wanted = {o for o in hints.touched if self._streams(o)}
        if short:
            self._compare(sorted(wanted), hints.captured)
            return False
        for stream in self._models.contested():
            channel = self._channels.load(stream)
            if channel.confirmed_spend is None:
                wanted.add(channel.params.funding_outpoint)
        wanted.update(OutPoint(o) for o in self._conditions)
        part = [] if self._swept_to is None else self._models.funding_outpoints(self._swept_to, SLICE)
        wanted.update(part)
        self._compare(sorted(wanted), hints.captured)
        self._swept(part)  # only now: a slice that the node did not answer is asked again
        self._look_for_funding()
        self.classify_again()
        return True

    def classify_again(self) -> None:
        """Judge all present spends with what is known now; asks no node. Raises `StoreError`."""
        for stream in self._models.contested():
            self._classify_again(stream)

    def _ask_for_sweep(self) -> None:
        """Begin a sweep, or have another one follow that which runs: a flood must not keep it at its beginning."""
        if self._swept_to is None:
            self._swept_to = OutPoint(b"")
        self._sweep_again = self._swept_to != b""

    def _swept(self, part: Sequence[OutPoint]) -> None:
        if self._swept_to is None:
            return
        if len(part) == SLICE:
            self._swept_to = part[-1]
            return
        self._swept_to = OutPoint(b"") if self._sweep_again else None
        self._sweep_again = False

    def _streams(self, outpoint: bytes) -> tuple[str, ...]:
        condition = self._conditions.get(outpoint)
        known = self._models.streams_of(outpoint)
        return known if condition is None else (*known, condition)

    def _compare(self, outpoints: list[OutPoint], captured: Mapping[bytes, bytes]) -> None:
        if not outpoints:
            return
        spenders = self._node.mempool_spenders(outpoints)
        for stream, mine in self._by_stream(spenders).items():
            self._record(stream, mine, spenders, captured)
        # Absence is news only where a spend is known, and it may have been mined a moment ago: only a tip that is
        # our cursor proves absence.
        contested = set(self._models.contested())
        absent = self._by_stream(outpoint for outpoint in outpoints if outpoint not in spenders)
        gone = {stream: mine for stream, mine in absent.items() if stream in contested}
        if gone and self._node.best_hash() == self._follower.cursor.hash:
            for stream, mine in gone.items():
                self._record(stream, mine, spenders, captured)

    def _by_stream(self, outpoints: Iterable[OutPoint]) -> dict[str, list[OutPoint]]:
        found: dict[str, list[OutPoint]] = {}
        for outpoint in outpoints:
            for stream in self._streams(outpoint):
                found.setdefault(stream, []).append(outpoint)
        return found

    def _record(
        self,
        stream: str,
        outpoints: Iterable[OutPoint],
        spenders: Mapping[OutPoint, Txid],
        captured: Mapping[bytes, bytes],
    ) -> None:
        while True:
            facts = Facts(self._channels)
            for outpoint in outpoints:
                self._collect(facts, stream, outpoint, spenders.get(outpoint), captured)
            if not facts.job:
                return
            try:
                self._store.append(facts.job, chain=True)
            except StoreConflict:
                self._channels.forget(stream)
                continue
            self._models.catch_up()
            return

    def _collect(
        self,
        facts: Facts,
        stream: str,
        outpoint: OutPoint,
        spender: Txid | None,
        captured: Mapping[bytes, bytes],
    ) -> None:
        channel = facts.channel(stream)
        taken: list[ConditionalOutput] = []
        tip, now = self._follower.cursor.height, self._clock.wall_microseconds()
        if outpoint == channel.params.funding_outpoint:
            known = channel.mempool_spend
            if spender is None:
                if known is not None:
                    facts.add(stream, spend_gone(channel, known.txid, None, tip, now))
                return
            if known is not None and known.txid == spender:
                return
        elif spender is None or not (taken := self._taken(channel, outpoint)):
            return
        raw = captured.get(spender) or self._node.mempool_transaction(spender)
        if raw is None:
            return
        tx = _named(raw, spender)
        if outpoint != channel.params.funding_outpoint:
            facts.add(stream, preimages_learned(channel, taken, tx, Source.MEMPOOL, now))
            return
        own = self._channels.own_commitment_txid(channel, encoded_number(channel.params, tx))
        verdict = classify(channel, tx, own)
        facts.add(stream, spend_seen(channel, tx, raw, verdict, Source.MEMPOOL, tip, now))

    def _taken(self, channel: Channel, outpoint: OutPoint) -> list[ConditionalOutput]:
        outputs = conditional_outputs(channel, self._channels.closing_state(channel))
        return [output for output in outputs if output.outpoint == outpoint]

    def _classify_again(self, stream: str) -> None:
        """A secret that was uploaded after the close turns an honest close into a breach."""
        channel = self._channels.load(stream)
        spend = channel.present_spend
        if spend is None or spend.kind in _SETTLED_VERDICTS:
            return
        tx = _transaction_of(channel, spend)
        if tx is None:
            return
        own = self._channels.own_commitment_txid(channel, encoded_number(channel.params, tx))
        tip, now = self._follower.cursor.height, self._clock.wall_microseconds()
        events = reclassified(channel, spend, tx, classify(channel, tx, own), tip, now)
        self._append(stream, events)

    def _look_for_funding(self) -> None:
        """Funding outputs that are not confirmed yet: in the mempool, or in a block before the registration."""
        pending = self._pending_slice()
        if not pending:
            return
        found = self._node.utxos([p.outpoint for p in pending], include_mempool=True)
        for entry, utxo in zip(pending, found, strict=True):
            if utxo is not None:
                self._record_funding(entry.stream, utxo)

    def _pending_slice(self) -> list[PendingFunding]:
        """All of them, or the next ones in a circle: each look costs the same however many wait for their funding."""
        pending = self._models.pending_funding()
        if len(pending) <= SLICE:
            return pending
        start = bisect_right(pending, self._funding_asked_to, key=lambda entry: entry.stream)
        found = (pending[start:] + pending[:start])[:SLICE]
        self._funding_asked_to = found[-1].stream
        return found

    def _record_funding(self, stream: str, utxo: Utxo) -> None:
        channel = self._channels.load(stream)
        now = self._clock.wall_microseconds()
        if utxo.confirmations == 0:
            known = channel.funding_tx is not None
            raw = None if known else self._node.mempool_transaction(channel.params.funding_txid)
            if raw is not None:
                _named(raw, channel.params.funding_txid)  # what is once in the log is read for ever
            events = funding_seen(channel, raw, Source.MEMPOOL, now)
        else:
            block = self._block_of(utxo)
            events = [] if block is None else funding_confirmed(channel, block, now)
        self._append(stream, events)

    def _append(self, stream: str, events: list[Payload]) -> None:
        if not events:
            return
        facts = Facts(self._channels)
        facts.add(stream, events)
        try:
            self._store.append(facts.job, chain=True)
        except StoreConflict:
            self._channels.forget(stream)  # asked again in the next pass
        self._models.catch_up()

    def _block_of(self, utxo: Utxo) -> BlockRef | None:
        """The block of a confirmed output, if the answer is about our cursor's tip."""
        cursor = self._follower.cursor
        if utxo.best_block != cursor.hash:
            return None
        height = cursor.height - utxo.confirmations + 1
        block_hash = self._node.hash_at(height)
        # A height names a block only as long as the chain stands still.
        if block_hash is None or self._node.best_hash() != cursor.hash:
            return None
        return BlockRef(height, block_hash)


def _named(raw: bytes, txid: bytes) -> Transaction:
    """The transaction with this txid; raises `NodeError` if the bytes are another one, or none."""
    try:
        tx = Transaction.parse(raw)
    except MalformedInput as error:
        raise NodeError(f"the node handed over a transaction that cannot be read ({error}); try again") from error
    if tx.txid != txid:
        raise NodeError("the node handed over another transaction than it named; try again")
    return tx


def _transaction_of(channel: Channel, spend: Spend) -> Transaction | None:
    """From its bytes; one that was found by its txid alone is computed again."""
    if spend.raw is not None:
        return Transaction.parse(spend.raw)
    return next((tx for tx in possible_spends(channel) if tx.txid == spend.txid), None)


_SETTLED_VERDICTS = frozenset({SpendKind.BREACH, SpendKind.COOP, SpendKind.OWN_CLOSE, SpendKind.SELF_BREACH})
"""Verdicts that no later secret of the counterparty can change."""
