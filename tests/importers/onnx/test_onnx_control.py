"""If, Loop and Scan: decided while importing, unrolled, captured or run eagerly."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from fusec_testing.onnx_graphs import BOOL, F, Info, branch, build, check, const, if_node, loop_body
from onnx import helper

from fusec.importers.onnx.load import load_model
from fusec.importers.onnx.module import OnnxModule
from fusec.ir.errors import ImportFailed

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


def test_if_decided_by_a_shape() -> None:
    nodes = [
        helper.make_node("Size", ["x"], ["size"]),
        helper.make_node("Equal", ["size", "six"], ["c"]),
        if_node("c", branch("Relu", "x"), branch("Sigmoid", "x")),
    ]
    model = build(nodes, [Info("x", F, [2, 3])], [Info("y", F, None)], [const(np.int64(6), "six")])
    code = check(model, X)
    assert "relu" in code
    assert "sigmoid" not in code


def test_if_decided_by_a_bound_input() -> None:
    model = build(
        [if_node("c", branch("Relu", "x"), branch("Sigmoid", "x"))],
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
    weight = [const(np.full((3,), 2 + index, np.float32), "w") for index in range(2)]
    nodes = [
        helper.make_node("Neg", ["x"], ["minus"]),
        if_node(
            "c",
            branch("Mul", "minus", "w", constants=weight[:1]),
            branch("Add", "x", "w", constants=weight[1:]),
        ),
    ]
    model = build(nodes, [Info("x", F, [2, 3]), Info("c", BOOL, [])], [Info("y", F, None)])
    code = check(model, X, np.array(flag))
    assert "cond" in code


def test_if_that_returns_what_it_was_given() -> None:
    model = build(
        [if_node("c", branch("Identity", "x"), branch("Neg", "x"))],
        [Info("x", F, [2, 3]), Info("c", BOOL, [])],
        [Info("y", F, None)],
    )
    check(model, X, np.array(True))


def test_if_whose_branches_cannot_be_captured_together() -> None:
    flat = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"], axis=0)], "flat", [], [Info("flat", F, None)]
    )
    model = build(
        [if_node("c", branch("Relu", "x"), flat)],
        [Info("x", F, [2, 3]), Info("c", BOOL, [])],
        [Info("y", F, None)],
    )
    check(model, X, np.array(True), capture=False)
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
    body = loop_body(nodes, ["v"], ["v_next", "seen"], "go_on")
    model = build(
        [_loop(body, "x")],
        [Info("x", F, [2, 3])],
        [Info("v_next_end", F, None), Info("seen_end", F, None)],
        [
            const(np.int64(4), "m"),
            const(np.arange(12, dtype=np.float32).reshape(4, 3) - 5, "w"),
        ],
    )
    code = check(model, X)
    assert code.count("aten.add.Tensor") == 4


def test_loop_over_a_shape() -> None:
    nodes = [helper.make_node("Add", ["v", "v"], ["v_next"])]
    body = loop_body(nodes, ["v"], ["v_next"])
    outer = [
        helper.make_node("Size", ["x"], ["m"]),
        _loop(body, "x"),
    ]
    check(build(outer, [Info("x", F, [2, 3])], [Info("v_next_end", F, None)]), X)


def test_loop_of_no_steps() -> None:
    nodes = [
        helper.make_node("Add", ["v", "v"], ["v_next"]),
        helper.make_node("Neg", ["v"], ["row"]),
    ]
    body = loop_body(nodes, ["v"], ["v_next", "row"])
    body.output[2].CopyFrom(Info("row", F, [2, 3]))
    node = helper.make_node("Loop", ["m", "", "x"], ["end", "rows"], "loop", body=body)
    model = build(
        [node],
        [Info("x", F, [2, 3])],
        [Info("end", F, None), Info("rows", F, None)],
        [const(np.int64(0), "m")],
    )
    check(model, X)


def _growing() -> onnx.ModelProto:
    """Double until the sum exceeds 50: how often, only the data tells."""
    nodes = [
        helper.make_node("Add", ["v", "v"], ["v_next"]),
        helper.make_node("ReduceSum", ["v_next"], ["sum"], keepdims=0),
        helper.make_node("Less", ["sum", "fifty"], ["go_on"]),
    ]
    body = loop_body(nodes, ["v"], ["v_next"], "go_on")
    return build(
        [_loop(body, "x", limit="", condition="yes")],
        [Info("x", F, [2, 3])],
        [Info("v_next_end", F, None)],
        [const(np.float32(50), "fifty"), const(np.array(True), "yes")],
    )


def test_loop_decided_by_data_runs_eagerly() -> None:
    check(_growing(), np.abs(X), capture=False)


def test_loop_decided_by_data_is_not_captured() -> None:
    module = OnnxModule(load_model(_growing()))
    with pytest.raises(ImportFailed, match=r"Loop \(opset 17, node 'loop'\).*runs eagerly only"):
        torch.export.export(module, (torch.from_numpy(np.abs(X)),), strict=False)


def test_loop_too_long_to_unroll() -> None:
    body = loop_body([helper.make_node("Neg", ["v"], ["v_next"])], ["v"], ["v_next"])
    model = build(
        [_loop(body, "x")],
        [Info("x", F, [2, 3])],
        [Info("v_next_end", F, None)],
        [const(np.int64(5000), "m")],
    )
    check(model, X, capture=False)
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
    model = build(
        [node],
        [Info("x", F, [2, 3])],
        [Info("end", F, None), Info("rows", F, None)],
        [const(np.array([1, 2], np.float32), "start")],
    )
    check(model, X)
