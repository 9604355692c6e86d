"""Compiling libraries of kernels: here, or in processes of their own, side by side.

A child is started as a command, not forked and not through `multiprocessing`: forking a process
with threads can hang, and `multiprocessing` runs the user's main module again.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import import_module

from fusec.ir.errors import KernelError

__all__ = ["build", "build_apart"]

_CHILD = """
import sys
sys.path[:] = sys.argv[2:]
from fusec.kernels.build import build
from fusec.ir.errors import KernelError
try:
    code = build(sys.argv[1])
except KernelError as error:
    sys.stderr.write(str(error))
    sys.exit(3)
sys.stdout.buffer.write(code)
"""
_REFUSED = 3


def build(module: str) -> bytes:
    """Compile the kernels of a module to one image, or an object where there are no images.

    Args:
        module: full name of a module with `KERNELS`; it is imported, and with it numba.

    Raises:
        KernelError: it does not compile.
    """
    from fusec.kernels.codegen.assemble import image_of
    from fusec.kernels.codegen.emit import emit
    from fusec.kernels.codegen.load import takes_images

    code = emit(import_module(module).KERNELS)
    return image_of(code).to_bytes() if takes_images() else code


def build_apart(modules: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """Compile several modules, as many at a time as there are processors.

    Args:
        modules: anything -> full name of a module with `KERNELS`.

    Yields:
        Key and object, as they become ready.

    Raises:
        KernelError: one does not compile; none is left running.
    """
    if len(modules) < 2 or not sys.executable:
        for key, module in modules.items():
            yield key, build(module)
        return
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        futures = {pool.submit(_build_in_child, module): key for key, module in modules.items()}
        try:
            for future in as_completed(futures):
                key = futures[future]
                code = future.result()
                yield key, build(modules[key]) if code is None else code
        finally:
            pool.shutdown(cancel_futures=True)


def _build_in_child(module: str) -> bytes | None:
    """Compile in a new process; `None` where the system does not let one live."""
    command = [sys.executable, "-c", _CHILD, module, *sys.path]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "0"}
    try:
        child = subprocess.run(command, env=environment, capture_output=True, check=False)
    except OSError:
        return None
    if child.returncode == _REFUSED:
        raise KernelError(child.stderr.decode(errors="replace"))
    return child.stdout if child.returncode == 0 else None
