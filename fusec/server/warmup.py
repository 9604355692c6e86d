"""Made-up requests that run before a model is ready, so that no client pays for the first one."""

from pathlib import Path

import numpy as np

from fusec.ir.errors import ConfigError, FusecError
from fusec.server.datatypes import BY_CONFIG, Datatype
from fusec.server.messages import Tensor
from fusec.server.settings import Settings, Warmup, WarmupInput
from fusec.server.signature import Port, Signature
from fusec.server.store import Store

__all__ = ["warm_up"]

_WAIT_S = 600.0
_MOST_ELEMENTS = 1 << 28


def warm_up(store: Store, key: str, signature: Signature, settings: Settings, folder: Path) -> None:
    """Run what the configuration asks for; else one request of zeros, where its shapes are known.

    Args:
        store: that has the model.
        key: of the model.
        signature: of the model.
        settings: of the model.
        folder: of data files.

    Raises:
        FusecError: a request that the configuration asks for fails, or makes no sense.
    """
    for warmup in settings.warmups:
        inputs = tuple(_input(record, warmup, signature, folder) for record in warmup.inputs)
        for _ in range(warmup.count):
            _run(store, key, inputs)
    if settings.warmups:
        return
    guess = tuple(_zeros(port) for port in signature.inputs)
    try:
        _run(store, key, guess)
    except (FusecError, TimeoutError):
        # Nobody asked for it, and zeros may be what this model refuses.
        return


def _run(store: Store, key: str, inputs: tuple[Tensor, ...]) -> None:
    future = store.submit(key, inputs, tenant="warmup", deadline_ms=None, priority=0)
    future.result(timeout=_WAIT_S)


def _input(record: WarmupInput, warmup: Warmup, signature: Signature, folder: Path) -> Tensor:
    where = f"model_warmup {warmup.name!r}, input {record.name!r}"
    datatype = BY_CONFIG.get(record.datatype)
    if datatype is None or datatype.fusec is None:
        raise ConfigError(f"{where}: data_type {record.datatype} is not known")
    shape = (warmup.batch, *record.dims) if warmup.batch else record.dims
    if min(shape, default=0) < 0 or np.prod([float(d) for d in shape]) > _MOST_ELEMENTS:
        raise ConfigError(f"{where}: dims {list(shape)} are no shape of a request")
    if record.name not in {port.name for port in signature.inputs}:
        raise ConfigError(f"{where}: the model has no such input")
    if record.source == "input_data_file":
        return Tensor(record.name, datatype, _from_file(folder / record.file, datatype, shape))
    if record.source == "random_data":
        drawn = np.random.default_rng(0).random(shape)
        return Tensor(record.name, datatype, _of_numbers(drawn, datatype))
    return Tensor(record.name, datatype, np.zeros(shape, dtype=datatype.numpy))


def _of_numbers(drawn: np.ndarray, datatype: Datatype) -> np.ndarray:
    if datatype.fusec == "bfloat16":
        bits = drawn.astype(np.float32).view(np.uint32) >> np.uint32(16)
        return bits.astype(np.uint16)
    return drawn.astype(datatype.numpy)


def _from_file(path: Path, datatype: Datatype, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.fromfile(path, dtype=datatype.numpy).reshape(shape)
    except (OSError, ValueError) as e:
        raise ConfigError(f"{path}: no data for a warm-up of shape {list(shape)}: {e}") from e


def _zeros(port: Port) -> Tensor:
    shape = [max(extent, 1) for extent in port.shape]
    return Tensor(port.name, port.datatype, np.zeros(shape, dtype=port.datatype.numpy))
