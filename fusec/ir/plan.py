"""Plan data: templates, forms, members and weights, as the plan file holds them.

member "hey_jarvis" -> form (recipe of its exporter's spelling) -> template (shared by the group)
                    -> packed weights by content hash           -> blob (stored once)
"""

import hashlib
from collections.abc import Mapping
from enum import StrEnum

import numpy as np

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.errors import VerifyError
from fusec.ir.frozen import dataclass
from fusec.ir.stage import Layout, LayoutKind, plain_layout
from fusec.ir.template import Recipe, Template, TensorSpec

__all__ = [
    "Blob",
    "Executor",
    "Form",
    "Member",
    "PlanData",
    "Reason",
    "Refusal",
    "Structure",
    "Variant",
    "WeightStorage",
    "blob_hash",
    "plain_blob",
]


class Executor(StrEnum):
    """How a plan runs."""

    CPU = "cpu"
    """Native code: bytes never depend on company."""

    ISOLATED = "isolated"
    """PyTorch, one batch-1 call per instance: bytes never depend on company."""

    MERGED = "merged"
    """PyTorch, members of a group in one merged program: faster for small models, other bits."""

    CUDA = "cuda"
    """Kernels on an NVIDIA card: bytes never depend on company."""

    @property
    def packs(self) -> bool:
        """Whether weights are packed for kernels."""
        return self in (Executor.CPU, Executor.CUDA)


class WeightStorage(StrEnum):
    """In what the native executor stores packed weights, if not as the models have them."""

    BFLOAT16 = "bfloat16"
    """Float32 weights rounded to nearest even, sums stay float32: half the memory and traffic."""


class Reason(StrEnum):
    """Why two near-twins are not one group: what differs first."""

    OPERATOR = "operator"
    ATTRIBUTE = "attribute"
    DTYPE = "dtype"
    INPUT_SHAPE = "input shape"
    WEIGHT_SHAPE = "weight shape"
    SHAPE = "shape"
    WIRING = "wiring"
    TIED_WEIGHTS = "tied weights"
    OUTPUTS = "outputs"
    BATCH = "batch axes"
    SYMBOLS = "symbols"
    BOUND = "bound inputs"
    LENGTH = "number of operators"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Two near-twins that were not grouped, and the two values that differ."""

    reason: Reason
    first: str
    """A member of the first group."""
    second: str
    """A member of the second group."""
    where: str
    """Operator and attribute, such as "conv2d #3, stride"."""
    first_value: str
    second_value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One spelling of a template: how the raw weights of such a source become packed weights."""

    template: str
    """Key of the template."""
    recipe: Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A form with a member's packed weights; extents of 1 have variants of their own."""

    form: str
    weights: tuple[str, ...]
    """Hashes of the packed weights, in the template's order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One model of a plan."""

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    variants: tuple[Variant, ...]
    """The general one first."""
    weight_names: tuple[str, ...]
    """This member's own raw weight names, one per name of its first form's recipe."""
    notes: tuple[str, ...]
    """What a person should know: how the batch axis was found, fallbacks, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """Where a raw structure leads: a file that has it gives up its weights, nothing is traced."""

    forms: tuple[str, ...]
    """Keys of the forms that such a file becomes, the general one first."""
    notes: tuple[str, ...]
    """The notes that its members carry."""


@dataclass(frozen=True, slots=True, eq=False)
class Blob:
    """A weight's bytes, little-endian, with what they mean."""

    spec: TensorSpec
    """Of the weight itself, however it is packed."""
    data: memoryview
    """Flat bytes in the order of the layout; possibly a read-only mapping of the plan file."""
    layout: Layout

    def array(self) -> np.ndarray:
        """View a plain blob as an array.

        Dtypes NumPy lacks come as unsigned integers of the same width.

        Raises:
            VerifyError: the blob is packed.
        """
        if self.layout.kind is not LayoutKind.PLAIN:
            raise VerifyError(f"a weight in {self.layout.kind} is no plain array")
        shape = tuple(int(d) for d in self.spec.shape)
        return np.frombuffer(self.data, dtype=numpy_dtype(self.spec.dtype)).reshape(shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanData:
    """All of a plan, as immutable data; editing a plan makes a new one that shares the rest."""

    templates: Mapping[str, Template]
    """By key."""
    forms: Mapping[str, Form]
    """By hash of the form."""
    structures: Mapping[str, Structure]
    """By hash of the raw structure; only those whose forms are all in the plan."""
    members: Mapping[str, Member]
    """By the name the user gave."""
    weights: Mapping[str, Blob]
    """By content hash."""
    executor: Executor
    threads: int | None
    weight_storage: WeightStorage | None = None
    """Asked for when the plan was compiled; members that join later are stored so, too."""


def plain_blob(spec: TensorSpec, data: memoryview) -> Blob:
    """Make a blob of a C-contiguous array's bytes."""
    return Blob(spec, data, plain_layout([int(d) for d in spec.shape]))


def blob_hash(spec: TensorSpec, data: memoryview | bytes, layout: Layout | None = None) -> str:
    """Hash a weight's content: dtype, shape, layout and bytes; SHA-256.

    Args:
        spec: of the weight itself.
        data: bytes in the order of the layout.
        layout: `None` for a plain one.

    Cost: 1.8 GB/s where the processor has SHA instructions (three times BLAKE2b), 0.5 elsewhere.
    """
    digest = hashlib.sha256(f"{spec.dtype}{spec.shape}".encode())
    if layout is not None and layout.kind is not LayoutKind.PLAIN:
        own = (layout.split, layout.order, layout.groups, layout.k, layout.n, layout.nr)
        digest.update(f"{layout.kind}{own}{layout.stored or ''}".encode())
    digest.update(data)
    return digest.hexdigest()
