"""Routes, notes, policies, invoices: numbers of protocol 3.5, and everything that is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import MalformedInput
from watchtower.client.payments import ForwardingPolicy, Hop, RouteChannel, least_delta, least_expiry, plan_route
from watchtower.client.payments.invoices import LightningInvoice, read_bolt11
from watchtower.client.payments.routing import MAX_HOPS, decode_note, encode_note

HEIGHT = 800_000
FREE = ForwardingPolicy(base_fee=0, fee_rate=0)
TERMS = ForwardingPolicy(base_fee=2, fee_rate=500)
NAMES = [bytes([number]) * 32 for number in range(1, 30)]

DONATION = (
    "lnbc1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5"
    "rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6twvus8g6rfwvs8qun0dfjkxaq9qrsgq357wnc5r2ueh7ck6q93dj32dlqnls0"
    "87fxdwk8qakdyafkq3yap9us6v52vjjsrvywa6rt52cm9r9zqt8r2t7mlcwspyetp5h2tztugp9lfyql"
)
COFFEE = (
    "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyq"
    "cyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s"
    "06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh"
)
HASH = bytes.fromhex("0001020304050607080900010203040506070809000102030405060708090102")
"""Invoices of BOLT-11's own examples, and the payment hash that all of them have."""


def test_the_deltas_of_the_specification() -> None:
    """370 and 202 blocks between hops with T = 144; 184 and some blocks from now for the last one."""
    assert (370, 202) == (least_delta(144, 144), least_delta(144, 144, preemptive=True))
    assert HEIGHT + 184 + 18 == least_expiry(HEIGHT, 144)
    assert 370 - 144 + 36 == least_delta(144, 36)


def test_a_route_is_planned_from_its_end() -> None:
    """Each hop before adds the fee and the delta of its forwarder."""
    route = plan_route([RouteChannel(n, 144, TERMS) for n in NAMES[:3]], 100_000, HEIGHT)

    assert [100_105, 100_052, 100_000] == [hop.amount for hop in route.hops]
    assert [942, 572, 202] == [hop.expiry - HEIGHT for hop in route.hops]
    assert (100_105, 105) == (route.amount, route.fee)


def test_a_note_carries_the_rest_of_the_route() -> None:
    """The first forwarder reads hops two and three, the second one hop three, the receiver nothing."""
    route = plan_route([RouteChannel(n, 144, FREE) for n in NAMES[:3]], 100_000, HEIGHT)
    assert route.note is not None
    seen = decode_note(route.note)
    onward = encode_note(seen[1:])

    assert route.hops[1:] == seen
    assert onward is not None
    assert route.hops[2:] == decode_note(onward)
    assert encode_note(()) is None


@given(st.binary(max_size=5_000))
def test_no_bytes_break_a_note(raw: bytes) -> None:
    """A peer may send anything: it is read or refused."""
    try:
        hops = decode_note(raw)
    except MalformedInput:
        hops = ()
    assert len(hops) <= MAX_HOPS


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"v":2,"hops":[{"channel":"' + b"00" * 32 + b'","amount":1,"expiry":1}]}', "version 1"),
        (b'{"v":1,"hops":[]}', "version 1"),
        (b'{"v":1,"hops":[{"channel":"' + b"00" * 32 + b'","amount":0,"expiry":1}]}', "out of range"),
        (b'{"v":1,"hops":[],"more":1}', "cannot be read"),
        (b" " * 4097, "at most 4096"),
    ],
)
def test_notes_that_are_refused(raw: bytes, reason: str) -> None:
    """The reason is said."""
    with pytest.raises(MalformedInput, match=reason):
        decode_note(raw)


@pytest.mark.parametrize(
    ("channels", "amount", "reason"),
    [
        ([], 1, "1 … 20 channels"),
        ([RouteChannel(n, 144, FREE) for n in NAMES[:21]], 1, "1 … 20 channels"),
        ([RouteChannel(NAMES[0], 144), RouteChannel(NAMES[0], 144, FREE)], 1, "at most once"),
        ([RouteChannel(NAMES[0], 144), RouteChannel(NAMES[1], 144)], 1, "terms of the forwarder"),
        ([RouteChannel(NAMES[0], 144)], 0, "at least 1 sat"),
    ],
)
def test_routes_that_are_refused(channels: list[RouteChannel], amount: int, reason: str) -> None:
    """No channel, too many, loops, unknown terms, no amount."""
    with pytest.raises(MalformedInput, match=reason):
        plan_route(channels, amount, HEIGHT)


def test_a_receiver_needs_time() -> None:
    """An expiry that the receiver could not claim by is refused with the least one."""
    with pytest.raises(MalformedInput, match="needs at least 800185"):
        plan_route([RouteChannel(NAMES[0], 144)], 1, HEIGHT, final_expiry=HEIGHT + 184)


def test_policies_that_are_refused() -> None:
    """A delta below the least safe one, amounts without an output, negative fees."""
    with pytest.raises(MalformedInput, match="at least 370"):
        ForwardingPolicy(expiry_delta=369).delta(144, 144)
    with pytest.raises(MalformedInput, match="no output"):
        ForwardingPolicy(min_amount=329)
    with pytest.raises(MalformedInput, match="not negative"):
        ForwardingPolicy(base_fee=-1)
    assert 400 == ForwardingPolicy(expiry_delta=400).delta(144, 144)


@pytest.mark.parametrize(("text", "amount"), [(DONATION, None), (COFFEE, 250_000), (COFFEE.upper(), 250_000)])
def test_lightning_invoices(text: str, amount: int | None) -> None:
    """Hash and amount of BOLT-11's own examples, in either case, with the prefix of links."""
    assert LightningInvoice("mainnet", HASH, amount) == read_bolt11(text)
    assert read_bolt11("lightning:" + text.lower()) == read_bolt11(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (COFFEE.replace("q", "p", 1), "checksum"),
        (COFFEE[:-7], "checksum"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "not a Lightning invoice"),
        (COFFEE[:50].upper() + COFFEE[50:], "all in lower or all in upper"),
        ("ln" + "q" * 5_000, "at most 4096"),
        ("", "not a Lightning invoice"),
    ],
)
def test_invoices_that_are_refused(text: str, reason: str) -> None:
    """A changed or lost character, an address, mixed case, too long, nothing."""
    with pytest.raises(MalformedInput, match=reason):
        read_bolt11(text)


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Anything is read or refused."""
    with pytest.raises(MalformedInput):
        read_bolt11(text)


@given(
    st.integers(1, 100),
    st.integers(1, 100),
    st.integers(1, 10**8),
    st.lists(st.integers(1, 2016), min_size=2, max_size=6),
)
def test_every_hop_gets_its_fee_and_its_time(base: int, rate: int, amount: int, periods: list[int]) -> None:
    """Whatever the periods: what a forwarder holds exceeds what it gives by fee and delta."""
    terms = ForwardingPolicy(base_fee=base, fee_rate=rate)
    channels = [RouteChannel(name, period, terms) for name, period in zip(NAMES, periods, strict=False)]
    hops = plan_route(channels, amount, HEIGHT).hops
    pairs: list[tuple[int, Hop, Hop]] = [(i, hops[i], hops[i + 1]) for i in range(len(hops) - 1)]

    assert [terms.fee(out.amount) for _, _, out in pairs] == [into.amount - out.amount for _, into, out in pairs]
    assert [least_delta(periods[i], periods[i + 1]) for i, _, _ in pairs] == [a.expiry - b.expiry for _, a, b in pairs]
