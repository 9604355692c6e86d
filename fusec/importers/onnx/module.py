"""An ONNX model as an ``nn.Module`` that interprets its graph; tracing it gives the program."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from fusec.importers.onnx.bind import bind_inputs
from fusec.importers.onnx.graph import Graph
from fusec.importers.onnx.interpret import evaluate
from fusec.importers.onnx.load import LoadedModel, ValueInfo
from fusec.importers.onnx.structure import structure
from fusec.importers.onnx.values import Array, Value, has_torch_dtype, to_tensor


class OnnxModule(nn.Module):
    """An ONNX model as a module over torch tensors.

    Weights are buffers, bit-identical to the file. Inputs may be tensors, or host values
    (``numpy.ndarray``) for types that torch lacks; sequences are lists.

    Attributes:
        inputs: what the file says about the inputs that ``forward`` takes, in order.
        outputs: the same for the outputs, in order.
        weight_order: buffer names, one to one with ``structure(model, bind).weights``.
        weight_names: name in the file by buffer name.
        key: key of the raw structure.
    """

    def __init__(self, model: LoadedModel, bind: Mapping[str, Any] | None = None) -> None:
        """Build the module.

        Args:
            model: the model.
            bind: values of inputs by name; they leave the signature.
        """
        super().__init__()
        model = bind_inputs(model, bind or {})
        found = structure(model)
        self.inputs: tuple[ValueInfo, ...] = model.inputs
        self.outputs: tuple[ValueInfo, ...] = model.outputs
        self.key: str = found.key
        self.weight_order: tuple[str, ...] = tuple(f"w{i}" for i in range(len(found.weights)))
        self.weight_names: dict[str, str] = {}
        self._graph = model.graph
        self._buffer_of: dict[tuple[Graph, str], str] = {}
        self._host: dict[tuple[Graph, str], Array] = {}
        for buffer, weight in zip(self.weight_order, found.weights, strict=True):
            self.register_buffer(buffer, weight.tensor())
            self.weight_names[buffer] = weight.name
            self._buffer_of[weight.graph, weight.name] = buffer

    def forward(self, *inputs: Value) -> tuple[Any, ...]:
        """Evaluate the graph; return its outputs in order.

        Raises:
            ImportFailed: a node cannot be evaluated; the message names it.
        """
        return tuple(map(_result, evaluate(self._graph, inputs, self._lookup)))

    def _lookup(self, graph: Graph, name: str) -> Value:
        buffer = self._buffer_of.get((graph, name))
        if buffer is not None:
            weight: torch.Tensor = self.get_buffer(buffer)
            return weight
        if (graph, name) not in self._host:
            self._host[graph, name] = graph.constants[name].array()
        return self._host[graph, name]


def _result(value: Value) -> Any:
    """Return an output as a tensor where torch has its dtype, shapes included."""
    if isinstance(value, list):
        return [_result(item) for item in value]
    if isinstance(value, np.ndarray) and has_torch_dtype(value):
        return to_tensor(value)
    return value
