"""The costs that a simulation takes from a plan: what `fusec profile` measured of it."""

from fusec.ir.errors import ConfigError
from fusec.plan import Plan
from fusec.runtime.sched.profile import Profile, TemplateCost
from fusec.schedule import Schedule, template_keys

__all__ = ["costs_of", "schedule_of"]


def schedule_of(plan: Plan, threads: int | None) -> Schedule | None:
    """Give the schedule of a plan for so many threads; None if its profile is of before schedules.

    Args:
        plan: measured.
        threads: of a lane; None: as many as were measured at most.

    Raises:
        ConfigError: the plan has no profile, or none for so many threads.
    """
    measured = plan.costs()
    if measured is None:
        raise ConfigError("the plan was not measured yet; run `fusec profile` on it first")
    found = measured.schedule(threads)
    if found is None and threads is not None:
        known = ", ".join(str(s.threads) for s in measured.schedules) or "no number of"
        raise ConfigError(f"the plan was not measured on {threads} threads, but on {known}")
    return found


def costs_of(plan: Plan, threads: int | None = None, *, max_batch: int = 64) -> Profile:
    """Give a plan's costs: of blocks of batches or, from an older profile, of its stages.

    A stage's time is per instance of many together, so a batch takes as long as its instances.

    Args:
        plan: measured.
        threads: see `schedule_of`.
        max_batch: for an older profile.

    Raises:
        ConfigError: the plan has no profile, or none of its models is in it.
    """
    schedule, keys = schedule_of(plan, threads), template_keys(plan.inside()[0].data())
    if schedule is not None:
        return schedule.costs(keys)
    measured = plan.costs()
    assert measured is not None
    totals = {
        key: max(1, round(sum(stage.measured_ns for stage in template.stages)))
        for key, template in measured.templates.items()
    }
    models = {name: key for name, key in keys.items() if key in totals}
    if not models:
        raise ConfigError("the plan's profile has none of its models; run `fusec profile` again")
    used = set(models.values())
    return Profile(
        templates={
            key: TemplateCost(blocks_ns={1: (total,)}, max_batch=max_batch)
            for key, total in totals.items()
            if key in used
        },
        models=models,
    )
