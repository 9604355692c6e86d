"""Weights between torch and the plan: tensors in, blobs stored once by content, tensors out."""

import warnings
from collections.abc import Mapping

import torch

from fusec.ir.errors import ConfigError
from fusec.ir.plan import Blob, blob_hash
from fusec.ir.template import TensorSpec
from fusec.kernels.torch_graph import dtype_name, torch_dtype

__all__ = ["blob_of", "check_finite", "tensor_of"]


def blob_of(tensor: torch.Tensor) -> tuple[str, Blob]:
    """Give a tensor's content hash and a blob that owns a copy of its bytes.

    Cost: one copy and one hash of the bytes.
    """
    flat = tensor.detach().cpu().contiguous().reshape(-1).clone()
    data = flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
    spec = TensorSpec(dtype_name(tensor.dtype), tuple(tensor.shape))
    return blob_hash(spec, data), Blob(spec, data)


def tensor_of(blob: Blob) -> torch.Tensor:
    """View a blob as a tensor without copying; never write to it.

    A read-only mapping of a plan file is viewed as it is.
    """
    shape = tuple(int(d) for d in blob.spec.shape)
    dtype = torch_dtype(blob.spec.dtype)
    if not blob.data.nbytes:
        return torch.empty(shape, dtype=dtype)
    return _from_buffer(blob.data, dtype).reshape(shape)


def _from_buffer(data: memoryview, dtype: torch.dtype) -> torch.Tensor:
    if not data.readonly:
        return torch.frombuffer(data, dtype=dtype)
    with warnings.catch_warnings():
        # torch has no read-only tensors and says so; the executors never write to weights.
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(data, dtype=dtype)


def check_finite(weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse weights that hold NaN; infinities are legal (masks), and so is a lone NaN (a filler).

    Raises:
        ConfigError: names the weight and the first position.
    """
    for name, tensor in weights.items():
        if tensor.dim() and tensor.is_floating_point() and bool(torch.isnan(tensor.float()).any()):
            where = torch.isnan(tensor.float()).nonzero()[0].tolist()
            raise ConfigError(
                f"weight {name!r} holds NaN (first at {where}): the file is damaged or training "
                "diverged; export the model again"
            )
