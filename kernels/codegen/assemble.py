"""From an object to an image: its sections laid one after another, its relocations filled in."""

import struct
from collections.abc import Callable
from dataclasses import field

from fusec.ir.errors import KernelError
from fusec.ir.frozen import dataclass
from fusec.kernels.codegen.elf import X86_64, Elf, Relocation, Symbol
from fusec.kernels.codegen.image import Image

__all__ = ["image_of"]

_ABSOLUTE, _RELATIVE, _CALL, _SLOTS = 1, 2, 4, (9, 41, 42)
"""Kinds of relocations: an address; a distance; a distance to a function; to a slot of one."""

_STUB = b"\xff\x25"
"""jmp *[rip + distance]"""


def image_of(code: bytes) -> Image:
    """Put an object's sections together.

    Args:
        code: a relocatable object for x86-64, position-independent.

    Raises:
        KernelError: another machine, data that is written to, or an unknown relocation.
    """
    elf = Elf(code)
    if elf.machine != X86_64:
        raise KernelError(f"images are made for x86-64, not for machine {elf.machine}")
    return _Layout(elf).finish()


@dataclass(slots=True)
class _Layout:
    elf: Elf
    body: bytearray = field(default_factory=bytearray)
    starts: dict[int, int] = field(default_factory=dict)
    """Section -> offset."""
    stubs: dict[str, int] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)
    """Symbol -> offset of the slot with its address."""
    rebased: list[int] = field(default_factory=list)
    outside: dict[int, str] = field(default_factory=dict)

    def finish(self) -> Image:
        for number, section in enumerate(self.elf.sections):
            if section.flags & Elf.LOADED and section.name != ".eh_frame":
                if section.kind == Elf.NO_BITS or (
                    section.flags & Elf.WRITTEN and not section.name.startswith(".data.rel.ro")
                ):
                    raise KernelError(f"kernels have data that is written to, in {section.name}")
                self._align(section.align)
                self.starts[number] = len(self.body)
                self.body += section.data
        self._align(16)
        for start in list(self.starts):
            for place in self.elf.relocations(start):
                self._fill(self.starts[start] + place.offset, place)
        self._align(64)
        return Image(
            body=bytes(self.body),
            rebased=tuple(self.rebased),
            outside=self.outside,
            symbols={
                s.name: self._offset(s)
                for s in self.elf.symbols
                if s.exported and s.section in self.starts
            },
        )

    def _fill(self, at: int, place: Relocation) -> None:
        symbol = self.elf.symbols[place.symbol]
        if place.kind == _ABSOLUTE and symbol.section:
            struct.pack_into("<Q", self.body, at, self._offset(symbol) + place.addend)
            self.rebased.append(at)
            return
        targets: dict[int, Callable[[], int]] = {
            _RELATIVE: lambda: self._offset(symbol),
            _CALL: lambda: self._offset(symbol) if symbol.section else self._stub(place.symbol),
            **dict.fromkeys(_SLOTS, lambda: self._slot(place.symbol)),
        }
        if place.kind not in targets:
            raise KernelError(f"{symbol.name}: relocation {place.kind} is not known")
        target = targets[place.kind]()
        struct.pack_into("<i", self.body, at, target + place.addend - at)

    def _offset(self, symbol: Symbol) -> int:
        if symbol.section not in self.starts:
            raise KernelError(f"{symbol.name!r} is nowhere in the image")
        return self.starts[symbol.section] + symbol.value

    def _stub(self, number: int) -> int:
        name = self.elf.symbols[number].name
        if name not in self.stubs:
            slot = self._slot(number)
            self.stubs[name] = len(self.body)
            self.body += _STUB + struct.pack("<i", slot - (len(self.body) + 6))
            self._align(8)
        return self.stubs[name]

    def _slot(self, number: int) -> int:
        symbol = self.elf.symbols[number]
        if number not in self.slots:
            at = self.slots[number] = len(self.body)
            self.body += struct.pack("<Q", self._offset(symbol) if symbol.section else 0)
            if symbol.section:
                self.rebased.append(at)
            else:
                self.outside[at] = symbol.name
        return self.slots[number]

    def _align(self, to: int) -> None:
        self.body += bytes(-len(self.body) % to)
