"""An ONNX model as a source: what batch detection and capture ask of any model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fusec.importers.examples import Port, given_inputs, guess_inputs
from fusec.importers.onnx.load import LoadedModel, ValueInfo
from fusec.importers.onnx.module import OnnxModule
from fusec.importers.onnx.tabular import tensor_outputs
from fusec.importers.onnx.values import Value, is_text, to_tensor, torch_dtype
from fusec.importers.torch_capture import Dynamic
from fusec.ir.errors import ConfigError, FusecError, ImportFailed
from fusec.ir.template import Symbol

__all__ = ["OnnxSource", "TensorModule", "named_rows", "onnx_source"]

_BATCH_NAMES = frozenset({"n", "b", "bs", "batch", "batchsize", "nbatch", "batchdim", "rows"})


class TensorModule(nn.Module):
    """An ONNX model whose outputs are tensors, also those that shapes alone decide."""

    def __init__(self, inner: OnnxModule) -> None:
        """Wrap a model; its weights keep their names."""
        super().__init__()
        self.inner = inner

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Interpret the graph.

        Raises:
            ImportFailed: an output that is no tensor, such as text or a sequence.
        """
        results = self.inner(*tensors)
        return tuple(_as_tensor(o, r) for o, r in zip(self.inner.outputs, results, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnnxSource:
    """An ONNX model with example inputs; see `fusec.importers.source.Source`."""

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    examples: tuple[Tensor, ...]
    dynamic: Dynamic
    module: TensorModule
    notes: tuple[str, ...]
    model: str
    """Name of the model, for messages."""
    ports: tuple[Port, ...]

    def run(self, args: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Interpret the graph eagerly, within the extents that the file declares.

        A file that says one row is not asked what it would make of two: its trace may well run, and
        be wrong, where its writer relied on the one.

        Raises:
            ImportFailed: extents that the file rules out, the model fails on these inputs, or an
                output is no tensor.
        """
        try:
            _check(self.model, self.ports, args)
        except ConfigError as e:
            raise ImportFailed(str(e)) from e
        return _run(self.module, args)


def onnx_source(
    model: LoadedModel, bind: Mapping[str, object] | None, example: object | None
) -> OnnxSource:
    """Open an ONNX model.

    Args:
        model: the model, read and checked.
        bind: inputs fixed at import.
        example: example inputs; None makes some up from the declared types and shapes.

    Raises:
        ConfigError: an example that does not fit, or none where the file says too little.
        ImportFailed: inputs or outputs that are no tensors; no made-up input runs.
    """
    model, notes = tensor_outputs(model)
    inner = OnnxModule(model, bind)
    module = TensorModule(inner).eval()
    ports = tuple(_port(info) for info in inner.inputs)
    for info in (*inner.inputs, *inner.outputs):
        if info.kind != "tensor":
            raise ImportFailed(
                f"{model.name}: {info.name!r} is a {info.kind}; a program takes and gives tensors"
            )
    if example is None:
        rows = {dim: 2 for axes in named_rows(inner.inputs).values() for dim in axes.values()}
        examples = guess_inputs(ports, rows, lambda args: _run(module, args))
    else:
        examples = given_inputs(ports, example)
        _check(model.name, ports, examples)
    return OnnxSource(
        input_names=tuple(info.name for info in inner.inputs),
        output_names=tuple(info.name for info in inner.outputs),
        examples=examples,
        dynamic=_dynamic(ports, examples),
        module=module,
        notes=notes,
        model=model.name,
        ports=ports,
    )


def named_rows(inputs: Sequence[ValueInfo]) -> dict[int, dict[int, str]]:
    """Find axes whose dimension is named like a batch: input index -> {axis: name}."""
    found: dict[int, dict[int, str]] = {}
    for i, info in enumerate(inputs):
        for axis, dim in enumerate(info.dims or ()):
            if isinstance(dim, str) and _is_batch(dim):
                found[i] = {axis: dim}
                break
    return found


def _is_batch(name: str) -> bool:
    plain = "".join(c for c in name.lower() if c.isalpha())
    return plain in _BATCH_NAMES or plain.startswith("batch")


def _run(module: TensorModule, args: Sequence[Tensor]) -> tuple[Tensor, ...]:
    try:
        with torch.no_grad():
            results: tuple[Tensor, ...] = module(*args)
    except FusecError:
        raise
    except (RuntimeError, ValueError, IndexError, TypeError) as e:
        raise ImportFailed(f"the model fails on the given inputs: {e}") from e
    return results


def _as_tensor(info: ValueInfo, value: Value) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray) and not is_text(value):
        return to_tensor(value)
    raise ImportFailed(f"output {info.name!r} is a {type(value).__name__}, not a tensor")


def _port(info: ValueInfo) -> Port:
    dtype = None
    if info.elem_type is not None:
        try:
            dtype = torch_dtype(info.elem_type)
        except ImportFailed as e:
            raise ImportFailed(f"input {info.name!r}: {e}") from e
    return Port(name=info.name, dtype=dtype, dims=info.dims)


def _check(model: str, ports: Sequence[Port], examples: Sequence[Tensor]) -> None:
    for port, example in zip(ports, examples, strict=True):
        if port.dtype is not None and example.dtype != port.dtype:
            raise ConfigError(
                f"{model}: example for input {port.name!r} is {example.dtype}, the file says "
                f"{port.dtype}"
            )
        dims = port.dims
        fits = dims is None or (
            len(dims) == example.dim()
            and all(
                not isinstance(d, int) or d == n for d, n in zip(dims, example.shape, strict=True)
            )
        )
        if not fits:
            raise ConfigError(
                f"{model}: example for input {port.name!r} has shape {list(example.shape)}, the "
                f"file says {list(dims or ())}"
            )


def _dynamic(ports: Sequence[Port], examples: Sequence[Tensor]) -> Dynamic:
    """Let every extent vary that the file leaves free."""
    free: dict[int, dict[int, Symbol]] = {}
    for i, (port, example) in enumerate(zip(ports, examples, strict=True)):
        dims = port.dims if port.dims is not None else (None,) * example.dim()
        for axis, dim in enumerate(dims):
            if not isinstance(dim, int):
                name = dim if isinstance(dim, str) else f"{port.name}_{axis}"
                free.setdefault(i, {})[axis] = Symbol(name, 1, None)
    return free
