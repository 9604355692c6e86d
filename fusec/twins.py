"""Modules whose programs a plan knows: their twins are not traced, but have to prove themselves."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from fusec.importers.agreement import same_answers
from fusec.importers.importing import Alike, Imported
from fusec.ir.errors import GuardBroken
from fusec.ir.frozen import dataclass
from fusec.ir.plan import Structure
from fusec.ir.symbols import ExtentError, check_request
from fusec.ir.template import Template
from fusec.kernels.interpret import run_body
from fusec.registry import Registry

__all__ = ["Proof", "Twins"]

_MOST_KNOWN = 256


class Twins:
    """What later modules may be told by; lives with the plan, not in its file."""

    def __init__(self, registry: Registry) -> None:
        """Know nothing yet."""
        self._registry = registry
        self._known: dict[Hashable, tuple[Alike, Structure]] = {}

    def find(self, key: Hashable) -> tuple[Alike, Structure] | None:
        """Give what is known of modules of a likeness, if the plan still has their forms."""
        found = self._known.get(key)
        if found is None or not all(map(self._registry.has_form, found[1].forms)):
            return None
        return found

    def remember(self, name: str, imported: Imported) -> None:
        """Keep what a member that was just added tells about its twins.

        Args:
            name: of the member.
            imported: what it was added from.
        """
        alike = imported.alike
        if alike is None:
            return
        member = self._registry.target(name).member
        for variant in member.variants:
            recipe = self._registry.form(variant.form).recipe
            aliases = {alias for alias, _ in recipe.aliases}
            # A constant that tracing made is in no module, so a twin could not hand it in.
            if not set(recipe.names) <= alike.weights:
                return
            if not alike.weights <= {*recipe.names, *aliases, *recipe.unused}:
                return
        if len(self._known) >= _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        structure = Structure(
            forms=tuple(v.form for v in member.variants), notes=tuple(imported.notes)
        )
        self._known[alike.key] = (alike, structure)


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """Inputs, and the answers that a member's own source gives."""

    inputs: Sequence[Tensor]
    answers: Sequence[Tensor]

    def check(self, template: Template, weights: Sequence[Tensor]) -> bool:
        """Compare with what a template gives; tell whether it takes these inputs at all.

        Args:
            template: the known program.
            weights: the member's, as the template takes them.

        Raises:
            GuardBroken: the answers differ by more than rounding.
        Cost: one run, operator by operator.
        """
        try:
            shapes = [tuple(t.shape) for t in self.inputs]
            check_request(template.inputs, shapes, template.symbols, template.constraints)
        except ExtentError:
            return False
        with torch.no_grad():
            got = run_body(template.body, [*self.inputs, *weights])
        if not same_answers([t for t in got if isinstance(t, Tensor)], self.answers):
            raise GuardBroken("its twin's program gives other answers than the model")
        return True
