"""Plays the acts, prints the timeline, judges by the node's chain."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import msgspec

from domain.errors import DomainError
from watchtower.client.errors import StateChannelError
from watchtower.demo import acts
from watchtower.demo.result import HEADINGS, ActResult, DemoResult, table_rows
from watchtower.demo.stage import DemoFailed, Stage
from watchtower.ports import WatchtowerError


def play(*, as_json: bool = False, keep: Path | None = None, knots_defaults: bool = False) -> bool:
    """Run the demonstration; True only if the node's own chain shows every outcome.

    With `as_json` stdout carries one JSON document and the timeline goes to stderr. `keep` is a directory (made if
    absent, must be empty) that keeps the node's and the tower's data. `knots_defaults` leaves Bitcoin Knots' own
    relay policy in place. Nothing that was started is left behind, however it ends. Raises `WatchtowerError` if the
    stage cannot be set up; an act that fails is a result.
    """
    began = time.monotonic()
    timeline = Timeline(sys.stderr if as_json else sys.stdout, began)
    with ExitStack() as stack:
        directory = _directory(keep, stack)
        timeline("starting a private regtest node and a tower")
        # Here and not in a task: a signal interrupts this thread, but not the worker threads of a loop.
        stage = Stage.build(directory, knots_defaults, timeline)
        stack.callback(stage.close)
        acted = asyncio.run(_play(stage, timeline))
        node = stage.node_name
    result = DemoResult(
        ok=len(acted) == ACTS and all(act.ok for act in acted),
        acts=tuple(acted),
        node=node,
        seconds=round(time.monotonic() - began, 1),
        kept=None if keep is None else str(keep),
    )
    if as_json:
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
    else:
        _print_table(result)
    if keep is not None:
        _tell_how_to_look(keep, result, timeline)
    return result.ok


ACTS = 6


class Timeline:
    """Readable lines with the seconds since the start."""

    def __init__(self, stream: TextIO, began: float) -> None:
        self._stream = stream
        self._began = began

    def __call__(self, text: str) -> None:
        """Print one line now."""
        self._stream.write(f"{time.monotonic() - self._began:6.1f} s  {text}\n")
        self._stream.flush()


async def _play(stage: Stage, tell: Timeline) -> list[ActResult]:
    shared = acts.UpdatesThenBreach()
    program: list[acts.Act] = [
        shared.updates,
        shared.breach_in_mempool,
        acts.breach_mined_unseen,
        acts.tower_asleep,
        acts.honest_unilateral_close,
        acts.cooperative_close,
    ]
    assert len(program) == ACTS
    played: list[ActResult] = []
    try:
        stage.tower.start()
        await stage.wait_ready()
        tell(f"node {stage.node_name}, tower watching at block {stage.node.height()}")
        for act in program:
            tell(f"── {act.__name__.replace('_', ' ')}")
            played.append(await _one(act, stage, tell))
            tell(f"{'ok' if played[-1].ok else 'FAILED'}: {played[-1].summary}")
    finally:
        await stage.client.disconnect()
    return played


async def _one(act: acts.Act, stage: Stage, tell: Timeline) -> ActResult:
    try:
        return await act(stage, tell)
    except (WatchtowerError, DomainError, StateChannelError, TimeoutError) as error:
        return ActResult(name=act.__name__, ok=False, summary=str(error))


def _directory(keep: Path | None, stack: ExitStack) -> Path:
    if keep is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="watchtower-demo-")))
    keep = keep.absolute()
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise DemoFailed(f"{keep} is not empty; give --keep a new directory")
    return keep


def _print_table(result: DemoResult) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(title="What the node's own chain shows (heights of blocks, satoshi)", box=SIMPLE, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in (HEADINGS[0], HEADINGS[-1]) else "right", no_wrap=True)
    for row, act in zip(table_rows(result.acts), result.acts, strict=True):
        table.add_row(*row, style=None if act.ok else "bold red")
    console = Console()
    console.print(table)
    console.print("all six acts: ok" if result.ok else "FAILED: see above")


def _tell_how_to_look(keep: Path, result: DemoResult, tell: Timeline) -> None:
    tower = f"{_program()} --config {shlex.quote(str(keep / 'tower' / 'config.toml'))}"
    channel = next((act.channel_id for act in result.acts if act.channel_id), "ID")
    tell(f"kept in {keep}; look at it with")
    tell(f"    {tower} channel list")
    tell(f"    {tower} channel history {channel[:16]}")
    tell(f"    {tower} replay")


def _program() -> str:
    """How the reader calls this program: by its path if the environment is not active, as below `make demo`."""
    if shutil.which("watchtower") is None and Path(sys.argv[0]).name == "watchtower":
        return shlex.quote(sys.argv[0])
    return "watchtower"
