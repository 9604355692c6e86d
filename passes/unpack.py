"""Make a live program from a template: the way back from plan data to the compiler's passes."""

from collections.abc import Sequence

import torch
from torch import fx
from torch._subclasses import FakeTensorMode

from fusec.ir.errors import VerifyError
from fusec.ir.template import Template, TensorSpec
from fusec.kernels.torch_graph import to_graph, torch_dtype
from fusec.passes.program import Program

__all__ = ["unpack"]


def unpack(
    template: Template,
    shapes: Sequence[tuple[int, ...]],
    weights: Sequence[torch.Tensor] | None = None,
) -> Program:
    """Rebuild a program at concrete input shapes, its weights being the packed ones.

    Args:
        template: of the group.
        shapes: one per input, at one row.
        weights: a member's packed weights; None leaves fake tensors in their place.

    Cost: one fake run of the graph, about 0.1 ms per row of the template.
    """
    module = to_graph(template.body)
    mode = FakeTensorMode()
    with mode, torch.no_grad():
        inputs = [
            torch.empty(shape, dtype=torch_dtype(_tensor_spec(spec).dtype))
            for spec, shape in zip(template.inputs, shapes, strict=True)
        ]
        packed = [
            torch.empty([int(d) for d in s.shape], dtype=torch_dtype(s.dtype))
            for s in map(_tensor_spec, template.weights)
        ]
        _Propagate(module).run(*inputs, *packed)
    names = tuple(f"w{i}" for i in range(len(packed)))
    return Program(
        graph=module,
        input_names=tuple(f"x{i}" for i in range(len(inputs))),
        output_names=tuple(f"y{i}" for i in range(len(template.body.results))),
        weights=dict(zip(names, weights if weights is not None else packed, strict=True)),
        aliases=(),
        unused=(),
        symbols=(),
        symbol_names={},
        constraints=(),
        input_axes=template.input_axes,
        output_axes=template.output_axes,
        rows=template.rows,
        bound=template.bound,
        guards=(),
    )


def _tensor_spec(spec: object) -> TensorSpec:
    if not isinstance(spec, TensorSpec):
        raise VerifyError(f"an argument of a template is no tensor: {spec!r}")
    return spec


class _Propagate(fx.Interpreter):
    """Runs a graph on fake tensors and keeps each node's value as its meta."""

    def run_node(self, n: fx.Node) -> object:
        """Evaluate a node and remember what it gave."""
        value: object = super().run_node(n)
        if n.op != "output":
            n.meta["val"] = value
        return value
