"""How native code sleeps and wakes, and reads the clock."""

import platform
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from fusec.kernels.codegen.atomics import syscall

__all__ = ["ANY", "SPIN_NS", "X86", "monotonic_ns", "sleep", "wake"]

X86 = platform.machine() == "x86_64"
"""System calls have the numbers of x86-64; else those of 64-bit ARM."""

ANY = 0xFFFFFFFF
"""All sleepers of a word."""

SPIN_NS = 50_000
"""How long to look at a word before sleeping on it: about twice what falling asleep and waking up
costs where the machine is a virtual one (20 us; 3 us on bare metal). Tasks are shorter than 200 us
as a rule; whoever is waited for longer has probably lost its core."""

_FUTEX = 202 if X86 else 98
_WAIT_BITSET, _WAKE_BITSET = 9 + 128, 10 + 128  # private to the process
_EVERYBODY = 0x7FFFFFFF


@intrinsic
def monotonic_ns(typingctx: Any) -> Any:
    """Read CLOCK_MONOTONIC."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        i64, i32 = ir.IntType(64), ir.IntType(32)
        time = cgutils.alloca_once(builder, ir.ArrayType(i64, 2))
        fn_type = ir.FunctionType(i32, [i32, time.type])
        fn = cgutils.get_or_insert_function(builder.module, fn_type, "clock_gettime")
        builder.call(fn, [ir.Constant(i32, 1), time])
        seconds, rest = (builder.extract_value(builder.load(time), i) for i in range(2))
        return builder.add(builder.mul(seconds, ir.Constant(i64, 1_000_000_000)), rest)

    return types.int64(), code


@njit
def sleep(word: int, seen: int, bits: int) -> None:
    """Sleep until woken under one of the bits, or for no reason; not if the word is not `seen`."""
    syscall(_FUTEX, word, _WAIT_BITSET, seen, 0, 0, bits)


@njit
def wake(word: int, bits: int) -> None:
    """Wake those who sleep on a word under one of the bits."""
    syscall(_FUTEX, word, _WAKE_BITSET, _EVERYBODY, 0, 0, bits)
