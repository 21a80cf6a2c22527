"""Settings of notifications: what cannot be used is said before the start, and no secret is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchtower.config import ConfigError, load, shown

PREFIX = "STATE_CHANNEL_NOTIFY__"
HOOK = {f"{PREFIX}WEBHOOK_URL": "https://h.example/hush", f"{PREFIX}WEBHOOK_SECRET": "hush" * 4}
MAIL = {f"{PREFIX}MAIL_FROM": "t@e.org", f"{PREFIX}MAIL_TO": "a@e.org"}


def findings(home: Path, **settings: str) -> str:
    """Why the settings are refused."""
    with pytest.raises(ConfigError) as caught:
        load({PREFIX + name: value for name, value in settings.items()}, home=home)
    return "\n".join(caught.value.findings)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WEBHOOK_URL", "hush", "notify.webhook_url must look like https://host/path"),
        ("WEBHOOK_URL", "ftp://h.example/hush", "notify.webhook_url must look like"),
        ("WEBHOOK_URL", "https://h.example:99999/hush", "notify.webhook_url must look like"),
        ("WEBHOOK_URL", "https://h.example/hush\r\nX: y", "notify.webhook_url must look like"),
        ("WEBHOOK_URL", "https://me:hush@h.example/", "holds a user"),
        ("WEBHOOK_URL", "https://h.example/hush", "needs notify.webhook_secret"),
        ("WEBHOOK_SECRET", "hush", "webhook_secret is too short"),
        ("NTFY_URL", "https://hush.example", "names no topic"),
        ("NTFY_TOKEN", "hush hush", "ntfy_token holds blanks"),
        ("SMTP_URL", "mail.hush.example", "notify.smtp_url must look like smtps://"),
        ("SMTP_URL", "smtps://me@hush.example", "needs both a user and a password"),
        ("SMTP_URL", "smtp://me:hush@hush.example", "would send a password unencrypted"),
        ("SMTP_URL", "smtps://me:hush@hush.example", "needs notify.mail_from and notify.mail_to"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(tmp_path: Path, name: str, value: str, said: str) -> None:
    """Each sentence names the setting and what to write; none repeats the value."""
    found = findings(tmp_path, **{name: value})

    assert said in found
    assert "hush" not in found


def test_mail_addresses_are_checked(tmp_path: Path) -> None:
    """They are no secrets, so the wrong one is shown."""
    found = findings(tmp_path, SMTP_URL="smtps://h.example", MAIL_FROM="tower", MAIL_TO="a@e.org, <b@e.org>")

    assert "notify.mail_from: 'tower' is no mail address" in found
    assert "notify.mail_to: '<b@e.org>' is no mail address" in found


@pytest.mark.parametrize(
    ("settings", "warnings"),
    [
        (HOOK, []),
        ({f"{PREFIX}NTFY_URL": "http://127.0.0.1:2586/t"}, []),
        ({f"{PREFIX}NTFY_URL": "http://abc.onion/t"}, []),
        ({f"{PREFIX}NTFY_URL": "http://h.example/t"}, ["notify.ntfy_url is not https"]),
        ({**MAIL, f"{PREFIX}SMTP_URL": "smtp://localhost"}, []),
        ({**MAIL, f"{PREFIX}SMTP_URL": "smtp://me:pw@[::1]"}, []),
        ({**MAIL, f"{PREFIX}SMTP_URL": "smtp://h.example"}, ["notify.smtp_url is not encrypted"]),
    ],
)
def test_what_can_be_used_with_doubts_is_a_warning(
    tmp_path: Path, settings: dict[str, str], warnings: list[str]
) -> None:
    """Unencrypted to another host is possible, and said."""
    loaded = load(settings, home=tmp_path)

    assert warnings == [text[: len(start)] for text, start in zip(loaded.warnings, warnings, strict=True)]


def test_secrets_come_from_files_and_are_not_shown(tmp_path: Path) -> None:
    """Addresses are secrets: a topic is a password."""
    path = tmp_path / "url"
    path.write_text("https://ntfy.sh/hush\n")
    loaded = load({f"{PREFIX}NTFY_URL_FILE": str(path), **HOOK}, home=tmp_path)
    rows = {key: value for key, value, _ in shown(loaded)}

    assert ("[set]", "[set]") == (rows["notify.ntfy_url"], rows["notify.webhook_url"])
    assert "hush" not in repr(loaded.settings)
