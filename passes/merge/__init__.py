"""Merging: like operators of different members run as one (the classic horizontal form).

    merge          N programs of different weights and inputs -> one program
    merge_uniform  one template n times -> one graph, weights left as arguments

Both walk calls in dependency order and hand each to the engine, which asks the table of rules
(`fusec.passes.merge.rules`), then torch's own batching rule, then emits one call per member. A
member's numbers never meet another's in arithmetic: no rule builds block-diagonal matrices.
"""

from fusec.passes.merge.conv_cost import ConvCost, ConvForm
from fusec.passes.merge.hoist import hoist
from fusec.passes.merge.programs import merge
from fusec.passes.merge.report import MergeReport, MergeUse
from fusec.passes.merge.uniform import merge_uniform

__all__ = ["ConvCost", "ConvForm", "MergeReport", "MergeUse", "hoist", "merge", "merge_uniform"]
