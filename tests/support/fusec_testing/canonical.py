"""Canonicalise a module and compare with it: the honest differential of every pass and rule."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.programs import program_from
from torch import nn

from fusec.importers.torch_capture import Dynamic
from fusec.passes.canonicalise import canonicalise
from fusec.passes.canonicalise.rewrite import Edit
from fusec.passes.program import Program, fake_mode
from fusec.passes.report import PassReport


class Function(nn.Module):
    """A function of inputs and of parameters, as a module."""

    def __init__(self, function, *parameters: torch.Tensor) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList(nn.Parameter(p, requires_grad=False) for p in parameters)

    def forward(self, *inputs: torch.Tensor):
        """Call the function with inputs, then parameters."""
        return self.function(*inputs, *self.weights)


def run(program: Program, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Run a program's graph on real tensors; guard operands are left out."""
    with torch.no_grad():
        results = program.graph(*inputs, *program.weights.values())
    return tuple(results[: len(program.output_names)])


def checked(
    module: nn.Module,
    *inputs: torch.Tensor,
    dynamic: Dynamic | None = None,
    others: Sequence[Sequence[torch.Tensor]] = (),
) -> tuple[Program, tuple[PassReport, ...]]:
    """Canonicalise with every pass verified; the result is no further from float64 than before.

    Args:
        module: what to capture.
        inputs: examples, also the first inputs compared.
        dynamic: axes that vary.
        others: further inputs to compare.
    """
    module = module.eval()
    n_outputs = len(_tuple(module(*inputs)))
    program = program_from(
        module, *inputs, axes=(None,) * len(inputs), n_outputs=n_outputs, dynamic=dynamic
    )
    before = run(program, inputs)
    relations = _relations(program)
    canonical, reports = canonicalise(program, check=True)
    added = set(_relations(program)) - set(relations)
    assert not added, f"a pass decided on an extent that varies: {added}"
    precise = copy.deepcopy(module).double()
    with torch.no_grad():
        truths = [_tuple(precise(*(_double(x) for x in g))) for g in (inputs, *others)]
    ours = [run(canonical, given) for given in (inputs, *others)]
    plain = [run(program, given) for given in (inputs, *others)]
    for i in range(n_outputs):
        # All inputs are judged together: one number alone may be right to the last bit by luck.
        triple = (torch.cat([r[i].flatten() for r in runs]) for runs in (ours, plain, truths))
        assert_no_worse(*triple, where=f"output {i}")
    for was, now in zip(before, run(program, inputs), strict=True):
        assert torch.equal(was, now), "the program given was changed"
    return canonical, reports


def _relations(program: Program) -> list[str]:
    """Give what is known about the extents that vary; a pass must not add to it."""
    shape_env = fake_mode(program.graph.graph).shape_env
    return [] if shape_env is None else sorted({str(g.expr) for g in shape_env.guards})


def operators(program: Program) -> list[str]:
    """Give the short names of what runs per request: the weight side is left out."""
    edit = Edit(program)
    nodes = [n for n in program.graph.graph.nodes if n.op == "call_function"]
    return [_short(n.target) for n in nodes if not edit.is_constant(n)]


def rules(reports: Sequence[PassReport]) -> set[str]:
    """Give the names of the rules that did something."""
    return {rewrite.rule for report in reports for rewrite in report.rewrites}


def _short(target: object) -> str:
    return str(target).removeprefix("aten.").split(".")[0] if "aten" in str(target) else "host"


def _double(x: torch.Tensor) -> torch.Tensor:
    return x.double() if x.dtype.is_floating_point else x


def _tuple(value: object) -> tuple[torch.Tensor, ...]:
    return (value,) if isinstance(value, torch.Tensor) else tuple(value)  # type: ignore[arg-type]
