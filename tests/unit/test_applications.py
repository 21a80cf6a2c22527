"""The guard around validators, and the tower that asks them before it stores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from domain.application import ApplicationRefused, ApplicationState, application_state, refused
from domain.errors import ChannelNotReady
from domain.units import Side
from tests.support.parties import Pair, made_up_funding, make_party, open_pair
from tests.support.towers import Bench
from tests.support.validators import COUNTER_ID, Counter, Mute
from watchtower.applications import Applications, ApplicationUnusable, GuardedApplication, load_applications
from watchtower.channels.accept_state import Accepted, accept_state
from watchtower.channels.register import register
from watchtower.client.party import exchange
from watchtower.client.peer_errors import PeerRefused
from watchtower.client.protocol.opening import Terms
from watchtower.wire.hexes import to_json
from watchtower.worker import Worker, WorkerBusy, WorkerUnavailable

pytestmark = pytest.mark.slow

COUNTER = "tests.support.validators:Counter"


def state(sequence: int, state_data: bytes) -> ApplicationState:
    """A state as an application sees it."""
    return ApplicationState(sequence, (600_000, 400_000), (), state_data)


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedApplication]:
    """A counter behind the guard, with patience for a machine that stands still."""
    application = GuardedApplication(COUNTER, seconds=60.0)
    yield application
    application.close()


def test_a_guarded_application_judges_like_the_bare_one(guarded: GuardedApplication) -> None:
    """Both accept the next number, refuse another one with the same words, and have the same name."""
    bare = Counter()

    verdicts = [app.validate(state(3, b"3"), state(4, b"9")) for app in (bare, guarded)]

    assert verdicts == ["the counter stands at 3, 9 is not the next number"] * 2
    assert guarded.validate(None, state(0, b"0")) is None
    assert guarded.app_id == bare.app_id


@pytest.mark.slow
@pytest.mark.parametrize(
    ("order", "words"),
    [
        (b"crash", "process died"),
        (b"raise", "RuntimeError: out of order"),
        (b"leave", "process died"),
        (b"print", "after much noise"),
        (b"memory", "MemoryError"),
        (b"fork", "RuntimeError: one of two"),
        (b"\xff", "MalformedInput"),
    ],
)
def test_a_validator_that_misbehaves_is_a_reason_and_the_next_state_is_judged(
    guarded: GuardedApplication, order: bytes, words: str
) -> None:
    """Crash, exception, exit, noise, hunger: each refuses one state and nothing more."""
    reason = guarded.validate(state(0, b"0"), state(1, order))

    assert words in str(reason)
    assert guarded.validate(state(0, b"0"), state(1, b"1")) is None


@pytest.mark.slow
def test_a_validator_that_hangs_is_a_reason_and_the_next_state_is_judged(guarded: GuardedApplication) -> None:
    """The same for one that needs too long, however short the time is."""
    patience = guarded._worker.seconds
    guarded._worker.seconds = 0.5
    reason = guarded.validate(state(0, b"0"), state(1, b"hang"))
    guarded._worker.seconds = patience

    assert "no answer within 0.5 s" in str(reason)
    assert guarded.validate(state(0, b"0"), state(1, b"1")) is None


def test_an_answer_that_is_no_verdict_refuses() -> None:
    """A validator that returns a number did not accept."""
    application = GuardedApplication("tests.support.validators:Mute")

    reason = application.validate(None, state(0, b"0"))
    application.close()

    assert reason == "its validator answered neither None nor a text"


def test_a_validator_sees_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of the service may hold passwords; its validators do not get them."""
    monkeypatch.setenv("STATE_CHANNEL_NODE__RPC_PASSWORD", "secret")
    application = GuardedApplication("tests.support.validators:Environment")

    names = str(application.validate(None, state(0, b"0")))
    application.close()

    assert "STATE_CHANNEL" not in names
    assert "PATH" in names


def test_several_threads_share_one_guard(guarded: GuardedApplication) -> None:
    """Questions queue up; each gets the answer to its own state."""
    verdicts: dict[int, str | None] = {}

    def ask(number: int) -> None:
        verdicts[number] = guarded.validate(state(number, b"%d" % number), state(number + 1, b"%d" % (2 * number)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    accepted = sorted(number for number, verdict in verdicts.items() if verdict is None)
    assert accepted == [1]
    assert "stands at 5, 10 is" in str(verdicts[5])


def test_large_state_data_passes_the_guard(guarded: GuardedApplication) -> None:
    """Two states with the largest data fit into a question."""
    reason = guarded.validate(state(0, b"9" * 65_536), state(1, b"8" * 65_536))

    assert "MalformedInput" in str(reason)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tests.support.validators:Nameless", "32 bytes"),
        ("tests.support.validators:Broken", "no configuration"),
        ("tests.support.validators:absent", "absent"),
        ("tests.support.nowhere:Counter", "nowhere"),
        ("no colon", "package.module:name"),
    ],
)
def test_an_application_that_cannot_be_used_is_named_at_the_start(name: str, words: str) -> None:
    """A wrong name in the settings stops the start; it is not found out by the first client."""
    with pytest.raises(ApplicationUnusable, match=words) as caught:
        load_applications([COUNTER, name])

    assert name in str(caught.value)


def test_an_instance_may_be_named_as_well_as_a_class() -> None:
    """`package.module:name` is an object, or a class that needs no arguments."""
    application = GuardedApplication("tests.support.validators:counter")

    name = application.app_id
    application.close()

    assert name == COUNTER_ID


def test_two_applications_with_one_name_are_refused() -> None:
    """Which one would judge?"""
    with pytest.raises(ApplicationUnusable, match="two applications"):
        Applications([Counter(), Counter()])


def test_long_reasons_are_cut() -> None:
    """An application's text must not fill logs and answers."""
    error = refused(COUNTER_ID, 0, "no " * 10_000)

    assert "refuses state 0: no no" in str(error)
    assert len(str(error)) < 400


# ── at the tower ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def pair() -> Pair:
    """A channel whose application is the counter, at 0."""
    return open_pair(state_data=b"0", app_id=COUNTER_ID)


def judged(directory: Path, *, require_known: bool = False, known: bool = True) -> Bench:
    """A tower with the counter's validator in its own process, or without."""
    directory.mkdir(exist_ok=True)
    applications = load_applications([COUNTER] if known else [], require_known=require_known, seconds=60.0)
    return Bench(directory, applications=applications)


def upload(tower: Bench, pair: Pair, sequence: int) -> Accepted:
    """B's tower is given a state."""
    stream = tower.context.channels.stream_of(pair.params.proposal_id)
    return accept_state(tower.context, stream, pair.update_request(Side.B, sequence))


@pytest.fixture
def tower(tmp_path: Path) -> Iterator[Bench]:
    """A tower that judges the counter."""
    bench = judged(tmp_path)
    yield bench
    bench.context.applications.close()


def test_the_tower_stores_what_the_application_accepts(tower: Bench, pair: Pair) -> None:
    """Registration and updates go through; a repetition is not judged again."""
    tower.registered(pair)
    pair.update(state_data=b"1")

    first = upload(tower, pair, 1)
    again = upload(tower, pair, 1)

    assert (first.duplicate, again.duplicate) == (False, True)


@pytest.mark.parametrize("order", [b"7", b"raise", b"crash", b"\xff\xfe", b""])
def test_the_tower_stores_nothing_that_the_application_does_not_accept(tower: Bench, pair: Pair, order: bytes) -> None:
    """F11: both parties signed it, the validator refuses or fails; the log stays as it was."""
    tower.registered(pair)
    pair.update(state_data=order)
    stored = tower.store.last_id()

    with pytest.raises(ApplicationRefused, match="refuses state 1"):
        upload(tower, pair, 1)

    assert tower.store.last_id() == stored


def test_the_tower_stores_nothing_on_which_the_validator_hangs(
    tower: Bench, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F11: its time is short from here on."""
    tower.registered(pair)
    pair.update(state_data=b"hang")
    stored = tower.store.last_id()
    ask = Worker.ask

    def hasty(worker: Worker, question: bytes) -> bytes:
        worker.seconds = 0.5
        return ask(worker, question)

    monkeypatch.setattr(Worker, "ask", hasty)
    with pytest.raises(ApplicationRefused, match=r"refuses state 1.*no answer within 0\.5 s"):
        upload(tower, pair, 1)

    assert tower.store.last_id() == stored


def test_state_0_is_judged_at_the_registration(tower: Bench) -> None:
    """A channel that begins with a state against the rules is not watched."""
    pair = open_pair(state_data=b"3", app_id=COUNTER_ID)
    tower.fund(pair)
    stored = tower.store.last_id()

    with pytest.raises(ApplicationRefused, match="stands at -1, 3 is not"):
        register(tower.context, pair.registration(Side.B))

    assert tower.store.last_id() == stored
    assert tower.keystore.get(pair.params.proposal_id) is None


def test_the_state_before_is_found_behind_many_other_events(tower: Bench, pair: Pair) -> None:
    """Whatever the chain brought between two states, the older one is found in the log."""
    tower.registered(pair)
    for number in range(40):
        tower.confirm(pair, height=150 + number)
    pair.update(state_data=b"1")

    accepted = upload(tower, pair, 1)

    assert accepted.answer.sequence == 1


def test_unknown_applications_are_opaque_unless_the_operator_wants_known_ones(tmp_path: Path, pair: Pair) -> None:
    """`state_data` is opaque to a tower without validator; `require_known` refuses it, but not plain channels."""
    open_tower = judged(tmp_path / "open", known=False)
    strict_tower = judged(tmp_path / "strict", known=False, require_known=True)
    plain = open_pair(names=("Carol", "Dave"))

    assert open_tower.registered(pair)
    assert strict_tower.registered(plain)
    strict_tower.fund(pair)
    with pytest.raises(ApplicationRefused, match="not known here"):
        register(strict_tower.context, pair.registration(Side.B))


@pytest.mark.asyncio
async def test_the_api_names_the_refusal(tower: Bench, pair: Pair) -> None:
    """422, slug application-refused, the application's reason in the detail."""
    name = tower.registered(pair)
    pair.update(state_data=b"7")

    async with tower.http() as http:
        answer = await post_state(http, name, pair)

    body = answer.json()
    assert (422, "urn:state-channel:application-refused") == (answer.status_code, body["type"])
    assert "the counter stands at 0, 7 is not the next number" in body["detail"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "slug"), [(WorkerBusy("full"), "too-busy"), (WorkerUnavailable("no memory"), "worker-unavailable")]
)
async def test_a_judge_without_time_is_no_refusal(
    tower: Bench, pair: Pair, monkeypatch: pytest.MonkeyPatch, error: WorkerUnavailable, slug: str
) -> None:
    """503 and nothing stored: the same state may come again; what ails the tower is not told."""
    name, stored = tower.registered(pair), tower.store.last_id()
    pair.update(state_data=b"7")

    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr(Applications, "check", failing)
    async with tower.http() as http:
        answer = await post_state(http, name, pair)

    assert (503, f"urn:state-channel:{slug}") == (answer.status_code, answer.json()["type"])
    assert (True, stored) == (str(error) not in answer.text, tower.store.last_id())


async def post_state(http: httpx.AsyncClient, name: str, pair: Pair) -> httpx.Response:
    """Upload state 1 of B's view."""
    return await http.post(
        f"/v1/channels/{name}/states",
        content=to_json(pair.update_request(Side.B, 1)),
        headers={"Content-Type": "application/json"},
    )


def test_views_of_states_are_what_was_signed(pair: Pair) -> None:
    """The application's view has number, balances, conditions and data of the header's state."""
    content = pair.b.state(pair.channel_id, 0).content

    view = application_state(content.read_header(), content.read_conditions(), content.state_data)

    assert view == ApplicationState(0, pair.balances, (), b"0")


class Dropout(Counter):
    """Raises what it is told to, in the party's own process."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def validate(self, old: ApplicationState | None, new: ApplicationState) -> str | None:
        """Accept state 0 only."""
        if old is not None:
            raise self.error
        return None


class Panic(BaseException):
    """What libraries in other languages raise: no `Exception`."""


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(3), WorkerBusy("full"), RecursionError(), Panic()])
def test_a_validator_that_raises_refuses_and_is_logged(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Without a guard as well it is a refusal, on the own side and towards the peer, and the program goes on."""
    parties = make_party("Alice"), make_party("Bob", applications=[Dropout(error)])
    channel_id = exchange.open_channel(
        *parties, Terms(balances=(500_000, 500_000)), outpoint, state_data=b"0", app_id=COUNTER_ID
    )

    with pytest.raises(ApplicationRefused, match="its validator failed"):
        parties[1].offer(channel_id, (500_000, 500_000), (), b"1")
    with pytest.raises(ChannelNotReady, match=f"its validator failed .{type(error).__name__}"):
        exchange.run(parties[0], parties[1], parties[0].offer(channel_id, (500_000, 500_000), (), b"1"))
    assert 2 == sum("application_failed" in record.message for record in caplog.records)


def test_a_party_takes_no_answer_that_is_no_verdict() -> None:
    """A number is neither None nor a text; what it means is unknown, so the state is refused."""
    parties = make_party("Alice"), make_party("Bob", applications=[Mute()])

    with pytest.raises(ChannelNotReady, match="neither None nor a text"):
        exchange.open_channel(
            *parties, Terms(balances=(500_000, 500_000)), outpoint, state_data=b"0", app_id=Mute.app_id
        )


class Talker(Counter):
    """Gives a reason that it was told, and none against state 0."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def validate(self, old: ApplicationState | None, new: ApplicationState) -> str | None:
        """The reason."""
        return None if old is None else self.reason


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("half of a pair: \ud800", "half of a pair: ?"),
        ("\x1b[31mred\nlevel=error \u202eright", "?[31mred?level=error ?right"),
        ("", "it gave no reason"),
        (" ", "it gave no reason"),
        ("x" * 500, "x" * 300),
    ],
)
def test_a_reason_reaches_the_peer_as_one_printable_line(reason: str, told: str) -> None:
    """A text of foreign code neither stops the answer nor steers the terminal of who reads it."""
    parties = make_party("Alice"), make_party("Bob", applications=[Talker(reason)])
    channel_id = exchange.open_channel(
        *parties, Terms(balances=(500_000, 500_000)), outpoint, state_data=b"0", app_id=COUNTER_ID
    )

    with pytest.raises(ChannelNotReady) as refused:
        exchange.run(parties[0], parties[1], parties[0].offer(channel_id, (500_000, 500_000), (), b"1"))

    assert str(refused.value).endswith(f"refuses state 1: {told}")


def test_a_peer_cannot_steer_a_terminal() -> None:
    """The reason of a refusal is the peer's text, whatever program it runs."""
    refusal = PeerRefused("no\x1b[2J\nyes", "channel-closed")

    assert ("no?[2J?yes", "the peer refuses: no?[2J?yes") == (refusal.reason, str(refusal))


def test_a_party_knows_which_rules_it_was_not_given() -> None:
    """A start without `--application` is not silent: until it has the rules, nobody judges those states."""
    alice, bob = make_party("Alice"), make_party("Bob", applications=[Counter()])
    exchange.open_channel(alice, bob, Terms(balances=(500_000, 500_000)), outpoint, state_data=b"0", app_id=COUNTER_ID)
    plain = open_pair(names=("Carol", "Dave"))

    assert frozenset({COUNTER_ID}) == alice.applications_without_rules()
    assert [frozenset()] * 2 == [party.applications_without_rules() for party in (bob, plain.a)]


class Anonymous(Counter):
    """Would be asked about every channel without an application."""

    app_id = bytes(32)


@pytest.mark.parametrize(
    ("applications", "words"),
    [([Anonymous()], "not all zero"), ([Counter(), Talker("no")], "two applications have the app_id")],
)
def test_a_party_takes_only_applications_with_a_name_of_their_own(applications: list[Counter], words: str) -> None:
    """As a tower does: which rules hold must not depend on their order."""
    with pytest.raises(ApplicationUnusable, match=words):
        make_party("Alice", applications=applications)


def outpoint(spk: bytes, value: int) -> tuple[bytes, int]:
    """A funding outpoint that exists nowhere."""
    made = made_up_funding(spk, value)
    return made.txid, made.vout
