"""Merge modules and compare with running them apart."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.programs import program_from
from torch import Tensor, nn

from fusec.importers.torch_capture import Dynamic
from fusec.passes.merge import ConvCost, MergeReport, merge
from fusec.passes.program import Program


class Merged:
    """Modules and their merged program.

    Args:
        modules: the members, called m0, m1, ...
        args: an example of each input.
        io: how the merged program is called.
        shared_inputs: all members are fed alike.
        dynamic: axes that vary.
        n_outputs: results of each module.
        conv_cost: which form a convolution takes.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        *args: Tensor,
        io: Literal["stacked", "named"] = "stacked",
        shared_inputs: bool = False,
        dynamic: Dynamic | None = None,
        n_outputs: int = 1,
        conv_cost: ConvCost | None = None,
    ) -> None:
        self.modules = [module.eval() for module in modules]
        self.names = [f"m{i}" for i in range(len(modules))]
        self.io, self.shared_inputs = io, shared_inputs
        programs = [
            program_from(module, *args, dynamic=dynamic, n_outputs=n_outputs)
            for module in self.modules
        ]
        self.program: Program
        self.report: MergeReport
        self.program, self.report = merge(
            programs, io=io, names=self.names, shared_inputs=shared_inputs, conv_cost=conv_cost
        )

    def feed(self, inputs: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Arrange members' inputs as the merged program wants them."""
        if self.shared_inputs:
            return list(inputs[0])
        if self.io == "stacked":
            return [torch.stack(column) for column in zip(*inputs, strict=True)]
        return [tensor for member in inputs for tensor in member]

    def run(self, inputs: Sequence[Sequence[Tensor]]) -> Mapping[str, Tensor]:
        """Run the merged program; outputs by name."""
        with torch.no_grad():
            out = self.program.graph(*self.feed(inputs), *self.program.weights.values())
        assert len(out) == len(self.program.output_names)
        return dict(zip(self.program.output_names, out, strict=True))

    def of(self, out: Mapping[str, Tensor], member: int, j: int = 0) -> Tensor:
        """Pick one member's result."""
        own = f"m{member}.output_{j}"
        return out[own] if own in out else out[f"output_{j}"][member]

    def check(self, inputs: Sequence[Sequence[Tensor]], among: Sequence[int] | None = None) -> None:
        """Compare members' results with those of the modules, against float64."""
        out = self.run(inputs)
        for m in range(len(self.modules)) if among is None else among:
            plain = _call(self.modules[m], inputs[m])
            exact = _call(copy.deepcopy(self.modules[m]).double(), [_wide(x) for x in inputs[m]])
            for j, (want, truth) in enumerate(zip(plain, exact, strict=True)):
                assert_no_worse(self.of(out, m, j), want, truth, where=f"member {m}, output {j}")


def _wide(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def _call(module: nn.Module, args: Sequence[Tensor]) -> Sequence[Tensor]:
    with torch.no_grad():
        out: Any = module(*args)
    return out if isinstance(out, tuple) else (out,)
