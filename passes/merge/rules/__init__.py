"""The table of merge rules: operator name -> rule, one file per family."""

from collections.abc import Mapping

from fusec.passes.merge.rules import (
    attention,
    conv,
    index,
    linear,
    norm,
    pointwise,
    pool,
    recurrent,
    reduce,
    shape,
)
from fusec.passes.merge.rules.rule import MergeRule, table

__all__ = ["RULES", "MergeRule"]

RULES: Mapping[str, MergeRule] = table(
    (
        *attention.RULES,
        *conv.RULES,
        *index.RULES,
        *linear.RULES,
        *norm.RULES,
        *pointwise.RULES,
        *pool.RULES,
        *recurrent.RULES,
        *reduce.RULES,
        *shape.RULES,
    )
)
