"""Configuration: sources, precedence, refusals and the generated example."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.settings_page import with_table
from watchtower.config import ConfigError, Secret, example_toml, load, shown
from watchtower.config.fields import all_fields

SIX = {
    "STATE_CHANNEL_NETWORK": "mainnet",
    "STATE_CHANNEL_TIMEOUT_MS": "30000",
    "STATE_CHANNEL_CHALLENGE_PERIOD": "144",
    "STATE_CHANNEL_FUNDING_THRESHOLD": "10000",
    "STATE_CHANNEL_MAX_VALUE": "100000000",
    "STATE_CHANNEL_TAPROOT_ENABLED": "true",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory without any configuration."""
    return tmp_path


def findings(environ: dict[str, str], home: Path, **arguments: object) -> str:
    """All findings of a refused configuration as one text."""
    with pytest.raises(ConfigError) as caught:
        load(environ, home=home, **arguments)  # type: ignore[arg-type]
    return str(caught.value)


def written(home: Path, text: str) -> str:
    """Path of a configuration file with this text."""
    path = home / "config.toml"
    path.write_text(text)
    return str(path)


def test_the_six_documented_variables_are_read_verbatim(home: Path) -> None:
    """Each documented line sets the documented value and is named as its source."""
    loaded = load(SIX, home=home)
    rows = {key: (value, source) for key, value, source in shown(loaded)}
    assert ("mainnet", "STATE_CHANNEL_NETWORK") == rows["network"]
    assert (30_000, "STATE_CHANNEL_TIMEOUT_MS") == rows["timeout_ms"]
    assert (144, "STATE_CHANNEL_CHALLENGE_PERIOD") == rows["challenge_period"]
    assert (10_000, "STATE_CHANNEL_FUNDING_THRESHOLD") == rows["funding_threshold"]
    assert (100_000_000, "STATE_CHANNEL_MAX_VALUE") == rows["max_value"]
    assert (True, "STATE_CHANNEL_TAPROOT_ENABLED") == rows["taproot_enabled"]


def test_a_flag_wins_over_variable_over_file_over_default(home: Path) -> None:
    """Precedence from low to high: default, TOML, _FILE, variable, flag."""
    config = written(
        home, 'challenge_period = 200\ntimeout_ms = 200\n[node]\nzmq_rawtx = "tcp://a:1"\nzmq_sequence = "tcp://a:1"\n'
    )
    (home / "one").write_text("tcp://b:1\n")
    environ = {
        "STATE_CHANNEL_NODE__ZMQ_RAWTX_FILE": str(home / "one"),
        "STATE_CHANNEL_NODE__ZMQ_SEQUENCE_FILE": str(home / "one"),
        "STATE_CHANNEL_NODE__ZMQ_SEQUENCE": "tcp://c:1",
        "STATE_CHANNEL_TIMEOUT_MS": "300",
    }
    loaded = load(environ, config_path=config, flags={"timeout_ms": "400", "network": None}, home=home)
    assert 200 == loaded.settings.challenge_period
    assert "tcp://b:1" == loaded.settings.node.zmq_rawtx
    assert "tcp://c:1" == loaded.settings.node.zmq_sequence
    assert 400 == loaded.settings.timeout_ms
    assert "mainnet" == loaded.settings.network
    assert config == loaded.sources["challenge_period"]
    assert "STATE_CHANNEL_NODE__ZMQ_RAWTX_FILE" == loaded.sources["node.zmq_rawtx"]
    assert "flag" == loaded.sources["timeout_ms"]
    assert "default" == loaded.sources["network"]
    assert any("ZMQ_SEQUENCE_FILE" in warning for warning in loaded.warnings)


def test_a_credential_is_read_under_its_dotted_name(home: Path) -> None:
    """A file of the service manager's credential directory sets the key; one trailing newline is stripped."""
    (home / "node.rpc_password").write_text("hunter2\n\n")
    environ = {"CREDENTIALS_DIRECTORY": str(home), "STATE_CHANNEL_NODE__RPC_USER": "tower"}
    loaded = load(environ, home=home)
    assert Secret("hunter2\n") == loaded.settings.node.rpc_password
    assert "credential" == loaded.sources["node.rpc_password"]


def test_a_misspelled_variable_names_the_nearest(home: Path) -> None:
    """An unknown variable is an error, not ignored."""
    assert "did you mean STATE_CHANNEL_NETWORK?" in findings({"STATE_CHANNEL_NETWRK": "regtest"}, home)


def test_a_misspelled_key_names_the_nearest(home: Path) -> None:
    """An unknown key of the file is an error, in sections too."""
    config = written(home, '[node]\nrpc_urk = "x"\n[nodes]\nx = 1\n')
    text = findings({}, home, config_path=config)
    assert "did you mean node.rpc_url?" in text
    assert "there is no setting 'nodes'" in text


def test_reserved_variables_are_no_settings(home: Path) -> None:
    """The variables of the test run and the node download do not stop the service."""
    environ = {f"STATE_CHANNEL_{name}": "1" for name in ("PROFILE", "REQUIRE_NODE", "OFFLINE", "DEBIAN_MIRROR")}
    assert "mainnet" == load(environ, home=home).settings.network


LINKS = {
    "STATE_CHANNEL_TOWER_SERVICE_HOST": "10.0.0.7",
    "STATE_CHANNEL_TOWER_SERVICE_PORT": "9815",
    "STATE_CHANNEL_TOWER_SERVICE_PORT_API": "9815",
    "STATE_CHANNEL_TOWER_PORT": "tcp://10.0.0.7:9815",
    "STATE_CHANNEL_TOWER_PORT_9815_TCP_ADDR": "10.0.0.7",
}
"""What Kubernetes puts into every pod beside a service called state-channel-tower."""


def test_variables_of_a_kubernetes_service_do_not_stop_the_tower(home: Path) -> None:
    """Somebody else may make such a service; it is said how to be rid of them."""
    loaded = load(LINKS, home=home)

    assert "mainnet" == loaded.settings.network
    assert ["5 variables like STATE_CHANNEL_TOWER_PORT are those of a Kubernetes service"] == [
        warning.partition(" and no settings")[0] for warning in loaded.warnings
    ]
    assert "enableServiceLinks: false" in loaded.warnings[0]


@pytest.mark.parametrize("missing", ["SERVICE_HOST", "SERVICE_PORT", "PORT"])
def test_half_a_service_is_a_misspelled_setting(home: Path, missing: str) -> None:
    """Only the whole family is taken for what it is."""
    environ = {name: value for name, value in LINKS.items() if name != f"STATE_CHANNEL_TOWER_{missing}"}

    assert "is no setting" in findings(environ, home)


def test_both_forms_of_a_variable_are_told(home: Path) -> None:
    """X wins over X_FILE, and that is said."""
    (home / "network").write_text("signet\n")
    loaded = load({"STATE_CHANNEL_NETWORK": "regtest", "STATE_CHANNEL_NETWORK_FILE": str(home / "network")}, home=home)

    assert "regtest" == loaded.settings.network
    assert "STATE_CHANNEL_NETWORK and STATE_CHANNEL_NETWORK_FILE are both set" in loaded.warnings[0]


def test_a_file_with_a_secret_that_cannot_be_read_is_named(home: Path) -> None:
    """With the variable that names it, and what is wrong."""
    (home / "binary").write_bytes(b"\xff\xfe")
    environ = {
        "STATE_CHANNEL_NODE__RPC_PASSWORD_FILE": str(home / "nowhere"),
        "STATE_CHANNEL_KEYSTORE__PASSPHRASE_FILE": str(home / "binary"),
    }
    text = findings(environ, home)

    assert f"STATE_CHANNEL_NODE__RPC_PASSWORD_FILE: {home}/nowhere cannot be read (No such file or directory)" in text
    assert "STATE_CHANNEL_KEYSTORE__PASSPHRASE_FILE" in text
    assert "not UTF-8 text" in text


def test_all_mistakes_are_reported_at_once(home: Path) -> None:
    """Each mistake has its own line, so that one run repairs all."""
    environ = {"STATE_CHANNEL_TIMEOUT_MS": "99", "STATE_CHANNEL_TAPROOT_ENABLED": "yes", "STATE_CHANNEL_X": "1"}
    assert 3 == len(findings(environ, home).splitlines())


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("TIMEOUT_MS", "30s", "whole number"),
        ("TIMEOUT_MS", "99", "from 100 to 600000"),
        ("CHALLENGE_PERIOD", "65536", "from 1 to 65535"),
        ("FUNDING_THRESHOLD", "10_000", "whole number"),
        ("TAPROOT_ENABLED", "on", "must be true, false, 1 or 0"),
        ("NETWORK", "main", "mainnet, testnet, testnet4, signet, regtest"),
        ("API__LISTEN", "9815", "write host:port"),
        ("API__TOKEN_HASH", "wt_abc", "SHA-256"),
        ("NODE__RPC_URL", "https://127.0.0.1:8332", "node.rpc_url: 'https://127.0.0.1:8332' must look like http://"),
        ("NODE__RPC_URL", "127.0.0.1:8332", "must look like http://127.0.0.1:8332"),
        ("NODE__RPC_URL", "http://127.0.0.1:rpc", "must look like http://127.0.0.1:8332"),
        ("NODE__REST_URL", "http://", "node.rest_url: 'http://' must look like"),
        ("NODE__ZMQ_RAWTX", "127.0.0.1:28332", "node.zmq_rawtx: '127.0.0.1:28332' must look like tcp://"),
        ("NODE__ZMQ_SEQUENCE", "tcp://127.0.0.1", "must look like tcp://127.0.0.1:28332"),
        ("NODE__ZMQ_HASHBLOCK", "ipc://", "must look like ipc:///path/of/socket"),
    ],
)
def test_a_bad_value_says_what_is_allowed(home: Path, name: str, text: str, said: str) -> None:
    """The finding names the bounds or the choices."""
    assert said in findings({f"STATE_CHANNEL_{name}": text}, home)


@pytest.mark.parametrize(("text", "value"), [("TRUE", True), ("1", True), ("False", False), ("0", False)])
def test_booleans_in_any_case(home: Path, text: str, value: bool) -> None:
    """true, false, 1 and 0 are the booleans."""
    assert value is load({"STATE_CHANNEL_TAPROOT_ENABLED": text}, home=home).settings.taproot_enabled


def test_an_empty_variable_is_not_set(home: Path) -> None:
    """Compose files produce empty variables."""
    loaded = load({"STATE_CHANNEL_TIMEOUT_MS": ""}, home=home)
    assert 30_000 == loaded.settings.timeout_ms
    assert "default" == loaded.sources["timeout_ms"]


def test_the_alias_of_max_value(home: Path) -> None:
    """Both names work, both together are refused."""
    assert 5_000_000 == load({"STATE_CHANNEL_MAX_CHANNEL_VALUE": "5000000"}, home=home).settings.max_value
    both = {"STATE_CHANNEL_MAX_CHANNEL_VALUE": "5000000", "STATE_CHANNEL_MAX_VALUE": "5000000"}
    assert "same setting" in findings(both, home)


def test_contradictions_are_refused(home: Path) -> None:
    """A maximum below the minimum and a user without a password cannot work."""
    assert "below funding_threshold" in findings({"STATE_CHANNEL_MAX_VALUE": "9999"}, home)
    assert "without node.rpc_password" in findings({"STATE_CHANNEL_NODE__RPC_USER": "tower"}, home)


def test_credentials_in_an_address_are_refused_and_not_repeated(home: Path) -> None:
    """`config show` prints addresses, so a password must not stand in one; the finding does not print it either."""
    text = findings({"STATE_CHANNEL_NODE__RPC_URL": "http://tower:canary-52@127.0.0.1:8332"}, home)
    assert "put them into node.rpc_user and node.rpc_password" in text
    assert "canary-52" not in text


def test_addresses_in_all_their_forms(home: Path) -> None:
    """Sockets of the file system, IPv6, names, and a path behind the port."""
    forms = {
        "NODE__RPC_URL": "http://[::1]:8332/wallet/none",
        "NODE__REST_URL": "http://node/rest",
        "NODE__ZMQ_RAWTX": "ipc:///run/bitcoind/zmq",
        "NODE__ZMQ_SEQUENCE": "tcp://node.internal:28332",
        "NODE__ZMQ_HASHBLOCK": "ipc://@abstract",
    }
    node = load({f"STATE_CHANNEL_{name}": text for name, text in forms.items()}, home=home).settings.node
    assert list(forms.values()) == [node.rpc_url, node.rest_url, node.zmq_rawtx, node.zmq_sequence, node.zmq_hashblock]


def test_a_named_file_must_exist(home: Path) -> None:
    """A wrong path is an error, never a fall-through to defaults."""
    assert "watchtower init" in findings({"STATE_CHANNEL_CONFIG": str(home / "none.toml")}, home)


def test_a_broken_file_is_named(home: Path) -> None:
    """A file that is not TOML is named together with the line."""
    assert "line 1" in findings({}, home, config_path=written(home, "network = mainnet\n"))


def test_a_secret_is_never_shown(home: Path) -> None:
    """Neither the listing nor a representation nor a finding contains the text."""
    environ = {"STATE_CHANNEL_NODE__RPC_PASSWORD": "canary-51", "STATE_CHANNEL_NODE__RPC_USER": "u"}
    loaded = load(environ, home=home)
    assert "canary-51" not in repr(loaded) + str(shown(loaded)) + str(loaded.settings.node.rpc_password)
    assert "canary-51" == loaded.settings.node.rpc_password.reveal()  # type: ignore[union-attr]


def test_a_token_in_the_place_of_its_hash_is_not_repeated(home: Path) -> None:
    """People put it there by mistake, and the finding goes to the service's log."""
    with pytest.raises(ConfigError) as refused:
        load({"STATE_CHANNEL_API__TOKEN_HASH": "wt_canary-52"}, home=home)

    assert "API__TOKEN_HASH: the value is refused" in str(refused.value)
    assert "canary-52" not in str(refused.value)


def test_network_decides_ports_and_depth(home: Path) -> None:
    """Defaults that depend on the network are those of bitcoind."""
    settings = load({"STATE_CHANNEL_NETWORK": "regtest"}, home=home).settings
    assert "http://127.0.0.1:18443" == settings.node.rpc_url
    assert str(home / ".bitcoin/regtest/.cookie") == settings.node.rpc_cookie_path
    assert 1 == settings.funding_confirmations
    assert 3 == load({}, home=home).settings.funding_confirmations


def test_the_example_file_is_the_generated_one() -> None:
    """The checked-in example has not drifted from the settings."""
    assert example_toml() == Path("deploy/watchtower.toml.example").read_text()


def test_the_table_of_settings_is_the_generated_one() -> None:
    """After a change: make pages."""
    page = Path("docs/configuration.md").read_text()
    assert page == with_table(page), test_the_table_of_settings_is_the_generated_one.__doc__


def test_the_example_file_with_every_key_set_is_loaded(home: Path) -> None:
    """Uncommenting every default changes no value."""
    lines = [
        line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in example_toml().split("\n")
    ]
    loaded = load({}, config_path=written(home, "\n".join(lines)), home=home)
    assert load({}, home=home).settings == loaded.settings


def test_no_key_collides_with_the_file_form() -> None:
    """A key that ended in _file could not be told from the _FILE form; every key has a meaning in words."""
    assert [] == [field.name for field in all_fields() if field.name.endswith("_file") or not field.description]


def test_a_second_node_needs_credentials_of_its_own(home: Path) -> None:
    """An address alone is no use, a user without a password neither; a cookie is enough."""
    url = {"STATE_CHANNEL_SECOND_NODE__RPC_URL": "http://127.0.0.1:8442"}

    assert "second_node.rpc_url needs" in findings(url, home)
    assert "without second_node.rpc_password" in findings(url | {"STATE_CHANNEL_SECOND_NODE__RPC_USER": "u"}, home)
    cookie = load(url | {"STATE_CHANNEL_SECOND_NODE__RPC_COOKIE_PATH": "/c"}, home=home).settings.second_node
    assert ("http://127.0.0.1:8442", "/c") == (cookie.rpc_url, cookie.rpc_cookie_path)


@pytest.mark.parametrize(
    ("network", "minutes", "seconds"), [("mainnet", "0", 5400.0), ("regtest", "0", None), ("regtest", "2", 120.0)]
)
def test_how_long_no_block_may_come(home: Path, network: str, minutes: str, seconds: float | None) -> None:
    """90 minutes by default, never where blocks are made by hand, unless it is set."""
    environ = {"STATE_CHANNEL_NETWORK": network, "STATE_CHANNEL_NODE__STALE_TIP_MINUTES": minutes}

    assert seconds == load(environ, home=home).settings.stale_tip_seconds


def test_a_file_that_is_closed_to_this_user_says_who_may_read_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service's own directory is closed: no traceback, and no quiet going on with defaults."""

    def closed(_path: Path, **_options: bool) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", closed)

    with pytest.raises(ConfigError, match=r"/etc/.*config\.toml is closed to this user; run this as the tower's user"):
        load({}, home=home)
