"""Sites: where parameters enter the network through operations linear in them.

A *site* is one value z of the graph, the output of one layer, together with the parameters that
enter there, for instance a dense layer's weight and bias. Each of them there is one *parameter
use*: a tied parameter has several, at several sites. Every site, whatever its operation, is brought
to one form. Its value is arranged on three axes,

    g  groups that do not mix      t  positions that share the parameter      o  outputs

and a use's parameter, arranged as (g, o, i), enters as

    z[g, t, o] = Σ_i  W[g, o, i] · a[g, t, i]  +  (what does not depend on W)

with a the use's *features* of the site's input: the input itself (dense), its patches
(convolution), a one-hot row (embedding), the normalised value (scale), or 1 (shift, bias, and a
parameter that is its own site, a *leaf*).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Arrangement:
    """How a value's axes become (g, t, o).

    Attributes:
        split: the shape that the value is brought to first.
        order: for each of g, t and o the axes of ``split`` that it is made of.
    """

    split: tuple[int, ...]
    order: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @cached_property
    def sizes(self) -> tuple[int, int, int]:
        """The lengths of g, t and o."""
        # The product of no axes is 1: a value without groups or positions needs no axis for them.
        g, t, o = (math.prod(self.split[axis] for axis in axes) for axes in self.order)
        return g, t, o

    def __call__(self, value: Tensor, lead: int, tail: int = 0) -> Tensor:
        """(*lead, *z, *tail) -> (*lead, g, t, o, *tail), for ``lead`` leading and ``tail`` trailing
        axes."""
        # The axes of z stand between the leading and the trailing ones, which stay where they are.
        head, rest = value.shape[:lead], value.shape[value.ndim - tail :]
        width = len(self.split)
        flat = [axis for axes in self.order for axis in axes]
        axes = (
            *range(lead),
            *(lead + axis for axis in flat),
            *range(lead + width, lead + width + tail),
        )
        moved = value.reshape(*head, *self.split, *rest).permute(axes)
        return moved.reshape(*head, *self.sizes, *rest)

    @property
    def is_vector(self) -> bool:
        """One group and one position: z is the vector of outputs, as of a dense layer on
        vectors."""
        return self.sizes[:2] == (1, 1)


# The order of a value whose axes already are (g, t, o).
AXES_IN_ORDER = ((0,), (1,), (2,))


@dataclass(frozen=True)
class Gather:
    """How features that only gather the entries of their input do so, channel by channel.

    With the input arranged as (h, u, c), group, place and channel, a[h, s, (c, w)] is the entry c
    at one place u(s, w), or zero; w counts the window. So summing the features of D over positions
    s with weights δ is summing D itself with those weights scattered to the places,

        Σ_s δ[h,s,p] a(D)[h,s,(c,w)] = Σ_u δ'[h,u,w,p] D[h,u,c],

    which saves laying the features of D out: a convolution's patches are as many times larger than
    its input as its window.

    Attributes:
        arrange: the input -> (h, u, c).
        scatter: δ -> δ', (n, h, s, p) -> (n, h, u, w, p); ``None`` where each position is its own
            place, the features being the input.
    """

    arrange: Arrangement
    scatter: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class ParameterUse:
    """One parameter at one site.

    Attributes:
        parameter: its name.
        kind: dense, convolution, embedding, scale, shift or leaf.
        index: flat entries of the parameter in the order (g, o, i); ``None`` where that is its own
            order.
        shape: (g, o, i).
        features: (B, *input) -> (B, g, t, i); ``None`` where a = 1.
        joined_from: for a use made by `joined`, the two that it stands for.
        gather: how the features take up the input's entries, where they only move them.
        argument: the argument of the operation that it stands for, a view of the parameter, by
            name.
    """

    parameter: str
    kind: str
    index: Tensor | None
    shape: tuple[int, int, int]
    features: Callable[[Tensor], Tensor] | None
    joined_from: "tuple[ParameterUse, ...]" = ()
    gather: Gather | None = None
    argument: str = ""

    @property
    def members(self) -> "tuple[ParameterUse, ...]":
        """The uses of single parameters that this one is made of."""
        return self.joined_from or (self,)

    @property
    def size(self) -> int:
        """Number of parameter entries that enter here."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Site:
    """A value z and the parameter uses that end in it.

    Attributes:
        value: name of z.
        input: name of the value that the features are made of; ``None`` where every use is a
            shift.
        arrange: z -> (g, t, o).
        uses: the parameters that enter.
    """

    value: str
    input: str | None
    arrange: Arrangement
    uses: tuple[ParameterUse, ...]

    @property
    def size(self) -> int:
        """Groups × positions × outputs: how many rows the site's S has."""
        return math.prod(self.arrange.sizes)

    @property
    def parameters(self) -> list[str]:
        """The parameters that enter, by name."""
        return [part.parameter for use in self.uses for part in use.members]


def joined(site: Site) -> Site:
    """The site with a weight and its bias as one use, the bias as the weight's last input, which
    is always 1.

    One contraction instead of three, and one instead of four with another such site.
    """
    # A weight and then a bias, as the records of operations list them.
    if [use.features is not None for use in site.uses] != [True, False]:
        return site
    weight, bias = site.uses
    # Of one parameter their mixed block is part of that parameter's own, in both orders.
    if weight.parameter == bias.parameter:
        return site
    features = weight.features
    assert features is not None
    (g, o, i), name = weight.shape, f"{weight.parameter}, {bias.parameter}"
    both = ParameterUse(
        name,
        weight.kind,
        None,
        (g, o, i + 1),
        # Padded with zeros here; the 1 is written once the features are made in their dtype.
        lambda x: F.pad(features(x), (0, 1)),
        (weight, bias),
        weight.gather,
    )
    return Site(site.value, site.input, site.arrange, (both,))
