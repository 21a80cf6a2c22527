"""The repository: what the domain may import, who owns the import names, what the wheel holds, what is locked."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = {"domain", "msgspec"} | sys.stdlib_module_names


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports, wherever the statement stands."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.partition(".")[0] for name in plain | {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}}


def test_the_domain_imports_the_standard_library_and_msgspec() -> None:
    """coincurve is the one exception, in the one module that is the door to libsecp256k1."""
    foreign = {
        (str(path.relative_to(ROOT)), name) for path in (ROOT / "domain").rglob("*.py") for name in imported(path) - OWN
    }
    assert {("domain/contract/secp256k1.py", "coincurve")} == foreign


@pytest.mark.parametrize("name", ["domain", "projections", "watchtower", "coincurve", "bitcoinrpc"])
def test_one_distribution_owns_an_import_name(name: str) -> None:
    """PyPI has other distributions that install `watchtower`, `bitcoinrpc` and into `coincurve`: never two at once."""
    ours = "state-channel-watchtower"
    expected = {"coincurve": "coincurve", "bitcoinrpc": "python-bitcoinrpc"}.get(name, ours)
    assert {expected} == set(packages_distributions().get(name, [ours]))  # an editable installation lists no files


def test_make_demo_leaves_stdout_to_the_demo() -> None:
    """`make demo DEMO_ARGS=--json` is one JSON document, so neither set-up nor demo shows its own commands."""
    rules = re.findall(r"^(?:demo|\$\(STAMP\)):.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    starts = [line for rule in rules for line in re.sub(r"\\\n", "", rule).splitlines()]
    assert 2 == len(rules)
    assert {"\t@"} == {line[:2] for line in starts}


def test_the_command_is_installed() -> None:
    """The console script leads to the command line."""
    scripts = distribution("state-channel-watchtower").entry_points.select(group="console_scripts")
    assert ["watchtower.cli:main"] == [script.value for script in scripts]


@pytest.mark.parametrize("name", ["build", "dev", "runtime"])
def test_every_locked_package_has_hashes_and_no_address(name: str) -> None:
    """pip refuses what is not hashed; an index address in the file would bind users to one registry."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    packages = re.findall(
        r"^[a-z0-9][^\n]*==[^\n]*\\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", text, re.MULTILINE
    )
    assert len(re.findall(r"^[a-z0-9]", text, re.MULTILINE)) == len(packages)
    assert [] == re.findall(r"https?://|--index-url|--find-links|/home/|/root/", text)


def test_the_runtime_lock_is_part_of_the_development_lock() -> None:
    """What is tested is what is shipped."""
    pinned = {
        name: set(re.findall(r"^([a-z0-9-]+==\S+)", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE))
        for name in ("runtime", "dev")
    }
    assert pinned["runtime"] < pinned["dev"]


def test_every_package_tells_that_it_is_typed() -> None:
    """PEP 561: without the marker a user's type checker ignores the annotations."""
    assert [] == [name for name in ("domain", "projections", "watchtower") if not (ROOT / name / "py.typed").is_file()]
