"""Small ONNX graphs put together by hand, and ONNX Runtime's answers for them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from fusec.importers.onnx.load import load_model
from fusec.importers.onnx.module import OnnxModule

F, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
Info = helper.make_tensor_value_info


def const(array: Any, name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
    opset: int = 17,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(domain, 1) for domain in {f.domain for f in functions}]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)


def oracle(model: onnx.ModelProto, *inputs: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [value.name for value in session.get_inputs()]
    found: list[np.ndarray] = session.run(None, dict(zip(names, inputs, strict=True)))
    return found


def check(model: onnx.ModelProto, *inputs: np.ndarray, capture: bool = True) -> str:
    """Compare eager and captured answers with ONNX Runtime; return the captured code."""
    wanted = oracle(model, *inputs)
    module = OnnxModule(load_model(model))
    tensors = tuple(map(torch.from_numpy, inputs))
    for got, want in zip(module(*tensors), wanted, strict=True):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-5, atol=1e-6)
    if not capture:
        return ""
    captured = torch.export.export(module, tensors, strict=False)
    for got, want in zip(captured.module()(*tensors), wanted, strict=True):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-5, atol=1e-6)
    return str(captured.graph_module.code)


def branch(op: str, *names: str, constants: Sequence[onnx.TensorProto] = ()) -> onnx.GraphProto:
    out = f"{op}_out"
    return helper.make_graph(
        [helper.make_node(op, list(names), [out])], op, [], [Info(out, F, None)], constants
    )


def if_node(condition: str, then: onnx.GraphProto, other: onnx.GraphProto) -> onnx.NodeProto:
    return helper.make_node("If", [condition], ["y"], "if", then_branch=then, else_branch=other)


def loop_body(
    nodes: Sequence[onnx.NodeProto],
    carried: Sequence[str],
    results: Sequence[str],
    condition: str = "go",
) -> onnx.GraphProto:
    inputs = [Info("i", I64, []), Info("go", BOOL, []), *(Info(name, F, None) for name in carried)]
    outputs = [Info(condition, BOOL, []), *(Info(name, F, None) for name in results)]
    return helper.make_graph(nodes, "body", inputs, outputs)
