"""Settings from defaults < file < credential or _FILE < environment < flags; every value knows its source.

All findings are reported at once, one line each, so that a new operator repairs a file in one go.
"""

from __future__ import annotations

import difflib
import stat
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from watchtower.config.fields import PREFIX, Field, all_fields
from watchtower.config.sections import StoreSettings
from watchtower.config.settings import COOKIE_FOLDERS, RPC_PORTS, Settings, parse_listen
from watchtower.config.targets import bad_targets, doubtful_targets
from watchtower.ports import WatchtowerError

RESERVED = frozenset(
    PREFIX + name for name in ("CONFIG", "PROFILE", "REQUIRE_NODE", "OFFLINE", "DEBIAN_MIRROR", "PARTY_HOME")
)
"""Variables with our prefix that other parts read; they are no settings."""

TAKEN_FOR_SECRETS = frozenset({"api.token_hash"})
"""Settings that are none themselves, and into which people put the secret that they stand for."""

FOLDER = "state-channel-watchtower"
AS_THE_TOWER = (
    "run this as the tower's user, as in `runuser -u watchtower -- watchtower status`, or name another --config"
)
_SERVICE_HOST = "_SERVICE_HOST"


class ConfigError(WatchtowerError):
    """The configuration cannot be used (exit 2); `findings` has one sentence per mistake."""

    slug: ClassVar[str] = "configuration"

    def __init__(self, findings: Iterable[str]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(self.findings))


class Loaded(msgspec.Struct, frozen=True):
    """The settings, and per dotted key the source: default, a path, credential, a variable, or flag.

    `path` is the file that was read, empty if there was none.
    """

    settings: Settings
    sources: dict[str, str]
    warnings: tuple[str, ...]
    path: str = ""


class _Reading:
    """Values found so far, later sources overwrite earlier ones; mistakes are collected."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.findings: list[str] = []
        self.warnings: list[str] = []

    def take_text(self, field: Field, text: str, label: str, source: str) -> None:
        if text == "":  # compose files set variables they leave empty
            return
        try:
            self.values[field.name] = field.from_text(text)
        except ValueError as error:
            shown = "the value" if field.secret or field.name in TAKEN_FOR_SECRETS else repr(text)
            self.findings.append(f"{label}: {shown} is refused, it {error}")
            return
        self.sources[field.name] = source

    def take_toml(self, field: Field, value: Any, path: Path) -> None:
        if value == "":  # as in the example file: not set
            return
        try:
            self.values[field.name] = field.from_toml(value)
        except ValueError as error:
            self.findings.append(f"{path}: {field.name} {error}")
            return
        self.sources[field.name] = str(path)


def load(
    environ: Mapping[str, str],
    *,
    config_path: str | None = None,
    flags: Mapping[str, str | None] | None = None,
    home: Path | None = None,
    read_file: bool = True,
) -> Loaded:
    """Read and check everything; raises `ConfigError` with all findings.

    `flags` maps dotted keys to texts (None: not given). `config_path` or STATE_CHANNEL_CONFIG names the file, which
    must then exist; otherwise /etc/state-channel-watchtower/config.toml or the user's own is read if it is there.
    Without `read_file` no file is read.
    """
    home = home or Path.home()
    reading = _Reading()
    path = _config_path(environ, config_path, home) if read_file else None
    if path is not None:
        _read_toml(reading, path)
    _read_credentials(reading, environ)
    _read_files(reading, environ)
    _read_environment(reading, environ)
    for name, text in (flags or {}).items():
        if text is not None:
            field = next(field for field in all_fields() if field.name == name)
            reading.take_text(field, text, "--" + field.key.replace("_", "-"), "flag")
    if reading.findings:
        raise ConfigError(reading.findings)
    _derive(reading, environ, home)
    settings = _built(reading.values)
    if findings := _contradictions(settings, reading):
        raise ConfigError(findings)
    sources = {field.name: reading.sources.get(field.name, "default") for field in all_fields()}
    return Loaded(settings, sources, tuple(reading.warnings), str(path or ""))


def _config_path(environ: Mapping[str, str], given: str | None, home: Path) -> Path | None:
    named = given or environ.get(PREFIX + "CONFIG")
    if named:
        path = Path(named)
        if not _is_there(path):
            raise ConfigError([f"there is no configuration file {path}; make one with `watchtower init`"])
        return path
    own = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    candidates = (Path("/etc") / FOLDER / "config.toml", own / FOLDER / "config.toml")
    return next((path for path in candidates if _is_there(path)), None)


def _is_there(path: Path) -> bool:
    """False if there is no such file. One in a directory that is closed to this user is neither there nor away."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except PermissionError:
        raise ConfigError([f"{path} is closed to this user; {AS_THE_TOWER}"]) from None
    except OSError:
        return False


def _read_toml(reading: _Reading, path: Path) -> None:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no TOML, no text, a number or a nesting without end
        raise ConfigError([f"{path} is not TOML: {error}"]) from None
    except PermissionError:
        raise ConfigError([f"{path} is closed to this user; {AS_THE_TOWER}"]) from None
    except OSError as error:
        raise ConfigError([f"{path} cannot be read: {error.strerror}"]) from None
    flat: dict[str, Any] = {}
    sections = {field.section for field in all_fields()}
    for key, value in document.items():
        if isinstance(value, dict) and key in sections:
            flat.update({f"{key}.{inner}": item for inner, item in value.items()})
        else:
            flat[key] = value
    known = _by_name()
    for name, value in flat.items():
        if name not in known:
            reading.findings.append(f"{path}: there is no setting {name!r}{_nearest(name, known)}")
        else:
            reading.take_toml(known[name], value, path)
    for field in all_fields():
        if field.alias in flat and field.name in flat:
            reading.findings.append(f"{path}: {field.alias} and {field.name} are the same setting; keep one")


def _by_name() -> dict[str, Field]:
    return {name: field for field in all_fields() for name in (field.name, field.alias) if name}


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else "; `watchtower config example` lists all settings"


def _read_credentials(reading: _Reading, environ: Mapping[str, str]) -> None:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    for field in all_fields() if directory else ():
        path = Path(str(directory)) / field.name
        if path.is_file():
            reading.take_text(field, _first_line_form(reading, path, "the credential"), str(path), "credential")


def _first_line_form(reading: _Reading, path: Path, named_by: str) -> str:
    """Text of a one-value file; the trailing newline that editors add is stripped once."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reading.findings.append(
            f"{named_by}: {path} cannot be read ({error.strerror}); it has to exist, for the user of the tower"
        )
        return ""
    except UnicodeDecodeError:
        reading.findings.append(f"{named_by}: {path} cannot be read (not UTF-8 text); write the value alone into it")
        return ""
    return text.removesuffix("\n")


def _read_files(reading: _Reading, environ: Mapping[str, str]) -> None:
    for field in all_fields():
        variable = field.variable + "_FILE"
        if path := environ.get(variable):
            reading.take_text(field, _first_line_form(reading, Path(path), variable), variable, variable)
            if environ.get(field.variable):
                reading.warnings.append(
                    f"{field.variable} and {variable} are both set, and the first one is used; unset one of them"
                )


def _read_environment(reading: _Reading, environ: Mapping[str, str]) -> None:
    known = {name: field for field in all_fields() for name in (field.variable, field.variable_alias) if name}
    allowed = set(known) | {name + "_FILE" for name in known} | RESERVED
    links = service_links(environ) - allowed
    if links:
        reading.warnings.append(
            f"{len(links)} variables like {min(links)} are those of a Kubernetes service and no settings; "
            "set enableServiceLinks: false in the pod, or give the service another name"
        )
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in links:
            continue
        if name not in allowed:
            reading.findings.append(f"{name} is no setting{_nearest(name, allowed)}")
        elif name in known:
            reading.take_text(known[name], environ[name], name, name)
    for field in all_fields():
        if field.alias and environ.get(field.variable_alias) and environ.get(field.variable):
            reading.findings.append(f"{field.variable_alias} and {field.variable} are the same setting; keep one")


def service_links(environ: Mapping[str, str]) -> set[str]:
    """Names with our prefix that Kubernetes puts into every pod beside a service called `state-channel-…`.

    Taken for such only if the whole family is there: X_SERVICE_HOST, X_SERVICE_PORT and X_PORT as an address. Anything
    less is a misspelled setting.
    """
    found: set[str] = set()
    for name in environ:
        family = name.removesuffix(_SERVICE_HOST)
        if not name.startswith(PREFIX) or family == name:
            continue
        if f"{family}_SERVICE_PORT" in environ and "://" in environ.get(f"{family}_PORT", ""):
            begins = (f"{family}_SERVICE_", f"{family}_PORT")
            found |= {each for each in environ if each.startswith(begins)}
    return found


def _derive(reading: _Reading, environ: Mapping[str, str], home: Path) -> None:
    """Defaults that depend on the network or on where we run."""
    network = reading.values.get("network", "mainnet")
    share = Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    data_dir = environ.get("STATE_DIRECTORY") or str(share / FOLDER)
    derived = {
        "data_dir": data_dir,
        "node.rpc_url": f"http://127.0.0.1:{RPC_PORTS[network]}",
        "node.rpc_cookie_path": str(home / ".bitcoin" / COOKIE_FOLDERS[network] / ".cookie"),
    }
    for name, value in derived.items():
        reading.values.setdefault(name, value)
    reading.values["data_dir"] = str(Path(reading.values["data_dir"]).expanduser().absolute())


def _built(values: Mapping[str, Any]) -> Settings:
    top: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    for field in all_fields():
        if field.name in values:
            target = sections.setdefault(field.section, {}) if field.section else top
            target[field.key] = values[field.name]
    defaults = Settings()
    for name, inner in sections.items():
        top[name] = msgspec.structs.replace(getattr(defaults, name), **inner)
    return Settings(**top)


def _contradictions(settings: Settings, reading: _Reading) -> list[str]:
    found = []
    if settings.max_value < settings.funding_threshold:
        found.append(
            f"max_value ({settings.max_value}) is below funding_threshold ({settings.funding_threshold}): "
            "no channel could be opened"
        )
    found += _bad_addresses(settings)
    found += _bad_store(settings.store)
    unusable = bad_targets(settings.notify)
    found += unusable
    if not unusable:
        reading.warnings.extend(doubtful_targets(settings.notify))
    if settings.node.rpc_user and settings.node.rpc_password is None:
        found.append("node.rpc_user is set without node.rpc_password; set both, or neither to use the cookie")
    other = settings.second_node
    if other.rpc_user and other.rpc_password is None:
        found.append("second_node.rpc_user is set without second_node.rpc_password; set both, or neither")
    if other.rpc_url and not other.rpc_user and not other.rpc_cookie_path:
        found.append("second_node.rpc_url needs second_node.rpc_user and rpc_password, or second_node.rpc_cookie_path")
    for name, text in (("api.listen", settings.api.listen), ("admin.listen", settings.admin.listen)):
        try:
            parse_listen(text)
        except ValueError as error:
            found.append(f"{name}: {error}")
    if settings.funding_threshold < 20_000 and "funding_threshold" in reading.sources:
        doubt = "funding_threshold is below 20000: a penalty may cost more than it saves; set 20000 or more"
        reading.warnings.append(doubt)
    if settings.network == "mainnet" and settings.challenge_period < 144:
        reading.warnings.append("challenge_period is below 144 blocks (one day) on mainnet; set 144 or more")
    return found


def _bad_addresses(settings: Settings) -> list[str]:
    """Addresses of the node that cannot be used. One with a password is not repeated: findings are printed."""
    node = settings.node
    places = {"node.rpc_url": (node.rpc_url, "http"), "node.rest_url": (node.rest_url, "http")}
    places["second_node.rpc_url"] = (settings.second_node.rpc_url, "http")
    for topic, address in (
        ("sequence", node.zmq_sequence),
        ("rawtx", node.zmq_rawtx),
        ("hashblock", node.zmq_hashblock),
    ):
        places[f"node.zmq_{topic}"] = (address, "ipc" if address.startswith("ipc://") else "tcp")
    found = []
    for name, (address, scheme) in places.items():
        if scheme != "ipc" and "@" in address:
            section = name.partition(".")[0]
            found.append(f"{name} holds credentials; put them into {section}.rpc_user and {section}.rpc_password")
        elif address and not _is_address(address, scheme):
            found.append(f"{name}: {address!r} must look like {_ADDRESS_FORMS[scheme]}")
    return found


def _bad_store(store: StoreSettings) -> list[str]:
    """A url that cannot be used; one with a password is not repeated, because findings are printed."""
    if not store.url.startswith("postgres"):
        unused = [name for name, given in (("password", store.password), ("standby", store.standby)) if given]
        return [f"store.{name} belongs to a log on a server; set store.url to postgresql://…" for name in unused]
    try:
        parts = urlsplit(store.url)
        has_password = parts.password is not None or "password=" in parts.query
    except ValueError as error:
        return [f"store.url is no address of a server ({error}); write postgresql://user@host/database"]
    if has_password:
        return ["store.url holds a password; put it into store.password, or into a password file of libpq"]
    if not parts.path.strip("/") and "dbname=" not in parts.query and "service=" not in parts.query:
        return ["store.url names no database; write postgresql://user@host/database"]
    return []


_ADDRESS_FORMS = {"http": "http://127.0.0.1:8332", "tcp": "tcp://127.0.0.1:28332", "ipc": "ipc:///path/of/socket"}


def _is_address(address: str, scheme: str) -> bool:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:  # not a port number, or an unfinished IPv6 address
        return False
    if parts.scheme != scheme:
        return False
    return (
        bool(parts.netloc + parts.path)
        if scheme == "ipc"
        else bool(parts.hostname) and (port is not None or scheme == "http")
    )
