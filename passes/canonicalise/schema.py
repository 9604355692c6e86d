"""One spelling of a call: arguments by schema name, defaults dropped, attributes normalised.

conv2d(x, w, None, [1, 1])  ==  conv2d(x, w)  ==  conv2d(input=x, weight=w)
softmax(x, -1)              ->  softmax(x, 3)              for x of rank 4
mul(x, 2)                   ->  mul(x, 2.0)                for a float x
add(x, 0.1)                 ->  add(x, 0.10000000149...)   for a float32 x
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch
from torch import fx

__all__ = ["Parameter", "arguments", "parameters", "rounded", "spell"]

Target = Callable[..., object]

_IGNORED: Final = frozenset(
    {"device", "layout", "pin_memory", "memory_format", "non_blocking", "cudnn_enable"}
    | {"cudnn_enabled", "copy", "scale_grad_by_freq", "sparse", "sparse_grad", "implicit"}
)
"""Parameters that never change a value: they fall back to their defaults."""

_ROUNDED: Final = frozenset({"eps", "negative_slope", "scale", "alpha", "beta", "lambd"})
"""Float parameters used in arithmetic with the tensor; others (resize factors) stay exact."""

_AXES: Final = frozenset({"dim", "dims", "dim0", "dim1", "dim2"})
"""Parameters that are axes."""

_COUNTS: Final = frozenset({"aten::tile"})
"""Operators that call something else `dims`: how often to repeat each axis."""

_EXTRA_AXIS: Final = frozenset(
    {"aten::unsqueeze", "aten::stack", "aten::unsqueeze_copy", "aten::diag_embed"}
)
"""Operators whose axis counts in the result's rank."""

_EXACT: Final = frozenset({"aten::arange", "aten::linspace", "aten::logspace"})
"""Operators that count with doubles, whatever the result's dtype: rounding changes the length."""

_UNORDERED: Final = frozenset(
    f"aten::{n}"
    for n in ("mean", "sum", "amax", "amin", "var", "std", "var_mean", "std_mean", "logsumexp")
) | frozenset({"aten::any", "aten::all", "aten::squeeze", "aten::count_nonzero", "aten::flip"})
"""Operators for which the order of a list of axes says nothing."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an operator, as its schema has it."""

    name: str
    kind: str
    """The schema's type: Tensor, Scalar, int, List[int], float, ..."""
    length: int | None
    """For a list that may be given as one number: how often to repeat it."""
    required: bool
    default: Any
    kwarg_only: bool


@cache
def parameters(target: Target) -> tuple[Parameter, ...]:
    """Give the parameters of an operator; none for host arithmetic such as operator.getitem."""
    if not isinstance(target, torch._ops.OpOverload):
        return ()
    return tuple(
        Parameter(
            name=a.name,
            kind=_kind(str(a.type)),
            length=getattr(a, "N", None),
            required=not a.has_default_value(),
            default=a.default_value,
            kwarg_only=a.kwarg_only,
        )
        for a in target._schema.arguments
    )


def _kind(text: str) -> str:
    optional = text.startswith("Optional[")
    return text.removeprefix("Optional[").removesuffix("]") if optional else text


def arguments(node: fx.Node) -> dict[str, Any]:
    """Give all arguments of a call by name, defaults filled in."""
    assert callable(node.target)
    return _bind(node.target, node.args, node.kwargs)


def _bind(target: Target, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    bound = {}
    for i, parameter in enumerate(parameters(target)):
        if not parameter.kwarg_only and i < len(args):
            bound[parameter.name] = args[i]
        elif parameter.name in kwargs:
            bound[parameter.name] = kwargs[parameter.name]
        else:
            bound[parameter.name] = parameter.default
    return bound


def spell(
    target: Target, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give the one spelling of a call's arguments.

    Positional up to the last one that is not its default, keyword-only ones by name where they
    differ from the default; axes counted from the front; lists at full length; numbers that meet a
    tensor rounded to the dtype in which the operator computes.

    Args:
        target: the operator.
        args: nodes and literals.
        kwargs: nodes and literals.
        result: the call's traced value, if known; gives dtypes where no operand has one.
    """
    known = parameters(target)
    if not known:
        return tuple(args), dict(kwargs)
    bound = _bind(target, args, kwargs)
    normal = {p.name: _normal(target, p, bound, result) for p in known}
    positional = [p for p in known if not p.kwarg_only]
    while positional and _is_default(positional[-1], normal[positional[-1].name]):
        positional.pop()
    named = {
        p.name: normal[p.name] for p in known if p.kwarg_only and not _is_default(p, normal[p.name])
    }
    return tuple(normal[p.name] for p in positional), named


def _is_default(parameter: Parameter, value: Any) -> bool:
    if parameter.required:
        return False
    if isinstance(value, fx.Node) or isinstance(value, bool) != isinstance(parameter.default, bool):
        return False
    return bool(value == _at_length(parameter, parameter.default))


def _normal(target: Target, parameter: Parameter, bound: Mapping[str, Any], result: Any) -> Any:
    value = bound[parameter.name]
    if parameter.name in _IGNORED and not parameter.required:
        return parameter.default
    if value is None or isinstance(value, fx.Node):
        return value
    if parameter.name in _AXES and "int" in parameter.kind and _name(target) not in _COUNTS:
        return _axes(target, value, bound)
    if isinstance(value, list | tuple) or (isinstance(value, int) and parameter.length):
        return _at_length(parameter, value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if _name(target) in _EXACT else _number(parameter, value, bound, result)
    return value


def _name(target: Target) -> str:
    return target._schema.name if isinstance(target, torch._ops.OpOverload) else ""


def _at_length(parameter: Parameter, value: Any) -> Any:
    if not parameter.kind.startswith("List") or value is None:
        return value
    items = list(value) if isinstance(value, list | tuple) else [value]
    return items * parameter.length if parameter.length and len(items) == 1 else items


def _axes(target: Target, value: Any, bound: Mapping[str, Any]) -> Any:
    rank = _rank(bound)
    name = _name(target)
    if rank is None:
        return value
    rank = max(rank + (name in _EXTRA_AXIS), 1)
    if isinstance(value, int):
        return value % rank
    axes = [d % rank if isinstance(d, int) else d for d in value]
    return sorted(axes) if name in _UNORDERED else axes


def _rank(bound: Mapping[str, Any]) -> int | None:
    """Give the rank in which axes count: operands broadcast, and cat passes over empty ones."""
    return max((tensor.dim() for tensor in _tensors(bound)), default=None)


def _first_tensor(bound: Mapping[str, Any]) -> torch.Tensor | None:
    return next(_tensors(bound), None)


def _tensors(bound: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    for value in bound.values():
        for item in value if isinstance(value, list | tuple) else (value,):
            found = item.meta.get("val") if isinstance(item, fx.Node) else None
            if isinstance(found, torch.Tensor):
                yield found


def _number(
    parameter: Parameter, value: float, bound: Mapping[str, Any], result: Any
) -> float | int:
    in_arithmetic = parameter.kind in ("Scalar", "Tensor", "number")
    if not in_arithmetic and parameter.name not in _ROUNDED:
        return value
    tensor = result if isinstance(result, torch.Tensor) else _first_tensor(bound)
    if tensor is None or not tensor.dtype.is_floating_point:
        tensor = _first_tensor(bound)
    if tensor is None or not tensor.dtype.is_floating_point:
        return value
    return rounded(value, tensor.dtype)


@cache
def rounded(value: float, dtype: torch.dtype) -> float:
    """Round a number to the dtype in which torch computes with tensors of `dtype`.

    That is float32 for the half-width types: torch widens them first.
    """
    if dtype == torch.float64:
        return float(value)
    return torch.tensor(value, dtype=torch.float64).to(torch.float32).item()
