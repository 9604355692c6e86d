"""Find out what a row of a request is: batch axes, and whether rows depend on each other.

A request with B rows may be run as B instances only if rows are independent. That is a fact about
the source, so the source is asked: it runs at 1, 2 and 3 rows, and the answers are compared with
runs of single rows, on every output, also beside rows of NaN.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

from torch import Tensor

from fusec.importers.agreement import difference, distance
from fusec.importers.rows import Axes, cut_row, join_rows, spoil, vary
from fusec.ir.errors import ConfigError
from fusec.ir.template import RowsKind

__all__ = ["BatchFacts", "Runnable", "find_batch", "one_row", "still_holds"]


class Runnable(Protocol):
    """Anything that maps input tensors to output tensors."""

    def run(self, args: Sequence[Tensor]) -> Sequence[Tensor]:
        """Run the model."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFacts:
    """What is known about rows.

    Attributes:
        input_axes: batch axis per input, None where an input has none.
        output_axes: batch axis per output; one instance's outputs are joined along it.
        kind: how a request with several rows runs.
        how: how this was found, in words.
    """

    input_axes: Axes
    output_axes: Axes
    kind: RowsKind
    how: str


@dataclass(frozen=True, slots=True)
class _No:
    """Why a choice of axes does not stand.

    Attributes:
        reason: in words.
        dependent: the source runs several rows, but they are not independent.
        outputs: where the outputs grow with the rows nevertheless.
    """

    reason: str
    dependent: bool = False
    outputs: Axes | None = None


Outputs = tuple[Tensor, ...]


def find_batch(
    source: Runnable,
    examples: Sequence[Tensor],
    given: Axes | None = None,
    named: Axes | Mapping[int, int] | None = None,
) -> BatchFacts:
    """Find batch axes and check that rows are independent.

    Args:
        source: the model as the user gave it.
        examples: inputs that it accepts, with any number of rows.
        given: batch axes by the caller's word; no others are tried.
        named: batch axes that names of dimensions suggest, one per input or by index; tried first.

    Raises:
        ConfigError: axes given by the caller that do not exist or differ in rows.
    Cost: about 6 runs of the source for each choice of axes that gets far.
    """
    examples = tuple(e.detach() for e in examples)
    if given is not None:
        _check_given(examples, given)
    if isinstance(named, Mapping):
        named = tuple(named.get(i) for i in range(len(examples))) if named else None
    choices = [given] if given is not None else list(_choices(examples, named))
    reasons: dict[Axes, _No] = {}
    for axes in choices:
        found = _try_axes(source, examples, axes)
        if not isinstance(found, _No):
            word = "given by the caller" if axes == given else "found by running the source"
            word = "from dimension names" if given is None and axes == named else word
            return BatchFacts(
                input_axes=axes,
                output_axes=found,
                kind=RowsKind.INDEPENDENT,
                how=f"batch axes {word}; rows checked to be independent",
            )
        reasons[axes] = found
    return _not_independent(source, examples, given or named, reasons)


def still_holds(source: Runnable, examples: Sequence[Tensor], facts: BatchFacts) -> bool:
    """Check what was found of another source, of the same program, for this one's weights.

    Args:
        source: the model.
        examples: inputs that it accepts.
        facts: of the other one. That it needs a request as a whole, or takes one row only, is so
            whatever the weights are: no row is run apart from its company then.

    Cost: as `find_batch` for one choice of axes.
    """
    if facts.kind is not RowsKind.INDEPENDENT:
        return True
    examples = tuple(e.detach() for e in examples)
    return _try_axes(source, examples, facts.input_axes) == facts.output_axes


def one_row(examples: Sequence[Tensor], axes: Axes) -> tuple[Tensor, ...]:
    """Give the examples at which a template is captured."""
    return cut_row(examples, axes)


def _check_given(examples: tuple[Tensor, ...], given: Axes) -> None:
    if len(given) != len(examples):
        raise ConfigError(f"{len(given)} batch axes given for {len(examples)} inputs")
    for i, (example, axis) in enumerate(zip(examples, given, strict=True)):
        if axis is not None and not 0 <= axis < example.dim():
            raise ConfigError(
                f"batch axis {axis} given for input {i}, which has {example.dim()} axes"
            )
    rows = {e.shape[a] for e, a in zip(examples, given, strict=True) if a is not None}
    if len(rows) > 1:
        raise ConfigError(
            f"the example inputs have {sorted(rows)} rows along the batch axes {list(given)}; "
            "give the same number of rows"
        )
    if rows == {0}:
        raise ConfigError("the example inputs have no row; give at least one")


def _choices(examples: tuple[Tensor, ...], named: Axes | None) -> Iterator[Axes]:
    """Give choices of axes, the likeliest first: as few inputs off axis 0 as possible."""
    seen: set[Axes] = set()
    if named is not None:
        seen.add(named)
        yield named
    options = [_options(e) for e in examples]
    if len(examples) <= 4:
        combinations = [tuple(c) for c in product(*options)]
    else:
        first = [o[0] for o in options]
        combinations = [tuple(first)]
        for i, choice in enumerate(options):
            combinations += [(*first[:i], other, *first[i + 1 :]) for other in choice[1:]]
        combinations += _together(examples, first)

    def unlikely(axes: Axes) -> int:
        return sum(3 if a is None else a for a in axes)

    for axes in sorted(combinations, key=unlikely):
        rows = {e.shape[a] for e, a in zip(examples, axes, strict=True) if a is not None}
        if axes not in seen and len(rows) == 1 and 0 not in rows:
            seen.add(axes)
            yield axes


def _options(example: Tensor) -> list[int | None]:
    """Axis 1 may be the batch of a time-major input, but not the features of a matrix."""
    second = example.dim() >= 3 or (example.dim() == 2 and example.shape[1] == 1)
    first = [0] if example.dim() else []
    return [*first, *([1] if second else []), None]


def _together(examples: tuple[Tensor, ...], first: list[int | None]) -> list[Axes]:
    """Give choices that treat all inputs of one rank alike, for models with many inputs."""
    ranks = sorted({e.dim() for e in examples})
    found: list[Axes] = []
    for rank in ranks:
        for other in (1, None):
            if other is not None and rank < 2:
                continue
            found.append(
                tuple(other if e.dim() == rank else a for e, a in zip(examples, first, strict=True))
            )
    return found


def _try_axes(source: Runnable, examples: tuple[Tensor, ...], axes: Axes) -> Axes | _No:
    """Give the output axes if rows along `axes` are rows, or say why not."""
    if all(axis is None for axis in axes):
        return _No("the caller says that there is no batch axis")
    rows = _three_rows(source, examples, axes)
    if isinstance(rows, _No):
        return _many_only(source, examples, axes, rows)
    singles = [single for _, single in rows]
    inputs = [row for row, _ in rows]
    two = _run(source, join_rows(inputs[:2], axes))
    three = _run(source, join_rows(inputs, axes))
    if isinstance(two, _No) or isinstance(three, _No):
        failed = next(r for r in (two, three) if isinstance(r, _No))
        return _No(f"the source cannot run two rows ({failed.reason})")
    output_axes = _output_axes(singles[0], two, three)
    if isinstance(output_axes, _No):
        return output_axes
    noise = _Noise(source, inputs[0], singles[0], axes, output_axes)
    for many, want in ((two, singles[:2]), (three, singles)):
        problem = noise.compare(many, join_rows(want, output_axes))
        if problem is not None:
            return _No(f"rows depend on each other: {problem}", True, output_axes)
    problem = _beside_nan(source, inputs, singles, axes, output_axes, noise)
    return output_axes if problem is None else _No(problem, True, output_axes)


@dataclass(slots=True, eq=False)
class _Noise:
    """How far the source's own rounding moves a row that runs beside its copy.

    Most sources agree without such an allowance, so that run is made when it is first needed.
    """

    source: Runnable
    row: Outputs
    answer: Outputs
    axes: Axes
    output_axes: Axes
    found: list[float] | None = None

    def compare(self, got: Outputs, want: Outputs) -> str | None:
        """Say which output differs by more than rounding, if one does."""
        problem = difference(got, want, [0.0] * len(want))
        if problem is None:
            return None
        if self.found is None:
            self.found = self._measured()
        return difference(got, want, self.found)

    def _measured(self) -> list[float]:
        twice = _run(self.source, join_rows([self.row, self.row], self.axes))
        if isinstance(twice, _No):
            return [0.0] * len(self.answer)
        want = join_rows([self.answer, self.answer], self.output_axes)
        return [distance(a, b) for a, b in zip(twice, want, strict=True)]


def _three_rows(
    source: Runnable, examples: tuple[Tensor, ...], axes: Axes
) -> list[tuple[Outputs, Outputs]] | _No:
    """Give three different rows that the source accepts, with what it answers to each alone."""
    count = next(e.shape[a] for e, a in zip(examples, axes, strict=True) if a is not None)
    base = cut_row(examples, axes)
    first = _run(source, base)
    if isinstance(first, _No):
        return _No(f"the source cannot run one row ({first.reason})")
    rows = [(base, first)]
    for k in (1, 2):
        own = k < count
        made = [vary(base, axes, k, bold=True), vary(base, axes, k), base]
        for option in [cut_row(examples, axes, k)] if own else made:
            answer = _run(source, option)
            if not isinstance(answer, _No):
                rows.append((option, answer))
                break
            if own:
                # The source takes this row in company: say, an index into the other rows.
                return _No(f"row {k} of the example is refused alone ({answer.reason})", True)
    return rows if len(rows) == 3 else _No("the source gives different answers to the same row")


def _many_only(source: Runnable, examples: tuple[Tensor, ...], axes: Axes, alone: _No) -> _No:
    """Tell a source that needs several rows, yet any number of them, from one of a fixed number."""
    row = cut_row(examples, axes)
    counts = [_run(source, join_rows([examples, *[row] * more], axes)) for more in (0, 1, 2)]
    if any(isinstance(c, _No) for c in counts):
        return alone
    outputs = [
        tuple(
            a
            for a in range(one.dim())
            if (two.shape[a], three.shape[a]) == (one.shape[a] + 1, one.shape[a] + 2)
        )
        for one, two, three in zip(*(c for c in counts if not isinstance(c, _No)), strict=True)
        if one.dim() == two.dim() == three.dim()
    ]
    grown = tuple(a[0] if len(a) == 1 else None for a in outputs)
    whole = not isinstance(counts[0], _No) and len(grown) == len(counts[0])
    return _No(alone.reason, dependent=True, outputs=grown if whole else None)


def _output_axes(one: Outputs, two: Outputs, three: Outputs) -> Axes | _No:
    if not len(one) == len(two) == len(three):
        return _No("the number of outputs depends on the rows", dependent=True)
    axes = [_output_axis(i, *shapes) for i, shapes in enumerate(zip(one, two, three, strict=True))]
    failed = next((a for a in axes if isinstance(a, _No)), None)
    if failed is not None:
        return failed
    result = tuple(a for a in axes if not isinstance(a, _No))
    if all(a is None for a in result):
        return _No("no output has an axis that grows with the rows", dependent=True)
    return result


def _output_axis(i: int, one: Tensor, two: Tensor, three: Tensor) -> int | _No | None:
    if not one.dim() == two.dim() == three.dim():
        return _No(f"the rank of output {i} depends on the rows", dependent=True)
    grown = [
        axis
        for axis in range(one.dim())
        if not one.shape[axis] == two.shape[axis] == three.shape[axis]
    ]
    if not grown:
        return None
    if len(grown) > 1:
        return _No(f"output {i} grows along several axes with the rows", dependent=True)
    a, b, c = (t.shape[grown[0]] for t in (one, two, three))
    if (b, c) != (2 * a, 3 * a):
        return _No(f"output {i} has {a}, {b}, {c} entries for 1, 2, 3 rows", dependent=True)
    return grown[0]


def _beside_nan(
    source: Runnable,
    inputs: Sequence[Outputs],
    singles: Sequence[Outputs],
    axes: Axes,
    output_axes: Axes,
    noise: _Noise,
) -> str | None:
    """Run a row between two rows of NaN; it must answer as it does alone."""
    bad = spoil(inputs[1], axes)
    if bad is None:
        return None
    beside = _run(source, join_rows([bad, inputs[0], bad], axes))
    if isinstance(beside, _No):
        # A source that refuses NaN by itself cannot be asked this way.
        alone = _run(source, bad)
        return (
            None if isinstance(alone, _No) else f"a row of NaN makes others fail: {beside.reason}"
        )
    middle = tuple(
        whole if axis is None else whole.narrow(axis, one.shape[axis], one.shape[axis])
        for whole, one, axis in zip(beside, singles[0], output_axes, strict=True)
    )
    problem = noise.compare(middle, singles[0])
    return None if problem is None else f"a row of NaN changes its neighbours: {problem}"


def _not_independent(
    source: Runnable,
    examples: tuple[Tensor, ...],
    hint: Axes | None,
    reasons: Mapping[Axes, _No],
) -> BatchFacts:
    """Decide between a source that only takes one row and one whose rows depend on each other."""
    outputs = _run(source, examples)
    if isinstance(outputs, _No):
        raise ConfigError(f"the model does not run on its example inputs: {outputs.reason}")
    axes = hint or tuple(0 if e.dim() and e.shape[0] == 1 else None for e in examples)
    one = [e.shape[a] == 1 for e, a in zip(examples, axes, strict=True) if a is not None]
    dependent = [(a, r) for a, r in reasons.items() if r.dependent]
    # Rows on another axis that depend on each other say nothing about rows on this one.
    other = axes in reasons and not reasons[axes].dependent
    if dependent and not (one and other):
        # The axes are kept: the number of rows may still vary from request to request.
        found, reason = dependent[0]
        return BatchFacts(
            input_axes=found,
            output_axes=reason.outputs or (None,) * len(outputs),
            kind=RowsKind.WHOLE_REQUEST,
            how=f"one request is one instance: {reason.reason}",
        )
    if one and all(one) and all(o.dim() > 0 and o.shape[0] == 1 for o in outputs):
        return BatchFacts(
            input_axes=axes,
            output_axes=(0,) * len(outputs),
            kind=RowsKind.SINGLE_ROW,
            how="the source takes one row only; each row of a request is a run of its own",
        )
    first = next((r.reason for r in reasons.values()), "no input has a batch axis")
    return BatchFacts(
        input_axes=(None,) * len(examples),
        output_axes=(None,) * len(outputs),
        kind=RowsKind.WHOLE_REQUEST,
        how=f"one request is one instance: {first}",
    )


def _run(source: Runnable, args: Sequence[Tensor]) -> Outputs | _No:
    try:
        return tuple(source.run(args))
    except Exception as e:  # noqa: BLE001 (whatever a user's model raises means: cannot run this)
        text = str(e).strip().splitlines()
        return _No(f"{type(e).__name__}: {text[0] if text else ''}"[:200])
