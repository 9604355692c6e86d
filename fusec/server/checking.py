"""A request against the model that it is for, before the scheduler hears of it."""

from collections.abc import Sequence

from fusec.server.errors import ServerError
from fusec.server.messages import InferRequest, Tensor, Wanted
from fusec.server.models import Model, Version
from fusec.server.signature import Port

__all__ = ["check_request", "rows_of", "wanted_outputs"]


def check_request(request: InferRequest, model: Model, version: Version) -> None:
    """Check names, datatypes and shapes of a request's inputs.

    Raises:
        ServerError: the text is Triton's.
    """
    ports = version.signature.inputs
    known = {port.name: port for port in ports}
    for tensor in request.inputs:
        if tensor.name not in known:
            raise ServerError(
                f"unexpected inference input {tensor.name!r} for model {model.name!r}"
            )
    missing = [p.name for p in ports if p.name not in {t.name for t in request.inputs}]
    if missing:
        raise ServerError(
            f"expected {len(ports)} inputs but got {len(request.inputs)} inputs for model "
            f"{model.name!r}. Got input(s) {[t.name for t in request.inputs]}, but missing "
            f"required input(s) {missing}. Please provide all required input(s)."
        )
    for tensor in request.inputs:
        _check_tensor(tensor, known[tensor.name], model)


def rows_of(request: InferRequest, version: Version) -> int:
    """Give how many inferences a request is."""
    if not (version.signature.batches and request.inputs and request.inputs[0].array.ndim):
        return 1
    return max(1, int(request.inputs[0].array.shape[0]))


def wanted_outputs(request: InferRequest, model: Model, version: Version) -> Sequence[Wanted]:
    """Give the outputs to answer with, in order.

    Raises:
        ServerError: one is asked for that the model does not have.
    """
    ports = version.signature.outputs
    if not request.outputs:
        return [Wanted(port.name, request.binary) for port in ports]
    known = {port.name for port in ports}
    for wanted in request.outputs:
        if wanted.name not in known:
            raise ServerError(
                f"unexpected inference output {wanted.name!r} for model {model.name!r}"
            )
    return request.outputs


def _check_tensor(tensor: Tensor, port: Port, model: Model) -> None:
    if tensor.datatype is not port.datatype:
        raise ServerError(
            f"inference input {tensor.name!r} data-type is {tensor.datatype.name!r}, but model "
            f"{model.name!r} expects {port.datatype.name!r}"
        )
    shape = tensor.array.shape
    if not port.fits(shape):
        raise ServerError(
            f"unexpected shape for input {tensor.name!r} for model {model.name!r}. Expected "
            f"{_show(port.shape)}, got {_show(shape)}."
        )
    most = model.settings.max_batch_size
    if most and shape[0] > most:
        raise ServerError(f"inference request batch-size must be <= {most} for {model.name!r}")


def _show(shape: Sequence[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
