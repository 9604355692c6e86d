"""Strings: object arrays, evaluated while importing only, and n-gram counts."""

import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Array, Value, to_host


def _each(function: Callable[[str], Any], array: Array, dtype: Any) -> Array:
    items = [function(str(item)) for item in array.ravel()]
    out = np.empty(len(items), dtype=dtype)
    out[:] = items
    return out.reshape(array.shape)


def _concat(call: Call, left: Array, right: Array) -> Value:
    left, right = np.broadcast_arrays(left, right)
    pairs = zip(left.ravel(), right.ravel(), strict=True)
    out = np.empty(left.size, dtype=object)
    out[:] = [str(a) + str(b) for a, b in pairs]
    return out.reshape(left.shape)


def _split(call: Call, text: Array) -> tuple[Value, ...]:
    """Split each string; shorter answers are filled with empty strings.

    As in ONNX Runtime an empty string has no parts, and space at the end never counts when
    splitting at space.
    """
    delimiter = call.attr("delimiter", None) or None
    limit = call.attr("maxsplit", -1)
    items = [str(item) if delimiter else str(item).rstrip() for item in text.ravel()]
    parts = [item.split(delimiter, limit) if item else [] for item in items]
    width = max((len(part) for part in parts), default=0)
    out = np.full((len(parts), width), "", dtype=object)
    for row, part in zip(out, parts, strict=True):
        row[: len(part)] = part
    counts = np.array([len(part) for part in parts], dtype=np.int64)
    return out.reshape((*text.shape, width)), counts.reshape(text.shape)


def _full_match(call: Call, text: Array) -> Value:
    pattern = re.compile(call.attr("pattern"))
    return _each(lambda item: pattern.fullmatch(item) is not None, text, np.bool_)


def _normalise(call: Call, text: Array) -> Value:
    """Drop stop words, then change case; nothing left is one empty string."""
    action = call.attr("case_change_action", "NONE")
    change: Callable[[str], str] = {"LOWER": str.lower, "UPPER": str.upper}.get(action, str)
    sensitive = bool(call.attr("is_case_sensitive", 0))
    fold: Callable[[str], str] = str if sensitive else str.lower
    stop = {fold(word) for word in call.attr("stopwords", [])}
    if text.ndim > 2 or (text.ndim == 2 and text.shape[0] != 1):
        call.fail(f"wanted shape [C] or [1, C], got {list(text.shape)}")
    kept = [change(str(item)) for item in text.ravel() if fold(str(item)) not in stop]
    out = np.array(kept or [""], dtype=object)
    return out.reshape(1, -1) if text.ndim == 2 else out


def _tf_idf(call: Call, tokens: Array) -> Value:
    """Count n-grams, with up to `max_skip_count` tokens left out between two that count."""
    grams = _pool(call)
    indexes = call.attr("ngram_indexes")
    rows = tokens.reshape(-1, tokens.shape[-1]) if tokens.ndim else tokens.reshape(1, 1)
    counts = np.zeros((rows.shape[0], max(indexes, default=-1) + 1), dtype=np.float32)
    for row, out in zip(rows, counts, strict=True):
        for gram in _grams(call, [_token(item) for item in row]):
            if gram in grams:
                out[indexes[grams[gram]]] += 1
    mode = call.attr("mode")
    weights = np.ones(counts.shape[1], dtype=np.float32)
    given = call.attr("weights", None)
    if given is not None:
        weights[indexes] = given
    if mode == "IDF":
        counts = np.minimum(counts, 1)
    if mode != "TF":
        counts = counts * weights
    return counts.reshape((*tokens.shape[:-1], counts.shape[1]))


def _token(item: Any) -> int | str:
    return item if isinstance(item, str) else int(item)


def _pool(call: Call) -> dict[tuple[int | str, ...], int]:
    """Return the position of each n-gram of the pool."""
    pool = call.attr("pool_strings", None) or call.attr("pool_int64s", [])
    starts = [*call.attr("ngram_counts"), len(pool)]
    found: dict[tuple[int | str, ...], int] = {}
    for size, (start, end) in enumerate(itertools.pairwise(starts), 1):
        for at in range(start, end, size):
            found[tuple(pool[at : at + size])] = len(found)
    return found


def _grams(call: Call, tokens: list[int | str]) -> list[tuple[int | str, ...]]:
    sizes = range(call.attr("min_gram_length"), call.attr("max_gram_length") + 1)
    found: list[tuple[int | str, ...]] = []
    for skip in range(call.attr("max_skip_count") + 1):
        for size in sizes:
            # One token has no gaps, so it counts once however many may be skipped.
            if size == 1 and skip:
                continue
            reach = (size - 1) * (skip + 1)
            found += [
                tuple(tokens[start : start + reach + 1 : skip + 1])
                for start in range(len(tokens) - reach)
            ]
    return found


def _on_host(function: Callable[..., Any], *host: int) -> Op:
    def run(call: Call, *inputs: Value) -> Any:
        return function(call, *map(to_host, inputs))

    return Op(run=run, either=True, host=frozenset(host))


OPS: Final[Mapping[str, Op]] = {
    "RegexFullMatch": _on_host(_full_match, 0),
    "StringConcat": _on_host(_concat, 0, 1),
    "StringNormalizer": _on_host(_normalise, 0),
    "StringSplit": _on_host(_split, 0),
    "TfIdfVectorizer": _on_host(_tf_idf, 0),
}
