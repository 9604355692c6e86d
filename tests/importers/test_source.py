"""Every form of a PyTorch model becomes one kind of source."""

import dataclasses
import zipfile
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.export import Dim, export, save

from fusec.importers.batch import find_batch, one_row
from fusec.importers.source import torch_source
from fusec.importers.torch_capture import capture
from fusec.importers.variants import variants
from fusec.ir.errors import ConfigError, FusecError, ImportFailed
from fusec.ir.template import RowsKind, Symbol

X = torch.randn(2, 5, 6)


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(6, 3)
        self.register_buffer("shift", torch.ones(3), persistent=False)
        self.scale = torch.full((3,), 2.0)

    def forward(self, x, flag=True, *, extra=None):
        y = self.lin(x) * self.scale + self.shift
        if extra is not None:
            y = y + extra["bias"] + extra["more"][0]
        return {"y": y, "nested": (y + 1, None, [y - 1]), "steps": x.shape[1], "flag": flag}


EXTRA = {"bias": torch.randn(2, 5, 3), "more": [torch.randn(2, 5, 3)]}


def agree(source, *, dynamic=None):
    captured = capture(
        source.module,
        source.examples,
        dynamic=dynamic,
        input_names=source.input_names,
        output_names=source.output_names,
    )
    got = captured.graph(*source.examples, *captured.weights.values())
    want = source.run(source.examples)
    assert len(got) == len(want) == len(source.output_names)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(torch.as_tensor(a), b)
    return captured


def test_nested_arguments_and_results_have_stable_names():
    source = torch_source(Nested().eval(), (X,), {"flag": False, "extra": EXTRA})
    assert source.input_names == ("x", "extra.bias", "extra.more_0")
    assert source.output_names == ("y", "nested_0", "nested_2_0", "steps", "flag")
    assert source.notes == ("argument flag is fixed at False",)
    captured = agree(source)
    assert set(captured.weights) == {"lin.weight", "lin.bias", "shift", "scale"}


def test_sizes_as_results_follow_the_request():
    class Model(nn.Module):
        def forward(self, x):
            return x * 2, x.shape[1], x.shape[1] / 2, True

    source = torch_source(Model(), (X,))
    captured = agree(source, dynamic={0: {1: Symbol("t", 1, None)}})
    longer = torch.randn(2, 9, 6)
    got = captured.graph(longer, *captured.weights.values())
    assert [float(v) for v in got[1:]] == [9.0, 4.5, 1.0]


Pair = namedtuple("Pair", ["left", "right"])


@dataclasses.dataclass
class Record:
    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...]
    none: object = None


class Wraps(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda x: x * 2, ("output",)),
        (lambda x: (x, x + 1), ("output_0", "output_1")),
        (lambda x: [x], ("output_0",)),
        (lambda x: Pair(x, x + 1), ("left", "right")),
        (lambda x: Record(x, (x, x + 1)), ("logits", "hidden_0", "hidden_1")),
        (lambda x: {"a": {"b": x}}, ("a.b",)),
        (lambda x: ({"a": x}, {"a": x}), ("output_0.a", "output_1.a")),
    ],
)
def test_result_names(make, names):
    source = torch_source(Wraps(make), (X,))
    assert source.output_names == names
    agree(source)


def test_containers_as_arguments():
    class Model(nn.Module):
        def forward(self, pair, *rest, record=None):
            return pair.left + pair.right + rest[0] + record.logits + record.hidden[0]

    record = Record(X, (X,))
    source = torch_source(Model(), (Pair(X, X), X), {"record": record})
    assert source.input_names == (
        "pair.left", "pair.right", "rest_0", "record.logits", "record.hidden_0",
    )  # fmt: skip
    agree(source)


def test_numpy_examples():
    source = torch_source(nn.Linear(6, 3), (np.ones((1, 6), np.float32),))
    agree(source)


def test_symbolic_trace_of_a_module():
    module = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(5), nn.ReLU()).eval()
    source = torch_source(fx.symbolic_trace(module), (X,))
    captured = agree(source)
    assert "0.weight" in captured.weights
    torch.testing.assert_close(source.run((X,))[0], module(X))


def exported(rows="vary", **kwargs):
    model = Nested().eval()
    free = {0: Dim("rows", min=1, max=64), 1: Dim.AUTO} if rows == "vary" else {1: Dim.AUTO}
    shapes = {"x": free, "flag": None, "extra": {"bias": free, "more": [free]}}
    args = (X, False), {"extra": EXTRA}
    if rows == "one":
        args = (
            (X[:1], False),
            {"extra": {"bias": EXTRA["bias"][:1], "more": [EXTRA["more"][0][:1]]}},
        )
    return model, export(model, *args, dynamic_shapes=shapes, strict=False)


def test_exported_program_keeps_symbols_and_runs_at_any_rows():
    model, program = exported()
    source = torch_source(program)
    assert source.input_names == ("x", "extra_bias", "extra_more_0")
    rows, steps = source.dynamic[0][0], source.dynamic[0][1]
    assert (rows.min, rows.max) == (1, 64)
    assert source.dynamic[1] == {0: rows, 1: steps}
    for count in (1, 2, 3):
        inputs = [torch.randn(count, 7, n) for n in (6, 3, 3)]
        want = model(inputs[0], False, extra={"bias": inputs[1], "more": [inputs[2]]})
        torch.testing.assert_close(source.run(inputs)[0], want["y"])
    facts = find_batch(source, source.examples)
    assert facts.kind is RowsKind.INDEPENDENT
    assert facts.input_axes == (0, 0, 0)
    one = one_row(source.examples, facts.input_axes)
    captured = capture(source.module, one, dynamic={i: {1: steps} for i in range(3)})
    assert captured.symbols.symbols == (Symbol("s0", 2, None),)
    assert set(captured.weights) == {"lin.weight", "lin.bias", "shift", "scale"}
    assert torch.equal(captured.weights["lin.weight"], model.lin.weight)


def test_exported_program_with_one_row_baked_in_runs_at_more():
    source = torch_source(exported("one")[1])
    assert source.examples[0].shape[0] == 1
    assert find_batch(source, source.examples).kind is RowsKind.INDEPENDENT


def test_exported_program_without_examples():
    _, program = exported()
    program.example_inputs = None
    agree(torch_source(program))


def test_exported_program_with_other_examples():
    _, program = exported()
    mine = torch.randn(3, 7, 6), False
    bias = torch.randn(3, 7, 3)
    source = torch_source(program, mine, {"extra": {"bias": bias, "more": [bias]}})
    assert source.examples[0] is not None
    assert source.examples[0].shape == (3, 7, 6)
    agree(source)
    with pytest.raises(ConfigError, match="takes 4 values"):
        torch_source(program, (X,))
    with pytest.raises(ConfigError, match="example input x"):
        torch_source(program, (X.double(), False), {"extra": EXTRA})


@pytest.mark.filterwarnings("ignore:The tensor attributes")
def test_exported_lstm_keeps_its_layer_whole():
    layer = nn.LSTM(6, 3, batch_first=True)
    program = export(layer, (X,), strict=False)
    source = torch_source(program)
    assert find_batch(source, source.examples).kind is RowsKind.WHOLE_REQUEST
    captured = capture(source.module, source.examples, dynamic={0: {1: Symbol("t", 1, None)}})
    kinds = [str(n.target) for n in captured.graph.graph.nodes]
    assert kinds.count("fusec.rnn.default") == 1
    longer = torch.randn(2, 9, 6)
    got = captured.graph(longer, *captured.weights.values())
    torch.testing.assert_close(got[0], layer(longer)[0])


def test_pt2_file(tmp_path):
    model, program = exported()
    path = tmp_path / "model.pt2"
    save(program, path)
    for given in (path, str(path)):
        captured = agree(torch_source(given))
    state = model.state_dict()
    for name, tensor in state.items():
        assert torch.equal(captured.weights[name], tensor)


def test_files_that_are_no_program(tmp_path):
    def refused(name, text, kind=ConfigError):
        with pytest.raises(kind, match=text):
            torch_source(tmp_path / name)

    refused("missing.pt2", "no such file")
    (tmp_path / "text.pt2").write_text("hello")
    refused("text.pt2", "not a .pt2 file")
    (tmp_path / "empty.pt2").write_bytes(b"")
    refused("empty.pt2", "not a .pt2 file")
    torch.save(nn.Linear(2, 2), tmp_path / "pickle.pt2")
    refused("pickle.pt2", "pickled model", ImportFailed)
    with zipfile.ZipFile(tmp_path / "aoti.pt2", "w") as archive:
        archive.writestr("m/data/aotinductor/model/wrapper.so", b"x")
    refused("aoti.pt2", "compiled code", ImportFailed)
    with zipfile.ZipFile(tmp_path / "other.pt2", "w") as archive:
        archive.writestr("m/readme", b"x")
    refused("other.pt2", "without a program", ImportFailed)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    save(export(nn.Linear(6, 3), (torch.randn(1, 6),), strict=False), path)
    return path


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_pt2(saved, tmp_path, share):
    data = saved.read_bytes()
    bad = tmp_path / "bad.pt2"
    bad.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ConfigError, match=r"bad\.pt2"):
        torch_source(bad)


def test_flipped_bytes_in_pt2(saved, tmp_path):
    data = bytearray(saved.read_bytes())
    bad = tmp_path / "bad.pt2"
    for at in range(200, len(data), len(data) // 12):
        changed = bytearray(data)
        changed[at] ^= 0xFF
        bad.write_bytes(changed)
        try:
            source = torch_source(bad)
        except FusecError as e:
            assert "bad.pt2" in str(e)
        else:
            torch.testing.assert_close(source.run(source.examples), torch_source(saved).run(
                source.examples
            ))  # fmt: skip


def test_pickled_parts_of_pt2_are_never_read(saved, tmp_path):
    for name, data in (
        ("model/data/constants/custom_obj_0", b"x"),
        (
            "model/data/weights/model_weights_config.json",
            b'{"config": {"w": {"use_pickle": true}}}',
        ),
        ("model/data/weights/model_weights_config.json", b'{"config": [1]}'),
    ):
        bad = tmp_path / "bad.pt2"
        with zipfile.ZipFile(saved) as old, zipfile.ZipFile(bad, "w") as new:
            for item in old.namelist():
                if item != name:
                    new.writestr(item, old.read(item))
            new.writestr(name, data)
        with pytest.raises(FusecError, match=r"bad\.pt2: (holds pickled|holds a pickled|damaged)"):
            torch_source(bad)


class Pools(nn.Module):
    def forward(self, x, y):
        return torch.cat([x, x.mean(1, keepdim=True)], 1), y.squeeze(1)


def test_extents_of_one_get_programs_of_their_own():
    source = torch_source(Pools(), (torch.randn(1, 4, 3), torch.randn(1, 5)))
    dynamic = {0: {1: Symbol("t", 1, None)}, 1: {1: Symbol("u", 1, None)}}
    found = list(variants(source, source.examples, dynamic))
    shapes = [tuple(tuple(i.shape) for i in inputs) for inputs, _ in found]
    assert shapes == [
        ((1, 4, 3), (1, 5)), ((1, 1, 3), (1, 5)), ((1, 4, 3), (1, 1)), ((1, 1, 3), (1, 1)),
    ]  # fmt: skip
    assert [sorted(free) for _, free in found] == [[0, 1], [1], [0], []]
    for inputs, free in found:
        captured = capture(source.module, inputs, dynamic=free)
        for a, b in zip(captured.graph(*inputs), source.run(inputs), strict=True):
            torch.testing.assert_close(a, b)


def test_variants_only_where_range_and_source_allow():
    one = {0: {1: Symbol("t", 2, None)}}
    source = torch_source(nn.Tanh(), (torch.randn(1, 4),))
    assert len(list(variants(source, source.examples, one))) == 1
    strict = torch_source(nn.Conv1d(2, 2, 3), (torch.randn(1, 2, 5),))
    assert len(list(variants(strict, strict.examples, {0: {2: Symbol("t", 1, None)}}))) == 1
    both = torch_source(Wraps(lambda x: x * 2), (torch.randn(1, 4, 4, 4),))
    three = {0: {1: Symbol("a", 1, None), 2: Symbol("b", 1, None), 3: Symbol("c", 1, None)}}
    assert len(list(variants(both, both.examples, three))) == 5
