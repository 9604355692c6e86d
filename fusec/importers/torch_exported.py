"""Inputs of an exported program: names, example tensors, and the extents it lets vary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, TensorArgument
from torch.utils import _pytree as pytree
from torch.utils._sympy.numbers import int_oo

from fusec.ir.errors import ConfigError, ImportFailed
from fusec.ir.template import Symbol

__all__ = ["ExportedInputs", "ExportedLayout", "exported_inputs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedLayout:
    """How flat tensors make up a call of an exported program.

    Attributes:
        names: one per tensor.
        spec: the program's own nesting.
        leaves: index of a tensor, or a fixed value, per leaf of the nesting.
        fixed: (name, value) of arguments that are no tensors, in words.
    """

    names: tuple[str, ...]
    spec: pytree.TreeSpec
    leaves: tuple[tuple[int | None, Any], ...]
    fixed: tuple[tuple[str, str], ...]

    def fill(self, tensors: Sequence[Tensor]) -> tuple[list[Any], dict[str, Any]]:
        """Give the arguments of a call."""
        flat = [value if index is None else tensors[index] for index, value in self.leaves]
        args, kwargs = pytree.tree_unflatten(flat, self.spec)
        return list(args), dict(kwargs)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedInputs:
    """Layout, example tensors and varying extents."""

    layout: ExportedLayout
    examples: tuple[Tensor, ...]
    dynamic: Mapping[int, Mapping[int, Symbol]]


def exported_inputs(
    exported: ExportedProgram, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> ExportedInputs:
    """Read the inputs of an exported program.

    Args:
        exported: the program.
        args: example inputs in place of the program's own, or None.
        kwargs: likewise.

    Raises:
        ConfigError: examples that do not have the program's nesting.
        ImportFailed: an input that is neither a tensor nor a constant.
    """
    spec = exported.call_spec.in_spec
    assert spec is not None
    given = _given(exported, spec, args, kwargs)
    values = {n.name: n.meta.get("val") for n in exported.graph.find_nodes(op="placeholder")}
    names: list[str] = []
    leaves: list[tuple[int | None, Any]] = []
    examples: list[Tensor] = []
    fixed: list[tuple[str, str]] = []
    dynamic: dict[int, dict[int, Symbol]] = {}
    user = [s for s in exported.graph_signature.input_specs if s.kind is InputKind.USER_INPUT]
    for at, item in enumerate(user):
        if isinstance(item.arg, ConstantArgument):
            leaves.append((None, item.arg.value))
            fixed.append((item.arg.name, repr(item.arg.value)[:80]))
            continue
        if not isinstance(item.arg, TensorArgument):
            raise ImportFailed(
                f"input {getattr(item.arg, 'name', at)} of the exported program is a symbolic "
                "number; export it with that number fixed"
            )
        fake = values[item.arg.name]
        index = len(names)
        names.append(item.arg.name)
        leaves.append((index, None))
        examples.append(_tensor(fake) if given is None else _checked(given[at], fake, names[-1]))
        dynamic[index] = _varying(exported, fake)
    layout = ExportedLayout(names=tuple(names), spec=spec, leaves=tuple(leaves), fixed=tuple(fixed))
    return ExportedInputs(
        layout=layout,
        examples=tuple(examples),
        dynamic={i: axes for i, axes in dynamic.items() if axes},
    )


def _given(
    exported: ExportedProgram,
    spec: pytree.TreeSpec,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
) -> list[Any] | None:
    if args is None and not kwargs:
        if exported.example_inputs is None:
            return None
        args, kwargs = exported.example_inputs
    leaves, got = pytree.tree_flatten((tuple(args or ()), dict(kwargs or {})))
    if len(leaves) != spec.num_leaves:
        raise ConfigError(
            f"the exported program takes {spec.num_leaves} values, the example inputs hold "
            f"{len(leaves)}; wanted nesting {spec}, got {got}"
        )
    return leaves


def _checked(value: Any, fake: Tensor, name: str) -> Tensor:
    tensor = torch.as_tensor(value)
    if tensor.dtype != fake.dtype or tensor.dim() != fake.dim():
        raise ConfigError(
            f"example input {name} is {tensor.dtype} with {tensor.dim()} axes, the exported "
            f"program takes {fake.dtype} with {fake.dim()}"
        )
    return tensor.detach()


def _tensor(fake: Tensor) -> Tensor:
    """Make an example where the program carries none; integers stay 0, a valid index."""
    shape = [d if isinstance(d, int) else d.node.hint or 2 for d in fake.shape]
    if fake.dtype.is_floating_point:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(fake.dtype)
    return torch.zeros(shape, dtype=fake.dtype)


def _varying(exported: ExportedProgram, fake: Tensor) -> dict[int, Symbol]:
    axes: dict[int, Symbol] = {}
    extents: tuple[Any, ...] = tuple(fake.shape)
    for axis, dim in enumerate(extents):
        if not isinstance(dim, torch.SymInt):
            continue
        expr = dim.node.expr
        limits = exported.range_constraints.get(expr)
        low, high = 1, None
        if limits is not None:
            low = 0 if limits.lower == -int_oo else int(limits.lower)
            high = None if limits.upper in (int_oo, sympy.oo) else int(limits.upper)
        axes[axis] = Symbol(str(expr), low, high)
    return axes
