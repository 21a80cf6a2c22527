"""The service: follows the chain, answers breaches, stores events, speaks HTTP, CLI and SDK."""

__version__ = "0.1.0"
