"""Chromium out of unpacked Debian packages: what it needs beside the wrapper that every other program starts with.

The packaged loader starts the program, so `/proc/self/exe` is the loader. Chromium looks for its files beside that:
a copy of the loader lies there. And it starts its children as `/proc/self/exe --type=…`: it is told another path for
them, and to do without the zygote, which knows no other path. The host may have no fonts: the packages bring one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from watchtower.devnode import debian

START = "usr/lib/chromium/start"
"""File below the tree that starts the browser."""

_PROGRAM = ".chromium.program"
"""Where `debian.wrap_in_place` puts the browser itself."""

_FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir prefix="relative">../../usr/share/fonts</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir prefix="relative">../../var/cache/fontconfig</cachedir>
  <include ignore_missing="yes" prefix="relative">conf.d</include>
</fontconfig>
"""

_START = """\
#!/bin/sh
# Starts the packaged browser, and its children, with the libraries that came with it.
here=$(dirname -- "$(readlink -f -- "$0")")
lib=$here/../{triplet}
FONTCONFIG_FILE=$here/../../../etc/fonts/packaged.conf
export FONTCONFIG_FILE
exec "$here/{loader}" --argv0 "$0" --library-path "$lib:$lib/pulseaudio" "$here/{program}" \\
    --no-zygote --browser-subprocess-path="$here/start" "$@"
"""


def mend(tree: Path) -> None:
    """Write what is missing in an unpacked tree; called under its lock, as often as one likes."""
    if (tree / START).exists():
        return
    arch = debian.architecture()
    loader, triplet = debian.LOADERS[arch], debian.TRIPLETS[arch]
    home = tree / "usr/lib/chromium"
    shutil.copy(tree / "usr/lib" / triplet / loader, home / loader)
    (tree / "etc/fonts/packaged.conf").write_text(_FONTS)
    writing = tree / (START + ".new")
    writing.write_text(_START.format(triplet=triplet, loader=loader, program=_PROGRAM))
    writing.chmod(0o755)
    writing.rename(tree / START)
