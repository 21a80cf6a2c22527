"""Fee children by themselves: own closes get into a block although their fixed fee is too small for the market.

At each new height every commitment and settlement that waits is looked at: does it stand in the mempool, with which
feerate, until when is it needed? What it needs is decided in `domain.fee_child`; the child is durable in the party's
log before it is sent, so that the bid never falls and a restart sends the same one. Nothing here stops a close: what
fails is logged, told by `told`, and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Protocol, Self

import msgspec

from domain.chain import OutPoint, display
from domain.fee_child import TARGETS, Bid, Child, Standing, Urgency, child_bid, most, raised
from domain.fees import Market
from domain.transaction import Transaction
from watchtower.client.errors import ConfigurationError
from watchtower.client.party.fees import FeeParent
from watchtower.client.party.party import ChannelParty
from watchtower.client.protocol.fee_log import FeeChild
from watchtower.client.tower.payment_tower import PASSING
from watchtower.client.types import ProtocolState
from watchtower.client.wallet import FeeTooLow, FeeWallet, FundingWallet, Pooled
from watchtower.ports import NodeError

RETRY_SECONDS = 5.0

CHILD_VSIZE = 152
"""vB of a child whose coin and change are P2WPKH; one that turns out larger is made once more, with a fee that fits."""

TROUBLE = (*PASSING, NodeError)
"""What another look may find gone; `WalletError` is among them."""

_log = logging.getLogger(__name__)


class FeeChildPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Whether fee children are made (`attach`), and the most that one may pay in satoshi (`max_fee`).

    `preemptive` is that of the `ForwardingPolicy`: then outgoing HTLCs are waited for in shorter time.
    """

    attach: bool = True
    max_fee: int = 100_000
    preemptive: bool = False

    def __post_init__(self) -> None:
        """Raise `ConfigurationError` for a negative limit."""
        if self.max_fee < 0:
            raise ConfigurationError(f"max_fee is at least 0 sat, got {self.max_fee}")


class FeeChildInfo(msgspec.Struct, frozen=True):
    """The newest child of a commitment or settlement; txids as block explorers show them, `fee` in satoshi.

    Together with its parent it pays `feerate` (sat/vB); it was made at `height`.
    """

    parent_txid: str
    txid: str
    fee: int
    feerate: float
    height: int

    @classmethod
    def of(cls, child: FeeChild) -> Self:
        """As the log has it."""
        feerate = child.feerate_kvb / 1000
        return cls(display(child.parent_txid), display(child.tx.txid), child.fee, feerate, child.height)


class FeeChildStatus(msgspec.Struct, frozen=True):
    """Result of `get_fee_children`. `trouble` says why the close may stay where it is: no coin, say, or the limit."""

    channel_id: str
    children: tuple[FeeChildInfo, ...]
    trouble: str | None = None


class Tower(Protocol):
    """What is asked of the own tower."""

    async def get_state(self) -> ProtocolState:
        """Height of the chain."""

    async def synchronize(self, channel_id: bytes) -> object:
        """Bring the tower what the party has."""


class FeeChildren:
    """The children of one party's closes. `wallet` is asked for at each look, for it may come later or never."""

    def __init__(
        self,
        tower: Tower,
        party: ChannelParty,
        wallet: Callable[[], FundingWallet | None],
        policy: FeeChildPolicy | None = None,
        *,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._tower, self._party, self._wallet, self._policy = tower, party, wallet, policy or FeeChildPolicy()
        self._retry_seconds = retry_seconds
        self._seen: tuple[int, frozenset[bytes]] | None = None
        self._looking, self._ended = threading.Lock(), threading.Event()
        self._failed: set[bytes] = set()
        self._since: dict[bytes, int] = {}
        self._refused: dict[bytes, tuple[int, int]] = {}
        self._released: set[bytes] = set()
        self.trouble: dict[bytes, str] = {}

    async def run(self) -> None:
        """Look at each new height until cancelled, unless the policy says no; failures are logged and tried again."""
        self._ended = ended = threading.Event()
        try:
            while self._policy.attach:
                try:
                    await self.turn()
                except TROUBLE as error:
                    _log.warning("fee_child_failed about=%s reason=%s", "all", error)
                except Exception as error:  # noqa: BLE001 - the border of the task: closes need their next look
                    _log.exception("fee_child_failed about=%s reason=%s", "all", type(error).__name__)
                await asyncio.sleep(self._retry_seconds)
        finally:
            ended.set()  # a look in its thread ends behind the parent that it is at

    async def turn(self) -> None:
        """Look, if a channel closes and the height is a new one, or another transaction waits, or something failed."""
        wallet = self._wallet()
        if not isinstance(wallet, FeeWallet) or not self._party.has_closes:
            return
        height = (await self._tower.get_state()).height
        if height is None:
            return
        parents = await asyncio.to_thread(self._party.fee_parents, height, preemptive=self._policy.preemptive)
        now = height, frozenset(parent.txid for parent in parents)
        if now == self._seen:
            parents = tuple(parent for parent in parents if parent.channel_id in self._failed)
            if not parents:
                return
        for parent in parents:
            if parent.is_unseen:
                with contextlib.suppress(*PASSING):  # before a mempool has it: the tower must know it for the own one
                    await self._tower.synchronize(parent.channel_id)
        if now != self._seen:
            waiting = {parent.channel_id for parent in parents}
            self._failed &= waiting
            self.trouble = {name: reason for name, reason in self.trouble.items() if name in waiting}
        await asyncio.to_thread(self.look, wallet, parents, height)
        self._seen = now

    def look(self, wallet: FeeWallet, parents: tuple[FeeParent, ...], height: int) -> None:
        """One look at these; of each trouble is remembered and does not keep the others, nor does a mistake.

        A mistake is raised at the end. One look at a time: that of a session that has ended may still be under way.
        """
        ended = self._ended
        mistakes: list[Exception] = []
        with self._looking:
            with contextlib.suppress(*TROUBLE):
                self._tend(wallet)
            for parent in parents:
                if ended.is_set():
                    return
                self._failed.discard(parent.channel_id)
                try:
                    reason = self._serve(wallet, parent, height)
                except Exception as error:  # noqa: BLE001 - the border of one parent's work: the others need theirs
                    self._failed.add(parent.channel_id)
                    reason = str(error) if isinstance(error, TROUBLE) else type(error).__name__
                    mistakes += [] if isinstance(error, TROUBLE) else [error]
                self._tell(parent.channel_id, reason)
        if mistakes:
            raise mistakes[0]

    def told(self, channel_id: bytes) -> FeeChildStatus:
        """The children of a channel as the log has them, and what keeps a better one from being sent."""
        children = self._party.channel(channel_id).fee_children
        return FeeChildStatus(
            channel_id.hex(), tuple(FeeChildInfo.of(child) for child in children), self.trouble.get(channel_id)
        )

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, channel_id: bytes, reason: str | None) -> None:
        if reason is None:
            self.trouble.pop(channel_id, None)
        elif self.trouble.get(channel_id) != reason:
            self.trouble[channel_id] = reason
            _log.warning("fee_child_failed about=%s reason=%s", f"channel:{channel_id.hex()[:16]}", reason)

    def _serve(self, wallet: FeeWallet, parent: FeeParent, height: int) -> str | None:
        """Send a child if the parent needs another one than it has; what is wrong, None if nothing is."""
        if not wallet.is_unspent(parent.outpoint, mempool=False):
            return None  # it is in a block, or something else is
        pooled = wallet.pooled(parent.txid)
        if pooled is None and not (parent.is_own and wallet.is_unspent(parent.outpoint, mempool=True)):
            return None  # another spend stands in the mempool, and no child helps against it
        sight = self._sight(wallet, parent, pooled, height)
        wanted = sight.bid(sight.child_vsize)
        if wanted.fee is not None:
            raw = None if pooled is not None else self._party.fee_parent_raw(parent)  # before a coin is locked for it
            self._send(wallet, sight, raw, self._child(wallet, sight, wanted.fee))
        return f"the child of {display(parent.txid)} would need more than {sight.cap} sat" if wanted.is_capped else None

    def _sight(self, wallet: FeeWallet, parent: FeeParent, pooled: Pooled | None, height: int) -> _Sight:
        known = self._party.fee_child(parent.txid)
        standing = None if pooled is None else _standing(pooled, known)
        if standing is not None and standing.child is not None and standing.child.is_own:
            self._refused.pop(parent.txid, None)
        since = self._since.setdefault(parent.txid, height if known is None else min(known.height, height))
        return _Sight(
            parent=parent,
            known=known,
            standing=standing,
            market=wallet.market(TARGETS),
            urgency=Urgency(height, parent.stake.confirm_by, is_late=height > since),
            cap=most(parent.stake.balance, parent.stake.at_risk, self._policy.max_fee),
            refused=self._too_low(parent, height),
        )

    def _too_low(self, parent: FeeParent, height: int) -> int | None:
        """The fee that the node found too low at an earlier height, once: one step for each block."""
        fee, since = self._refused.get(parent.txid, (0, height))
        if since >= height:
            return None
        del self._refused[parent.txid]
        return fee

    def _child(self, wallet: FeeWallet, sight: _Sight, fee: int) -> FeeChild:
        """The child to send: the known one while its fee is enough and its coin is there, else a new one, stored."""
        known, taken = sight.known, self._taken(sight.parent)
        if known is None or known.coin in taken:
            return self._new(wallet, sight, fee, None, taken)
        if fee == known.fee and all(wallet.is_unspent(known.coin, mempool=each) for each in (False, True)):
            wallet.lock(known.coin)
            self._released.discard(known.raw)
            return known
        return self._new(wallet, sight, fee, known.tx, taken)

    def _taken(self, parent: FeeParent) -> set[OutPoint]:
        """Coins that fund channels or belong to other children: a coin that was free for a while may be one of them."""
        others = (each for each in self._party.fee_children() if each.parent_txid != parent.txid)
        return {*self._party.funding_coins(), *(each.coin for each in others if each.raw not in self._released)}

    def _new(
        self, wallet: FeeWallet, sight: _Sight, fee: int, before: Transaction | None, taken: set[OutPoint]
    ) -> FeeChild:
        """A child once it is durable.

        Whatever happens, only the coin of the newest durable child stays locked: else each look would lock another.
        """
        parent, tx = sight.parent, before
        chosen = set() if sight.known is None else {sight.known.coin}
        try:
            raw = wallet.make_child(parent.anchor, fee, sight.cap, before)
            tx = Transaction.parse(raw)
            chosen.add(tx.inputs[1].outpoint)
            if tx.vsize > sight.child_vsize:
                fee = sight.bid(tx.vsize).fee or fee
                raw = wallet.make_child(parent.anchor, fee, sight.cap, tx)
                chosen.add(Transaction.parse(raw).inputs[1].outpoint)
            return self._party.note_fee_child(parent, raw, fee, sight.urgency.height)
        finally:
            durable = self._party.fee_child(parent.txid)
            for coin in chosen - taken - (set() if durable is None else {durable.coin}):
                with contextlib.suppress(*TROUBLE):
                    wallet.unlock(coin)

    def _send(self, wallet: FeeWallet, sight: _Sight, raw: bytes | None, child: FeeChild) -> None:
        """`raw` is the parent, None if the mempool has it."""
        parent = sight.parent
        try:
            if raw is None:
                wallet.broadcast(child.raw)
            else:
                wallet.broadcast_package(raw, child.raw)
        except FeeTooLow:
            self._refused.setdefault(parent.txid, (child.fee, sight.urgency.height))
            raise
        self._refused.pop(parent.txid, None)
        name, txid = parent.channel_id.hex()[:16], display(child.tx.txid)
        _log.info("fee_child_sent channel=%s parent=%s txid=%s fee=%d", name, display(parent.txid), txid, child.fee)

    def _tend(self, wallet: FeeWallet) -> None:
        """Locks as they should be: on the coins of what waits, though a restarted node forgot them, and no others.

        Where a block has the parent without its child, the coin is free again, once per child and process, and not if
        something else has it by now.
        """
        taken = set(self._party.funding_coins())
        ended: list[FeeChild] = []
        for child in self._party.fee_children():
            if child.raw in self._released:
                continue
            if not wallet.is_unspent(child.outpoint, mempool=False):
                ended.append(child)
            elif child.coin not in taken:
                taken.add(child.coin)
                wallet.lock(child.coin)
        for child in ended:
            if child.coin not in taken and wallet.is_unspent(child.coin, mempool=True):
                wallet.unlock(child.coin)
            self._released.add(child.raw)


class _Sight(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a bid for one parent depends on; `refused` is a fee that the node found too low before."""

    parent: FeeParent
    known: FeeChild | None
    standing: Standing | None
    market: Market
    urgency: Urgency
    cap: int
    refused: int | None

    @property
    def child_vsize(self) -> int:
        """vB of the next child, as far as is known before it is made."""
        return CHILD_VSIZE if self.known is None else self.known.tx.vsize

    def bid(self, child_vsize: int) -> Bid:
        """What a child of this size should pay."""
        return child_bid(
            parent=self.parent.size,
            child_vsize=child_vsize,
            standing=self.standing,
            last=None if self.known is None else self.known.fee,
            market=self.market,
            urgency=self.urgency,
            cap=self.cap,
            least=0 if self.refused is None else raised(self.refused, child_vsize, self.market),
        )


def _standing(pooled: Pooled, known: FeeChild | None) -> Standing:
    """The newest own child where it stands, else the foreign one that pays most."""
    own = None if known is None else known.tx.txid
    children = [Child(fee, vsize, is_own=txid == own) for txid, fee, vsize in pooled.children]
    child = max(children, key=lambda each: (each.is_own, each.fee), default=None)
    return Standing(pooled.fee, pooled.vsize, child)
