"""What is read of cubins, and that any bytes are either read or refused."""

import struct
from contextlib import suppress

import pytest
from fusec_testing.cubins import made_cubin
from hypothesis import given
from hypothesis import strategies as st

from fusec.ir.errors import ArtifactError
from fusec.kernels.cuda.cubin import Cubin, CubinKernel, read_cubin

WHOLE = made_cubin("gemm", arch=80, registers=77, stack_bytes=16, threads=256, parameters=(8, 4))


def test_a_cubin_says_what_it_takes() -> None:
    kernel = CubinKernel(
        symbol="gemm",
        registers=77,
        stack_bytes=16,
        static_shared_bytes=0,
        threads=256,
        parameter_bytes=(8, 4),
    )
    assert read_cubin(WHOLE) == Cubin(arch=80, kernels=(kernel,))
    assert read_cubin(memoryview(WHOLE)) == read_cubin(WHOLE)


@pytest.mark.parametrize("bad", [b"", b"\x7fELF", bytes(64), WHOLE[:63], WHOLE[1:], b"MZ" * 100])
def test_what_is_no_cubin_is_refused(bad: bytes) -> None:
    with pytest.raises(ArtifactError, match="device code is damaged"):
        read_cubin(bad)


def test_a_program_for_a_processor_is_refused() -> None:
    with pytest.raises(ArtifactError, match="no cubin"):
        read_cubin(WHOLE[:18] + struct.pack("<H", 62) + WHOLE[20:])


@given(st.integers(0, len(WHOLE)))
def test_a_cut_cubin_is_refused(end: int) -> None:
    if end < len(WHOLE):
        with pytest.raises(ArtifactError):
            read_cubin(WHOLE[:end])


@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=8)
)
def test_any_damage_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for at, value in changes:
        data[at] = value
    with suppress(ArtifactError):
        assert isinstance(read_cubin(bytes(data)), Cubin)


@given(st.binary(max_size=400))
def test_any_bytes_behind_a_true_start_are_read_or_refused(rest: bytes) -> None:
    with suppress(ArtifactError):
        read_cubin(WHOLE[:64] + rest)
