"""Extern stages: what PyTorch gives is what arrives in the views, bit for bit, on one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import as_strided

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.errors import KernelError, UnsupportedError
from fusec.ir.extents import of
from fusec.ir.stage import ExternCall, Operand, View, dense
from fusec.ir.template import Arg, Body, DType, Ref, Row, Spec, TensorSpec
from fusec.kernels.memory import Memory
from fusec.runtime.arrays import array_of, tensor_of_array
from fusec.runtime.extern import run_extern

SYMBOLS = {"s0": 5}


def _run(
    op: str,
    args: tuple[Arg, ...],
    operands: dict[int, Operand],
    buffers: list[np.ndarray],
    writes: list[View],
    *,
    out: Spec = "none",
    kwargs: tuple[tuple[str, Arg], ...] = (),
) -> None:
    row = Row(op=op, args=args, kwargs=kwargs, out=out)
    call = ExternCall(row=row, operands=tuple(operands.items()))
    run_extern(call, Memory(buffers, SYMBOLS).array, writes, SYMBOLS)


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(int(np.prod(shape)), np.float32)


def test_strided_windows_in_and_out(rng: np.random.Generator) -> None:
    """Operands and results may be any windows; symbols are bound."""
    memory = rng.standard_normal(64).astype(np.float32)
    view = View(0, "float32", (of("s0"), 3), (1, 5), 2)
    target = View(1, "float32", (of("s0"), 3), (7, 2), 1)
    buffers = [memory, _zeros(40), np.zeros(15, np.int64)]
    _run("aten.sort.default", (Ref(4), 0), {4: view}, buffers, [target, dense(2, "int64", (5, 3))])
    window = as_strided(memory[2:], (5, 3), (4, 20))
    values, order = torch.sort(torch.from_numpy(window.copy()), 0)
    assert np.array_equal(as_strided(buffers[1][1:], (5, 3), (28, 8)), values.numpy())
    assert np.array_equal(buffers[2].reshape(5, 3), order.numpy())
    assert buffers[1][0] == buffers[1][2] == 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "int8", "bool", "complex64"])
def test_every_dtype_arrives(dtype: str) -> None:
    given = torch.tensor([3, 0, 2, 1]).to(getattr(torch, dtype))
    memory = array_of(given).copy()
    assert memory.dtype == numpy_dtype(dtype)
    buffers = [memory, np.zeros_like(memory)]
    view = dense(0, dtype, (4,))
    _run("aten.flip.default", (Ref(0), (0,)), {0: view}, buffers, [dense(1, dtype, (4,))])
    assert torch.equal(tensor_of_array(buffers[1], dtype), given.flip(0))


def test_host_numbers_lists_and_dtypes() -> None:
    """An extent, a tuple of views, an attribute that is a dtype, and keyword operands."""
    buffers = [np.arange(6, dtype=np.float32), np.ones(2, np.float32), np.zeros(13)]
    parts = (dense(0, "float32", (of("s0 + 1"),)), dense(1, "float32", (2,)))
    joined = np.zeros(8, np.float32)
    _run("aten.cat.default", (Ref(9),), {9: parts}, [*buffers, joined], [dense(3, "float32", (8,))])
    assert joined.tolist() == [0, 1, 2, 3, 4, 5, 1, 1]
    args: tuple[Arg, ...] = ((Ref(2),), 7.0)
    kwargs = (("dtype", DType("float64")),)
    _run("aten.full.default", args, {2: of("2*s0 + 3")}, buffers, [dense(2, "float64", (13,))],
         kwargs=kwargs)  # fmt: skip
    assert buffers[2].tolist() == [7.0] * 13


def _branches() -> tuple[Body, Body]:
    spec = TensorSpec("float32", (3,))
    return tuple(  # type: ignore[return-value]
        Body(
            arguments=(spec,),
            rows=(Row(op=f"aten.{op}.default", args=(Ref(0),), kwargs=(), out=spec),),
            results=(Ref(1),),
        )
        for op in ("neg", "exp")
    )


@pytest.mark.parametrize("value", [True, False])
def test_bodies_as_operands(value: bool) -> None:
    x = np.array([1.0, 2.0, 3.0], np.float32)
    out = np.zeros(3, np.float32)
    buffers = [np.array([value]), x, out]
    operands: dict[int, Operand] = {0: dense(0, "bool", ()), 1: dense(1, "float32", (3,))}
    args: tuple[Arg, ...] = (Ref(0), *_branches(), (Ref(1),))
    _run("cond", args, operands, buffers, [dense(2, "float32", (3,))])
    wanted = -torch.from_numpy(x) if value else torch.from_numpy(x).exp()
    assert np.array_equal(out, wanted.numpy())


def test_bits_do_not_depend_on_where_operands_lie(rng: np.random.Generator) -> None:
    x = rng.standard_normal((7, 33)).astype(np.float32)
    answers = set()
    for shift in range(5):
        for stride in (33, 40):
            memory = np.zeros(7 * 40 + 8, np.float32)
            as_strided(memory[shift:], (7, 33), (4 * stride, 4))[...] = x
            out = np.zeros(7, np.float32)
            view = View(0, "float32", (7, 33), (stride, 1), shift)
            _run("aten.logsumexp.default", (Ref(0), (1,)), {0: view}, [memory, out],
                 [dense(1, "float32", (7,))])  # fmt: skip
            answers.add(out.tobytes())
    assert len(answers) == 1


def test_one_thread_inside_and_as_before_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(row: Row, values: Any) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return torch.zeros(1)

    monkeypatch.setattr("fusec.kernels.interpret.run_row", spy)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        _run("aten.relu.default", (), {}, [_zeros(1)], [dense(0, "float32", (1,))])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1]


def test_what_goes_wrong_is_said() -> None:
    index = np.array([9])
    buffers = [np.zeros(8, np.float32), index, np.zeros(2, np.float32)]
    operands: dict[int, Operand] = {
        0: dense(0, "float32", (4, 2)),
        1: dense(1, "int64", (1,)),
    }
    out = dense(2, "float32", (1, 2))
    lookup: Callable[..., None] = lambda op, view: _run(  # noqa: E731
        op, (Ref(0), 0, Ref(1)), operands, buffers, [view]
    )
    with pytest.raises(KernelError, match=r"out of range.* \(in aten.index_select.default\)"):
        lookup("aten.index_select.default", out)
    index[0] = 1
    lookup("aten.index_select.default", out)
    with pytest.raises(KernelError, match=r"gave float32\[1, 2\], wanted float32\[2, 1\]"):
        lookup("aten.index_select.default", dense(2, "float32", (2, 1)))
    with pytest.raises(UnsupportedError, match="nothing"):
        lookup("aten.nothing.default", out)
