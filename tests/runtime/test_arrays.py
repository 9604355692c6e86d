"""Arrays at the border: what is taken, in which memory, and what comes back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusec.ir.errors import ConfigError
from fusec.runtime.arrays import (
    array_of,
    dtype_of,
    is_tensor,
    read_value,
    tensor_of_array,
    widened,
)


@pytest.mark.parametrize(
    ("value", "dtype", "wanted"),
    [
        (3, "int64", np.array(3)),
        ([1, 2], "float32", np.array([1, 2], np.float32)),
        (True, "bool", np.array(True)),
        (np.float64(0.5), "float32", np.array(0.5, np.float32)),
        ([[1.9, -1.9]], "int32", np.array([[1, -1]], np.int32)),
        (1e300, "float32", np.array(np.inf, np.float32)),
    ],
)
def test_numbers_become_arrays_of_the_models_dtype(
    value: object, dtype: str, wanted: np.ndarray
) -> None:
    got = read_value("x", value, dtype)
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "x is a str; give a NumPy array"),
        (["text"], "x cannot be read as float32"),
        ([[1], [1, 2]], "x cannot be read as float32"),
        ([None], "x cannot be read as float32"),
        (np.array([None]), "x has dtype object"),
        (np.array(["2020"], "M8[Y]"), "x has dtype datetime64"),
        (np.zeros(1, [("a", np.float32)]), "x has dtype"),
        (torch.zeros(1, device="meta"), "x is a meta tensor"),
        (None, "x is a NoneType"),
    ],
)
def test_what_holds_no_numbers_is_refused(value: object, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        read_value("x", value, "float32")


def test_numbers_beyond_an_integers_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be read as uint8"):
        read_value("x", 300, "uint8")


def test_dtypes_have_one_name() -> None:
    assert not is_tensor(np.zeros(1))
    assert is_tensor(torch.zeros(1))
    for dtype in ("float32", "int64", "bool", "complex64", "uint8", "float16"):
        assert dtype_of(np.zeros(1, dtype)) == dtype_of(torch.zeros(1).to(getattr(torch, dtype)))
    assert dtype_of(np.zeros(1, ">f4")) == "float32"
    assert dtype_of(torch.zeros(1, dtype=torch.bfloat16)) == "bfloat16"


def test_memory_is_the_callers_where_it_can_be() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert array_of(x) is x
    tensor = torch.arange(6.0).reshape(2, 3).requires_grad_()
    assert array_of(tensor).ctypes.data == tensor.data_ptr()
    for odd in (x.T, x[:, ::-1], x.astype(">f4"), np.asfortranarray(x), tensor.T):
        got = array_of(odd)
        assert got.flags.c_contiguous and got.flags.aligned and got.dtype.isnative
        np.testing.assert_array_equal(got, np.asarray(odd.detach() if is_tensor(odd) else odd))
    complex_ = torch.tensor([1 + 2j]).conj()
    assert array_of(complex_)[0] == 1 - 2j
    assert type(array_of(x.view(np.matrix))) is np.ndarray


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_dtypes_that_numpy_lacks(dtype: str) -> None:
    values = torch.tensor([0.0, -1.5, 240.0, 0.015625]).to(getattr(torch, dtype))
    bits = array_of(values)
    assert bits.dtype.kind == "u"
    assert torch.equal(tensor_of_array(bits, dtype).float(), values.float())
    wide = widened(bits, dtype)
    assert wide.dtype == np.float32
    assert wide.tolist() == values.float().tolist()
    same = np.ones(1)
    assert widened(same, "float64") is same
