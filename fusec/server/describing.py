"""What the server tells of itself and its models, as JSON data; gRPC makes messages of the same."""

from collections.abc import Mapping
from typing import Any

import fusec
from fusec.server.errors import Fault, ServerError
from fusec.server.models import Model, Table, Version
from fusec.server.signature import Port

__all__ = [
    "model_config",
    "model_metadata",
    "model_statistics",
    "need_ready",
    "server_metadata",
]

_EXTENSIONS = [
    "classification",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
]
_PLATFORM = "fusec"


def server_metadata() -> dict[str, Any]:
    """Describe the server."""
    return {"name": "fusec", "version": fusec.__version__, "extensions": _EXTENSIONS}


def model_metadata(model: Model, version: Version) -> dict[str, Any]:
    """Describe a model's inputs and outputs."""
    return {
        "name": model.name,
        "versions": [str(number) for number in sorted(model.versions)],
        "platform": model.config.get("platform") or _PLATFORM,
        "inputs": list(map(_port, version.signature.inputs)),
        "outputs": list(map(_port, version.signature.outputs)),
    }


def model_config(model: Model, version: Version) -> dict[str, Any]:
    """Give a model's configuration, with what it leaves out and the model itself tells."""
    batch = bool(model.settings.max_batch_size)
    config: dict[str, Any] = {
        "name": model.name,
        "platform": "",
        "backend": _PLATFORM,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        "input": [_described(port, batch) for port in version.signature.inputs],
        "output": [_described(port, batch) for port in version.signature.outputs],
        "instance_group": [{"name": model.name, "kind": "KIND_CPU", "count": 1}],
    }
    own = {k: v for k, v in model.config.items() if k not in ("input", "output")}
    # Files that leave a port out say nothing of it; the model has it all the same.
    for what in ("input", "output"):
        given = {record.get("name"): record for record in model.config.get(what, ())}
        own[what] = [given.get(record["name"], record) for record in config[what]]
    return {**config, **own}


def model_statistics(table: Table, name: str | None, version: str | None) -> dict[str, Any]:
    """Give counters of one version, of all versions of a model, or of everything.

    Raises:
        ServerError: there is no such model or version.
    """
    if name is None:
        chosen = [(m, v) for _, m in sorted(table.models.items()) for v in _versions(m)]
    elif version:
        chosen = [table.find(name, version)]
    else:
        model, _ = table.find(name, None)
        chosen = [(model, v) for v in _versions(model)]
    return {
        "model_stats": [
            {"name": model.name, "version": str(v.number), **v.statistics.to_json()}
            for model, v in chosen
        ]
    }


def need_ready(table: Table, name: str, version: str | None) -> None:
    """Check that a model answers.

    Raises:
        ServerError: it does not.
    """
    try:
        table.find(name, version)
    except ServerError as e:
        raise ServerError("Model version not ready", Fault.INVALID) from e


def _versions(model: Model) -> list[Version]:
    return [model.versions[number] for number in sorted(model.versions)]


def _port(port: Port) -> Mapping[str, Any]:
    return {"name": port.name, "datatype": port.datatype.name, "shape": list(port.shape)}


def _described(port: Port, batch: bool) -> dict[str, Any]:
    dims = list(port.shape[1:] if batch else port.shape)
    return {"name": port.name, "data_type": port.datatype.config, "dims": dims}
