"""An instance list's arrays into pinned memory, and out of it."""

from collections.abc import Sequence

import numpy as np

from fusec.runtime.cuda.places import Place, Places
from fusec.runtime.tile.answers import Ports, input_rows

__all__ = ["put_inputs", "taken_outputs"]

Answers = list[tuple[np.ndarray, ...]]


def put_inputs(
    target: np.ndarray,
    places: Places,
    ports: Sequence[Ports],
    parts: Sequence[tuple[int, ...]],
    inputs: Sequence[Sequence[np.ndarray]],
) -> None:
    """Lay inputs one after another, instances of a class together.

    Args:
        target: bytes, as many as there are of inputs.
        places: of the list.
        ports: of each class.
        parts: numbers of the requests of each class.
        inputs: of each request, C-contiguous.
    """
    for own, port, numbers in zip(places.inputs, ports, parts, strict=True):
        for i, place in enumerate(own):
            axis = port.input_axes[i]
            rows = [
                input_rows(inputs[p][i], axis, port.rows[n] or 1).reshape(-1)
                for n, p in enumerate(numbers)
            ]
            window = target[place.start : place.start + place.n_bytes * port.cls.instances]
            if window.size:
                np.concatenate(rows, out=window.view(rows[0].dtype))


def taken_outputs(
    source: np.ndarray,
    places: Places,
    ports: Sequence[Ports],
    parts: Sequence[tuple[int, ...]],
    n_requests: int,
) -> Answers:
    """Give each request's outputs in memory of their own.

    Args:
        source: bytes of all outputs.
        places: of the list.
        ports: of each class.
        parts: numbers of the requests of each class.
        n_requests: of the list.
    """
    answers: Answers = [()] * n_requests
    for own, port, numbers in zip(places.outputs, ports, parts, strict=True):
        slots = len(port.cls.binding.code.lowered.buffers)
        block = np.zeros((1, port.cls.instances, slots), dtype=np.int64)
        memories = port.enter_outputs(block)
        for place, memory in zip(own, memories, strict=True):
            _fill(memory, place, source, places.output_start)
        for number, answer in zip(numbers, port.answers(memories), strict=True):
            answers[number] = answer
    return answers


def _fill(
    memory: np.ndarray | list[np.ndarray], place: Place, source: np.ndarray, first: int
) -> None:
    at = place.start - first
    for block in memory if isinstance(memory, list) else [memory]:
        if block.size:
            window = source[at : at + block.nbytes]
            block.reshape(-1)[...] = window.view(block.dtype)
            at += block.nbytes
