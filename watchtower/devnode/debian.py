"""Programs from Debian's signed archive without root: a private apt world, unpacked beside the host's.

The packages are verified by the host's own apt against Debian's archive keyring, unpacked with `dpkg-deb` and
started through the C library that came with them, so the release of the host does not matter. Nothing is
installed and no file of the host changes. Works as any user on a Debian-family host; elsewhere `ArchiveError`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

SUITE = "forky"
PUBLIC_ARCHIVE = "http://deb.debian.org/debian"
"""Debian's public archive. Plain HTTP is enough: apt verifies signatures, and it works without CA certificates."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LOADERS = {"amd64": "ld-linux-x86-64.so.2", "arm64": "ld-linux-aarch64.so.1"}
TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
MANIFEST = "manifest.json"
DOWNLOAD_LIMIT_SECONDS = 900.0


class ArchiveError(Exception):
    """The packages could not be had; the text gives the reason, with apt's last lines where it ran."""


class Request(msgspec.Struct, frozen=True):
    """What to unpack: Debian package names; `mirror` overrides the archive's address.

    `in_place` is a pattern of one more directory whose programs are started where they lie: a program like
    PostgreSQL looks for its own files from there. `wrapped` false leaves all programs as they are: the caller lays the
    tree below the /usr of a host of the same suite.
    """

    packages: tuple[str, ...]
    suite: str = SUITE
    mirror: str | None = None
    keyring: Path | None = None
    in_place: str | None = None
    wrapped: bool = True


def architecture() -> str:
    """The host's Debian architecture; raises `ArchiveError` where there is no apt or no loader is known."""
    for program in ("apt-get", "dpkg-deb", "dpkg"):
        if shutil.which(program) is None:
            raise ArchiveError(f"this host has no {program}: the download needs a Debian-family Linux")
    name = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=False).stdout.strip()
    if name not in LOADERS:
        raise ArchiveError(f"no packaged node is set up for the architecture {name or 'unknown'!r}")
    return name


def host_archive(etc: Path = Path("/etc")) -> str:
    """Address of the Debian archive that the host itself uses, else Debian's public one."""
    codename = _os_release(etc).get("VERSION_CODENAME", "")
    for uri, suites, components in _sources(etc / "apt"):
        if codename and codename in suites and "main" in components and not uri.startswith(("cdrom:", "file:")):
            return uri
    return PUBLIC_ARCHIVE


def unpack(request: Request, target: Path) -> None:
    """Download, verify and unpack the packages into `target`, which appears at once and complete or not at all.

    Afterwards `target/bin/` holds one executable wrapper per program and `target/manifest.json` the versions.
    The caller holds the lock of `target`. Raises `ArchiveError`.
    """
    arch = architecture()
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        tree = work / "tree"
        debs = _download(request, arch, work)
        for deb in debs:
            _run(["dpkg-deb", "-x", str(deb), str(tree)], dict(os.environ))
        if request.wrapped:
            _wrap_programs(tree, arch)
        if request.in_place is not None:
            wrap_in_place(tree, request.in_place, arch)
        _write_manifest(tree, request, arch, debs)
        if target.exists():  # incomplete: a complete one would have been used
            shutil.rmtree(target)
        work.chmod(0o755)
        tree.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _os_release(etc: Path) -> dict[str, str]:
    try:
        lines = (etc / "os-release").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {key: value.strip("\"'") for key, _, value in pairs}


def _sources(apt: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Address, suites and components of every enabled binary source of the host, in both file formats."""
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        yield from _deb822(path)
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]:
        yield from _one_line(path)


def _deb822(path: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    for stanza in _text(path).split("\n\n"):
        lines = [line for line in stanza.splitlines() if not line.startswith("#")]
        fields = {key.strip().lower(): value.split() for key, _, value in (line.partition(":") for line in lines)}
        if "deb" in fields.get("types", []) and fields.get("uris") and fields.get("enabled") != ["no"]:
            yield fields["uris"][0].rstrip("/"), fields.get("suites", []), fields.get("components", [])


def _one_line(path: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    for line in _text(path).splitlines():
        words = line.partition("#")[0].split()
        if not words or words[0] != "deb":
            continue
        if len(words) > 1 and words[1].startswith("["):
            closing = next((i for i, word in enumerate(words) if word.endswith("]")), len(words))
            words[1 : closing + 1] = []
        if len(words) > 3:
            yield words[1].rstrip("/"), [words[2]], words[3:]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _run(command: Sequence[str], environment: dict[str, str], cwd: Path | None = None) -> str:
    """Standard output of a command; `ArchiveError` with its last lines when it fails."""
    try:
        done = subprocess.run(
            list(command),
            env={**environment, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            cwd=cwd,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=DOWNLOAD_LIMIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ArchiveError(f"{command[0]} could not be run to its end: {error}") from error
    if done.returncode != 0:
        last = (done.stdout + done.stderr).strip().splitlines()[-8:]
        raise ArchiveError("\n".join([f"{command[0]} ended with code {done.returncode}; its last lines:", *last]))
    return done.stdout


def _download(request: Request, arch: str, work: Path) -> list[Path]:
    configuration = _private_apt(request, arch, work)
    apt = ["apt-get", "-q", "-y", f"--config-file={configuration}"]
    _run([*apt, "update"], dict(os.environ))
    _run([*apt, "--download-only", "install", *request.packages], dict(os.environ))
    debs = sorted((work / "cache" / "archives").glob("*.deb"))
    if not debs:
        raise ArchiveError("apt reported success but downloaded no package")
    return debs


def _private_apt(request: Request, arch: str, work: Path) -> Path:
    """Write the private apt world and return its configuration file.

    It is passed with `--config-file`, which apt reads *after* the host's own files: only then can it clear the
    hooks of container images. `Dir` and `Dir::Etc::parts` stay the host's, so its proxy, CA and policy hold.
    """
    for part in ("lists/partial", "cache/archives/partial", "log", "sources", "preferences"):
        (work / part).mkdir(parents=True)
    (work / "status").touch()  # an empty file: with /dev/null apt would try to lock in /dev
    keyring = request.keyring or _debian_keyring(work)
    source = f"""\
Types: deb
URIs: {request.mirror or host_archive()}
Suites: {request.suite}
Components: main
Architectures: {arch}
Targets: Packages
Signed-By: {keyring}
"""
    (work / "sources" / "debian.sources").write_text(source)
    configuration = work / "apt.conf"
    configuration.write_text(_APT_CONF.format(work=work, arch=arch))
    return configuration


_APT_CONF = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Architectures;
#clear APT::Default-Release;
#clear Dir::Cache;
Dir::Etc::SourceList "{work}/none.list";
Dir::Etc::SourceParts "{work}/sources";
Dir::Etc::Preferences "{work}/none";
Dir::Etc::PreferencesParts "{work}/preferences";
Dir::State::Lists "{work}/lists";
Dir::State::status "{work}/status";
Dir::State::extended_states "{work}/extended_states";
Dir::Cache "{work}/cache";
Dir::Cache::Archives "archives";
Dir::Log "{work}/log";
APT::Architecture "{arch}";
APT::Architectures:: "{arch}";
APT::Sandbox::User "";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Keep-Downloaded-Packages "true";
APT::Update::Error-Mode "any";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::Languages "none";
Acquire::PDiffs "false";
Acquire::Retries "2";
Debug::NoLocking "false";
"""


def _debian_keyring(work: Path) -> Path:
    """Debian's archive keyring: the host's, else from the package of the host's own, already trusted archive."""
    if KEYRING.is_file():
        return KEYRING
    _run(["apt-get", "-q", "-o", "APT::Sandbox::User=", "download", "debian-archive-keyring"], dict(os.environ), work)
    for deb in work.glob("debian-archive-keyring_*.deb"):
        _run(["dpkg-deb", "-x", str(deb), str(work / "keyring")], dict(os.environ))
    found = sorted((work / "keyring" / "usr" / "share" / "keyrings").glob("debian-archive-keyring.*"))
    if not found:
        raise ArchiveError("the package debian-archive-keyring holds no keyring; install it and try again")
    return found[0]


_WRAPPER = """\
#!/bin/sh
# Starts the packaged program with the C library that came with it.
here=$(dirname -- "$(readlink -f -- "$0")")/{up}
lib=$here/usr/lib/{triplet}
exec "$lib/{loader}" --argv0 "$0" --library-path "$lib" "$here/{program}" "$@"
"""


def _wrap_programs(tree: Path, arch: str) -> None:
    loader = tree / "usr" / "lib" / TRIPLETS[arch] / LOADERS[arch]
    if not loader.is_file():
        raise ArchiveError(f"the packages do not contain the loader {LOADERS[arch]}")
    (tree / "bin").mkdir(exist_ok=True)
    for program in _elf_programs(tree / "usr" / "bin"):
        _write_wrapper(tree / "bin" / program.name, "..", f"usr/bin/{program.name}", arch)


def wrap_in_place(tree: Path, pattern: str, arch: str) -> None:
    """Move each program aside and put its wrapper where it was."""
    for directory in sorted(tree.glob(pattern)):
        up = "/".join([".."] * len(directory.relative_to(tree).parts))
        for program in _elf_programs(directory):
            moved = program.rename(program.with_name(f".{program.name}.program"))
            _write_wrapper(program, up, str(moved.relative_to(tree)), arch)


def _elf_programs(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.iterdir()) if path.is_file() and _begins_as_elf(path)]


def _begins_as_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _write_wrapper(wrapper: Path, up: str, program: str, arch: str) -> None:
    wrapper.write_text(_WRAPPER.format(up=up, triplet=TRIPLETS[arch], loader=LOADERS[arch], program=program))
    wrapper.chmod(0o755)


def _write_manifest(tree: Path, request: Request, arch: str, debs: Sequence[Path]) -> None:
    manifest = {
        "suite": request.suite,
        "architecture": arch,
        "requested": list(request.packages),
        "packages": [deb.name for deb in debs],
    }
    (tree / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
