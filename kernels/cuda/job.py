"""What there is to compile: a kernel's function, its types and constants, and how."""

import json
from dataclasses import fields

from fusec.ir.device import Constants
from fusec.ir.frozen import dataclass

__all__ = ["Job"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One kernel in one configuration, for one target."""

    name: str
    module: str
    """Full name of the module that defines it, such as `fusec.kernels.gemm.triton`."""
    function: str
    signature: tuple[tuple[str, str], ...]
    """Parameter -> type, in order: "*fp32", "i32", ...; "constexpr" for those in `constants`."""
    constants: Constants
    aligned: tuple[str, ...] = ()
    """Parameters that are multiples of 16, addresses or numbers."""
    warps: int = 4
    stages: int = 1
    fp_fusion: bool = False
    """Whether the compiler may join products and sums; where a kernel says so, it does anyway."""
    arch: int

    @property
    def parameters(self) -> tuple[str, ...]:
        """Types of what a launch passes, addresses as "*"."""
        passed = (kind for _, kind in self.signature if kind != "constexpr")
        return tuple("*" if kind.startswith("*") else kind for kind in passed)

    def to_json(self) -> str:
        """Give the job as text; equal jobs give equal text."""
        return json.dumps({field.name: getattr(self, field.name) for field in fields(self)})
