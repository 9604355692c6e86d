"""Recurrent layers, lowered: both machines against torch; one result whatever the cut."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.stages import Cut, run_lowered, run_native
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.extents import value
from fusec.ir.stage import BufferKind, Lowered, Stage, TileOp
from fusec.ir.template import Arg, Body, Ref, Row, RowsKind, Symbol, Template, TensorSpec
from fusec.kernels.rnn.activations import FUNCTIONS
from fusec.kernels.rnn.gates import ACTIVATIONS, GATES
from fusec.kernels.rnn.op import rnn
from fusec.passes.fuse import fuse
from fusec.passes.lower import lower

MODES = tuple(GATES)


@dataclass(frozen=True)
class Layer:
    """One direction of one layer, all its operands, and its template."""

    mode: str
    steps: int = 4
    rows: int = 1
    inputs: int = 5
    hidden: int = 6
    bias: bool = True
    peephole: bool = False
    lengths: bool = False
    seed: int = 0
    options: dict[str, object] = field(default_factory=dict)
    symbol: bool = False

    def operands(self) -> list[np.ndarray | None]:
        """x, w, r, b, h0, c0, peephole, lengths."""
        rng = np.random.default_rng(self.seed)
        columns = GATES[self.mode] * self.hidden

        def random(*shape: int, scale: float = 1) -> np.ndarray:
            return (rng.standard_normal(shape) * scale).astype(np.float32)

        lstm = self.mode == "lstm"
        return [
            random(self.steps, self.rows, self.inputs),
            random(columns, self.inputs, scale=0.3),
            random(columns, self.hidden, scale=1 / np.sqrt(self.hidden)),
            random(2, columns) if self.bias else None,
            random(self.rows, self.hidden),
            random(self.rows, self.hidden) if lstm else None,
            random(3 * self.hidden) if self.peephole and lstm else None,
            rng.integers(0, self.steps + 1, self.rows) if self.lengths else None,
        ]

    def template(self) -> Template:
        """One row; weights are w, r, b and peephole."""
        given = self.operands()
        order = [0, 4, 5, 7, 1, 2, 3, 6]
        present = [i for i in order if given[i] is not None]
        n_inputs = sum(i in (0, 4, 5, 7) for i in present)
        specs = []
        for i in present:
            array = given[i]
            assert array is not None
            shape: tuple[int | str, ...] = array.shape
            if i == 0 and self.symbol:
                shape = ("s0", *shape[1:])
            specs.append(TensorSpec(str(array.dtype), shape))
        args = tuple(Ref(present.index(i)) if i in present else None for i in range(8))
        options: list[tuple[str, Arg]] = [
            (k, tuple(v) if isinstance(v, list) else v)  # type: ignore[misc]
            for k, v in self.options.items()
        ]
        steps = "s0" if self.symbol else self.steps
        state = TensorSpec("float32", (self.rows, self.hidden))
        memory = state if self.mode == "lstm" else TensorSpec("float32", (0,))
        row = Row(
            "fusec.rnn.default",
            args,
            (("mode", self.mode), *options),
            (TensorSpec("float32", (steps, self.rows, self.hidden)), state, memory),
        )
        n = len(specs)
        parts = [Row("getitem", (Ref(n), i), (), s) for i, s in enumerate(row.out)]  # type: ignore[arg-type]
        results = 3 if self.mode == "lstm" else 2
        return Template(
            n_inputs=n_inputs,
            body=Body(
                tuple(specs), (row, *parts[:results]), tuple(Ref(n + 1 + i) for i in range(results))
            ),
            symbols=(Symbol("s0", 0, None),) if self.symbol else (),
            constraints=(),
            input_axes=(None,) * n_inputs,
            output_axes=(None,) * results,
            rows=RowsKind.WHOLE_REQUEST,
            bound=(),
        )

    def lowered(self) -> Lowered:
        lowered, _ = fuse(lower(self.template()))
        assert [s.op for s in lowered.stages] == [TileOp.GEMM, TileOp.RNN]
        return lowered

    def run(self, *, native: bool) -> list[np.ndarray]:
        given = self.operands()
        inputs = [a for i in (0, 4, 5, 7) if (a := given[i]) is not None]
        weights = [a for i in (1, 2, 3, 6) if (a := given[i]) is not None]
        symbols = {"s0": self.steps} if self.symbol else {}
        return run_lowered(self.lowered(), inputs, weights, symbols, native=native)

    def torch(self, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        tensors = [None if a is None else torch.from_numpy(a) for a in self.operands()]
        cast = [t.to(dtype) if t is not None and t.is_floating_point() else t for t in tensors]
        return rnn(*cast, mode=self.mode, **self.options)  # type: ignore[arg-type]


def check(layer: Layer) -> None:
    plain, truth = layer.torch(torch.float32), layer.torch(torch.float64)
    for native in (False, True):
        for name, ours, a, b in zip("yhc", layer.run(native=native), plain, truth, strict=False):
            assert_no_worse(ours, a, b, where=f"{layer} {name} native={native}")


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    mode = draw(st.sampled_from(MODES))
    options: dict[str, object] = {"reverse": draw(st.booleans())}
    if mode == "gru":
        options["reset_after"] = draw(st.booleans())
    if mode == "lstm":
        options["input_forget"] = draw(st.booleans())
    if draw(st.booleans()):
        options["clip"] = draw(st.sampled_from([0.5, 2.0]))
    return Layer(
        mode,
        steps=draw(st.integers(0, 5)),
        rows=draw(st.sampled_from([1, 2, 3, 9, 25])),
        inputs=draw(st.integers(1, 20)),
        hidden=draw(st.sampled_from([1, 2, 5, 16, 17, 23, 33, 48, 67])),
        bias=draw(st.booleans()),
        peephole=draw(st.booleans()),
        lengths=draw(st.booleans()),
        seed=draw(st.integers(0, 99)),
        options=options,
        symbol=draw(st.booleans()),
    )


@settings(max_examples=60, deadline=None)
@given(layers())
def test_is_as_near_to_float64_as_torch(layer: Layer) -> None:
    check(layer)


def test_more_inputs_than_a_chunk_of_sums() -> None:
    check(Layer("lstm", steps=2, rows=2, inputs=300, hidden=270))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(name: str) -> None:
    assert sorted(ACTIVATIONS) == sorted(FUNCTIONS)
    options: dict[str, object] = {"activations": [name, "tanh", name]}
    if name in ("affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu"):
        options["alpha"] = [0.3, 0.4]
    if name in ("affine", "scaledtanh", "hardsigmoid"):
        options["beta"] = [0.6, 0.2]
    check(Layer("lstm", steps=3, rows=3, hidden=19, options=options))


class Memory:
    """The recurrent stage of a layer over buffers with some instances, inputs filled."""

    def __init__(self, layer: Layer, instances: int = 1, poison: int | None = None) -> None:
        lowered = layer.lowered()
        self.buffers = lowered.buffers
        self.stage: Stage = lowered.stages[1]
        rng = np.random.default_rng(layer.seed)
        self.flats = []
        for buffer in self.buffers:
            n = value(buffer.elements, {})
            copies = 1 if buffer.kind is BufferKind.WEIGHT else instances
            if buffer.dtype == "int64":
                flat = rng.integers(0, layer.steps + 1, n * copies)
            else:
                flat = rng.standard_normal(n * copies).astype(np.float32)
            self.flats.append(flat)
        if poison is not None:
            x = self.stage.reads[0]
            shape = (layer.steps, layer.rows, GATES[layer.mode] * layer.hidden)
            self.flats[x.slot].reshape(shape)[:, poison] = np.nan

    def run(self, cuts: list[Cut] | None = None) -> list[bytes]:
        flats = [flat.copy() for flat in self.flats]
        for view in self.stage.writes:
            flats[view.slot][:] = np.nan
        encoded = run_native(self.stage, self.buffers, flats, cuts)
        self.flat = encoded.flat
        self.items = value(encoded.items, {}), value(encoded.items2, {})
        self.results = [flats[view.slot] for view in self.stage.writes]
        return [result.tobytes() for result in self.results]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("after", [False, True])
def test_cuts_in_rows_and_in_time_give_the_same_bits(mode: str, after: bool) -> None:
    options: dict[str, object] = {"reset_after": after, "reverse": after}
    memory = Memory(Layer(mode, steps=5, rows=27, hidden=21, lengths=after, options=options))
    whole = memory.run()
    rows, steps = memory.items
    assert (rows, steps) == (27, 6)
    assert memory.run([(r, r + 1, 0, steps) for r in range(rows)]) == whole
    assert memory.run([(0, rows, s, s + 1) for s in range(steps)]) == whole
    pieces = [(lo, hi, s, e) for lo, hi in ((0, 9), (9, 27)) for s, e in ((0, 1), (1, 4), (4, 6))]
    assert memory.run(pieces) == whole


@pytest.mark.parametrize("mode", MODES)
def test_instances_of_one_row_go_on_as_rows(mode: str) -> None:
    memory = Memory(Layer(mode, steps=3, rows=1, hidden=18), instances=3)
    together = memory.run([(0, 3, 0, 4)])
    assert memory.flat
    assert memory.run([(i, i + 1, 0, 4) for i in range(3)]) == together


def test_instances_of_several_rows_do_not_go_on() -> None:
    memory = Memory(Layer("lstm", rows=2))
    memory.run()
    assert not memory.flat


@pytest.mark.parametrize("mode", MODES)
def test_a_nan_stays_in_its_row(mode: str) -> None:
    layer = Layer(mode, steps=3, rows=4, hidden=9)
    clean, dirty = Memory(layer), Memory(layer, poison=2)
    clean.run(), dirty.run()
    for a, b in zip(clean.results, dirty.results, strict=True):
        a, b = a.reshape(-1, 4, 9), b.reshape(-1, 4, 9)
        assert np.isnan(b[:, 2]).all()
        np.testing.assert_array_equal(np.delete(a, 2, 1), np.delete(b, 2, 1))


def test_what_is_not_packed_runs_through_torch() -> None:
    template = Layer("gru").template()
    # The recurrent weights are an input.
    template = replace(template, n_inputs=template.n_inputs + 2)
    template = replace(template, input_axes=(None,) * template.n_inputs)
    assert TileOp.EXTERN in [s.op for s in lower(template).stages]


@pytest.mark.parametrize(
    "options", [{"mode": "lru"}, {"activations": ("tanh",)}, {"clip": -1.0}, {"alpha": ("x",)}]
)
def test_strange_attributes_run_through_torch(options: dict[str, object]) -> None:
    template = Layer("gru").template()
    row = template.body.rows[0]
    kwargs = tuple((dict(row.kwargs) | options).items())
    rows = (replace(row, kwargs=kwargs), *template.body.rows[1:])  # type: ignore[arg-type]
    template = replace(template, body=replace(template.body, rows=rows))
    assert TileOp.EXTERN in [s.op for s in lower(template).stages]
