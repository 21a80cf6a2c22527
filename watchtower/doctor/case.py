"""What the checks look at: the settings, the node's answers, the notifications that came, this machine.

Everything that asks the outside is a callable, so that each check can be shown its defect.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from watchtower.config import Loaded, Settings
from watchtower.config.sections import NodeSettings, SecondNodeSettings
from watchtower.doctor.needs import Needs, needs_of
from watchtower.node.hearing import Heard, hear
from watchtower.node.transport import RpcTransport
from watchtower.ports import NodeError

RPC_SECONDS = 10.0

Ask = Callable[..., Any]
"""`ask(method, *params)`: the node's result; raises `NodeError`."""


class Answers:
    """Each question to a node once; errors are kept like results."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self._known: dict[tuple[str, str], Any] = {}

    def get(self, method: str, *params: object) -> Any:
        """The result; raises the `NodeError` that was raised the first time."""
        key = (method, repr(params))
        if key not in self._known:
            try:
                self._known[key] = self.ask(method, *params)
            except NodeError as error:
                self._known[key] = error
        found = self._known[key]
        if isinstance(found, NodeError):
            raise found
        return found

    def find(self, method: str, *params: object) -> Any:
        """As `get`, None instead of an error: another check tells of it."""
        try:
            return self.get(method, *params)
        except NodeError:
            return None


class Case:
    """One visit of the doctor. `seconds` is how long notifications are listened for."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        ask: Ask,
        ask_second: Ask | None = None,
        listen: Callable[[Mapping[str, str], float], Heard] = hear,
        seconds: float = 10.0,
        now: Callable[[], float] = time.time,
        mounts: Callable[[], str] = lambda: Path("/proc/self/mountinfo").read_text(encoding="utf-8"),
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.loaded = loaded
        self.node = Answers(ask)
        self.second = None if ask_second is None else Answers(ask_second)
        self.listen = listen
        self.seconds = seconds
        self.now = now
        self.mounts = mounts
        self.environ = environ
        self._needs: Needs | None = None

    @property
    def settings(self) -> Settings:
        """The settings in effect."""
        return self.loaded.settings

    @property
    def data_dir(self) -> Path:
        """Where the tower's files are."""
        return Path(self.settings.data_dir)

    @property
    def log_path(self) -> Path:
        """The log's file on this machine, or the local copy of one on a server."""
        return Path(self.settings.event_log_path)

    @property
    def is_regtest(self) -> bool:
        """Whether blocks are made by hand and the money is worth nothing."""
        return self.settings.network == "regtest"

    @property
    def endpoints(self) -> dict[str, str]:
        """Where the tower listens for notifications, by topic; those that are set."""
        node = self.settings.node
        chosen = {"sequence": node.zmq_sequence, "rawtx": node.zmq_rawtx, "hashblock": node.zmq_hashblock}
        return {topic: address for topic, address in chosen.items() if address}

    @property
    def needs(self) -> Needs:
        """What the log still needs of the chain."""
        if self._needs is None:
            self._needs = needs_of(self.settings)
        return self._needs


def open_case(loaded: Loaded, *, seconds: float) -> Case:
    """The case of this installation; nothing is asked yet."""
    settings = loaded.settings
    second = settings.second_node
    return Case(
        loaded,
        ask=_asker(settings.node),
        ask_second=_asker(second) if second.rpc_url else None,
        seconds=seconds,
    )


def _asker(chosen: NodeSettings | SecondNodeSettings) -> Ask:
    user, password = chosen.rpc_user or None, chosen.rpc_password
    transport = RpcTransport(
        chosen.rpc_url,
        user,
        password.reveal() if user is not None and password is not None else None,
        Path(chosen.rpc_cookie_path) if user is None else None,
    )

    def ask(method: str, *params: object) -> Any:
        return transport.call(method, *params, seconds=RPC_SECONDS)

    return ask
