"""Extents that vary, rows that depend on each other, state beside the batch: whole requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from fusec_testing import assert_no_worse
from onnx import TensorProto, helper
from torch import nn

import fusec
from fusec import ConfigError


class Tagger(nn.Module):
    """An embedding, an LSTM over time and a head per token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.rnn = nn.LSTM(8, 6, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(self.embed(tokens))[0])


class Encoder(nn.Module):
    """Attention over a sequence with a padding mask."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.inner(x, src_key_padding_mask=mask)


def _truth(model: nn.Module, *args: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        plain = model(*args)
        wide = [a.double() if a.is_floating_point() else a for a in args]
        truth = model.double()(*wide)
        model.float()
    return plain, truth


@pytest.mark.parametrize("executor", ["isolated", "merged"])
def test_sequences_of_any_length_without_padding(executor: str) -> None:
    models = {f"m{i}": Tagger().eval() for i in range(3)}
    tokens = torch.randint(0, 11, (1, 7))
    plan = fusec.compile(
        models,
        examples={"*": tokens},
        symbols={"*": {"tokens": {1: ("length", 1, 40)}}},
        executor=executor,
    )
    (group,) = plan.explain().groups
    assert group.inputs == ("tokens: int64[rows, s0]",)
    for lengths in ((5, 9, 9), (1, 40, 2)):
        requests = {f"m{i}": torch.randint(0, 11, (2, n)) for i, n in enumerate(lengths)}
        for name, answer in plan.run(requests).items():
            plain, truth = _truth(models[name], requests[name])
            assert_no_worse(answer["output"], plain, truth, where=name)
    with pytest.raises(ConfigError, match=r"is 41, the model takes 2 to 40"):
        plan.run({"m0": torch.zeros(1, 41, dtype=torch.int64)})


def test_attention_with_a_mask_and_a_length() -> None:
    model = Encoder().eval()
    x, mask = torch.randn(2, 6, 16), torch.zeros(2, 6, dtype=torch.bool)
    plan = fusec.compile(
        {"e": model},
        examples={"e": (x, mask)},
        symbols={"e": {"x": {1: "length"}, "mask": {1: "length"}}},
    )
    for rows, length in ((2, 6), (3, 9), (1, 1)):
        x = torch.randn(rows, length, 16)
        mask = torch.zeros(rows, length, dtype=torch.bool)
        if length > 4:
            mask[0, 4:] = True
        plain, truth = _truth(model, x, mask)
        answer = plan.run({"e": (x, mask)})["e"]
        assert_no_worse(answer["output"], plain, truth)
    with pytest.raises(ConfigError, match="s0"):
        plan.run({"e": (torch.randn(1, 5, 16), torch.zeros(1, 6, dtype=torch.bool))})


def test_rows_that_depend_on_each_other_run_as_one_request() -> None:
    class Centred(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - x.mean(0, keepdim=True)

    plan = fusec.compile({"c": Centred().eval()}, examples={"c": torch.randn(4, 3)})
    (group,) = plan.explain().groups
    assert str(group.rows) == "whole_request"
    for rows in (2, 5):
        x = torch.randn(rows, 3)
        (answer,) = plan.run({"c": x})["c"].values()
        assert torch.allclose(answer, x - x.mean(0, keepdim=True), atol=1e-6)


def test_state_with_its_batch_on_another_axis() -> None:
    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRU(4, 6, batch_first=True)

        def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return self.cell(x, state)

    model = Step().eval()
    plan = fusec.compile({"s": model}, examples={"s": (torch.randn(1, 3, 4), torch.randn(1, 1, 6))})
    x, state = torch.randn(5, 3, 4), torch.randn(1, 5, 6)
    answer = list(plan.run({"s": {"x": x, "state": state}})["s"].values())
    with torch.no_grad():
        wanted = model(x, state)
    for got, want in zip(answer, wanted, strict=True):
        assert got.shape == want.shape
        assert torch.allclose(got, want, atol=1e-6)


def test_batch_axes_by_the_callers_word() -> None:
    model = nn.Linear(4, 4).eval()
    plan = fusec.compile(
        {"m": model}, examples={"m": torch.randn(4, 4)}, batch_axes={"m": {"input": 0}}
    )
    (answer,) = plan.run({"m": torch.randn(7, 4)})["m"].values()
    assert answer.shape == (7, 4)


def _onnx(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any]) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _branching(value: float) -> bytes:
    """Double x at rate 1, treble it otherwise, then add a weight."""
    branch = [
        helper.make_graph(
            [helper.make_node("Mul", ["x", f"k{k}"], [f"y{k}"])],
            f"branch{k}",
            [],
            [helper.make_tensor_value_info(f"y{k}", TensorProto.FLOAT, None)],
            [helper.make_tensor(f"k{k}", TensorProto.FLOAT, [], [float(k)])],
        )
        for k in (2, 3)
    ]
    nodes = [
        helper.make_node("Equal", ["rate", "one"], ["is_one"]),
        helper.make_node("If", ["is_one"], ["y"], then_branch=branch[0], else_branch=branch[1]),
        helper.make_node("Add", ["y", "w"], ["z"]),
    ]
    return _onnx(
        nodes,
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4]),
            helper.make_tensor_value_info("rate", TensorProto.INT64, []),
        ],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 4])],
        [
            helper.make_tensor("one", TensorProto.INT64, [], [1]),
            helper.make_tensor("w", TensorProto.FLOAT, [4], [value] * 4),
        ],
    )


def test_bound_inputs_decide_branches_and_keep_groups_apart() -> None:
    a, b = _branching(1.0), _branching(5.0)
    plan = fusec.compile({"a1": a, "b1": b}, bind={"rate": 1})
    plan.add("a2", a, bind={"rate": 2})
    assert [g.members for g in plan.explain().groups] == [("a1", "b1"), ("a2",)]
    (refusal,) = plan.explain().refusals
    assert str(refusal.reason) == "bound inputs"
    assert (refusal.first_value, refusal.second_value) == ("rate=1", "rate=2")
    x = np.ones((3, 4), np.float32)
    answers = {n: r["z"] for n, r in plan.run(dict.fromkeys(plan.members, x)).items()}
    assert [float(answers[n][2, 0]) for n in ("a1", "b1", "a2")] == [3.0, 7.0, 4.0]


def test_twins_of_a_raw_structure_are_not_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = fusec.compile({"a": _branching(1.0)}, bind={"rate": 1})

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("traced")

    monkeypatch.setattr("fusec.importers.importing.capture", fail)
    monkeypatch.setattr("fusec.members.canonicalise", fail)
    model = onnx.load_from_string(_branching(9.0))
    model.graph.initializer[1].name = "other"
    model.graph.node[2].input[1] = "other"
    plan.add("b", model, bind={"rate": 1})
    assert plan.members["b"].weight_names == ("other",)
    plan.add("c", {"other": np.full(4, 2.0, np.float32)}, like="b")
    x = np.ones((1, 4), np.float32)
    answers = plan.run(dict.fromkeys("abc", x))
    assert [float(answers[n]["z"][0, 0]) for n in "abc"] == [3.0, 11.0, 4.0]


def test_a_batch_baked_into_an_onnx_file_needs_no_surgery() -> None:
    weight = np.random.default_rng(0).standard_normal((12, 5)).astype(np.float32)
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    model = _onnx(
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [
            helper.make_tensor("shape", TensorProto.INT64, [2], [1, 12]),
            helper.make_tensor("w", TensorProto.FLOAT, [12, 5], weight.ravel()),
        ],
    )
    plan = fusec.compile({"m": model})
    x = np.random.default_rng(1).standard_normal((6, 3, 4)).astype(np.float32)
    answer = plan.run({"m": x})["m"]["y"]
    assert np.allclose(answer, x.reshape(6, 12) @ weight, atol=1e-5)


def _power(exponent: float, *, weight: float) -> bytes:
    """(x - w) to a power given as a weight of one element: a square only for 2."""
    nodes = [
        helper.make_node("Sub", ["x", "w"], ["d"]),
        helper.make_node("Pow", ["d", "e"], ["p"]),
        helper.make_node("ReduceMean", ["p"], ["v"], axes=[-1], keepdims=1),
        helper.make_node("Add", ["v", "eps"], ["ve"]),
        helper.make_node("Sqrt", ["ve"], ["s"]),
        helper.make_node("Div", ["d", "s"], ["y"]),
    ]
    return _onnx(
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [
            helper.make_tensor("w", TensorProto.FLOAT, [4], [weight, 0.0, 1.0, 2.0]),
            helper.make_tensor("e", TensorProto.FLOAT, [1], [exponent]),
            helper.make_tensor("eps", TensorProto.FLOAT, [1], [1e-5]),
        ],
    )


def test_a_twin_that_breaks_a_guard_is_traced_anew_and_right() -> None:
    plan = fusec.compile({"a": _power(2.0, weight=0.5)})
    plan.add("b", _power(2.0, weight=0.25))
    plan.add("c", _power(4.0, weight=0.25))
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    answers = plan.run(dict.fromkeys("abc", x))
    for name, exponent, first in (("a", 2, 0.5), ("b", 2, 0.25), ("c", 4, 0.25)):
        d = x - np.array([first, 0, 1, 2], np.float32)
        wanted = d / np.sqrt((d**exponent).mean(-1, keepdims=True) + 1e-5)
        assert np.allclose(answers[name]["y"], wanted, atol=1e-5), name
    weights = {"w": np.zeros(4, np.float32), "eps": np.array([1e-5], np.float32)}
    with pytest.raises(ConfigError, match=r"model 'd': .*relies on: e is 2 \(an exponent\)"):
        plan.add("d", {**weights, "e": np.array([4.0], np.float32)}, like="a")
    with pytest.raises(ConfigError, match="weight 'e' is missing"):
        plan.add("d", weights, like="a")
    plan.add("d", {**weights, "e": np.array([2.0], np.float32)}, like="a")
    assert set(plan.members) == set("abcd")


def test_a_number_of_outputs_that_varies_is_fixed_at_the_examples(tmp_path: Path) -> None:
    class Apart(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return torch.unbind(x)

    plan = fusec.compile({"apart": Apart()}, examples={"apart": torch.zeros(3, 2)})
    plan.save(tmp_path / "apart.fusec")
    x = torch.randn(3, 2)
    answer = fusec.load(tmp_path / "apart.fusec").run({"apart": x})["apart"]
    assert torch.equal(torch.stack(list(answer.values())), x)
    for rows in (1, 4):
        with pytest.raises(fusec.ConfigError, match=f"is {rows}, wanted 3"):
            plan.run({"apart": torch.zeros(rows, 2)})
