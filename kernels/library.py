"""Addresses of native kernels by name: `address("gemm_f32")`.

A kernel's name begins with its library's: `gemm_f32` is in `fusec/kernels/gemm/cpu.py`, and
`engine_run` in `fusec/runtime/tile/engine_cpu.py`. The first address asked of a library compiles
all its kernels or, from the second process on, loads the object that the first one left in the
cache; then numba is never imported. Code stays loaded for the life of the process.

    from fusec.kernels.library import address, prepare
    prepare(["gemm_f32", "norm_rows"])       builds what is missing, in parallel; not needed
    run = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 8)(address("gemm_f32"))

To look at what became of a kernel: `python -m fusec.kernels.codegen.show gemm > gemm.s`.
"""

import functools
import threading
from collections.abc import Callable, Iterable, Mapping, Set
from typing import TYPE_CHECKING

from fusec.ir.errors import KernelError
from fusec.kernels.cache import load_object, store_object
from fusec.kernels.codegen.load import Loader, takes_images
from fusec.kernels.fingerprint import fingerprint
from fusec.kernels.table import TILE_OPS

if TYPE_CHECKING:
    from fusec.kernels.codegen.link import Linker

__all__ = ["LIBRARIES", "address", "library_of", "library_uses", "prepare"]

LIBRARIES: Mapping[str, str] = {
    **{folder.package.rpartition(".")[2]: f"{folder.package}.cpu" for folder in TILE_OPS.values()},
    "arrays": "fusec.runtime.tile.arrays_cpu",
    "engine": "fusec.runtime.tile.engine_cpu",
    "machine": "fusec.kernels.machine.cpu",
}
"""First part of a kernel's name -> the module whose `KERNELS` has it."""

_SHORT = {"point": "pointwise"}


def library_of(name: str) -> str:
    """Give the library that a kernel's name begins with.

    Raises:
        KernelError: there is none.
    """
    first = name.partition("_")[0]
    library = _SHORT.get(first, first)
    if library not in LIBRARIES:
        raise KernelError(f"no kernel {name!r}: its name begins with none of {sorted(LIBRARIES)}")
    return library


@functools.cache
def address(name: str) -> int:
    """Give the address of a native kernel, building its library at first use.

    Raises:
        KernelError: no such kernel, or it does not build.

    Cost: 1 to 2 ms for the first kernel of a cached library, else seconds.
    """
    library = library_of(name)
    found = _code().address(library, f"fusec_{name}")
    if not found:
        raise KernelError(f"{LIBRARIES[library]} has no kernel {name!r}")
    return found


def prepare(names: Iterable[str], progress: Callable[[str, int, int], None] | None = None) -> None:
    """Load the libraries of kernels, building what is not cached side by side.

    Two or more are built in processes of their own, so that numba is not imported here.

    Args:
        names: of kernels, or of libraries.
        progress: told a library's name, how many are built by then, and how many are to be built.

    Raises:
        KernelError: one does not build.
    """
    _code().prepare(set(map(library_of, names)), progress or (lambda library, done, total: None))


def library_uses() -> tuple[int, int]:
    """Give how many libraries this process found in the cache, and how many it had to build."""
    if not _code.cache_info().currsize:
        return 0, 0
    code = _code()
    return len(code.linked) - code.built, code.built


class _Code:
    """The machine code of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loader = _loader()
        self.linked: set[str] = set()
        self.built = 0

    def address(self, library: str, symbol: str) -> int:
        with self._lock:
            if library not in self.linked and not self._from_cache(library):
                from fusec.kernels.build import build

                self._take(library, build(LIBRARIES[library]))
            return self._loader.address(symbol)

    def prepare(self, libraries: Set[str], progress: Callable[[str, int, int], None]) -> None:
        with self._lock:
            wanted = sorted(libraries - self.linked)
            missing = [library for library in wanted if not self._from_cache(library)]
            if not missing:
                return
            from fusec.kernels.build import build_apart

            built = build_apart({library: LIBRARIES[library] for library in missing})
            for done, (library, code) in enumerate(built, start=1):
                self._take(library, code)
                progress(library, done, len(missing))

    def _from_cache(self, library: str) -> bool:
        key = fingerprint(LIBRARIES[library])
        code = load_object(library, key) if key else None
        if code is not None:
            self._loader.add(code)
            self.linked.add(library)
        return code is not None

    def _take(self, library: str, code: bytes) -> None:
        self.built += 1
        self._loader.add(code)
        self.linked.add(library)
        if key := fingerprint(LIBRARIES[library]):
            store_object(library, key, code)


def _loader() -> "Loader | Linker":
    if takes_images():
        return Loader()
    from fusec.kernels.codegen.link import Linker

    return Linker()


@functools.cache
def _code() -> _Code:
    return _Code()
