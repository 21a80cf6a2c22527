"""SIGHUP: read the configuration again and take over what may change while the tower runs.

Promises: what is wrong changes nothing and is logged; what needs a restart keeps its old value and is named; the
service manager is told when it begins and ends. A request that comes before the tower has opened is kept.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from watchtower.config import ConfigError, Loaded, Settings
from watchtower.config.fields import all_fields
from watchtower.host.supervisor import Supervisor
from watchtower.telemetry.logging import LEVELS, LogControl

_log = structlog.get_logger(__name__)


class Changes(msgspec.Struct, frozen=True):
    """Dotted keys that differ: `changed` are taken over, `needs_restart` are not. `settings` is what runs then."""

    settings: Settings
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]

    @property
    def notify(self) -> bool:
        """Whether people are to be told in another way."""
        return any(name.startswith("notify.") for name in self.changed)


def compare(running: Settings, wanted: Settings) -> Changes:
    """What of `wanted` may be taken over while `running` runs."""
    differing = [field for field in all_fields() if field.value_in(running) != field.value_in(wanted)]
    sections: dict[str, dict[str, Any]] = {}
    for field in differing:
        if field.reloadable:
            sections.setdefault(field.section, {})[field.key] = field.value_in(wanted)
    replaced = {name: msgspec.structs.replace(getattr(running, name), **keys) for name, keys in sections.items()}
    return Changes(
        settings=msgspec.structs.replace(running, **replaced),
        changed=tuple(field.name for field in differing if field.reloadable),
        needs_restart=tuple(field.name for field in differing if not field.reloadable),
    )


def nothing(changes: Changes) -> None:
    """Nothing but the log's level depends on the settings yet."""
    del changes


class Reload:
    """The settings that run, and the way to newer ones."""

    def __init__(self, loaded: Loaded, read: Callable[[], Loaded], control: LogControl) -> None:
        """`read` reads all sources as at the start; it raises `ConfigError`. `control` is that of the log."""
        self.settings = loaded.settings
        self._read = read
        self._control = control
        self._asked = False
        self._ring: Callable[[], object] = lambda: None

    def listen(self) -> None:
        """Take SIGHUP from now on; without this it would end the process. From the main thread."""
        # Not through the event loop: that resets the signal to its deadly default when it closes, and between a tower
        # that stands by and one that leads there are two loops.
        signal.signal(signal.SIGHUP, lambda _number, _frame: self.ask())

    def ask(self) -> None:
        """Read again as soon as somebody serves, or at once."""
        self._asked = True
        self._ring()

    async def serve(
        self,
        supervisor: Supervisor,
        *,
        is_ready: Callable[[], bool],
        prepare: Callable[[Changes], None] = nothing,
        adopt: Callable[[Changes], None] = nothing,
    ) -> None:
        """Take requests until cancelled.

        `prepare` runs in a thread and may refuse with `ConfigError`; then nothing has changed. `adopt` runs in the loop
        and must not fail. The manager hears of it only once the tower `is_ready`: before that, READY=1 would be a lie.
        """
        loop, bell = asyncio.get_running_loop(), asyncio.Event()
        self._ring = lambda: loop.call_soon_threadsafe(bell.set)
        try:
            while True:
                if not self._asked:
                    await bell.wait()
                bell.clear()
                self._asked = False
                was_ready = is_ready()
                if was_ready:
                    supervisor.reloading()
                await self._once(prepare, adopt)
                if was_ready:
                    supervisor.ready()
        finally:
            self._ring = lambda: None

    async def _once(self, prepare: Callable[[Changes], None], adopt: Callable[[Changes], None]) -> None:
        try:
            changes, loaded = await asyncio.to_thread(self._look, prepare)
        except ConfigError as error:
            _log.error("config_refused", reason="; ".join(error.findings), hint="the old settings stay")
            return
        except Exception as error:  # noqa: BLE001 - the border of the task: the tower protects with what it has
            _log.error("config_refused", reason=type(error).__name__, hint="the old settings stay", exc_info=error)
            return
        adopt(changes)
        self.settings = changes.settings
        self._tell(changes, loaded)

    def _look(self, prepare: Callable[[Changes], None]) -> tuple[Changes, Loaded]:
        loaded = self._read()
        changes = compare(self.settings, loaded.settings)
        prepare(changes)
        return changes, loaded

    def _tell(self, changes: Changes, loaded: Loaded) -> None:
        """Under the more talkative of both levels: who asks for fewer lines still sees that it was taken over."""
        level = changes.settings.log.level
        self._control.level = min(level, self._control.level, key=LEVELS.__getitem__)
        _log.info(
            "config_reloaded",
            path=loaded.path or "environment",
            changed=list(changes.changed),
            needs_restart=list(changes.needs_restart),
        )
        for name in changes.needs_restart:
            _log.warning("config_questioned", reason=f"{name} has changed and needs a restart; the old value stays")
        for warning in loaded.warnings:
            _log.warning("config_questioned", reason=warning)
        self._control.level = level
