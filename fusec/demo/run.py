"""The demo from start to end: train, hand over, compile, save, load, check, time."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import fusec
from fusec.demo.digits import Digits, Task, load_digits, tasks
from fusec.demo.networks import ARCHITECTURES, to_onnx, train
from fusec.demo.peers import Runner, in_turn, onnxruntime_runner, torch_runner
from fusec.demo.report import DemoReport, GroupResult, TenantResult, Timing
from fusec.plan import Plan

__all__ = ["run_demo"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tenant:
    """One trained model with its task and test images; `source` is what fusec gets."""

    name: str
    task: Task
    architecture: str
    form: str
    digits: Digits
    model: nn.Module
    onnx: bytes

    @property
    def source(self) -> nn.Module | bytes:
        return self.onnx if self.form == "onnx" else self.model

    @property
    def images(self) -> np.ndarray:
        return self.digits.test_images.numpy()


def run_demo(
    *,
    tenants: int = 24,
    epochs: int = 25,
    seed: int = 7,
    folder: Path | None = None,
    timing_s: float = 2.0,
    progress: Progress | None = None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> DemoReport:
    """Train small classifiers, compile them into one plan and compare it with the originals.

    Args:
        tenants: how many models; tasks, architectures and hand-over forms take turns.
        epochs: training passes per model.
        seed: of tasks, initial weights and batches.
        folder: where the plan file goes; a temporary folder if None.
        timing_s: how long to time, all implementations together.
        progress: called with phase, done and total.
        clock: nanoseconds; measures the phases and the requests.

    Raises:
        ConfigError: scikit-learn, onnx or onnxruntime is not installed.
    """
    watch = _Watch(clock, progress or (lambda phase, done, total: None))
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fleet = _train_all(tasks(tenants, seed), epochs, watch)
        sources = {tenant.name: tenant.source for tenant in fleet}
        examples = {tenant.name: tenant.images[:1] for tenant in fleet}
        with watch.phase("compile"):
            compiled = fusec.compile(sources, examples=examples, threads=1)
        with watch.phase("build"):
            compiled.warm()
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(folder or temporary, "demo.fusec")
            with watch.phase("save"):
                compiled.save(path)
            with watch.phase("load"):
                plan = fusec.load(path)
            plan_bytes = path.stat().st_size
            originals = {tenant.name: _original(tenant) for tenant in fleet}
            results = []
            with watch.phase("check"):
                for done, tenant in enumerate(fleet):
                    watch.progress("check", done, len(fleet))
                    results.append(_check(plan, tenant, originals[tenant.name]))
            torch_plans = {mode: fusec.load(path, executor=mode) for mode in ("isolated", "merged")}
            difference = max(
                _difference(other.run(examples), originals, examples)
                for other in torch_plans.values()
            )
            watch.progress("time", 0, 1)
            timings = _time(plan, torch_plans, fleet, int(timing_s * 1e9), clock)
            explanation = plan.explain()
    return DemoReport(
        tenants=tuple(results),
        groups=tuple(
            GroupResult(
                template=group.template,
                operators=group.operators,
                members=group.members,
                weight_bytes=group.weight_bytes,
            )
            for group in explanation.groups
        ),
        refusals=tuple(
            f"{r.reason}: {r.where}: {r.first_value} ({r.first}), {r.second_value} ({r.second})"
            for r in explanation.refusals
        ),
        timings=timings,
        seconds=dict(watch.seconds),
        plan_bytes=plan_bytes,
        executor=str(explanation.executor),
        largest_difference_torch=difference,
    )


class _Watch:
    """Measures the phases and tells who watches."""

    def __init__(self, clock: Callable[[], int], progress: Progress) -> None:
        self.clock = clock
        self.progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure what is done inside under `name`."""
        self.progress(name, 0, 1)
        begin = self.clock()
        yield
        self.seconds[name] = (self.clock() - begin) / 1e9


@contextmanager
def _one_thread() -> Iterator[None]:
    """Give everybody one thread: the models are too small for more, and the comparison is fair."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train_all(wanted: tuple[Task, ...], epochs: int, watch: _Watch) -> list[_Tenant]:
    """Train one model per task; architectures alternate, and pairs of forms."""
    fleet = []
    with watch.phase("train"):
        for number, task in enumerate(wanted):
            watch.progress("train", number, len(wanted))
            architecture = ("mlp", "cnn")[number % 2]
            digits = load_digits(task)
            model = ARCHITECTURES[architecture](len(task.labels))
            train(model, digits, epochs=epochs)
            tenant = _Tenant(
                name=f"tenant{number:02d}",
                task=task,
                architecture=architecture,
                form=("module", "onnx")[number // 2 % 2],
                digits=digits,
                model=model,
                onnx=to_onnx(model, len(task.labels)),
            )
            fleet.append(tenant)
    return fleet


def _original(tenant: _Tenant) -> Runner:
    """Return the tenant's model as it was handed over, in its own runtime."""
    if tenant.form == "onnx":
        return onnxruntime_runner(tenant.onnx)
    return torch_runner(tenant.model)


def _logits(answer: Mapping[str, object]) -> np.ndarray:
    (logits,) = answer.values()
    return np.asarray(logits)


def _check(plan: Plan, tenant: _Tenant, original: Runner) -> TenantResult:
    """Run every test image of one tenant through plan and original."""
    images, labels = tenant.images, tenant.digits.test_labels.numpy()
    ours = _logits(plan.run({tenant.name: images})[tenant.name])
    theirs = original(images)
    mine, other = ours.argmax(axis=1), theirs.argmax(axis=1)
    return TenantResult(
        name=tenant.name,
        task=tenant.task.name,
        architecture=tenant.architecture,
        form=tenant.form,
        images=len(images),
        accuracy_plan=float((mine == labels).mean()),
        accuracy_original=float((other == labels).mean()),
        same_labels=int((mine == other).sum()),
        largest_difference=float(np.abs(ours - theirs).max()),
    )


def _difference(
    answers: Mapping[str, Mapping[str, object]],
    originals: Mapping[str, Runner],
    inputs: Mapping[str, np.ndarray],
) -> float:
    """Return the largest difference between answers and originals."""
    return max(
        float(np.abs(_logits(answer) - originals[name](inputs[name])).max())
        for name, answer in answers.items()
    )


def _time(
    plan: Plan,
    torch_plans: Mapping[str, Plan],
    fleet: list[_Tenant],
    budget_ns: int,
    clock: Callable[[], int],
) -> tuple[Timing, ...]:
    """Serve one image for every tenant, in several ways."""
    requests = {tenant.name: tenant.images[:1] for tenant in fleet}
    modules = [(torch_runner(tenant.model), tenant.images[:1]) for tenant in fleet]
    sessions = [(onnxruntime_runner(tenant.onnx), tenant.images[:1]) for tenant in fleet]
    rounds: dict[str, Callable[[], object]] = {
        "fusec": lambda: plan.run(requests),
        "PyTorch, one by one": lambda: [run(image) for run, image in modules],
        "ONNX Runtime, one by one": lambda: [run(image) for run, image in sessions],
        "fusec through PyTorch, isolated": lambda: torch_plans["isolated"].run(requests),
        "fusec through PyTorch, merged": lambda: torch_plans["merged"].run(requests),
    }
    return in_turn(rounds, requests=len(fleet), budget_ns=budget_ns, clock=clock)
