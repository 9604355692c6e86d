"""Templates as stages for native code or cards: each is lowered once, in one place."""

from collections.abc import Sequence

from fusec.ir.errors import UnsupportedError
from fusec.ir.frozen import dataclass
from fusec.ir.plan import WeightStorage
from fusec.ir.stage import Layout, Lowered, plain_layout
from fusec.ir.template import Template, TensorSpec
from fusec.passes.fuse import fuse
from fusec.passes.lower import lower
from fusec.runtime.cache import LockedCache

__all__ = ["Stages", "plain_layouts"]


@dataclass(frozen=True, slots=True, eq=False)
class _Staged:
    lowered: Lowered | None
    reason: str


class Stages:
    """What templates are lowered to."""

    def __init__(self, weight_storage: WeightStorage | None = None, *, card: bool = False) -> None:
        """Lower nothing yet.

        Args:
            weight_storage: in what packed weights are stored; None is as they are.
            card: for a graphics card; native code has PyTorch run half-width products and the like,
                cards have kernels for them, which read weights in panels.
        """
        self._storage, self._card = weight_storage, card
        self._made: LockedCache[_Staged] = LockedCache(limit=None)

    def of(self, template: Template) -> Lowered:
        """Give a template's stages.

        Raises:
            UnsupportedError: it has none; see `has`.
        """
        staged = self._staged(template)
        if staged.lowered is None:
            raise UnsupportedError(staged.reason)
        return staged.lowered

    def has(self, template: Template) -> bool:
        """Tell whether a template can be lowered; PyTorch runs the whole of it if not."""
        return self._staged(template).lowered is not None

    def why_not(self, template: Template) -> str | None:
        """Say why a template has no stages, None if it has."""
        staged = self._staged(template)
        return staged.reason if staged.lowered is None else None

    def layouts(self, template: Template) -> Sequence[Layout]:
        """Give the layout of each of a template's weights."""
        lowered = self._staged(template).lowered
        return plain_layouts(template) if lowered is None else lowered.layouts

    def _staged(self, template: Template) -> _Staged:
        return self._made.get(template.key, lambda: _stage(template, self._storage, self._card))


def plain_layouts(template: Template) -> Sequence[Layout]:
    """Give the layouts of weights as PyTorch takes them."""
    return tuple(
        plain_layout([int(d) for d in spec.shape])
        for spec in template.weights
        if isinstance(spec, TensorSpec)
    )


def _stage(template: Template, storage: WeightStorage | None, card: bool) -> _Staged:
    try:
        lowered, _ = fuse(lower(template, stored=storage, card=card))
    except UnsupportedError as e:
        return _Staged(None, str(e))
    return _Staged(lowered, "")
