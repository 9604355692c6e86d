"""Relocatable ELF objects, as LLVM writes them for 64-bit little-endian systems."""

import struct
from collections.abc import Iterator

from fusec.ir.errors import KernelError
from fusec.ir.frozen import dataclass

__all__ = ["X86_64", "Elf", "Relocation", "Section", "Symbol", "symbol_of"]

X86_64 = 62
"""Machine number."""

_HEADER = struct.Struct("<HHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")


def symbol_of(kernel: str) -> str:
    """Give the object's symbol for a kernel."""
    return f"fusec_{kernel}"


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """A section header, with its contents."""

    name: str
    kind: int
    flags: int
    data: bytes
    align: int
    link: int
    info: int


@dataclass(frozen=True, slots=True, eq=False)
class Symbol:
    """A symbol; section 0 is none: it has to come from outside."""

    name: str
    exported: bool
    section: int
    value: int


@dataclass(frozen=True, slots=True, eq=False)
class Relocation:
    """A place in a section that depends on where a symbol comes to lie."""

    offset: int
    kind: int
    symbol: int
    addend: int


class Elf:
    """An object file, read."""

    SYMBOLS, RELOCATIONS, NO_BITS = 2, 4, 8
    """Kinds of sections."""
    WRITTEN, LOADED = 1, 2
    """Flags of sections."""

    def __init__(self, code: bytes) -> None:
        """Read all of it.

        Args:
            code: what LLVM wrote; it is trusted.

        Raises:
            KernelError: an object of another kind of system.
        """
        if code[:6] != b"\x7fELF\x02\x01":
            raise KernelError("kernels are made for 64-bit little-endian ELF systems (Linux) only")
        fields = _HEADER.unpack_from(code, 16)
        self.machine: int = fields[1]
        start, size, count, names = fields[5], *fields[10:]
        headers = [_SECTION.unpack_from(code, start + i * size) for i in range(count)]
        strings = headers[names][4]
        self.sections = [
            Section(
                name=_text(code, strings + h[0]),
                kind=h[1],
                flags=h[2],
                data=b"" if h[1] == self.NO_BITS else code[h[4] : h[4] + h[5]],
                align=max(h[8], 1),
                link=h[6],
                info=h[7],
            )
            for h in headers
        ]
        self.symbols: list[Symbol] = []
        for h in headers:
            if h[1] == self.SYMBOLS:
                strings = headers[h[6]][4]
                for at in range(h[4], h[4] + h[5], _SYMBOL.size):
                    name, info, _, section, value, _ = _SYMBOL.unpack_from(code, at)
                    exported = info >> 4 != 0  # global or weak
                    self.symbols.append(
                        Symbol(_text(code, strings + name), exported, section, value)
                    )

    def undefined(self) -> frozenset[str]:
        """Give the names of symbols that have to come from outside."""
        return frozenset(s.name for s in self.symbols if s.section == 0 and s.name)

    def relocations(self, section: int) -> Iterator[Relocation]:
        """Give what has to be filled in in a section."""
        for table in self.sections:
            if table.kind == self.RELOCATIONS and table.info == section:
                for offset, info, addend in _RELOCATION.iter_unpack(table.data):
                    yield Relocation(offset, info & 0xFFFFFFFF, info >> 32, addend)


def _text(code: bytes, at: int) -> str:
    return code[at : code.index(b"\0", at)].decode()
