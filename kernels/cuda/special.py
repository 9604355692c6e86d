"""From a kernel with all its constants to what is compiled for a card."""

from fusec.kernels.cuda.cards import Card
from fusec.kernels.cuda.job import Job
from fusec.kernels.triton_table import ARGUMENTS, Special

__all__ = ["job_of"]


def job_of(special: Special, card: Card) -> Job:
    """Give what to compile.

    Args:
        special: a kernel with all its constants.
        card: to compile for.
    """
    kernel, config = special.kernel, special.config
    return Job(
        name=kernel.function,
        module=kernel.module,
        function=kernel.function,
        signature=kernel.signature,
        constants=special.constants,
        aligned=tuple(name for name, _ in ARGUMENTS),
        warps=config.warps,
        stages=config.stages,
        fp_fusion=kernel.fp_fusion,
        arch=card.arch,
    )
