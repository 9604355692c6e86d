"""Graphs that are odd: functions told apart by overload, nodes out of order, wrong counts."""

import numpy as np
import onnx
import pytest
import torch
from fusec_testing.onnx_graphs import F, Info, build, check, const
from onnx import helper

from fusec.importers.onnx.load import load_model
from fusec.importers.onnx.module import OnnxModule
from fusec.ir.errors import ConfigError, ImportFailed


def test_functions_of_one_name_told_apart_by_overload() -> None:
    def one(overload: str, op: str) -> onnx.FunctionProto:
        body = [helper.make_node(op, ["a"], ["o"])]
        opsets = [helper.make_opsetid("", 17)]
        return helper.make_function("my", "Act", ["a"], ["o"], body, opsets, overload=overload)

    nodes = [
        helper.make_node("Act", ["x"], ["t"], domain="my", overload="first"),
        helper.make_node("Act", ["t"], ["y"], domain="my", overload="second"),
    ]
    model = build(
        nodes,
        [Info("x", F, [2, 3])],
        [Info("y", F, None)],
        functions=[one("first", "Relu"), one("second", "Neg")],
    )
    x = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    check(model, x)


def test_functions_that_double_without_end() -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    relu = [helper.make_node("Relu", ["a"], ["o"])]
    functions = [helper.make_function("my", "F0", ["a"], ["o"], relu, opsets)]
    for i in range(1, 40):
        twice = [
            helper.make_node(f"F{i - 1}", ["a"], ["b"], domain="my"),
            helper.make_node(f"F{i - 1}", ["b"], ["o"], domain="my"),
        ]
        functions.append(helper.make_function("my", f"F{i}", ["a"], ["o"], twice, opsets))
    nodes = [helper.make_node("F39", ["x"], ["y"], domain="my")]
    model = build(nodes, [Info("x", F, [2])], [Info("y", F, None)], functions=functions)
    with pytest.raises(ImportFailed, match="nodes with functions written out"):
        load_model(model)


def test_nodes_in_another_order() -> None:
    inner = helper.make_graph(
        [helper.make_node("Neg", ["t"], ["n"])], "inner", [], [Info("n", F, None)]
    )
    nodes = [
        helper.make_node("Relu", ["i"], ["y"]),
        helper.make_node("If", ["c"], ["i"], then_branch=inner, else_branch=inner),
        helper.make_node("Sub", ["x", "w"], ["t"]),
    ]
    constants = [const(np.float32([1, 2, 3]), "w"), const(np.array(True), "c")]
    model = build(nodes, [Info("x", F, [2, 3])], [Info("y", F, [2, 3])], constants)
    check(model, np.linspace(-3, 3, 6, dtype=np.float32).reshape(2, 3))


def test_nodes_in_a_circle() -> None:
    nodes = [helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    model = build(nodes, [Info("x", F, [2])], [Info("b", F, [2])])
    with pytest.raises(ImportFailed, match="input 'b' is computed by nothing"):
        OnnxModule(load_model(model))(torch.zeros(2))


@pytest.mark.parametrize("inputs", [[], ["x", "x"]])
def test_wrong_number_of_inputs(inputs: list[str]) -> None:
    model = build(
        [helper.make_node("Relu", inputs, ["y"])], [Info("x", F, [2])], [Info("y", F, [2])]
    )
    with pytest.raises(ImportFailed, match=rf"Relu .*does not take {len(inputs)} inputs"):
        OnnxModule(load_model(model))(torch.zeros(2))


@pytest.mark.parametrize("text", [b"weight", b"Relu", b"inner", b"my.domain", b"slope"])
def test_text_that_is_not_utf8(text: bytes) -> None:
    """Protobuf hands broken text over as bytes, wherever it is."""
    inner = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["o"])], "inner", [], [Info("o", F, None)]
    )
    nodes = [
        helper.make_node("If", ["c"], ["t"], then_branch=inner, else_branch=inner),
        helper.make_node("LeakyRelu", ["t"], ["u"], slope=0.5),
        helper.make_node("Add", ["u", "weight"], ["y"]),
    ]
    constants = [const(np.float32([1, 2]), "weight"), const(np.array(True), "c")]
    model = build(nodes, [Info("x", F, [2])], [Info("y", F, [2])], constants)
    model.opset_import.append(helper.make_opsetid("my.domain", 1))
    model.producer_name, model.doc_string = "somebody", "written"
    data = model.SerializeToString()
    load_model(data.replace(b"somebody", b"\xfcomebody").replace(b"written", b"\xfcritten"))
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load_model(data.replace(text, b"\xff" + text[1:]))
