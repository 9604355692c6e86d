"""Calls that came before: the same models, dtypes and shapes. Only the arrays are looked at again.

    names of the models  ->  a few calls, one per set of shapes  ->  planned instance list

A call of 122 models costs some 40 us of Python this way.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fusec.ir.dtypes import NO_NUMPY, numpy_dtype
from fusec.ir.frozen import dataclass
from fusec.runtime.arrays import dtype_of, is_tensor
from fusec.runtime.native import Planned
from fusec.runtime.request import Request
from fusec.runtime.tile.arrays import ArrayReader, readable

__all__ = ["Calls"]

_MOST_NAMES, _MOST_SHAPES = 64, 8
_MOST_AXES = 10
"""What an `ArrayReader` takes."""

Results = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    version: int
    planned: Planned
    reader: ArrayReader
    names: tuple[str, ...]
    input_names: tuple[tuple[str, ...], ...]
    output_names: tuple[tuple[str, ...], ...]
    one_input: bool
    """Every model has one input, so that a request is an array."""
    tensors: bool
    """All inputs are torch tensors, and so are the outputs."""
    one_output: tuple[str, ...] | None
    """The outputs' names, if every model has one output."""

    def answer(self, given: list[Any]) -> Results | None:
        """Run if all arrays are as before, else give None and do nothing."""
        if self.one_input and not isinstance(given[0], dict | tuple):
            arrays: list[Any] | None = given
        else:
            arrays = _flat(given, self.input_names)
        if arrays is not None and self.tensors:
            arrays = _from_tensors(arrays)
        addresses = None if arrays is None else self.reader.addresses(arrays)
        if arrays is None or addresses is None:
            return None
        answers = self.planned.run(self._by_request(arrays), addresses)
        if self.tensors:
            answers = _to_tensors(answers)
        if self.one_output is not None:
            return {
                name: {label: output}
                for name, label, (output,) in zip(self.names, self.one_output, answers, strict=True)
            }
        return {
            name: dict(zip(labels, outputs, strict=True))
            for name, labels, outputs in zip(self.names, self.output_names, answers, strict=True)
        }

    def _by_request(self, arrays: list[Any]) -> Sequence[Sequence[np.ndarray]]:
        if self.one_input:
            return list(zip(arrays, strict=True))
        inputs, start = [], 0
        for names in self.input_names:
            inputs.append(arrays[start : start + len(names)])
            start += len(names)
        return inputs


def _flat(given: Sequence[Any], input_names: Sequence[tuple[str, ...]]) -> list[Any] | None:
    """Give the arrays of all requests one after another, or None if one is not as it should be."""
    if set(map(type, given)) == {dict} and sum(map(len, given)) == len(given):
        try:
            return [value[names[0]] for value, names in zip(given, input_names, strict=True)]
        except LookupError:
            return None
    arrays: list[Any] = []
    for value, names in zip(given, input_names, strict=True):
        if type(value) is dict:
            if len(value) != len(names) or any(n not in value for n in names):
                return None
            arrays += [value[n] for n in names]
        elif type(value) is tuple:
            if len(value) != len(names):
                return None
            arrays += value
        elif len(names) == 1:
            arrays.append(value)
        else:
            return None
    return arrays


class Calls:
    """What a plan was asked for lately."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, ...], tuple[_Call, ...]] = OrderedDict()
        self._last: dict[tuple[str, ...], tuple[tuple[int, ...], ...]] = {}

    def answer(self, requests: Mapping[str, Any], version: int) -> Results | None:
        """Run a call like one before.

        Args:
            requests: as `Plan.run` takes them, unchecked.
            version: of the plan; a call of another version is not one like this.

        Returns:
            The results, or None if there was no such call.

        Raises:
            KernelError: as the executor does.
        """
        names = tuple(requests)
        known = self._known.get(names, ())
        if not known:
            return None
        given = list(requests.values())
        for call in known:
            if call.version == version:
                results = call.answer(given)
                if results is not None:
                    return results
        return None

    def remember(self, requests: Sequence[Request], planned: Planned, version: int) -> None:
        """Remember a call that comes the second time.

        Args:
            requests: all of it, in order.
            planned: what answers it.
            version: of the plan when the models' names were looked up.
        """
        names = tuple([r.target.name for r in requests])
        shapes = tuple([t.shape for r in requests for t in r.inputs])
        if self._last.get(names) != shapes:
            if len(self._last) >= _MOST_NAMES:
                self._last.clear()
            self._last[names] = shapes
            return
        kinds = {r.wants_numpy for r in requests}
        if len(kinds) != 1 or not all(map(_usual, requests)) or not readable():
            return
        members = [r.target.member for r in requests]
        output_names = tuple(m.output_names for m in members)
        single = all(len(n) == 1 for n in output_names)
        call = _Call(
            version=version,
            planned=planned,
            reader=ArrayReader(
                [numpy_dtype(dtype_of(t)) for r in requests for t in r.inputs], shapes
            ),
            names=names,
            input_names=tuple(m.input_names for m in members),
            output_names=output_names,
            one_input=all(len(m.input_names) == 1 for m in members),
            tensors=not requests[0].wants_numpy,
            one_output=tuple(n[0] for n in output_names) if single else None,
        )
        alike = [c for c in self._known.get(names, ()) if c.version == version]
        self._known[names] = (call, *alike[: _MOST_SHAPES - 1])
        if len(self._known) > _MOST_NAMES:
            self._known.popitem(last=False)

    def clear(self) -> None:
        """Forget all: calls keep the weights of their models alive."""
        self._known.clear()
        self._last.clear()


def _from_tensors(tensors: Sequence[Any]) -> list[Any] | None:
    """See tensors as arrays; None where one is no tensor, or none that NumPy can look at."""
    try:
        return [t.numpy() for t in tensors]
    except (AttributeError, RuntimeError, TypeError):
        return None


def _to_tensors(answers: Sequence[Sequence[np.ndarray]]) -> list[tuple[Any, ...]]:
    import torch

    return [tuple(map(torch.from_numpy, outputs)) for outputs in answers]


def _usual(request: Request) -> bool:
    """Tell whether a request's arrays can be read and its outputs given as they are."""
    inputs = request.inputs
    return (
        request.rows != 0
        and (request.wants_numpy or all(map(is_tensor, inputs)))
        and not any(t.ndim > _MOST_AXES or dtype_of(t) in NO_NUMPY for t in inputs)
        and not any(spec.dtype in NO_NUMPY for spec in request.choice.template.outputs)
    )
