"""fusec: compile many trained models together and run them on one device."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusec.api import compile, load
    from fusec.explain import Explanation
    from fusec.ir.errors import (
        ArtifactError,
        ConfigError,
        FusecError,
        ImportFailed,
        KernelError,
        MergeError,
        Rejected,
        UnsupportedError,
        VerifyError,
    )
    from fusec.plan import Plan
    from fusec.runtime.cuda.settings import CudaSettings
    from fusec.serving import Runtime

__all__ = [
    "ArtifactError",
    "ConfigError",
    "CudaSettings",
    "Explanation",
    "FusecError",
    "ImportFailed",
    "KernelError",
    "MergeError",
    "Plan",
    "Rejected",
    "Runtime",
    "UnsupportedError",
    "VerifyError",
    "__version__",
    "compile",
    "load",
]

__version__ = "0.1.0"

_HOMES = {
    "compile": "fusec.api",
    "load": "fusec.api",
    "Plan": "fusec.plan",
    "CudaSettings": "fusec.runtime.cuda.settings",
    "Explanation": "fusec.explain",
    "Runtime": "fusec.serving",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `import fusec` stays light."""
    import importlib

    if name not in __all__:
        raise AttributeError(f"module 'fusec' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "fusec.ir.errors")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
