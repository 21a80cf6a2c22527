"""How large the figures' experiments are: full by default, tiny for a quick look and for the test of the bench."""

from __future__ import annotations

import msgspec


class Scale(msgspec.Struct, frozen=True):
    """Sizes of all experiments.

    `breaches` are measured one after the other, `late_breaches` follow when all of them are punished and confirmed
    but not final, `child_breaches` come with a child that pays. `watched_few` and `watched_many` are the two sizes
    between which memory per channel is taken.
    """

    block_transactions: int = 4_192
    block_inputs: int = 9_683
    block_runs: int = 60
    parser_runs: int = 3
    watched_outpoints: int = 1_000_000
    watched_channels: int = 10_000
    breaches: int = 120
    late_breaches: int = 20
    child_breaches: int = 20
    pause_seconds: float = 0.15
    watched_few: int = 10_000
    watched_many: int = 100_000
    update_channels: int = 32
    updates_each: int = 12
    durable_updates_each: int = 40
    appends_each: int = 400
    floor_updates: int = 1_000
    signing_runs: int = 200
    exchanges: int = 200
    api_channels: int = 128
    api_updates_each: int = 4
    storm_breaches: int = 1_000
    restarts: int = 3
    catch_up_blocks: int = 1_000
    replay_channels: int = 20_000
    replay_events: int = 300_000
    replay_runs: int = 3
    rebuild_channels: int = 1_000_000
    rebuild_events: int = 3_000_000
    stock_channels: int = 200
    long_updates: int = 100_000
    audit_channels: int = 300_000
    audit_events: int = 1_000_000
    audit_runs: int = 3
    audit_pairs: int = 20
    audit_pair_updates: int = 60
    bare_signatures: int = 4_000
    million_channels: int = 1_000_000
    million_blocks: int = 500


FULL = Scale()
QUICK = Scale(
    block_transactions=60,
    block_inputs=140,
    block_runs=3,
    parser_runs=1,
    watched_outpoints=1_000,
    watched_channels=20,
    breaches=3,
    late_breaches=2,
    child_breaches=2,
    pause_seconds=0.05,
    watched_few=20,
    watched_many=60,
    update_channels=2,
    updates_each=2,
    durable_updates_each=2,
    appends_each=3,
    floor_updates=3,
    signing_runs=3,
    exchanges=4,
    api_channels=2,
    api_updates_each=2,
    storm_breaches=5,
    restarts=1,
    catch_up_blocks=20,
    replay_channels=20,
    replay_events=80,
    replay_runs=1,
    rebuild_channels=20,
    rebuild_events=80,
    stock_channels=3,
    long_updates=100,
    audit_channels=20,
    audit_events=80,
    audit_runs=1,
    audit_pairs=2,
    audit_pair_updates=2,
    bare_signatures=50,
    million_channels=60,
    million_blocks=3,
)
