"""Run a module through its lowering, stage by stage: native kernels where asked for."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.fences import fenced
from fusec_testing.programs import program_from
from fusec_testing.stages import run_native, run_reference
from torch import nn

from fusec.importers.torch_capture import Dynamic
from fusec.ir.dtypes import numpy_dtype
from fusec.ir.extents import value
from fusec.ir.stage import Lowered, Stage, TileOp
from fusec.ir.template import TensorSpec
from fusec.kernels.gemm.pack import pack as pack_weight
from fusec.kernels.memory import Memory
from fusec.passes.canonicalise import canonicalise
from fusec.passes.lower import lower
from fusec.passes.pack import pack
from fusec.runtime.recipe import apply_recipe

__all__ = ["LoweredModule", "check_lowered", "lowered_module"]


@dataclass(frozen=True)
class LoweredModule:
    """A module as stages, with its packed weights."""

    lowered: Lowered
    weights: tuple[np.ndarray, ...]
    specs: tuple[TensorSpec, ...]
    """Of the inputs."""

    def ops(self) -> list[TileOp]:
        """Name the tile operations, in order."""
        return [stage.op for stage in self.lowered.stages]

    def stage(self, op: TileOp) -> Stage:
        """Give the only stage of an operation."""
        (found,) = [stage for stage in self.lowered.stages if stage.op is op]
        return found

    def run(self, *inputs: torch.Tensor, native: bool) -> list[np.ndarray]:
        """Run all stages in order, natively or through their references; copies in NumPy."""
        symbols = self._symbols(inputs)
        flats = []
        for buffer in self.lowered.buffers:
            dtype = numpy_dtype(buffer.dtype)
            n = value(buffer.elements, symbols) * dtype.itemsize
            flats.append(np.full(n, 0xFF, np.uint8).view(dtype))
        for slot, tensor in zip(self.lowered.inputs, inputs, strict=True):
            flats[slot] = fenced(tensor.detach().contiguous().numpy().reshape(-1))
        for slot, weight in zip(self.lowered.weights, self.weights, strict=True):
            flats[slot] = fenced(weight)
        memory = Memory(flats, symbols)
        for stage in self.lowered.stages:
            if stage.op is TileOp.COPY and len(stage.reads) == 1:
                memory.array(stage.writes[0])[...] = memory.array(stage.reads[0])
            elif native:
                run_native(stage, self.lowered.buffers, flats, symbols=symbols)
            else:
                run_reference(stage, flats, symbols)
        return [
            flats[slot].reshape([value(e, symbols) for e in shape])
            for slot, shape in zip(self.lowered.outputs, self.lowered.output_shapes, strict=True)
        ]

    def _symbols(self, inputs: Sequence[torch.Tensor]) -> dict[str, int]:
        found: dict[str, int] = {}
        for spec, tensor in zip(self.specs, inputs, strict=True):
            for dim, extent in zip(spec.shape, tensor.shape, strict=True):
                if isinstance(dim, str):
                    assert dim.isidentifier(), dim
                    found[dim] = extent
        return found


def lowered_module(
    module: nn.Module, *inputs: torch.Tensor, n_outputs: int = 1, dynamic: Dynamic | None = None
) -> LoweredModule:
    """Capture, canonicalise and lower a module.

    Args:
        module: what to lower.
        inputs: examples.
        n_outputs: how many it gives.
        dynamic: axes that vary.
    """
    program = program_from(
        module, *inputs, axes=(None,) * len(inputs), n_outputs=n_outputs, dynamic=dynamic
    )
    program, _ = canonicalise(program)
    template, recipe = pack(program)
    lowered = lower(template)
    weights = [
        pack_weight(layout, tensor.detach().contiguous().numpy())
        for layout, tensor in zip(
            lowered.layouts, apply_recipe(recipe, program.weights), strict=True
        )
    ]
    specs = []
    for spec in template.inputs:
        assert isinstance(spec, TensorSpec)
        specs.append(spec)
    return LoweredModule(lowered, tuple(weights), tuple(specs))


def check_lowered(
    module: nn.Module,
    *inputs: torch.Tensor,
    expect: Collection[TileOp],
    dynamic: Dynamic | None = None,
    others: Sequence[Sequence[torch.Tensor]] = (),
) -> LoweredModule:
    """Lower a module and compare it with itself in float64, by references and natively.

    Args:
        module: what to check.
        inputs: examples, also the first inputs compared.
        expect: operations that it must become, copies aside.
        dynamic: axes that vary.
        others: further inputs.
    """
    module = module.eval()
    with torch.no_grad():
        n_outputs = len(_tuple(module(*inputs)))
        made = lowered_module(module, *inputs, n_outputs=n_outputs, dynamic=dynamic)
        assert {op for op in made.ops() if op is not TileOp.COPY} == set(expect), made.ops()
        precise = copy.deepcopy(module).double()
        for given in (inputs, *others):
            plain = _tuple(module(*given))
            truth = _tuple(precise(*(x.double() if x.is_floating_point() else x for x in given)))
            for native in (False, True):
                ours = made.run(*given, native=native)
                for i, triple in enumerate(zip(ours, plain, truth, strict=True)):
                    assert_no_worse(*triple, where=f"output {i}, native {native}")
    return made


def _tuple(result: object) -> tuple[torch.Tensor, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)  # type: ignore[arg-type]
