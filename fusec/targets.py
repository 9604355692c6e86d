"""Plans on cards that need not be here: what their stages take, compiled, and what became of it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from fusec.ir.device import Constants, DeviceCode, DeviceKernel, DroppedKernel
from fusec.ir.errors import UnsupportedError
from fusec.ir.frozen import dataclass
from fusec.ir.plan import PlanData
from fusec.ir.stage import Lowered, TileOp
from fusec.kernels.cuda.cards import Card, blocks_per_multiprocessor, card_of, why_not
from fusec.kernels.cuda.compile import compile_jobs, compiler_name
from fusec.kernels.cuda.special import job_of, key_of, other_sums
from fusec.kernels.grouped.stage import Grouped
from fusec.kernels.persistent.branches import NAME, branches_in
from fusec.kernels.persistent.compile import super_kernels
from fusec.kernels.triton_table import Special, grouped, specials
from fusec.lowering import Stages

__all__ = [
    "Missing",
    "TargetInfo",
    "TargetKernel",
    "check_targets",
    "compile_for",
    "target_infos",
]

_STALE = "not compiled yet; compile for the card again"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetKernel:
    """One kernel in one configuration, and what it takes of the card."""

    name: str
    configuration: str
    """What may be chosen: sizes of blocks, warps."""
    constants: dict[str, int | str]
    """All that it is compiled for."""
    registers: int
    """Of a thread."""
    spill_bytes: int
    shared_bytes: int
    """Of a block."""
    stack_bytes: int
    warps: int
    blocks_per_multiprocessor: int
    """Resident at once."""
    code_bytes: int
    mma: str
    """Matrix instructions that it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Stages that have no kernel on the card."""

    operation: str
    stages: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetInfo:
    """What a plan is on a kind of card."""

    name: str
    compiler: str
    stages: int
    """That have a kernel."""
    kernels: tuple[TargetKernel, ...]
    """For one stage, the preferred configuration comes first."""
    dropped: tuple[DroppedKernel, ...]
    missing: tuple[Missing, ...]

    @property
    def stale(self) -> bool:
        """Whether stages came after it was compiled."""
        return any(m.reason == _STALE for m in self.missing)

    def summary(self) -> str:
        """Say it in a line."""
        absent = sum(m.stages for m in self.missing)
        rest = f"; {absent} stages have none" if absent else ""
        return (
            f"{self.name}: {len(self.kernels)} kernels for {self.stages} stages, "
            f"{len(self.dropped)} configurations dropped{rest}"
        )

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON data."""
        data = asdict(self)
        for shown, dropped in zip(data["dropped"], self.dropped, strict=True):
            shown["constants"] = dict(dropped.constants)
        return data

    def __str__(self) -> str:
        lines = [f"{self.summary()} ({self.compiler})"]
        lines += [
            f"  {k.name} {k.configuration}: {k.registers} registers, {k.shared_bytes} bytes "
            f"shared, {k.blocks_per_multiprocessor} resident"
            for k in self.kernels
        ]
        lines += [f"  dropped: {d.name} {_blocks(d.constants)}: {d.reason}" for d in self.dropped]
        lines += [
            f"  not there: {m.operation}, {m.stages} stages: {m.reason}" for m in self.missing
        ]
        return "\n".join(lines)


def check_targets(targets: Sequence[str]) -> None:
    """Check that kernels for these targets can be compiled here.

    Raises:
        ConfigError: no such target.
        UnsupportedError: there is no compiler here.
    """
    for target in targets:
        card_of(target)
    if targets:
        compiler_name()


def compile_for(
    target: str,
    plan: PlanData,
    stages: Stages,
    progress: Callable[[str, int, int], None] | None = None,
) -> DeviceCode:
    """Compile all that stages take on a card; no card and no driver are needed.

    Configurations that do not compile, do not fit the card, spill, or would add up in another order
    are dropped, with the reason.

    Args:
        target: such as "cuda:sm_90".
        plan: the plan.
        stages: what its templates are lowered to.
        progress: told a kernel's name, how many are compiled by then, and how many are to be.

    Raises:
        ConfigError: no such target.
        UnsupportedError: there is no compiler here.
        KernelError: compiling processes do not start.
    """
    card = card_of(target)
    wanted = list(dict.fromkeys(s for _, found in _stages(plan, stages, card) for s in found))
    tell = progress or (lambda name, done, total: None)
    results = compile_jobs(
        [job_of(special, card) for special in wanted],
        lambda job, done, total: tell(job.name, done, total),
    )
    kernels: list[DeviceKernel] = []
    dropped: list[DroppedKernel] = []
    codes: dict[str, bytes] = {}
    firsts: dict[tuple[str, Constants], str] = {}
    for special, result in zip(wanted, results, strict=True):
        if isinstance(result, DroppedKernel):
            dropped.append(result)
            continue
        kernel = result.kernel
        reason = why_not(kernel, card) or other_sums(special, kernel, firsts)
        if reason is None:
            kernels.append(kernel)
            codes[kernel.code] = result.code
        else:
            gone = DroppedKernel(name=kernel.name, constants=kernel.constants, reason=reason)
            dropped.append(gone)
    together, why = super_kernels(list(_whole(plan, stages)), {key_of(k): k for k in kernels}, card)
    kernels += [made.kernel for made in together]
    codes |= {made.kernel.code: made.code for made in together}
    dropped += why
    return DeviceCode(
        target=card.target,
        compiler=compiler_name(),
        kernels=tuple(kernels),
        dropped=tuple(dropped),
        codes=codes,
    )


def target_infos(
    device: Iterable[DeviceCode], plan: PlanData, stages: Stages
) -> dict[str, TargetInfo]:
    """Say what was compiled for cards, and which stages have no kernel there, by target.

    Args:
        device: code of each.
        plan: the plan; it may have more templates by now than the code was made for.
        stages: what its templates are lowered to.
    """
    return {code.target: _info(code, plan, stages) for code in device}


def _info(code: DeviceCode, plan: PlanData, stages: Stages) -> TargetInfo:
    card = card_of(code.target)
    have = set(map(key_of, code.kernels))
    reasons = {key_of(d): d.reason for d in code.dropped}
    served = 0
    missing: Counter[tuple[str, str]] = Counter()
    for op, found in _stages(plan, stages, card):
        keys = [(_name(special), special.constants) for special in found]
        if any(key in have for key in keys):
            served += 1
        elif op is TileOp.EXTERN:
            missing[str(op), "PyTorch runs it"] += 1
        elif not keys:
            missing[str(op), "it has no kernel for cards"] += 1
        elif all(key in reasons for key in keys):
            missing[str(op), reasons[keys[0]]] += 1
        else:
            missing[str(op), _STALE] += 1
    return TargetInfo(
        name=code.target,
        compiler=code.compiler,
        stages=served,
        kernels=tuple(_described(k, card, len(code.codes[k.code])) for k in code.kernels),
        dropped=code.dropped,
        missing=tuple(
            Missing(operation=op, stages=count, reason=reason)
            for (op, reason), count in missing.most_common()
        ),
    )


def _whole(plan: PlanData, stages: Stages) -> Iterator[list[Grouped]]:
    """Yield the spelled stages of each template that has a kernel for all of them."""
    for template in filter(stages.has, plan.templates.values()):
        found = [spelled for _, spelled in _spelled(stages.of(template))]
        known = [spelled for spelled in found if spelled is not None]
        if len(known) == len(found):
            yield known


def _stages(
    plan: PlanData, stages: Stages, card: Card
) -> Iterator[tuple[TileOp, Sequence[Special]]]:
    """Yield each stage's operation and what there is to compile for it."""
    for template in filter(stages.has, plan.templates.values()):
        for op, spelled in _spelled(stages.of(template)):
            yield op, () if spelled is None else specials(spelled, card.arch)


def _spelled(lowered: Lowered) -> Iterator[tuple[TileOp, Grouped | None]]:
    for stage in lowered.stages:
        try:
            yield stage.op, grouped(stage, lowered.buffers)
        except UnsupportedError:
            yield stage.op, None


def _name(special: Special) -> str:
    return special.kernel.function


def _described(kernel: DeviceKernel, card: Card, code_bytes: int) -> TargetKernel:
    warps = f"{kernel.warps} warps" if kernel.warps > 1 else "1 warp"
    what = _blocks(kernel.constants)
    if kernel.name == NAME:
        what = f"{len(branches_in(kernel).keys)} branches"
    return TargetKernel(
        name=kernel.name,
        configuration=f"{what}, {warps}",
        constants=dict(kernel.constants),
        registers=kernel.registers,
        spill_bytes=kernel.spill_bytes,
        shared_bytes=kernel.shared_bytes,
        stack_bytes=kernel.stack_bytes,
        warps=kernel.warps,
        blocks_per_multiprocessor=blocks_per_multiprocessor(kernel, card),
        code_bytes=code_bytes,
        mma=kernel.mma,
    )


def _blocks(constants: Constants) -> str:
    """Give the constants that a configuration chose."""
    return " ".join(f"{name}={value}" for name, value in constants if name.startswith("BLOCK_"))
