"""fusec as an ``onnx.backend``: evaluates the operator table eagerly."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch

from fusec.importers.onnx.load import LoadedModel, load_model
from fusec.importers.onnx.module import OnnxModule
from fusec.importers.onnx.values import Value, from_numpy, has_torch_dtype, to_numpy


class Rep:
    def __init__(self, model: LoadedModel) -> None:
        self._module = OnnxModule(model)

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        with torch.no_grad():
            outputs = self._module(*[_enter(x) for x in inputs])
        return [_leave(value) for value in outputs]


def _enter(value: Any) -> Value:
    if isinstance(value, list):
        return [_enter(item) for item in value]
    if value is None:
        return None
    array = np.asarray(value)
    return from_numpy(array) if has_torch_dtype(array) else array


def _leave(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return to_numpy(value)
    if isinstance(value, list):
        return [_leave(item) for item in value]
    return value


def prepare(model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> Rep:
    return Rep(load_model(model))
