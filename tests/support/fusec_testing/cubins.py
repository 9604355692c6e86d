"""Cubins made by hand: no code in them, but all that is read of one."""

import struct
from collections.abc import Sequence

from fusec.ir.device import DeviceCode, DeviceKernel, DroppedKernel, code_hash

__all__ = ["example_device", "made_cubin"]

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")


def made_cubin(
    symbol: str = "add",
    *,
    arch: int = 90,
    registers: int = 32,
    stack_bytes: int = 0,
    threads: int = 128,
    parameters: Sequence[int] = (8, 8, 4, 8),
) -> bytes:
    """Make a cubin with one kernel."""
    name = symbol.encode()
    strings = b"\0" + name + b"\0"
    symbols = bytes(24) + struct.pack("<IBBHQQ", 1, 0x12, 0x10, 5, 0, 0)
    common = _sized(0x2F, struct.pack("<II", 1, registers))
    common += _sized(0x11, struct.pack("<II", 1, stack_bytes))
    own = _sized(0x10, struct.pack("<III", threads, 1, 1)) + struct.pack("<BBH", 3, 0x1B, 255)
    offset = 0
    for i, size in enumerate(parameters):
        own += _sized(0x17, struct.pack("<IHHI", 0, i, offset, size << 18))
        offset += size
    parts = [
        (b".strtab", 3, strings, 0),
        (b".symtab", 2, symbols, 1),
        (b".nv.info", 0x70000000, common, 2),
        (b".nv.info." + name, 0x70000000, own, 2),
        (b".text." + name, 1, bytes(16), 0),
    ]
    names = b"\0"
    data = bytes(_HEADER.size)
    headers = [bytes(_SECTION.size)]
    for title, kind, part, link in [*parts, (b".shstrtab", 3, b"", 0)]:
        part = part if title != b".shstrtab" else names + title + b"\0"
        headers.append(_SECTION.pack(len(names), kind, 0, 0, len(data), len(part), link, 0, 1, 0))
        names += title + b"\0"
        data += part
    ident = b"\x7fELF\x02\x01\x01\x33\x07".ljust(16, b"\0")
    counts = (64, 56, 0, 64, len(headers), len(headers) - 1)
    return _HEADER.pack(ident, 2, 190, 1, 0, 0, len(data), arch, *counts) + (
        data[_HEADER.size :] + b"".join(headers)
    )


def example_device(target: str = "cuda:sm_90") -> DeviceCode:
    """Make device code of two configurations of a kernel, and one that was dropped."""
    arch = int(target.rpartition("_")[2])
    codes = [made_cubin(arch=arch, registers=n) for n in (32, 40)]
    kernels = tuple(
        DeviceKernel(
            name="add",
            constants=(("BLOCK", block), ("KIND", "f32")),
            symbol="add",
            code=code_hash(code),
            parameters=("*", "*", "i32"),
            hidden=1,
            warps=4,
            shared_bytes=1024,
            registers=registers,
            stack_bytes=0,
            spill_bytes=0,
        )
        for block, registers, code in zip((64, 128), (32, 40), codes, strict=True)
    )
    gone = DroppedKernel(name="add", constants=(("BLOCK", 256),), reason="spills 8 bytes")
    return DeviceCode(
        target=target,
        compiler="triton 3.9.0",
        kernels=kernels,
        dropped=(gone,),
        codes={code_hash(code): code for code in codes},
    )


def _sized(number: int, value: bytes) -> bytes:
    return struct.pack("<BBH", 4, number, len(value)) + value
