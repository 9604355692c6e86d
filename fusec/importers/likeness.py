"""What makes two modules the same program: all but the values of their weights.

A module's program follows from its classes, its attributes, and the names, shapes and ties of its
weights. Where all of these are equal, one trace serves both; whoever relies on it also compares
answers, since code may look at more than itself: a switch in some other module, say.

    Linear(3, 4), Linear(3, 4)       alike
    LayerNorm(4), LayerNorm(4, 1e-3) not: an attribute differs
    a lambda made for each module    not: two functions are the same only if they are one object
    a tensor in a plain attribute    never: its value may steer the trace
"""

import enum
import functools
import types
import weakref
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fusec.ir.frozen import dataclass

__all__ = ["likeness", "state_of"]

_HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs",
)  # fmt: skip
_OWN = frozenset(vars(nn.Module())) - {"training"}
"""Attributes that every module has; those that matter are looked at by themselves."""
_MOST_VALUES = 100_000
"""Attributes that are looked at; a module with more is traced."""
_PLAIN = (
    types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type, enum.Enum,
    torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size,
    types.NoneType, types.EllipsisType, types.NotImplementedType, bool, int, str, bytes,
)  # fmt: skip
"""Compared as they are; a function or class is itself only."""


class _Unlike(Exception):
    """The module may not be taken for another."""


@dataclass(frozen=True, slots=True, eq=False)
class _Itself:
    """An object about which nothing is known: equal to itself alone."""

    value: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def likeness(module: nn.Module, inputs: object, options: object) -> Hashable | None:
    """Give a key that modules share only if one trace serves them; None if none may be shared.

    Args:
        module: as the user gave it.
        inputs: example inputs; of tensors only dtype and shape count.
        options: whatever else steers the import.

    Cost: 10 us per layer.
    """
    try:
        state = list(state_of(module).values())
        weights = {id(tensor): i for i, tensor in reversed(list(enumerate(state)))}
        parts = list(module.named_modules(remove_duplicate=False))
        places = {id(part): i for i, (_, part) in reversed(list(enumerate(parts)))}
        look = _Look(places, weights)
        return (
            torch.get_default_dtype(),
            tuple((path, places[id(part)], look.part(part)) for path, part in parts),
            _ties(state),
            _Look({}, {}, shapes=True).of(inputs),
            look.of(options),
        )
    except _Unlike:
        return None


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Give all parameters and buffers by name, tied ones under each of their names."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _ties(state: Sequence[Tensor]) -> Hashable:
    """Say of each weight what it is but for its values, and which others share its memory."""
    same: dict[Hashable, int] = {}
    stored: dict[Hashable, int] = {}
    found = []
    for i, tensor in enumerate(state):
        if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout is not torch.strided:
            raise _Unlike
        kind = (tensor.dtype, tensor.device, tuple(tensor.shape), tensor.stride())
        at = (tensor.data_ptr() or i, *kind)
        memory = tensor.untyped_storage().data_ptr() or i
        found.append((*kind, type(tensor), same.setdefault(at, i), stored.setdefault(memory, i)))
    return tuple(found)


class _Look:
    """Turns attributes into something to compare."""

    def __init__(
        self, places: Mapping[int, int], weights: Mapping[int, int], *, shapes: bool = False
    ) -> None:
        """Know modules and weights by their numbers.

        Args:
            places: id of a module -> its number.
            weights: id of a weight -> its number.
            shapes: other tensors count by dtype and shape; without, they may not occur.
        """
        self._places, self._weights, self._shapes = places, weights, shapes
        self._left = _MOST_VALUES
        self._inside: set[int] = set()

    def part(self, part: nn.Module) -> Hashable:
        """Look at one module, without those inside it."""
        own = vars(part)
        if any(own[hooks] for hooks in _HOOKS):
            raise _Unlike
        names = tuple(
            (kind, tuple((n, t is None) for n, t in own[kind].items()))
            for kind in ("_parameters", "_buffers")
        )
        rest = {name: value for name, value in own.items() if name not in _OWN}
        kept = tuple(sorted(own["_non_persistent_buffers_set"]))
        return (type(part), type(part).forward, names, kept, self.of(rest))

    def of(self, value: Any) -> Hashable:
        """Look at a value, and at all inside it."""
        self._left -= 1
        if self._left < 0:
            raise _Unlike
        known = self._known(value)
        if known is not None:
            return known
        if id(value) in self._inside:
            raise _Unlike  # it holds itself
        self._inside.add(id(value))
        try:
            return self._held(value)
        finally:
            self._inside.discard(id(value))

    def _known(self, value: Any) -> Hashable | None:
        """Look at what holds nothing else."""
        if isinstance(value, weakref.ref):
            value = value()
        if id(value) in self._weights and isinstance(value, Tensor):
            return ("weight", self._weights[id(value)])
        if isinstance(value, nn.Module):
            if id(value) not in self._places:
                raise _Unlike
            return ("module", self._places[id(value)])
        if isinstance(value, Tensor | np.ndarray):
            if not self._shapes:
                raise _Unlike
            return ("tensor", str(value.dtype), tuple(value.shape))
        if isinstance(value, float | complex | np.generic):
            # repr: zeros have signs, and a NaN is not equal to itself.
            return (type(value), repr(value))
        return (type(value), value) if isinstance(value, _PLAIN) else None

    def _held(self, value: Any) -> Hashable:
        kind, own = type(value), self._attributes
        if kind is functools.partial:
            return (kind, *map(self.of, (value.func, value.args, value.keywords)))
        if kind is types.MethodType:
            return (kind, self.of(value.__self__), value.__func__)
        if kind is slice or kind is range:
            return (kind, value.start, value.stop, value.step)
        if isinstance(value, tuple | list):
            return (kind, tuple(map(self.of, value)), own(value))
        if isinstance(value, dict):
            items = tuple((self.of(k), self.of(v)) for k, v in value.items())
            # A defaultdict is made of one thing more.
            return (kind, items, self.of(getattr(value, "default_factory", None)), own(value))
        if isinstance(value, set | frozenset):
            return (kind, frozenset(map(self.of, value)), own(value))
        return (kind, own(value)) if _is_open(kind) else _Itself(value)

    def _attributes(self, value: Any) -> Hashable:
        own = getattr(value, "__dict__", None)
        return tuple((name, self.of(v)) for name, v in own.items()) if own else ()


def _is_open(kind: type) -> bool:
    """Tell whether nothing hides in a class's objects but their attributes."""
    slots = any(vars(base).get("__slots__") for base in kind.__mro__)
    return kind.__basicsize__ <= _Empty.__basicsize__ and bool(kind.__dictoffset__) and not slots


class _Empty:
    """As small as an object with attributes is."""
