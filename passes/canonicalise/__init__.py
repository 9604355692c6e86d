"""Bring twins from different exporters to one graph. The pipeline below reads as the compiler.

What is left afterwards, besides operators that have one spelling anyway:

    linear(x, w, b)            every product of activations with a weight matrix
    convolution(x, w, b, ...)  1-D and 2-D, plain and transposed, all attributes explicit: one
                               operator for one merge rule and one batch-norm rule; 3-D is 2-D
                               over windows along the depth
    layer_norm, rms_norm, group_norm, gelu, silu, hardswish, hardsigmoid, mish, softplus,
    softmax, log_softmax, relu, clamp, leaky_relu, sigmoid
    scaled_dot_product_attention(q, k, v, mask, scale=...)
    reshape, permute, expand, slice, cat, index, full, where, mean over listed axes
    add(mul(x, s), t)          what is left of a batch norm that has nothing to fold into

Weights are transformed by ordinary nodes on the weight side; `pack` moves those into the recipe.
A rule that looked at a weight's value leaves a guard: its operand becomes an extra result.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from fusec.ir.errors import VerifyError
from fusec.passes.canonicalise import (
    activation,
    attention,
    batch_norm,
    convolution,
    einsum,
    group_norm,
    indexing,
    linear,
    lookup,
    norm,
    padding,
    plain,
    recurrent,
    reduction,
    scalars,
    shapes,
    spelling,
)
from fusec.passes.canonicalise.order import merge_equal, order_operands
from fusec.passes.canonicalise.rewrite import Rule, rewrite
from fusec.passes.canonicalise.spell import spell_arguments
from fusec.passes.canonicalise.volumes import flatten_volumes
from fusec.passes.program import Program, fork
from fusec.passes.report import Pass, PassReport, Reason
from fusec.passes.verify import verify

__all__ = ["PIPELINE", "canonicalise"]

SPELLING: Final = (
    *spelling.RULES, *shapes.RULES, *scalars.RULES, *reduction.RULES, *indexing.RULES,
    *lookup.RULES, *recurrent.RULES, *plain.RULES, *padding.RULES, *einsum.RULES,
)  # fmt: skip
RAISING: Final = (*activation.RULES, *norm.RULES, *group_norm.RULES, *batch_norm.RULES)
PRODUCTS: Final = (*attention.RULES, *linear.RULES, *convolution.RULES)
FOLDING: Final = (*linear.FOLDS, *convolution.FOLDS)


def _rules(name: str, *rules: Rule) -> tuple[str, Pass]:
    return name, partial(rewrite, name=name, rules=rules)


PIPELINE: Final[tuple[tuple[str, Pass], ...]] = (
    ("spell_arguments", spell_arguments),
    _rules("spell_operators", *SPELLING),
    ("merge_equal", merge_equal),
    _rules("raise_operators", *RAISING, *SPELLING),
    _rules("raise_products", *PRODUCTS, *RAISING, *SPELLING),
    _rules("fold_constants", *FOLDING, *PRODUCTS, *RAISING, *SPELLING),
    ("flatten_volumes", flatten_volumes),
    ("order_operands", order_operands),
    ("merge_equal_again", merge_equal),
)


def _no_misfits(report: PassReport) -> None:
    for refusal in report.refusals:
        if refusal.reason == Reason.MISFIT:
            raise VerifyError(f"pass {report.name}, rule {refusal.rule}: {refusal.detail}")


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
    Cost: about 1 ms per node; a wake-word head 35 ms.
    """
    reports = []
    # One copy is enough if nobody looks at what lies between.
    private = not check and observe is None
    if private:
        program = replace(fork(program), is_scratch=True)
    for name, run in passes:
        before = program
        program, report = run(program)
        if check:
            verify(program, before, name)
            _no_misfits(report)
        if observe is not None:
            observe(name, program, report)
        reports.append(report)
    return replace(program, is_scratch=False), tuple(reports)
