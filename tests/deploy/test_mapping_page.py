"""docs/from-the-documentation.md leaves nothing of the documentation out and names nothing that is not there."""

from __future__ import annotations

import builtins
import re
from pathlib import Path

import pytest

from tests.deploy.test_docs import is_command, is_python
from watchtower.config.fields import all_fields

PAGE = (Path(__file__).parents[2] / "docs" / "from-the-documentation.md").read_text()
METHODS = """new connect disconnect get_state create_channel update_state close_channel_cooperative
close_channel_unilateral challenge_state respond_to_challenge get_channel_info verify_proof validate_transaction
get_funding_status get_channel_state"""
TYPES = """StateChannelConfig StateChannelClient ChannelParams ChannelParticipant StateUpdate ChannelInfo ChannelStatus
ProtocolState ChannelResult UpdateResult ClosureResult ChallengeResult ResponseResult VerificationResult
ValidationResult Proof Layer2Error"""
FIELDS = """participants challenge_period funding_script pubkey initial_balance channel_id sequence_number balances
state_data signatures status current_sequence funding_txid confirmed"""
OPTIONS = "network timeout_ms challenge_period funding_threshold max_channel_value taproot_enabled"
DEBUGGING = "RUST_LOG anya_core"
VARIABLES = [f"STATE_CHANNEL_{name}" for name in (
    "NETWORK", "TIMEOUT_MS", "CHALLENGE_PERIOD", "FUNDING_THRESHOLD", "MAX_VALUE", "TAPROOT_ENABLED"
)]  # fmt: skip
ROWS = [
    *("Off-Chain Scaling", "Instant Finality", "Low Costs", "Taproot Optimization", "Dispute Resolution"),
    *("Funding", "Operation", "Dispute", "Settlement"),
    *("Sequence Numbers", "Signatures", "State Data", "Balance Updates"),
    *("Script Privacy", "Efficiency", "Flexibility", "Schnorr Signatures"),
    *("Funding Security", "State Validity", "Timeout Protection"),
    *("Signature Verification", "State Commitments", "Proof Systems", "Key Management"),
    *("Collateral Requirements", "Penalty Mechanisms", "Fee Structures", "Liquidity Management"),
    *("Test Thoroughly", "State Validation", "Error Handling", "Monitoring"),
    *("Regular Updates", "Backup Strategy", "Dispute Preparation", "Cooperative Closure"),
    *("Key Security", "State Verification", "Challenge Monitoring", "Timeout Awareness"),
    *("Channel Creation Failures", "State Update Issues", "Dispute Resolution Problems", "Debugging"),
    *("Verify sequence number ordering", "Check signature validity", "Confirm participant consent"),
    *("Ensure proper proof format", "Verify challenge timing", "Check response validity", "Support Resources"),
    "Compatible with Lightning Network for multi-hop payments",
    "Supports atomic swaps with other Layer2 protocols",
    "Integration with smart contracts through state channel applications",
    "Compatible with Bitcoin Script and Taproot script paths",
]
SETTINGS = {field.name for field in all_fields()}
TABLE = re.compile(r"^\| (.*) \|$", re.MULTILINE)


def rows() -> list[list[str]]:
    """The cells of every row that maps something; heads and rules are left out."""
    cells = [re.split(r"\s*\|\s*", row) for row in TABLE.findall(PAGE)]
    return [row for row in cells if len(row) > 2 and "here" not in row[:2] and not set(row[0]) <= {"-"}]


def named() -> list[str]:
    """Every name in the second column, and commands in the third."""
    seconds = [name for row in rows() for name in re.findall(r"`([^`]+)`", row[1])]
    commands = [name for row in rows() for name in re.findall(r"`(watchtower [^`]+)`", row[2])]
    return sorted({*seconds, *commands})


def exists(name: str) -> bool:
    """True for a command, a setting, its variable, or a Python name of the SDK or with its module."""
    if name.startswith("watchtower "):
        return is_command(name.removeprefix("watchtower "))
    if name.startswith("STATE_CHANNEL_"):
        return name.removeprefix("STATE_CHANNEL_").lower().replace("__", ".") in SETTINGS
    return name in SETTINGS or hasattr(builtins, name) or is_python(name)


@pytest.mark.parametrize("name", [*f"{METHODS} {TYPES} {FIELDS} {OPTIONS} {DEBUGGING}".split(), *VARIABLES])
def test_every_name_of_the_documentation_is_on_the_page(name: str) -> None:
    """Methods, types, fields, options, variables, the debug setting."""
    assert re.search(rf"^\|[^\n]*`[^`\n]*\b{name}\b", PAGE, re.MULTILINE), f"{name} is missing"


@pytest.mark.parametrize("title", ROWS)
def test_every_promise_has_its_row(title: str) -> None:
    """Chapters Features to Integration Notes, point by point."""
    assert re.search(rf"^\| {re.escape(title)}\b", PAGE, re.MULTILINE), f"{title} has no row"


@pytest.mark.parametrize("name", named())
def test_what_the_page_names_exists(name: str) -> None:
    """Imports, commands, settings, variables."""
    assert exists(name), f"{name} is not there"


@pytest.mark.parametrize("name", ["StateChannelClient.nothing", "watchtower.client.nowhere", "watchtower channel jump"])
def test_what_does_not_exist_is_noticed(name: str) -> None:
    """The test above can fail."""
    assert not exists(name)


def test_no_row_is_empty() -> None:
    """A promise is answered."""
    assert [] == [row for row in rows() if not row[1].strip()]
    assert len(named()) > 90
