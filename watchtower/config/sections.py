"""The sections of the settings: one struct each, every key with its bounds, unit and meaning.

Only keys that have an effect exist. The struct fields are the single source: loader, example file, `config show` and
the checks are all derived from them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta


class Secret:
    """A text that must not be shown: `repr` and `str` tell only that it is set."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself; call it only where it is handed over."""
        return self._text

    def __repr__(self) -> str:
        return "[set]"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


def about(description: str, unit: str = "", **bounds: Any) -> Meta:
    """What a setting means, in which unit, between which bounds."""
    return Meta(description=description, extra={"unit": unit}, **bounds)


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach bitcoind."""

    rpc_url: Annotated[str, about("Address of the node's RPC server, without credentials. Default: this host.")] = ""
    rpc_user: Annotated[str, about("RPC user. Empty: use the cookie.")] = ""
    rpc_password: Annotated[Secret | None, about("Password of the RPC user.")] = None
    rpc_cookie_path: Annotated[str, about("The node's cookie, read again after a refusal. Unused with a user.")] = ""
    zmq_sequence: Annotated[str, about("Where the node publishes `zmqpubsequence`.")] = "tcp://127.0.0.1:28332"
    zmq_rawtx: Annotated[str, about("Where the node publishes `zmqpubrawtx`.")] = "tcp://127.0.0.1:28333"
    zmq_hashblock: Annotated[str, about("Where the node publishes `zmqpubhashblock`. Empty: not used.")] = ""
    rest_url: Annotated[str, about("The node's REST server, the fast way to blocks. Empty: fetch them by RPC.")] = ""
    poll_seconds: Annotated[
        float, about("The tip is asked for at least this often, whatever ZMQ says.", "seconds", ge=0.2, le=60)
    ] = 15.0
    stale_tip_minutes: Annotated[
        float, about("So long without a block is a reason to look. 0: 90, never on regtest.", "minutes", ge=0, le=1440)
    ] = 0.0


class SecondNodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Another node, best one that somebody else runs. Optional: blocks, broadcasts, a second look at the tip."""

    rpc_url: Annotated[str, about("Address of its RPC server, without credentials. Empty: there is none.")] = ""
    rpc_user: Annotated[str, about("RPC user. Empty: use the cookie.")] = ""
    rpc_password: Annotated[Secret | None, about("Password of the RPC user.")] = None
    rpc_cookie_path: Annotated[str, about("The node's cookie, where it can be read. Unused with a user.")] = ""


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The listener for clients."""

    listen: Annotated[str, about("Address and port of the HTTP API.")] = "127.0.0.1:9815"
    public_address: Annotated[
        str,
        about(
            "host:port where clients reach the API, as the status page tells it (an onion address, a name). Default: "
            "listen.",
            pattern=r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$|^$",
        ),
    ] = ""
    token_hash: Annotated[
        str,
        about(
            "SHA-256 (64 hexadecimal digits) of the bearer token that clients must send.", pattern="^([0-9a-f]{64})?$"
        ),
    ] = ""
    max_body_bytes: Annotated[
        int,
        about(
            "Longest request body. A state with 64 KiB of data needs about 140,000.", "bytes", ge=4_096, le=4_194_304
        ),
    ] = 262_144
    max_connections: Annotated[int, about("Connections at once; further ones are answered 503.", ge=1, le=65_535)] = 512
    max_connections_per_ip: Annotated[
        int, about("The same for one address (IPv6: 64 bits). Loopback has no limit.", ge=1, le=65_535)
    ] = 16
    trust_forwarded_for: Annotated[
        bool, about("Believe X-Forwarded-For from this host. Only with a reverse proxy here that writes it.")
    ] = False
    max_requests_per_ip: Annotated[
        float,
        about("Sustained rate of one address, twice that in a burst; then 429.", "requests per second", ge=0.1, le=1e5),
    ] = 50.0
    max_requests_per_key: Annotated[
        float, about("The same for the key of a party.", "requests per second", ge=0.1, le=1e5)
    ] = 20.0
    max_bytes_per_key: Annotated[
        float,
        about(
            "Sustained size of the bodies of a party, a minute's worth in a burst; then 429.",
            "bytes per second",
            ge=1_000,
            le=1e9,
        ),
    ] = 131_072.0
    request_deadline_seconds: Annotated[
        float, about("Time for a request to arrive completely; then the connection ends.", "seconds", ge=0.5, le=300)
    ] = 5.0
    clock_skew_seconds: Annotated[
        int, about("Accepted difference between a signature's time and the tower's.", "seconds", ge=5, le=600)
    ] = 60
    sse_heartbeat_seconds: Annotated[
        float, about("Pause after which an event stream carries a comment.", "seconds", ge=0.1, le=300)
    ] = 15.0


class AdminSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The listener for the operator."""

    listen: Annotated[str, about("Address and port of /metrics and the status page. Keep it on loopback.")] = (
        "127.0.0.1:9816"
    )
    require_token: Annotated[
        bool,
        about("Show /metrics only to a token with the scope metrics:read, the status page only to status:read."),
    ] = False
    page: Annotated[
        Literal["auto", "token", "open", "off"],
        about(
            "Who sees the status page. auto: everybody on loopback, else a token with the scope status:read. open: "
            "everybody; only behind a proxy that asks who they are."
        ),
    ] = "auto"
    page_names: Annotated[
        str,
        about(
            "Host names under which the status page is opened, separated by commas; localhost and addresses are always "
            "taken. *: any name; only behind a proxy that asks who its users are.",
            pattern=r"^([A-Za-z0-9._*-]+( *, *[A-Za-z0-9._-]+)*)?$",
        ),
    ] = ""


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where events are kept."""

    url: Annotated[
        str,
        about(
            "`sqlite:` and the path of the event log, or `postgresql://user@host/database`. Default: events.db in "
            "data_dir.",
            pattern="^(sqlite:.+|postgres(ql)?://.*)?$",
        ),
    ] = ""
    password: Annotated[
        Secret | None, about("Password of the user of a `postgresql:` url. Default: a password file of libpq.")
    ] = None
    standby: Annotated[
        bool, about("If another tower leads the log on the server, follow it and take over when it ends.")
    ] = False
    low_space_mb: Annotated[int, about("Free space below which the tower is not ready.", "MiB", ge=0, le=1_048_576)] = (
        512
    )
    reserve_mb: Annotated[
        int, about("Size of a file that makes room for answers to breaches on a full disk.", "MiB", ge=0, le=65_536)
    ] = 64
    segment_mb: Annotated[
        int,
        about(
            "Size of the log's file from which the next start goes on in a new one, as `watchtower store "
            "close-segment` does. 0: never.",
            "MiB",
            ge=0,
            le=1_048_576,
        ),
    ] = 0
    high_water_path: Annotated[
        str,
        about(
            "File that says how far the log had come, best on another disk than the log. Default: high-water in "
            "data_dir."
        ),
    ] = ""


class BackupSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Copies that the service makes by itself."""

    directory: Annotated[str, about("Where backups are put, best on another disk. Empty: none are made.")] = ""
    interval_hours: Annotated[
        float, about("Time from one verified backup to the next.", "hours", ge=0.01, le=8_760)
    ] = 24.0
    keep: Annotated[int, about("Verified backups that are kept; older ones of this tower are removed.", ge=1)] = 7


class NotifySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the tower itself tells people what happens."""

    webhook_url: Annotated[Secret | None, about("Where messages are posted as signed JSON. Empty: nowhere.")] = None
    webhook_secret: Annotated[
        Secret | None, about("Key of the signature of the webhook, at least 16 random characters.")
    ] = None
    ntfy_url: Annotated[Secret | None, about("A topic of an ntfy server: https://host/topic. Empty: none.")] = None
    ntfy_token: Annotated[Secret | None, about("Access token for the topic, if it needs one.")] = None
    smtp_url: Annotated[
        Secret | None,
        about(
            "Mail server: smtps://user:password@host, smtp+starttls://user:password@host, or smtp://host. Empty: none."
        ),
    ] = None
    mail_from: Annotated[str, about("Sender of the mails.")] = ""
    mail_to: Annotated[str, about("Who gets the mails: addresses, separated by commas.")] = ""
    ca_path: Annotated[str, about("PEM file of authorities to trust. Empty: those of the system.")] = ""
    min_severity: Annotated[Literal["page", "ticket", "info"], about("What is less urgent than this is not sent.")] = (
        "ticket"
    )
    deadline_blocks: Annotated[
        int,
        about(
            "Blocks left to answer a breach at which it is told, and at each half again. 0: a quarter of its challenge "
            "period.",
            "blocks",
            ge=0,
            le=65_535,
        ),
    ] = 0
    grace_seconds: Annotated[
        float,
        about(
            "So long the node or the database may be away before it is told; ten times as long while it is only "
            "behind.",
            "seconds",
            ge=0,
            le=3_600,
        ),
    ] = 60.0


class FeeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a penalty may pay."""

    max_ratio: Annotated[
        float,
        about("Largest part of the contested value that a penalty may pay as fee near the deadline.", gt=0, le=1),
    ] = 1.0


class PolicySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which channels are accepted."""

    allow_short_window: Annotated[bool, about("Accept challenge periods below 72 blocks; regtest always does.")] = False
    funding_confirmations: Annotated[
        int, about("Confirmations of the funding before updates. 0 means: 3, on regtest 1.", "blocks", ge=0, le=100)
    ] = 0
    max_channels: Annotated[
        int, about("Channels that this tower watches at once. 0: no limit.", ge=0, le=10_000_000)
    ] = 0
    max_total_capacity: Annotated[
        int,
        about(
            "Sum of the capacities that this tower watches at once. 0: no limit.",
            "satoshis",
            ge=0,
            le=2_100_000_000_000_000,
        ),
    ] = 0
    max_conditions: Annotated[int, about("HTLCs and descriptor outputs in one state.", ge=0, le=227)] = 200
    max_dust_exposure: Annotated[
        int,
        about(
            "Sum of the conditions of a state that are too small for an output: they become fee.",
            "satoshis",
            ge=0,
            le=1_000_000,
        ),
    ] = 5_000
    registration: Annotated[
        Literal["allowlist", "open"],
        about("Which parties may register with their key: those of `watchtower client allow`, or all."),
    ] = "allowlist"


class ApplicationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Validators of application data, each in a process of its own."""

    load: Annotated[
        str,
        about(
            "Applications whose rules the tower checks: package.module:name, separated by commas.",
            pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_]\w*(, *[A-Za-z_][\w.]*:[A-Za-z_]\w*)*)?$",
        ),
    ] = ""
    require_known: Annotated[bool, about("Refuse states of applications that are not loaded here.")] = False
    time_limit_ms: Annotated[
        int, about("A validator that takes longer is ended and the state refused.", "milliseconds", ge=10, le=60_000)
    ] = 1_000
    memory_mb: Annotated[int, about("Address space of the process of one validator.", "MiB", ge=64, le=65_536)] = 512

    @property
    def names(self) -> tuple[str, ...]:
        """The applications to load."""
        return tuple(name.strip() for name in self.load.split(",") if name.strip())


class KeystoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The encrypted file with the revocation keys."""

    passphrase: Annotated[Secret | None, about("Opens the keystore. Default: keystore.passphrase in data_dir.")] = None


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is written to stdout."""

    level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], about("Least level that is written.")
    ] = "info"
    format: Annotated[Literal["auto", "json", "console"], about("auto: JSON unless stdout is a terminal.")] = "auto"
