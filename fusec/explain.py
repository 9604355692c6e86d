"""What became of the models: groups, why near-twins are apart, what a person should know."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fusec.ir.plan import Executor, Member, PlanData, Refusal, WeightStorage
from fusec.ir.template import Arg, Ref, RowsKind, Template, TensorSpec
from fusec.passes.group import group, refusals
from fusec.profile import operator_name

__all__ = ["Explanation", "GroupInfo", "MergeInfo", "NativeInfo", "explain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeInfo:
    """How merged mode runs a group."""

    rules: tuple[tuple[str, str, int], ...]
    """(operator, rule, how many nodes); rules "vmap" and "loop" are fallbacks."""
    notes: tuple[str, ...]
    """Choices and refusals, such as the lowering of convolutions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeInfo:
    """How the native executor runs a group."""

    stages: tuple[tuple[str, int], ...]
    """(tile operation, how many stages), extern ones left out."""
    fused: int
    """Operators that became part of another one's stage, or a way to look at memory."""
    extern: tuple[tuple[str, int], ...]
    """(operator, how many stages) that PyTorch runs, one instance per call."""
    whole: str | None
    """Why PyTorch runs all of it, None if it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfo:
    """Members of one template."""

    template: str
    """Key of the template; the first 12 characters are shown."""
    members: tuple[str, ...]
    operators: tuple[str, ...]
    """Operators of the template, in order."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    rows: RowsKind
    symbols: tuple[str, ...]
    """Extents that vary between requests, with ranges, then their constraints."""
    other_extents: int
    """Programs beside this template, for extents of 1 and others that it does not serve."""
    weight_bytes: int
    """Bytes of all members' packed weights, equal ones once."""
    rounded_bytes: int
    """Bytes among them in the plan's weight storage: rounded. The rest is as the models have it."""
    unrounded: tuple[tuple[str, int], ...]
    """(operators that read them, bytes) of the rest, largest first; empty without a storage."""
    merge: MergeInfo | None
    """How merged mode runs it; None in other modes and for groups of one."""
    native: NativeInfo | None
    """How the native executor runs it; None in other modes."""

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Printable account of a plan; `to_json` gives it as data."""

    executor: Executor
    weight_storage: WeightStorage | None
    """In what weights are stored that kernels can read so; None: as the models have them."""
    groups: tuple[GroupInfo, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Give the account as JSON data."""
        data = asdict(self)
        for shown, info in zip(data["groups"], self.groups, strict=True):
            shown["size"] = info.size
        return data

    def __str__(self) -> str:
        models = sum(g.size for g in self.groups)
        lines = [f"{_count(models, 'model')} in {_count(len(self.groups), 'group')}"]
        lines.append(f"executor: {self.executor} ({_EXECUTOR_TEXT[self.executor]})")
        if self.weight_storage is not None:
            lines.append(f"weights:  {_storage_text(self.groups, self.weight_storage)}")
        for i, info in enumerate(self.groups):
            lines += ["", *_group_lines(i, info)]
        if self.refusals:
            lines += ["", "Not grouped, though alike:"]
            lines += [
                f"  {r.reason}: {r.where}: {r.first_value} ({r.first}) "
                f"against {r.second_value} ({r.second})"
                for r in self.refusals
            ]
        if self.notes:
            lines += ["", "Notes:"]
            lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)


_EXECUTOR_TEXT: Mapping[Executor, str] = {
    Executor.CPU: "native code; bytes never depend on company",
    Executor.ISOLATED: "PyTorch, one call per instance; bytes never depend on company",
    Executor.MERGED: "PyTorch, members of a group in one program; bits may depend on company",
    Executor.CUDA: "kernels on an NVIDIA card; bytes never depend on company",
}


def explain(
    plan: PlanData,
    merges: Mapping[str, MergeInfo] | None = None,
    natives: Mapping[str, NativeInfo] | None = None,
) -> Explanation:
    """Account for a plan.

    Args:
        plan: the plan's data.
        merges: template key -> how merged mode runs its group.
        natives: template key -> how the native executor runs its group.
    """
    merges, natives = merges or {}, natives or {}
    templates = {name: plan.templates[_first(plan, m)] for name, m in plan.members.items()}
    infos = [
        _group_info(plan, plan.templates[key], names, merges.get(key), natives.get(key))
        for key, names in group(templates).items()
    ]
    return Explanation(
        executor=plan.executor,
        weight_storage=plan.weight_storage,
        groups=tuple(infos),
        refusals=refusals(templates),
        notes=_notes(plan),
    )


def _first(plan: PlanData, member: Member) -> str:
    return plan.forms[member.variants[0].form].template


def _group_info(
    plan: PlanData,
    template: Template,
    names: tuple[str, ...],
    merge: MergeInfo | None,
    native: NativeInfo | None,
) -> GroupInfo:
    hashes = {w for n in names for v in plan.members[n].variants for w in v.weights}
    blobs = [plan.weights[h] for h in hashes]
    member = plan.members[names[0]]
    outputs = [template.body.spec_of(r) for r in template.body.results]
    return GroupInfo(
        template=template.key,
        members=names,
        operators=tuple(row.op for row in template.body.rows),
        inputs=tuple(
            _port(*port)
            for port in zip(member.input_names, template.inputs, template.input_axes, strict=True)
        ),
        outputs=tuple(
            _port(*port)
            for port in zip(member.output_names, outputs, template.output_axes, strict=True)
        ),
        rows=template.rows,
        symbols=(
            *(f"{s.name} in {s.min}..{s.max or ''}" for s in template.symbols),
            *template.constraints,
        ),
        other_extents=max(len(plan.members[n].variants) for n in names) - 1,
        weight_bytes=sum(b.data.nbytes for b in blobs),
        rounded_bytes=sum(b.data.nbytes for b in blobs if b.layout.stored is not None),
        unrounded=() if plan.weight_storage is None else _unrounded(plan, names),
        merge=merge,
        native=native,
    )


def _unrounded(plan: PlanData, names: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """Sum the bytes of weights that stayed as they are by the operators that read them."""
    readers: dict[str, tuple[str, ...]] = {}
    seen: dict[str, str] = {}
    for name in names:
        for variant in plan.members[name].variants:
            key = plan.forms[variant.form].template
            if key not in readers:
                readers[key] = _readers(plan.templates[key])
            seen.update(zip(variant.weights, readers[key], strict=True))
    sums: Counter[str] = Counter()
    for weight, who in seen.items():
        if plan.weights[weight].layout.stored is None:
            sums[who] += plan.weights[weight].data.nbytes
    return tuple(sums.most_common())


def _readers(template: Template) -> tuple[str, ...]:
    """Say of every weight what reads it; vectors, such as biases, are all one."""
    found: list[dict[str, None]] = [{} for _ in template.weights]
    for row in template.body.rows:
        for number in _references((*row.args, *(v for _, v in row.kwargs))):
            if template.n_inputs <= number < template.n_inputs + len(found):
                found[number - template.n_inputs][operator_name(row.op)] = None
    return tuple(
        "vectors" if isinstance(spec, TensorSpec) and len(spec.shape) < 2 else " and ".join(ops)
        for spec, ops in zip(template.weights, found, strict=True)
    )


def _references(arg: Arg) -> list[int]:
    if isinstance(arg, tuple):
        return [number for part in arg for number in _references(part)]
    return [arg.index] if isinstance(arg, Ref) else []


def _storage_text(groups: tuple[GroupInfo, ...], storage: WeightStorage) -> str:
    share = _share(sum(g.rounded_bytes for g in groups), sum(g.weight_bytes for g in groups))
    return f"{storage}, {share}: those of matrix products, summed in float32; the rest as it is"


def _share(part: int, whole: int) -> str:
    return f"{part / 1e6:.2f} of {whole / 1e6:.2f} MB ({part / max(1, whole):.0%})"


def _port(name: str, spec: object, axis: int | None) -> str:
    if not isinstance(spec, TensorSpec):
        return f"{name}: {spec}"
    shape = ", ".join("rows" if i == axis else str(d) for i, d in enumerate(spec.shape))
    return f"{name}: {spec.dtype}[{shape}]"


def _notes(plan: PlanData) -> tuple[str, ...]:
    """Collect the members' notes, equal ones once, with how many models they are about."""
    about: dict[str, list[str]] = {}
    for name, member in plan.members.items():
        for note in member.notes:
            about.setdefault(note, []).append(name)
    return tuple(
        f"{note} ({names[0] if len(names) == 1 else _count(len(names), 'model')})"
        for note, names in about.items()
    )


def _group_lines(index: int, info: GroupInfo) -> list[str]:
    shown = ", ".join(info.members[:8]) + (", ..." if info.size > 8 else "")
    lines = [
        f"Group {index}: {_count(info.size, 'model')}, template {info.template[:12]}, "
        f"{info.weight_bytes / 1e6:.2f} MB of weights",
        f"  members:   {shown}",
        f"  computes:  {_chain(info.operators)}",
        f"  inputs:    {'; '.join(info.inputs)}",
        f"  outputs:   {'; '.join(info.outputs)}",
        f"  rows:      {_ROWS_TEXT[info.rows]}",
    ]
    if info.rounded_bytes:
        share = _share(info.rounded_bytes, info.weight_bytes)
        lines.append(f"  rounded:   {share} of weights; saves {info.rounded_bytes / 1e6:.2f} MB")
    if info.unrounded:
        kept = [f"{size / 1e6:.2f} MB of {who or 'nothing'}" for who, size in info.unrounded]
        more = [f"{len(kept) - 6} more"] if len(kept) > 6 else []
        lines.append(f"  unrounded: {', '.join([*kept[:6], *more])}")
    if info.symbols:
        lines.append(f"  extents:   {'; '.join(info.symbols)}")
    if info.other_extents:
        lines.append(f"             {_count(info.other_extents, 'program')} more for other extents")
    if info.merge is not None:
        rules = ", ".join(f"{n} {op} by {rule}" for op, rule, n in info.merge.rules)
        lines.append(f"  merged:    {rules}")
        lines += [f"             {note}" for note in info.merge.notes]
    if info.native is not None:
        lines += _native_lines(info.native)
    return lines


def _native_lines(info: NativeInfo) -> list[str]:
    if info.whole is not None:
        return [f"  native:    no; PyTorch runs it whole, one call per instance: {info.whole}"]
    n = sum(count for _, count in info.stages)
    stages = ", ".join(f"{count} {op}" for op, count in info.stages)
    fused = f"; {_count(info.fused, 'operator')} fused" if info.fused else ""
    lines = [f"  native:    {_count(n, 'stage')}{': ' if n else ''}{stages}{fused}"]
    if info.extern:
        shown = ", ".join(f"{count} {_short(op)}" for op, count in info.extern)
        lines.append(f"  PyTorch:   {shown}, one instance per call; imported at the first of them")
    return lines


_ROWS_TEXT: Mapping[RowsKind, str] = {
    RowsKind.INDEPENDENT: "any number; each row is an instance",
    RowsKind.WHOLE_REQUEST: "a request runs whole: rows depend on each other or there is no batch",
}


def _chain(operators: tuple[str, ...]) -> str:
    names = list(map(_short, operators))
    shown = " -> ".join(names[:12])
    return shown + (f" -> ... ({len(names)} operators)" if len(names) > 12 else "")


def _short(op: str) -> str:
    return op.removeprefix("aten.").removesuffix(".default")


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")
