"""Descriptors for tests: a few known ones, and random ones of every degree of sanity."""

from __future__ import annotations

from hashlib import sha256
from random import Random

from domain.contract.keys import public_key

KEYS = tuple(public_key(sha256(b"descriptor key %d" % number).digest()).hex() for number in range(12))
A, B, C = KEYS[:3]
DIGEST = sha256(b"preimage").hexdigest()
NOBODY = "50929b74c1a04954b78b4b6035e97a5e078a5a0f28ec96d547bfee9ace803ac0"
"""The point of BIP-341 whose private key nobody has."""


def xonly(key: str) -> str:
    """The key as tapscript writes it."""
    return key[2:]


class Composer:
    """Writes random expressions that are mostly well typed, and sometimes not."""

    def __init__(self, seed: int, *, tap: bool) -> None:
        self._random = Random(seed)
        self._tap = tap
        self._unused = list(KEYS)
        self._random.shuffle(self._unused)

    def key(self) -> str:
        """A fresh key, at times one that was used before."""
        again = not self._unused or self._random.random() < 0.03
        key = self._random.choice(KEYS) if again else self._unused.pop()
        return xonly(key) if self._tap else key

    def lock(self) -> str:
        """A relative or absolute lock, nearly always by height."""
        by_time = self._random.random() < 0.08
        number = self._random.choice((1, 16, 17, 144, 65_535))
        if self._random.random() < 0.5:
            return f"older({number + 4_194_304 if by_time else number})"
        return f"after({500_000_000 + number if by_time else 800_000 + number})"

    def several(self) -> str:
        """k of n keys."""
        count = self._random.randint(1, 3)
        keys = ",".join(self.key() for _ in range(count))
        return f"{'multi_a' if self._tap else 'multi'}({self._random.randint(1, count)},{keys})"

    def signature(self) -> str:
        """Something that can be left unsatisfied."""
        return self._random.choice((f"pk({self.key()})", f"pkh({self.key()})", self.several()))

    def base(self, depth: int) -> str:
        """An expression of type B."""
        if depth == 0:
            simple = (self.signature(), self.signature(), self.lock(), f"sha256({DIGEST})", f"hash160({DIGEST[:40]})")
            return self._random.choice(simple)
        deeper = depth - 1
        forms = (
            lambda: f"and_v(v:{self.signature()},{self.base(deeper)})",
            lambda: f"and_v({self.verified(deeper)},{self.base(deeper)})",
            lambda: f"or_d({self.signature()},{self.base(deeper)})",
            lambda: f"or_i({self.base(deeper)},{self.base(deeper)})",
            lambda: f"andor({self.signature()},{self.base(deeper)},{self.base(deeper)})",
            lambda: f"and_b(pk({self.key()}),s:pk({self.key()}))",
            lambda: f"thresh(2,pk({self.key()}),s:pk({self.key()}),sln:{self.lock()})",
            lambda: f"and_v(v:pk({self.key()}),0)" if self._random.random() < 0.2 else self.base(0),
        )
        return self._random.choice(forms)()

    def verified(self, depth: int) -> str:
        """An expression of type V."""
        return f"v:{self.base(depth)}" if depth == 0 else f"and_v(v:{self.signature()},{self.verified(depth - 1)})"

    def descriptor(self) -> str:
        """A whole descriptor."""
        if not self._tap:
            return f"wsh({self.base(self._random.randint(0, 2))})"
        leaves = [self.base(self._random.randint(0, 1)) for _ in range(self._random.randint(0, 2))]
        tree = f",{leaves[0]}" if len(leaves) == 1 else f",{{{leaves[0]},{leaves[1]}}}" if leaves else ""
        return f"tr({self.key()}{tree})"


def random_descriptor(seed: int) -> str:
    """One of either kind, the same for a seed."""
    return Composer(seed, tap=seed % 2 == 1).descriptor()


TPUB = "tpubD6NzVbkrYhZ4WaWSyoBvQwbpLkojyoTZPRsgXELWz3Popb3qkjcJyJUGLnL4qHHoQvao8ESaAstxYSnhyswJ76uZPStJRJCTKvosUCJZL5B"
WIF = "cVpF924EspNh8KjYsfhgY96mmxvT6DgdWiTYMtMjuM74hJaU5psW"
TPRV = "tprv8ZgxMBicQKsPd7Uf69XL1XwhmjHopUGep8GuEiJDZmbQz6o58LninorQAfcKZWARbtRtfnLcJ5MQ2AtHcQJCCRUcMRvmDUjyEmNUWwx8UbK"
"""Published test keys of the regtest network; they guard nothing."""

SANE = {
    "key": f"wpkh({A})",
    "key with origin": f"wpkh([d34db33f/44'/0'/0']{A})",
    "extended key": f"wpkh({TPUB}/0/1)",
    "threshold with lock": f"wsh(thresh(2,pk({A}),s:pk({B}),sln:after(800000)))",
    "several keys": f"wsh(multi(2,{A},{B},{C}))",
    "sorted keys": f"wsh(sortedmulti(2,{B},{A}))",
    "hash and key": f"wsh(and_v(v:pk({A}),sha256({DIGEST})))",
    "key hash": f"wsh(pkh({A}))",
    "taproot key": f"tr({xonly(A)})",
    "taproot leaf": f"tr({xonly(A)},and_v(v:pk({xonly(B)}),older(10)))",
    "taproot tree": f"tr({xonly(A)},{{pk({xonly(B)}),multi_a(1,{xonly(C)},{xonly(KEYS[3])})}})",
}

INSANE = {
    "no signature": (f"wsh(sha256({DIGEST}))", "asks for no signature"),
    "no signature in one branch": (f"wsh(or_i(pk({A}),older(10)))", "asks for no signature"),
    "no signature in a leaf": (f"tr({xonly(A)},older(10))", "asks for no signature"),
    "mixed locks": (f"wsh(and_v(v:pk({A}),and_v(v:after(100),after(600000000))))", "mixes locks"),
    "key twice": (f"wsh(and_v(v:pk({A}),pk({A})))", "occurs twice"),
    "never true": (f"wsh(and_v(v:pk({A}),0))", "never be satisfied"),
    "too many operations": (f"wsh({'n' * 300}:pk({A}))", "refused"),
    "branch in a leaf": (f"tr({xonly(A)},or_d(pk({xonly(B)}),pk({xonly(C)})))", "give each branch a leaf"),
    "branch in a wrapper": (
        f"tr({xonly(A)},thresh(2,pk({xonly(B)}),s:pk({xonly(C)}),sln:after(9)))",
        "give each branch a leaf",
    ),
    "badly typed": (f"wsh(and_b(pk({A}),pk({B})))", "cannot be read"),
}
"""What a node refuses too."""

REFUSED_TEXTS = {
    "empty": ("", "1 … 512"),
    "too long": (f"wsh(pk({A}))" + " " * 512, "1 … 512"),
    "checksum": (f"wpkh({A})#8zl0zxma", "leave out #"),
    "space": (f"wsh(pk( {A}))", "spaces"),
    "not ASCII": (f"wsh(pk({A}é))", "ASCII"),
    "control character": (f"wsh(pk({A}\x00))", "ASCII"),
    "legacy": (f"pkh({A})", "witness program"),
    "nested": (f"sh(wsh(pk({A})))", "witness program"),
    "bare": (f"pk({A})", "witness program"),
    "raw": ("raw(51)", "witness program"),
    "address": ("addr(bcrt1qqqqqq)", "witness program"),
    "combo": (f"combo({A})", "witness program"),
    "rawtr": (f"rawtr({xonly(A)})", "witness program"),
    "capital letters": (f"WSH(pk({A}))", "witness program"),
    "private key": (f"wpkh({WIF})", "private key"),
    "extended private key": (
        "wpkh(tprv8ZgxMBicQKsPd7Uf69XL1XwhmjHopUGep8GuEiJDZmbQz6o58LninorQAfcKZWARbtRtfnLcJ5MQ2AtHcQJCCRUcMRvmDUjyEmNUWwx8UbK/0)",
        "private key",
    ),
    "wildcard": (f"wpkh({TPUB}/0/*)", "many scripts"),
    "several paths": (f"wpkh({TPUB}/<0;1>/1)", "many scripts"),
    "hardened step": (f"wpkh({TPUB}/0'/1)", "hardened"),
    "musig": (f"tr(musig({A},{B}))", "aggregate key"),
    "text behind": (f"wsh(pk({A}))x", "behind"),
    "not closed": (f"wsh(pk({A})", "not closed"),
    "brackets crossed": (f"wsh(pk({A}}}", "missing"),
    "nothing inside": ("wsh()", "belongs"),
    "too deep": ("wsh(" + "a(" * 80 + "0" + ")" * 81, "nested deeper"),
    "key not on the curve": ("wpkh(02" + "00" * 32 + ")", "on the curve"),
    "uncompressed key": ("wpkh(04" + A[2:] * 2 + ")", "compressed"),
    "x-only key in wsh": (f"wsh(pk({xonly(A)}))", "cannot be read"),
    "lock of zero": (f"wsh(and_v(v:pk({A}),after(0)))", "cannot be read"),
    "relative lock that is none": (f"wsh(and_v(v:pk({A}),older(65536)))", "shorter than it reads"),
    "relative lock that is cut": (f"tr({xonly(A)},and_v(v:pk({xonly(B)}),older(70000)))", "shorter than it reads"),
    "relative lock of no seconds": (f"wsh(and_v(v:pk({A}),older(4194304)))", "shorter than it reads"),
    "relative lock with other bits": (f"wsh(and_v(v:pk({A}),older(8388618)))", "shorter than it reads"),
    "key of nobody": (f"tr({NOBODY})", "never be satisfied"),
    "lock too large": (f"wsh(and_v(v:pk({A}),older(2147483648)))", "cannot be read"),
    "unknown fragment": (f"wsh(both(pk({A}),pk({B})))", "cannot be read"),
}
