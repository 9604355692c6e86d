"""Bring twins from different exporters to one graph. The pipeline below reads as the compiler.

What is left afterwards, besides operators that have one spelling anyway:

    linear(x, w, b)            every product of activations with a weight matrix
    convolution(x, w, b, ...)  1-D to 3-D, plain and transposed, all attributes explicit: one
                               operator for one merge rule and one batch-norm rule
    layer_norm, rms_norm, group_norm, gelu, silu, hardswish, hardsigmoid, mish, softmax,
    log_softmax, relu, clamp, leaky_relu, scaled_dot_product_attention(..., scale=...)
    reshape, permute, expand, slice, cat
    add(mul(x, s), t)          what is left of a batch norm that has nothing to fold into
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from fusec.passes.canonicalise import linear, norm, scalars, shapes, spelling
from fusec.passes.canonicalise.order import merge_equal, order_operands
from fusec.passes.canonicalise.rewrite import rewrite
from fusec.passes.canonicalise.spell import spell_arguments
from fusec.passes.program import Program
from fusec.passes.report import Pass, PassReport
from fusec.passes.verify import verify

__all__ = ["PIPELINE", "canonicalise"]

SPELLING: Final = (*spelling.RULES, *shapes.RULES, *scalars.RULES)

PIPELINE: Final[tuple[tuple[str, Pass], ...]] = (
    ("spell_arguments", spell_arguments),
    ("spell_operators", partial(rewrite, name="spell_operators", rules=SPELLING)),
    ("merge_equal", merge_equal),
    ("raise_norms", partial(rewrite, name="raise_norms", rules=(*norm.RULES, *SPELLING))),
    ("raise_linears", partial(rewrite, name="raise_linears",
                              rules=(*linear.RULES, *norm.RULES, *SPELLING))),
    ("fold_factors", partial(rewrite, name="fold_factors",
                             rules=(*linear.FOLDS, *linear.RULES, *SPELLING))),
    ("order_operands", order_operands),
    ("merge_equal_again", merge_equal),
)  # fmt: skip


def canonicalise(
    program: Program,
    *,
    passes: tuple[tuple[str, Pass], ...] = PIPELINE,
    check: bool = False,
    observe: Callable[[str, Program, PassReport], None] | None = None,
) -> tuple[Program, tuple[PassReport, ...]]:
    """Bring a program to its canonical form.

    Args:
        program: left as it is.
        passes: run in order, each once.
        check: verify the program after each pass; costs one fake run of the graph each.
        observe: called after each pass with its name, its result and its report.

    Returns:
        The canonical program and one report per pass.

    Raises:
        VerifyError: a pass broke the program, a bug in fusec.
    Cost: about 2 ms per node; a wake-word head 40 ms.
    """
    reports = []
    for name, run in passes:
        before = program
        program, report = run(program)
        if check:
            verify(program, before, name)
        if observe is not None:
            observe(name, program, report)
        reports.append(report)
    return program, tuple(reports)
