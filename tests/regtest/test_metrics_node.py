"""Metrics and the canary on a real node: what a running service exposes, and what a real judgment looks like."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from domain.chain import BlockHash, BlockRef
from projections.watch_set import WatchSet
from tests.support.full_block import mine_full_block
from tests.support.service import Run, ServiceProcess
from watchtower.canary import Canary
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import NewTower
from watchtower.node.rpc import BitcoindNode
from watchtower.telemetry.catalog import CANARY_STAGES, CATALOG, TASKS
from watchtower.telemetry.metrics import Metrics

QUIET = {
    "node_estimated_feerate_sats_per_vbyte",
    "second_node_up",
    "last_state_update_timestamp_seconds",
    "incident_last_timestamp_seconds",
    "breach_min_remaining_blocks",
    "breach_oldest_unanswered_timestamp_seconds",
    "penalty_min_feerate_sats_per_vbyte",
    "penalty_max_fee_ratio",
    "audit_last_run_timestamp_seconds",
}
"""What a tower without channels and without a second node has nothing to say about, on a chain without a fee market."""


class _Index:
    """An empty watch index."""

    def __init__(self) -> None:
        self._watch = WatchSet()
        self.watched = self._watch.outpoints
        self.marked = self._watch.marked


def exposed(service: ServiceProcess) -> dict[str, Metric]:
    """The families of /metrics by their names without prefix."""
    status, page = service.get("admin", "/metrics")
    assert 200 == status
    found = text_string_to_metric_families(page.decode())
    return {
        family.name.removeprefix("watchtower_"): family for family in found if not family.name.startswith("process_")
    }


def values(family: Metric, label: str) -> dict[str, float]:
    """The gauge by one label."""
    return {sample.labels[label]: sample.value for sample in family.samples}


def counters(names: Sequence[str]) -> set[str]:
    """Names as the parser has them: without the ending of counters."""
    return {name.removesuffix("_total") for name in names}


RUNNING = [task for task in TASKS if task != "notifier"]
"""Nobody is to be notified."""


def tip_time(node: RegtestNode) -> int:
    """Header time of the tip."""
    return int(node.rpc("getblockheader", node.rpc("getbestblockhash"))["time"])


def shown_at(service: ServiceProcess, node: RegtestNode) -> dict[str, Metric]:
    """The families once pass, canary and the look at the node have told of the tip: each does in its own thread."""
    tip = {
        "chain_processed_height": node.height(),
        "node_blocks": node.height(),
        "node_tip_timestamp_seconds": tip_time(node),
    }

    def told() -> dict[str, Metric] | None:
        found = exposed(service)
        known = {name: found[name].samples[0].value for name in tip if name in found}
        asked = "node_mempool_min_feerate_sats_per_vbyte" in found
        return found if asked and known == tip and all(values(found["task_up"], "task").values()) else None

    service.wait_for("canary_passed", height=node.height())
    return node.wait_until(told)


def test_a_running_service_exposes_the_catalog(node: RegtestNode, tower: NewTower, run: Run) -> None:
    """Every row, no other, each of its type; all tasks run, the node is seen, and the canary has passed."""
    service = run(tower.config_path)
    service.wait_watching()
    node.mine(1)
    found = shown_at(service, node)
    rows = {row.name: "gauge" if row.kind == "optional" else row.kind for row in CATALOG}

    assert counters([name for name in rows if name not in QUIET]) <= found.keys() <= counters([*rows])
    kinds = {name.removesuffix("_total"): kind for name, kind in rows.items()}
    assert {name: kinds[name] for name in found} == {name: family.type for name, family in found.items()}
    assert dict.fromkeys(RUNNING, 1.0) == values(found["task_up"], "task")
    assert dict.fromkeys(CANARY_STAGES, 0.0) == values(found["canary_failures"], "stage")
    assert {"inbound": 0.0, "outbound": 0.0} == values(found["node_peers"], "direction")
    assert node.height() == found["node_blocks"].samples[0].value == found["chain_processed_height"].samples[0].value
    assert tip_time(node) == found["node_tip_timestamp_seconds"].samples[0].value
    assert found["node_mempool_min_feerate_sats_per_vbyte"].samples[0].value > 0


def test_a_node_that_ends_leaves_its_last_values(node: RegtestNode, tower: NewTower, run: Run) -> None:
    """Where it stood stays visible, and a restart of the tower without it still shows how far the tower was."""
    service = run(tower.config_path)
    service.wait_watching()
    node.mine(1)
    height = node.height()
    before = shown_at(service, node)
    node.stop()
    service.wait_for("node_lost")
    after = exposed(service)
    service.terminate()
    again = run(tower.config_path)
    again.wait_for("readiness_changed", reason="node_unreachable", holds=True)
    alone = exposed(again)

    assert (1, 0) == tuple(found["node_up"].samples[0].value for found in (before, after))
    assert [height] * 2 == [found["node_blocks"].samples[0].value for found in (before, after)]
    assert height == alone["chain_processed_height"].samples[0].value
    moved = "chain_last_block_processed_timestamp_seconds"
    assert before[moved].samples[0].value == pytest.approx(alone[moved].samples[0].value, abs=5.0)
    assert "node_tip_timestamp_seconds" not in alone


def test_the_canary_passes_over_a_block_of_many_spends(node: RegtestNode) -> None:
    """The scanner finds the input, and the node answers `missing-inputs` about a penalty that it reads completely."""
    block = mine_full_block(node, 60, 150)
    metrics = Metrics(build=("0", "0", "regtest", "sqlite"), start=1.0)
    adapter = BitcoindNode(node.rpc_url, cookie_path=node.cookie_path)
    canary = Canary(node=adapter, models=_Index(), rng=bytes, metrics=metrics)
    canary.tip(BlockRef(node.height(), BlockHash(block.hash)))
    canary.turn()
    adapter.close()
    failures = {
        stage: metrics.registry.get_sample_value("watchtower_canary_failures_total", {"stage": stage})
        for stage in CANARY_STAGES
    }

    assert dict.fromkeys(CANARY_STAGES, 0.0) == failures
    assert 1.0 < (metrics.registry.get_sample_value("watchtower_canary_last_success_timestamp_seconds") or 0.0)
