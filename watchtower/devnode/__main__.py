"""`python -m watchtower.devnode`: print the path of the bitcoind that demo and tests use."""

from __future__ import annotations

import argparse
import sys

from watchtower.devnode.provision import NodeNotFound, find


def main() -> int:
    """Print the path (exit 0), or why there is none (exit 1)."""
    parser = argparse.ArgumentParser(prog="python -m watchtower.devnode", description=__doc__)
    parser.add_argument("--explain", action="store_true", help="say where the binary comes from, and its version")
    parser.add_argument("--offline", action="store_true", help="never download")
    options = parser.parse_args()
    try:
        found = find(
            offline=True if options.offline else None,
            explain=(lambda line: print(line, file=sys.stderr)) if options.explain else None,
        )
    except NodeNotFound as error:
        print(error, file=sys.stderr)
        return 1
    if options.explain:
        print(f"{found.version}, from {found.origin}", file=sys.stderr)
    print(found.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
