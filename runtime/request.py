"""Read one request: names, dtypes, shapes and extents checked, rows counted, one variant chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fusec.ir.errors import ConfigError
from fusec.ir.plan import Blob, Member
from fusec.ir.symbols import ExtentError, check_request
from fusec.ir.template import RowsKind, Template, TensorSpec
from fusec.kernels.torch_graph import dtype_name, from_numpy, torch_dtype

__all__ = ["Choice", "Request", "Target", "read_request"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Choice:
    """A template with one member's packed weights, resolved: nothing is looked up later."""

    template: Template
    hashes: tuple[str, ...]
    """Content hashes of the weights: equal hashes, equal bytes."""
    weights: tuple[Blob, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """A member as it stood when a request came in; later edits of the plan do not reach it."""

    name: str
    member: Member
    choices: tuple[Choice, ...]
    """One per variant of the member, the general one first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """One member's checked inputs."""

    target: Target
    choice: Choice
    inputs: tuple[torch.Tensor, ...]
    rows: int | None
    """Rows to run as instances; None when the request runs whole."""
    wants_numpy: bool
    extents: Mapping[str, int]


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
    problems: list[str] = []
    for choice in target.choices:
        tensors = _tensors(name, member, choice.template, values)
        problem, rows, extents = _match(name, member, choice.template, tensors)
        if problem is None:
            return Request(
                target=target,
                choice=choice,
                inputs=tensors,
                rows=rows,
                wants_numpy=not any(isinstance(v, torch.Tensor) for v in values),
                extents=extents,
            )
        problems.append(problem)
    raise ConfigError(problems[0])


def _by_position(name: str, member: Member, given: object) -> list[object]:
    wanted = member.input_names
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


def _tensors(
    name: str, member: Member, template: Template, values: Sequence[object]
) -> tuple[torch.Tensor, ...]:
    tensors = []
    for input_name, spec, value in zip(member.input_names, template.inputs, values, strict=True):
        assert isinstance(spec, TensorSpec)
        tensor = _tensor(f"input {input_name!r} of model {name!r}", value, spec.dtype)
        if dtype_name(tensor.dtype) != spec.dtype:
            raise ConfigError(
                f"input {input_name!r} of model {name!r} is {dtype_name(tensor.dtype)}, the model "
                f"takes {spec.dtype}; convert it"
            )
        tensors.append(tensor)
    return tuple(tensors)


def _tensor(what: str, value: object, dtype: str) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        if value.device.type == "meta":
            raise ConfigError(f"{what} is a meta tensor and holds no data; give real data")
        return value.detach()
    if isinstance(value, np.ndarray):
        if value.dtype == object or value.dtype.kind in "USMmV":
            raise ConfigError(f"{what} has dtype {value.dtype}, the model takes {dtype}")
        return from_numpy(value)
    if isinstance(value, bool | int | float | list | np.generic):
        try:
            return torch.as_tensor(value, dtype=torch_dtype(dtype))
        except (TypeError, ValueError, RuntimeError) as e:
            raise ConfigError(f"{what} cannot be read as {dtype}: {e}") from e
    raise ConfigError(f"{what} is a {type(value).__name__}; give a NumPy array or a torch tensor")


def _match(
    name: str, member: Member, template: Template, tensors: Sequence[torch.Tensor]
) -> tuple[str | None, int | None, Mapping[str, int]]:
    """Find rows and extents, or say why the inputs do not fit this template."""
    rows: int | None = None
    shapes: list[tuple[int, ...]] = []
    whole = template.rows is RowsKind.WHOLE_REQUEST
    for input_name, spec, axis, tensor in zip(
        member.input_names, template.inputs, template.input_axes, tensors, strict=True
    ):
        assert isinstance(spec, TensorSpec)
        shape = tuple(tensor.shape)
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
            f"{n} {_show(tuple(t.shape))}" for n, t in zip(member.input_names, tensors, strict=True)
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
