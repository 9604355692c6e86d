"""What a cubin says of itself: its architecture, its kernels, what they take.

A cubin is an ELF file. Attributes of functions are in sections named `.nv.info`, one after another
as (format, number, value); `cuobjdump --dump-resource-usage` prints the same numbers. Bytes are not
trusted: whatever they hold, reading them ends in a `Cubin` or an `ArtifactError`.
"""

import struct
from collections.abc import Iterator

from fusec.ir.errors import ArtifactError
from fusec.ir.frozen import dataclass

__all__ = ["Cubin", "CubinKernel", "read_cubin"]

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_PAIR = struct.Struct("<II")
_PARAMETER = struct.Struct("<IHHI")
_START = b"\x7fELF\x02\x01\x01"
_CUDA = 190
"""Machine number."""
_MAX_SECTIONS = 4096
_SYMBOLS, _NO_BITS = 2, 8
"""Kinds of sections."""
_FUNCTION, _GLOBAL, _ENTRY = 2, 1, 0x10
"""Kind and binding of a symbol; what marks a kernel among functions."""
_SIZED = 4
"""Format of an attribute whose length is told; others are two bytes."""
_REGISTERS, _FRAME, _PARAMETERS, _THREADS = 0x2F, 0x11, 0x17, 0x10
"""Numbers of attributes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CubinKernel:
    """One function that can be launched."""

    symbol: str
    registers: int
    stack_bytes: int
    static_shared_bytes: int
    threads: int
    """Of a block; 0 if it does not say."""
    parameter_bytes: tuple[int, ...]
    """Sizes, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cubin:
    """A cubin, read."""

    arch: int
    """Such as 90."""
    kernels: tuple[CubinKernel, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Section:
    name: str
    kind: int
    data: memoryview
    size: int
    link: int


def read_cubin(code: bytes | memoryview) -> Cubin:
    """Read what a cubin says.

    Raises:
        ArtifactError: it is none, or damaged.

    Cost: about 0.1 ms.
    """
    try:
        return _read(memoryview(code))
    except (struct.error, IndexError, KeyError, OverflowError, ValueError) as e:
        raise ArtifactError(f"device code is damaged: {e}") from e


def _read(code: memoryview) -> Cubin:
    fields = _HEADER.unpack_from(code)
    if fields[0][: len(_START)] != _START or fields[2] != _CUDA:
        raise ValueError("it is no cubin")
    # Since CUDA 13's layout the number is one byte further up.
    arch = fields[7] >> (8 if fields[0][8] >= 8 else 0) & 0xFF
    sections = _sections(code, fields)
    symbols = list(_symbols(sections))
    attributes = {s.name: list(_attributes(s.data)) for s in sections if _is_info(s)}
    common = attributes.get(".nv.info", [])
    shared = {s.name: s.size for s in sections if s.name.startswith(".nv.shared.")}
    kernels = []
    for index, name in symbols:
        own = attributes[f".nv.info.{name}"]
        kernels.append(
            CubinKernel(
                symbol=name,
                registers=_of_symbol(common, _REGISTERS, index),
                stack_bytes=_of_symbol(common, _FRAME, index),
                static_shared_bytes=shared.get(f".nv.shared.{name}", 0),
                threads=_threads(own),
                parameter_bytes=_parameters(own),
            )
        )
    return Cubin(arch=arch, kernels=tuple(kernels))


def _sections(code: memoryview, fields: tuple[int, ...]) -> list[_Section]:
    start, size, count, names = fields[6], *fields[11:]
    if size != _SECTION.size or not 0 < count <= _MAX_SECTIONS or not names < count:
        raise ValueError("its table of sections is none")
    headers = [_SECTION.unpack_from(code, start + i * size) for i in range(count)]
    strings = _part(code, headers[names])
    return [_Section(_text(strings, h[0]), h[1], _part(code, h), h[5], h[6]) for h in headers]


def _part(code: memoryview, header: tuple[int, ...]) -> memoryview:
    if header[1] in (0, _NO_BITS):
        return code[:0]
    if header[4] + header[5] > len(code):
        raise ValueError("a section ends after the file")
    return code[header[4] : header[4] + header[5]]


def _is_info(section: _Section) -> bool:
    return section.name == ".nv.info" or section.name.startswith(".nv.info.")


def _symbols(sections: list[_Section]) -> Iterator[tuple[int, str]]:
    """Yield number and name of each kernel."""
    for table in sections:
        if table.kind != _SYMBOLS:
            continue
        strings = sections[table.link].data
        whole = table.data[: len(table.data) // _SYMBOL.size * _SYMBOL.size]
        for index, (name, info, other, *_) in enumerate(_SYMBOL.iter_unpack(whole)):
            if info & 0xF == _FUNCTION and info >> 4 == _GLOBAL and other & _ENTRY:
                yield index, _text(strings, name)


def _attributes(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    at = 0
    while at < len(data):
        form, number, value = struct.unpack_from("<BBH", data, at)
        at += 4
        size = value if form == _SIZED else 0
        yield number, data[at : at + size]
        at += size


def _of_symbol(attributes: list[tuple[int, memoryview]], number: int, symbol: int) -> int:
    for found, value in attributes:
        if found == number:
            index, count = _PAIR.unpack(value)
            if index == symbol:
                return int(count)
    raise ValueError(f"attribute {number:#x} of a kernel is missing")


def _threads(attributes: list[tuple[int, memoryview]]) -> int:
    for found, value in attributes:
        if found == _THREADS:
            x, y, z = struct.unpack("<III", value)
            return int(x * y * z)
    return 0


def _parameters(attributes: list[tuple[int, memoryview]]) -> tuple[int, ...]:
    sizes: dict[int, int] = {}
    for found, value in attributes:
        if found == _PARAMETERS:
            _, ordinal, _, packed = _PARAMETER.unpack(value)
            sizes[ordinal] = packed >> 18
    if sorted(sizes) != list(range(len(sizes))):
        raise ValueError("parameters of a kernel are missing")
    return tuple(sizes[i] for i in range(len(sizes)))


def _text(strings: memoryview, at: int) -> str:
    end = bytes(strings[at : at + 4096]).index(b"\0")
    return bytes(strings[at : at + end]).decode()
