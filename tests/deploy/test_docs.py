"""The pages say what is there: links, commands, settings, metrics, problems and tests that they name exist."""

from __future__ import annotations

import ast
import importlib
import re
from itertools import chain
from pathlib import Path

import click
import msgspec
import pytest

import watchtower.client
from watchtower.cli import _main
from watchtower.config.fields import all_fields
from watchtower.http.app import ROUTES
from watchtower.http.problems import STATUS, TITLES
from watchtower.ports import ALLOWED_METHODS
from watchtower.telemetry.catalog import BLOCKING_REASONS, CATALOG, OTHER_REASONS

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in chain(
        ROOT.glob("*.md"), ROOT.glob("docs/**/*.md"), ROOT.glob("deploy/**/*.md"), ROOT.glob("grafana/*.md")
    )
)
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)]*)?\)")
VERBS = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


def text_of(page: str) -> str:
    """A page by its path from the root."""
    return (ROOT / page).read_text()


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    prose = FENCE.sub("", page.read_text())
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {"#" + re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of the repository, with its heading."""
    links = LINK.findall(FENCE.sub("", page.read_text()))
    missing = [target for target, _ in links if not (page.parent / target).exists()]
    pages = [(page.parent / target if target else page, anchor) for target, anchor in links if anchor]
    lost = [anchor for target, anchor in pages if anchor not in anchors(target)]

    assert ([], []) == (missing, lost)


def test_every_page_is_in_the_index() -> None:
    """docs/README.md names each page and each picture has a page."""
    index = text_of("docs/README.md")
    pages = [path.name for path in (ROOT / "docs").glob("*.md") if path.name != "README.md"]
    pictures = [path.name for path in (ROOT / "docs").glob("*.svg")]
    everything = "".join(page.read_text() for page in PAGES)

    assert [] == [name for name in pages if f"({name})" not in index]
    assert [] == [name for name in pictures if name not in everything]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    """Every `make` verb and every `watchtower` command that a page names in code."""
    blocks = FENCE.findall(page.read_text())
    inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text()))
    code = "\n".join([*inline, *(body for language, body in blocks if language in ("", "sh", "text"))])
    makes = re.findall(r"^(?:[A-Z]+=\S+ )?make ([a-z-]+)", code, re.MULTILINE)
    commands = re.findall(r"^(?:\S*/)?watchtower ((?:--config \S+ )?[a-z].*)$", code, re.MULTILINE)

    assert [] == [verb for verb in makes if verb not in VERBS]
    assert [] == [command for command in commands if not is_command(command)]


def is_command(line: str) -> bool:
    """True if the words before the first argument are a command, and its options exist."""
    words = re.sub(r"^--config \S+ ", "", line.split("|", maxsplit=1)[0].split("#", maxsplit=1)[0]).split()
    found: click.Command = _main
    context = click.Context(_main)
    while words and isinstance(found, click.Group):
        inner = found.get_command(context, words[0])
        if inner is None:
            return False
        found, words = inner, words[1:]
    known = {option for parameter in found.params for option in parameter.opts} | {"--help"}
    return all(word in known for word in words if word.startswith("--"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_names_exist(page: Path) -> None:
    """Every name with its module that a page has in its sentences."""
    named = re.findall(r"`((?:domain|projections|watchtower)\.[\w.]+)(?:\([^`]*)?`", FENCE.sub("", page.read_text()))

    assert [] == [name for name in named if not is_python(name)]


def is_python(name: str) -> bool:
    """True if the name can be imported, from the SDK if it has no module; fields of structs count."""
    if name.split(".", maxsplit=1)[0] not in ("domain", "projections", "watchtower"):
        return _leads(watchtower.client, name.split("."))
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        return _leads(module, parts[length:])
    return False


def _leads(found: object, parts: list[str]) -> bool:
    for part in parts:
        if isinstance(found, type) and issubclass(found, msgspec.Struct) and part in found.__struct_fields__:
            return part == parts[-1]
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


def test_named_tests_exist() -> None:
    """A promise that names a test stands on it."""
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"def (test_\w+)\(", sources))
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.read_text())}

    assert set() == named - defined
    assert len(named) > 50


def test_every_room_of_the_service_is_on_the_map() -> None:
    """Folders with their slash, modules with their name; nothing that is gone."""
    folder = ROOT / "watchtower"
    modules = {path.name for path in folder.glob("*.py") if not path.name.startswith("__")}
    packages = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    client = {f"client/{path.parent.name}/" for path in (folder / "client").glob("*/__init__.py")}
    rooms = text_of("docs/architecture.md").split("## Rooms of the service")[1].split("## Threads")[0]
    firsts = [row.split("|")[1] for row in rooms.splitlines() if row.startswith("| `")]
    named = {name for first in firsts for name in re.findall(r"`([^`]+)`", first)}

    assert modules | packages | client | {"store/postgres/"} == named


def test_every_attack_of_the_protocol_has_its_row() -> None:
    """A1 to A31, in order."""
    rows = re.findall(r"^\| A(\d+) \|", text_of("docs/threat-model.md"), re.MULTILINE)
    assert [str(number) for number in range(1, 32)] == rows


def test_every_threat_has_its_test_or_its_reason() -> None:
    """Who reads a row of the threat model learns what shows it, or why nothing does."""
    rows = re.findall(r"^\| .* \| ([^|]+) \|$", text_of("docs/threat-model.md"), re.MULTILINE)
    shown = rows[rows.index("shown by") :]
    excuses = ("shown by", "by design", "not yet", "](")

    assert [] == [cell for cell in shown if "`test_" not in cell and not any(words in cell for words in excuses)]
    assert len(shown) > 60


def test_the_unit_allows_no_core_dump() -> None:
    """A dump would hold keys: off in the service manager too, before the process has run a line."""
    unit = text_of("deploy/systemd/state-channel-watchtower.service")
    assert ["0"] == re.findall(r"^LimitCORE=(.*)$", unit, re.MULTILINE)


def test_every_package_is_locked_by_hash() -> None:
    """No line of the requirements names a package without the hashes of its files."""
    lists = sorted((ROOT / "requirements").glob("*.txt"))
    entries = [entry for path in lists for entry in re.split(r"(?m)^(?=\S+==)", path.read_text()) if "==" in entry]

    assert len(entries) > 50
    assert [] == [entry for entry in entries if "--hash=sha256:" not in entry]


def test_every_setting_is_described() -> None:
    """The table of settings has the words of the settings themselves."""
    page = text_of("docs/configuration.md")
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \|.*\| (.*) \|$", page, re.MULTILINE))
    expected = {field.name: field.description + (f" [{field.unit}]" if field.unit else "") for field in all_fields()}

    assert expected == rows


def test_every_metric_is_listed() -> None:
    """The table of metrics is the catalog."""
    page = text_of("docs/operations.md")
    rows = re.findall(r"^\| `([a-z_]+)` \| (?:gauge|counter|histogram) \| (.*) \| (.*) \|$", page, re.MULTILINE)
    expected = [(row.name, ", ".join(label for label, _ in row.labels), row.help) for row in CATALOG]

    assert expected == [(name, labels, meaning) for name, labels, meaning in rows]


def test_every_reason_is_explained() -> None:
    """An operator finds each readiness reason."""
    page = text_of("docs/operations.md")
    explained = [reason for reason in BLOCKING_REASONS if re.search(rf"`{reason}`[^|]*\| yes", page)]
    others = [reason for reason in OTHER_REASONS if f"`{reason}`" in page]

    assert list(BLOCKING_REASONS) == explained
    assert list(OTHER_REASONS) == others


def test_every_route_and_problem_is_documented() -> None:
    """A client's programmer finds each address and each slug."""
    page = text_of("docs/api.md")
    slugs = set(TITLES) | set(STATUS)

    assert [] == [route for route in ROUTES if f"{route}`" not in page]
    assert [] == sorted(slug for slug in slugs if f"`{slug}`" not in page)


def test_the_whitelist_is_the_one_that_init_prints() -> None:
    """docs/node.md can be copied."""
    line = re.search(r"^rpcwhitelist=watchtower:(.*)$", text_of("docs/node.md"), re.MULTILINE)
    assert line is not None
    assert ",".join(ALLOWED_METHODS) == line[1]


def test_python_on_the_pages_can_be_read() -> None:
    """Snippets have no slips of the pen."""
    snippets = [body for page in PAGES for language, body in FENCE.findall(page.read_text()) if language == "python"]
    names = [type(node).__name__ for snippet in snippets for node in ast.parse(_wrapped(snippet)).body]

    assert len(names) >= 2


def _wrapped(snippet: str) -> str:
    """Snippets from inside a coroutine stand in one."""
    inner = "".join(f"    {line}\n" for line in snippet.splitlines())
    return f"async def snippet() -> None:\n{inner}"
