"""Configuration: frozen settings, where each value came from, and the example file made from the same source.

Promises: an unknown name is an error with the nearest known one; a value is checked once, at the border; a secret is
never shown. Does not promise that a path or a node exists: the parts that use them say so.
"""

from watchtower.config.document import example_toml, reference_rows, reference_table, shown
from watchtower.config.load import ConfigError, Loaded, load
from watchtower.config.sections import (
    AdminSettings,
    ApiSettings,
    ApplicationSettings,
    FeeSettings,
    KeystoreSettings,
    LogSettings,
    NodeSettings,
    NotifySettings,
    PolicySettings,
    Secret,
    StoreSettings,
)
from watchtower.config.settings import Settings, parse_listen

__all__ = [
    "AdminSettings",
    "ApiSettings",
    "ApplicationSettings",
    "ConfigError",
    "FeeSettings",
    "KeystoreSettings",
    "Loaded",
    "LogSettings",
    "NodeSettings",
    "NotifySettings",
    "PolicySettings",
    "Secret",
    "Settings",
    "StoreSettings",
    "example_toml",
    "load",
    "parse_listen",
    "reference_rows",
    "reference_table",
    "shown",
]
