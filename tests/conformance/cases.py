"""The test cases that the installed onnx generates or ships, and how an answer is compared."""

import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

Data = list[tuple[list[Any], list[Any]]]


def node_cases(pattern: str = "") -> Iterator[tuple[str, onnx.ModelProto, Data, float, float]]:
    """Yield (name, model, data sets, rtol, atol) of the node tests whose name matches."""
    for case in load_model_tests(kind="node"):
        if re.search(pattern, case.name):
            data = [([_plain(x) for x in i], [_plain(x) for x in o]) for i, o in case.data_sets]
            yield case.name, case.model, data, case.rtol, case.atol


def _plain(value: Any) -> Any:
    """Turn what a data set holds into an array, a list, a dict or None."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, onnx.SequenceProto):
        return numpy_helper.to_list(value)
    if isinstance(value, onnx.OptionalProto):
        return numpy_helper.to_optional(value)
    if isinstance(value, (list, dict, np.ndarray)) or value is None:
        return value
    return np.asarray(value)


def difference(got: Any, want: Any, rtol: float, atol: float, path: str = "output") -> str | None:
    """Return what is different between an answer and the expected one, or None."""
    if isinstance(want, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(got) != len(want):
            return f"{path}: wanted a sequence of {len(want)}, got {_short(got)}"
        pairs = enumerate(zip(got, want, strict=True))
        found = (difference(g, w, rtol, atol, f"{path}[{i}]") for i, (g, w) in pairs)
        return next((text for text in found if text), None)
    if isinstance(want, dict) or want is None:
        return None if got == want else f"{path}: wanted {want}, got {_short(got)}"
    if not isinstance(got, np.ndarray):
        return f"{path}: wanted an array, got {_short(got)}"
    return _array_difference(got, np.asarray(want), rtol, atol, path)


def _array_difference(
    got: np.ndarray, want: np.ndarray, rtol: float, atol: float, path: str
) -> str | None:
    if got.shape != want.shape:
        return f"{path}: wanted shape {want.shape}, got {got.shape}"
    if want.dtype == object or want.dtype.kind in "US":
        equal = [str(a) for a in got.ravel()] == [str(b) for b in want.ravel()]
        return None if equal else f"{path}: wanted {want.tolist()}, got {got.tolist()}"
    if got.dtype != want.dtype:
        return f"{path}: wanted dtype {want.dtype}, got {got.dtype}"
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    if want.dtype.kind in "iub":
        same = np.array_equal(got, want)
    else:
        same = np.allclose(got.astype(wide), want.astype(wide), rtol, atol, equal_nan=True)
    if same:
        return None
    return f"{path}: values differ: wanted {_short(want)}, got {_short(got)}"


def _short(value: Any) -> str:
    return " ".join(str(value).split())[:160]
