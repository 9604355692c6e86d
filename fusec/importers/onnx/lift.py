"""Attributes that are weights, taken out of a node so that they travel like initialisers."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.values import Array


def lift(call: Call, names: tuple[str, ...]) -> tuple[Call, tuple[str, ...], Mapping[str, Array]]:
    """Take the weight-like attributes out of a node.

    Args:
        call: the node.
        names: attributes that are weights, lists of floats.

    Returns:
        The node without them, the names of the inputs that stand for them ("" where a node does
        not have the attribute or has an empty list), and their values by input name.
    """
    first = next((name for name in call.outputs if name), call.name)
    values = {n: call.attributes.get(n) for n in names}
    inputs = {n: f"{first}.{n}" if v is not None and len(v) else "" for n, v in values.items()}
    rest = {name: value for name, value in call.attributes.items() if name not in names}
    arrays = {inputs[n]: np.array(v, dtype=np.float32) for n, v in values.items() if inputs[n]}
    return dataclasses.replace(call, attributes=rest), tuple(inputs.values()), arrays
