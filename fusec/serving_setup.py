"""What a runtime runs on: an engine, pools of workers for its lanes, kinds and costs."""

import os
from collections.abc import Callable

from fusec.ir.errors import ConfigError
from fusec.ir.frozen import dataclass
from fusec.ir.plan import Executor
from fusec.plan import Plan
from fusec.runtime.extern import run_extern
from fusec.runtime.pool import Pool, pool
from fusec.runtime.request import Target
from fusec.runtime.sched.profile import Profile
from fusec.runtime.serving.engine import Engine, Team
from fusec.runtime.tile.engine import aligned_words
from fusec.serving_costs import Costs

__all__ = ["Setup", "check_settings", "set_up"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Setup:
    """All that a runtime needs of its plan."""

    engine: Engine
    pools: tuple[Pool | None, ...]
    """Of each lane; None where PyTorch runs everything."""
    workers: int
    """Of a lane."""
    costs: Costs
    profile: Profile
    target: Callable[[str], Target]
    version: Callable[[], int]

    def close(self) -> None:
        """Send the workers of all lanes but the first home: those are the process's."""
        for own in self.pools[1:]:
            if own is not None:
                own.shutdown()


def set_up(
    plan: Plan,
    *,
    lanes: int,
    preempt_ns: int,
    max_batch: int,
    measure_s: float,
) -> Setup:
    """Make an engine and learn what templates cost.

    Args:
        plan: whose models.
        lanes: how many there are.
        preempt_ns: what a block of one instance should take at most.
        max_batch: instances that may run together.
        measure_s: for measuring costs that the plan does not have.

    Raises:
        ConfigError: there are no models.
        ArtifactError: the plan's profile is none.
    """
    registry, stages, runner = plan.inside()
    native = plan.executor is Executor.CPU
    workers = max(1, (registry.threads or len(os.sched_getaffinity(0))) // lanes)
    engine = Engine(stages.of, workers, run_extern, runner.run)
    pools = tuple((pool() if lane == 0 else Pool()) if native else None for lane in range(lanes))
    flag = aligned_words(1)
    team = Team(pools[0], workers, flag.ctypes.data, lambda: None)
    costs = Costs(engine if native else None, stages, team, preempt_ns, max_batch)
    targets = [registry.target(name) for name in plan.members]
    if not targets:
        raise ConfigError("the plan has no models; add one before serving it")
    stored = plan.costs()
    schedule = None if stored is None else stored.schedule(workers)
    measured = costs.measure(targets, measure_s, schedule)
    return Setup(
        engine=engine,
        pools=pools,
        workers=workers,
        costs=costs,
        profile=measured,
        target=registry.target,
        version=lambda: registry.version,
    )


def check_settings(
    lanes: int, queue_limit: int, memory_budget: int | None, max_batch: int, preempt_ms: float
) -> None:
    """Check the numbers that a runtime is made with.

    Raises:
        ConfigError: one makes no sense.
    """
    for what, value in (("lanes", lanes), ("queue_limit", queue_limit), ("max_batch", max_batch)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{what} is {value!r}, wanted a whole number, 1 or more")
    if memory_budget is not None and (not isinstance(memory_budget, int) or memory_budget < 1):
        raise ConfigError(f"memory_budget is {memory_budget!r}, wanted bytes, or None")
    if not isinstance(preempt_ms, int | float) or not 0.01 <= preempt_ms <= 1e6:
        raise ConfigError(f"preempt_ms is {preempt_ms!r}, wanted 0.01 to a million")
