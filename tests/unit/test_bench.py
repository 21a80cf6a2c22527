"""The benchmark's own bookkeeping; how fast anything is, is never asserted."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from tests.bench import __main__ as command
from tests.bench import (
    answers,
    api,
    audit,
    audit_rules,
    catch_up,
    durable,
    exchanges,
    memory,
    metrics_render,
    million,
    notifications,
    parts,
    reorg,
    replaying,
    restart,
    scanning,
    status_page,
    storm,
    updates,
)
from tests.bench.parts import PARTS, Part, chosen, run
from tests.bench.scale import QUICK, Scale

TINY = msgspec.structs.replace(QUICK, update_channels=1, updates_each=1, signing_runs=1, exchanges=1, api_channels=1)


def without_node() -> tuple[Part, ...]:
    """The parts with made-up input where they would start a node or other processes."""
    resident = {"before": 10, "after": 30}
    start = restart.Restart(2.0, 1.0)
    once = durable.Run(2.0, [1.0, 2.0], 0.5)
    made = durable.Engine(once, 100.0, once)
    samples = answers.Samples(fresh=[1.0, 2.0, 3.0], late=[4.0], with_child=[5.0])
    return (
        Part("scan", scanning.NAMES, lambda scale, _: scanning.figures(scale, scanning.made_up(scale), bytes)),
        Part("breach", answers.NAMES, lambda _scale, _: answers.figures(samples)),
        Part("storm", storm.NAMES, lambda _scale, _: storm.figures(storm.Storm(tower=2.0, bare=1.0))),
        Part("reorg", reorg.NAMES, lambda _scale, _: reorg.figures(reorg.Reorg(2.0, 1.0))),
        Part("catch_up", catch_up.NAMES, lambda _scale, _: catch_up.figures(catch_up.CatchUp(10, 2.0, 1.0, 3.0))),
        Part("restart", restart.NAMES, lambda _scale, _: restart.figures([start], [start])),
        Part("memory", memory.NAMES, lambda scale, _: memory.figures(scale, resident, resident, resident)),
        Part("replay", replaying.REPLAY_NAMES, replaying.measure_replay),
        Part(
            "rebuild",
            replaying.REBUILD_NAMES,
            lambda scale, _: replaying.rebuild_figures(scale, {"seconds": 2.0, "cpu": 1.0, "mb": 50.0}, 40.0),
        ),
        Part("cold", replaying.COLD_NAMES, replaying.measure_cold),
        Part(
            "million",
            million.NAMES,
            lambda _scale, _: million.figures(million.Million([start], 10, 30, [1.0, 2.0], channels=2)),
        ),
        Part("audit", audit.NAMES, audit.measure),
        Part("audit_rules", audit_rules.NAMES, audit_rules.measure),
        Part("updates", updates.NAMES, lambda _scale, directory: updates.measure(TINY, directory)),
        Part("durable", durable.NAMES, lambda _scale, _: durable.figures(made, made, once, once)),
        Part("exchange", exchanges.NAMES, lambda _scale, directory: exchanges.measure(TINY, directory)),
        Part("api", api.NAMES, lambda _scale, directory: api.measure(TINY, directory)),
        Part("status_page", status_page.NAMES, status_page.measure),
        Part("metrics_render", metrics_render.NAMES, metrics_render.measure),
        Part("notifications", notifications.NAMES, lambda _scale, directory: notifications.measure(TINY, directory)),
    )


@pytest.mark.slow
def test_the_json_names_every_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A quick run writes a number for each figure of each part, and the machine."""
    monkeypatch.setattr(parts, "PARTS", without_node())

    code = command.main(["--quick", "--output", str(tmp_path / "bench.json")])

    document = json.loads((tmp_path / "bench.json").read_text())
    assert 0 == code
    assert [name for part in PARTS for name in part.names] == list(document["figures"])
    assert all(isinstance(value, (int, float)) for value in document["figures"].values())
    assert {"cpu", "cores", "memory", "python", "commit", "disk_sync_ms"} <= set(document["machine"])
    assert len(document["figures"]) == len(capsys.readouterr().out.splitlines())


def test_one_part_is_chosen_by_its_name_or_by_a_figure() -> None:
    """`--only` takes either."""
    assert chosen("scan") == chosen("scan_block_ratio_to_parser")
    assert ("scan",) == tuple(part.name for part in chosen("scan"))


def test_an_unknown_name_lists_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is that of a usage error."""
    assert 2 == command.main(["--only", "speed"])
    assert "breach_to_penalty_p99_ms" in capsys.readouterr().err


def test_a_part_that_forgets_a_figure_is_an_error(tmp_path: Path) -> None:
    """What is promised by name must be measured."""
    forgetful = Part("scan", ("a", "b"), lambda _scale, _directory: {"a": 1.0})
    with pytest.raises(RuntimeError, match="scan yielded"):
        run((forgetful,), Scale(), tmp_path)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([5.0], 0.99, 5.0), ([3.0, 1.0, 2.0], 0.5, 2.0), ([float(n) for n in range(1, 101)], 0.99, 99.0)],
)
def test_percentile_is_the_nearest_rank(values: list[float], share: float, expected: float) -> None:
    """The smallest value that is not below the share of all values."""
    assert expected == answers.percentile(values, share)
