"""Addresses of native kernels by name: `address("gemm_f32")`.

A kernel's name begins with its library's: `gemm_f32` is in `fusec/kernels/gemm/cpu.py`, `engine_run`
in `fusec/runtime/tile/engine_cpu.py`. The first address asked of a library compiles all its kernels
or, from the second process on, loads the object that the first one left in the cache; then numba is
never imported. Code stays loaded for the life of the process.

    from fusec.kernels.library import address
    run = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 8)(address("gemm_f32"))

To look at what became of a kernel: `python -m fusec.kernels.codegen.show gemm > gemm.s`.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import llvmlite.binding as llvm

from fusec.ir.errors import KernelError
from fusec.kernels.codegen.target import processor, target_machine
from fusec.kernels.table import TILE_OPS

__all__ = ["LIBRARIES", "address", "library_of"]

LIBRARIES: Mapping[str, str] = {
    **{folder.package.rpartition(".")[2]: f"{folder.package}.cpu" for folder in TILE_OPS.values()},
    "engine": "fusec.runtime.tile.engine_cpu",
}
"""First part of a kernel's name -> the module whose `KERNELS` has it."""


def library_of(name: str) -> str:
    """Give the library that a kernel's name begins with.

    Raises:
        KernelError: there is none.
    """
    library = name.partition("_")[0]
    if library not in LIBRARIES:
        raise KernelError(f"no kernel {name!r}: its name begins with none of {sorted(LIBRARIES)}")
    return library


@functools.cache
def address(name: str) -> int:
    """Give the address of a native kernel, building its library at first use.

    Raises:
        KernelError: no such kernel, or it does not build.
    """
    found: int = _loaded(library_of(name)).engine.get_function_address(f"fusec_{name}")
    if not found:
        raise KernelError(f"{LIBRARIES[library_of(name)]} has no kernel {name!r}")
    return found


@dataclass(frozen=True, slots=True)
class _Loaded:
    engine: Any


@functools.cache
def _loaded(library: str) -> _Loaded:
    return _Loaded(_link(_built(library)))


def _built(library: str) -> bytes:
    from fusec.kernels.codegen.emit import emit

    sources = import_module(LIBRARIES[library]).KERNELS
    for source in sources:
        if library_of(source.name) != library:
            raise KernelError(f"{LIBRARIES[library]}: {source.name!r} must begin with {library}_")
    return emit(sources)


def _link(code: bytes) -> Any:
    """Load an object: about a millisecond."""
    machine = target_machine(processor())
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine
