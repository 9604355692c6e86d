"""Small ONNX models in files, for tests of what takes paths."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

__all__ = ["oracle", "save_model"]


def save_model(
    path: Path, *, activation: str = "Relu", domain: str = "", scaled: bool = False
) -> Path:
    """Write x [n, 3] -> Gemm -> activation -> y [n, 4], times an input `scale` if asked."""
    rng = np.random.default_rng(ord(path.stem[0]))
    weights = {"w": rng.standard_normal((3, 4)), "b": rng.standard_normal(4)}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["g"]),
        helper.make_node(activation, ["g"], ["h" if scaled else "y"], domain=domain),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])]
    if scaled:
        nodes.append(helper.make_node("Mul", ["h", "scale"], ["y"]))
        inputs.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, []))
    graph = helper.make_graph(
        nodes,
        "g",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("custom", 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def oracle(path: Path, x: np.ndarray) -> np.ndarray:
    """Answer as ONNX Runtime does."""
    answer = onnxruntime.InferenceSession(path).run(None, {"x": x})[0]
    assert isinstance(answer, np.ndarray)
    return answer
