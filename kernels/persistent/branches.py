"""Branches of a super-kernel: which tiles it can run, and in which configuration.

All branches of a kernel share its warps, and how lanes join decides the order of sums, so only
configurations of 4 warps are taken: every kernel has one, and bytes are those of the launches.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from fusec.ir.device import Constants, DeviceKernel
from fusec.ir.errors import ArtifactError
from fusec.ir.frozen import dataclass
from fusec.kernels.cuda.job import Job
from fusec.kernels.grouped.stage import Grouped
from fusec.kernels.triton_table import KERNELS, Special, specials

__all__ = ["ARGUMENTS", "NAME", "WARPS", "Branches", "branch_of", "branches_in"]

ARGUMENTS: tuple[tuple[str, str], ...] = (
    ("table", "*i64"),
    ("tiles", "*i32"),
    ("tasks", "*i32"),
    ("waits", "*i32"),
    ("counters", "*i64"),
    ("state", "*i64"),
    ("status", "*i32"),
    ("retreat", "*i32"),
)
"""What a launch passes; all are multiples of 16."""

NAME = "persistent"
"""Of the kernel, in plans."""

WARPS = 4

_MODULE = "fusec.kernels.persistent.triton"
_CONSTANT = "BRANCHES"
_MOST_STAGES = 3
"""The kernel has the shared memory of its greediest branch all the time."""

_FUNCTIONS = {kernel.function: kernel for kernel in KERNELS.values()}


def branch_of(
    stage: Grouped,
    arch: int,
    modes: Constants = (),
    *,
    allowed: Callable[[Special], bool] | None = None,
) -> Special | None:
    """Choose how a stage's tiles are run; None if it cannot be.

    Few rows take the configuration with the least rows that has room for them, so that a tile does
    not work on nothing; others take the preferred one.

    Args:
        stage: spelled.
        arch: such as 90.
        modes: in place of the usual ones.
        allowed: which configurations there are; all by default.
    """
    found = [
        special
        for special in specials(stage, arch, modes)
        if special.config.warps == WARPS and (allowed is None or allowed(special))
    ]
    if isinstance(stage.rows, int):
        for special in sorted(found, key=_rows):
            if _rows(special) >= stage.rows:
                return special
    return found[0] if found else None


def _rows(special: Special) -> int:
    return dict(special.config.blocks).get("BLOCK_M", 1)


@dataclass(frozen=True, kw_only=True)
class Branches:
    """What one super-kernel can run."""

    keys: tuple[tuple[str, Constants], ...]
    """Function and constants of each, in order."""
    stages: int = _MOST_STAGES
    """Loads in flight, of all loops that multiply."""

    @classmethod
    def of(cls, wanted: Iterable[Special]) -> "Branches":
        """Give the branches that programs with these tiles need, in an order that all agree on."""
        found = list(wanted)
        keys = {(special.kernel.function, special.constants) for special in found}
        stages = max((special.config.stages for special in found), default=1)
        return cls(keys=tuple(sorted(keys, key=repr)), stages=min(_MOST_STAGES, stages))

    @cached_property
    def _numbers(self) -> Mapping[tuple[str, Constants], int]:
        return {key: number for number, key in enumerate(self.keys)}

    def number(self, special: Special) -> int | None:
        """Give a branch's number, as tasks have it; None if the kernel has not this branch."""
        return self._numbers.get((special.kernel.function, special.constants))

    @property
    def text(self) -> str:
        """What the kernel is compiled for."""
        return json.dumps([[name, [value for _, value in given]] for name, given in self.keys])

    def job(self, arch: int) -> Job:
        """Give what to compile.

        Args:
            arch: such as 90.
        """
        return Job(
            name=NAME,
            module=_MODULE,
            function=NAME,
            signature=(*ARGUMENTS, (_CONSTANT, "constexpr")),
            constants=((_CONSTANT, self.text),),
            aligned=tuple(name for name, _ in ARGUMENTS),
            warps=WARPS,
            stages=self.stages,
            arch=arch,
        )


def branches_in(kernel: DeviceKernel) -> Branches:
    """Read which branches a compiled super-kernel has.

    Raises:
        ArtifactError: the plan says something else of it.
    """
    try:
        keys = []
        for name, values in json.loads(str(dict(kernel.constants)[_CONSTANT])):
            parameters = _FUNCTIONS[name].parameters
            keys.append((name, tuple(zip(parameters, values, strict=True))))
        return Branches(keys=tuple(keys))
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"the super-kernel's branches cannot be read ({error}); compile the plan again"
        ) from error
