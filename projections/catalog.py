"""All projections of this program."""

from __future__ import annotations

from projections.chain_tip import ChainTip
from projections.channels import ChannelViews
from projections.landmarks import Landmarks, Moments
from projections.log_standing import LogStandings
from projections.milestones import Milestones
from projections.preimages import Preimages
from projections.tables import Projection, Table

PROJECTIONS: tuple[Projection, ...] = (
    ChannelViews(),
    Preimages(),
    ChainTip(),
    Landmarks(),
    Moments(),
    LogStandings(),
    Milestones(),
)

TABLES: dict[str, Table] = {table.name: table for projection in PROJECTIONS for table in projection.tables}
