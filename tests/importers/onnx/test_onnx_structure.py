"""The raw structure's key: what flips it, what does not, and the weights beside it."""

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from fusec.importers.onnx.load import load_model
from fusec.importers.onnx.module import OnnxModule
from fusec.importers.onnx.structure import structure
from fusec.ir.errors import ConfigError

F, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def _const(array: Any, name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def _model(seed: int = 0) -> onnx.ModelProto:
    """A model with every kind of attribute and constant that the key must see."""
    rng = np.random.default_rng(seed)
    weights = {
        "kernel": rng.standard_normal((4, 3, 3, 3)),
        "bias": rng.standard_normal(4),
        "matrix": rng.standard_normal((4, 2)),
    }
    branches = [
        helper.make_graph(
            [helper.make_node(op, ["scaled"], [f"{op}_out"])],
            op,
            [],
            [helper.make_tensor_value_info(f"{op}_out", F, None)],
        )
        for op in ("Relu", "Sigmoid")
    ]
    nodes = [
        helper.make_node(
            "Conv", ["x", "kernel", "bias"], ["conv"], strides=[1, 1], pads=[1, 1, 1, 1], group=1
        ),
        helper.make_node("LeakyRelu", ["conv"], ["leaky"], alpha=0.125),
        helper.make_node("ReduceMean", ["leaky"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "matrix"], ["product"]),
        helper.make_node("Mul", ["product", "half"], ["scaled"]),
        helper.make_node(
            "If", ["flag"], ["chosen"], then_branch=branches[0], else_branch=branches[1]
        ),
        helper.make_node("Reshape", ["chosen", "shape"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", F, ["n", 3, "side", "side"]),
            helper.make_tensor_value_info("flag", BOOL, []),
        ],
        [helper.make_tensor_value_info("y", F, None)],
        [
            *(_const(value.astype(np.float32), name) for name, value in weights.items()),
            _const(np.float32(0.5), "half"),
            _const(np.array([-1, 2]), "shape"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def _key(model: onnx.ModelProto, **bind: Any) -> str:
    return structure(load_model(model), bind).key


def _rename(model: onnx.ModelProto, suffix: str) -> onnx.ModelProto:
    """Rename every value, node and graph, in subgraphs too."""
    model = copy.deepcopy(model)

    def graph_names(graph: onnx.GraphProto) -> None:
        graph.name += suffix
        for value in (*graph.input, *graph.output, *graph.initializer):
            value.name += suffix
        for node in graph.node:
            node.name += suffix
            node.input[:] = [name and name + suffix for name in node.input]
            node.output[:] = [name and name + suffix for name in node.output]
            for attr in node.attribute:
                if attr.type == AttributeProto.GRAPH:
                    graph_names(attr.g)

    graph_names(model.graph)
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        if dim.dim_param:
            dim.dim_param += suffix
    return model


def test_weights_do_not_matter() -> None:
    assert _key(_model(0)) == _key(_model(1))


@given(st.text("abcxyz_./", min_size=1, max_size=6))
def test_names_do_not_matter(suffix: str) -> None:
    assert _key(_rename(_model(), suffix)) == _key(_model())


def test_order_of_initialisers_and_unused_ones_do_not_matter() -> None:
    model = _model()
    stored = list(model.graph.initializer)
    del model.graph.initializer[:]
    model.graph.initializer.extend([_const(np.ones(3, np.float32), "unused"), *reversed(stored)])
    found = structure(load_model(model))
    assert found.key == _key(_model())
    assert [weight.name for weight in found.weights] == ["kernel", "bias", "matrix"]


def _attributes(model: onnx.ModelProto) -> list[AttributeProto]:
    return [
        attr
        for node in model.graph.node
        for attr in node.attribute
        if attr.type != AttributeProto.GRAPH
    ]


def test_every_attribute_flips_the_key() -> None:
    before = _key(_model())
    count = len(_attributes(_model()))
    assert count == 6
    for index in range(count):
        model = _model()
        attr = _attributes(model)[index]
        if attr.type == AttributeProto.FLOAT:
            attr.f = np.nextafter(np.float32(attr.f), np.float32(1))
        elif attr.type == AttributeProto.INT:
            attr.i += 1
        else:
            attr.ints[-1] += 1
        assert _key(model) != before, attr.name


def _edit(name: str, model: onnx.ModelProto) -> None:
    graph = model.graph
    initial = {tensor.name: tensor for tensor in graph.initializer}
    nodes = {node.output[0]: node for node in graph.node}
    shape = graph.input[0].type.tensor_type.shape
    match name:
        case "half":
            initial["half"].CopyFrom(_const(np.nextafter(np.float32(0.5), np.float32(1)), "half"))
        case "shape":
            initial["shape"].CopyFrom(_const(np.array([2, -1]), "shape"))
        case "weight shape":
            initial["kernel"].CopyFrom(_const(np.zeros((4, 3, 5, 5), np.float32), "kernel"))
        case "weight dtype":
            initial["bias"].CopyFrom(_const(np.zeros(4, np.float64), "bias"))
        case "extent":
            shape.dim[1].dim_value = 5
        case "extent becomes free":
            shape.dim[1].dim_param = "c"
        case "shared extent":
            shape.dim[3].dim_param = "other"
        case "input dtype":
            graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
        case "rank":
            del shape.dim[3:]
        case "operator":
            nodes["scaled"].op_type = "Add"
        case "opset":
            model.opset_import[0].version = 16
        case "wiring":
            nodes["product"].input[0], nodes["scaled"].input[0] = "mean", "mean"
        case "operand order":
            nodes["scaled"].input[:] = ["half", "product"]
        case "branches":
            attributes = {attr.name: attr for attr in nodes["chosen"].attribute}
            attributes["then_branch"].name = "else_branch"
            attributes["else_branch"].name = "then_branch"
        case "in a branch":
            nodes["chosen"].attribute[0].g.node[0].op_type = "Tanh"
        case "result order":
            graph.output.append(helper.make_tensor_value_info("scaled", F, None))
        case "dropped operand":
            del nodes["conv"].input[2]


@pytest.mark.parametrize(
    "name",
    [
        "half",
        "shape",
        "weight shape",
        "weight dtype",
        "extent",
        "extent becomes free",
        "shared extent",
        "input dtype",
        "rank",
        "operator",
        "opset",
        "wiring",
        "operand order",
        "branches",
        "in a branch",
        "result order",
        "dropped operand",
    ],
)
def test_what_flips_the_key(name: str) -> None:
    model = _model()
    before = _key(model)
    _edit(name, model)
    assert _key(model) != before


def test_tied_and_untied_twins_differ() -> None:
    def twin(second: str) -> onnx.ModelProto:
        nodes = [
            helper.make_node("MatMul", ["x", "a"], ["h"]),
            helper.make_node("MatMul", ["h", second], ["y"]),
        ]
        return helper.make_model(
            helper.make_graph(
                nodes,
                "g",
                [helper.make_tensor_value_info("x", F, [1, 2])],
                [helper.make_tensor_value_info("y", F, [1, 2])],
                [_const(np.eye(2, dtype=np.float32), name) for name in {"a", second}],
            ),
            opset_imports=[helper.make_opsetid("", 17)],
        )

    assert _key(twin("a")) != _key(twin("b"))
    assert len(structure(load_model(twin("a"))).weights) == 1


def test_bound_inputs_are_part_of_the_key() -> None:
    free, true, false = _key(_model()), _key(_model(), flag=True), _key(_model(), flag=False)
    assert len({free, true, false}) == 3


def test_bind_checks_name_and_value() -> None:
    with pytest.raises(ConfigError, match="'none', which is not an input; inputs are x, flag"):
        _key(_model(), none=1)
    with pytest.raises(ConfigError, match=r"shape \[2\]"):
        _key(_model(), flag=[True, False])
    with pytest.raises(ConfigError, match="does not fit bool"):
        _key(_model(), flag=7)


def test_constant_nodes_are_as_initialisers() -> None:
    model = _model()
    stored = list(model.graph.initializer)
    del model.graph.initializer[:]
    for tensor in reversed(stored):
        node = helper.make_node("Constant", [], [tensor.name], value=tensor)
        model.graph.node.insert(0, node)
    assert _key(model) == _key(_model())


@pytest.mark.parametrize(
    ("array", "structural"),
    [
        (np.zeros((), np.float32), True),
        (np.zeros((1,), np.float32), False),
        (np.zeros((64,), np.int64), True),
        (np.zeros((65,), np.int64), False),
        (np.zeros((2, 2), np.int64), False),
        (np.zeros((3,), np.int32), True),
        (np.zeros((3,), np.bool_), True),
        (np.zeros((), np.int8), False),
        (np.array(["a", "b"], dtype=object), True),
    ],
)
def test_three_kinds_of_constants(array: np.ndarray, structural: bool) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["y"])],
        "g",
        [],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(array, "c")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert (len(structure(load_model(model)).weights) == 0) == structural


def test_constant_on_the_way_to_a_shape_is_structure() -> None:
    """A matrix is a weight, unless its values are needed to know a shape."""
    nodes = [
        helper.make_node("Cast", ["table"], ["whole"], to=I64),
        helper.make_node("Reshape", ["whole", "flat"], ["shape"]),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", F, [6])],
        [onnx.ValueInfoProto(name="y")],
        [_const(np.array([[2.0, 3.0]], np.float32), "table"), _const(np.array([-1]), "flat")],
    )
    loaded = load_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert not structure(loaded).weights
    (y,) = OnnxModule(loaded)(torch.arange(6.0))
    assert y.shape == (2, 3)


def test_module_and_structure_give_the_same_weights() -> None:
    loaded = load_model(_model())
    found = structure(loaded, {"flag": True})
    module = OnnxModule(loaded, {"flag": True})
    assert module.key == found.key
    assert len(module.weight_order) == len(found.weights) == 3
    for buffer, weight in zip(module.weight_order, found.weights, strict=True):
        assert module.weight_names[buffer] == weight.name
        assert module.get_buffer(buffer).numpy().tobytes() == weight.array().tobytes()
        assert torch.equal(module.get_buffer(buffer), weight.tensor())


def test_twins_share_their_trace() -> None:
    """The captured graph of one twin, run with the weights of the other, is the other."""
    one, two = (OnnxModule(load_model(_model(seed)), {"flag": True}) for seed in (0, 1))
    assert one.key == two.key
    x = torch.randn(2, 3, 5, 5)
    captured = torch.export.export(one, (x,), strict=False).module()
    captured.load_state_dict(two.state_dict())
    torch.testing.assert_close(captured(x), two(x))


def test_wake_words(shared: Path) -> None:
    """122 heads from 4 exporters: four raw structures, ten weights each."""
    files = sorted((shared / "models" / "wakewords").rglob("*.onnx"))
    found = [structure(load_model(path)) for path in files]
    assert len(found) == 122
    assert sorted(Counter(item.key for item in found).values()) == [3, 9, 34, 76]
    assert {len(item.weights) for item in found} == {10}
