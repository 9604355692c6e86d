"""What cannot be imported from PyTorch is refused at import, naming the place."""

import re
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fusec.importers.source import torch_source
from fusec.importers.torch_capture import capture
from fusec.ir.errors import ConfigError, FusecError, ImportFailed

X = torch.randn(1, 6)
NESTED = torch.nested.nested_tensor([X[0]], layout=torch.jagged)


def refused(module, *args, text):
    with pytest.raises(FusecError) as caught:
        source = torch_source(module, args or (X,))
        capture(source.module, source.examples)
    message = str(caught.value)
    assert re.search(text, message), message
    assert "\n" not in message
    return message


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(6, 6)
        self.register_buffer("count", torch.zeros(6))
        self.memory = torch.zeros(6)
        self.eval()


def here(message):
    """The message must point into this file."""
    assert "test_torch_refuse.py:" in message


@pytest.mark.parametrize(
    "layer",
    [
        nn.Dropout(0.1), nn.BatchNorm1d(6), nn.RReLU(),
        nn.InstanceNorm1d(6, track_running_stats=True),
    ],
)  # fmt: skip
def test_training_mode_is_found_also_when_nested(layer):
    module = nn.Sequential(nn.Linear(6, 6), nn.Sequential(layer)).eval()
    layer.train()
    refused(module, text=r"1\.0 .*training mode.*eval\(\)")


def test_training_mode_of_layers_that_do_not_care_is_fine():
    module = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Dropout(0.0)).train()
    source = torch_source(module, (X,))
    capture(source.module, source.examples)
    lstm = nn.LSTM(6, 3, 2, dropout=0.5)
    refused(lstm, torch.randn(4, 1, 6), text="LSTM.*training")


def test_functional_dropout_in_training_mode():
    class Model(Net):
        def forward(self, x):
            return F.dropout(x, 0.5, training=True)

    here(refused(Model(), text="dropout.*random"))


def test_functional_batch_norm_in_training_mode():
    class Model(Net):
        def forward(self, x):
            mean, var = self.count.clone(), self.count + 1
            y = F.batch_norm(x.expand(3, 6), self.count, self.lin.bias.detach(), training=True)
            return y + mean + var

    here(refused(Model(), text="running statistics"))


def test_batch_statistics_without_running_ones_are_no_state():
    module = nn.BatchNorm1d(6, track_running_stats=False).eval()
    source = torch_source(module, (torch.randn(3, 6),))
    captured = capture(source.module, source.examples)
    got = captured.graph(*source.examples, *captured.weights.values())[0]
    torch.testing.assert_close(got, module(*source.examples))


class CountsUp(Net):
    def forward(self, x):
        self.count += 1
        return x + self.count


class CopiesIntoBuffer(Net):
    def forward(self, x):
        self.count[:3].copy_(x[0, :3])
        return x + self.count


class WritesConstant(Net):
    def forward(self, x):
        self.memory.add_(1)
        return x + self.memory


class WritesParameter(Net):
    def forward(self, x):
        self.lin.bias.mul_(2)
        return self.lin(x)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (CountsUp, "count"), (CopiesIntoBuffer, "count"), (WritesConstant, "memory"),
        (WritesParameter, r"lin\.bias"),
    ],
)  # fmt: skip
def test_state_written_in_place(model, name):
    module = model()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    refused(module, text=rf"writes to {name}")
    if name == "count":
        assert torch.equal(module.state_dict()["count"], before["count"])


@pytest.mark.parametrize(
    "layer", [nn.LazyLinear(3), nn.LazyConv2d(3, 1)], ids=lambda m: type(m).__name__
)
def test_lazy_layers_without_weights(layer):
    refused(nn.Sequential(layer).eval(), text=r"weight of 0 \(Lazy\w+\) has no shape yet")


def test_weights_made_in_inference_mode():
    with torch.inference_mode():
        module = nn.Sequential(nn.Linear(6, 3)).eval()
    refused(module, text="weight of 0 was made under torch.inference_mode")


def test_eigenvalues_are_not_asked_of_nan():
    class Model(Net):
        def forward(self, x):
            return torch.linalg.eigvals(x)

    # Without the check torch takes the whole process down.
    source = torch_source(Model(), (torch.eye(6)[None],))
    with pytest.raises(ConfigError, match="no answer for NaN"):
        source.run((torch.full((1, 6, 6), torch.nan),))


def test_packed_quantised_layers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(6, 3)).eval())
    refused(module, text=r"0 \(Linear\) holds weights packed by torch\.ao\.quantization")


@pytest.mark.parametrize(
    ("example", "kind"),
    [(X.to_sparse(), "sparse_coo"), (NESTED, "nested")],
    ids=["sparse", "nested"],
)
def test_examples_that_are_not_dense(example, kind):
    refused(nn.ReLU(), example, text=f"is a .*{kind} tensor; give a dense one")


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_dtypes_that_a_plan_cannot_hold():
    class Model(Net):
        def forward(self, x):
            return x.chalf().real

    here(refused(Model(), text="complex32, which a plan cannot hold"))


def test_native_batch_norm_that_updates_its_statistics():
    class Model(Net):
        def forward(self, x):
            count, one = self.count, torch.ones(6)
            return torch.native_batch_norm(x, None, None, count, one, True, 0.1, 1e-5)[0]

    here(refused(Model(), torch.randn(3, 6), text="updates its running statistics"))


class CountsInAnAttribute(Net):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return x + self.calls


class ReplacesItsBuffer(Net):
    def forward(self, x):
        self.count = self.count + 1
        return x + self.count


@pytest.mark.parametrize("model", [CountsInAnAttribute, ReplacesItsBuffer])
def test_state_that_no_trace_shows(model):
    module = model()
    with pytest.raises(ImportFailed, match="keeps state between calls"):
        torch_source(module, (X,)).refuse_memory()
    assert module.calls == 0 if model is CountsInAnAttribute else not module.count.any()


def test_nan_is_no_state():
    torch_source(nn.ReLU(), (torch.full((1, 6), torch.nan),)).refuse_memory()


def test_state_kept_in_an_attribute():
    class Model(Net):
        def forward(self, x):
            self.memory = self.memory + x
            return self.memory

    module = Model()
    refused(module, text="stores tensors in memory")
    assert torch.equal(module.memory, torch.zeros(6))


class Branches(Net):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


class ReadsItem(Net):
    def forward(self, x):
        return x[:, : int(x[0, 0].abs().item()) + 1]


class Counts(Net):
    def forward(self, x):
        return torch.nonzero(x)


class Selects(Net):
    def forward(self, x):
        return x[x > 0]


class Uniques(Net):
    def forward(self, x):
        return torch.unique(x)


class Loops(Net):
    def forward(self, x):
        for _ in range(int(x.abs().max())):
            x = x + 1
        return x


@pytest.mark.parametrize("model", [Branches, ReadsItem, Counts, Selects, Uniques, Loops])
def test_data_dependence_names_the_line(model):
    here(refused(model(), text="values of tensors|depends on the values"))


@pytest.mark.parametrize(
    "function",
    [
        torch.rand_like,
        torch.bernoulli,
        lambda x: x + torch.randn(6),
        lambda x: torch.normal(x, 1.0),
    ],
)
def test_random_operators(function):
    class Model(Net):
        def forward(self, x):
            return function(x.sigmoid())

    here(refused(Model(), text="random"))


def test_attention_with_dropout():
    class Model(Net):
        def forward(self, x):
            return F.scaled_dot_product_attention(x[None], x[None], x[None], dropout_p=0.5)

    here(refused(Model(), text="random"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(Net().lin, X)
    refused(nn.Sequential(nn.Linear(6, 6), scripted).eval(), text="1 is a TorchScript module")


def test_meta_tensors():
    refused(nn.Linear(6, 6, device="meta"), text="weight.*meta device")
    with pytest.raises(ConfigError, match="meta tensor"):
        torch_source(nn.Linear(6, 6), (torch.empty(1, 6, device="meta"),))

    class Model(Net):
        def __init__(self):
            super().__init__()
            self.hidden = torch.empty(6, device="meta")

        def forward(self, x):
            return x + self.hidden

    with pytest.raises(FusecError, match="meta"):
        torch_source(Model(), (X,))


def test_custom_operators_outside_the_set():
    class Model(Net):
        def forward(self, x):
            return torch.ops.fusec_test.twice(x)

    @torch.library.custom_op("fusec_test::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @twice.register_fake
    def _(x):
        return torch.empty_like(x)

    here(refused(Model(), text=r"fusec_test\.twice.*outside the fusec operator set"))


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_packed_sequences_and_projections():
    class Packs(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(6, 3)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, [3])
            return self.lstm(packed)[0].data

    refused(Packs(), torch.randn(3, 1, 6), text="PackedSequence")
    lstm = nn.LSTM(6, 3, proj_size=2)
    refused(lstm, torch.randn(3, 1, 6), text="proj_size")


def test_models_that_fail_by_themselves_say_where():
    class Model(Net):
        def forward(self, x):
            return self.lin(x[:, :3])

    here(refused(Model(), text="fails when run.*RuntimeError"))


def test_results_without_tensors():
    class Model(Net):
        def forward(self, x):
            return {"a": object()}

    refused(Model(), text="output a is a object")

    class Nothing(Net):
        def forward(self, x):
            return None

    refused(Nothing(), text="returns no tensor")


def test_control_flow_on_shapes_is_fine():
    class Model(Net):
        def forward(self, x):
            return x if x.shape[0] == 1 and x.dim() == 2 else x.sum()

    source = torch_source(Model(), (X,))
    assert capture(source.module, source.examples).output_names == ("output_0",)


def test_errors_are_of_the_right_kind():
    with pytest.raises(ImportFailed):
        torch_source(nn.Dropout(0.5), (X,))
    with pytest.raises(ConfigError, match="is a class"):
        torch_source(nn.Linear, (X,))
    with pytest.raises(ConfigError, match="give example inputs"):
        torch_source(nn.Linear(6, 6))
    with pytest.raises(ConfigError, match="do not fit"):
        torch_source(nn.Linear(6, 6), (X, X))
