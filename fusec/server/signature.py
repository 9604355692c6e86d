"""What a model takes and gives, in the protocol's words."""

from collections.abc import Mapping, Sequence
from typing import Any

from fusec.ir.errors import UnsupportedError
from fusec.ir.frozen import dataclass
from fusec.ir.template import RowsKind, TensorSpec
from fusec.runtime.request import Target
from fusec.server.datatypes import BY_CONFIG, BY_FUSEC, Datatype
from fusec.server.errors import ServerError

__all__ = ["Port", "Signature", "check_config", "signature_of"]


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: -1 stands for an extent that varies."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    def fits(self, shape: Sequence[int]) -> bool:
        """Tell whether a tensor may have a shape."""
        return len(shape) == len(self.shape) and all(
            wanted in (-1, got) for wanted, got in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs in the model's order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    batches: bool
    """Whether the first axis of everything is that of rows that do not depend on each other."""


def signature_of(target: Target) -> Signature:
    """Describe a member of a plan.

    Raises:
        UnsupportedError: a dtype that the protocol lacks.
    """
    template = target.choices[0].template
    whole = template.rows is RowsKind.WHOLE_REQUEST
    member = target.member
    inputs = tuple(map(_port, member.input_names, template.inputs, template.input_axes))
    outputs = tuple(map(_port, member.output_names, template.outputs, template.output_axes))
    axes = {*template.input_axes, *template.output_axes}
    return Signature(inputs, outputs, batches=not whole and axes == {0})


def check_config(config: Mapping[str, Any], signature: Signature, name: str) -> None:
    """Check what a configuration says of inputs and outputs against the model.

    Raises:
        ServerError: a name, datatype or shape that the model does not have.
    """
    batch = config.get("max_batch_size", 0)
    if batch and not signature.batches:
        raise ServerError(
            f"model {name!r}: max_batch_size is {batch}, but its first axis is no batch of "
            "independent rows; leave it out and give whole shapes"
        )
    for what, ports in (("input", signature.inputs), ("output", signature.outputs)):
        known = {port.name: port for port in ports}
        for record in config.get(what, ()):
            given = record.get("name", "")
            if given not in known:
                raise ServerError(
                    f"unexpected inference {what} {given!r}, allowed {what}s are: "
                    + ", ".join(sorted(known))
                )
            _check_port(record, known[given], f"model {name!r}, {what} {given!r}", bool(batch))


def _check_port(record: Mapping[str, Any], port: Port, where: str, batch: bool) -> None:
    datatype = BY_CONFIG.get(record.get("data_type", ""))
    if datatype is not port.datatype:
        raise ServerError(
            f"{where}: the configuration has {record.get('data_type')}, the model "
            f"{port.datatype.config}"
        )
    if "reshape" in record:
        raise ServerError(f"{where}: reshape is not supported; give the model's own dims")
    wanted = port.shape[1:] if batch else port.shape
    dims = record.get("dims", [])
    same = len(dims) == len(wanted) and all(
        one == other or -1 in (one, other) for one, other in zip(dims, wanted, strict=True)
    )
    if not same:
        raise ServerError(f"{where}: the configuration has dims {dims}, the model {list(wanted)}")


def _port(name: str, spec: object, axis: int | None) -> Port:
    assert isinstance(spec, TensorSpec)
    datatype = BY_FUSEC.get(spec.dtype)
    if datatype is None:
        raise UnsupportedError(f"{name!r} is {spec.dtype}, which the protocol has no name for")
    shape = tuple(
        -1 if i == axis or not isinstance(dim, int) else dim for i, dim in enumerate(spec.shape)
    )
    return Port(name, datatype, shape)
