"""What a configuration says about serving a model: batches, queues, versions, warm-up, tenants."""

from collections.abc import Mapping, Sequence
from typing import Any

from fusec.ir.errors import ConfigError
from fusec.ir.frozen import dataclass
from fusec.server.parameters import read_slo

__all__ = ["DEFAULTS", "QueuePolicy", "Settings", "Warmup", "WarmupInput", "read_settings"]

_BACKENDS = ("", "fusec", "onnxruntime", "pytorch", "pytorch_libtorch")
_PLATFORMS = ("", "fusec", "onnxruntime_onnx", "onnx", "pytorch_libtorch")
_DATA = ("zero_data", "random_data", "input_data_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePolicy:
    """How long and how many requests may wait."""

    timeout_us: int = 0
    """0: for ever."""
    override: bool = False
    """Whether a request may say a shorter time."""
    delay: bool = False
    """Those that waited too long run after all others; they are not refused."""
    size: int = 0
    """0: as many as the runtime lets wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupInput:
    """One input of a made-up request."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    source: str
    """zero_data, random_data or input_data_file."""
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    """Requests that run before a model is ready."""

    name: str
    batch: int
    count: int
    inputs: tuple[WarmupInput, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a model is served."""

    max_batch_size: int = 0
    """0: shapes are taken as they are."""
    levels: int = 0
    """Priorities that a request may have; 0: none."""
    default_level: int = 0
    queue: QueuePolicy = QueuePolicy()
    queues: tuple[tuple[int, QueuePolicy], ...] = ()
    """Of levels with a policy of their own."""
    tenant: str | None = None
    slo_ms: float | None = None
    filename: str | None = None
    versions: tuple[str, tuple[int, ...]] = ("latest", (1,))
    """latest and how many, all, or specific and which."""
    warmups: tuple[Warmup, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    """Output and the file that names its classes."""

    def level(self, asked: int) -> int:
        """Give the level of a request that asks for a priority; 0 where there are none."""
        if not self.levels:
            return 0
        return min(asked or self.default_level or self.levels, self.levels)

    def policy(self, level: int) -> QueuePolicy:
        """Give the queue policy of a level."""
        return next((policy for own, policy in self.queues if own == level), self.queue)

    def chosen(self, there: Sequence[int]) -> list[int]:
        """Give those of a model's versions that are to be served."""
        kind, numbers = self.versions
        if kind == "latest":
            return sorted(there)[-numbers[0] :]
        return sorted(v for v in there if kind == "all" or v in numbers)


DEFAULTS = Settings()


def read_settings(config: Mapping[str, Any], name: str) -> Settings:
    """Read a configuration.

    Args:
        config: as `fusec.server.configread` gives it.
        name: of the model's folder.

    Raises:
        ConfigError: another model's, a backend that is not one of ours, or values that make no
            sense.
    """
    if config.get("name", name) != name:
        raise ConfigError(f"model {name!r}: its configuration is of {config['name']!r}")
    for key, known in (("backend", _BACKENDS), ("platform", _PLATFORMS)):
        if config.get(key, "") not in known:
            raise ConfigError(
                f"model {name!r}: {key} {config[key]!r} is not supported; models are .onnx or "
                ".pt2 files"
            )
    if config.get("model_transaction_policy", {}).get("decoupled"):
        raise ConfigError(f"model {name!r}: decoupled answers are not supported")
    batch = config.get("max_batch_size", 0)
    if batch < 0:
        raise ConfigError(f"model {name!r}: max_batch_size is {batch}, wanted 0 or more")
    dynamic = config.get("dynamic_batching", {})
    levels, default = dynamic.get("priority_levels", 0), dynamic.get("default_priority_level", 0)
    if default > levels or (levels and not default):
        raise ConfigError(
            f"model {name!r}: default_priority_level is {default}, wanted 1 to {levels}"
        )
    parameters = {k: v.get("string_value", "") for k, v in config.get("parameters", {}).items()}
    return Settings(
        max_batch_size=batch,
        levels=levels,
        default_level=default,
        queue=_policy(dynamic.get("default_queue_policy", {})),
        queues=tuple(
            (int(level), _policy(policy))
            for level, policy in dynamic.get("priority_queue_policy", {}).items()
        ),
        tenant=parameters.get("tenant") or None,
        slo_ms=read_slo(parameters.get("slo_ms"), f"model {name!r}: parameter 'slo_ms'"),
        filename=_filename(config.get("default_model_filename"), name),
        versions=_versions(config.get("version_policy", {}), name),
        warmups=tuple(_warmup(w, name) for w in config.get("model_warmup", ())),
        labels=tuple(
            (output.get("name", ""), file)
            for output in config.get("output", ())
            if (file := _filename(output.get("label_filename"), name))
        ),
    )


def _policy(given: Mapping[str, Any]) -> QueuePolicy:
    return QueuePolicy(
        timeout_us=given.get("default_timeout_microseconds", 0),
        override=given.get("allow_timeout_override", False),
        delay=given.get("timeout_action", "REJECT") == "DELAY",
        size=given.get("max_queue_size", 0),
    )


def _versions(given: Mapping[str, Any], name: str) -> tuple[str, tuple[int, ...]]:
    if "all" in given:
        return ("all", ())
    if "specific" in given:
        return ("specific", tuple(given["specific"].get("versions", ())))
    count = given.get("latest", {}).get("num_versions", 1)
    if count < 1:
        raise ConfigError(f"model {name!r}: num_versions is {count}, wanted 1 or more")
    return ("latest", (count,))


def _warmup(given: Mapping[str, Any], name: str) -> Warmup:
    inputs = []
    for key, record in given.get("inputs", {}).items():
        source = next((kind for kind in _DATA if record.get(kind)), "zero_data")
        inputs.append(
            WarmupInput(
                name=key,
                datatype=record.get("data_type", "TYPE_INVALID"),
                dims=tuple(record.get("dims", ())),
                source=source,
                file=_filename(record.get("input_data_file"), name) or "",
            )
        )
    return Warmup(
        name=given.get("name", ""),
        batch=given.get("batch_size", 0),
        count=max(1, given.get("count", 1)),
        inputs=tuple(inputs),
    )


def _filename(given: str | None, name: str) -> str | None:
    """Take a name of a file within the model's folders, and none that leads out of them."""
    if given and ("/" in given or "\\" in given or given.startswith(".")):
        raise ConfigError(f"model {name!r}: {given!r} is no plain file name")
    return given or None
