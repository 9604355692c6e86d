"""fusec as an ``onnx.backend``: evaluates the operator table eagerly.

Here every value is known, so operands that are structure (shapes, axes) may come with the request;
strings, 2-bit and 4-bit integers are NumPy arrays, sequences are lists, optionals are ``None``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper
from onnx.backend.base import Backend, BackendRep

from fusec.importers.onnx.load import Source, load_model
from fusec.importers.onnx.module import OnnxModule
from fusec.importers.onnx.values import Value, from_numpy, has_torch_dtype, to_numpy
from fusec.ir.errors import ConfigError

# Operators of opsets before the importer's first still run here where nothing has changed since.
_FIRST_OPSET = 1


class FusecRep(BackendRep):
    """A model that is ready to run."""

    def __init__(self, module: OnnxModule) -> None:
        self._module = module

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Run the model once.

        Args:
            inputs: arrays, lists or None in input order; one array; or a mapping by input name.
            kwargs: none are known.

        Returns:
            Outputs in order, as arrays, lists or None.

        Raises:
            ConfigError: the inputs do not fit the model's signature.
        """
        if kwargs:
            raise ConfigError(f"unknown options {', '.join(sorted(kwargs))}")
        values = self._ordered(inputs)
        with torch.no_grad():
            outputs = self._module(*map(enter, values))
        return tuple(map(leave, outputs))

    def _ordered(self, inputs: Any) -> Sequence[Any]:
        names = [info.name for info in self._module.inputs]
        if isinstance(inputs, dict):
            if set(inputs) != set(names):
                raise ConfigError(f"wanted inputs {names}, got {sorted(inputs)}")
            return [inputs[name] for name in names]
        values = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
        if len(values) != len(names):
            raise ConfigError(f"wanted {len(names)} inputs {names}, got {len(values)}")
        return values


class FusecBackend(Backend):
    """The backend interface of ``onnx``."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Say whether every operator of the model can be evaluated on the device."""
        return (
            cls.supports_device(device)
            and not load_model(model, first_opset=_FIRST_OPSET, check_operators=False).unknown
        )

    @classmethod
    def prepare(cls, model: Source, device: str = "CPU", **kwargs: Any) -> FusecRep:
        """Load a model.

        Args:
            model: a proto, path or bytes.
            device: ``CPU``.
            kwargs: ``bind``: values of inputs by name, which leave the signature.

        Raises:
            ConfigError: the device or the file is not usable.
            ImportFailed: operators that cannot be evaluated; all are listed.
        """
        if not cls.supports_device(device):
            raise ConfigError(f"device '{device}': the ONNX backend runs on CPU")
        loaded = load_model(model, first_opset=_FIRST_OPSET)
        return FusecRep(OnnxModule(loaded, kwargs.get("bind")))

    @classmethod
    def run_model(
        cls, model: Source, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """Load a model and run it once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one node.

        Args:
            node: the node.
            inputs: one value per named input, in order; or a mapping by name.
            device: ``CPU``.
            outputs_info: not needed; types follow from the inputs.
            kwargs: ``opset_version``: version of the node's domain; by default the newest.
        """
        names = list(dict.fromkeys(name for name in node.input if name))
        version = kwargs.get("opset_version") or onnx.defs.onnx_opset_version()
        graph = helper.make_graph(
            [node],
            node.op_type,
            [onnx.ValueInfoProto(name=name) for name in names],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        )
        opsets = [helper.make_opsetid(node.domain, version)]
        return cls.run_model(helper.make_model(graph, opset_imports=opsets), inputs, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Say whether models run on a device; eager evaluation is on the CPU."""
        return device.split(":")[0].upper() == "CPU"


def enter(value: Any) -> Value:
    """Turn what a caller gives into a value: a tensor where torch has the dtype."""
    if value is None or isinstance(value, (torch.Tensor, dict)):
        return value
    if isinstance(value, (list, tuple)):
        return [enter(item) for item in value]
    array = np.asarray(value)
    return from_numpy(array) if has_torch_dtype(array) else array


def leave(value: Value) -> Any:
    """Turn a value into what a caller gets: an array, a list, a map or None."""
    if isinstance(value, torch.Tensor):
        return to_numpy(value)
    if isinstance(value, list):
        return [leave(item) for item in value]
    if isinstance(value, dict):
        return {key: leave(item) for key, item in value.items()}
    return value


is_compatible = FusecBackend.is_compatible
prepare = FusecBackend.prepare
run_model = FusecBackend.run_model
run_node = FusecBackend.run_node
supports_device = FusecBackend.supports_device
