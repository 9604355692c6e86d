"""How executors run the groups of a plan, for `explain`."""

from collections import Counter

from fusec.explain import MergeInfo, NativeInfo
from fusec.ir.plan import PlanData
from fusec.ir.stage import TileOp
from fusec.ir.symbols import evaluate
from fusec.ir.template import Template, TensorSpec
from fusec.lowering import Stages

__all__ = ["how_merged", "how_native"]


def how_merged(plan: PlanData) -> dict[str, MergeInfo]:
    """Say by which rules the groups of more than one member are merged.

    Cost: the merge of each.
    """
    from fusec.merging import merge_info

    sizes = Counter(plan.forms[m.variants[0].form].template for m in plan.members.values())
    return {
        key: merge_info(plan.templates[key], _hint_shapes(plan.templates[key]), n)
        for key, n in sizes.items()
        if n > 1
    }


def how_native(plan: PlanData, stages: Stages) -> dict[str, NativeInfo]:
    """Say what the templates become for the native executor."""
    return {key: _native(template, stages) for key, template in plan.templates.items()}


def _native(template: Template, stages: Stages) -> NativeInfo:
    why = stages.why_not(template)
    if why is not None:
        return NativeInfo(stages=(), fused=0, extern=(), whole=why)
    made = stages.of(template).stages
    extern = Counter(s.extern.row.op for s in made if s.extern is not None)
    own = [s for s in made if s.op is not TileOp.EXTERN]
    lowered = len(template.body.rows) - sum(extern.values())
    return NativeInfo(
        stages=tuple(Counter(str(s.op) for s in own).most_common()),
        fused=max(0, lowered - len(own)),
        extern=tuple(extern.most_common()),
        whole=None,
    )


def _hint_shapes(template: Template) -> list[tuple[int, ...]]:
    """Give input shapes that fit the template, each symbol a little above its minimum."""
    extents = {
        s.name: max(s.min, min(s.max or 16, 16)) if s.max is None or s.max >= s.min else s.min
        for s in template.symbols
    }
    shapes = []
    for spec in template.inputs:
        assert isinstance(spec, TensorSpec)
        shapes.append(tuple(evaluate(str(d), extents) for d in spec.shape))
    return shapes
