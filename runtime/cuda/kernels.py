"""A plan's kernels on a card: from the code that the plan carries, else compiled here."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from fusec.ir.device import Constants, DeviceCode, DeviceKernel, DroppedKernel
from fusec.ir.errors import UnsupportedError
from fusec.ir.frozen import dataclass
from fusec.kernels.configs import ARCHITECTURES
from fusec.kernels.cuda.cards import Card, blocks_per_multiprocessor, card_of, why_not
from fusec.kernels.cuda.compile import Made, compile_jobs
from fusec.kernels.cuda.job import Job
from fusec.kernels.cuda.special import job_of, key_of, other_sums, overlaps
from fusec.kernels.triton_table import Special
from fusec.runtime.cuda.context import Context
from fusec.runtime.cuda.module import Function, Module, load_kernels

__all__ = ["Build", "KernelStore", "Ready", "arch_of"]

Build: TypeAlias = Callable[[Sequence[Job]], Sequence["Made | DroppedKernel"]]
"""Compiles jobs, in order."""

_Key = tuple[str, Constants]


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """A kernel that can be launched."""

    function: Function
    blocks_per_multiprocessor: int
    """Resident at once."""

    @property
    def overlaps(self) -> bool:
        """Whether it may start before the one ahead has ended: it waits itself."""
        return overlaps(self.function.kernel)


def arch_of(capability: tuple[int, int], targets: Iterable[str]) -> int:
    """Give the architecture to run: one that the plan has code for, else the card's own.

    Code runs on later cards of its generation, so that of the latest one counts.

    Args:
        capability: of the card, such as (9, 0).
        targets: that the plan has code for.

    Raises:
        UnsupportedError: there are no kernels for such a card.
    """
    major, minor = capability
    fitting = [n for n in ARCHITECTURES if n // 10 == major and n % 10 <= minor]
    if not fitting:
        known = ", ".join(f"sm_{n}" for n in ARCHITECTURES)
        raise UnsupportedError(
            f"the card is sm_{major}{minor}; there are kernels for {known} and later cards of "
            "their generations; run the plan on the CPU"
        )
    have = [n for n in fitting if f"cuda:sm_{n}" in set(targets)]
    return max(have or fitting)


class KernelStore:
    """Kernels by name and constants. Safe from many threads."""

    def __init__(
        self,
        context: Context,
        arch: int,
        codes: Callable[[], Sequence[DeviceCode]],
        build: Build = compile_jobs,
        compiled: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Load nothing yet.

        Args:
            context: of the card.
            arch: to run, see `arch_of`.
            codes: gives the plan's device code as it is by then.
            build: compiles what it lacks.
            compiled: told how many were.
        """
        self._context, self._codes, self._build, self._compiled = context, codes, build, compiled
        self.card: Card = card_of(f"cuda:sm_{arch}")
        self._ready: dict[_Key, Ready | str] = {}
        self._loaded: list[DeviceCode] = []
        self._modules: list[Module] = []
        self._lock = threading.Lock()

    def ready(self, wanted: Iterable[Sequence[Special]]) -> None:
        """Have kernels of stages ready, of each stage one configuration at least if there is one.

        Args:
            wanted: the configurations of each stage.

        Raises:
            UnsupportedError: a stage has no code and there is no compiler.
            ArtifactError: code is damaged. KernelError: the driver refuses it.
        """
        with self._lock:
            self._load()
            missing = [
                special
                for stage in wanted
                if not any(isinstance(self._ready.get(_key(s)), Ready) for s in stage)
                for special in stage
                if _key(special) not in self._ready
            ]
            if missing:
                self._make(list(dict.fromkeys(missing)))

    def of(self, special: Special) -> Ready | None:
        """Give a kernel; None if it is not ready or not to be used on this card."""
        found = self._ready.get(_key(special))
        return found if isinstance(found, Ready) else None

    def close(self) -> None:
        """Unload all code, when it is done."""
        for module in self._modules:
            module.close()
        self._modules.clear()
        self._ready.clear()
        self._loaded.clear()

    def _load(self) -> None:
        for code in self._codes():
            if code.target != self.card.target or any(code is one for one in self._loaded):
                continue
            for function in load_kernels(self._context, code).values():
                self._enter(key_of(function.kernel), function)
            for dropped in code.dropped:
                self._ready.setdefault(key_of(dropped), dropped.reason)
            self._loaded.append(code)

    def _make(self, missing: Sequence[Special]) -> None:
        try:
            results = self._build([job_of(special, self.card) for special in missing])
        except UnsupportedError as e:
            raise UnsupportedError(
                f"the plan has no code of {len(missing)} kernels for this card: run `fusec compile "
                f"--target {self.card.target}` on any machine, or install Triton here ({e})"
            ) from e
        made = 0
        firsts: dict[tuple[str, Constants], str] = {}
        for special, result in zip(missing, results, strict=True):
            reason = result.reason if isinstance(result, DroppedKernel) else None
            if isinstance(result, Made):
                made += 1
                reason = why_not(result.kernel, self.card) or other_sums(
                    special, result.kernel, firsts
                )
            if reason is None and isinstance(result, Made):
                self._enter(_key(special), self._function(result.kernel, result.code))
            else:
                self._ready[_key(special)] = reason or ""
        self._compiled(made)

    def _function(self, kernel: DeviceKernel, code: bytes) -> Function:
        module = Module(self._context, code)
        try:
            return module.function(kernel)
        except BaseException:
            module.close()
            raise

    def _enter(self, key: _Key, function: Function) -> None:
        self._ready[key] = Ready(function, blocks_per_multiprocessor(function.kernel, self.card))
        if not any(function.module is module for module in self._modules):
            self._modules.append(function.module)


def _key(special: Special) -> _Key:
    return special.kernel.function, special.constants
