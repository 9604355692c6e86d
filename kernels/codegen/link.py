"""Objects in memory, ready to be called: where `load` cannot do it, LLVM does."""

from typing import Any

import llvmlite.binding as llvm

from fusec.ir.errors import KernelError
from fusec.kernels.codegen.elf import Elf
from fusec.kernels.codegen.target import processor, target_machine

__all__ = ["Linker"]


class Linker:
    """Keeps the code it was given in memory as long as it lives."""

    def __init__(self) -> None:
        """Start empty."""
        machine = target_machine(processor())
        self._engine: Any = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)

    def add(self, code: bytes) -> None:
        """Load an object.

        Raises:
            KernelError: it needs a symbol that this process has not; LLVM would end the process.

        Cost: about a millisecond.
        """
        missing = [s for s in Elf(code).undefined() if not llvm.address_of_symbol(s)]
        if missing:
            raise KernelError(f"the C library has no {', '.join(sorted(missing))}")
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()

    def address(self, symbol: str) -> int:
        """Give the address of a symbol; 0 if no object defines it."""
        found: int = self._engine.get_function_address(symbol)
        return found
