"""The numbers of a layer's block, summed over samples: Kronecker factors, exact blocks, and the
eigenvalues that EKFAC puts in place of a Kronecker product's.

Index letters: n sample; k row of a root, for which δ are the signals; g group, t position, o
output, i input.
"""

import abc
from collections import defaultdict
from functools import cached_property, partial
from typing import final

import torch
from torch import Tensor

from hesse.kronecker.block import Block, Factor, KroneckerBlock, SpectralBlock
from hesse.kronecker.gram import Gram
from hesse.kronecker.layers import Form, Layer, PlacedUse
from hesse.kronecker.nearest import nearest_product

# Entries of the gradients of single samples and rows that are held at once.
_MOST_HELD = 2**24


class Sums(abc.ABC):
    """What is summed for one layer.

    For some rows of a chunk of samples at a time come the signals of each use (`signals`), then the
    end of these rows (`end_rows`).

    Args:
        layer: the layer.
        like: a tensor of the dtype and device of the numbers.
    """

    # Whether features are wanted beside the signals.
    needs_features = False

    def __init__(self, layer: Layer, like: Tensor) -> None:
        self.layer = layer
        self._like = like

    @abc.abstractmethod
    def signals(self, use: PlacedUse, delta: Tensor, features: Tensor | None) -> None:
        """The signals (n, k, g, t, o) of a use."""

    @abc.abstractmethod
    def end_rows(self) -> None:
        """All uses had the signals of these rows."""

    @abc.abstractmethod
    def block(self) -> Block:
        """The block, once all samples were had."""

    def _zeros(self, *shape: int) -> Tensor:
        return self._like.new_zeros(shape)


@final
class FactorSums(Sums):
    """B ⊗ A of a weight that is shared over positions, all uses being positions too.

        expand    A = mean of a aᵀ over samples and positions     B = Σ_nkt δ δᵀ
        reduce    A = mean over samples of ā āᵀ, ā = mean_t a     B = Σ_nk (Σ_t δ)(Σ_t δ)ᵀ

    Features come apart from signals, for they do not depend on the rows.

    Args:
        layer: the layer.
        like: a tensor of the dtype and device of the numbers.
        reduce: whether positions are summed over first.
        forward_only: whether B is the identity.
    """

    def __init__(self, layer: Layer, like: Tensor, reduce: bool, forward_only: bool) -> None:
        super().__init__(layer, like)
        self.reduce, self._forward_only = reduce, forward_only
        # By whether outputs and inputs change places: A, B and how many a aᵀ there are in A.
        uses = [use.use for placed in layer.uses.values() for use in placed]
        self._rights: defaultdict[bool, Gram] = defaultdict(
            partial(Gram, with_one=any(use.joined_from for use in uses))
        )
        self._lefts: defaultdict[bool, Gram] = defaultdict(Gram)
        self._counts: defaultdict[bool, int] = defaultdict(int)
        # Where positions are summed over first: Σ_t a, Σ_t δ, and how many positions there are.
        self._summed: dict[bool, tuple[Tensor, int]] = {}
        self._signals: dict[bool, Tensor] = {}

    def inputs(self, use: PlacedUse, features: Tensor) -> None:
        """The features (n, g, t, i) of a use, or their sum over t (n, g, i) where positions are
        summed over first; without the 1 of a joined bias."""
        side = use.is_turned
        if self.reduce:
            total, count = features, use.site.arrange.sizes[1]
            if side in self._summed:
                before, others = self._summed[side]
                total, count = before + total, others + count
            self._summed[side] = total, count
            return
        n, _, t, _ = features.shape
        self._counts[side] += n * t
        if use.use.kind == "embedding":
            self._rights[side].add_one_hot(features.sum((0, 2)))
        else:
            self._rights[side].add(features.transpose(0, 1))

    def signals(self, use: PlacedUse, delta: Tensor, features: Tensor | None) -> None:
        side = use.is_turned
        if self.reduce:
            total = delta.squeeze(3) if delta.shape[3] == 1 else delta.sum(3)
            self._signals[side] = self._signals[side] + total if side in self._signals else total
            return
        self._lefts[side].add(delta.movedim(2, 0).flatten(1, 2))

    def end_rows(self) -> None:
        for side, total in self._signals.items():
            self._lefts[side].add(total.movedim(2, 0))
        self._signals = {}

    def end_inputs(self, samples: int) -> None:
        """All uses had the features of a chunk of so many samples."""
        for side, (total, count) in self._summed.items():
            mean = total if count == 1 else total / count
            self._rights[side].add(mean.unsqueeze(2).transpose(0, 1))
            self._counts[side] += samples
        self._summed = {}

    def block(self) -> KroneckerBlock:
        g, o, i = self.layer.shape
        pairs = []
        for side, gram in self._rights.items():
            right, left = gram.total(), self._lefts[side].total()
            assert right is not None
            if left is None:
                # No signal reached it; or the identity, which FOOF has.
                shape = g, i if side else o
                left = self._like.new_full(shape, float(self._forward_only))
            pair = Factor(left), Factor(right.div_(self._counts[side]))
            pairs.append(pair[::-1] if side else pair)
        left, right = pairs[0] if len(pairs) == 1 else nearest_product(pairs)
        layer = self.layer
        return KroneckerBlock(layer.names, layer.index, layer.shape, left, right)


class _OfGradients(Sums):
    """What is made of the gradients G = Σ_t δ aᵀ of single samples and rows, all uses added up
    before anything is squared."""

    needs_features = True

    def __init__(self, layer: Layer, like: Tensor) -> None:
        super().__init__(layer, like)
        # By sample and row, in parts of the rows: (n, k, entries).
        self._gradients: Tensor | None = None

    def signals(self, use: PlacedUse, delta: Tensor, features: Tensor | None) -> None:
        assert features is not None
        gradients = self._of_use(use, delta, features)
        self._gradients = gradients if self._gradients is None else self._gradients + gradients

    @abc.abstractmethod
    def _of_use(self, use: PlacedUse, delta: Tensor, features: Tensor) -> Tensor:
        """G of one use, (n, k, ...)."""

    @abc.abstractmethod
    def _end(self, gradients: Tensor) -> None:
        """All of G of these rows."""

    def end_rows(self) -> None:
        if self._gradients is not None:
            self._end(self._gradients)
        self._gradients = None

    def _in_layer(self, use: PlacedUse, gradients: Tensor) -> Tensor:
        """(n, k, g, o, i) of a use as (n, k, entries of the layer)."""
        n, k = gradients.shape[:2]
        places = torch.searchsorted(self._order.values, use.index.to(gradients.device))
        places = self._order.indices[places]
        whole = gradients.new_zeros(n, k, len(self.layer.index))
        return whole.index_add_(2, places, gradients.reshape(n, k, -1))

    @cached_property
    def _order(self) -> "torch.return_types.sort":
        return self.layer.index.to(self._like.device).sort()


def gradients_of(delta: Tensor, features: Tensor) -> Tensor:
    """Σ_t δ aᵀ, (n, k, g, t, o) and (n, g, t, i) -> (n, k, g, o, i)."""
    n, k, g, t, o = delta.shape
    if t == 1:  # no sum, and a product of matrices would take longer
        return delta.mT * features.unsqueeze(1)
    if o == features.shape[3] == 1:
        return (delta * features.unsqueeze(1)).sum(3).unsqueeze(4)
    rows = delta.permute(0, 2, 1, 4, 3).reshape(n, g, k * o, t)
    return (rows @ features).reshape(n, g, k, o, -1).transpose(1, 2)


@final
class ExactSums(_OfGradients):
    """Σ_nk G Gᵀ itself, or its diagonal."""

    def __init__(self, layer: Layer, like: Tensor) -> None:
        super().__init__(layer, like)
        size = len(layer.index)
        self._total = self._zeros(*(size,) * (2 if layer.form is Form.EXACT else 1))

    def _of_use(self, use: PlacedUse, delta: Tensor, features: Tensor) -> Tensor:
        made = (
            delta.sum(3).unsqueeze(4) if use.use.features is None else gradients_of(delta, features)
        )
        return self._in_layer(use, made)

    def _end(self, gradients: Tensor) -> None:
        rows = gradients.flatten(0, 1)
        if self.layer.form is Form.EXACT:
            self._total.addmm_(rows.mT, rows)
        else:
            self._total += rows.square().sum(0)

    def block(self) -> KroneckerBlock:
        layer = self.layer
        left, right = Factor(self._total.unsqueeze(0)), Factor(self._zeros(1, 1) + 1)
        return KroneckerBlock(layer.names, layer.index, layer.shape, left, right)


@final
class CorrectedSums(_OfGradients):
    """λ = Σ_nk (Q_Bᵀ G Q_A)², entry by entry: the diagonal of the exact block in the eigenbasis of
    a Kronecker product, and so the nearest block that has this basis.

    Source: T. George, C. Laurent, X. Bouthillier, N. Ballas, P. Vincent, Fast approximate natural
    gradient descent in a Kronecker-factored eigenbasis (2018), equation 11.

    Args:
        layer: the layer.
        like: a tensor of the dtype and device of the numbers.
        product: the Kronecker product.
    """

    def __init__(self, layer: Layer, like: Tensor, product: Block) -> None:
        super().__init__(layer, like)
        self._bases = product.bases
        self._values = self._zeros(*layer.shape)
        # A single use of one position needs no G: (δ_o a_i)² is a product already.
        uses = [use for placed in layer.uses.values() for use in placed]
        graphs = [use.graph for use in uses]
        self._is_outer = len(set(graphs)) == len(graphs) and all(
            use.site.arrange.sizes[1] == 1 and not use.is_turned for use in uses
        )

    def signals(self, use: PlacedUse, delta: Tensor, features: Tensor | None) -> None:
        assert features is not None
        if not self._is_outer:
            super().signals(use, delta, features)
            return
        delta, features = self._along(use, delta, features)
        squares = delta.squeeze(3).square().sum(1), features.squeeze(2).square()
        self._values += torch.einsum("ngo,ngi->goi", *squares)

    def _along(self, use: PlacedUse, delta: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """δ and a in the eigenbasis."""
        outputs, inputs = self._bases[::-1] if use.is_turned else self._bases
        if outputs is not None:
            delta = delta @ outputs
        if inputs is not None:
            features = features @ inputs
        return delta, features

    def _of_use(self, use: PlacedUse, delta: Tensor, features: Tensor) -> Tensor:
        made = gradients_of(*self._along(use, delta, features))
        return made.mT if use.is_turned else made

    def _end(self, gradients: Tensor) -> None:
        self._values += gradients.square().sum((0, 1))

    def block(self) -> SpectralBlock:
        layer = self.layer
        return SpectralBlock(layer.names, layer.index, layer.shape, *self._bases, self._values)


def rows_at_once(sums: Sums, samples: int) -> int:
    """How many rows of so many samples a layer can take."""
    if isinstance(sums, FactorSums):
        return 2**31
    return max(1, _MOST_HELD // max(1, samples * len(sums.layer.index)))
