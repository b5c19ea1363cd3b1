"""Whether all ranks ask about the same cost: a sum over ranks of other costs is of none."""

import weakref
from typing import TYPE_CHECKING, Any

from hesse.data.digest import digest
from hesse.distributed.group import joined
from hesse.errors import HesseValueError
from hesse.process.memory import available_bytes

if TYPE_CHECKING:
    from hesse.cost import Cost
    from hesse.curvatures.curvature import Curvature

# What is the same of the same cost, and in words what it says where it is not.
IDENTITY = {
    "layout": "its parameters have other names or shapes",
    "dtype": "it is of another dtype",
    "parameters": "its parameters have other values",
    "fixed": "what the model holds fixed, a buffer or another parameter, has other values",
    "data": "its data are others, or come in another order",
    "penalty": "its penalty is another",
    "curvature": "it is another curvature",
}
_ADVICE = {
    "parameters": "seed before the model is made, or load it on every rank, or wrap it in"
    " DistributedDataParallel, which sends those of rank 0 to all",
    "data": "give the same data to every rank, seeded alike where it is random or shuffled; each"
    " takes its share, and of a DataLoader with a DistributedSampler what that deals out",
}
# Costs that all ranks were seen to agree on.
_AGREED: "weakref.WeakSet[Cost]" = weakref.WeakSet()


def identity(cost: "Cost") -> dict[str, Any]:
    """What tells a cost from others before anything is computed, as plain values: digests of its
    parameters and data, and what else is given beside its function."""
    penalty = cost.penalty
    return {
        "layout": repr((cost.layout.names, cost.layout.shapes)),
        "dtype": str(cost.dtype),
        "parameters": digest(cost.parameters.values()),
        "fixed": digest(cost.fixed[name] for name in sorted(cost.fixed)),
        "data": "" if cost.data is None else cost.data.digest,
        "penalty": penalty if penalty is None or isinstance(penalty, float) else "a function",
        "curvature": repr((cost.curvature.name, _options(cost.curvature))),
    }


def require_agreement(cost: "Cost") -> None:
    """Raise on every rank where the ranks have other costs; once a cost.

    Raises:
        HesseValueError: says in what they differ, and on which rank.
    """
    group = joined()
    if group is None or cost in _AGREED:
        return
    mine, _ = group.together(
        "a cost", lambda: {**identity(cost), "free": available_bytes(cost.device)}
    )
    every = group.objects(mine)
    for part, words in IDENTITY.items():
        others = [rank for rank, its in enumerate(every) if its[part] != every[0][part]]
        if others:
            raise HesseValueError(
                f"cost: that of rank {others[0]} is not that of rank 0: {words};"
                f" {_ADVICE.get(part, 'every rank has to ask about the same')}"
            )
    group.free = min(its["free"] for its in every)
    _AGREED.add(cost)


def _options(curvature: "Curvature") -> list[tuple[str, Any]]:
    """What of a curvature is a plain value, such as a number of draws and their seed: the text of
    anything else is another in every process."""
    plain = (str, int, float, bool)
    return sorted((name, v) for name, v in vars(curvature).items() if isinstance(v, plain))
