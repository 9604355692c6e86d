"""fusec as an ``onnx.backend``: evaluates the operator table eagerly."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch

from fusec.importers.onnx.classify import weights_of
from fusec.importers.onnx.graph import Graph
from fusec.importers.onnx.interpret import evaluate
from fusec.importers.onnx.load import LoadedModel, load_model
from fusec.importers.onnx.values import Value, from_numpy, has_torch_dtype, to_numpy


class Rep:
    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._weights = {
            (w.graph, w.constant.name): from_numpy(w.constant.array()) for w in weights_of(model.graph)
        }

    def _lookup(self, graph: Graph, name: str) -> Value:
        found = self._weights.get((graph, name))
        return graph.constants[name].array() if found is None else found

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        with torch.no_grad():
            outputs = evaluate(self._model.graph, [_enter(x) for x in inputs], self._lookup)
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
