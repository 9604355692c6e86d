"""Members as ONNX, and the two runtimes that take them: a session or compiled model for each."""

from __future__ import annotations

import importlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import onnx
import torch
from given import Inputs, Models, arguments
from harness import Impl, Outputs
from onnx import numpy_helper
from torch import nn

Contents = Mapping[str, bytes]
Pool = Literal["one", "own", "defaults"]
Arrays = tuple[np.ndarray, ...]
_POOLS: set[int] = set()


def exported(
    models: Models, inputs: Inputs, dynamic: Mapping[str, Mapping[int, str]] | None = None
) -> Contents:
    """Return every model as ONNX, by the exporter of PyTorch.

    Members of one architecture are exported once; the others get their own weights by name.

    Args:
        models: of one architecture.
        inputs: an example for each.
        dynamic: extents that vary: input name -> axis -> symbol.
    """
    names = list(models)
    first = _export(models[names[0]], arguments(inputs[names[0]]), dynamic)
    contents = {names[0]: first.SerializeToString()}
    for name in names[1:]:
        own = _with_weights(first, models[names[0]], models[name])
        if own is None:
            own = _export(models[name], arguments(inputs[name]), dynamic)
        contents[name] = own.SerializeToString()
    return contents


def _export(
    model: nn.Module,
    given: tuple[torch.Tensor, ...],
    dynamic: Mapping[str, Mapping[int, str]] | None,
) -> onnx.ModelProto:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    shapes = None
    if dynamic is not None:
        symbols = {s: torch.export.Dim(s) for axes in dynamic.values() for s in axes.values()}
        shapes = {k: {a: symbols[s] for a, s in axes.items()} for k, axes in dynamic.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model, given, dynamo=True, verbose=False, dynamic_shapes=shapes, optimize=False
        )
    assert program is not None
    return program.model_proto


def _with_weights(
    proto: onnx.ModelProto, origin: nn.Module, other: nn.Module
) -> onnx.ModelProto | None:
    """Return the same graph with another member's weights; None where names do not tell."""
    before, after = origin.state_dict(), other.state_dict()
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    swapped = set()
    for tensor in copied.graph.initializer:
        if tensor.name not in before:
            continue
        if not np.array_equal(numpy_helper.to_array(tensor), before[tensor.name].numpy()):
            return None
        tensor.CopyFrom(numpy_helper.from_array(after[tensor.name].numpy(), tensor.name))
        swapped.add(tensor.name)
    unused = {name for name in before if name.endswith("num_batches_tracked")}
    return copied if swapped >= set(before) - unused else None


def _rowwise(arrays: Arrays, first: object) -> list[Arrays]:
    """Return the calls that a request takes: one per row where a file holds a batch of one."""
    rows = arrays[0].shape[0]
    if first != 1 or rows == 1:
        return [arrays]
    return [tuple(a[i : i + 1] for a in arrays) for i in range(rows)]


def _joined(names: list[str]) -> Callable[[object], Outputs]:
    def read(result: Any) -> Outputs:
        return {name: np.concatenate(rows) for name, rows in zip(names, result, strict=True)}

    return read


def onnxruntime_sessions(
    contents: Contents, inputs: Inputs, threads: int, *, pool: Pool = "one"
) -> Impl:
    """One session per model.

    Args:
        contents: the members.
        inputs: a request for each.
        threads: of the pool.
        pool: one for all sessions, whose threads do not spin between requests; or, in processes
            that never make that one, each session's own without spinning; or what ONNX Runtime
            does when told nothing: each its own, as many threads as cores, which spin.
    """

    def build() -> Callable[[], object]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if pool == "one":
            # The size of the global pool is fixed once per process; so is a bench's thread count.
            if threads not in _POOLS:
                onnxruntime.set_global_thread_pool_sizes(threads, 1)
                _POOLS.add(threads)
            options.use_per_session_threads = False
            options.add_session_config_entry("session.force_spinning_stop", "1")
        elif pool == "own":
            options.intra_op_num_threads = threads
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        sessions = []
        for name, content in contents.items():
            session = onnxruntime.InferenceSession(content, options)
            shape = session.get_inputs()[0].shape
            calls = _rowwise(tuple(x.numpy() for x in arguments(inputs[name])), shape[0])
            keys = [i.name for i in session.get_inputs()]
            feeds = [dict(zip(keys, call, strict=True)) for call in calls]
            sessions.append((session, feeds))

        def run() -> object:
            return [[s.run(None, feed)[0] for feed in feeds] for s, feeds in sessions]

        return run

    return Impl(build, _joined(list(contents)))


def openvino_models(contents: Contents, inputs: Inputs, threads: int) -> Impl:
    """One compiled model per member, at float32, one stream."""

    def build() -> Callable[[], object]:
        # Its stubs hide the names it has.
        openvino: Any = importlib.import_module("openvino")
        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
        }
        requests = []
        for name, content in contents.items():
            made = core.compile_model(core.read_model(io.BytesIO(content)), "CPU", settings)
            first = made.inputs[0].partial_shape[0]
            known = first.get_length() if first.is_static else None
            calls = _rowwise(tuple(x.numpy() for x in arguments(inputs[name])), known)
            requests.append((made.create_infer_request(), calls))

        def run() -> object:
            return [
                [request.infer(list(call))[0].copy() for call in calls]
                for request, calls in requests
            ]

        return run

    return Impl(build, _joined(list(contents)))
