"""The settings as a whole: what stands above the sections, and what follows from them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from watchtower.config.sections import (
    AdminSettings,
    ApiSettings,
    ApplicationSettings,
    BackupSettings,
    FeeSettings,
    KeystoreSettings,
    LogSettings,
    NodeSettings,
    NotifySettings,
    PolicySettings,
    SecondNodeSettings,
    Secret,
    StoreSettings,
    about,
)

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


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set."""

    network: Annotated[Network, about("The chain to watch. A node on another one is never trusted.")] = "mainnet"
    timeout_ms: Annotated[
        int, about("Limit of one request of the SDK to a peer or tower.", "milliseconds", ge=100, le=600_000)
    ] = 30_000
    challenge_period: Annotated[
        int, about("Blocks in which a published state can be challenged, for new channels.", "blocks", ge=1, le=65_535)
    ] = 144
    funding_threshold: Annotated[
        int,
        about(
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
        bool, about("New channels have profile 0 (taproot) if true, profile 1 (segwit v0) if false.")
    ] = True
    data_dir: Annotated[str, about("Directory of the log, the keystore and the keys.")] = ""
    tower_key: Annotated[
        Secret | None, about("The tower's own secret key, 64 hexadecimal digits. Default: tower.key in data_dir.")
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
