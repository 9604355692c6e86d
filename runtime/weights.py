"""Weights in the plan: packed by their layouts, stored once by content; read back as arrays.

One copy of a weight is resident: packed for the native executor, plain otherwise. The other form is
made when somebody asks for it.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.errors import ConfigError
from fusec.ir.plan import Blob, PlanData, Variant, blob_hash
from fusec.ir.stage import Layout, LayoutKind, stored_dtype
from fusec.ir.template import Template, TensorSpec
from fusec.kernels.gemm.pack import pack, unpack
from fusec.runtime.arrays import array_of, dtype_of, tensor_of_array

if TYPE_CHECKING:
    import torch

__all__ = ["Pages", "blob_of", "check_finite", "plain_array", "repacked", "tensor_of"]

ALIGN_BYTES = 64
"""A line of the cache: panels are read line by line."""

_BLOCK_BYTES = 1 << 25
"""Freed at once, when the last weight in it is gone."""


def blob_of(tensor: "torch.Tensor", layout: Layout) -> tuple[str, Blob]:
    """Give a weight's content hash and a blob that owns its packed bytes.

    Cost: one copy and one hash of the bytes.
    """
    spec = TensorSpec(dtype_of(tensor), tuple(tensor.shape))
    return _blob(spec, array_of(tensor), layout)


def plain_array(blob: Blob) -> np.ndarray:
    """Give a weight as an array in its own shape; never write to it.

    Dtypes that NumPy lacks come as unsigned integers of the same width.

    Cost: nothing for a plain blob, a copy for a packed one.
    """
    dtype = stored_dtype(blob.layout, blob.spec.dtype)
    flat = np.frombuffer(blob.data, dtype=numpy_dtype(dtype))
    return unpack(blob.layout, [int(d) for d in blob.spec.shape], flat)


def tensor_of(blob: Blob) -> "torch.Tensor":
    """Give a weight as a tensor; never write to it.

    Cost: as `plain_array`; a read-only mapping of a plan file is viewed as it is.
    """
    array = plain_array(blob)
    tensor: torch.Tensor
    if array.flags.writeable:
        tensor = tensor_of_array(array, blob.spec.dtype)
        return tensor
    with warnings.catch_warnings():
        # torch has no read-only tensors and says so; the executors never write to weights.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensor = tensor_of_array(array, blob.spec.dtype)
    return tensor


def repacked(plan: PlanData, layouts: Callable[[Template], Sequence[Layout]]) -> PlanData:
    """Give a plan with every weight in the layout that its template wants.

    Args:
        plan: as it was read; what is in its layout already stays where it is.
        layouts: template -> layout of each of its weights.

    Cost: one copy and one hash of what has to move.
    """
    wanted = {key: layouts(template) for key, template in plan.templates.items()}
    variants_of = [v for member in plan.members.values() for v in member.variants]
    if all(
        _alike(plan.weights[key].layout, layout)
        for v in variants_of
        for key, layout in zip(v.weights, wanted[plan.forms[v.form].template], strict=True)
    ):
        return plan
    weights: dict[str, Blob] = {}
    moved: dict[tuple[str, Layout], str] = {}
    members = {}
    for name, member in plan.members.items():
        variants = []
        for variant in member.variants:
            keys = []
            own = wanted[plan.forms[variant.form].template]
            for key, layout in zip(variant.weights, own, strict=True):
                blob = plan.weights[key]
                if _alike(blob.layout, layout):
                    weights[key] = blob
                    keys.append(key)
                    continue
                found = moved.get((key, layout))
                if found is None:
                    found, made = _blob(blob.spec, plain_array(blob), layout)
                    weights.setdefault(found, made)
                    moved[key, layout] = found
                keys.append(found)
            variants.append(Variant(form=variant.form, weights=tuple(keys)))
        members[name] = replace(member, variants=tuple(variants))
    return replace(plan, members=members, weights=weights)


def _alike(have: Layout, want: Layout) -> bool:
    return have == want or have.kind is want.kind is LayoutKind.PLAIN


def _blob(spec: TensorSpec, array: np.ndarray, layout: Layout) -> tuple[str, Blob]:
    flat = _owned(pack(layout, array))
    data = flat.view(np.uint8).data if flat.size else memoryview(b"")
    return blob_hash(spec, data, layout), Blob(spec, data, layout)


def _owned(flat: np.ndarray) -> np.ndarray:
    """Copy to memory of its own that starts at a cache line."""
    memory = np.empty(flat.nbytes + ALIGN_BYTES, dtype=np.uint8)
    start = -memory.ctypes.data % ALIGN_BYTES
    own = memory[start : start + flat.nbytes].view(flat.dtype)
    own[...] = flat
    return own


class Pages:
    """Memory for weights that stay together: blocks so large that they lie in huge pages.

    Weights that were allocated one by one lie in small pages all over memory. Reading 24 MB of them
    once took 1.6 to 1.8 times as long: a page is looked up every 4 KB, and streams end there.
    """

    def __init__(self, n_bytes: int) -> None:
        """Take no memory yet.

        Args:
            n_bytes: of all that will be put there, about; blocks are no larger than that.
        """
        self._left = n_bytes
        self._block = np.empty(0, dtype=np.uint8)
        self._used = 0

    def put(self, blob: Blob) -> Blob:
        """Give a copy of a blob that lies behind the one before; a block lives with its last blob.

        Cost: one copy of the bytes.
        """
        size = blob.data.nbytes
        if not size:
            return blob
        if self._used + size > len(self._block):
            block = max(size, min(self._left, _BLOCK_BYTES)) + ALIGN_BYTES
            self._block = np.empty(block, dtype=np.uint8)  # NumPy asks for huge pages from 4 MB on
            self._used = -self._block.ctypes.data % ALIGN_BYTES
        own = self._block[self._used : self._used + size]
        own[...] = np.frombuffer(blob.data, dtype=np.uint8)
        self._used += -(-size // ALIGN_BYTES) * ALIGN_BYTES
        self._left -= size
        return replace(blob, data=own.data)


def check_finite(weights: "Mapping[str, torch.Tensor]") -> None:
    """Refuse weights that hold NaN; infinities are legal (masks), and so is a lone NaN (a filler).

    Raises:
        ConfigError: names the weight and the first position.
    """
    import torch

    for name, tensor in weights.items():
        if tensor.dim() and tensor.is_floating_point() and bool(torch.isnan(tensor.float()).any()):
            where = torch.isnan(tensor.float()).nonzero()[0].tolist()
            raise ConfigError(
                f"weight {name!r} holds NaN (first at {where}): the file is damaged or training "
                "diverged; export the model again"
            )
