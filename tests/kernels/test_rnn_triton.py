"""Recurrent layers in Triton's interpreter: every mode and attribute, lengths, company."""

from __future__ import annotations

import numpy as np
import pytest
from fusec_testing.fences import fenced
from fusec_testing.grouped import Instance, check_case, interpreter, run_grouped
from fusec_testing.kernel_case import KernelCase, strided

from fusec.ir.stage import Attr, Layout, LayoutKind, TileOp
from fusec.kernels.gemm.pack import pack
from fusec.kernels.rnn.gates import ACTIVATIONS, GATES, MODE_DEFAULTS

interpreter()

BLOCKS = {"BLOCK_M": 16, "BLOCK_N": 16, "BLOCK_K": 16}


def case_of(
    mode: str, steps: int, rows: int, hidden: int, *, bias: bool = True, peephole: bool = False,
    lengths: bool = False, gates: tuple[Attr, ...] = (), dtype: str = "float32",
    pad: int = 1, **attrs: Attr,
) -> KernelCase:  # fmt: skip
    rng = np.random.default_rng([steps, rows, hidden])
    columns = GATES[mode] * hidden

    def random(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(dtype)

    nr = 16
    layout = Layout(kind=LayoutKind.PANELS, order=(1, 0), groups=1, k=hidden, n=columns, nr=nr)
    r = pack(layout, random(columns, hidden, scale=hidden**-0.5))
    reads = [strided(random(steps, rows, columns), pad), r, strided(random(rows, hidden), pad)]
    weights = [1]
    if mode == "lstm":
        reads.append(random(rows, hidden))
    for given, array in ((bias, random(columns)), (peephole, random(3 * hidden))):
        if given:
            weights.append(len(reads))
            reads.append(array)
    if lengths:
        reads.append(rng.integers(0, steps + 1, rows))
    writes = [np.zeros((steps, rows, hidden), dtype)]
    writes += [np.zeros((rows, hidden), dtype) for _ in range(2 if mode == "lstm" else 1)]
    usual: dict[str, Attr] = {
        "mode": mode, "reverse": False, "clip": None, "reset_after": False, "input_forget": False,
        "bias": bias, "peephole": peephole, "lengths": lengths, "hidden": hidden, "nr": nr,
        "gates": gates or tuple((name, 0.0, 0.0) for name in MODE_DEFAULTS[mode]),
    }  # fmt: skip
    return KernelCase(TileOp.RNN, reads, writes, usual | attrs, weights=weights)


def check(*args: object, room: float = 2e-6, **attrs: object) -> None:
    for got, wanted in zip(*check_case(case_of(*args, **attrs), BLOCKS), strict=True):  # type: ignore[arg-type]
        np.testing.assert_allclose(got, wanted, rtol=room, atol=room)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("mode", list(GATES))
def test_modes(mode: str, lengths: bool, reverse: bool) -> None:
    check(mode, 3, 5, 19, lengths=lengths, reverse=reverse, bias=not lengths)


def test_two_blocks_of_rows() -> None:
    check("lstm", 2, 17, 5)


def test_gru_that_resets_after_the_product() -> None:
    check("gru", 3, 3, 18, reset_after=True)
    check("gru", 3, 3, 18, reset_after=True, lengths=True, reverse=True, clip=0.5)


def test_lstm_with_peepholes_coupled_gates_and_clip() -> None:
    check("lstm", 3, 3, 18, peephole=True, lengths=True)
    check("lstm", 3, 3, 18, peephole=True, input_forget=True, clip=0.5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    check("rnn", 2, 2, 7, gates=((name, 0.3, 0.4),))


def test_half_width() -> None:
    check("lstm", 3, 4, 17, dtype="float16", room=1e-2)


def test_no_steps_leave_the_state() -> None:
    check("lstm", 0, 3, 5)
    check("gru", 0, 3, 5)


def test_rows_of_instances_that_follow_run_as_one_batch() -> None:
    many, one = (case_of("gru", 1, rows, 18, pad=0) for rows in (6, 1))
    (wanted, _), _ = check_case(many, BLOCKS)
    memory = [fenced(flat) for flat in many.flats]
    for view in many.stage.writes:
        memory[view.slot][:] = np.nan
    run_grouped(one.stage, one.buffers, [Instance(memory, {}, 6)], BLOCKS)
    np.testing.assert_array_equal(memory[4].reshape(1, 6, 18), wanted)
