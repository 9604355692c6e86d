"""Native reading of NumPy arrays: addresses of what is as wanted, None for anything else."""

import pickle

import numpy as np
import pytest

from fusec.runtime.tile.arrays import ArrayReader, readable

F32 = np.dtype(np.float32)


def test_this_numpy_is_readable() -> None:
    assert readable()


def test_addresses_of_many() -> None:
    arrays = [np.zeros((1, i + 1), dtype=np.float32) for i in range(50)]
    reader = ArrayReader([F32] * 50, [a.shape for a in arrays])
    found = reader.addresses(arrays)
    assert found is not None
    assert found.tolist() == [a.ctypes.data for a in arrays]


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 4), dtype=np.float32),
        np.zeros((2, 3, 1), dtype=np.float32),
        np.zeros((2, 3), dtype=np.float64),
        np.zeros((2, 3), dtype=">f4"),
        np.zeros((3, 2), dtype=np.float32).T,
        np.zeros((2, 6), dtype=np.float32)[:, ::2],
        np.zeros(25, dtype=np.uint8)[1:].view(np.float32).reshape(2, 3),
        np.ma.masked_array(np.zeros((2, 3), dtype=np.float32)),
        [[0.0, 0.0, 0.0]] * 2,
        None,
    ],
    ids=[
        "extent",
        "rank",
        "dtype",
        "byte order",
        "order",
        "strides",
        "address",
        "kind",
        "list",
        "",
    ],
)
def test_what_is_not_as_wanted(wrong: object) -> None:
    right = np.zeros((2, 3), dtype=np.float32)
    reader = ArrayReader([F32, F32], [(2, 3), (2, 3)])
    assert reader.addresses([right, right]) is not None
    assert reader.addresses([right, wrong]) is None
    assert reader.addresses([right]) is None


def test_an_array_with_a_dtype_object_of_its_own() -> None:
    right = np.zeros((2, 3), dtype=np.float32)
    unpickled = pickle.loads(pickle.dumps(right))
    assert unpickled.dtype is not right.dtype
    assert ArrayReader([F32], [(2, 3)]).addresses([unpickled]) is not None


def test_empty_arrays_and_scalars() -> None:
    arrays = [np.zeros((0, 3), dtype=np.float32), np.zeros((), dtype=np.float32)]
    reader = ArrayReader([F32, F32], [(0, 3), ()])
    assert reader.addresses(arrays) is not None
