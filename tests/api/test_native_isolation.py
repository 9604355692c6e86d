"""Company never changes an answer: the bytes of each member are those of the member alone.

All memory is dirty before each run, every program is proved, and runs are stopped and resumed.
"""

from __future__ import annotations

import copy
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fusec
from fusec.runtime.pool import raise_retreat
from fusec.runtime.tile import answers, executor
from fusec.runtime.tile.call import Call
from fusec.runtime.tile.engine import Job
from fusec.runtime.tile.memory import ArenaPool, Region

ROWS = (0, 1, 2, 3, 7)
LENGTHS = (1, 4, 9)
Inputs = tuple[np.ndarray, ...]


class Cnn(nn.Module):
    """Convolutions of several kinds, batch norm, a residual, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 12, 3, stride=2)
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify an image."""
        x = torch.relu(self.stem(x))
        x = x + self.point(nn.functional.hardswish(self.depthwise(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        return self.head(self.last(x).mean((2, 3)))


class Encoder(nn.Module):
    """Two layers of attention over sequences of any length."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, activation="gelu")
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode."""
        return self.layers(x)


class Recurrent(nn.Module):
    """An LSTM over embeddings; gives its outputs and its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn = nn.Embedding(11, 8), nn.LSTM(8, 12, 2, batch_first=True)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Read words."""
        outputs, (state, _) = self.rnn(self.words(ids))
        return outputs, state[-1]


class Unlowered(nn.Module):
    """Operators without a kernel between ones that have some."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 20), nn.Linear(20, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sort and multiply up in the middle."""
        x = torch.cumprod(torch.tanh(self.a(x)) + 1.0, -1)
        return self.b(torch.sort(x, -1).values), x


class Headed(nn.Module):
    """A shared backbone under a head of its own."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify."""
        return torch.softmax(self.head(self.backbone(x)), -1)


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 33), nn.LayerNorm(33), nn.GELU(), nn.Linear(33, 3))


@dataclass(frozen=True)
class Kind:
    """Models of one template and what they take."""

    models: tuple[nn.Module, ...]
    shape: tuple[int | str, ...]
    words: bool = False

    def inputs(self, rows: int, length: int, rng: np.random.Generator) -> Inputs:
        """Give random inputs."""
        shape = (rows, *(length if d == "n" else int(d) for d in self.shape))
        if self.words:
            return (rng.integers(0, 11, shape),)
        return (rng.standard_normal(shape).astype(np.float32),)


def _kinds() -> dict[str, Kind]:
    torch.manual_seed(0)
    mlp, cnn, encoder = _mlp(), Cnn(), Encoder()
    backbone = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    return {
        "mlp": Kind((mlp, copy.deepcopy(mlp), _mlp()), (6,)),
        "cnn": Kind((cnn, Cnn(), copy.deepcopy(cnn)), (3, 9, 10)),
        "encoder": Kind((encoder, Encoder()), ("n", 16)),
        "recurrent": Kind((Recurrent(), Recurrent()), ("n",), words=True),
        "unlowered": Kind((Unlowered(), Unlowered()), (6,)),
        "headed": Kind(tuple(Headed(backbone) for _ in range(3)), (6,)),
    }


KINDS = _kinds()
NAMES = tuple(f"{k}{i}" for k, kind in KINDS.items() for i in range(len(kind.models)))


@pytest.fixture(autouse=True)
def _dirty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill arenas and outputs with NaN before each run; prove all programs."""
    take = ArenaPool.take

    def filled(pool: ArenaPool, n_bytes: int) -> Region:
        region = take(pool, n_bytes)
        region.fill(0xFF)
        return region

    class Filling:
        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

        def empty(self, shape: Any, dtype: Any = float) -> np.ndarray:
            made = np.empty(shape, dtype)
            made.reshape(-1).view(np.uint8).fill(0xFF)
            return made

    monkeypatch.setattr(ArenaPool, "take", filled)
    monkeypatch.setattr(answers, "np", Filling())
    monkeypatch.setenv("FUSEC_VALIDATE", "1")


Load = Callable[[int], fusec.Plan]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Load a plan of all models for so many threads."""
    path = tmp_path_factory.mktemp("plan") / "all.fusec"
    _compiled().save(path)
    return lambda threads: fusec.load(path, executor="cpu", threads=threads)


def _compiled() -> fusec.Plan:
    models = {f"{k}{i}": m.eval() for k, kind in KINDS.items() for i, m in enumerate(kind.models)}
    examples, symbols = {}, {}
    for name in models:
        kind = KINDS[name[:-1]]
        examples[name] = tuple(
            torch.as_tensor(x) for x in kind.inputs(1, 5, np.random.default_rng(0))
        )
        axes = {1 + i: "n" for i, d in enumerate(kind.shape) if d == "n"}
        if axes:
            symbols[name] = {"ids" if kind.words else "x": axes}
    return fusec.compile(models, examples=examples, symbols=symbols, executor="cpu")


class Alone:
    """What each member gives for one row at a time, with nobody else there."""

    def __init__(self, plan: fusec.Plan) -> None:
        self._plan = plan

    def __call__(self, name: str, given: Inputs) -> list[bytes]:
        """Give the bytes of each output, rows joined."""
        rows = [
            list(self._plan.run({name: tuple(x[i : i + 1] for x in given)})[name].values())
            for i in range(len(given[0]))
        ]
        return [b"".join(r[k].tobytes() for r in rows) for k in range(len(rows[0]))]


def _request(name: str, rng: np.random.Generator, *, rows: int | None = None) -> Inputs:
    n = int(rng.choice(ROWS)) if rows is None else rows
    return KINDS[name[:-1]].inputs(n, int(rng.choice(LENGTHS)), rng)


def _spoiled(given: Inputs, value: float) -> Inputs:
    return tuple(x if x.dtype.kind == "i" else np.full_like(x, value) for x in given)


def _check(
    got: dict[str, dict[str, np.ndarray]], wanted: dict[str, list[bytes]], where: str = ""
) -> None:
    for name, outputs in wanted.items():
        assert [o.tobytes() for o in got[name].values()] == outputs, f"{name} {where}"


@pytest.mark.parametrize("threads", [1, 2])
def test_any_company_gives_the_same_bytes(
    threads: int, load: Load, rng: np.random.Generator
) -> None:
    plan, alone = load(threads), Alone(load(1))
    for turn in range(25):
        count = int(rng.integers(1, len(NAMES) + 1))
        names = [str(n) for n in rng.permutation(NAMES)[:count]]
        given = {n: _request(n, rng) for n in names}
        wanted = {n: alone(n, x) for n, x in given.items() if len(x[0])}
        for value in (None, np.nan, np.inf):
            others = [n for n in names if rng.random() < 0.4] if value is not None else []
            company = {n: _spoiled(x, value) if n in others else x for n, x in given.items()}
            before = {n: [a.tobytes() for a in x] for n, x in company.items()}
            got = plan.run(company)
            assert list(got) == names
            _check(got, {n: w for n, w in wanted.items() if n not in others}, f"turn {turn}")
            assert before == {n: [a.tobytes() for a in x] for n, x in company.items()}
            for n, x in given.items():
                assert all(len(o) == len(x[0]) for o in got[n].values())


def test_one_row_of_nan_stays_alone_in_its_request(load: Load, rng: np.random.Generator) -> None:
    plan, alone = load(2), Alone(load(1))
    given = {n: _request(n, rng, rows=3) for n in NAMES if not KINDS[n[:-1]].words}
    wanted = {n: alone(n, x) for n, x in given.items()}
    for x in given.values():
        x[0][1] = np.nan
    for name, outputs in plan.run(given).items():
        for out, clean in zip(outputs.values(), wanted[name], strict=True):
            same = np.frombuffer(clean, out.dtype).reshape(out.shape)
            assert out[[0, 2]].tobytes() == same[[0, 2]].tobytes(), name
            assert np.isnan(out[1]).all() or name.startswith("unlowered")


def test_answers_share_no_memory(load: Load, rng: np.random.Generator) -> None:
    plan = load(2)
    given = {n: _request(n, rng, rows=int(rng.choice([1, 3]))) for n in NAMES}
    spaces: list[tuple[int, int]] = []
    held = [plan.run(given) for _ in range(3)]
    for got in held:
        arrays = [a for outputs in got.values() for a in outputs.values()]
        spaces += [(a.ctypes.data, a.ctypes.data + a.nbytes) for a in arrays]
    spaces += [(a.ctypes.data, a.ctypes.data + a.nbytes) for x in given.values() for a in x]
    for blob in plan._registry.data().weights.values():
        flat = np.frombuffer(blob.data, np.uint8)
        spaces.append((flat.ctypes.data, flat.ctypes.data + flat.nbytes))
    spaces.sort()
    for (_, end), (start, _) in itertools.pairwise(spaces):
        assert end <= start
    first = {n: [a.tobytes() for a in outputs.values()] for n, outputs in held[0].items()}
    plan.run({n: tuple(x * 0 for x in xs) for n, xs in given.items()})
    _check(held[0], first)


class _Noted(Call):
    """A call that the test can find."""

    made: list[Call]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.made.append(self)


@pytest.fixture
def _interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Raise the retreat flags of all calls at any moment, from another thread."""
    made: list[Call] = []
    lower, times, stop = Job.lower_retreat, [0], threading.Event()

    def lowered(job: Job) -> None:
        times[0] += 1
        lower(job)

    def disturb() -> None:
        moments = np.random.default_rng(0)
        while not stop.is_set():
            for call in made:
                raise_retreat(call.job.retreat_address)
            time.sleep(float(moments.exponential(3e-4)))

    monkeypatch.setattr(_Noted, "made", made, raising=False)
    monkeypatch.setattr(executor, "Call", _Noted)
    monkeypatch.setattr(Job, "lower_retreat", lowered)
    thread = threading.Thread(target=disturb)
    thread.start()
    yield lambda: times[0]
    stop.set()
    thread.join()


@pytest.mark.parametrize("threads", [1, 2])
def test_runs_that_are_stopped_and_resumed(
    threads: int, load: Load, rng: np.random.Generator, _interrupted: Callable[[], int]
) -> None:
    plan, alone = load(threads), Alone(load(1))
    for _ in range(4):
        given = {n: _request(n, rng, rows=int(rng.choice([1, 3, 7]))) for n in NAMES}
        wanted = {n: alone(n, x) for n, x in given.items()}
        for _ in range(4):
            _check(plan.run(given), wanted)
    assert _interrupted() > 0
