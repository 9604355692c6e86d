"""Matrix products against ONNX Runtime."""

import itertools

import numpy as np
import pytest
from fusec_testing.onnx_agree import agree, floats
from fusec_testing.onnx_node import node_model, run_exported


@pytest.mark.parametrize("bias", [None, (5,), (1, 5), (3, 5), (3, 1), (1,), ()])
def test_gemm(rng, bias):
    for across, down in itertools.product([0, 1], [0, 1]):
        a = floats(rng, 4, 3) if across else floats(rng, 3, 4)
        b = floats(rng, 5, 4) if down else floats(rng, 4, 5)
        c = [] if bias is None else [floats(rng, *bias)]
        for alpha, beta in ((1.0, 1.0), (0.5, 2.0)):
            attributes = {"transA": across, "transB": down, "alpha": alpha, "beta": beta}
            agree("Gemm", [a, b, *c], attributes=attributes, export=across != down)


def test_plain_gemm_is_one_linear(rng):
    import torch

    from fusec.importers.onnx.load import load_model
    from fusec.importers.onnx.module import OnnxModule

    inputs = [floats(rng, 3, 4), floats(rng, 5, 4), floats(rng, 1, 5)]
    model = node_model("Gemm", inputs, weights=(1, 2), attributes={"transB": 1})
    module = OnnxModule(load_model(model))
    program = torch.export.export(module, (torch.from_numpy(inputs[0]),), strict=False)
    calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert torch.ops.aten.linear.default in calls
    assert torch.ops.aten.mul.Tensor not in calls
    assert torch.ops.aten.add.Tensor not in calls


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_integer_products(rng, dtype):
    a, b = rng.integers(0, 9, (2, 3, 4)).astype(dtype), rng.integers(0, 9, (4, 5)).astype(dtype)
    agree("MatMul", [a, b], opset=13)
    if dtype in (np.int32, np.int64):
        np.testing.assert_array_equal(
            run_exported(node_model("Gemm", [a[0], b], opset=13), [a[0], b])[0], a[0] @ b
        )


@pytest.mark.parametrize(
    "shapes",
    [
        ((3,), (3,)),
        ((3,), (2, 3, 4)),
        ((2, 5, 3), (3,)),
        ((2, 1, 5, 3), (4, 3, 2)),
        ((0, 3), (3, 2)),
    ],
)
def test_matmul(rng, shapes):
    agree("MatMul", [floats(rng, *shape) for shape in shapes], opset=13)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("bij, bjk", [(2, 3, 4), (2, 4, 5)]),
        ("...ii->...i", [(2, 3, 3)]),
        ("bhqd,bhkd->bhqk", [(2, 2, 3, 4), (2, 2, 5, 4)]),
        ("i,j", [(3,), (4,)]),
        ("ii", [(3, 3)]),
    ],
)
def test_einsum(rng, equation, shapes):
    operands = [floats(rng, *shape) for shape in shapes]
    agree("Einsum", operands, attributes={"equation": equation}, atol=1e-5)


def test_determinant(rng):
    agree("Det", [floats(rng, 2, 3, 4, 4)], rtol=1e-4, atol=1e-5)
