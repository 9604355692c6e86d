"""What a trace must see through: written inputs, hooks, gradient modes, vmap, second spellings."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from fusec.importers.source import torch_source
from fusec.importers.torch_capture import capture
from fusec.kernels.operators import is_operator

ROWS = torch.randn(1, 6)


class Fn(nn.Module):
    """A function of the module and its inputs."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, torch.Tensor):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *args):
        return self.function(self, *args)


def check(module, *inputs):
    """Capture a module at other inputs; the graph must give exactly what the module gives."""
    module.eval()
    captured = capture(module, tuple(torch.ones_like(x) for x in inputs))
    for node in captured.graph.graph.nodes:
        assert node.op != "call_function" or is_operator(node.target), node
    with torch.no_grad():
        want = module(*(x.clone() for x in inputs))
        got = captured.graph(*inputs, *captured.weights.values())
    want = want if isinstance(want, tuple) else (want,)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "function",
    [lambda x: x.add_(1) * 2, lambda x: x[:, :2].zero_().sum(1) + x.sum(1), F.relu_],
    ids=["whole", "view", "relu"],
)
def test_inputs_that_are_written_to_are_copied(function):
    torch.manual_seed(3)
    x = torch.randn(1, 6)
    before = x.clone()
    source = torch_source(Fn(lambda m, x: function(x)), (x,))
    want = source.run((x,))
    captured = capture(source.module, source.examples)
    got = captured.graph(x)
    assert torch.equal(x, before)
    torch.testing.assert_close(got[0], want[0])
    torch.testing.assert_close(want[0], function(before.clone()))
    assert "the model writes to input args_0; it gets a copy of its own" in source.notes


def gradient_modes(m, x):
    with torch.enable_grad():
        y = m.lin(x)
        with torch.no_grad():
            y, w = y * 2, y + 1
        y = m.lin(y)
    with torch.inference_mode():
        return y.relu(), w


def vectorised(m, x):
    return torch.vmap(lambda row: row @ m.lin.weight + m.lin.bias)(x)


@pytest.mark.parametrize("function", [gradient_modes, vectorised])
def test_regions_that_change_how_and_not_what(function):
    torch.manual_seed(3)
    check(Fn(function, lin=nn.Linear(6, 6)), ROWS)


@pytest.mark.parametrize(
    "normalise",
    [
        nn.utils.weight_norm,
        lambda m: nn.utils.spectral_norm(m).eval(),
        lambda m: prune.l1_unstructured(m, "weight", 0.5),
        nn.utils.parametrizations.weight_norm,
    ],
    ids=["weight_norm hook", "spectral_norm hook", "pruning hook", "parametrization"],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_that_hooks_compute(normalise):
    module = nn.Sequential(normalise(nn.Linear(6, 3)))
    check(module, ROWS)
    with torch.no_grad():
        assert module(ROWS).isfinite().all()


def test_operators_that_torch_itself_spells_with_others():
    check(Fn(lambda m, x: torch.addmv(m.b, x, m.v), b=torch.randn(1), v=torch.randn(6)), ROWS)
