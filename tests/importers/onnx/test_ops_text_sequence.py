"""Strings, n-grams, sequences and optionals against ONNX Runtime, through the backend."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from fusec import onnx_backend
from fusec.ir.errors import ImportFailed

F, I64, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
Info = helper.make_tensor_value_info


def _text(*items: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    array = np.array(items, dtype=object)
    return array.reshape(shape) if shape is not None else array


def _check(nodes: Any, feeds: dict[str, np.ndarray], outputs: list[str], opset: int = 20) -> Any:
    """Run in ONNX Runtime and here, compare, and return the answers."""
    model = _model(nodes, feeds, outputs, opset)
    wanted = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    answers = onnx_backend.run_model(model, feeds)
    for got, want in zip(answers, wanted, strict=True):
        _same(got, want)
    return answers


def _model(nodes: Any, feeds: dict[str, np.ndarray], outputs: list[str], opset: int) -> Any:
    kinds = {"f": F, "i": I64, "O": S}
    inputs = [Info(n, kinds[v.dtype.kind], list(v.shape)) for n, v in feeds.items()]
    graph = helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name=n) for n in outputs])
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _same(got: Any, want: Any) -> None:
    if isinstance(want, list):
        assert isinstance(got, list)
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            _same(one, other)
        return
    assert got.shape == want.shape
    if want.dtype.kind in "OU":
        assert [str(item) for item in got.ravel()] == [str(item) for item in want.ravel()]
    else:
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_concat_broadcasts() -> None:
    feeds = {"a": _text("x", "y", "", "é", shape=(2, 2)), "b": _text("1", "2")}
    _check([helper.make_node("StringConcat", ["a", "b"], ["c"])], feeds, ["c"])


@pytest.mark.parametrize(
    "attributes",
    [{}, {"delimiter": ","}, {"maxsplit": 1}, {"delimiter": ",", "maxsplit": 2}],
)
def test_split(attributes: dict[str, Any]) -> None:
    feeds = {"a": _text("a,b,,c d", " lead", "", "x  y ", shape=(2, 2))}
    node = helper.make_node("StringSplit", ["a"], ["parts", "counts"], **attributes)
    parts, counts = _check([node], feeds, ["parts", "counts"])
    assert parts.shape[-1] == counts.max()


@pytest.mark.parametrize("pattern", [r"www\.[\w.-]+\.\bcom\b", r"a|b", r"[0-9]+"])
def test_full_match(pattern: str) -> None:
    feeds = {"a": _text("www.a-b.com", "a", "ab", "123", "x123", "")}
    _check([helper.make_node("RegexFullMatch", ["a"], ["m"], pattern=pattern)], feeds, ["m"])


@pytest.mark.parametrize("action", ["NONE", "LOWER", "UPPER"])
@pytest.mark.parametrize("sensitive", [0, 1])
@pytest.mark.parametrize("stop", [None, ["monday"], ["Monday", "Tuesday", "wednesday"]])
@pytest.mark.parametrize("shape", [(3,), (1, 3)])
def test_normaliser(
    action: str, sensitive: int, stop: list[str] | None, shape: tuple[int, ...]
) -> None:
    attributes: dict[str, Any] = {
        "case_change_action": action,
        "is_case_sensitive": sensitive,
        "locale": "C",
    }
    if stop:
        attributes["stopwords"] = stop
    feeds = {"a": _text("Monday", "tuesday", "Wednesday", shape=shape)}
    _check([helper.make_node("StringNormalizer", ["a"], ["b"], **attributes)], feeds, ["b"], 10)


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize(("low", "high", "skip"), [(1, 1, 0), (1, 2, 0), (2, 2, 5), (1, 3, 1)])
@pytest.mark.parametrize("words", [False, True])
def test_n_grams(mode: str, low: int, high: int, skip: int, words: bool) -> None:
    pool = [2, 3, 5, 4, 5, 6, 7, 8, 6, 7, 3, 5, 4]
    attributes: dict[str, Any] = {
        "mode": mode,
        "min_gram_length": low,
        "max_gram_length": high,
        "max_skip_count": skip,
        "ngram_counts": [0, 4, 10],
        "ngram_indexes": [0, 1, 2, 3, 6, 5, 4, 7],
        "weights": [0.5, 2.0, 3.0, 1.0, 1.5, 0.25, 4.0, 2.5],
    }
    attributes["pool_strings" if words else "pool_int64s"] = (
        [f"w{item}" for item in pool] if words else pool
    )
    tokens = np.array([[1, 1, 3, 3, 3, 7, 5], [8, 6, 7, 5, 6, 8, 4], [3, 5, 4, 3, 5, 4, 0]])
    if words:
        tokens = _text(*[f"w{item}" for item in tokens.ravel()], shape=tokens.shape)
    node = helper.make_node("TfIdfVectorizer", ["t"], ["y"], **attributes)
    _check([node], {"t": tokens}, ["y"], 9)


X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_split_to_sequence_of_ones(keep: int, axis: int) -> None:
    node = helper.make_node("SplitToSequence", ["x"], ["s"], axis=axis, keepdims=keep)
    _check([node], {"x": X}, ["s"])


@pytest.mark.parametrize("split", [np.array(2), np.array([1, 3])])
def test_split_to_sequence_by_sizes(split: np.ndarray) -> None:
    node = helper.make_node("SplitToSequence", ["x", "n"], ["s"], axis=1)
    _check([node], {"x": X, "n": split}, ["s"])


@pytest.mark.parametrize("position", [-2, 0, 1])
def test_sequence_operators(position: int) -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["s"]),
        helper.make_node("Neg", ["x"], ["minus"]),
        helper.make_node("SequenceInsert", ["s", "minus", "at"], ["inserted"]),
        helper.make_node("SequenceInsert", ["inserted", "minus"], ["longer"]),
        helper.make_node("SequenceErase", ["longer", "at"], ["shorter"]),
        helper.make_node("SequenceErase", ["shorter"], ["shortest"]),
        helper.make_node("SequenceAt", ["longer", "at"], ["item"]),
        helper.make_node("SequenceLength", ["longer"], ["n"]),
        helper.make_node("ConcatFromSequence", ["longer"], ["joined"], axis=1),
        helper.make_node("ConcatFromSequence", ["longer"], ["stacked"], axis=-1, new_axis=1),
    ]
    feeds = {"x": X, "at": np.array(position)}
    _check(nodes, feeds, ["longer", "shorter", "shortest", "item", "n", "joined", "stacked"])


def test_sequence_position_outside() -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x"], ["s"]),
        helper.make_node("SequenceAt", ["s", "at"], ["y"], name="look"),
    ]
    feeds = {"x": X, "at": np.array(1)}
    with pytest.raises(ImportFailed, match=r"node 'look'.*position 1 is outside a sequence of 1"):
        onnx_backend.run_model(_model(nodes, feeds, ["y"], 20), feeds)


def test_sequence_map() -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["c"])],
        "body",
        [Info("a", F, None), Info("b", F, None)],
        [Info("c", F, None)],
    )
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["s"]),
        helper.make_node("SequenceMap", ["s", "x"], ["y"], body=body),
    ]
    _check(nodes, {"x": X}, ["y"])


def test_optional() -> None:
    nodes = [
        helper.make_node("Optional", ["x"], ["o"]),
        helper.make_node("OptionalHasElement", ["o"], ["has"]),
        helper.make_node("OptionalGetElement", ["o"], ["y"]),
    ]
    _check(nodes, {"x": X}, ["has", "y"], 18)
