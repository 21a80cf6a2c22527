"""All alerts, in the groups in which Prometheus evaluates them."""

from __future__ import annotations

from tests.support import rules_money, rules_tower
from tests.support.rules import MAINNET, Alert, Network


def groups(network: Network) -> dict[str, tuple[Alert, ...]]:
    """The alerts for towers on one network, by the name of their group."""
    return {
        "watchtower-tower": rules_tower.TOWER,
        "watchtower-node": rules_tower.NODE,
        f"watchtower-{network.name}": rules_tower.of_network(network),
        "watchtower-breaches": rules_money.breach_alerts(network),
        "watchtower-store": rules_money.STORE,
        "watchtower-clients": rules_money.CLIENTS,
        "watchtower-heartbeat": rules_money.HEARTBEAT,
    }


def alerts(network: Network = MAINNET) -> tuple[Alert, ...]:
    """All alerts for towers on one network; those for mainnet are all there are."""
    return tuple(alert for rows in groups(network).values() for alert in rows)
