"""Runs that stop at the ends of blocks answer with the bytes of the uncut run."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fusec
from fusec.ir.errors import KernelError, VerifyError
from fusec.ir.split import Block, Split
from fusec.lowering import Stages
from fusec.runtime.extern import run_extern
from fusec.runtime.pool import raise_retreat
from fusec.runtime.request import Request, read_request
from fusec.runtime.tile.blocks import BlockExecutor, BlockRun
from fusec.runtime.tile.build import Program
from fusec.runtime.tile.cut import cut_program
from fusec.runtime.tile.engine import Status
from fusec.runtime.tile.executor import Answers, NativeExecutor, Rows, Wanted
from fusec.runtime.tile.layout import Arranged
from fusec.runtime.tile.memory import ArenaPool, Region
from fusec.runtime.tile.table import Table

Given = dict[str, np.ndarray]
Cut = tuple[Program, tuple[Table, ...]]


class Recurrent(nn.Module):
    """Words through an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn = nn.Embedding(11, 8), nn.LSTM(8, 12, batch_first=True)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Read words."""
        outputs, _ = self.rnn(self.words(ids))
        return torch.tanh(outputs)


class Highest(nn.Module):
    """Between two products an operator that no kernel has."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 20), nn.Linear(20, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take the largest so far in the middle."""
        y: torch.Tensor = self.b(torch.cummax(self.a(x), dim=-1).values)
        return y


def _mlp(width: int, layers: int) -> nn.Module:
    """Layers that take turns with norms; wide ones are cut up for all workers."""
    made: list[nn.Module] = [nn.Linear(6, width)]
    for _ in range(layers):
        made += [nn.LayerNorm(width), nn.Linear(width, width), nn.GELU()]
    return nn.Sequential(*made)


MODELS = {
    "small0": _mlp(20, 2),
    "small1": _mlp(20, 2),
    "wide0": _mlp(384, 4),
    "wide1": _mlp(384, 4),
    "words0": Recurrent(),
    "words1": Recurrent(),
    "highest0": Highest(),
}


class Native:
    """A plan, and executors that run its models in blocks."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        one = {n: torch.zeros(1, 4, dtype=torch.int64) for n in ("words0", "words1")}
        examples = {n: one.get(n, torch.zeros(1, 6)) for n in MODELS}
        self.plan = fusec.compile(
            {n: m.eval() for n, m in MODELS.items()}, examples=examples, executor="cpu", threads=1
        )
        self.stages = Stages()
        self.executors = {n: BlockExecutor(self.stages.of, n, run_extern) for n in (1, 2, 3)}

    def request(self, name: str, given: np.ndarray) -> Request:
        return read_request(self.plan._registry.target(name), given)

    def length(self, name: str) -> int:
        """Count a model's stages."""
        template = self.request(name, _input(name, 1, np.random.default_rng(0))).choice.template
        return len(self.stages.of(template).stages)

    def begin(self, given: Given, splits: dict[str, Split], threads: int) -> BlockRun:
        requests = {n: self.request(n, x) for n, x in given.items()}
        wanted = [Wanted(r.choice, r.rows, r.extents) for r in requests.values()]
        inputs = [tuple(map(np.asarray, r.inputs)) for r in requests.values()]
        return self.executors[threads].begin(wanted, [splits[n[:-1]] for n in given], inputs)

    def alone(self, name: str, given: np.ndarray) -> bytes:
        """Give what the ordinary executor answers to one request."""
        (output,) = self.plan.run({name: given})[name].values()
        assert isinstance(output, np.ndarray)
        return output.tobytes()


@pytest.fixture(scope="module")
def native() -> Native:
    return Native()


@pytest.fixture(autouse=True)
def _dirty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill arenas with NaN before they are lent."""
    take = ArenaPool.take

    def filled(pool: ArenaPool, n_bytes: int) -> Region:
        region = take(pool, n_bytes)
        region.fill(0xFF)
        return region

    monkeypatch.setattr(ArenaPool, "take", filled)


def _input(name: str, rows: int, rng: np.random.Generator) -> np.ndarray:
    if name.startswith("words"):
        return rng.integers(0, 11, (rows, 4))
    return rng.standard_normal((rows, 6)).astype(np.float32)


def _split(cuts: Sequence[int], stages: int) -> Split:
    edges = [0, *cuts, stages]
    return Split(blocks=tuple(Block(a, b, 0) for a, b in itertools.pairwise(edges)))


def _any_splits(native: Native, rng: np.random.Generator) -> dict[str, Split]:
    """Cut between stages and inside them."""
    splits = {}
    for kind in {n[:-1] for n in MODELS}:
        n = native.length(f"{kind}0")
        parts = rng.choice([1, 1, 2, 5], n).tolist()
        places = [(stage, part) for stage in range(n) for part in range(parts[stage])][1:]
        chosen = rng.permutation(len(places))[: rng.integers(0, n)]
        edges = [(0, 0), *(places[i] for i in sorted(chosen)), (n, 0)]
        blocks = [Block(a[0], b[0], 0, a[1], b[1]) for a, b in itertools.pairwise(edges)]
        splits[kind] = Split(blocks=tuple(blocks), parts=tuple(parts))
    return splits


def _finish(run: BlockRun) -> Answers:
    while not run.done:
        if run.step() is Status.RETREATED:
            run.lower_retreat()
    return run.answers()


def _check(native: Native, given: Given, answers: Answers) -> None:
    for (name, x), outputs in zip(given.items(), answers, strict=True):
        assert outputs[0].tobytes() == native.alone(name, x), name


def _any_given(rng: np.random.Generator) -> Given:
    names = rng.permutation(list(MODELS))[: rng.integers(1, len(MODELS) + 1)].tolist()
    return {n: _input(n, int(rng.integers(1, 5)), rng) for n in names}


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_blocks_in_any_company_give_the_same_bytes(
    threads: int, native: Native, rng: np.random.Generator
) -> None:
    """Two runs take turns, block by block, as if one preempted the other."""
    for _ in range(12):
        given = [_any_given(rng) for _ in range(2)]
        runs = [native.begin(g, _any_splits(native, rng), threads) for g in given]
        while not all(run.done for run in runs):
            run = runs[rng.integers(2)]
            if not run.done:
                before = run.block
                assert run.step() is Status.DONE
                assert run.block == before + 1
        for g, run in zip(given, runs, strict=True):
            _check(native, g, run.answers())


@pytest.fixture
def pester() -> Iterator[list[int]]:
    """Raise the retreat flags at these addresses again and again."""
    addresses: list[int] = []
    over = threading.Event()

    def raise_all() -> None:
        while not over.wait(1e-5):
            for address in tuple(addresses):
                raise_retreat(address)

    thread = threading.Thread(target=raise_all)
    thread.start()
    yield addresses
    over.set()
    thread.join()


def test_blocks_that_retreat_go_on(
    native: Native, rng: np.random.Generator, pester: list[int]
) -> None:
    retreats = 0
    for _ in range(8):
        given = {n: _input(n, 4, rng) for n in MODELS}
        run = native.begin(given, _any_splits(native, rng), 2)
        pester.append(run.retreat_address)
        while not run.done:
            block = run.block
            if run.step() is Status.RETREATED:
                retreats += 1
                assert run.block == block
                run.lower_retreat()
        pester.clear()
        run.lower_retreat()
        _check(native, given, run.answers())
    assert retreats


@pytest.mark.parametrize("first", [0, 1, 2])
def test_no_step_gets_anywhere_while_the_flag_is_up(
    first: int, native: Native, rng: np.random.Generator
) -> None:
    given = {"wide0": _input("wide0", 2, rng)}
    run = native.begin(given, {"wide": _split([1, 3], native.length("wide0"))}, 1)
    for _ in range(first):
        run.step()
    raise_retreat(run.retreat_address)
    for _ in range(2):
        assert run.step() is Status.RETREATED
    run.lower_retreat()
    _check(native, given, _finish(run))


def test_a_block_that_was_stopped_half_way_is_forgotten(
    native: Native, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extern stage raises the flag, so the run stops right behind it."""
    flags: list[int] = []

    def stops(*given: Any) -> None:
        run_extern(*given)
        for address in flags:
            raise_retreat(address)

    monkeypatch.setitem(native.executors, 1, BlockExecutor(native.stages.of, 1, stops))
    splits = {"highest": _split([], native.length("highest0"))}
    given = {"highest0": _input("highest0", 1, rng)}
    run = native.begin(given, splits, 1)
    flags.append(run.retreat_address)
    assert run.step() is Status.RETREATED
    assert run._call.job.unfinished
    flags.clear()
    run.lower_retreat()
    run._call._status[0] = 1  # as a kernel does that meets bad data
    run.close()
    again = native.begin(given, splits, 1)
    assert again._call is run._call
    _check(native, given, _finish(again))


def test_a_run_that_is_closed_leaves_nothing_behind(
    native: Native, rng: np.random.Generator
) -> None:
    splits = {n[:-1]: _split([1, 2], native.length(n)) for n in ("small0", "wide0")}
    for _ in range(3):
        given = {n: _input(n, 2, rng) for n in ("small0", "wide0", "wide1")}
        with native.begin(given, splits, 2) as run:
            run.step()
            with pytest.raises(VerifyError, match="answers after 1 of 3 blocks"):
                run.answers()
        with pytest.raises(VerifyError, match="a run that is over"):
            run.step()
        run.close()
        _check(native, given, _finish(native.begin(given, splits, 2)))


def test_bad_data_ends_a_run_and_no_other(native: Native, rng: np.random.Generator) -> None:
    splits = {"words": _split([1], native.length("words0"))}
    run = native.begin({"words0": np.full((1, 4), 99)}, splits, 2)
    with pytest.raises(KernelError, match="out of range"):
        run.step()
    assert run.block == 0
    given = {"words0": _input("words0", 3, rng)}
    _check(native, given, _finish(native.begin(given, splits, 2)))


def test_what_an_extern_stage_raises_ends_a_run(
    native: Native, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("planted")

    executor = BlockExecutor(native.stages.of, 1, fails)
    monkeypatch.setitem(native.executors, 1, executor)
    run = native.begin({"highest0": _input("highest0", 1, rng)}, _any_splits(native, rng), 1)
    with pytest.raises(ValueError, match="planted"):
        _finish(run)
    with pytest.raises(VerifyError, match="a run that is over"):
        run.step()


def test_splits_that_do_not_fit_are_refused(native: Native, rng: np.random.Generator) -> None:
    n = native.length("small0")
    given = {"small0": _input("small0", 1, rng)}
    for wrong in (_split([1], n - 1), _split([1], n + 1), Split(blocks=())):
        with pytest.raises(VerifyError, match=f"of {n} stages"):
            native.begin(given, {"small": wrong}, 1)
    requests = [native.request(name, given["small0"]) for name in ("small0", "small1")]
    finer = replace(_split([1], n), parts=(2,) * n)
    for others in (_split([2], n), finer):
        with pytest.raises(VerifyError, match="split in 2 ways"):
            native.executors[1].begin(
                [Wanted(r.choice, r.rows, r.extents) for r in requests],
                [_split([1], n), others],
                [(given["small0"],)] * 2,
            )


def test_parts_come_in_the_order_of_the_requests(native: Native, rng: np.random.Generator) -> None:
    names = ["small0", "words0", "small1", "wide0"]
    requests = [native.request(name, _input(name, 1, rng)) for name in names]
    wanted = [Wanted(r.choice, r.rows, r.extents) for r in requests]
    found = native.executors[2].parts(wanted)
    assert [len(parts) for parts in found] == [native.length(name) for name in names]
    assert found[0] == found[2]


def test_planned_once_for_lists_of_one_shape(
    native: Native, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counted(program: Program, splits: Sequence[Split]) -> Cut:
        made.append(program)
        return cut_program(program, splits)

    monkeypatch.setattr("fusec.runtime.tile.blocks.cut_program", counted)
    splits = {"small": _split([2], native.length("small1"))}
    for name in ("small1", "small0", "small1"):
        given = {name: _input(name, 1, rng)}
        ((answer,),) = _finish(native.begin(given, splits, 3))
        assert answer.tobytes() == native.alone(name, given[name])
    assert len(made) == 1


def test_a_list_is_forgotten_with_its_members(
    native: Native, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    arranged = []
    executor = native.executors[3]

    def counted(wanted: Sequence[Wanted]) -> tuple[Arranged, Rows]:
        arranged.append(wanted)
        return NativeExecutor.arrange(executor, wanted)

    monkeypatch.setattr(executor, "arrange", counted)
    given = {"small0": _input("small0", 1, rng)}
    splits = {"small": _split([2], native.length("small0"))}
    executor.forget([native.request("small0", given["small0"]).choice])
    for _ in range(3):
        _finish(native.begin(given, splits, 3))
    assert len(arranged) == 1
    executor.forget([native.request("small0", given["small0"]).choice])
    _finish(native.begin(given, splits, 3))
    assert len(arranged) == 2
