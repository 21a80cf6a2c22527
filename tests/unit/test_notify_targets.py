"""Ways to people: what is sent, how it is signed, and what a person reads when a server does not take it."""

from __future__ import annotations

import base64
import email
import email.policy
import hmac
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.receivers import HttpReceiver, Letter, SmtpReceiver, make_certificate, receiving
from watchtower.config import NotifySettings, Secret
from watchtower.notify import sending as limits
from watchtower.notify.message import Message, Sender, encode, single, trial_message
from watchtower.notify.notice import Notice
from watchtower.notify.sending import SendFailed
from watchtower.notify.targets import make_targets
from watchtower.notify.trial import try_targets

pytestmark = pytest.mark.slow  # real servers, certificates and time-outs

SENDER = Sender("ab" * 32, "regtest")
KEY = "0123456789abcdef0123456789abcdef"
BREACH = Notice(
    id="1" * 32,
    kind="breach_seen",
    severity="page",
    at=1_700_000_000,
    title="Breach: 100,000 sat",
    text="Channel c1: the tower answers now.",
    runbook_url="https://example.org/runbook#breach",
    channel="c1",
    sats=100_000,
)
MESSAGE = single(SENDER, BREACH)


@pytest.fixture
def http() -> Iterator[HttpReceiver]:
    """A server for webhook and ntfy."""
    with receiving(HttpReceiver()) as receiver:
        yield receiver


@pytest.fixture
def smtp() -> Iterator[SmtpReceiver]:
    """A mail server without encryption."""
    with receiving(SmtpReceiver()) as receiver:
        yield receiver


def webhook_to(port: int, path: str = "/hook?a=1", scheme: str = "http", host: str = "127.0.0.1") -> NotifySettings:
    """Settings with a webhook only."""
    return NotifySettings(webhook_url=Secret(f"{scheme}://{host}:{port}{path}"), webhook_secret=Secret(KEY))


def mail_to(port: int, scheme: str = "smtp", user: str = "", ca_path: str = "") -> NotifySettings:
    """Settings with mail only."""
    return NotifySettings(
        smtp_url=Secret(f"{scheme}://{user}localhost:{port}"),
        mail_from="tower@example.org",
        mail_to="a@example.org, b@example.org",
        ca_path=ca_path,
    )


def send(settings: NotifySettings, message: Message = MESSAGE) -> None:
    """Send over the only target of the settings."""
    (target,) = make_targets(settings, lambda: 1_700_000_123.9)
    target.send(message, encode(message))


def failure(settings: NotifySettings) -> SendFailed:
    """Why a message was not taken."""
    with pytest.raises(SendFailed) as caught:
        send(settings)
    return caught.value


def test_a_webhook_gets_signed_json(http: HttpReceiver) -> None:
    """Signature over the time of the attempt and the body, in headers; the id stays in body and header."""
    send(webhook_to(http.port))

    (post,) = http.posts.wait(1)
    expected = hmac.new(KEY.encode(), b"1700000123." + post.body, "sha256").hexdigest()
    assert "/hook?a=1" == post.path
    assert "application/json" == post.headers["Content-Type"]
    assert ("1700000123", f"v1={expected}") == (
        post.headers["Watchtower-Timestamp"],
        post.headers["Watchtower-Signature"],
    )
    assert BREACH.id == post.headers["Watchtower-Id"] == post.document["id"]
    assert ["breach_seen"] == [notice["kind"] for notice in post.document["notices"]]
    assert KEY not in str(post)


def test_ntfy_gets_a_text_for_a_phone(http: HttpReceiver) -> None:
    """Title, urgency, a link and the token in headers; a few lines as body."""
    send(NotifySettings(ntfy_url=Secret(f"http://127.0.0.1:{http.port}/mytopic"), ntfy_token=Secret("tk_1")))

    (post,) = http.posts.wait(1)
    assert ("/mytopic", "Breach: 100,000 sat", "5") == (post.path, post.headers["Title"], post.headers["Priority"])
    assert ("Bearer tk_1", BREACH.runbook_url) == (post.headers["Authorization"], post.headers["Click"])
    assert BREACH.id == post.headers["X-Sequence-ID"]
    assert ["Channel c1: the tower answers now.", "regtest tower abababababababab"] == post.body.decode().split("\n")


def test_a_mail_reaches_all_recipients(smtp: SmtpReceiver) -> None:
    """One mail with the urgency in its subject and an id that stays the same."""
    send(mail_to(smtp.port))

    (letter,) = smtp.letters.wait(1)
    mail = email.message_from_string(letter.text, policy=email.policy.default)
    assert "[page] Breach: 100,000 sat" == mail["Subject"]
    assert f"<{BREACH.id}@example.org>" == mail["Message-ID"]
    assert "auto-generated" == mail["Auto-Submitted"]
    assert BREACH.runbook_url in mail.get_content()
    assert 2 == len(letter.recipients)


@pytest.mark.parametrize(("scheme", "tls"), [("smtps", True), ("smtp+starttls", False)])
def test_mails_are_encrypted_before_anything_is_said(tmp_path: Path, scheme: str, tls: bool) -> None:
    """Encrypted from the start or after STARTTLS, with a certificate that is checked; then the login."""
    context, authority = make_certificate(tmp_path)
    with receiving(SmtpReceiver(context, tls=tls, with_login=True)) as server:
        send(mail_to(server.port, scheme, "me:se%40cret@", str(authority)))

        letter: Letter = server.letters.wait(1)[0]
    assert letter.secure
    assert b"\0me\0se@cret" == base64.b64decode(letter.login.removeprefix("PLAIN "))


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
def test_a_mail_server_that_nobody_vouches_for_gets_nothing(tmp_path: Path, scheme: str) -> None:
    """Neither the mail nor the password."""
    context, _ = make_certificate(tmp_path)
    with receiving(SmtpReceiver(context, tls=scheme == "smtps", with_login=True)) as server:
        error = failure(mail_to(server.port, scheme, "me:secret@"))

    assert "the certificate is not trusted" in str(error)
    assert [] == server.letters.all


def test_a_mail_server_without_starttls_gets_nothing(smtp: SmtpReceiver) -> None:
    """What was to be encrypted is not sent open."""
    assert "no STARTTLS" in str(failure(mail_to(smtp.port, "smtp+starttls")))
    assert [] == smtp.letters.all


@pytest.mark.parametrize(
    ("verb", "reply", "said", "about_message"),
    [
        ("MAIL", "550 not you", "refuses the sender (550)", False),
        ("DATA", "554 spam", "refuses the mail (554)", True),
        ("DATA", "451 later", "refuses the mail (451)", False),
    ],
)
def test_what_a_mail_server_says(smtp: SmtpReceiver, verb: str, reply: str, said: str, about_message: bool) -> None:
    """The number is told, the server's words are not; only a lasting refusal of the mail is about the mail."""
    smtp.replies[verb] = reply
    error = failure(mail_to(smtp.port))

    assert (True, about_message) == (said in str(error), error.about_message)


def test_a_certificate_that_nobody_vouches_for_ends_a_post(tmp_path: Path) -> None:
    """A webhook with a certificate of its own needs `ca_path`; with it, the message arrives."""
    context, authority = make_certificate(tmp_path)
    with receiving(HttpReceiver(context)) as server:
        settings = webhook_to(server.port, scheme="https", host="localhost")
        error = failure(settings)
        trusted = NotifySettings(
            webhook_url=settings.webhook_url, webhook_secret=settings.webhook_secret, ca_path=str(authority)
        )
        send(trusted)

        assert 1 == len(server.posts.wait(1))
    assert "the certificate is not trusted" in str(error)


def test_a_certificate_of_another_host_is_not_trusted(tmp_path: Path) -> None:
    """Whose authority is known, but for another name."""
    context, authority = make_certificate(tmp_path, "elsewhere.example")
    with receiving(HttpReceiver(context)) as server:
        settings = webhook_to(server.port, scheme="https", host="localhost")
        error = failure(
            NotifySettings(
                webhook_url=settings.webhook_url, webhook_secret=settings.webhook_secret, ca_path=str(authority)
            )
        )

    assert "the certificate is not trusted" in str(error)


def test_authorities_that_cannot_be_read_are_named() -> None:
    """A path that is wrong is found when targets are made, not at the first breach."""
    with pytest.raises(SendFailed, match="ca_path cannot be used"):
        make_targets(NotifySettings(ntfy_url=Secret("https://ntfy.example/t"), ca_path="/nowhere/ca.pem"))


@pytest.mark.parametrize(
    ("status", "said", "about_message"),
    [
        (302, "points elsewhere", False),
        (401, "token or rights are wrong", False),
        (404, "nothing at this address", False),
        (413, "it answers 413", True),
        (500, "it answers 500", False),
        (-1, "cannot be understood|connection failed", False),
    ],
)
def test_what_an_answer_means(http: HttpReceiver, status: int, said: str, about_message: bool) -> None:
    """A redirect is not followed; only a refusal of this message is about this message."""
    http.statuses = [status]
    with pytest.raises(SendFailed, match=said) as caught:
        send(webhook_to(http.port))

    assert about_message == caught.value.about_message
    assert 1 == len(http.tries.all)


def test_a_host_that_has_no_address_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that DNS does not know; the name itself is not repeated."""

    def unknown(host: str, *_: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, f"{host} is not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # that of this host may be slow, or know every name
    error = failure(webhook_to(1, host="nowhere.invalid"))

    assert "the name of the host is not known" in str(error)
    assert "nowhere" not in str(error)


def test_a_port_where_nobody_listens() -> None:
    """Refused connections are told as such."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = failure(webhook_to(taken.getsockname()[1]))

    assert "nobody listens there" in str(error)


def test_a_server_that_hangs_is_left(http: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the message and never answers."""
    monkeypatch.setattr(limits, "STEP_SECONDS", 0.1)
    http.statuses = [-2]

    assert "no answer in time" in str(failure(webhook_to(http.port)))


def test_a_server_that_drips_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time and the answer never ends: the limit is for all of it."""
    monkeypatch.setattr(limits, "SEND_SECONDS", 0.3)
    with dripping() as (port, was_left):
        error = failure(webhook_to(port))
        assert was_left.wait(10)

    assert "no answer in time" in str(error)


def test_a_server_that_was_found_late_is_left_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time was over before there was a connection that could be ended."""
    monkeypatch.setattr(limits, "SEND_SECONDS", 0.01)
    monkeypatch.setattr(limits, "SHUT_AGAIN_SECONDS", 0.05)
    connect = socket.create_connection

    def late(address: tuple[str, int], timeout: float) -> socket.socket:
        threading.Event().wait(0.3)
        return connect(address, timeout)

    monkeypatch.setattr(socket, "create_connection", late)
    with dripping() as (port, was_left):
        error = failure(webhook_to(port))
        assert was_left.wait(10)

    assert "no answer in time" in str(error)


@contextmanager
def dripping(seconds: float = 20.0) -> Iterator[tuple[int, threading.Event]]:
    """Port of a server that answers a request byte by byte for so long, and whether it was left before."""
    over, was_left, end = threading.Event(), threading.Event(), time.monotonic() + seconds

    def drip(server: socket.socket) -> None:
        with server.accept()[0] as sock:
            sock.recv(65_536)
            while not over.wait(0.02) and time.monotonic() < end:
                try:
                    sock.sendall(b"H")
                except OSError:
                    was_left.set()
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1], was_left
        over.set()
        thread.join(10)


def test_what_goes_wrong_names_no_address(http: HttpReceiver) -> None:
    """Paths, topics and passwords are secrets."""
    http.statuses = [500]
    with receiving(SmtpReceiver()) as server:
        server.replies["MAIL"] = "550 me:hush is refused"
        said = str(failure(webhook_to(http.port, "/hush"))) + str(failure(mail_to(server.port)))

    assert "hush" not in said


def test_a_trial_tells_of_each_target(http: HttpReceiver, smtp: SmtpReceiver) -> None:
    """One fails, the other takes it; both are told."""
    http.statuses = [500]
    hook, mail = webhook_to(http.port), mail_to(smtp.port)
    targets = [*make_targets(hook), *make_targets(mail)]
    results = try_targets(targets, SENDER, 1_700_000_000)

    assert [("webhook", False, "it answers 500"), ("email", True, "")] == [
        (one.transport, one.sent, one.reason) for one in results
    ]
    assert "[info] Test of the notifications" in smtp.letters.wait(1)[0].text


def test_without_settings_there_is_no_target() -> None:
    """And nothing to try."""
    assert ([], []) == (make_targets(NotifySettings()), try_targets([], SENDER, 0))


def test_trust_is_the_default() -> None:
    """Certificates and names are checked unless somebody wrote otherwise, and nobody can."""
    context = limits.trust("")

    assert (True, ssl.CERT_REQUIRED) == (context.check_hostname, context.verify_mode)


def test_a_trial_message_is_no_alarm() -> None:
    """Nobody is woken by a test."""
    assert ("info", False) == (trial_message(SENDER, 1).severity, trial_message(SENDER, 1).act)
