"""The backend interface: what it takes, what it answers, what it refuses."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.base import Backend, BackendRep

from fusec import onnx_backend
from fusec.ir.errors import ConfigError, ImportFailed

F = TensorProto.FLOAT


def _model(op: str = "Sub") -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(op, ["a", "b"], ["y"])],
        "g",
        [helper.make_tensor_value_info(name, F, [2]) for name in "ab"],
        [helper.make_tensor_value_info("y", F, [2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


A, B = np.array([5, 7], np.float32), np.array([1, 2], np.float32)


def test_is_a_backend() -> None:
    assert issubclass(onnx_backend.FusecBackend, Backend)
    rep = onnx_backend.prepare(_model())
    assert isinstance(rep, BackendRep)
    assert onnx_backend.supports_device("CPU")
    assert not onnx_backend.supports_device("CUDA:0")


@pytest.mark.parametrize("inputs", [[A, B], (A, B), {"b": B, "a": A}])
def test_run(inputs: object) -> None:
    (got,) = onnx_backend.prepare(_model()).run(inputs)
    assert got.dtype == np.float32
    assert got.tolist() == [4, 5]
    (again,) = onnx_backend.run_model(_model(), inputs)
    assert again.tolist() == [4, 5]


@pytest.mark.parametrize("inputs", [[A], [A, B, B], {"a": A}, {"a": A, "c": B}, A])
def test_wrong_inputs(inputs: object) -> None:
    with pytest.raises(ConfigError, match="wanted"):
        onnx_backend.run_model(_model(), inputs)


def test_wrong_device_and_option() -> None:
    with pytest.raises(ConfigError, match="CUDA"):
        onnx_backend.prepare(_model(), "CUDA")
    with pytest.raises(ConfigError, match="unknown options speed"):
        onnx_backend.prepare(_model()).run([A, B], speed=2)


def test_bind() -> None:
    (got,) = onnx_backend.prepare(_model(), bind={"b": B}).run([A])
    assert got.tolist() == [4, 5]


def test_is_compatible() -> None:
    assert onnx_backend.is_compatible(_model())
    assert not onnx_backend.is_compatible(_model("Frob"))
    with pytest.raises(ImportFailed, match="Frob"):
        onnx_backend.prepare(_model("Frob"))


def test_run_node() -> None:
    node = helper.make_node("Clip", ["x", "", "high"], ["y"])
    (got,) = onnx_backend.run_node(node, [np.array([1, 9], np.float32), np.float32(3)])
    assert got.tolist() == [1, 3]


def test_run_node_of_an_older_opset_and_another_domain() -> None:
    x = np.array([[1, 2], [3, 4]], np.float32)
    node = helper.make_node("Softmax", ["x"], ["y"], axis=0)
    (old,) = onnx_backend.run_node(node, [x], opset_version=11)
    assert old.sum() == pytest.approx(1)
    node = helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml", threshold=2.5)
    (got,) = onnx_backend.run_node(node, {"x": x}, opset_version=1)
    assert got.tolist() == [[0, 0], [1, 1]]


def test_types_that_torch_lacks() -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    for code in (TensorProto.INT4, TensorProto.UINT4, TensorProto.BFLOAT16, TensorProto.STRING):
        values = ["a", "b"] if code == TensorProto.STRING else [1, 2]
        x = numpy_helper.to_array(helper.make_tensor("x", code, [2], values))
        (got,) = onnx_backend.run_node(node, [x])
        assert got.dtype == x.dtype
        assert got.tolist() == x.tolist()
