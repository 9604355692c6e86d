"""Image decoding and non-maximum suppression."""

import io
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

import fusec.kernels.suppress.op  # noqa: F401  (defines torch.ops.fusec.non_max_suppression)
from fusec.importers.onnx.call import Call
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Array, to_host

_MODES = {"RGB": "RGB", "BGR": "RGB", "Grayscale": "L"}


def _decode(call: Call, encoded: Array) -> Array:
    """Decode one image file held in a uint8 vector to [H, W, C]; needs Pillow."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        call.fail("decoding images needs Pillow; install it or decode before the model")
    pixel_format = str(call.attr("pixel_format", "RGB"))
    if pixel_format not in _MODES:
        call.fail(f"pixel_format is {pixel_format!r}, want one of {sorted(_MODES)}")
    try:
        with Image.open(io.BytesIO(to_host(encoded).tobytes())) as image:
            pixels = np.array(image.convert(_MODES[pixel_format]))
    except (UnidentifiedImageError, OSError) as error:
        call.fail(f"the bytes are no image that Pillow reads: {error}")
    if pixel_format == "Grayscale":
        return pixels[:, :, None]
    return np.ascontiguousarray(pixels[:, :, ::-1]) if pixel_format == "BGR" else pixels


def _non_max_suppression(
    call: Call,
    boxes: Tensor,
    scores: Tensor,
    most: Tensor | None = None,
    overlap: Tensor | None = None,
    least: Tensor | None = None,
) -> Tensor:
    result: Tensor = torch.ops.fusec.non_max_suppression(
        boxes,
        scores,
        None if most is None else most.reshape(()),
        None if overlap is None else overlap.reshape(()),
        None if least is None else least.reshape(()),
        center_point_box=bool(call.attr("center_point_box", 0)),
    )
    return result


OPS: Mapping[str, Op] = {
    "ImageDecoder": Op(run=_decode, host=frozenset({0})),
    "NonMaxSuppression": Op(run=_non_max_suppression),
}
