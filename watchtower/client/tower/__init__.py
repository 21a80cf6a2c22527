"""Calls of the own tower: states and questions over HTTP, receipts, and what it tells of the chain."""
