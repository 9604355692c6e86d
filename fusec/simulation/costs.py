"""The costs that a simulation takes from a plan: its measured stages, each template one block."""

from fusec.ir.errors import ConfigError
from fusec.plan import Plan
from fusec.runtime.sched.profile import Profile, TemplateCost

__all__ = ["costs_of"]


def costs_of(plan: Plan, *, max_batch: int = 64) -> Profile:
    """Give a plan's costs, as `fusec profile` measured them.

    A stage's time is per instance of many together, so a batch takes as long as its instances.

    Raises:
        ConfigError: the plan has no profile, or none of its models is in it.
    """
    measured = plan.costs()
    if measured is None:
        raise ConfigError("the plan was not measured yet; run `fusec profile` on it first")
    totals = {
        key: max(1, round(sum(stage.measured_ns for stage in template.stages)))
        for key, template in measured.templates.items()
    }
    models = {
        name: group.template
        for group in plan.explain().groups
        for name in group.members
        if group.template in totals
    }
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
