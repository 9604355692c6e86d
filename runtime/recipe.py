"""Turn a member's raw weights into packed weights, and hold it to the guards."""

import re
from collections.abc import Callable, Mapping

import torch

from fusec.ir.errors import ConfigError, GuardBroken
from fusec.ir.template import Guard, Predicate, Recipe, TensorSpec
from fusec.kernels.interpret import references, run_body
from fusec.kernels.torch_graph import dtype_name

__all__ = ["apply_recipe"]


def apply_recipe(
    recipe: Recipe, raw: Mapping[str, torch.Tensor], shown: Mapping[str, str] | None = None
) -> tuple[torch.Tensor, ...]:
    """Compute the packed weights of a member.

    Args:
        recipe: of the form that the raw weights come in.
        raw: raw weights by name, as in a state dict; names of tied weights may stand beside.
        shown: the recipe's names -> the user's, for messages; ONNX forms number their weights.

    Raises:
        ConfigError: a missing or unexpected name, another dtype or shape than the form has, tied
            weights that differ.
        GuardBroken: a value that breaks a guard; the guard's text is quoted.
    Cost: a few small tensor operations; nothing is traced or compiled.
    """
    shown = shown or {}
    _check_names(recipe, raw, shown)
    used = references((tuple(r.args for r in recipe.body.rows), recipe.body.results))
    arguments = [_checked(recipe, i, raw, shown, i in used) for i in range(len(recipe.names))]
    with torch.no_grad():
        results = run_body(recipe.body, arguments)
    n_packed = len(results) - len(recipe.guards)
    for guard, operand in zip(recipe.guards, results[n_packed:], strict=True):
        assert isinstance(operand, torch.Tensor)
        if not _PREDICATES[guard.predicate](operand, guard):
            raise GuardBroken(
                f"a weight breaks what the template relies on: {_renamed(guard.text, shown)}; "
                "compile this model on its own instead of adding it to the group"
            )
    packed = results[:n_packed]
    assert all(isinstance(p, torch.Tensor) for p in packed)
    return packed  # type: ignore[return-value]


def _check_names(recipe: Recipe, raw: Mapping[str, torch.Tensor], shown: Mapping[str, str]) -> None:
    aliases = dict(recipe.aliases)
    unexpected = sorted(set(raw) - set(recipe.names) - set(aliases) - set(recipe.unused))
    if unexpected:
        raise ConfigError(
            f"unexpected weights {_some(unexpected)}; this form has "
            f"{_some([shown.get(n, n) for n in recipe.names])}"
        )
    for alias, name in aliases.items():
        if alias in raw and name in raw and not _same(raw[alias], raw[name]):
            raise ConfigError(
                f"weights {alias!r} and {name!r} are tied in this form but given with different "
                "values; compile this model on its own"
            )


def _checked(
    recipe: Recipe,
    index: int,
    raw: Mapping[str, torch.Tensor],
    shown: Mapping[str, str],
    used: bool,
) -> torch.Tensor | None:
    """Give a raw weight in the form's dtype and shape; None if missing and without effect."""
    name = recipe.names[index]
    spec = recipe.body.arguments[index]
    assert isinstance(spec, TensorSpec)
    names = [name, *(a for a, n in recipe.aliases if n == name)]
    given = next((raw[n] for n in names if n in raw), None)
    if given is None and not used:
        return None
    own = shown.get(name, name)
    if given is None:
        raise ConfigError(f"weight {own!r} is missing; give {spec.dtype}{list(spec.shape)}")
    if dtype_name(given.dtype) != spec.dtype or tuple(given.shape) != spec.shape:
        raise ConfigError(
            f"weight {own!r} is {dtype_name(given.dtype)}{list(given.shape)}, this form has "
            f"{spec.dtype}{list(spec.shape)}; compile the model on its own"
        )
    return given.detach()


def _renamed(text: str, shown: Mapping[str, str]) -> str:
    """Put the user's names into a guard's text."""
    return re.sub(r"[\w.]+", lambda m: shown.get(m[0], m[0]), text)


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(n) for n in names[:6])
    return shown + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


def _equals(operand: torch.Tensor, guard: Guard) -> bool:
    assert guard.operand is not None
    wanted = torch.tensor(guard.operand, dtype=torch.float64).to(operand.dtype)
    return bool((operand == wanted).all())


def _causal(operand: torch.Tensor, guard: Guard) -> bool:
    del guard
    rows, columns = operand.shape[-2:]
    allowed = torch.ones(rows, columns, dtype=torch.bool).tril()
    if operand.dtype == torch.bool:
        return bool((operand == allowed).all())
    masked = operand <= torch.finfo(operand.dtype).min
    return bool(((operand == 0) == allowed).all() and (masked == ~allowed).all())


def _in_order(operand: torch.Tensor, guard: Guard) -> bool:
    del guard
    return torch.equal(operand.reshape(-1), torch.arange(operand.numel(), dtype=operand.dtype))


_PREDICATES: Mapping[Predicate, Callable[[torch.Tensor, Guard], bool]] = {
    Predicate.EQUALS: _equals,
    Predicate.CAUSAL_MASK: _causal,
    Predicate.IDENTITY_ORDER: _in_order,
}
