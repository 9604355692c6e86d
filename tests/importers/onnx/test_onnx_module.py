"""The module that interprets an ONNX graph: capture, symbols, control flow, functions, errors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from fusec.importers.onnx.load import load_model
from fusec.importers.onnx.module import OnnxModule
from fusec.ir.errors import ImportFailed

F, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
Info = helper.make_tensor_value_info


def _const(array: Any, name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def _build(
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


def _oracle(model: onnx.ModelProto, *inputs: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [value.name for value in session.get_inputs()]
    found: list[np.ndarray] = session.run(None, dict(zip(names, inputs, strict=True)))
    return found


def _check(model: onnx.ModelProto, *inputs: np.ndarray, capture: bool = True) -> str:
    """Compare eager and captured answers with ONNX Runtime; return the captured code."""
    wanted = _oracle(model, *inputs)
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


def _branch(op: str, *names: str, constants: Sequence[onnx.TensorProto] = ()) -> onnx.GraphProto:
    out = f"{op}_out"
    return helper.make_graph(
        [helper.make_node(op, list(names), [out])], op, [], [Info(out, F, None)], constants
    )


def _if(condition: str, then: onnx.GraphProto, other: onnx.GraphProto) -> onnx.NodeProto:
    return helper.make_node("If", [condition], ["y"], "if", then_branch=then, else_branch=other)


def _body(
    nodes: Sequence[onnx.NodeProto],
    carried: Sequence[str],
    results: Sequence[str],
    condition: str = "go",
) -> onnx.GraphProto:
    inputs = [Info("i", I64, []), Info("go", BOOL, []), *(Info(name, F, None) for name in carried)]
    outputs = [Info(condition, BOOL, []), *(Info(name, F, None) for name in results)]
    return helper.make_graph(nodes, "body", inputs, outputs)


X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


def test_scalars_stay_numbers_in_the_graph() -> None:
    nodes = [
        helper.make_node("Add", ["x", "eps"], ["a"]),
        helper.make_node("Mul", ["half", "a"], ["y"]),
    ]
    constants = [_const(np.float32(1e-5), "eps"), _const(np.float32(0.5), "half")]
    code = _check(_build(nodes, [Info("x", F, [2, 3])], [Info("y", F, None)], constants), X)
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
        _const(np.int64(0), "zero"),
        _const(np.int64(2), "two"),
        _const(np.int64(3), "three"),
        _const(np.array([0]), "axis"),
    ]
    model = _build(nodes, [Info("x", F, ["n", 3, "t"])], [Info("y", F, None)], constants)
    module = OnnxModule(load_model(model))
    example = torch.randn(2, 3, 5)
    n, t = torch.export.Dim("n", min=1, max=64), torch.export.Dim("t", min=1, max=64)
    captured = torch.export.export(
        module, (example,), dynamic_shapes={"inputs": ({0: n, 2: t},)}, strict=False
    ).module()
    for rows, length in ((2, 5), (7, 11), (3, 2)):
        x = np.random.default_rng(rows).standard_normal((rows, 3, length)).astype(np.float32)
        (got,), (want,) = captured(torch.from_numpy(x)), _oracle(model, x)
        assert got.shape == (rows, 3 * length)
        np.testing.assert_array_equal(got.numpy(), want)


def test_shape_as_an_output() -> None:
    model = _build(
        [helper.make_node("Shape", ["x"], ["y"])], [Info("x", F, [2, 3])], [Info("y", I64, None)]
    )
    _check(model, X)


def test_data_that_must_be_known_names_node_and_remedy() -> None:
    model = _build(
        [helper.make_node("Reshape", ["x", "s"], ["y"], name="here")],
        [Info("x", F, [2, 3]), Info("s", I64, [1])],
        [Info("y", F, None)],
    )
    _check(model, X, np.array([-1]), capture=False)
    module = OnnxModule(load_model(model))
    with pytest.raises(ImportFailed, match=r"ai\.onnx::Reshape \(opset 17, node 'here'\).*bind="):
        torch.export.export(module, (torch.from_numpy(X), torch.tensor([-1])), strict=False)
    bound = OnnxModule(load_model(model), {"s": [-1]})
    assert [info.name for info in bound.inputs] == ["x"]
    captured = torch.export.export(bound, (torch.from_numpy(X),), strict=False)
    assert captured.module()(torch.from_numpy(X))[0].shape == (6,)


def test_failure_inside_an_operator_names_the_node() -> None:
    model = _build(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="bad")],
        [Info("x", F, [2, 3])],
        [Info("y", F, None)],
        [_const(np.zeros((5, 2), np.float32), "w")],
    )
    with pytest.raises(ImportFailed, match=r"MatMul \(opset 17, node 'bad'\)"):
        OnnxModule(load_model(model))(torch.from_numpy(X))


def test_if_decided_by_a_shape() -> None:
    nodes = [
        helper.make_node("Size", ["x"], ["size"]),
        helper.make_node("Equal", ["size", "six"], ["c"]),
        _if("c", _branch("Relu", "x"), _branch("Sigmoid", "x")),
    ]
    model = _build(
        nodes, [Info("x", F, [2, 3])], [Info("y", F, None)], [_const(np.int64(6), "six")]
    )
    code = _check(model, X)
    assert "relu" in code
    assert "sigmoid" not in code


def test_if_decided_by_a_bound_input() -> None:
    model = _build(
        [_if("c", _branch("Relu", "x"), _branch("Sigmoid", "x"))],
        [Info("x", F, [2, 3]), Info("c", BOOL, [])],
        [Info("y", F, None)],
    )
    x = torch.from_numpy(X)
    for value, truth in ((True, torch.relu(x)), (False, torch.sigmoid(x))):
        (got,) = OnnxModule(load_model(model), {"c": value})(x)
        torch.testing.assert_close(got, truth)


@pytest.mark.parametrize("flag", [True, False])
def test_if_decided_by_data_is_captured_with_both_branches(flag: bool) -> None:
    """Branches use the outer scope, weights of their own with one name, and each other's names."""
    weight = [_const(np.full((3,), 2 + index, np.float32), "w") for index in range(2)]
    nodes = [
        helper.make_node("Neg", ["x"], ["minus"]),
        _if(
            "c",
            _branch("Mul", "minus", "w", constants=weight[:1]),
            _branch("Add", "x", "w", constants=weight[1:]),
        ),
    ]
    model = _build(nodes, [Info("x", F, [2, 3]), Info("c", BOOL, [])], [Info("y", F, None)])
    code = _check(model, X, np.array(flag))
    assert "cond" in code


def test_if_that_returns_what_it_was_given() -> None:
    model = _build(
        [_if("c", _branch("Identity", "x"), _branch("Neg", "x"))],
        [Info("x", F, [2, 3]), Info("c", BOOL, [])],
        [Info("y", F, None)],
    )
    _check(model, X, np.array(True))


def test_if_whose_branches_cannot_be_captured_together() -> None:
    flat = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"], axis=0)], "flat", [], [Info("flat", F, None)]
    )
    model = _build(
        [_if("c", _branch("Relu", "x"), flat)],
        [Info("x", F, [2, 3]), Info("c", BOOL, [])],
        [Info("y", F, None)],
    )
    _check(model, X, np.array(True), capture=False)
    module = OnnxModule(load_model(model))
    with pytest.raises(ImportFailed, match=r"If .*node 'if'.*cannot be captured together"):
        torch.export.export(module, (torch.from_numpy(X), torch.tensor(True)), strict=False)


def _loop(body: onnx.GraphProto, *carried: str, limit: str = "m", condition: str = "") -> Any:
    outputs = [value.name + "_end" for value in body.output[1:]]
    return helper.make_node("Loop", [limit, condition, *carried], outputs, "loop", body=body)


def test_loop_is_unrolled() -> None:
    """Carried value, a scanned result per step, and the step number as an index."""
    nodes = [
        helper.make_node("Gather", ["w", "i"], ["row"]),
        helper.make_node("Add", ["v", "row"], ["v_next"]),
        helper.make_node("Identity", ["go"], ["go_on"]),
        helper.make_node("Relu", ["v_next"], ["seen"]),
    ]
    body = _body(nodes, ["v"], ["v_next", "seen"], "go_on")
    model = _build(
        [_loop(body, "x")],
        [Info("x", F, [2, 3])],
        [Info("v_next_end", F, None), Info("seen_end", F, None)],
        [
            _const(np.int64(4), "m"),
            _const(np.arange(12, dtype=np.float32).reshape(4, 3) - 5, "w"),
        ],
    )
    code = _check(model, X)
    assert code.count("aten.add.Tensor") == 4


def test_loop_over_a_shape() -> None:
    nodes = [helper.make_node("Add", ["v", "v"], ["v_next"])]
    body = _body(nodes, ["v"], ["v_next"])
    outer = [
        helper.make_node("Size", ["x"], ["m"]),
        _loop(body, "x"),
    ]
    _check(_build(outer, [Info("x", F, [2, 3])], [Info("v_next_end", F, None)]), X)


def test_loop_of_no_steps() -> None:
    nodes = [
        helper.make_node("Add", ["v", "v"], ["v_next"]),
        helper.make_node("Neg", ["v"], ["row"]),
    ]
    body = _body(nodes, ["v"], ["v_next", "row"])
    body.output[2].CopyFrom(Info("row", F, [2, 3]))
    node = helper.make_node("Loop", ["m", "", "x"], ["end", "rows"], "loop", body=body)
    model = _build(
        [node],
        [Info("x", F, [2, 3])],
        [Info("end", F, None), Info("rows", F, None)],
        [_const(np.int64(0), "m")],
    )
    _check(model, X)


def _growing() -> onnx.ModelProto:
    """Double until the sum exceeds 50: how often, only the data tells."""
    nodes = [
        helper.make_node("Add", ["v", "v"], ["v_next"]),
        helper.make_node("ReduceSum", ["v_next"], ["sum"], keepdims=0),
        helper.make_node("Less", ["sum", "fifty"], ["go_on"]),
    ]
    body = _body(nodes, ["v"], ["v_next"], "go_on")
    return _build(
        [_loop(body, "x", limit="", condition="yes")],
        [Info("x", F, [2, 3])],
        [Info("v_next_end", F, None)],
        [_const(np.float32(50), "fifty"), _const(np.array(True), "yes")],
    )


def test_loop_decided_by_data_runs_eagerly() -> None:
    _check(_growing(), np.abs(X), capture=False)


def test_loop_decided_by_data_is_not_captured() -> None:
    module = OnnxModule(load_model(_growing()))
    with pytest.raises(ImportFailed, match=r"Loop \(opset 17, node 'loop'\).*runs eagerly only"):
        torch.export.export(module, (torch.from_numpy(np.abs(X)),), strict=False)


def test_loop_too_long_to_unroll() -> None:
    body = _body([helper.make_node("Neg", ["v"], ["v_next"])], ["v"], ["v_next"])
    model = _build(
        [_loop(body, "x")],
        [Info("x", F, [2, 3])],
        [Info("v_next_end", F, None)],
        [_const(np.int64(5000), "m")],
    )
    _check(model, X, capture=False)
    with pytest.raises(ImportFailed, match="over 4096 times"):
        torch.export.export(OnnxModule(load_model(model)), (torch.from_numpy(X),), strict=False)


@pytest.mark.parametrize("backward", [0, 1])
def test_scan(backward: int) -> None:
    nodes = [
        helper.make_node("Add", ["state", "item"], ["next"]),
        helper.make_node("Mul", ["next", "item"], ["row"]),
    ]
    body = helper.make_graph(
        nodes,
        "body",
        [Info("state", F, [2]), Info("item", F, [2])],
        [Info("next", F, [2]), Info("row", F, [2])],
    )
    node = helper.make_node(
        "Scan",
        ["start", "x"],
        ["end", "rows"],
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_input_directions=[backward],
        scan_output_axes=[1],
        scan_output_directions=[1 - backward],
    )
    model = _build(
        [node],
        [Info("x", F, [2, 3])],
        [Info("end", F, None), Info("rows", F, None)],
        [_const(np.array([1, 2], np.float32), "start")],
    )
    _check(model, X)


def _scale_function() -> onnx.FunctionProto:
    """Return x * factor + offset: factor an attribute with a default, offset a constant."""
    constant = helper.make_node("Constant", [], ["f"])
    attr = constant.attribute.add(name="value_float", ref_attr_name="factor")
    attr.type = onnx.AttributeProto.FLOAT
    nodes = [
        constant,
        helper.make_node("Constant", [], ["offset"], value=_const(np.float32([1, 2, 3]), "c")),
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
    model = _build(
        nodes, [Info("x", F, [2, 3])], [Info("y", F, None)], functions=[_scale_function()]
    )
    _check(model, X)
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
    model = _build(
        [helper.make_node("Pair", ["x", "x"], ["", "y"], domain="mine")],
        [Info("x", F, [2, 3])],
        [Info("y", F, None)],
        functions=[_scale_function(), pair],
    )
    _check(model, X)


def test_function_that_calls_itself() -> None:
    again = helper.make_function(
        "mine",
        "Again",
        ["x"],
        ["y"],
        [helper.make_node("Again", ["x"], ["y"], domain="mine")],
        [helper.make_opsetid("mine", 1)],
    )
    model = _build(
        [helper.make_node("Again", ["x"], ["y"], domain="mine")],
        [Info("x", F, [2])],
        [Info("y", F, None)],
        functions=[again],
    )
    with pytest.raises(ImportFailed, match="calls itself"):
        load_model(model)


def test_sparse_initialiser() -> None:
    values = _const(np.array([2.0, 3.0], np.float32), "w")
    sparse = helper.make_sparse_tensor(values, _const(np.array([0, 5]), "at"), [2, 3])
    model = _build(
        [helper.make_node("Add", ["x", "w"], ["y"])], [Info("x", F, [2, 3])], [Info("y", F, None)]
    )
    model.graph.sparse_initializer.append(sparse)
    (got,) = OnnxModule(load_model(model))(torch.zeros(2, 3))
    assert got.tolist() == [[2, 0, 0], [0, 0, 3]]


def test_wrong_number_of_inputs() -> None:
    model = _build(
        [helper.make_node("Relu", ["x"], ["y"])], [Info("x", F, [2])], [Info("y", F, None)]
    )
    with pytest.raises(ImportFailed, match="takes 1 inputs, got 2"):
        OnnxModule(load_model(model))(torch.zeros(2), torch.zeros(2))


def test_value_that_nothing_computes() -> None:
    model = _build(
        [helper.make_node("Relu", ["ghost"], ["y"], name="r")],
        [Info("x", F, [2])],
        [Info("y", F, None)],
    )
    with pytest.raises(ImportFailed, match=r"node 'r'.*'ghost' is computed by nothing"):
        OnnxModule(load_model(model))(torch.zeros(2))
