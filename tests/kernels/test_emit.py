"""Kernels become objects that need nothing, and compute the same on lesser processors."""

import ctypes
import hashlib
import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from fusec.ir.errors import KernelError
from fusec.kernels.codegen.assemble import image_of
from fusec.kernels.codegen.elf import Elf
from fusec.kernels.codegen.emit import KernelSource, emit, emit_module
from fusec.kernels.codegen.link import Linker
from fusec.kernels.codegen.load import Loader
from fusec.kernels.codegen.memory import load_f32, store_f32, vload, vload_first, vstore
from fusec.kernels.codegen.target import processor
from fusec.kernels.codegen.vectors import fma, splat, sum_lanes, vfloor, vround, vsqrt


@numba.njit(error_model="numpy")
def _row(a, b, k):
    acc = splat(np.float32(0))
    for i in range(k):
        acc = fma(splat(load_f32(a + i * 4)), vload(b + i * 64), acc)
    return acc


def _product(a, b, c, m, k):
    for r in range(m):
        vstore(c + r * 64, _row(a + r * k * 4, b, k))


def _mixed(source, out, n):
    x = vload_first(source, n)
    vstore(out, vround(x * splat(np.float32(7))) + vfloor(x) / vsqrt(x * x + x))
    store_f32(out + 64, sum_lanes(x))


KERNELS = (
    KernelSource(name="test_product", function=_product, arguments=5),
    KernelSource(name="test_mixed", function=_mixed, arguments=3),
    KernelSource(name="test_double", function=lambda a: a * 2, arguments=1, gives=True),
)


def _call(linker, name, *arguments, gives=False):
    kinds = [ctypes.c_int64] * len(arguments)
    address = linker.address(f"fusec_{name}")
    return ctypes.CFUNCTYPE(ctypes.c_int64 if gives else None, *kinds)(address)(*arguments)


def _results(linker=None):
    if linker is None:
        linker = Loader()
        linker.add(image_of(emit(KERNELS)).to_bytes())
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal(s, dtype=np.float32) for s in ((5, 300), (300, 16)))
    product, mixed = np.zeros((5, 16), np.float32), np.zeros(17, np.float32)
    _call(linker, "test_product", a.ctypes.data, b.ctypes.data, product.ctypes.data, 5, 300)
    positive = np.abs(a)
    _call(linker, "test_mixed", positive.ctypes.data, mixed.ctypes.data, 13)
    return a, b, product, mixed, _call(linker, "test_double", 21, gives=True)


def test_one_object_has_all_kernels_and_they_compute():
    a, b, product, mixed, double = _results()
    np.testing.assert_allclose(product, a @ b, rtol=1e-4, atol=1e-4)
    assert double == 42
    np.testing.assert_allclose(mixed[16], np.abs(a[0, :13]).sum(), rtol=1e-6)


def test_llvm_links_the_same_object():
    linker = Linker()
    linker.add(emit(KERNELS))
    for ours, theirs in zip(_results(), _results(linker), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert linker.address("fusec_nothing") == 0


def test_object_needs_no_symbol_on_a_processor_with_fma():
    assert Elf(emit(KERNELS)).undefined() <= {"memcpy", "memset"}


def _raises(a):
    if a > 3:
        raise ValueError
    return a


def _allocates(n):
    return np.zeros(n)[0]


def _powers(a):
    return a**a


@pytest.mark.parametrize("function", [_raises, _allocates, _powers])
def test_a_kernel_with_needs_is_refused(function):
    with pytest.raises(KernelError):
        emit([KernelSource(name="bad", function=function, arguments=1, gives=True)])


def test_an_object_for_another_system_is_refused():
    with pytest.raises(KernelError, match="Linux"):
        Elf(b"\xcf\xfa\xed\xfe" + bytes(100))


def test_a_feature_switched_off_takes_along_what_builds_on_it(monkeypatch):
    monkeypatch.setenv("FUSEC_CPU_FEATURES", "-avx512f,-avx2")
    listing = emit_module(KERNELS).emit_assembly()
    assert "zmm" not in listing
    assert "+avx512f" not in processor().features


def _digest():
    _, _, product, mixed, _ = _results()
    return hashlib.sha256(product.tobytes() + mixed.tobytes()).hexdigest()


@pytest.mark.parametrize("features", ["-avx512f", "-avx512f,-avx2", "-avx512f,-avx2,-fma,-sse4.1"])
def test_lesser_processors_give_the_same_bits(features):
    environment = {**os.environ, "FUSEC_CPU_FEATURES": features}
    done = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == _digest(), done.stderr


if __name__ == "__main__":
    print(_digest())
