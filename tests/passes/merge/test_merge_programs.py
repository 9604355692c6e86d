"""Whole models as one program: sharing, parting, tying, naming."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from fusec_testing import Golden
from fusec_testing.merge_models import Encoder, Tagger, Tied, cnn, mlp, tokens
from fusec_testing.merged import Merged
from fusec_testing.programs import program_from
from torch import nn

from fusec.ir.errors import ConfigError, MergeError
from fusec.passes.merge import merge
from fusec.passes.text import graph_text
from fusec.passes.verify import verify


def vectors(n: int) -> list[list[torch.Tensor]]:
    return [[torch.randn(2, 8)] for _ in range(n)]


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("io", ["stacked", "named"])
def test_any_number_of_members(n: int, io: Any) -> None:
    merged = Merged([mlp() for _ in range(n)], torch.randn(2, 8), io=io)
    merged.check(vectors(n))
    assert not merged.report.fallbacks
    assert merged.report.members == n


@pytest.mark.parametrize(
    ("make", "example"),
    [
        (cnn, torch.randn(1, 3, 12, 12)),
        (Encoder, tokens(1, 7)),
        (Tagger, tokens(1, 7)),
        (lambda: Tagger(nn.GRU), tokens(1, 7)),
    ],
)
def test_whole_models(make: Any, example: torch.Tensor) -> None:
    merged = Merged([make() for _ in range(3)], example)
    draw = torch.randn_like if example.is_floating_point() else lambda x: tokens(*x.shape)
    merged.check([[draw(example)] for _ in range(3)])
    verify(merged.program, merged.program, "merge")


def test_a_tenant_full_of_nan_harms_nobody() -> None:
    models = [cnn() for _ in range(3)]
    for weight in models[1].parameters():
        nn.init.constant_(weight, float("nan"))
    merged = Merged(models, torch.randn(1, 3, 12, 12))
    inputs = [[torch.randn(1, 3, 12, 12)] for _ in range(3)]
    inputs[1][0].fill_(float("inf"))
    merged.check(inputs, among=(0, 2))
    assert merged.of(merged.run(inputs), 1).isnan().all()


def test_a_shared_backbone_is_one_backbone() -> None:
    body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16))
    models = [nn.Sequential(copy.deepcopy(body), nn.Linear(16, 4)) for _ in range(5)]
    merged = Merged(models, torch.randn(2, 8), shared_inputs=True)
    merged.check([[torch.randn(2, 8)]] * 5)
    assert merged.report.counts == {"shared": 3, "linear": 1}
    stored = sum(w.numel() for w in merged.program.weights.values())
    single = sum(w.numel() for w in body.parameters())
    assert stored == single + 5 * (16 * 4 + 4)


def test_backbones_shared_by_some() -> None:
    """Two backbones under five heads: the backbones run as one call over two rows."""
    bodies = [nn.Sequential(nn.Linear(8, 16), nn.ReLU()) for _ in range(2)]
    models = [nn.Sequential(copy.deepcopy(bodies[i % 2]), nn.Linear(16, 4)) for i in range(5)]
    merged = Merged(models, torch.randn(2, 8), shared_inputs=True)
    merged.check([[torch.randn(2, 8)]] * 5)
    assert [use.rows for use in merged.report.uses] == [2, 2, 5]


def test_heads_of_different_size_merge_among_themselves() -> None:
    merged = Merged([mlp(4 + i % 2) for i in range(5)], torch.randn(2, 8))
    merged.check(vectors(5))
    assert [(use.rule, use.rows) for use in merged.report.uses][-2:] == [
        ("linear", 3),
        ("linear", 2),
    ]
    assert merged.program.output_names == tuple(f"m{i}.output_0" for i in range(5))
    assert merged.report.apart == (
        "linear_1 (aten.linear.default): only in m0, m2, m4",
        "linear_1 (aten.linear.default): only in m1, m3",
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: nn.LayerNorm(8, eps=1e-5), lambda: nn.LayerNorm(8, eps=1e-1)),
        (lambda: nn.LeakyReLU(0.1), lambda: nn.LeakyReLU(0.9)),
        (lambda: nn.Softmax(-1), lambda: nn.Softmax(0)),
        (lambda: nn.ReLU(), lambda: nn.Identity()),
        (lambda: nn.Unflatten(1, (2, 4)), lambda: nn.Unflatten(1, (4, 2))),
    ],
)
def test_near_twins_are_not_merged_wrongly(one: Any, other: Any) -> None:
    models = [nn.Sequential(nn.Linear(8, 8), make()) for make in (one, other, one)]
    Merged(models, torch.randn(2, 8)).check(vectors(3))


@pytest.mark.parametrize("ways", [(True, True, True), (True, False, True), (False, False)])
def test_tied_and_untied(ways: tuple[bool, ...]) -> None:
    merged = Merged([Tied(tied) for tied in ways], tokens(1, 7))
    merged.check([[tokens(1, 7)] for _ in ways])


def test_a_tied_weight_is_stored_once() -> None:
    models = [Tied(True) for _ in range(3)]
    stored = sum(w.numel() for w in Merged(models, tokens(1, 7)).program.weights.values())
    # The table is read by row and by column; it may be laid out twice, never per use.
    assert stored <= 2 * 3 * 20 * 8 + 3


class TwoInputs(nn.Module):
    """Two inputs of different shape, two results."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix both."""
        z = self.first(x)
        return z + y, self.second(y).mul(2.0)


@pytest.mark.parametrize("io", ["stacked", "named"])
def test_several_inputs_and_outputs(io: Any) -> None:
    args = (torch.randn(2, 8), torch.randn(2, 4))
    merged = Merged([TwoInputs() for _ in range(3)], *args, io=io, n_outputs=2)
    merged.check([[torch.randn(2, 8), torch.randn(2, 4)] for _ in range(3)])
    wanted = (
        ("input_0", "input_1")
        if io == "stacked"
        else tuple(f"m{m}.input_{i}" for m in range(3) for i in range(2))
    )
    assert merged.program.input_names == wanted


def test_inputs_that_differ_are_named_even_when_stacked() -> None:
    models = [nn.Sequential(nn.Linear(k, 6), nn.Tanh()) for k in (8, 5)]
    programs = [program_from(m, torch.randn(2, m[0].in_features)) for m in models]
    program, _ = merge(programs, io="stacked", names=["a", "b"])
    assert program.input_names == ("a.input_0", "b.input_0")
    assert program.output_names == ("output_0",)
    x, y = torch.randn(2, 8), torch.randn(2, 5)
    out = program.graph(x, y, *program.weights.values())[0]
    torch.testing.assert_close(out, torch.stack([models[0](x), models[1](y)]))


def test_different_models_stay_apart() -> None:
    models: list[nn.Module] = [mlp(), nn.Sequential(nn.Linear(8, 3), nn.Softmax(-1))]
    merged = Merged(models, torch.randn(2, 8), io="named")
    merged.check(vectors(2))
    assert set(merged.report.counts) == {"alone"}


def test_a_weight_that_is_an_output_and_equal_outputs() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(3))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            return self.w + 0, x * 2, torch.ones(2) * 3

    merged = Merged([Odd(), Odd()], torch.randn(3), n_outputs=3)
    merged.check([[torch.randn(3)], [torch.randn(3)]])


def test_operators_without_a_rule_are_merged_by_vmap_or_run_per_member() -> None:
    class Rare(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.kron(x, x), torch.cdist(x, x)

    merged = Merged([nn.Sequential(nn.Linear(8, 3), Rare()) for _ in range(3)],
                    torch.randn(2, 8), n_outputs=2)  # fmt: skip
    merged.check(vectors(3))
    rules = {use.op: (use.rule, use.detail) for use in merged.report.uses}
    assert rules["aten.kron.default"][0] in ("vmap", "per_member")
    assert all("no rule" in detail for rule, detail in rules.values() if rule in ("vmap",))
    assert merged.report.fallbacks
    assert "no rule" in merged.report.text()


def test_constant_tensors_and_weight_arithmetic_are_computed_once() -> None:
    class Scaled(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, 8))
            self.scale = torch.tensor(scale)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ (self.w.t() * self.scale).softmax(0) + torch.arange(4)

    merged = Merged([Scaled(0.5), Scaled(2.0)], torch.randn(2, 8))
    merged.check(vectors(2))
    calls = [n for n in merged.program.graph.graph.nodes if n.op == "call_function"]
    assert len(calls) == 2
    assert merged.report.counts == {"matmul": 1, "pointwise": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["a", "a"]}, "as many different names"),
        ({"names": ["a"]}, "as many different names"),
        ({"io": "piled"}, "'stacked' or 'named'"),
    ],
)
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    programs = [program_from(mlp(), torch.randn(2, 8)) for _ in range(2)]
    with pytest.raises(ConfigError, match=message):
        merge(programs, **{"io": "stacked", "names": ["a", "b"], **change})
    with pytest.raises(ConfigError, match="at least one"):
        merge([], io="stacked", names=[])


def test_inputs_of_different_shape_cannot_be_shared() -> None:
    programs = [program_from(nn.Linear(k, 6), torch.randn(2, k)) for k in (8, 5)]
    with pytest.raises(
        MergeError, match=r"input 0 of a is float32\[2, 8\] and of b float32\[2, 5\]"
    ):
        merge(programs, io="named", names=["a", "b"], shared_inputs=True)


def test_members_are_left_as_they_are() -> None:
    programs = [program_from(mlp(), torch.randn(2, 8)) for _ in range(2)]
    before = [graph_text(program) for program in programs]
    merge(programs, io="stacked", names=["a", "b"])
    assert [graph_text(program) for program in programs] == before


def test_graph_of_two_networks_with_different_ends(golden: Golden) -> None:
    torch.manual_seed(0)
    models = [nn.Sequential(mlp(), nn.ReLU() if i % 2 else nn.Tanh()) for i in range(4)]
    golden.check(graph_text(Merged(models, torch.randn(2, 8)).program))


def test_graph_of_convolutions(golden: Golden) -> None:
    torch.manual_seed(0)
    golden.check(graph_text(Merged([cnn() for _ in range(3)], torch.randn(1, 3, 12, 12)).program))


def test_control_flow_runs_per_member() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.body(x)
            return torch.cond(y.sum() > 0, lambda t: t.sin(), lambda t: t.cos(), (y,)) + 1

    merged = Merged([Branch() for _ in range(3)], torch.randn(2, 8))
    for _ in range(4):
        merged.check(vectors(3))
    assert [u.rule for u in merged.report.uses] == [
        "linear", "reduce_all", "pointwise", "per_member", "pointwise",
    ]  # fmt: skip
    assert "control flow" in merged.report.text()


def test_random_operators_draw_for_each_member() -> None:
    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 0 + torch.zeros(2, 8)

    programs = [program_from(Noisy(), torch.zeros(2, 8)) for _ in range(2)]
    for program in programs:
        for node in program.graph.graph.nodes:
            if node.target in (torch.ops.aten.full.default, torch.ops.aten.zeros.default):
                node.target, node.args = torch.ops.aten.rand.default, ([2, 8],)
        program.graph.recompile()
    program, report = merge(programs, io="stacked", names=["a", "b"])
    assert "aten.rand.default" in {use.op for use in report.uses}
    one, other = program.graph(torch.zeros(2, 2, 8), *program.weights.values())[0]
    assert not torch.equal(one, other)
