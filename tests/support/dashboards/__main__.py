"""Write both dashboards into a directory: `python -m tests.support.dashboards grafana/dashboards`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.dashboards.files import write

write(Path(sys.argv[1]))
