"""`python -m tests.bench`: measure, print a table, write build/bench.json. Needs a real node (see docs/node.md)."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.bench.machine import machine
from tests.bench.parts import chosen, run, table
from tests.bench.scale import FULL, QUICK

OUTPUT = Path("build/bench.json")


def main(arguments: list[str]) -> int:
    """Exit code 0, or 2 for an unknown name."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure speed and memory.")
    parser.add_argument("--only", metavar="NAME", help="one part or the part of one figure")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, not how fast")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"where the JSON goes (default: {OUTPUT})")
    options = parser.parse_args(arguments)
    try:
        parts = chosen(options.only)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    options.output.parent.mkdir(parents=True, exist_ok=True)
    # Beside the output and not in a memory file system: durable writes are part of what is measured.
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.output.parent) as place:
        directory = Path(place).resolve()
        facts = machine(directory)
        figures = run(parts, QUICK if options.quick else FULL, directory)
    options.output.write_text(json.dumps({"machine": facts, "figures": figures}, indent=2) + "\n")
    print(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
