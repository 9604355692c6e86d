"""From a kernel with all its constants to what is compiled for a card.

From sm_90 on kernels wait for the one before themselves, so that launches may overlap: they have
one constant more, which is the card's and not the stage's.
"""

from fusec.ir.device import Constants, DeviceKernel, DroppedKernel
from fusec.kernels.cuda.cards import Card
from fusec.kernels.cuda.job import Job
from fusec.kernels.triton_table import ARGUMENTS, Special

__all__ = ["job_of", "key_of", "other_sums", "overlaps"]

_OVERLAP = "OVERLAP"
_FIRST_ARCH = 90


def job_of(special: Special, card: Card) -> Job:
    """Give what to compile.

    Args:
        special: a kernel with all its constants.
        card: to compile for.
    """
    kernel, config = special.kernel, special.config
    waits = card.arch >= _FIRST_ARCH
    return Job(
        name=kernel.function,
        module=kernel.module,
        function=kernel.function,
        signature=(*kernel.signature, (_OVERLAP, "constexpr")),
        constants=(*special.constants, (_OVERLAP, int(waits))),
        aligned=tuple(name for name, _ in ARGUMENTS),
        warps=config.warps,
        stages=config.stages,
        fp_fusion=kernel.fp_fusion,
        arch=card.arch,
    )


def key_of(kernel: DeviceKernel | DroppedKernel) -> tuple[str, Constants]:
    """Give what a compiled kernel is found by: function, and constants of a `Special`."""
    constants = kernel.constants
    if constants and constants[-1][0] == _OVERLAP:
        constants = constants[:-1]
    return kernel.name, constants


def overlaps(kernel: DeviceKernel) -> bool:
    """Tell whether a kernel waits for the one before itself."""
    return dict(kernel.constants).get(_OVERLAP) == 1


def other_sums(
    special: Special, kernel: DeviceKernel, firsts: dict[tuple[str, Constants], str]
) -> str | None:
    """Say why a configuration's bytes would not be those of the first that is kept; None if so.

    Args:
        special: the configuration.
        kernel: the same, compiled.
        firsts: matrix instructions of the first of each kernel; filled as they come.
    """
    fixed = tuple((n, v) for n, v in special.constants if n not in ("BLOCK_M", "BLOCK_N"))
    first = firsts.setdefault((kernel.name, fixed), kernel.mma)
    if kernel.mma == first:
        return None
    return f"multiplies by {kernel.mma or 'no matrices'}, the preferred one by {first or 'none'}"
