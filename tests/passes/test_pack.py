"""Cutting a program into template and recipe."""

from __future__ import annotations

import torch
from fusec_testing.programs import packed, program_from
from torch import nn

from fusec.ir.template import Ref, Symbol, TensorSpec
from fusec.kernels.interpret import run_body
from fusec.kernels.torch_graph import to_graph
from fusec.passes.pack import pack
from fusec.passes.unpack import unpack
from fusec.runtime.recipe import apply_recipe


class _Folding(nn.Module):
    """Uses a weight through a transpose and a scale; the recipe must do both."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 3))
        self.s = nn.Parameter(torch.randn(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, (self.w * self.s).t().contiguous())


def test_weight_only_operators_move_to_the_recipe() -> None:
    module = _Folding()
    template, recipe = packed(module, torch.zeros(1, 4))
    assert [r.op for r in template.body.rows] == ["aten.linear.default"]
    assert template.weights == (TensorSpec("float32", (3, 4)),)
    assert set(recipe.names) == {"w", "s"}
    weights = apply_recipe(recipe, dict(module.named_parameters()))
    x = torch.randn(1, 4)
    (got,) = to_graph(template.body)(x, *weights)
    assert torch.equal(got, module(x))


def test_order_of_listed_weights_does_not_matter() -> None:
    class A(nn.Module):
        def __init__(self, swap: bool) -> None:
            super().__init__()
            names = ["p", "q"] if not swap else ["q", "p"]
            for n in names:
                self.register_parameter(n, nn.Parameter(torch.randn(4)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * self.p) + self.q

    x = torch.zeros(1, 4)
    assert packed(A(False), x)[0].key == packed(A(True), x)[0].key


def test_a_weight_returned_as_it_is() -> None:
    class A(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(1, 4))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, self.w * 2

    module = A()
    template, recipe = pack(program_from(module, torch.zeros(1, 4), n_outputs=2))
    assert template.body.results == (Ref(2), Ref(1))
    (weight,) = apply_recipe(recipe, {"w": module.w.detach()})
    assert torch.equal(weight, module.w * 2)


def test_symbols_keep_their_names_in_extents() -> None:
    program = program_from(
        nn.Sequential(nn.Flatten(1), nn.ReLU()),
        torch.zeros(1, 5, 3),
        dynamic={0: {1: Symbol("length", 2, 64)}},
    )
    template, _ = pack(program)
    (symbol,) = template.symbols
    assert (symbol.min, symbol.max) == (2, 64)
    assert template.inputs == (TensorSpec("float32", (1, symbol.name, 3)),)
    assert template.body.spec_of(template.body.results[0]) == TensorSpec(
        "float32", (1, f"3*{symbol.name}")
    )


def test_unpack_gives_a_program_that_packs_to_the_same_template() -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2))
    template, _ = packed(module, torch.zeros(1, 4))
    again, recipe = pack(unpack(template, [(1, 4)]))
    assert again.key == template.key
    assert recipe.body.rows == ()


def test_interpreting_a_body_equals_running_its_graph() -> None:
    module = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    template, recipe = packed(module, torch.zeros(1, 2, 8, 8))
    weights = apply_recipe(recipe, module.state_dict())
    x = torch.randn(1, 2, 8, 8)
    with torch.no_grad():
        (a,) = run_body(template.body, [x, *weights])
        (b,) = to_graph(template.body)(x, *weights)
    assert torch.equal(a, b)
