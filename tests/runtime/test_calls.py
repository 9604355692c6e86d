"""Remembered calls: used for the very same models, dtypes, shapes and version, never else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from fusec_testing.plans import example_plan

from fusec.ir.template import Body, Ref, Row, RowsKind, Template, TensorSpec
from fusec.runtime.calls import Calls
from fusec.runtime.request import Choice, Request, Target, read_request

PAIR = TensorSpec("float32", (1, 2))


class Planned:
    """Adds a thousand, and keeps what it was given."""

    def __init__(self) -> None:
        self.seen: list[tuple[list[list[np.ndarray]], np.ndarray | None]] = []

    def run(
        self, inputs: Sequence[Sequence[np.ndarray]], addresses: np.ndarray | None = None
    ) -> list[tuple[np.ndarray, ...]]:
        """Answer with the first input of each request."""
        self.seen.append(([list(given) for given in inputs], addresses))
        return [(given[0] + 1000,) for given in inputs]


def _target(name: str, n_inputs: int) -> Target:
    (member, *_) = example_plan().members.values()
    template = Template(
        n_inputs=n_inputs,
        body=Body(
            arguments=(PAIR,) * n_inputs,
            rows=(Row(op="aten.relu.default", args=(Ref(0),), kwargs=(), out=PAIR),),
            results=(Ref(n_inputs),),
        ),
        symbols=(),
        constraints=(),
        input_axes=(0,) * n_inputs,
        output_axes=(0,),
        rows=RowsKind.INDEPENDENT,
        bound=(),
    )
    record = type(member)(
        input_names=tuple("xyz"[:n_inputs]),
        output_names=("out",),
        variants=member.variants,
        weight_names=(),
        notes=(),
    )
    choice = Choice(template=template, hashes=(), weights=())
    return Target(name=name, member=record, choices=(choice,))


TARGETS = {"a": _target("a", 1), "b": _target("b", 1), "two": _target("two", 2)}


def _read(requests: dict[str, Any]) -> list[Request]:
    return [read_request(TARGETS[name], given) for name, given in requests.items()]


def _learnt(requests: dict[str, Any], version: int = 1) -> tuple[Calls, Planned]:
    calls, planned = Calls(), Planned()
    for _ in range(2):
        assert calls.answer(requests, version) is None
        calls.remember(_read(requests), planned, version)
    return calls, planned


def _pair(value: float, rows: int = 1) -> np.ndarray:
    return np.full((rows, 2), value, np.float32)


def test_a_call_is_known_from_the_third_time_on() -> None:
    requests = {"a": _pair(1), "two": {"x": _pair(2), "y": _pair(3)}}
    calls, planned = _learnt(requests)
    later = {"a": _pair(4), "two": {"y": _pair(6), "x": _pair(5)}}
    results = calls.answer(later, 1)
    assert results is not None
    assert {n: r["out"].tolist() for n, r in results.items()} == {
        "a": [[1004, 1004]],
        "two": [[1005, 1005]],
    }
    ((inputs, addresses),) = planned.seen
    arrays = [later["a"], later["two"]["x"], later["two"]["y"]]
    assert [id(a) for given in inputs for a in given] == list(map(id, arrays))
    assert addresses is not None
    assert addresses.tolist() == [a.ctypes.data for a in arrays]


DIFFERENT: dict[str, dict[str, Any]] = {
    "rows": {"a": _pair(1, 2), "b": _pair(1)},
    "dtype": {"a": _pair(1).astype(np.float64), "b": _pair(1)},
    "byte order": {"a": _pair(1), "b": _pair(1).astype(">f4")},
    "strides": {"a": _pair(1), "b": _pair(1, 2).T[:1]},
    "list": {"a": _pair(1), "b": [[1.0, 1.0]]},
    "order": {"b": _pair(1), "a": _pair(1)},
    "fewer": {"a": _pair(1)},
    "name": {"a": {"x": _pair(1)}, "b": {"y": _pair(1)}},
    "more": {"a": {"x": _pair(1), "y": _pair(1)}, "b": {}},
    "tuple": {"a": (_pair(1), _pair(1)), "b": ()},
    "tensor": {"a": torch.ones(1, 2), "b": torch.ones(1, 2)},
    "subclass": {"a": _pair(1).view(np.matrix), "b": _pair(1)},
    "none": {"a": None, "b": None},
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_differs_is_not_answered(case: str) -> None:
    calls, planned = _learnt({"a": _pair(1), "b": _pair(1)})
    assert calls.answer(DIFFERENT[case], 1) is None
    assert planned.seen == []
    assert calls.answer({"a": (_pair(1),), "b": {"x": _pair(1)}}, 1) is not None


def test_another_version_of_the_plan_is_another_call() -> None:
    requests = {"a": _pair(1)}
    calls, planned = _learnt(requests, version=1)
    assert calls.answer(requests, 2) is None
    for _ in range(2):
        calls.remember(_read(requests), planned, 2)
    assert calls.answer(requests, 2) is not None
    assert calls.answer(requests, 1) is None
    calls.clear()
    assert calls.answer(requests, 2) is None


def test_several_shapes_and_kinds_are_known_side_by_side() -> None:
    calls, planned = Calls(), Planned()
    forms: list[Any] = [_pair(1), _pair(1, 3), torch.ones(1, 2), torch.ones(2, 2)]
    for form in forms:
        for _ in range(2):
            calls.remember(_read({"a": form}), planned, 1)
    for form in forms:
        results = calls.answer({"a": form}, 1)
        assert results is not None
        assert type(results["a"]["out"]) is type(form)
        assert results["a"]["out"].shape == form.shape
    assert calls.answer({"a": torch.ones(1, 2).requires_grad_()}, 1) is None
    assert calls.answer({"a": torch.ones(1, 2, device="meta")}, 1) is None
