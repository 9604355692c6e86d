"""From a plan's settings to what runs its requests."""

import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.util import find_spec

from fusec.ir.device import DeviceCode
from fusec.ir.errors import ConfigError
from fusec.ir.plan import Executor
from fusec.ir.template import Template
from fusec.lowering import Stages
from fusec.runtime.arrays import Array
from fusec.runtime.cuda.settings import CudaSettings
from fusec.runtime.extern import run_extern
from fusec.runtime.native import ThroughNative, WholeRequests
from fusec.runtime.request import Request

__all__ = [
    "build_kernels",
    "cuda_runner",
    "default_executor",
    "native_supported",
    "opened",
    "read_executor",
    "runner",
]


_PROVE = "FUSEC_VALIDATE"
"""Environment variable: anything but 0 makes plans prove every tile program before it runs."""


def default_executor() -> Executor:
    """Choose for who does not: native code where it can be made."""
    return Executor.CPU if native_supported() else Executor.ISOLATED


@cache
def native_supported() -> bool:
    """Tell whether the native executor knows this machine and has its compiler."""
    known = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
    return known and sys.maxsize > 1 << 32 and all(map(find_spec, ("numba", "llvmlite")))


def read_executor(name: str) -> Executor:
    """Read the name of an executor.

    Raises:
        ConfigError: there is none of this name.
    """
    try:
        return Executor(name)
    except ValueError as e:
        known = ", ".join(repr(str(x)) for x in Executor)
        raise ConfigError(f"executor {name!r} is not known; give one of {known}") from e


def runner(executor: Executor, threads: int | None, stages: Stages) -> WholeRequests:
    """Make what runs requests; PyTorch is imported for its own executors only.

    Args:
        executor: which.
        threads: of the native executor, None for all cores; of torch's pool, None for its own.
        stages: of the native executor.

    Raises:
        UnsupportedError: the native executor does not know this machine.
    """
    if executor is Executor.CPU:
        return _native(threads, stages)
    return _through_torch(executor, threads)


def build_kernels(
    templates: Iterable[Template], stages: Stages, progress: Callable[[str, int, int], None] | None
) -> None:
    """Build or load the native code that templates need, several libraries at once.

    Args:
        templates: of a plan.
        stages: what they are lowered to.
        progress: told a library's name, how many are built by then, and how many are to be built.

    Raises:
        KernelError: code does not build.
    """
    from fusec.kernels.library import library_of, prepare
    from fusec.runtime.tile.call import SERVICES
    from fusec.runtime.tile.code import EXTERN, encode_stage

    names = {*SERVICES, "engine_run", "arrays_read"}
    for template in filter(stages.has, templates):
        lowered = stages.of(template)
        names |= {encode_stage(s, lowered.buffers).kernel for s in lowered.stages}
    prepare({library_of(name) for name in names - {EXTERN}}, progress)


def cuda_runner(
    stages: Stages, settings: CudaSettings | None, codes: Callable[[], Sequence[DeviceCode]]
) -> ThroughNative:
    """Make what runs requests on a card, which is opened when it is first needed.

    Args:
        stages: of templates.
        settings: how; None is as most want it.
        codes: gives the plan's code for cards.

    Raises:
        ConfigError: settings make no sense.
    """
    from fusec.runtime.cuda.executor import CudaExecutor

    executor = CudaExecutor(stages.of, run_extern, settings or CudaSettings(), codes)
    others = _Later(lambda: _through_torch(Executor.ISOLATED, None))
    return ThroughNative(executor, stages.has, others)


def opened(made: WholeRequests, templates: Iterable[Template] = ()) -> None:
    """Open the card of what runs requests on one, and have kernels of templates ready.

    Args:
        made: any runner; nothing to do for others.
        templates: with stages.

    Raises:
        UnsupportedError: there is no driver, no card, or neither code nor a compiler.
        ConfigError: there is no such card. KernelError: the driver refuses.
    """
    from fusec.runtime.cuda.executor import CudaExecutor

    if isinstance(made, ThroughNative) and isinstance(made.executor, CudaExecutor):
        made.executor.warm(templates)


def _native(threads: int | None, stages: Stages) -> ThroughNative:
    from fusec.runtime.tile.executor import NativeExecutor

    workers = threads or len(os.sched_getaffinity(0))
    proved = os.environ.get(_PROVE, "0") not in ("", "0")
    tiles = NativeExecutor(stages.of, workers, run_extern, proved=proved)
    others = _Later(lambda: _through_torch(Executor.ISOLATED, threads))
    return ThroughNative(tiles, stages.has, others)


def _through_torch(executor: Executor, threads: int | None) -> WholeRequests:
    from fusec.runtime.isolated import IsolatedExecutor
    from fusec.runtime.merged import MergedExecutor
    from fusec.runtime.through_torch import ThroughTorch

    if executor is Executor.MERGED:
        from fusec.merging import build_merged

        return ThroughTorch(MergedExecutor(build_merged), threads)
    return ThroughTorch(IsolatedExecutor(), threads)


class _Later:
    """Made when it first has something to run."""

    def __init__(self, make: Callable[[], WholeRequests]) -> None:
        self._make = cache(make)

    def run(self, requests: Sequence[Request]) -> list[tuple[Array, ...]]:
        """Answer each request, in order."""
        return self._make().run(requests)
