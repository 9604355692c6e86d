"""Print the assembly of a library's kernels: `python -m fusec.kernels.codegen.show gemm`."""

import sys
from importlib import import_module

from fusec.kernels.codegen.emit import emit_module
from fusec.kernels.library import LIBRARIES

__all__ = ["main"]


def main(library: str) -> None:
    """Write the listing to standard output."""
    sources = import_module(LIBRARIES[library]).KERNELS
    sys.stdout.write(emit_module(sources).emit_assembly())


if __name__ == "__main__":
    main(sys.argv[1])
