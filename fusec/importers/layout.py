"""Nested arguments and results as flat tensors with stable names.

{"a": x, "b": [y, z]}   a, b_0, b_1          Output(logits=x)   logits
x                       output               (x, y)             output_0, output_1
"""

import dataclasses
import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fusec.ir.errors import ConfigError, ImportFailed

__all__ = ["Layout", "flatten_results", "lay_out"]


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of tensor number `index`."""

    index: int


@dataclass(frozen=True, slots=True)
class Static:
    """A value that is no tensor and stays as it is."""

    value: Any


@dataclass(frozen=True, slots=True)
class Branch:
    """A container: `make` builds it from its children."""

    make: Callable[[list[Any]], Any]
    children: "tuple[Tree, ...]"


Tree: TypeAlias = "Slot | Static | Branch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How flat tensors make up a call.

    Attributes:
        names: one per tensor.
        args: positional arguments.
        kwargs: named arguments.
        fixed: (name, value) of arguments that are no tensors, in words.
    """

    names: tuple[str, ...]
    args: tuple[Tree, ...]
    kwargs: tuple[tuple[str, Tree], ...]
    fixed: tuple[tuple[str, str], ...]

    def fill(self, tensors: Sequence[Tensor]) -> tuple[list[Any], dict[str, Any]]:
        """Give the arguments of a call."""
        args = [_fill(tree, tensors) for tree in self.args]
        return args, {name: _fill(tree, tensors) for name, tree in self.kwargs}


def _fill(tree: Tree, tensors: Sequence[Tensor]) -> Any:
    if isinstance(tree, Slot):
        return tensors[tree.index]
    if isinstance(tree, Static):
        return tree.value
    return tree.make([_fill(child, tensors) for child in tree.children])


def lay_out(
    forward: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Layout, tuple[Tensor, ...]]:
    """Flatten the arguments of a call.

    Args:
        forward: what will be called; its parameter names become input names.
        args: positional arguments; NumPy arrays become tensors.
        kwargs: named arguments.

    Returns:
        The layout and the tensors in order.

    Raises:
        ConfigError: arguments that do not fit the signature.
    """
    found: list[tuple[str, Tensor]] = []
    fixed: list[tuple[str, str]] = []
    names = _parameter_names(forward, args, kwargs)
    trees = [_lift(a, n, found, fixed) for a, n in zip(args, names, strict=True)]
    named = [(k, _lift(v, k, found, fixed)) for k, v in kwargs.items()]
    layout = Layout(
        names=_unique([n for n, _ in found]),
        args=tuple(trees),
        kwargs=tuple(named),
        fixed=tuple(fixed),
    )
    return layout, tuple(t for _, t in found)


def _parameter_names(
    forward: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[str]:
    signature = inspect.signature(forward)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as e:
        shown = f"{len(args)} positional and {sorted(kwargs)}"
        raise ConfigError(f"the example inputs ({shown}) do not fit forward{signature}: {e}") from e
    names: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = len(args) - len(names)
            names += [f"{parameter.name}_{i}" for i in range(rest)]
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
    return names[: len(args)]


def _lift(
    value: Any, path: str, found: list[tuple[str, Tensor]], fixed: list[tuple[str, str]]
) -> Tree:
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Tensor):
        found.append((path, value.detach()))
        return Slot(len(found) - 1)
    opened = _open(value, path)
    if opened is None:
        if value is not None:
            fixed.append((path, repr(value)[:80]))
        return Static(value)
    make, children = opened
    return Branch(make, tuple(_lift(child, name, found, fixed) for name, child in children))


Opened: TypeAlias = tuple[Callable[[list[Any]], Any], list[tuple[str, Any]]]


def _open(value: Any, path: str) -> Opened | None:
    """Give a container's children with names, and what builds it again; None for anything else."""
    if isinstance(value, Mapping):
        keys = list(value)
        children = [(f"{path}.{k}" if path else str(k), value[k]) for k in keys]
        return _mapping_maker(value, keys), children
    if isinstance(value, tuple | list):
        kind = type(value)
        children = [(f"{path or 'output'}_{i}", v) for i, v in enumerate(value)]
        if hasattr(kind, "_fields"):
            children = [
                (f"{path}.{f}" if path else f, v) for f, v in zip(kind._fields, value, strict=True)
            ]
            return (lambda c: kind(*c)), children
        return (tuple if isinstance(value, tuple) else list), children
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value) if f.init]
        children = [(f"{path}.{f}" if path else f, getattr(value, f)) for f in fields]
        made = type(value)
        return (lambda c: made(**dict(zip(fields, c, strict=True)))), children
    if type(value) in pytree.SUPPORTED_NODES:
        leaves, spec = pytree.tree_flatten(value)
        named = [(f"{path or 'output'}_{i}", v) for i, v in enumerate(leaves)]
        return (lambda c: pytree.tree_unflatten(c, spec)), named
    return None


def _mapping_maker(value: Any, keys: list[Any]) -> Callable[[list[Any]], Any]:
    kind: Any = type(value)
    if kind in (dict, OrderedDict):
        return lambda c: kind(zip(keys, c, strict=True))
    if dataclasses.is_dataclass(value):
        return lambda c: kind(**dict(zip(keys, c, strict=True)))
    return lambda c: dict(zip(keys, c, strict=True))


def flatten_results(value: Any) -> tuple[list[tuple[str, Tensor]], list[str]]:
    """Flatten what a model returns.

    None is left out; host numbers become tensors; so that a trace can follow them, symbolic sizes
    do too.

    Returns:
        (name, tensor) pairs, and notes about what was left out.

    Raises:
        ImportFailed: an object of a kind that holds no tensors that we could name.
    """
    found: list[tuple[str, Tensor]] = []
    notes: list[str] = []
    _collect(value, "", found, notes)
    names = _unique([n for n, _ in found])
    return list(zip(names, (t for _, t in found), strict=True)), notes


def _collect(value: Any, path: str, found: list[tuple[str, Tensor]], notes: list[str]) -> None:
    if value is None:
        return
    if isinstance(value, Tensor):
        found.append((path or "output", value))
    elif (dtype := _number_dtype(value)) is not None:
        found.append((path or "output", torch.scalar_tensor(value, dtype=dtype)))
    elif (opened := _open(value, path)) is not None:
        for name, child in opened[1]:
            _collect(child, name, found, notes)
    elif any(t.__name__ == "Cache" for t in type(value).__mro__):
        notes.append(f"output {path} ({type(value).__name__}) is a cache of keys; left out")
    else:
        raise ImportFailed(
            f"output {path or 'of the model'} is a {type(value).__name__}; return tensors, or "
            "containers of tensors"
        )


def _number_dtype(value: Any) -> torch.dtype | None:
    if isinstance(value, bool):
        return torch.bool
    if isinstance(value, int | torch.SymInt):
        return torch.int64
    return torch.float32 if isinstance(value, float | torch.SymFloat) else None


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    result: list[str] = []
    for name in names:
        count = seen.get(name, 0)
        seen[name] = count + 1
        result.append(name if count == 0 else f"{name}__{count}")
    return tuple(result)
