"""Whether what arrives at the sites of a graph is right."""

from collections.abc import Hashable

import torch

from hesse.cost import Cost
from hesse.data.batch import Batch
from hesse.errors import HesseValueError
from hesse.evaluation import batch_gradient
from hesse.kronecker.signals import Passage

# Samples that are looked at: more than one, for rules fail where samples are side by side.
_PROBES = 3
# Under which a capture keeps that it was looked at, with how many rows it was.
_CHECKED = "kronecker check"


def require_gradient(passage: Passage, signature: Hashable) -> None:
    """Hold what arrives at the sites against autograd of the user's own function: with the loss's
    slope for a row, Σ_nt δ aᵀ over the uses of a parameter is its gradient.

    Args:
        passage: the way to the sites.
        signature: of the batches that it is for.

    Raises:
        HesseValueError: it is another.
    """
    cost, captured = passage.cost, passage.captured
    # One row alone may go another way than several.
    key = _CHECKED, passage.most_rows == 1
    if captured.dry_runs.get(key):
        return
    probe = _first(cost, signature).take(slice(0, _PROBES))
    chunk = passage.chunk(probe)
    found = {
        name: torch.zeros(cost.layout.sizes[name], dtype=cost.dtype, device=cost.device)
        for name in cost.parameters
        if name not in captured.fallbacks
    }
    slope = passage.slope(chunk)
    # Another row beside it, which must not be mixed in.
    rows = slope if key[1] else torch.cat([-2 * slope, slope], 1)
    for site, delta in passage.signals(rows, chunk):
        for use in site.uses:
            features = passage.features(use, site, chunk)
            entries = torch.einsum("ngto,ngti->goi", delta[:, -1], features).reshape(-1)
            if use.index is None:
                found[use.parameter] += entries
            else:
                found[use.parameter].index_add_(0, use.index.to(entries.device), entries)
    wanted = batch_gradient(cost, probe)
    expected = torch.cat([wanted[name].reshape(-1).to(cost.dtype) for name in found])
    difference = float((torch.cat(list(found.values())) - expected).norm())
    tolerance = 1e-3 if captured.graph.widened or cost.dtype == torch.float32 else 1e-8
    if not difference <= tolerance * (float(expected.norm()) + tolerance):
        raise HesseValueError(
            "cost: what arrives at its layers does not add up to the gradient by automatic"
            f" differentiation (off by {difference:.2g} of {float(expected.norm()):.2g}); is the"
            " model random? hesse.operator has its curvature"
        )
    captured.dry_runs.put(key, True)


def _first(cost: Cost, signature: Hashable) -> Batch:
    return next(b for b in cost.batches() if b is not None and b.signature == signature)
