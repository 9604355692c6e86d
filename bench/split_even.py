"""Even splits on the native executor: how even blocks are, and what stopping between them costs.

A model runs whole, and in 2 to 8 blocks that the exact splitter chose from its profile: of whole
stages, and with cuts inside stages too, between their tasks. Block runs
stop at the end of every block; with company, another program's memory goes through the caches
before each block, as it does when somebody else runs there, and before the whole run as well.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import harness
import minilm
import numpy as np
import peers
import torch
from resnet import ResNet

import fusec
from fusec.ir.split import Split
from fusec.passes.split import (
    SplitReport,
    cut_costs,
    even_split,
    genetic_split,
    in_stages,
    live_bytes,
    live_inside,
    parted,
    report,
)
from fusec.runtime.extern import run_extern
from fusec.runtime.request import Request, read_request
from fusec.runtime.tile.blocks import BlockExecutor
from fusec.runtime.tile.executor import Wanted

BENCH = "split"
BLOCKS = tuple(range(2, 9))
COMPANY = ", company between blocks"
SMOKE = "tiny encoder"
_COMPANY_BYTES = 1 << 26
Inputs = tuple[torch.Tensor, ...]
_PART_NS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What was measured of a template."""

    stage_ns: list[int]
    cut_ns: tuple[int | None, ...]
    """Between two stages."""
    inside_ns: tuple[int | None, ...]
    """Inside a stage; None in what PyTorch runs."""


def _tokens(length: int, vocabulary: int) -> Inputs:
    tokens = torch.randint(0, vocabulary, (1, length))
    return tokens, torch.ones(1, length, dtype=torch.int64)


MODELS: Mapping[str, Callable[[], tuple[torch.nn.Module, Inputs]]] = {
    "MiniLM, 64 tokens": lambda: (minilm.sentence_model(), _tokens(64, 30000)),
    "ResNet-18, 224 x 224": lambda: (ResNet().eval(), (torch.randn(1, 3, 224, 224),)),
    SMOKE: lambda: (minilm.Sentence(1, 16, 2, 50).eval(), _tokens(8, 50)),
}


def cases(smoke: bool) -> Iterable[str]:
    """Name every model with and without company."""
    names = [SMOKE] if smoke else [name for name in MODELS if name != SMOKE]
    return [f"{name}{company}" for name in names for company in ("", COMPANY)]


def setup(case: str, threads: int) -> harness.Setup:
    """Compile and profile a model; split it; bind a run of each split."""
    name = case.removesuffix(COMPANY)
    model, inputs = MODELS[name]()
    plan = fusec.compile({name: model}, examples={name: inputs}, executor="cpu", threads=threads)
    plan.warm()
    given = [x.numpy() for x in inputs]
    request = read_request(plan._registry.target(name), tuple(given))
    costs = _costs(plan, request)
    executor = BlockExecutor(plan._stages.of, threads, run_extern)
    evict = _evict() if case.endswith(COMPANY) else None
    (most,) = executor.parts([Wanted(request.choice, request.rows, request.extents)])
    cut = parted(costs.stage_ns, costs.cut_ns, costs.inside_ns, _PART_NS, most=most)
    splits: dict[str, Split | None] = {"whole": None}
    for k in BLOCKS:
        even = even_split(cut.part_ns, cut.cut_ns, k)
        splits[f"{k} blocks"] = in_stages(even, cut.parts)
        splits[f"{k} blocks of whole stages"] = even_split(costs.stage_ns, costs.cut_ns, k)
    runs = {k: _Run(name, executor, request, split, evict) for k, split in splits.items()}
    figures = [
        figure
        for impl, run in runs.items()
        if run.split is not None
        for figure in _figures(impl, run, run.split, runs["whole"], costs)
    ]
    return harness.Setup(
        impls={impl: harness.Impl(run.build, run.read) for impl, run in runs.items()},
        truth=peers.truth_of({name: model}, {name: inputs}),
        figures=figures,
        burst=1 if evict else 4,
    )


def _costs(plan: fusec.Plan, request: Request) -> Costs:
    """Give what each stage and each cut costs."""
    template = request.choice.template
    profile = plan.profile(seconds=2.0, preempt_ms=None)
    stages = profile.templates[template.key].stages
    lowered = plan._stages.of(template)
    speed = profile.machine.read_bytes_per_ns
    extern = [i for i, stage in enumerate(lowered.stages) if stage.extern is not None]
    return Costs(
        stage_ns=[round(s.measured_ns) for s in stages],
        cut_ns=cut_costs(live_bytes(lowered, request.extents), bytes_per_ns=speed),
        inside_ns=cut_costs(
            live_inside(lowered, request.extents), bytes_per_ns=speed, forbidden=extern
        ),
    )


def _figures(
    impl: str, run: _Run, split: Split, whole: _Run, costs: Costs
) -> Iterable[harness.Figure]:
    """Figures of one split: measured, and of the exact and the genetic one as predicted."""
    yield harness.Figure(impl, "deviation / mean", "%", lambda: 100 * run.report(whole).deviation)
    yield harness.Figure(
        impl, "overhead per cut", "%", lambda: 100 * run.report(whole).overhead_per_cut
    )
    ways = {"predicted": split}
    if not split.parts:
        searched = genetic_split(costs.stage_ns, costs.cut_ns, len(split.blocks))
        ways["of the genetic search, predicted"] = searched
    for how, made in ways.items():
        figures = report([b.cost_ns for b in made.blocks], sum(costs.stage_ns))
        yield _given(impl, f"deviation / mean {how}", "%", 100 * figures.deviation)
        yield _given(impl, f"largest block {how}", "us", made.largest_ns / 1e3)


def _given(impl: str, metric: str, unit: str, value: float) -> harness.Figure:
    return harness.Figure(impl, metric, unit, lambda: value)


def _evict() -> Callable[[], object]:
    memory = np.zeros(_COMPANY_BYTES // 8)
    return memory.sum


@dataclass(eq=False)
class _Run:
    """One way to run the model, and how long its parts took."""

    name: str
    executor: BlockExecutor
    request: Request
    split: Split | None
    evict: Callable[[], object] | None
    times: list[list[int]] = field(default_factory=list)
    """Of each run, of each block."""

    answer: tuple[np.ndarray, ...] = ()

    def build(self) -> Callable[[], object]:
        """Give what is timed."""
        return self

    def read(self, _: object) -> harness.Outputs:
        """Give the last answer."""
        return {self.name: self.answer[0]}

    def __call__(self) -> harness.Took:
        """Run once."""
        r = self.request
        wanted = [Wanted(r.choice, r.rows, r.extents)]
        inputs = [tuple(map(np.asarray, r.inputs))]
        self._company()
        begin = time.perf_counter_ns()
        if self.split is None:
            self.answer = self.executor.prepare(wanted).run(inputs)[0]
            times = [time.perf_counter_ns() - begin]
        else:
            times = []
            run = self.executor.begin(wanted, [self.split], inputs)
            while not run.done:
                run.step()
                times.append(time.perf_counter_ns() - begin)
                self._company()
                begin = time.perf_counter_ns()
            self.answer = run.answers()[0]
        self.times.append(times)
        return harness.Took(sum(times))

    def report(self, whole: _Run) -> SplitReport:
        """Give the figures of the median times."""
        medians = [statistics.median(block) for block in zip(*self.times, strict=True)]
        return report(medians, statistics.median(sum(t) for t in whole.times))

    def _company(self) -> None:
        if self.evict is not None:
            self.evict()


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
