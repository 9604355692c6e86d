"""Classifiers that end in ZipMap and in words, as scikit-learn's converter writes them."""

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

import fusec
from fusec.importers.onnx.load import load_model
from fusec.importers.onnx.tabular import tensor_outputs

WORDS = ["ant", "bee", "cat"]


def _classifier(rng, *, words, spare_use=False):
    """Scaled features, softmax regression, a cast label, a normalised ZipMap."""

    def floats(count):
        return rng.standard_normal(count).astype(np.float32).tolist()

    labels = WORDS if words else [3, 5, 9]
    kind = TensorProto.STRING if words else TensorProto.INT64
    name = "strings" if words else "int64s"
    ml = {"domain": "ai.onnx.ml"}
    nodes = [
        helper.make_node("Scaler", ["x"], ["s"], offset=floats(4), scale=floats(4), **ml),
        helper.make_node(
            "LinearClassifier", ["s"], ["label", "p"], coefficients=floats(12),
            intercepts=floats(3), post_transform="SOFTMAX",
            **{"classlabels_strings" if words else "classlabels_ints": labels}, **ml,
        ),
        helper.make_node("Cast", ["label"], ["output_label"], to=int(kind)),
        helper.make_node("Normalizer", ["p"], ["n"], norm="L1", **ml),
        helper.make_node("ZipMap", ["n"], ["chances"], **{f"classlabels_{name}": labels}, **ml),
    ]  # fmt: skip
    row = helper.make_tensor_value_info("output_label", kind, ["N"])
    values = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(kind, values))
    outputs = [row, helper.make_value_info("chances", maps)]
    if spare_use:
        outputs.append(helper.make_tensor_value_info("label", kind, ["N"]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])]
    opsets = [helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", 17)]
    graph = helper.make_graph(nodes, "classifier", inputs, outputs)
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize("words", [False, True])
def test_classifiers_compile_and_answer_as_onnxruntime(rng, words):
    models = {name: _classifier(rng, words=words) for name in ("a", "b")}
    plan = fusec.compile(models)
    x = rng.standard_normal((5, 4)).astype(np.float32)
    answers = plan.run({name: {"x": torch.from_numpy(x)} for name in models})
    for name, model in models.items():
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        labels, maps = session.run(None, {"x": x})
        ours = answers[name]
        found = ours["output_label"].numpy()
        assert [WORDS[i] for i in found] == list(labels) if words else (found == labels).all()
        wanted = np.array([list(row.values()) for row in maps])
        np.testing.assert_allclose(ours["chances"], wanted, rtol=1e-5, atol=1e-6)
    assert "1 group" in str(plan.explain())
    text = str(plan.explain())
    assert "one column per class: " + ("ant, bee, cat" if words else "3, 5, 9") in text


def test_words_that_are_used_elsewhere_stay_words(rng):
    model = load_model(_classifier(rng, words=True, spare_use=True))
    changed, notes = tensor_outputs(model)
    assert len(notes) == 1 and "chances" in notes[0]
    assert [info.elem_type for info in changed.outputs] == [8, 1, 8]


def test_models_of_tensors_are_left_alone():
    node = helper.make_node("Relu", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3]) for n in "xy")
    graph = helper.make_graph([node], "g", [x], [y])
    model = load_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert tensor_outputs(model) == (model, ())
