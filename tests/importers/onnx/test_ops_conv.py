"""Convolutions against ONNX Runtime: paddings, strides, groups, given output shapes."""

import itertools

import numpy as np
import pytest
from fusec_testing.onnx_agree import agree, floats
from fusec_testing.onnx_node import node_model, run_fusec

AUTO = ["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]


@pytest.mark.parametrize("auto_pad", AUTO)
@pytest.mark.parametrize(("size", "kernel", "stride"), [(7, 3, 2), (8, 4, 3), (5, 2, 1), (6, 5, 2)])
def test_conv_auto_pad(rng, auto_pad, size, kernel, stride):
    x, w, b = floats(rng, 2, 4, size, size + 1), floats(rng, 6, 2, kernel, kernel), floats(rng, 6)
    attributes = {"auto_pad": auto_pad, "strides": [stride, stride], "group": 2}
    agree("Conv", [x, w, b], opset=11, attributes=attributes, export=stride == 2)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_pads_alike_and_not(rng, rank):
    x, w = floats(rng, 1, 3, *[9, 8, 7][:rank]), floats(rng, 4, 3, *[3, 2, 3][:rank])
    for begin, end, dilation in itertools.product([0, 1], [1, 2], [1, 2]):
        attributes = {
            "pads": [begin] * rank + [end] * rank,
            "dilations": [dilation] * rank,
            "strides": [2, 1, 2][:rank],
        }
        agree("Conv", [x, w], attributes=attributes, export=rank == 2)


def test_conv_of_no_rows(rng):
    x, w = floats(rng, 0, 3, 5, 5), floats(rng, 4, 3, 3, 3)
    (y,) = run_fusec(node_model("Conv", [x, w]), [x, w])
    assert y.shape == (0, 4, 3, 3)


def test_conv_rank_beyond_three_names_the_node(rng):
    from fusec.ir.errors import ImportFailed

    x, w = floats(rng, 1, 1, 2, 2, 2, 2), floats(rng, 1, 1, 1, 1, 1, 1)
    with pytest.raises(ImportFailed, match=r"Conv.*4 spatial axes"):
        run_fusec(node_model("Conv", [x, w]), [x, w])


@pytest.mark.parametrize("auto_pad", AUTO)
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (4, 3), (3, 1)])
def test_conv_transpose_auto_pad(rng, auto_pad, kernel, stride):
    x, w, b = floats(rng, 2, 4, 5, 6), floats(rng, 4, 3, kernel, kernel), floats(rng, 6)
    attributes = {"auto_pad": auto_pad, "strides": [stride, stride], "group": 2}
    agree("ConvTranspose", [x, w, b], opset=11, attributes=attributes, export=kernel == 3)


@pytest.mark.parametrize("pads", [[0, 0], [1, 1], [1, 0], [0, 1], [2, 1], [1, 3]])
@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("dilation", [1, 2])
def test_conv_transpose_pads(rng, pads, extra, dilation):
    x, w, b = floats(rng, 1, 2, 6), floats(rng, 2, 3, 4), floats(rng, 3)
    attributes = {
        "pads": pads,
        "strides": [2],
        "output_padding": [extra],
        "dilations": [dilation],
    }
    agree("ConvTranspose", [x, w, b], attributes=attributes, export=extra == 1)


@pytest.mark.parametrize("auto_pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("shape", [[9, 10], [10, 11], [8, 9], [11, 12]])
def test_conv_transpose_output_shape(rng, auto_pad, shape):
    x, w, b = floats(rng, 1, 2, 5, 5), floats(rng, 2, 3, 3, 3), floats(rng, 3)
    attributes = {"strides": [2, 2], "output_shape": shape}
    if auto_pad != "NOTSET":
        attributes["auto_pad"] = auto_pad
    agree("ConvTranspose", [x, w, b], attributes=attributes)


def test_conv_keeps_nan_in_its_row(rng):
    x, w = floats(rng, 2, 2, 6), floats(rng, 3, 2, 3)
    x[0, 0, 0] = np.nan
    (y,) = run_fusec(node_model("Conv", [x, w]), [x, w])
    assert np.isnan(y[0, :, 0]).all() and np.isfinite(y[1]).all()
