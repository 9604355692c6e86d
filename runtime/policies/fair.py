"""Any policy under equal shares of device time per tenant: not of requests, which differ in cost.

Each tenant has a queue and a state of its own, under one base policy, and an account of the device
time it used. A free lane is offered to the tenant that used least; if its policy does not want it
now, to the next, so that no lane idles while anyone has work. Who was away starts where the last
one served stands: idling earns nothing. Packs hold one tenant's requests only.
Source: start-time fair queueing (Goyal et al., 1996), with predicted times.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fusec.runtime.policies.ranking import less_memory
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.records import Action, Launch, Reject, Request
from fusec.runtime.sched.view import Change, Lane, Stopped, View, Waiting

__all__ = ["Shares", "fair"]


_NOTHING = Change()


@dataclass(frozen=True, slots=True)
class _Tenant:
    state: Any
    used_ns: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Shares:
    """Every tenant's account and state; where the last one served stood; who runs on which lane."""

    tenants: Mapping[str, _Tenant] = field(default_factory=dict)
    level_ns: int = 0
    lanes: Mapping[int, str] = field(default_factory=dict)


def fair(base: Policy[Any], weights: Mapping[str, int] | None = None) -> Policy[Shares]:
    """Make a policy that shares device time among tenants and asks another within each.

    Args:
        base: who of one tenant's requests goes first.
        weights: how many shares a tenant has; one if it is not named.
    """
    shares = dict(weights or {})

    def decide(view: View, state: Shares) -> tuple[tuple[Action, ...], Shares]:
        lanes = {i: t for i, t in state.lanes.items() if view.lanes[i].pack is not None}
        tenants, actions = dict(state.tenants), list[Action]()
        level = state.level_ns
        for name, change in _by_tenant(view, state).items():
            old = tenants.get(name, _Tenant(base.start))
            own = tuple(lane for lane in view.lanes if lanes.get(lane.index) == name)
            said, new = base.decide(_shown(view, change, own), old.state)
            came = len(change.arrived) + sum(len(s.pack.requests) for s in change.stopped)
            waiting = old.waiting + came - len(change.gone) - _count(said, Reject)
            stands = old.waiting or own or not came
            used = old.used_ns if stands else max(old.used_ns, level)
            tenants[name] = _Tenant(new, used, waiting)
            actions += said
        free = [lane for lane in view.lanes if lane.pack is None]
        by_use = sorted((t.used_ns, n) for n, t in tenants.items() if t.waiting) if free else []
        while free and by_use:
            used, name = by_use.pop(0)
            said, tenants[name] = _offer(view, base, tenants[name], free)
            actions += said
            for launch in (a for a in said if isinstance(a, Launch)):
                members = (n for part in launch.pack.parts for n in part.requests)
                view = less_memory(view, [view.waiting[n] for n in members])
                lanes[launch.lane] = name
                level = max(level, used)
                spent = _cost(launch, view) // shares.get(name, 1)
                own_now = tenants[name]
                tenants[name] = _Tenant(own_now.state, own_now.used_ns + spent, own_now.waiting)
            taken = {a.lane for a in said if isinstance(a, Launch)}
            if taken and tenants[name].waiting:
                by_use = sorted([*by_use, (tenants[name].used_ns, name)])
            free = [lane for lane in free if lane.index not in taken]
        return tuple(actions), Shares(tenants, level, lanes)

    return Policy(f"fair:{base.name}", Shares(), decide, base.preempts)


def _offer(
    view: View, base: Policy[Any], tenant: _Tenant, free: list[Lane]
) -> tuple[tuple[Action, ...], _Tenant]:
    """Offer the first free lane to a tenant."""
    said, new = base.decide(_shown(view, _NOTHING, (free[0],)), tenant.state)
    launched = sum([len(p.requests) for a in said if isinstance(a, Launch) for p in a.pack.parts])
    waiting = tenant.waiting - launched - _count(said, Reject)
    return said, _Tenant(new, tenant.used_ns, waiting)


def _shown(view: View, change: Change, lanes: tuple[Lane, ...]) -> View:
    """Give a tenant's part of a view."""
    return View(view.now_ns, change, view.waiting, lanes, view.free_bytes, view.profile)


def _by_tenant(view: View, state: Shares) -> dict[str, Change]:
    """Share what changed out to the tenants that it is about."""
    found: dict[str, tuple[list[Request], list[Stopped], list[Waiting]]] = {}
    for request in view.change.arrived:
        found.setdefault(request.tenant, ([], [], []))[0].append(request)
    for stopped in view.change.stopped:
        tenant = view.waiting[stopped.pack.requests[0]].request.tenant
        found.setdefault(tenant, ([], [], []))[1].append(stopped)
    for waiting in view.change.gone:
        found.setdefault(waiting.request.tenant, ([], [], []))[2].append(waiting)
    finished = view.change.finished
    ran = {t for i, t in state.lanes.items() if view.lanes[i].pack is None} if finished else set()
    for tenant in ran - found.keys():
        found[tenant] = ([], [], [])
    return {
        tenant: Change(
            tuple(arrived), tuple(stopped), tuple(gone), finished if tenant in ran else ()
        )
        for tenant, (arrived, stopped, gone) in found.items()
    }


def _count(actions: tuple[Action, ...], kind: type) -> int:
    return sum([isinstance(a, kind) for a in actions])


def _cost(launch: Launch, view: View) -> int:
    """Predict the device time of a launch."""
    return sum(
        view.profile[pack.template].span_ns(
            pack.next_block,
            launch.until_block if pack is launch.pack else pack.next_block + 1,
            sum(view.waiting[n].request.rows for n in pack.requests),
        )
        for pack in launch.pack.parts
    )
