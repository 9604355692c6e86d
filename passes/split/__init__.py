"""Cut a template's stages into even blocks, so that urgent work never waits for long.

stage costs + a cost per cut  ->  even_split (exact)  ->  Split, blocks of nearly equal time
"""

from fusec.passes.split.costs import FORBIDDEN, cut_costs
from fusec.passes.split.even import even_split, most_blocks, split_at, split_for_latency
from fusec.passes.split.genetic import Settings, fitness, genetic_split
from fusec.passes.split.live import live_bytes, live_extents, live_inside
from fusec.passes.split.parts import Parted, in_stages, parted
from fusec.passes.split.report import SplitReport, report

__all__ = [
    "FORBIDDEN",
    "Parted",
    "Settings",
    "SplitReport",
    "cut_costs",
    "even_split",
    "fitness",
    "genetic_split",
    "in_stages",
    "live_bytes",
    "live_extents",
    "live_inside",
    "most_blocks",
    "parted",
    "report",
    "split_at",
    "split_for_latency",
]
