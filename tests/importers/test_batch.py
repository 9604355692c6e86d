"""Batch axes and row independence, asked of sources of every kind."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fusec.importers.batch import find_batch, one_row
from fusec.importers.rows import cut_row, join_rows, spoil, vary
from fusec.importers.source import torch_source
from fusec.ir.errors import ConfigError
from fusec.ir.template import RowsKind


class Plain:
    """A source that is nothing but a function."""

    def __init__(self, function):
        self.function = function
        self.calls = 0

    def run(self, args):
        self.calls += 1
        with torch.no_grad():
            result = self.function(*args)
        return result if isinstance(result, tuple) else (result,)


def facts(function, *examples, **kwargs):
    found = find_batch(Plain(function), examples, **kwargs)
    return found.kind, found.input_axes, found.output_axes


ROWS, ONE, WHOLE = RowsKind.INDEPENDENT, RowsKind.SINGLE_ROW, RowsKind.WHOLE_REQUEST
A = torch.randn(1, 6)
LSTM = nn.LSTM(4, 3)
FIRST = nn.LSTM(4, 3, batch_first=True)
BATCH_NORM = nn.BatchNorm1d(6, track_running_stats=False)
EMBED = nn.Embedding(10, 4)


def lstm(x, h, c):
    y, (h, c) = LSTM(x, (h, c))
    return y, h, c


def lstm_first(x):
    y, (h, c) = FIRST(x)
    return y, h, c


CASES = [
    ("linear", nn.Linear(6, 3), (A,), (ROWS, (0,), (0,))),
    ("many rows given", nn.Linear(6, 3), (torch.randn(4, 6),), (ROWS, (0,), (0,))),
    ("two rows given", nn.Linear(6, 3), (torch.randn(2, 6),), (ROWS, (0,), (0,))),
    ("vector out", lambda x: x.sum(1), (A,), (ROWS, (0,), (0,))),
    ("token ids", EMBED, (torch.tensor([[1, 9, 3]]),), (ROWS, (0,), (0,))),
    ("equal ids", EMBED, (torch.full((1, 3), 9),), (ROWS, (0,), (0,))),
    ("state on axis 1", lstm, (torch.randn(5, 1, 4), torch.zeros(1, 1, 3), torch.zeros(1, 1, 3)),
     (ROWS, (1, 1, 1), (1, 1, 1))),
    ("state out on axis 1", lstm_first, (torch.randn(1, 5, 4),), (ROWS, (0,), (0, 1, 1))),
    ("input without batch", lambda x, m: (x @ m, m * 2), (A, torch.randn(6, 6)),
     (ROWS, (0, None), (0, None))),
    ("scalar input", lambda x, t: x * t, (A, torch.tensor(2.0)), (ROWS, (0, None), (0,))),
    ("constant output", lambda x: (x + 1, torch.arange(3)), (A,), (ROWS, (0,), (0, None))),
    ("several entries a row", lambda x: x.reshape(-1, 3), (A,), (ROWS, (0,), (0,))),
    ("integers out", lambda x: x.argmax(1), (A,), (ROWS, (0,), (0,))),
    ("batch norm over rows", BATCH_NORM, (torch.randn(2, 6),), (WHOLE, (0,), (0,))),
    ("faint mean over rows", lambda x: x - 1e-9 * x.mean(0), (A,), (WHOLE, (0,), (0,))),
    ("sum over rows beside", lambda x: (x, x.sum()), (A,), (WHOLE, (0,), (0, None))),
    ("earlier rows", lambda x: x.cumsum(0), (A,), (WHOLE, (0,), (0,))),
    ("later rows", lambda x: x.flip(0).cumsum(0).flip(0), (A,), (WHOLE, (0,), (0,))),
    ("rows against rows", lambda x: x @ x.T, (A,), (WHOLE, (0,), (None,))),
    ("pooled rows", lambda x: x.mean(0), (A,), (WHOLE, (0,), (None,))),
    ("sorted rows", lambda x: x.sort(0).values, (A,), (WHOLE, (0,), (0,))),
    ("one row baked in", lambda x: x.reshape(1, 2, 3) * 2, (A,), (ONE, (0,), (0,))),
    ("four rows baked in", lambda x: x.reshape(4, 3), (torch.randn(4, 3),),
     (WHOLE, (None,), (None,))),
    ("rows joined and mixed", lambda x: x.reshape(1, -1, 6).cumsum(1) + x.mean(),
     (torch.randn(1, 5, 6),), (WHOLE, (0,), (1,))),
    ("one row baked in, steps mixed", lambda x: x.view(1, x.shape[1], 2, 3).cumsum(1),
     (torch.randn(1, 5, 6),), (ONE, (0,), (0,))),
    ("one row baked in, no row out", lambda x: x.reshape(6), (A,), (WHOLE, (None,), (None,))),
    ("no input", lambda: torch.ones(3), (), (WHOLE, (), (None,))),
    ("unused second", lambda x, y: x * 2, (A, torch.zeros(1, 3)), (ROWS, (0, 0), (0,))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "examples", "want"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_facts(function, examples, want):
    torch.manual_seed(0)
    assert facts(function, *examples) == want


def test_numbers_of_rows_tried_are_few():
    source = Plain(nn.Linear(6, 3))
    find_batch(source, (A,))
    assert source.calls <= 10


def test_the_callers_word():
    x, m = torch.randn(1, 6), torch.randn(1, 6)
    assert facts(lambda x, m: x + m, x, m) == (ROWS, (0, 0), (0,))
    assert facts(lambda x, m: x + m, x, m, given=(0, None)) == (ROWS, (0, None), (0,))
    # What the caller says is checked all the same.
    assert facts(lambda x: x - x.mean(0), A, given=(0,))[0] is WHOLE
    assert facts(lambda x: x.reshape(1, 2, 3), A, given=(0,)) == (ONE, (0,), (0,))
    how = find_batch(Plain(nn.Tanh()), (A,), given=(0,)).how
    assert "given by the caller" in how


def test_named_axes_are_tried_first():
    x = torch.randn(1, 1, 4)
    assert facts(lambda x: x * 2, x)[1] == (0,)
    assert facts(lambda x: x * 2, x, named=(1,))[1] == (1,)
    assert facts(lambda x: x * 2, x, named={0: 1})[1] == (1,)
    assert facts(lambda x: x * 2, x, named={})[1] == (0,)
    # A name that is wrong is not believed.
    assert facts(lambda x: x - x.mean(1, keepdim=True), x, named=(1,))[:2] == (ROWS, (0,))


@pytest.mark.parametrize(
    ("axes", "text"),
    [((2,), "has 2 axes"), ((0, 0), "2 batch axes given for 1"), ((-1,), "has 2 axes")],
)
def test_axes_that_do_not_exist(axes, text):
    with pytest.raises(ConfigError, match=text):
        find_batch(Plain(nn.Tanh()), (A,), given=axes)


def test_examples_with_differing_rows():
    with pytest.raises(ConfigError, match="rows"):
        find_batch(Plain(torch.add), (torch.ones(2, 3), torch.ones(3, 3)), given=(0, 0))
    with pytest.raises(ConfigError, match="no row"):
        find_batch(Plain(torch.neg), (torch.ones(0, 3),), given=(0,))


def test_a_model_that_does_not_run():
    with pytest.raises(ConfigError, match="does not run on its example inputs"):
        find_batch(Plain(lambda x: x.reshape(5)), (A,))


def test_sources_that_refuse_nan_are_judged_by_numbers():
    def refuses(x):
        if x.isnan().any():
            raise ValueError("NaN")
        return x * 2

    assert facts(refuses, A) == (ROWS, (0,), (0,))


def test_nan_finds_what_numbers_hide():
    # A maximum that never wins changes no number, yet ties the rows together.
    assert facts(lambda x: x + 0 * x.sum(0), A)[0] is WHOLE


def test_results_with_nan_and_infinity_of_their_own():
    assert facts(lambda x: torch.stack([x / 0, x * torch.inf, x], 1), A) == (ROWS, (0,), (0,))


def test_rounding_of_large_products_is_no_dependence():
    torch.manual_seed(1)
    wide = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512)).eval()
    assert facts(wide, 100 * torch.randn(1, 512))[0] is ROWS
    assert facts(wide.half(), torch.randn(1, 512).half())[0] is ROWS


def test_module_state_does_not_leak_between_runs():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("runs", torch.zeros(1))
            self.last = None

        def forward(self, x):
            self.runs += 1
            self.last = x
            return x + self.runs

    module = Counter().eval()
    source = torch_source(module, (A,))
    assert torch.equal(source.run((A,))[0], source.run((A,))[0])
    assert find_batch(source, source.examples).kind is ROWS
    assert module.runs.item() == 0
    assert module.last is None


def test_one_row_is_what_a_template_is_captured_at():
    x, m = torch.randn(4, 6), torch.randn(6, 6)
    row = one_row((x, m), (0, None))
    assert torch.equal(row[0], x[:1])
    assert row[1] is m


@settings(max_examples=50, deadline=None)
@given(
    kind=st.sampled_from([torch.float32, torch.int64, torch.bool]),
    seed=st.integers(0, 99),
    axis=st.integers(0, 1),
)
def test_made_up_rows_stay_valid(kind, seed, axis):
    torch.manual_seed(seed)
    x = (torch.randn(3, 4) * 5).to(kind)
    row = cut_row((x,), (axis,), 1)
    made = vary(row, (axis,), 1)
    assert made[0].shape == row[0].shape
    assert made[0].dtype == kind
    if kind is not torch.float32:
        assert sorted(made[0].flatten().tolist()) == sorted(row[0].flatten().tolist())
    rows = [cut_row((x,), (axis,), i) for i in range(x.shape[axis])]
    assert torch.equal(join_rows(rows, (axis,))[0], x)


def test_flags_among_floats_keep_their_values():
    mask = torch.tensor([[0.0, 0.0, -1e9, -1e9]])
    assert set(vary((mask,), (0,), 1)[0].flatten().tolist()) == {0.0, -1e9}
    assert spoil((mask, mask), (None, None)) is None
    assert spoil((torch.ones(1, dtype=torch.int64),), (0,)) is None


def test_rows_of_one_index_are_told_apart():
    ids = torch.tensor([3])
    assert facts(lambda i: EMBED(i), ids) == (ROWS, (0,), (0,))
    assert facts(lambda i: EMBED(i.flip(0)), ids)[0] is WHOLE
    assert facts(lambda i: (EMBED(i), EMBED(i).mean()), ids)[0] is WHOLE
    assert facts(lambda i: (i * 2, (~(i > 2)).flip(0)), ids)[0] is WHOLE
    longer = torch.tensor([[3, 1, 4]])
    assert facts(lambda i: (i * 2, i.sum(1).argmax()), longer)[0] is WHOLE
    assert facts(lambda i: EMBED(i), longer) == (ROWS, (0,), (0,))
    only = nn.Embedding(1, 4)
    assert facts(lambda i: only(i), torch.tensor([[0, 0]])) == (ROWS, (0,), (0,))
    masks = torch.ones(1, 5, dtype=torch.bool)
    assert facts(lambda m: m & m.all(0, keepdim=True), masks)[0] is WHOLE
