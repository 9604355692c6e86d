"""The classification extension: the best of an output's values in place of all of them."""

from collections.abc import Sequence

import numpy as np

from fusec.server.datatypes import BYTES
from fusec.server.errors import ServerError
from fusec.server.messages import Tensor

__all__ = ["best_classes"]


def best_classes(tensor: Tensor, count: int, labels: Sequence[str] = ()) -> Tensor:
    """Give the largest values of each row as text: "value:index", or "value:index:label".

    Args:
        tensor: an output; its last axis is that of classes.
        count: how many of them; all, if there are fewer.
        labels: by index; there may be fewer of them.

    Raises:
        ServerError: the output has no axis, or holds no numbers.
    """
    array = tensor.array
    if not array.ndim or tensor.datatype.fusec in (None, "bfloat16", "bool"):
        raise ServerError(f"output {tensor.name!r} cannot be classified: it has no row of numbers")
    count = min(count, array.shape[-1])
    # Stable and from the largest on: of equal values the first index wins.
    order = np.argsort(-array.astype(np.float64), axis=-1, kind="stable")[..., :count]
    best = np.take_along_axis(array, order, axis=-1)
    texts = np.empty(order.size, dtype=object)
    texts[:] = [
        f"{value:f}:{index}{_label(labels, index)}".encode()
        for value, index in zip(best.ravel().tolist(), order.ravel().tolist(), strict=True)
    ]
    return Tensor(tensor.name, BYTES, texts.reshape(order.shape))


def _label(labels: Sequence[str], index: int) -> str:
    return f":{labels[index]}" if index < len(labels) else ""
