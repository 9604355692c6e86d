"""122 real wake-word heads: one mathematics in three spellings of a norm, hence one group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import fusec


@pytest.fixture(name="heads", scope="module")
def _heads(shared: Path) -> dict[str, Path]:
    paths = sorted((shared / "models" / "wakewords").glob("*.onnx"))
    assert len(paths) == 122
    return {p.stem: p for p in paths}


@pytest.fixture(name="plan", scope="module")
def _plan(heads: dict[str, Path]) -> fusec.Plan:
    return fusec.compile(heads)


def _wide(path: Path) -> bytes:
    """Rewrite a head to compute in float64."""
    model = onnx.load(path)
    graph = model.graph
    for tensor in graph.initializer:
        _widen(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            _widen(attribute.t)
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    del graph.value_info[:]
    return bytes(model.SerializeToString())


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == onnx.TensorProto.FLOAT:
        wide = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))


def _run(ort: Any, model: Any, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options)
    entry = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {entry: row[None]})[0] for row in x])


def test_all_heads_are_one_group(plan: fusec.Plan) -> None:
    (group,) = plan.explain().groups
    assert group.size == 122
    assert [op.split(".")[1] for op in group.operators] == [
        "reshape", "linear", "layer_norm", "relu", "linear", "layer_norm", "relu", "linear",
        "sigmoid",
    ]  # fmt: skip


@pytest.mark.parametrize("executor", ["isolated", "merged"])
def test_each_head_is_as_right_as_onnx_runtime(
    plan: fusec.Plan, heads: dict[str, Path], tmp_path: Path, executor: str
) -> None:
    ort = pytest.importorskip("onnxruntime")
    plan.save(tmp_path / "heads.fusec")
    loaded = fusec.load(tmp_path / "heads.fusec", executor=executor)
    rows = 64 if executor == "isolated" else 4
    x = np.random.default_rng(0).standard_normal((rows, 16, 96)).astype(np.float32)
    answers = loaded.run(dict.fromkeys(heads, x))
    for name, path in heads.items():
        (got,) = answers[name].values()
        peer = _run(ort, path, x)
        truth = _run(ort, _wide(path), x.astype(np.float64))
        far = np.abs(peer - truth)
        assert far.max() < 1e-4, name
        close = (np.abs(got - peer) <= 1e-5) | (np.abs(got - truth) <= 2 * far + 1e-7)
        assert close.all(), (name, np.abs(got - peer).max())


def test_a_known_head_is_added_without_a_trace(
    plan: fusec.Plan, heads: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("traced")

    monkeypatch.setattr("fusec.importers.importing.capture", fail)
    monkeypatch.setattr("fusec.members.canonicalise", fail)
    name, path = next(iter(heads.items()))
    plan.add("again", path)
    initial = {i.name: numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}
    own = plan.members[name].weight_names
    plan.add("like", {n: initial[n] for n in own}, like=name)
    x = torch.randn(2, 16, 96)
    answers = [
        next(iter(a.values())) for a in plan.run(dict.fromkeys((name, "again", "like"), x)).values()
    ]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])
    plan.remove("again")
    plan.remove("like")
