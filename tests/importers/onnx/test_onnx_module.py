"""The module that interprets an ONNX graph: capture, symbols, functions, errors."""

import numpy as np
import onnx
import pytest
import torch
from fusec_testing.onnx_graphs import I64, F, Info, build, check, const, oracle
from onnx import helper

from fusec.importers.onnx.load import load_model
from fusec.importers.onnx.module import OnnxModule
from fusec.ir.errors import ImportFailed

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


def test_scalars_stay_numbers_in_the_graph() -> None:
    nodes = [
        helper.make_node("Add", ["x", "eps"], ["a"]),
        helper.make_node("Mul", ["half", "a"], ["y"]),
    ]
    constants = [const(np.float32(1e-5), "eps"), const(np.float32(0.5), "half")]
    code = check(build(nodes, [Info("x", F, [2, 3])], [Info("y", F, None)], constants), X)
    assert "aten.add.Tensor(x, 9.999999747378752e-06)" in code.replace("inputs_0", "x")
    assert "0.5" in code
    assert "lift" not in code


def test_shape_arithmetic_is_decided_while_importing() -> None:
    """Flatten as exporters write it: shape, gather, multiply, concat, reshape, symbols inside."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Gather", ["s", "two"], ["t"]),
        helper.make_node("Mul", ["t", "three"], ["wide"]),
        helper.make_node("Concat", ["n1", "w1"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    nodes[4:4] = [
        helper.make_node("Unsqueeze", ["n", "axis"], ["n1"]),
        helper.make_node("Unsqueeze", ["wide", "axis"], ["w1"]),
    ]
    constants = [
        const(np.int64(0), "zero"),
        const(np.int64(2), "two"),
        const(np.int64(3), "three"),
        const(np.array([0]), "axis"),
    ]
    model = build(nodes, [Info("x", F, ["n", 3, "t"])], [Info("y", F, None)], constants)
    module = OnnxModule(load_model(model))
    example = torch.randn(2, 3, 5)
    n, t = torch.export.Dim("n", min=1, max=64), torch.export.Dim("t", min=1, max=64)
    captured = torch.export.export(
        module, (example,), dynamic_shapes={"inputs": ({0: n, 2: t},)}, strict=False
    ).module()
    for rows, length in ((2, 5), (7, 11), (3, 2)):
        x = np.random.default_rng(rows).standard_normal((rows, 3, length)).astype(np.float32)
        (got,), (want,) = captured(torch.from_numpy(x)), oracle(model, x)
        assert got.shape == (rows, 3 * length)
        np.testing.assert_array_equal(got.numpy(), want)


def test_shape_as_an_output() -> None:
    model = build(
        [helper.make_node("Shape", ["x"], ["y"])], [Info("x", F, [2, 3])], [Info("y", I64, None)]
    )
    check(model, X)


def test_data_that_must_be_known_names_node_and_remedy() -> None:
    model = build(
        [helper.make_node("Reshape", ["x", "s"], ["y"], name="here")],
        [Info("x", F, [2, 3]), Info("s", I64, [1])],
        [Info("y", F, None)],
    )
    check(model, X, np.array([-1]), capture=False)
    module = OnnxModule(load_model(model))
    with pytest.raises(ImportFailed, match=r"ai\.onnx::Reshape \(opset 17, node 'here'\).*bind="):
        torch.export.export(module, (torch.from_numpy(X), torch.tensor([-1])), strict=False)
    bound = OnnxModule(load_model(model), {"s": [-1]})
    assert [info.name for info in bound.inputs] == ["x"]
    captured = torch.export.export(bound, (torch.from_numpy(X),), strict=False)
    assert captured.module()(torch.from_numpy(X))[0].shape == (6,)


def test_failure_inside_an_operator_names_the_node() -> None:
    model = build(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="bad")],
        [Info("x", F, [2, 3])],
        [Info("y", F, None)],
        [const(np.zeros((5, 2), np.float32), "w")],
    )
    with pytest.raises(ImportFailed, match=r"MatMul \(opset 17, node 'bad'\)"):
        OnnxModule(load_model(model))(torch.from_numpy(X))


def _scale_function() -> onnx.FunctionProto:
    """Return x * factor + offset: factor an attribute with a default, offset a constant."""
    constant = helper.make_node("Constant", [], ["f"])
    attr = constant.attribute.add(name="value_float", ref_attr_name="factor")
    attr.type = onnx.AttributeProto.FLOAT
    nodes = [
        constant,
        helper.make_node("Constant", [], ["offset"], value=const(np.float32([1, 2, 3]), "c")),
        helper.make_node("Mul", ["x", "f"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["y"]),
    ]
    return helper.make_function(
        "mine",
        "Scale",
        ["x"],
        ["y"],
        nodes,
        [helper.make_opsetid("", 17)],
        [],
        [helper.make_attribute("factor", 3.0)],
    )


def test_functions_of_the_model() -> None:
    """Called twice: names inside do not clash, attributes are per call, defaults hold."""
    nodes = [
        helper.make_node("Scale", ["x"], ["h"], domain="mine", factor=2.0),
        helper.make_node("Scale", ["h"], ["y"], domain="mine"),
    ]
    model = build(
        nodes, [Info("x", F, [2, 3])], [Info("y", F, None)], functions=[_scale_function()]
    )
    check(model, X)
    assert len(OnnxModule(load_model(model)).weight_order) == 2


def test_functions_inside_functions_and_unused_outputs() -> None:
    nodes = [
        helper.make_node("Scale", ["a"], ["first"], domain="mine", factor=0.5),
        helper.make_node("Identity", ["b"], ["second"]),
    ]
    pair = helper.make_function(
        "mine",
        "Pair",
        ["a", "b"],
        ["first", "second"],
        nodes,
        [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)],
    )
    model = build(
        [helper.make_node("Pair", ["x", "x"], ["", "y"], domain="mine")],
        [Info("x", F, [2, 3])],
        [Info("y", F, None)],
        functions=[_scale_function(), pair],
    )
    check(model, X)


def test_function_that_calls_itself() -> None:
    again = helper.make_function(
        "mine",
        "Again",
        ["x"],
        ["y"],
        [helper.make_node("Again", ["x"], ["y"], domain="mine")],
        [helper.make_opsetid("mine", 1)],
    )
    model = build(
        [helper.make_node("Again", ["x"], ["y"], domain="mine")],
        [Info("x", F, [2])],
        [Info("y", F, None)],
        functions=[again],
    )
    with pytest.raises(ImportFailed, match="calls itself"):
        load_model(model)


def test_sparse_initialiser() -> None:
    values = const(np.array([2.0, 3.0], np.float32), "w")
    sparse = helper.make_sparse_tensor(values, const(np.array([0, 5]), "at"), [2, 3])
    model = build(
        [helper.make_node("Add", ["x", "w"], ["y"])], [Info("x", F, [2, 3])], [Info("y", F, None)]
    )
    model.graph.sparse_initializer.append(sparse)
    (got,) = OnnxModule(load_model(model))(torch.zeros(2, 3))
    assert got.tolist() == [[2, 0, 0], [0, 0, 3]]


def test_wrong_number_of_inputs() -> None:
    model = build(
        [helper.make_node("Relu", ["x"], ["y"])], [Info("x", F, [2])], [Info("y", F, None)]
    )
    with pytest.raises(ImportFailed, match="takes 1 inputs, got 2"):
        OnnxModule(load_model(model))(torch.zeros(2), torch.zeros(2))


def test_value_that_nothing_computes() -> None:
    model = build(
        [helper.make_node("Relu", ["ghost"], ["y"], name="r")],
        [Info("x", F, [2])],
        [Info("y", F, None)],
    )
    with pytest.raises(ImportFailed, match=r"node 'r'.*'ghost' is computed by nothing"):
        OnnxModule(load_model(model))(torch.zeros(2))
