"""Every rule of the table: merged against separate, shared operands, NaN isolation, meta."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from fusec_testing import assert_no_worse
from fusec_testing.merge_cases import OTHER, Case, T, c, f
from fusec_testing.merge_cases import i as ints
from fusec_testing.merge_cases_pointwise import pointwise_cases
from fusec_testing.merge_cases_shape import INDEX, REDUCE, SHAPE
from torch import fx
from torch._subclasses import FakeTensorMode

from fusec.ir.errors import VerifyError
from fusec.ir.template import RowsKind
from fusec.kernels.operators import operators
from fusec.passes.merge import merge_uniform
from fusec.passes.merge.report import PER_MEMBER, SHARED, VMAP
from fusec.passes.merge.rules import RULES
from fusec.passes.merge.rules.rule import MergeRule, table
from fusec.passes.program import Program

NAMES = sorted(RULES)
CASES = {**OTHER, **SHAPE, **INDEX, **REDUCE}
MEMBERS = (1, 2, 3, 7)


def cases_of(name: str) -> list[Case]:
    short = name.removeprefix("aten.")
    return CASES[short] if short in CASES else pointwise_cases(short)


def tensors_of(case: Case) -> list[T]:
    found: list[T] = []
    fill((case.args, case.kwargs), lambda t: found.append(t))
    return found


def fill(value: Any, take: Any) -> Any:
    if isinstance(value, T):
        return take(value)
    if isinstance(value, tuple | list):
        return type(value)(fill(v, take) for v in value)
    if isinstance(value, dict):
        return {k: fill(v, take) for k, v in value.items()}
    return value


def sample(t: T, batch: int) -> torch.Tensor:
    shape = [batch if extent == -1 else extent for extent in t.shape]
    if t.dtype is torch.complex64:
        return torch.complex(sample_real(t, shape), sample_real(t, shape))
    if t.dtype is torch.bool:
        return torch.rand(shape) < max(t.low, 0.5)
    if t.dtype is torch.int64:
        return torch.randint(int(t.low), int(t.high), shape)
    return sample_real(t, shape).to(t.dtype)


def sample_real(t: T, shape: Sequence[int]) -> torch.Tensor:
    return torch.rand(shape) * (t.high - t.low) + t.low


def run(name: str, case: Case, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    given = iter(tensors)
    args, kwargs = fill((case.args, case.kwargs), lambda _: next(given))
    out: Any = operators()[name](*args, **kwargs)
    return tuple(out) if isinstance(out, tuple | list) else (out,)


def program_of(name: str, case: Case, tensors: Sequence[torch.Tensor]) -> Program:
    """Make a program of the one call; every tensor is an input."""
    graph = fx.Graph()
    mode = FakeTensorMode()
    nodes = []
    for i, tensor in enumerate(tensors):
        nodes.append(graph.placeholder(f"x{i}"))
        nodes[-1].meta["val"] = mode.from_tensor(tensor)
    given = iter(nodes)
    args, kwargs = fill((case.args, case.kwargs), lambda _: next(given))
    call = graph.call_function(operators()[name], args, kwargs)
    fakes = iter([node.meta["val"] for node in nodes])
    args, kwargs = fill((case.args, case.kwargs), lambda _: next(fakes))
    with mode, torch.no_grad():
        value = operators()[name](*args, **kwargs)
    call.meta["val"] = value
    results = [call]
    if isinstance(value, tuple | list):
        results = []
        for i, item in enumerate(value):
            results.append(graph.call_function(operator.getitem, (call, i)))
            results[-1].meta["val"] = item
    graph.output(tuple(results))
    return Program(
        graph=fx.GraphModule(torch.nn.Module(), graph),
        input_names=tuple(f"x{i}" for i in range(len(nodes))),
        output_names=tuple(f"y{i}" for i in range(len(results))),
        weights={}, aliases=(), unused=(), symbols=(), symbol_names={}, constraints=(),
        input_axes=(None,) * len(nodes), output_axes=(None,) * len(results),
        rows=RowsKind.WHOLE_REQUEST, bound=(), guards=(),
    )  # fmt: skip


def double(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor


class Trial:
    """One case over n members, some operands shared."""

    def __init__(self, name: str, case: Case, n: int, shared: frozenset[int], batch: int = 2):
        self.name, self.case, self.n, self.shared = name, case, n, shared
        specs = tensors_of(case)
        self.own = [[sample(t, batch) for t in specs] for _ in range(n)]
        for member in self.own:
            for i in shared:
                member[i] = self.own[0][i]
        program = program_of(name, case, self.own[0])
        # Fake values take most of the time, and are no different at other sizes.
        self.values = n == 3
        self.module, self.report = merge_uniform(
            program, n, shared_inputs=shared, values=self.values
        )

    def run(self) -> tuple[torch.Tensor, ...]:
        stacked = [
            self.own[0][i] if i in self.shared else torch.stack([m[i] for m in self.own])
            for i in range(len(self.own[0]))
        ]
        with torch.no_grad():
            return tuple(self.module(*stacked))

    def check(self) -> set[str]:
        """Compare with separate calls and with the fake values; give the rules that were used."""
        merged = self.run()
        for node, tensor in zip(self.module.graph.output_node().args[0], merged, strict=True):
            if not self.values:
                break
            assert node.meta["val"].shape == tensor.shape
            assert node.meta["val"].dtype == tensor.dtype
        # A view as another dtype has no float64 counterpart.
        bits = ".dtype" in self.name and "view" in self.name
        for m in range(self.n):
            plain = run(self.name, self.case, self.own[m])
            wide = self.own[m] if bits else [double(t) for t in self.own[m]]
            exact = run(self.name, self.case, wide)
            for j, (got, want, truth) in enumerate(zip(merged, plain, exact, strict=True)):
                where = f"{self.name} {self.case} member {m} of {self.n}, result {j}"
                both = (want.resolve_conj(), truth.resolve_conj())
                assert_no_worse(got[m].resolve_conj(), *both, where=where)
        return set(self.report.counts)

    def poison(self) -> None:
        """Fill member 1 with NaN: the others' results must not change."""
        before = self.run()
        for i, tensor in enumerate(self.own[1]):
            if i not in self.shared and (tensor.is_floating_point() or tensor.is_complex()):
                tensor.fill_(float("nan"))
        for clean, after in zip(before, self.run(), strict=True):
            for m in range(self.n):
                if m != 1:
                    torch.testing.assert_close(after[m], clean[m], equal_nan=True)


def sharings(case: Case) -> list[frozenset[int]]:
    """Give which operands are shared: one of them, or all but one."""
    count = len(tensors_of(case))
    if count < 2:
        return []
    singles = range(count) if count < 4 else range(2)
    ways = {frozenset({i}) for i in singles}
    ways |= {frozenset(range(count)) - {i} for i in singles}
    return sorted(ways, key=sorted)


@pytest.mark.parametrize("name", NAMES)
def test_merged_against_separate(name: str) -> None:
    """No further from float64 than allowed, NaN stays where it is, the rule itself is used."""
    used: set[str] = set()
    for number, case in enumerate(cases_of(name)):
        for n in MEMBERS if number == 0 else (3,):
            trial = Trial(name, case, n, frozenset())
            used |= trial.check()
            if n == 3:
                trial.poison()
        for shared in sharings(case):
            used |= Trial(name, case, 3, shared).check()
    assert used - {PER_MEMBER, VMAP, SHARED}


@pytest.mark.parametrize("name", NAMES)
def test_empty_tensors(name: str) -> None:
    for case in cases_of(name):
        specs = tensors_of(case)
        if not any(-1 in t.shape for t in specs):
            continue
        try:
            run(name, case, [sample(t, 0) for t in specs])
        except (RuntimeError, IndexError):
            continue
        Trial(name, case, 2, frozenset(), batch=0).check()


@pytest.mark.parametrize(
    ("name", "case", "rule"),
    [
        # torch's own batching rule gives floats of a wrong shape here.
        ("aten.addbmm.default", c(ints(5, 6), ints(2, 5, 3), ints(2, 3, 6), beta=0.6), PER_MEMBER),
        ("aten.addbmm.default", c(f(5, 6), f(2, 5, 3), f(2, 3, 6)), VMAP),
        ("aten.kron.default", c(f(2, 2), f(3)), VMAP),
        ("aten.masked_scatter.default", c(f(3), T((3,), torch.bool), f(3)), PER_MEMBER),
    ],
)
def test_fallbacks(name: str, case: Case, rule: str) -> None:
    assert name not in RULES
    for shared in (frozenset(), *sharings(case)):
        trial = Trial(name, case, 3, shared)
        trial.check()
        if not shared:
            assert [use.rule for use in trial.report.fallbacks] == [rule]


def test_every_operator_of_the_table_is_in_the_operator_set() -> None:
    assert set(RULES) <= set(operators())
    assert len(RULES) > 300
    assert all(cases_of(name) for name in RULES)


def test_two_rules_for_one_operator_are_refused() -> None:
    rule = MergeRule(name="a", targets=("mm.default",), build=RULES["aten.mm.default"].build)
    with pytest.raises(VerifyError, match=r"aten\.mm\.default: merge rules a and a"):
        table((rule, rule))
