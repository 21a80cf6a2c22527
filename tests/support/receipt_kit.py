"""A tower's log with states of a channel, and receipts, true or not."""

from __future__ import annotations

from pathlib import Path

import msgspec

from domain.contract.hashes import sha256
from domain.contract.receipts import SignedReceipt
from domain.units import Side
from tests.support.parties import Pair, open_pair
from tests.support.stores import new_log, note
from tests.support.towers import TOWER_KEY, Bench
from watchtower.channels.accept_state import accept_state
from watchtower.channels.receipts import reissue
from watchtower.client.tower.receipt_folder import ReceiptFolder
from watchtower.store.create import open_store
from watchtower.store.writer import LogWriter

OTHER = sha256(b"other")


class Kit:
    """A tower's log with three states of a channel, and the receipts that it gave for them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pair: Pair = open_pair()
        self.pair.updates(3)
        self.path = new_log(directory)
        with open_store(self.path) as store:
            tower = Bench(directory, store=store)  # type: ignore[arg-type]
            tower.registered(self.pair)
            stream = tower.context.channels.stream_of(self.pair.params.proposal_id)
            told = [
                accept_state(tower.context, stream, self.pair.update_request(Side.B, sequence)).answer.receipt
                for sequence in (1, 2, 3)
            ]
            self.receipts = [reissue(tower.context, stream, "registration")]
            self.receipts += [each.signed() for each in told if each is not None]
            self.more(store)

    def more(self, store: LogWriter) -> None:
        """What the log holds behind the states."""
        store.append([note("k" + "0" * 22, 1)])

    def proof(self, number: int = 3, **changes: object) -> str:
        """A receipt as text; with changes one that the tower signed although it is not true."""
        if not changes:
            return self.receipts[number].encode().hex()
        return self.lie(number, **changes).encode().hex()

    def lie(self, number: int = 3, **changes: object) -> SignedReceipt:
        """A receipt that says something else, with a good signature of the tower."""
        return TOWER_KEY.receipt(msgspec.structs.replace(self.receipts[number].read(), **changes).encode())


def stored(directory: Path, proof: str, *, raw: bool = False) -> str:
    """A file with a receipt."""
    path = directory / "receipt"
    path.write_bytes(bytes.fromhex(proof) if raw else proof.encode() + b"\n")
    return str(path)


def kept(directory: Path, *receipts: SignedReceipt) -> str:
    """A directory with a file of receipts, as clients keep them."""
    folder = ReceiptFolder(directory / "receipts")
    for signed in receipts:
        folder.add(signed)
    return str(directory / "receipts")
