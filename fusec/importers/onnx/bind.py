"""Fixes inputs of a model at import: they become structural constants."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from fusec.importers.onnx.graph import Constant
from fusec.importers.onnx.load import LoadedModel, ValueInfo
from fusec.importers.onnx.values import Array, numpy_dtype, to_numpy
from fusec.ir.errors import ConfigError


def bind_inputs(model: LoadedModel, bind: Mapping[str, Any]) -> LoadedModel:
    """Return the model with some inputs fixed and gone from its signature.

    Args:
        model: the model.
        bind: number, array or string by input name; converted to the input's declared dtype.

    Raises:
        ConfigError: there is no such input, or the value does not fit its dtype or shape.
    """
    if not bind:
        return model
    infos = {info.name: info for info in model.inputs}
    for name in bind:
        if name not in infos:
            raise ConfigError(
                f"{model.name}: bind names '{name}', which is not an input; inputs are "
                f"{', '.join(infos) or 'none'}"
            )
    values = {name: _value(model, infos[name], value) for name, value in bind.items()}
    constants = {
        **model.graph.constants,
        **{name: Constant(name, values[name], _unread) for name in infos if name in values},
    }
    rest = tuple(info for info in model.inputs if info.name not in bind)
    graph = dataclasses.replace(
        model.graph, inputs=tuple(info.name for info in rest), constants=constants
    )
    bound = model.bound | frozenset(bind)
    return dataclasses.replace(model, graph=graph, inputs=rest, bound=bound)


def _unread(_: object) -> Array:
    raise ConfigError("a bound input has no data in the file")


def _value(model: LoadedModel, info: ValueInfo, value: Any) -> Array:
    if info.kind != "tensor" or info.elem_type is None:
        raise ConfigError(f"{model.name}: input '{info.name}' is a {info.kind}; bind takes tensors")
    given = to_numpy(value) if isinstance(value, torch.Tensor) else np.asarray(value)
    dtype = numpy_dtype(info.elem_type)
    exact = given.astype(dtype)
    # A Python float rounds to the declared width; anything else would change the value.
    rounds = given.dtype == np.float64 and dtype.kind not in "iub"
    if given.dtype.kind in "iufb" and not rounds and not np.array_equal(given, exact):
        raise ConfigError(
            f"{model.name}: bind['{info.name}'] = {value} does not fit {dtype}; "
            "give a value of that type"
        )
    return _shaped(model, info, exact)


def _shaped(model: LoadedModel, info: ValueInfo, array: Array) -> Array:
    """Check the declared shape; a plain number may stand for one element."""
    dims = info.dims
    if dims is None:
        return array
    if array.ndim == 0 and all(dim == 1 or not isinstance(dim, int) for dim in dims):
        return array.reshape((1,) * len(dims))
    fits = len(dims) == array.ndim and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(dims, array.shape, strict=True)
    )
    if not fits:
        raise ConfigError(
            f"{model.name}: bind['{info.name}'] has shape {list(array.shape)}, the file declares "
            f"{list(dims)}"
        )
    return array
