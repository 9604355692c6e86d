"""From kernels written in restricted Python to object code: vectors, memory, atomics, emitting.

vectors    16 floats (or 8 doubles) as one value: + - * /, fma, compare, select
memory     loads and stores by address, masked tails, prefetch
atomics    counters with acquire and release, futex, calls by address
emit       a kernel -> relocatable object code without undefined symbols
"""
