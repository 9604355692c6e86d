"""Device code: kernels compiled for a graphics card, as a plan carries them."""

import hashlib
from collections.abc import Mapping
from typing import TypeAlias

from fusec.ir.frozen import dataclass

__all__ = ["Constants", "DeviceCode", "DeviceKernel", "DroppedKernel", "code_hash"]

Constants: TypeAlias = "tuple[tuple[str, int | str], ...]"
"""What a kernel is specialised for, by name, in the order of its table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceKernel:
    """A kernel in one configuration, with what it takes of a multiprocessor."""

    name: str
    """In the table of device kernels."""
    constants: Constants
    symbol: str
    """Function in the code."""
    code: str
    """Content hash of the code."""
    parameters: tuple[str, ...]
    """Types of what a launch passes: "*" for an address, else "i32", "i64", "fp32", ..."""
    hidden: int
    """Addresses after them that the compiler adds; a launch passes zeros."""
    warps: int
    shared_bytes: int
    """Of one block, asked for at launch."""
    registers: int
    """Of one thread."""
    stack_bytes: int
    spill_bytes: int
    """Written because registers did not suffice."""
    mma: str = ""
    """Matrix instructions that it has: equal ones add up in equal order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedKernel:
    """A configuration that was compiled, or tried, and is not used."""

    name: str
    constants: Constants
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCode:
    """All that a plan needs on one kind of card."""

    target: str
    """Such as "cuda:sm_90"."""
    compiler: str
    """What made it, such as "triton 3.9.0"."""
    kernels: tuple[DeviceKernel, ...]
    """Of one name, the preferred configuration comes first."""
    dropped: tuple[DroppedKernel, ...]
    codes: Mapping[str, bytes | memoryview]
    """Content hash -> code."""


def code_hash(code: bytes | memoryview) -> str:
    """Hash code by its content: SHA-256."""
    return hashlib.sha256(code).hexdigest()
