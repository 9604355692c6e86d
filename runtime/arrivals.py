"""When requests come: made-up processes, and closed loops. Traces: `fusec.runtime.traces`.

poisson:RATE            requests per second, over all models
gamma:RATE:CV           the same with gaps of a coefficient of variation; 1 is Poisson
closed:CLIENTS:THINK_MS each client asks again that long after its answer
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fusec.ir.errors import ConfigError
from fusec.runtime.sched.records import Outcome, Request

__all__ = ["Arrivals", "ClosedLoop", "Mix", "gamma", "parse_arrivals", "poisson"]

_S = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Who asks for what: the same for every process."""

    models: Mapping[str, str]
    """Model -> template."""
    tenants: Sequence[str] = ("",)
    deadline_ns: int | None = None
    """After arrival."""
    weights: Sequence[float] | None = None
    """How often each model is asked for, in the order of `models`; alike if None."""

    def request(self, number: int, at_ns: int, rng: random.Random) -> Request:
        """Draw one request."""
        model = rng.choices(tuple(self.models), self.weights)[0]
        return self.of(number, at_ns, model, rng.choice(self.tenants))

    def of(self, number: int, at_ns: int, model: str, tenant: str) -> Request:
        """Make a request of one model.

        Raises:
            ConfigError: no such model.
        """
        if model not in self.models:
            known = ", ".join(sorted(self.models)[:8])
            raise ConfigError(f"no model {model!r} in the profile; it has {known}")
        deadline = None if self.deadline_ns is None else at_ns + self.deadline_ns
        return Request(
            id=number,
            model=model,
            template=self.models[model],
            tenant=tenant,
            arrival_ns=at_ns,
            deadline_ns=deadline,
        )


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Requests that come by themselves, and the loop that makes more, if any."""

    requests: tuple[Request, ...]
    loop: "ClosedLoop | None" = None


def poisson(mix: Mix, *, per_s: float, n: int, seed: int) -> Iterator[Request]:
    """Give `n` requests with exponential gaps."""
    return gamma(mix, per_s=per_s, cv=1.0, n=n, seed=seed)


def gamma(mix: Mix, *, per_s: float, cv: float, n: int, seed: int) -> Iterator[Request]:
    """Give `n` requests with gamma gaps of mean 1 / `per_s`.

    The shape is 1 / cv^2: below 1 the gaps are even, above they come in bursts.

    Raises:
        ConfigError: a rate or CV that is not above 0.
    """
    if not (0 < per_s < 1e9 and 0 < cv < 100):
        raise ConfigError(f"{per_s} per second with CV {cv}: wanted both above 0, CV below 100")
    rng = random.Random(seed)
    shape, at = 1 / cv**2, 0.0
    for number in range(n):
        at += rng.gammavariate(shape, 1 / (shape * per_s))
        yield mix.request(number, round(at * _S), rng)


class ClosedLoop:
    """Clients that ask, wait for the answer, think, and ask again. For one run."""

    def __init__(self, mix: Mix, *, clients: int, think_ns: int, n: int, seed: int) -> None:
        if clients < 1 or think_ns < 0:
            raise ConfigError(f"{clients} clients thinking {think_ns} ns: wanted 1 or more, 0+")
        self._mix = mix
        self._rng = random.Random(seed)
        self._think_ns = think_ns
        self._clients = clients
        self._made = 0
        self._n = n

    def start(self) -> tuple[Request, ...]:
        """Give the first request of each client, spread over one time of thinking."""
        step = self._think_ns // self._clients
        first = (self._make(i * step) for i in range(min(self._clients, self._n)))
        return tuple(first)

    def after(self, outcome: Outcome) -> Request | None:
        """Give what a client asks next, or None when enough were asked."""
        if self._made >= self._n:
            return None
        # One nanosecond at least: else a client that is refused would ask for ever at one instant.
        return self._make(outcome.at_ns + max(1, self._think_ns))

    def _make(self, at_ns: int) -> Request:
        self._made += 1
        return self._mix.request(self._made - 1, at_ns, self._rng)


def parse_arrivals(text: str, mix: Mix, *, n: int, seed: int) -> Arrivals:
    """Read `poisson:...`, `gamma:...` or `closed:...`.

    Raises:
        ConfigError: no such process, or numbers that make no sense.
    """
    kind, *parts = text.split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError as e:
        raise ConfigError(f"arrivals {text!r}: {e}") from e
    if kind == "poisson" and len(numbers) == 1:
        return Arrivals(tuple(poisson(mix, per_s=numbers[0], n=n, seed=seed)))
    if kind == "gamma" and len(numbers) == 2:
        rate, cv = numbers
        return Arrivals(tuple(gamma(mix, per_s=rate, cv=cv, n=n, seed=seed)))
    if kind == "closed" and len(numbers) == 2 and 1 <= numbers[0] < 1e6 and 0 <= numbers[1] < 1e9:
        clients, think = int(numbers[0]), round(numbers[1] * 1e6)
        loop = ClosedLoop(mix, clients=clients, think_ns=think, n=n, seed=seed)
        return Arrivals(loop.start(), loop)
    raise ConfigError(
        f"arrivals {text!r}: wanted poisson:RATE, gamma:RATE:CV or closed:CLIENTS:THINK_MS"
    )
