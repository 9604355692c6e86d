"""One-node ONNX models, run by fusec (eagerly and as an exported program) and by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper

DOMAIN_VERSIONS = {"com.microsoft": 1, "ai.onnx.ml": 3, "ai.onnx.preview.training": 1}


def node_model(
    op: str,
    inputs: Sequence[Any],
    *,
    domain: str = "",
    opset: int = 17,
    outputs: int = 1,
    weights: Sequence[int] = (),
    attributes: Mapping[str, Any] | None = None,
) -> onnx.ModelProto:
    """Build a model of one node.

    Args:
        op: operator name.
        inputs: arrays; None is an absent optional input.
        domain: operator domain.
        opset: version of the operator's domain (of the default domain at least 17 beside another).
        outputs: number of outputs; their types are left to the runtime.
        weights: positions of inputs that become initialisers.
        attributes: of the node; arrays become tensor attributes.
    """
    names = ["" if value is None else f"x{i}" for i, value in enumerate(inputs)]
    fixed = {
        key: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for key, value in (attributes or {}).items()
    }
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], domain=domain, **fixed)
    given = [(i, np.asarray(v)) for i, v in enumerate(inputs) if v is not None]
    graph = helper.make_graph(
        [node],
        "node",
        [_info(f"x{i}", v) for i, v in given if i not in weights],
        [helper.make_empty_tensor_value_info(f"y{i}") for i in range(outputs)],
        [onnx.numpy_helper.from_array(v, f"x{i}") for i, v in given if i in weights],
    )
    opsets = [helper.make_opsetid(domain, opset)]
    if domain:
        opsets = [helper.make_opsetid(domain, DOMAIN_VERSIONS[domain] if opset == 17 else opset)]
        opsets.append(helper.make_opsetid("", 17))
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _info(name: str, value: np.ndarray) -> onnx.ValueInfoProto:
    if value.dtype.kind in "OUS":
        return helper.make_tensor_value_info(name, onnx.TensorProto.STRING, value.shape)
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(name, kind, value.shape)


def run_fusec(model: onnx.ModelProto, inputs: Sequence[Any]) -> list[Any]:
    """Evaluate a model eagerly; `inputs` as given to `node_model`."""
    from fusec import onnx_backend

    return onnx_backend.prepare(model).run(_fed(model, inputs))


def run_exported(model: onnx.ModelProto, inputs: Sequence[Any]) -> list[np.ndarray]:
    """Trace a model with torch.export and run the program."""
    from fusec.importers.onnx.load import load_model
    from fusec.importers.onnx.module import OnnxModule
    from fusec.importers.onnx.values import from_numpy, to_numpy

    tensors = tuple(from_numpy(np.asarray(v)) for v in _fed(model, inputs))
    program = torch.export.export(OnnxModule(load_model(model)), tensors, strict=False)
    return [to_numpy(value) for value in program.module()(*tensors)]


def run_runtime(model: onnx.ModelProto, inputs: Sequence[Any]) -> list[Any]:
    """Run a model in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, map(np.asarray, _fed(model, inputs)), strict=True)))


def _fed(model: onnx.ModelProto, inputs: Sequence[Any]) -> list[Any]:
    """The inputs that are graph inputs, in order."""
    names = [value.name for value in model.graph.input]
    return [inputs[int(name[1:])] for name in names]
