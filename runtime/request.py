"""Read one request: names, dtypes, shapes and extents checked, rows counted, one variant chosen."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import field
from typing import TypeAlias

import numpy as np

from fusec.ir.errors import ConfigError
from fusec.ir.frozen import dataclass
from fusec.ir.plan import Blob, Member
from fusec.ir.symbols import ExtentError, check_request
from fusec.ir.template import RowsKind, Spec, Template, TensorSpec
from fusec.runtime.arrays import Array, dtype_of, is_tensor, read_value

__all__ = ["Choice", "Request", "Target", "read_request"]

_MOST_SEEN = 1024
"""Kinds of requests that a member remembers; forgotten all at once beyond."""

Shapes: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]
"""Dtype and shape of each input of a request."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Choice:
    """A template with one member's packed weights, resolved: nothing is looked up later."""

    template: Template
    hashes: tuple[str, ...]
    """Content hashes of the weights: equal hashes, equal bytes."""
    weights: tuple[Blob, ...]


@dataclass(frozen=True, slots=True)
class _Match:
    choice: Choice
    rows: int | None
    extents: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """A member as it stood when a request came in; later edits of the plan do not reach it."""

    name: str
    member: Member
    choices: tuple[Choice, ...]
    """One per variant of the member, the general one first."""
    _seen: dict[Hashable, _Match] = field(default_factory=dict)
    """Requests that fitted, so that the same kind is not worked out again."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """One member's checked inputs."""

    target: Target
    choice: Choice
    inputs: tuple[Array, ...]
    """As the caller gave them: any strides, any order of bytes."""
    rows: int | None
    """Rows to run as instances; None when the request runs whole."""
    wants_numpy: bool
    extents: Mapping[str, int]

    def having(self, inputs: tuple[Array, ...]) -> "Request":
        """Give the request with other inputs of the same dtypes and shapes, or without any."""
        return Request(
            target=self.target,
            choice=self.choice,
            inputs=inputs,
            rows=self.rows,
            wants_numpy=self.wants_numpy,
            extents=self.extents,
        )


def read_request(target: Target, given: object) -> Request:
    """Check a member's inputs against its template.

    Args:
        target: the member.
        given: an array (one-input models), a tuple in input order, or a mapping by input name.

    Raises:
        ConfigError: unknown input, wrong dtype, shape, extent or number of rows.
    """
    name, member = target.name, target.member
    values = _by_position(name, member, given)
    specs = target.choices[0].template.inputs
    inputs = tuple(
        [
            value
            if type(value) is np.ndarray and value.dtype.kind in "fiub"
            else _read(name, input_name, value, spec)
            for input_name, spec, value in zip(member.input_names, specs, values, strict=True)
        ]
    )
    key = tuple([(t.dtype, t.shape) for t in inputs])
    match = target._seen.get(key)
    if match is None:
        match = _choose(target, tuple((dtype_of(t), tuple(t.shape)) for t in inputs))
        if len(target._seen) >= _MOST_SEEN:
            target._seen.clear()
        target._seen[key] = match
    return Request(
        target=target,
        choice=match.choice,
        inputs=inputs,
        rows=match.rows,
        wants_numpy=not any(map(is_tensor, inputs)),
        extents=match.extents,
    )


def _read(name: str, input_name: str, value: object, spec: Spec) -> Array:
    assert isinstance(spec, TensorSpec)
    return read_value(f"input {input_name!r} of model {name!r}", value, spec.dtype)


def _choose(target: Target, shapes: Shapes) -> _Match:
    """Find the variant that a request fits.

    Raises:
        ConfigError: it fits none; says why not the general one.
    """
    problems: list[str] = []
    for choice in target.choices:
        _check_dtypes(target.name, target.member, choice.template, shapes)
        problem, rows, extents = _match(
            target.name, target.member, choice.template, [shape for _, shape in shapes]
        )
        if problem is None:
            return _Match(choice, rows, extents)
        problems.append(problem)
    raise ConfigError(problems[0])


def _by_position(name: str, member: Member, given: object) -> list[object]:
    wanted = member.input_names
    if type(given) is np.ndarray and len(wanted) == 1:
        return [given]
    if isinstance(given, Mapping):
        unknown = sorted(str(k) for k in given if k not in wanted)
        missing = [n for n in wanted if n not in given]
        if unknown or missing:
            raise ConfigError(
                f"model {name!r} takes inputs {list(wanted)}; "
                + (f"unknown: {unknown}" if unknown else f"missing: {missing}")
            )
        return [given[n] for n in wanted]
    values = list(given) if isinstance(given, tuple) else [given]
    if len(values) != len(wanted):
        raise ConfigError(
            f"model {name!r} takes {len(wanted)} inputs {list(wanted)}, got {len(values)}; give a "
            "tuple in this order or a mapping by name"
        )
    return values


def _check_dtypes(name: str, member: Member, template: Template, shapes: Shapes) -> None:
    for input_name, spec, (dtype, _) in zip(
        member.input_names, template.inputs, shapes, strict=True
    ):
        assert isinstance(spec, TensorSpec)
        if dtype != spec.dtype:
            raise ConfigError(
                f"input {input_name!r} of model {name!r} is {dtype}, the model takes {spec.dtype}; "
                "convert it"
            )


def _match(
    name: str, member: Member, template: Template, given: Sequence[tuple[int, ...]]
) -> tuple[str | None, int | None, Mapping[str, int]]:
    """Find rows and extents, or say why the inputs do not fit this template."""
    rows: int | None = None
    shapes: list[tuple[int, ...]] = []
    whole = template.rows is RowsKind.WHOLE_REQUEST
    for input_name, spec, axis, shape in zip(
        member.input_names, template.inputs, template.input_axes, given, strict=True
    ):
        assert isinstance(spec, TensorSpec)
        where = f"input {input_name!r} of model {name!r}"
        if len(shape) != len(spec.shape):
            return f"{where} has shape {_show(shape)}, wanted {_show(spec.shape, axis)}", None, {}
        if axis is not None and not whole:
            if rows is not None and shape[axis] != rows:
                problem = f"{where} has {shape[axis]} rows on axis {axis}, other inputs have {rows}"
                return problem, None, {}
            rows = shape[axis]
            shape = (*shape[:axis], 1, *shape[axis + 1 :])
        shapes.append(shape)
    try:
        extents = check_request(template.inputs, shapes, template.symbols, template.constraints)
    except ExtentError as e:
        got = ", ".join(
            f"{n} {_show(shape)}" for n, shape in zip(member.input_names, given, strict=True)
        )
        wanted = ", ".join(
            f"{n} {_show(s.shape, None if whole else a)}"
            for n, s, a in zip(
                member.input_names, template.inputs, template.input_axes, strict=True
            )
            if isinstance(s, TensorSpec)
        )
        return f"model {name!r}: {e}; got {got}; wanted {wanted}", None, {}
    return None, rows, extents


def _show(shape: Sequence[int | str], axis: int | None = None) -> str:
    shown = ["rows" if i == axis else str(d) for i, d in enumerate(shape)]
    return "[" + ", ".join(shown) + "]"
