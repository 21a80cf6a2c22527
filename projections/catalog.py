"""All projections of this program."""

from __future__ import annotations

from projections.chain_tip import ChainTip
from projections.channels import ChannelViews
from projections.landmarks import Landmarks, Moments
from projections.preimages import Preimages
from projections.tables import Projection, Table
from projections.timeline import Timeline

PROJECTIONS: tuple[Projection, ...] = (ChannelViews(), Timeline(), Preimages(), ChainTip(), Landmarks(), Moments())

TABLES: dict[str, Table] = {table.name: table for projection in PROJECTIONS for table in projection.tables}
