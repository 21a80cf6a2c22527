"""Payments over hops and swaps: what an application needs of them."""

from __future__ import annotations

from watchtower.client.party.payment_log import Leg
from watchtower.client.payments.errors import PaymentFailed, SwapRefused
from watchtower.client.payments.invoices import Invoice, LightningInvoice, read_bolt11
from watchtower.client.payments.payments import Payments, links_of
from watchtower.client.payments.routing import (
    ForwardingPolicy,
    Hop,
    Route,
    RouteChannel,
    least_delta,
    least_expiry,
    plan_route,
)
from watchtower.client.tower.payment_tower import PaymentTower

__all__ = [
    "ForwardingPolicy",
    "Hop",
    "Invoice",
    "Leg",
    "LightningInvoice",
    "PaymentFailed",
    "PaymentTower",
    "Payments",
    "Route",
    "RouteChannel",
    "SwapRefused",
    "least_delta",
    "least_expiry",
    "links_of",
    "plan_route",
    "read_bolt11",
]
