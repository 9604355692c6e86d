"""Which symbols an ELF object needs from outside."""

import struct

from fusec.ir.errors import KernelError

__all__ = ["undefined_symbols"]

_SYMBOL_TABLE = 2  # sh_type
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")


def undefined_symbols(code: bytes) -> frozenset[str]:
    """Give the names of symbols that an object uses and does not define.

    Args:
        code: a 64-bit little-endian ELF relocatable object.

    Raises:
        KernelError: it is not one.
    """
    if code[:6] != b"\x7fELF\x02\x01":
        raise KernelError("kernels are made for 64-bit little-endian ELF systems (Linux) only")
    (start,) = struct.unpack_from("<Q", code, 0x28)
    size, count = struct.unpack_from("<HH", code, 0x3A)
    sections = [_SECTION.unpack_from(code, start + i * size) for i in range(count)]
    names: set[str] = set()
    for _, kind, _, _, offset, length, link, *_ in sections:
        if kind == _SYMBOL_TABLE:
            strings = sections[link][4]
            for at in range(offset + _SYMBOL.size, offset + length, _SYMBOL.size):
                name, _, _, section, _, _ = _SYMBOL.unpack_from(code, at)
                if section == 0:
                    end = code.index(b"\0", strings + name)
                    names.add(code[strings + name : end].decode())
    return frozenset(names)
