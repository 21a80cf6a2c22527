"""The dashboard that answers "am I protected?", then why, then what it cost."""

from __future__ import annotations

from tests.support.dashboards.board import Row, dashboard
from tests.support.dashboards.panel import BLUE, GREEN, ORANGE, RED, YELLOW, Document, Panel, q, quantile

UPLOAD = "/v1/channels/{id}/states"
RESPONSE = "watchtower_breach_response_seconds"
HTTP = "watchtower_http_request_duration_seconds"
REQUESTS = "watchtower_http_requests_total"
FIRST = (3, 4)
SECOND = (4, 5)
WIDE = (12, 5)
HALF = (12, 8)
FIFTH = (5, 5)
LEADING = 'unless on (job, instance) watchtower_not_ready{reason="standby"} == 1'
"""A tower that stands by does not watch, asks no node and sings no canary, and need not."""

_PROTECTED = (
    Panel(
        title="Watching",
        kind="stat",
        unit="none",
        description="YES while every tower but a standby reads blocks at its node's tip and nothing is in its way.",
        queries=(q(f'min(watchtower_phase{{phase="watching"}} {LEADING})'),),
        base=RED,
        steps=((1, GREEN),),
        yes_no=True,
        size=FIRST,
    ),
    Panel(
        title="Node reachable",
        kind="stat",
        unit="none",
        description="Whether the last question to every bitcoind was answered, but those of standbys.",
        queries=(q(f"min(watchtower_node_up {LEADING})"),),
        base=RED,
        steps=((1, GREEN),),
        yes_no=True,
        size=FIRST,
    ),
    Panel(
        title="Chain lag",
        kind="stat",
        unit="none",
        description="Blocks that the node has and the tower has not processed; the worst tower.",
        queries=(q("max(instance:watchtower_chain_lag:blocks)"),),
        base=GREEN,
        steps=((1, YELLOW), (3, RED)),
        size=FIRST,
    ),
    Panel(
        title="Tip age",
        kind="stat",
        unit="s",
        description="Time since the newest block by its own header. Two hours between blocks come once in three years.",
        queries=(q("max(time() - watchtower_node_tip_timestamp_seconds)"),),
        base=GREEN,
        steps=((3600, YELLOW), (7200, RED)),
        size=FIRST,
        decimals=0,
    ),
    Panel(
        title="Open breaches",
        kind="stat",
        unit="none",
        description="Revoked states on the way to the chain whose penalty is not yet in a block.",
        queries=(q('sum(watchtower_breaches_open{stage!="confirming"})'),),
        base=GREEN,
        steps=((1, RED),),
        size=FIRST,
    ),
    Panel(
        title="Blocks left",
        kind="stat",
        unit="none",
        description="Blocks until the first open breach could be settled by the cheater.",
        queries=(q("min(watchtower_breach_min_remaining_blocks)"),),
        base=RED,
        steps=((36, YELLOW), (100, GREEN)),
        empty="no breach",
        size=FIRST,
    ),
    Panel(
        title="Canary age",
        kind="stat",
        unit="s",
        description="Time since a made-up breach last went the whole way to the node's verdict.",
        queries=(q(f"max(time() - (watchtower_canary_last_success_timestamp_seconds {LEADING}))"),),
        base=GREEN,
        steps=((5400, YELLOW), (9000, RED)),
        size=FIRST,
        decimals=0,
    ),
    Panel(
        title="Backup age",
        kind="stat",
        unit="s",
        description="Time since a backup was made and verified; since the log's beginning while there is none.",
        queries=(q("max(time() - watchtower_backup_last_success_timestamp_seconds)"),),
        base=GREEN,
        steps=((86400, YELLOW), (93600, RED)),
        size=FIRST,
        decimals=0,
    ),
    Panel(
        title="Phase and reasons",
        kind="state-timeline",
        unit="none",
        description="The phase of each tower over time, and below it every reason not to be ready while it held.",
        queries=(
            q("watchtower_phase == 1", "{{instance}} {{phase}}"),
            q("watchtower_not_ready == 1", "{{instance}} {{reason}}"),
        ),
        size=WIDE,
        colors=(
            (".*", RED),
            (".* (starting|catching_up|draining|tip_stale|standby)$", YELLOW),
            (".* watching$", GREEN),
        ),
    ),
    Panel(
        title="Channels watched",
        kind="stat",
        unit="short",
        description="Channels that are open and protected now.",
        queries=(q('sum(watchtower_channels{status="active"})'),),
        base=BLUE,
        size=SECOND,
    ),
    Panel(
        title="Value protected",
        kind="stat",
        unit="locale",
        description="Satoshi in channels that are open or closing.",
        queries=(q("sum(watchtower_protected_sats)"),),
        base=BLUE,
        size=SECOND,
    ),
    Panel(
        title="Firing alerts",
        kind="stat",
        unit="none",
        description="Alerts of these towers that fire in Prometheus; the dead man's switch is not counted.",
        queries=(
            q(
                'count(ALERTS{alertstate="firing",alertname=~"Watchtower.+",'
                'alertname!="WatchtowerDeadMansSwitch"}) or vector(0)'
            ),
        ),
        base=GREEN,
        steps=((1, RED),),
        size=SECOND,
    ),
)

_CHAIN = (
    Panel(
        title="Height: node and tower",
        kind="timeseries",
        unit="none",
        description="Best header, best block of the node, and the block that the tower has processed durably.",
        queries=(
            q("watchtower_node_headers", "headers"),
            q("watchtower_node_blocks", "node"),
            q("watchtower_chain_processed_height", "tower"),
        ),
        stepped=True,
        decimals=0,
        from_zero=False,
    ),
    Panel(
        title="Block processing time",
        kind="timeseries",
        unit="s",
        description="From the request for a block to the durable commit of what was in it.",
        queries=(
            q(quantile(0.5, "watchtower_chain_block_processing_seconds"), "p50"),
            q(quantile(0.99, "watchtower_chain_block_processing_seconds"), "p99"),
        ),
    ),
    Panel(
        title="Transactions scanned",
        kind="timeseries",
        unit="cps",
        description="Transactions a second that were compared with the watched outputs.",
        queries=(q("sum by (source) (rate(watchtower_chain_transactions_scanned_total[R]))", "{{source}}"),),
    ),
    Panel(
        title="ZMQ messages and losses",
        kind="timeseries",
        unit="cps",
        description="Notifications a second; below zero those that were proved lost by their numbers.",
        queries=(
            q("sum by (topic) (rate(watchtower_zmq_messages_total[R]))", "{{topic}}"),
            q("-sum by (topic) (rate(watchtower_zmq_missed_messages_total[R]))", "{{topic}} missed"),
        ),
    ),
    Panel(
        title="Feerates",
        kind="timeseries",
        unit="suffix: sat/vB",
        description="What the node estimates by target, what its mempool asks for, and what our cheapest penalty pays.",
        queries=(
            q(
                "max by (target_blocks) (watchtower_node_estimated_feerate_sats_per_vbyte)",
                "{{target_blocks}} blocks",
            ),
            q("max(watchtower_node_mempool_min_feerate_sats_per_vbyte)", "mempool min"),
            q("min(watchtower_penalty_min_feerate_sats_per_vbyte)", "lowest penalty"),
        ),
    ),
    Panel(
        title="Reorganizations",
        kind="timeseries",
        unit="none",
        description="Reorganizations of the last hour.",
        queries=(q("sum(increase(watchtower_chain_reorgs_total[1h]))", "reorgs/h"),),
    ),
)

_BREACHES = (
    Panel(
        title="Open breaches by stage",
        kind="timeseries",
        unit="none",
        description="Breaches that are not final: seen, waiting for a block, penalty sent, confirming, or blocked.",
        queries=(q("sum by (stage) (watchtower_breaches_open)", "{{stage}}"),),
        stacked=True,
        stepped=True,
        colors=(
            ("^blocked$", RED),
            ("^confirming$", GREEN),
            ("^broadcast$", BLUE),
            ("^detected$", YELLOW),
            ("^deferred$", ORANGE),
        ),
    ),
    Panel(
        title="Response time",
        kind="timeseries",
        unit="s",
        description="From the durable breach event to the penalty's first acceptance by a node.",
        queries=(
            q(quantile(0.5, RESPONSE, window="[1h]"), "p50"),
            q(quantile(1, RESPONSE, window="[1h]"), "max bucket"),
        ),
    ),
    Panel(
        title="Response time heatmap",
        kind="heatmap",
        unit="s",
        description="How many answers fell into which time.",
        queries=(q(f"sum by (le) (increase({RESPONSE}_bucket[R]))", "{{le}}"),),
    ),
    Panel(
        title="Penalty broadcasts",
        kind="timeseries",
        unit="none",
        description="Attempts of the last hour by the node's answer.",
        queries=(q("sum by (outcome) (increase(watchtower_penalty_broadcasts_total[1h]))", "{{outcome}}"),),
    ),
    Panel(
        title="Recovered, lost and fees (24 h)",
        kind="timeseries",
        unit="locale",
        description="Satoshi that penalties swept and paid in fees, and what revoked states got away with.",
        queries=(
            q("sum(increase(watchtower_penalty_recovered_sats_total[24h]))", "recovered"),
            q("sum(increase(watchtower_penalty_lost_sats_total[24h]))", "lost"),
            q("sum(increase(watchtower_penalty_fees_paid_sats_total[24h]))", "fees"),
        ),
        colors=(("^recovered$", GREEN), ("^lost$", RED), ("^fees$", YELLOW)),
        decimals=0,
    ),
    Panel(
        title="Value at risk",
        kind="timeseries",
        unit="locale",
        description="Satoshi in breaches that are not final.",
        queries=(q("sum(watchtower_breach_at_risk_sats)", "at risk"),),
        stepped=True,
    ),
    Panel(
        title="Blocks left",
        kind="timeseries",
        unit="none",
        description="Blocks until the first open breach could be settled by the cheater; no line without a breach.",
        queries=(q("min(watchtower_breach_min_remaining_blocks)", "blocks left"),),
        stepped=True,
    ),
    Panel(
        title="Penalty fee share",
        kind="timeseries",
        unit="percentunit",
        description="The part of the contested value that the dearest unconfirmed penalty gives to miners.",
        queries=(q("max(watchtower_penalty_max_fee_ratio)", "fee share"),),
    ),
    Panel(
        title="Funding spends (24 h)",
        kind="timeseries",
        unit="none",
        description="How channels ended in the last day, as the classifier saw it.",
        queries=(q("sum by (kind) (increase(watchtower_funding_spends_total[24h]))", "{{kind}}"),),
        colors=(
            ("^breach$", RED),
            ("^coop$", GREEN),
            ("^own_close$", BLUE),
            ("^peer_close$", "light-blue"),
            ("^self_breach$", "purple"),
            ("^future_state$", ORANGE),
            ("^unknown_spend$", YELLOW),
        ),
    ),
    Panel(
        title="Conditional outputs (24 h)",
        kind="timeseries",
        unit="none",
        description="Outputs with a preimage or an expiry that a block gave to us or to them; missed ones were ours.",
        queries=(q("sum by (taker) (increase(watchtower_conditional_outputs_total[24h]))", "{{taker}}"),),
        colors=(("^missed$", RED),),
    ),
    Panel(
        title="Preimages learned (24 h)",
        kind="timeseries",
        unit="none",
        description="Preimages that became known from the chain or from an upload.",
        queries=(q("sum by (source) (increase(watchtower_preimages_learned_total[24h]))", "{{source}}"),),
    ),
    Panel(
        title="Last incidents",
        kind="stat",
        unit="s",
        description="Time since money was lost or something happened that no honest party does, by kind. Durable.",
        queries=(q("time() - max by (kind) (watchtower_incident_last_timestamp_seconds)", "{{kind}}"),),
        base=RED,
        steps=((86400, YELLOW), (604800, GREEN)),
        empty="never",
        decimals=0,
    ),
)

_CLIENTS = (
    Panel(
        title="State updates",
        kind="timeseries",
        unit="cps",
        description="Uploaded states a second by what became of them.",
        queries=(q("sum by (outcome) (rate(watchtower_state_updates_total[R])) > 0", "{{outcome}}"),),
    ),
    Panel(
        title="API requests",
        kind="timeseries",
        unit="reqps",
        description="Requests a second by status code.",
        queries=(q(f"sum by (code) (rate({REQUESTS}[R])) > 0", "{{code}}"),),
    ),
    Panel(
        title="API rejections",
        kind="timeseries",
        unit="reqps",
        description="Requests a second that were refused before anything was done for them.",
        queries=(q("sum by (reason) (rate(watchtower_http_rejected_total[R]))", "{{reason}}"),),
    ),
    Panel(
        title="Receipts signed",
        kind="timeseries",
        unit="cps",
        description="Receipts a second; they are signed only after the commit of what they promise.",
        queries=(q("sum(rate(watchtower_receipts_signed_total[R]))", "receipts"),),
        size=HALF,
    ),
    Panel(
        title="API p99 latency",
        kind="timeseries",
        unit="s",
        description="The slowest hundredth of the requests of each route in five minutes.",
        queries=(q(f"job_route:{HTTP}:p99_5m >= 0", "{{route}}"),),
        size=HALF,
        long_legend=True,
    ),
)

_OBJECTIVES = (
    Panel(
        title="Value lost",
        kind="stat",
        unit="locale",
        description="Satoshi that revoked states got away with in the shown time. The objective is 0.",
        queries=(q("sum(increase(watchtower_penalty_lost_sats_total[$__range]))"),),
        base=GREEN,
        steps=((1, RED),),
        size=(4, 5),
        decimals=0,
    ),
    Panel(
        title="Chain freshness",
        kind="stat",
        unit="percentunit",
        description="Share of the shown time with the node reachable and at most one block behind. Objective 99.9 %.",
        queries=(q("avg(avg_over_time(instance:watchtower_fresh:bool[$__range]))"),),
        base=RED,
        steps=((0.99, YELLOW), (0.999, GREEN)),
        size=FIFTH,
        decimals=2,
    ),
    Panel(
        title="API availability",
        kind="stat",
        unit="percentunit",
        description="Share of requests that did not end in an error of the tower. Objective 99.5 %.",
        queries=(
            q(
                f'1 - (sum(increase({REQUESTS}{{code=~"5.."}}[$__range])) / sum(increase({REQUESTS}[$__range])))',
            ),
        ),
        base=RED,
        steps=((0.99, YELLOW), (0.995, GREEN)),
        empty="no requests",
        size=FIFTH,
        decimals=2,
    ),
    Panel(
        title="State commits under 250 ms",
        kind="stat",
        unit="percentunit",
        description="Share of uploaded states that were durable and answered within 250 ms. Objective 99 %.",
        queries=(
            q(
                f'sum(increase({HTTP}_bucket{{route="{UPLOAD}",le="0.25"}}[$__range]))'
                f' / sum(increase({HTTP}_count{{route="{UPLOAD}"}}[$__range]))'
            ),
        ),
        base=RED,
        steps=((0.95, YELLOW), (0.99, GREEN)),
        empty="no uploads",
        size=FIFTH,
        decimals=2,
    ),
    Panel(
        title="Responses under 60 s",
        kind="stat",
        unit="percentunit",
        description="Share of breaches whose penalty a node accepted within a minute. The objective is all of them.",
        queries=(
            q(
                f'sum(increase({RESPONSE}_bucket{{le="60.0"}}[$__range])) / sum(increase({RESPONSE}_count[$__range]))',
            ),
        ),
        base=RED,
        steps=((1, GREEN),),
        empty="no breach",
        size=FIFTH,
        decimals=2,
    ),
)


def overview() -> Document:
    """`watchtower-overview`."""
    return dashboard(
        "watchtower-overview",
        "Watchtower: overview",
        "Whether the channels are protected, what happened on the chain, and how well the tower kept its promises.",
        (
            Row("Am I protected?", _PROTECTED),
            Row("Chain", _CHAIN),
            Row("Breaches and responses", _BREACHES),
            Row("Clients", _CLIENTS),
            Row("Service level objectives (over the shown time)", _OBJECTIVES),
        ),
    )
