"""One template n times, weights as arguments."""

from __future__ import annotations

import pytest
import torch
from fusec_testing.merge_models import cnn, mlp
from fusec_testing.programs import program_from
from torch import nn

from fusec.ir.errors import ConfigError
from fusec.passes.merge import hoist, merge_uniform
from fusec.passes.program import Program


def stacked(programs: list[Program]) -> list[torch.Tensor]:
    return [torch.stack(w) for w in zip(*(p.weights.values() for p in programs), strict=True)]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_stacked_inputs_and_weights(n: int) -> None:
    models = [cnn() for _ in range(n)]
    programs = [program_from(m, torch.randn(1, 3, 12, 12)) for m in models]
    module, report = merge_uniform(programs[0], n)
    x = torch.randn(n, 1, 3, 12, 12)
    with torch.no_grad():
        (out,) = module(x, *stacked(programs))
        torch.testing.assert_close(
            out, torch.stack([m(row) for m, row in zip(models, x, strict=True)])
        )
    assert report.members == n


def test_shared_input_and_shared_weights() -> None:
    body = nn.Linear(8, 16)
    models = [nn.Sequential(body, nn.ReLU(), nn.Linear(16, 4)) for _ in range(3)]
    programs = [program_from(m, torch.randn(2, 8)) for m in models]
    names = list(programs[0].weights)
    shared = frozenset(i for i, name in enumerate(names) if name.startswith("0."))
    assert len(shared) == 2
    module, report = merge_uniform(
        programs[0], 3, shared_inputs=frozenset({0}), shared_weights=shared
    )
    weights = stacked(programs)
    given = [w[0] if i in shared else w for i, w in enumerate(weights)]
    x = torch.randn(2, 8)
    torch.testing.assert_close(module(x, *given)[0], torch.stack([m(x) for m in models]))
    assert report.counts == {"shared": 2, "linear": 1}


def test_everything_shared_still_gives_stacked_outputs() -> None:
    program = program_from(mlp(), torch.randn(2, 8))
    every = frozenset(range(len(program.weights)))
    module, report = merge_uniform(
        program, 3, shared_inputs=frozenset({0}), shared_weights=every, values=True
    )
    x = torch.randn(2, 8)
    out = module(x, *program.weights.values())[0]
    assert out.shape == (3, 2, 4)
    torch.testing.assert_close(out[2], program.graph(x, *program.weights.values())[0])
    assert set(report.counts) == {"shared"}


def test_weights_prepared_once() -> None:
    programs = [program_from(cnn(), torch.randn(1, 3, 12, 12)) for _ in range(3)]
    module, _ = merge_uniform(programs[0], 3, values=True)
    prepare, main = hoist(module, 1)
    weights, x = stacked(programs), torch.randn(3, 1, 3, 12, 12)
    with torch.no_grad():
        ready = [w.contiguous() for w in prepare(*weights)]
        torch.testing.assert_close(main(x, *ready), module(x, *weights))
    count = sum(node.op == "call_function" for node in main.graph.nodes)
    assert count < sum(node.op == "call_function" for node in module.graph.nodes)


@pytest.mark.parametrize(
    ("n", "inputs", "weights", "message"),
    [
        (0, (), (), "at least one instance"),
        (2, (1,), (), "shared input 1 is none of the program's 1"),
        (2, (), (99,), "shared weight 99 is none"),
    ],
)
def test_bad_numbers(
    n: int, inputs: tuple[int, ...], weights: tuple[int, ...], message: str
) -> None:
    program = program_from(mlp(), torch.randn(2, 8))
    with pytest.raises(ConfigError, match=message):
        merge_uniform(
            program, n, shared_inputs=frozenset(inputs), shared_weights=frozenset(weights)
        )
