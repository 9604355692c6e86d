"""Example inputs: taken from the caller, or made up from what an ONNX file says of its inputs.

Extents that the file leaves free are tried in a few sizes until the model runs: a detector may
want multiples of 32 and a tagger at most 128.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fusec.ir.errors import ConfigError, FusecError, ImportFailed
from fusec.kernels.torch_graph import from_numpy

__all__ = ["Port", "given_inputs", "guess_inputs", "make_input"]

_SIZES: tuple[tuple[int, int], ...] = (
    (16, 1), (64, 32), (32, 32), (224, 32), (8, 1), (320, 64), (3, 1), (576, 32), (64, 0), (2, 0),
    (1, 0),
)  # fmt: skip
"""(first size, step to the next free extent) of each attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """What is known about an input: extents are numbers, names of free extents, or None."""

    name: str
    dtype: torch.dtype | None
    dims: tuple[int | str | None, ...] | None


def given_inputs(ports: Sequence[Port], example: object) -> tuple[torch.Tensor, ...]:
    """Read a caller's example as tensors in input order.

    Args:
        ports: the model's inputs.
        example: an array or tensor, a tuple of them, or a mapping by input name.

    Raises:
        ConfigError: wrong number, unknown name, or no array.
    """
    names = [p.name for p in ports]
    if isinstance(example, Mapping):
        if set(example) != set(names):
            raise ConfigError(f"example has inputs {sorted(example)}, the model takes {names}")
        values = [example[n] for n in names]
    else:
        values = list(example) if isinstance(example, tuple) else [example]
    if len(values) != len(names):
        raise ConfigError(f"example has {len(values)} inputs, the model takes {names}")
    return tuple(_tensor(n, v) for n, v in zip(names, values, strict=True))


def _tensor(name: str, value: object) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiubc":
        return from_numpy(value)
    if isinstance(value, bool | int | float):
        return torch.tensor(value)
    raise ConfigError(
        f"example for input {name!r} is a {type(value).__name__}; give an array or a tensor"
    )


def guess_inputs(
    ports: Sequence[Port],
    rows: Mapping[str, int],
    run: Callable[[tuple[torch.Tensor, ...]], object],
) -> tuple[torch.Tensor, ...]:
    """Make up inputs on which the model runs.

    Args:
        ports: the model's inputs.
        rows: extents to use for named dimensions, such as 2 for a batch.
        run: the model.

    Raises:
        ConfigError: an input of unknown rank or of a type torch lacks; give examples then.
        ImportFailed: no attempt ran; the first error is quoted.
    """
    for port in ports:
        if port.dims is None or port.dtype is None:
            raise ConfigError(
                f"input {port.name!r} has no known shape or type in the file; give examples"
            )
    first_error: FusecError | RuntimeError | None = None
    for inputs in _attempts(ports, rows):
        try:
            run(inputs)
        except (FusecError, RuntimeError, ValueError, IndexError) as e:
            if first_error is None:
                first_error = e if isinstance(e, FusecError) else RuntimeError(str(e))
            continue
        return inputs
    if isinstance(first_error, FusecError) and not _has_free(ports, rows):
        raise first_error
    raise ImportFailed(
        f"no made-up input runs; give examples (first error: {first_error})"
    ) from first_error


def _has_free(ports: Sequence[Port], rows: Mapping[str, int]) -> bool:
    return any(not isinstance(d, int) and d not in rows for p in ports for d in (p.dims or ()))


def _attempts(ports: Sequence[Port], rows: Mapping[str, int]) -> Iterator[tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(0)
    sizes = _SIZES if _has_free(ports, rows) else _SIZES[:1]
    for with_rows in (True, False):
        for base, step in sizes:
            extents: dict[str, int] = {}
            shapes = [
                _shape(i, p, rows, extents, base, step, with_rows) for i, p in enumerate(ports)
            ]
            yield tuple(
                make_input(shape, port.dtype or torch.float32, generator)
                for shape, port in zip(shapes, ports, strict=True)
            )


def _shape(
    index: int,
    port: Port,
    rows: Mapping[str, int],
    extents: dict[str, int],
    base: int,
    step: int,
    with_rows: bool,
) -> list[int]:
    """Choose extents: names agree across inputs, unnamed ones differ.

    With rows, an input's first free extent without a name is taken for its batch.
    """
    shape: list[int] = []
    unnamed = 0
    for axis, dim in enumerate(port.dims or ()):
        fresh = base + step * len(extents)
        if isinstance(dim, int):
            shape.append(dim)
        elif dim is None:
            first = unnamed == 0 and not any(d in rows for d in port.dims or ())
            shape.append(2 if first and with_rows else extents.setdefault(f"{index}.{axis}", fresh))
            unnamed += 1
        else:
            shape.append(rows[dim] if dim in rows else extents.setdefault(dim, fresh))
    return shape


def make_input(
    shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator
) -> torch.Tensor:
    """Make a plausible input: normal floats, bytes of a picture, small token ids, true masks."""
    if dtype.is_floating_point:
        return torch.randn(tuple(shape), generator=generator).to(dtype)
    if dtype == torch.bool:
        return torch.ones(tuple(shape), dtype=dtype)
    if dtype.is_complex:
        return torch.randn(tuple(shape), generator=generator, dtype=dtype)
    high = 256 if dtype == torch.uint8 else 2
    return torch.randint(0, high, tuple(shape), generator=generator).to(dtype)
