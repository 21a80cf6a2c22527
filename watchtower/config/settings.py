"""The settings themselves: one struct per section, each key with its bounds, unit and meaning.

Only keys that have an effect exist. The struct fields are the single source: loader, example file, `config show` and
the checks are all derived from them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Network = Literal["mainnet", "testnet", "testnet4", "signet", "regtest"]

RPC_PORTS: dict[str, int] = {"mainnet": 8332, "testnet": 18332, "testnet4": 48332, "signet": 38332, "regtest": 18443}
"""bitcoind's default RPC port per network (chainparamsbase.cpp)."""

COOKIE_FOLDERS: dict[str, str] = {
    "mainnet": "",
    "testnet": "testnet3",
    "testnet4": "testnet4",
    "signet": "signet",
    "regtest": "regtest",
}
"""Folder of the network's files below bitcoind's data directory."""


SHORT_WINDOW = 72
"""Challenge periods below this need `policy.allow_short_window`: half a day is little time to notice an outage."""


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


def _about(description: str, unit: str = "", **bounds: Any) -> Meta:
    return Meta(description=description, extra={"unit": unit}, **bounds)


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach bitcoind."""

    rpc_url: Annotated[str, _about("Address of the node's RPC server, without credentials. Default: this host.")] = ""
    rpc_user: Annotated[str, _about("RPC user. Empty: use the cookie.")] = ""
    rpc_password: Annotated[Secret | None, _about("Password of the RPC user.")] = None
    rpc_cookie_path: Annotated[str, _about("The node's cookie, read again after a refusal. Unused with a user.")] = ""
    zmq_sequence: Annotated[str, _about("Where the node publishes `zmqpubsequence`.")] = "tcp://127.0.0.1:28332"
    zmq_rawtx: Annotated[str, _about("Where the node publishes `zmqpubrawtx`.")] = "tcp://127.0.0.1:28333"
    zmq_hashblock: Annotated[str, _about("Where the node publishes `zmqpubhashblock`. Empty: not used.")] = ""
    rest_url: Annotated[str, _about("The node's REST server, the fast way to blocks. Empty: fetch them by RPC.")] = ""
    poll_seconds: Annotated[
        float, _about("The tip is asked for at least this often, whatever ZMQ says.", "seconds", ge=0.2, le=60)
    ] = 15.0
    stale_tip_minutes: Annotated[
        float, _about("So long without a block is a reason to look. 0: 90, never on regtest.", "minutes", ge=0, le=1440)
    ] = 0.0


class SecondNodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Another node, best one that somebody else runs. Optional: blocks, broadcasts, a second look at the tip."""

    rpc_url: Annotated[str, _about("Address of its RPC server, without credentials. Empty: there is none.")] = ""
    rpc_user: Annotated[str, _about("RPC user. Empty: use the cookie.")] = ""
    rpc_password: Annotated[Secret | None, _about("Password of the RPC user.")] = None
    rpc_cookie_path: Annotated[str, _about("The node's cookie, where it can be read. Unused with a user.")] = ""


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The listener for clients."""

    listen: Annotated[str, _about("Address and port of the HTTP API.")] = "127.0.0.1:9815"
    public_address: Annotated[
        str,
        _about(
            "host:port where clients reach the API, as the status page tells it (an onion address, a name). Default: "
            "listen.",
            pattern=r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$|^$",
        ),
    ] = ""
    token_hash: Annotated[
        str,
        _about(
            "SHA-256 (64 hexadecimal digits) of the bearer token that clients must send.", pattern="^([0-9a-f]{64})?$"
        ),
    ] = ""
    max_body_bytes: Annotated[
        int,
        _about(
            "Longest request body. A state with 64 KiB of data needs about 140,000.", "bytes", ge=4_096, le=4_194_304
        ),
    ] = 262_144
    max_connections: Annotated[int, _about("Connections at once; further ones are answered 503.", ge=1, le=65_535)] = (
        512
    )
    max_connections_per_ip: Annotated[
        int, _about("The same for one address (IPv6: 64 bits). Loopback has no limit.", ge=1, le=65_535)
    ] = 16
    trust_forwarded_for: Annotated[
        bool, _about("Believe X-Forwarded-For from this host. Only with a reverse proxy here that writes it.")
    ] = False
    max_requests_per_ip: Annotated[
        float,
        _about(
            "Sustained rate of one address, twice that in a burst; then 429.", "requests per second", ge=0.1, le=1e5
        ),
    ] = 50.0
    max_requests_per_key: Annotated[
        float, _about("The same for the key of a party.", "requests per second", ge=0.1, le=1e5)
    ] = 20.0
    max_bytes_per_key: Annotated[
        float,
        _about(
            "Sustained size of the bodies of a party, a minute's worth in a burst; then 429.",
            "bytes per second",
            ge=1_000,
            le=1e9,
        ),
    ] = 131_072.0
    request_deadline_seconds: Annotated[
        float, _about("Time for a request to arrive completely; then the connection ends.", "seconds", ge=0.5, le=300)
    ] = 5.0
    clock_skew_seconds: Annotated[
        int, _about("Accepted difference between a signature's time and the tower's.", "seconds", ge=5, le=600)
    ] = 60
    sse_heartbeat_seconds: Annotated[
        float, _about("Pause after which an event stream carries a comment.", "seconds", ge=0.1, le=300)
    ] = 15.0


class AdminSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The listener for the operator."""

    listen: Annotated[str, _about("Address and port of /metrics and the status page. Keep it on loopback.")] = (
        "127.0.0.1:9816"
    )
    require_token: Annotated[
        bool,
        _about("Show /metrics only to a token with the scope metrics:read, the status page only to status:read."),
    ] = False
    page: Annotated[
        Literal["auto", "token", "open", "off"],
        _about(
            "Who sees the status page. auto: everybody on loopback, else a token with the scope status:read. open: "
            "everybody; only behind a proxy that asks who they are."
        ),
    ] = "auto"
    page_names: Annotated[
        str,
        _about(
            "Host names under which the status page is opened, separated by commas; localhost and addresses are always "
            "taken. *: any name; only behind a proxy that asks who its users are.",
            pattern=r"^([A-Za-z0-9._*-]+( *, *[A-Za-z0-9._-]+)*)?$",
        ),
    ] = ""


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where events are kept."""

    url: Annotated[
        str,
        _about(
            "`sqlite:` and the path of the event log, or `postgresql://user@host/database`. Default: events.db in "
            "data_dir.",
            pattern="^(sqlite:.+|postgres(ql)?://.*)?$",
        ),
    ] = ""
    password: Annotated[
        Secret | None, _about("Password of the user of a `postgresql:` url. Default: a password file of libpq.")
    ] = None
    standby: Annotated[
        bool, _about("If another tower leads the log on the server, follow it and take over when it ends.")
    ] = False
    low_space_mb: Annotated[
        int, _about("Free space below which the tower is not ready.", "MiB", ge=0, le=1_048_576)
    ] = 512
    reserve_mb: Annotated[
        int, _about("Size of a file that makes room for answers to breaches on a full disk.", "MiB", ge=0, le=65_536)
    ] = 64
    segment_mb: Annotated[
        int,
        _about(
            "Size of the log's file from which the next start goes on in a new one, as `watchtower store "
            "close-segment` does. 0: never.",
            "MiB",
            ge=0,
            le=1_048_576,
        ),
    ] = 0
    high_water_path: Annotated[
        str,
        _about(
            "File that says how far the log had come, best on another disk than the log. Default: high-water in "
            "data_dir."
        ),
    ] = ""


class BackupSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Copies that the service makes by itself."""

    directory: Annotated[str, _about("Where backups are put, best on another disk. Empty: none are made.")] = ""
    interval_hours: Annotated[
        float, _about("Time from one verified backup to the next.", "hours", ge=0.01, le=8_760)
    ] = 24.0
    keep: Annotated[int, _about("Verified backups that are kept; older ones of this tower are removed.", ge=1)] = 7


class NotifySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the tower itself tells people what happens."""

    webhook_url: Annotated[Secret | None, _about("Where messages are posted as signed JSON. Empty: nowhere.")] = None
    webhook_secret: Annotated[
        Secret | None, _about("Key of the signature of the webhook, at least 16 random characters.")
    ] = None
    ntfy_url: Annotated[Secret | None, _about("A topic of an ntfy server: https://host/topic. Empty: none.")] = None
    ntfy_token: Annotated[Secret | None, _about("Access token for the topic, if it needs one.")] = None
    smtp_url: Annotated[
        Secret | None,
        _about(
            "Mail server: smtps://user:password@host, smtp+starttls://user:password@host, or smtp://host. Empty: none."
        ),
    ] = None
    mail_from: Annotated[str, _about("Sender of the mails.")] = ""
    mail_to: Annotated[str, _about("Who gets the mails: addresses, separated by commas.")] = ""
    ca_path: Annotated[str, _about("PEM file of authorities to trust. Empty: those of the system.")] = ""
    min_severity: Annotated[Literal["page", "ticket", "info"], _about("What is less urgent than this is not sent.")] = (
        "ticket"
    )
    deadline_blocks: Annotated[
        int,
        _about(
            "Blocks left to answer a breach at which it is told, and at each half again. 0: a quarter of its challenge "
            "period.",
            "blocks",
            ge=0,
            le=65_535,
        ),
    ] = 0
    grace_seconds: Annotated[
        float,
        _about(
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
        _about("Largest part of the contested value that a penalty may pay as fee near the deadline.", gt=0, le=1),
    ] = 1.0


class PolicySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which channels are accepted."""

    allow_short_window: Annotated[bool, _about("Accept challenge periods below 72 blocks; regtest always does.")] = (
        False
    )
    funding_confirmations: Annotated[
        int, _about("Confirmations of the funding before updates. 0 means: 3, on regtest 1.", "blocks", ge=0, le=100)
    ] = 0
    max_channels: Annotated[
        int, _about("Channels that this tower watches at once. 0: no limit.", ge=0, le=10_000_000)
    ] = 0
    max_total_capacity: Annotated[
        int,
        _about(
            "Sum of the capacities that this tower watches at once. 0: no limit.",
            "satoshis",
            ge=0,
            le=2_100_000_000_000_000,
        ),
    ] = 0
    max_conditions: Annotated[int, _about("HTLCs and descriptor outputs in one state.", ge=0, le=227)] = 200
    max_dust_exposure: Annotated[
        int,
        _about(
            "Sum of the conditions of a state that are too small for an output: they become fee.",
            "satoshis",
            ge=0,
            le=1_000_000,
        ),
    ] = 5_000
    registration: Annotated[
        Literal["allowlist", "open"],
        _about("Which parties may register with their key: those of `watchtower client allow`, or all."),
    ] = "allowlist"


class ApplicationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Validators of application data, each in a process of its own."""

    load: Annotated[
        str,
        _about(
            "Applications whose rules the tower checks: package.module:name, separated by commas.",
            pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_]\w*(, *[A-Za-z_][\w.]*:[A-Za-z_]\w*)*)?$",
        ),
    ] = ""
    require_known: Annotated[bool, _about("Refuse states of applications that are not loaded here.")] = False
    time_limit_ms: Annotated[
        int, _about("A validator that takes longer is ended and the state refused.", "milliseconds", ge=10, le=60_000)
    ] = 1_000
    memory_mb: Annotated[int, _about("Address space of the process of one validator.", "MiB", ge=64, le=65_536)] = 512

    @property
    def names(self) -> tuple[str, ...]:
        """The applications to load."""
        return tuple(name.strip() for name in self.load.split(",") if name.strip())


class KeystoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The encrypted file with the revocation keys."""

    passphrase: Annotated[Secret | None, _about("Opens the keystore. Default: keystore.passphrase in data_dir.")] = None


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is written to stdout."""

    level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], _about("Least level that is written.")
    ] = "info"
    format: Annotated[Literal["auto", "json", "console"], _about("auto: JSON unless stdout is a terminal.")] = "auto"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set."""

    network: Annotated[Network, _about("The chain to watch. A node on another one is never trusted.")] = "mainnet"
    timeout_ms: Annotated[
        int, _about("Limit of one request of the SDK to a peer or tower.", "milliseconds", ge=100, le=600_000)
    ] = 30_000
    challenge_period: Annotated[
        int, _about("Blocks in which a published state can be challenged, for new channels.", "blocks", ge=1, le=65_535)
    ] = 144
    funding_threshold: Annotated[
        int,
        _about(
            "Least capacity of a channel. 20,000 and more is recommended.", "satoshis", ge=1, le=2_100_000_000_000_000
        ),
    ] = 10_000
    max_value: Annotated[
        int,
        Meta(
            description="Largest capacity of a channel.",
            extra={"unit": "satoshis", "alias": "max_channel_value"},
            ge=1,
            le=2_100_000_000_000_000,
        ),
    ] = 100_000_000
    taproot_enabled: Annotated[
        bool, _about("New channels have profile 0 (taproot) if true, profile 1 (segwit v0) if false.")
    ] = True
    data_dir: Annotated[str, _about("Directory of the log, the keystore and the keys.")] = ""
    tower_key: Annotated[
        Secret | None, _about("The tower's own secret key, 64 hexadecimal digits. Default: tower.key in data_dir.")
    ] = None
    node: NodeSettings = NodeSettings()
    second_node: SecondNodeSettings = SecondNodeSettings()
    api: ApiSettings = ApiSettings()
    admin: AdminSettings = AdminSettings()
    store: StoreSettings = StoreSettings()
    backup: BackupSettings = BackupSettings()
    notify: NotifySettings = NotifySettings()
    fees: FeeSettings = FeeSettings()
    policy: PolicySettings = PolicySettings()
    applications: ApplicationSettings = ApplicationSettings()
    keystore: KeystoreSettings = KeystoreSettings()
    log: LogSettings = LogSettings()

    @property
    def funding_confirmations(self) -> int:
        """Depth from which a funding counts: as set, else 3, and 1 where blocks are made by hand."""
        return self.policy.funding_confirmations or (1 if self.network == "regtest" else 3)

    @property
    def min_challenge_period(self) -> int:
        """The shortest challenge period that is accepted. On regtest blocks cost nothing: there none is too short."""
        return 1 if self.policy.allow_short_window or self.network == "regtest" else SHORT_WINDOW

    @property
    def stale_tip_seconds(self) -> float | None:
        """Seconds without a block that are too many; None where blocks are made by hand."""
        if self.node.stale_tip_minutes:
            return self.node.stale_tip_minutes * 60
        return None if self.network == "regtest" else 90 * 60.0

    @property
    def store_on_server(self) -> bool:
        """Whether the event log is on a PostgreSQL server."""
        return self.store.url.startswith("postgres")

    @property
    def event_log_path(self) -> str:
        """Path of the log in a file of this machine: the log itself, or the tower's copy of a log on a server."""
        if self.store_on_server:
            return f"{self.data_dir}/copy.db"
        return self.store.url.removeprefix("sqlite:") or f"{self.data_dir}/events.db"

    @property
    def views_path(self) -> str:
        """Path of the disposable read models, beside the log."""
        return f"{self.data_dir}/views.db"

    @property
    def high_water_path(self) -> str:
        """Path of the file that says how far the log had come."""
        return self.store.high_water_path or f"{self.data_dir}/high-water"

    @property
    def access_path(self) -> str:
        """Path of the file with tokens and allowed parties."""
        return f"{self.data_dir}/access.json"

    @property
    def notify_path(self) -> str:
        """Path of the outbox of notifications, disposable."""
        return f"{self.data_dir}/notify.db"

    @property
    def keystore_path(self) -> str:
        """Path of the encrypted keystore."""
        return f"{self.data_dir}/keystore"


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[ipv6]:port`; raises ValueError with what to write instead."""
    host, separator, port = text.rpartition(":")
    if not (separator and host and port.isdecimal() and int(port) < 65_536):
        raise ValueError(f"{text!r} is not an address; write host:port, for example 127.0.0.1:9815")
    return host.strip("[]"), int(port)
