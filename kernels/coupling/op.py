"""The custom operator `fusec::pairwise_coupling`; importing this module registers it with torch.

The iteration stops where libsvm stops it, which is before it has converged, so the number of
steps depends on the data.
"""

import torch
from torch import Tensor

SCHEMA = "pairwise_coupling(Tensor pairs) -> Tensor"


def pairwise_coupling(pairs: Tensor) -> Tensor:
    """Minimise p Q p over distributions p, as libsvm's multiclass_probability does.

    Args:
        pairs: [N, C, C] float; [n, i, j] is the probability of class i against class j, the
            diagonal is 0.

    Returns:
        [N, C] probabilities of the classes.
    """
    count = pairs.shape[1]
    other = pairs.transpose(1, 2)
    quadratic = torch.diag_embed((other**2).sum(dim=2)) - pairs * other
    chance = torch.full_like(pairs[:, 0], 1.0 / count)
    for _ in range(max(100, count)):
        product = (quadratic @ chance.unsqueeze(2)).squeeze(2)
        total = (chance * product).sum(dim=1, keepdim=True)
        done = (product - total).abs().amax(dim=1, keepdim=True) < 0.005 / count
        if bool(done.all()):
            break
        chance = torch.where(done, chance, _sweep(quadratic, chance, product, total))
    return chance


def _sweep(quadratic: Tensor, chance: Tensor, product: Tensor, total: Tensor) -> Tensor:
    """Move one class after the other to its best probability, the others scaled along."""
    chance, product = chance.clone(), product.clone()
    for t in range(chance.shape[1]):
        own = quadratic[:, t, t].unsqueeze(1)
        here = product[:, t : t + 1].clone()
        step = (total - here) / own
        chance[:, t : t + 1] += step
        total = (total + step * (step * own + 2 * here)) / (1 + step) ** 2
        chance /= 1 + step
        product = (product + step * quadratic[:, t]) / (1 + step)
    return chance


def fake_pairwise_coupling(pairs: Tensor) -> Tensor:
    """Give the result's shape for tracing."""
    return pairs.new_empty(pairs.shape[:2])


# The library object keeps the registration alive for as long as this module is loaded.
LIBRARY = torch.library.Library("fusec", "FRAGMENT")  # type: ignore[no-untyped-call]
LIBRARY.define(SCHEMA, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
LIBRARY.impl("pairwise_coupling", pairwise_coupling, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
torch.library.register_fake("fusec::pairwise_coupling", fake_pairwise_coupling, lib=LIBRARY)
