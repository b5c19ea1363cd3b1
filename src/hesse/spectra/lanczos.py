"""Extreme eigenpairs from products alone, in bounded memory: Lanczos' method with thick restarts.

A Q = Q H + F E for the vectors Q that A was multiplied with and some more, F, that are to come: at
first one, what the last product left over. When memory is full, the wanted Ritz vectors and some
beyond them take the place of Q, with which the same holds. Vectors that an earlier run found are a
beginning like another: what their products leave over is F.

Every vector is made orthogonal to all others, twice. A space that began from one vector sees, of an
eigenvalue that is there more than once, one vector alone. So early on a random vector is added to
what is to come, as small as the tolerance allows, and what was added is noted as another part of
F E: what the search makes a residual smaller by, it makes this larger by, and a second vector comes
to light by the time that the first ones are found, for no product more. Where one did, there may be
a third: another space begins, from a vector orthogonal to all, and it is over when that brings
nothing. So it is with vectors that were given to begin from.

Source: K. Wu and H. Simon, Thick-restart Lanczos method for large symmetric eigenvalue problems,
SIAM J. Matrix Anal. Appl. 22 (2000), 602; with several vectors to come as A. Ruhe, Implementation
aspects of band Lanczos algorithms, Math. Comp. 33 (1979), 680.
"""

import math
from collections.abc import Callable, Iterator
from typing import final

import torch
from torch import Tensor

from hesse.linear_operators.inner_products import inner_product, length
from hesse.spectra.accuracy import random_vectors
from hesse.spectra.basis import Basis
from hesse.spectra.products import Products
from hesse.words import Which
from hesse.words.shapes import Float, Int

# Products of the space that looks for what was missed: a tenth of those so far, and these bounds.
_SHARE, _LEAST, _MOST = 0.1, 4, 12
# Vectors to come of earlier spaces that are kept meanwhile.
_WAITING = 3
# The product after which the random vector is added, when the size of A is known about; its length
# as a part of the tolerance, for an eigenvector's mean part of a vector, and that of A at the most.
_ADDED, _PART, _LONGEST = 3, 0.05, 0.01
# Between two looks at the Ritz values.
_EVERY = 2
# What is left of a product that is smaller, in roundings of the largest eigenvalue, is rounding.
_NOTHING = 10


def wanted(values: Float[Tensor, " n"], k: int, which: Which) -> Int[Tensor, " k"]:
    """The places of the k eigenvalues that are asked for among ascending ones, the first of them
    first.

    Examples:
        >>> wanted(torch.tensor([-3.0, 1.0, 2.0]), 2, "magnitude").tolist()
        [0, 2]
        >>> wanted(torch.tensor([-3.0, 1.0, 2.0]), 2, "both").tolist()
        [2, 0]
    """
    order = torch.arange(len(values))
    if which == "smallest":
        return order[:k]
    if which == "magnitude":
        return values.abs().argsort(descending=True, stable=True)[:k]
    if which == "largest":
        return order.flip(0)[:k]
    high = -(-k // 2)
    return torch.cat([order.flip(0)[:high], order[: k - high].flip(0)])


@final
class Lanczos:
    """A run of it.

    Args:
        product: v -> A v.
        like: a vector of A's size, dtype and device.
        k: how many eigenpairs.
        which: which of them.
        most: how many vectors may be held, k + 3 at the least unless that is all there are.
        tolerance: a residual that is small enough, as a part of the largest |λ|.
        generator: of the vectors that spaces begin from.
        show: is told how many are found, now and then.
    """

    def __init__(
        self,
        product: Products,
        like: Float[Tensor, " P"],
        k: int,
        which: Which,
        most: int,
        tolerance: float,
        generator: torch.Generator,
        show: Callable[[int], None],
    ) -> None:
        self._product, self._like, self._k = product, like, k
        self._which: Which = which
        self._most, self._tolerance, self._random, self._show = most, tolerance, generator, show
        self.basis = Basis(like, most)
        self._n = 0  # how many were multiplied
        self._H = torch.zeros(0, 0, dtype=torch.float64)
        self._E = torch.zeros(0, 0, dtype=torch.float64)  # one row for each that is to come
        self._eps = torch.finfo(like.dtype).eps
        self.scale = 0.0  # the largest |λ| seen
        self.found = False
        self._adds, self._added = False, False
        # Whether a space was full: what was added to it had no products to grow by.
        self._full = False
        # Minus what was added to what is to come, and to the product of which of Q.
        self._missing: tuple[Tensor, Tensor] | None = None

    def run(self, start: Float[Tensor, "K P"], drawn: bool) -> Float[Tensor, "k P"]:
        """The eigenvectors, as rows; as good as they are where the products are used up.

        Args:
            start: vectors to begin from.
            drawn: whether it is a single one that was drawn at random.
        """
        self._adds = drawn
        # Of earlier ones the last are found least: what they leave over is largest, and best known.
        for place in reversed(range(len(start))):
            self._begin(start[place])
        while self._until_found():
            before = self._values()
            seen = self._added and not self._full and not self._repeated(before)
            if self._n == len(self._like) or seen:
                self.found = True
                break
            if not self._second_look():
                break
            self.found = float((self._values() - before).abs().max()) <= self._allowed
            if self.found:
                break
        self.found = self.found or self._n == len(self._like)
        self._complete()
        self._keep(self._k)
        return self.basis.taken(min(self._k, self._n))

    @property
    def values(self) -> Float[Tensor, " k"]:
        """The eigenvalues of a run's vectors."""
        return self._H.diagonal()[: self._k]

    @property
    def residuals(self) -> Float[Tensor, " k"]:
        """‖A v − λ v‖ of them, as the recursion has it."""
        return self._E.norm(dim=0)[: self._k]

    def _repeated(self, values: Float[Tensor, " k"]) -> bool:
        """Whether an eigenvalue is there more than once."""
        return bool((values.sort().values.diff() <= self._allowed).any())

    def _second_look(self) -> bool:
        """Some steps from another vector, orthogonal to all; whether there were the products."""
        look = int(min(max(_SHARE * self._product.count, _LEAST), _MOST))
        # What is to come of the first space waits; of many, what the others left over is small.
        waiting = min(self.basis.count - self._n, _WAITING)
        self.basis.count, self._E = self._n + waiting, self._E[:waiting]
        self._begin_anew()
        for _ in range(look):
            if self._n == len(self._like):
                break
            if self.basis.count - self._n <= waiting:
                self._begin_anew()
            self._bring_forward(self.basis.count - 1 - self._n)
            if not any(True for _ in self._steps(1)):
                return False
        return True

    def _bring_forward(self, place: int) -> None:
        """This one of those to come is multiplied next."""
        if place > 0:
            self.basis.swap(self._n, self._n + place)
            order = list(range(len(self._E)))
            order[0], order[place] = place, 0
            self._E = self._E[order]

    @property
    def _allowed(self) -> float:
        return max(self._tolerance, _NOTHING * self._eps) * self.scale

    def _until_found(self) -> bool:
        """Steps until all residuals are small; whether they are."""
        for count in self._steps():
            rare = len(self._E) < 2 and self.basis.count < self._most
            if self._n < self._k or (count % _EVERY and rare):
                continue
            small = self._small()
            if small == self._k and self._complete():
                small = self._small()
            self._show(small)
            if small == self._k:
                return True
        return self._n == len(self._like)

    def _small(self) -> int:
        """How many residuals are; what they have most of is multiplied next."""
        places, S = self._ritz()
        left = self._E @ S[:, places]
        if len(left) > 1:
            # What was not coupled to anything yet was given to begin from.
            sizes = left.norm(dim=1).masked_fill(~self._E.any(dim=1), math.inf)
            self._bring_forward(int(sizes.argmax()))
        return int((left.norm(dim=0) <= self._tolerance * self.scale).sum())

    def _steps(self, most: float = float("inf")) -> Iterator[int]:
        """One product after another, at the most so many, as long as there are any."""
        done = 0
        while done < most and self._product.left >= 1 and self._n < len(self._like):
            if self._n == self.basis.count:
                # A Q = Q H: another space begins.
                self._begin_anew()
            if self.basis.count >= self._most and self._n > self._k + 1:
                self._keep(self._k + (self._n - self._k) // 2)
            self._step()
            done += 1
            yield done

    def _step(self) -> None:
        """Multiply the next vector; what is new in its product is one more to come."""
        n = self._n
        y = self._product(self.basis[n])
        along = self.basis.orthogonalized(y)
        H = torch.zeros(n + 1, n + 1, dtype=torch.float64)
        H[:n, :n] = self._H
        H[n, : n + 1] = H[: n + 1, n] = along[: n + 1]
        self.scale = max(self.scale, float(H.abs().max()))
        if self._adds and n + 1 == _ADDED:
            self._add(y)
        elif self._missing is not None:
            vector, row = self._missing
            self._missing = vector, torch.cat([row, row.new_zeros(1)])
        E = torch.cat([self._E[1:], along[n + 1 :].unsqueeze(1)], dim=1)
        self._H, self._E, self._n = H, E, n + 1
        last = torch.eye(n + 1, dtype=torch.float64)[n]
        rest = length(y)
        if self._smallest < rest <= self._tolerance * self.scale:
            # Of so little the direction is not worth products yet.
            y = self._left_out(y, last)
            rest = length(y)
        if rest > self._smallest and self.basis.count < len(self._like):
            self._append(y, rest, last)
        # What was added may have grown by then, but is far smaller than what a space brings.
        self._full |= float(self._E.norm()) <= (self._allowed * self.scale) ** 0.5

    def _append(self, y: Float[Tensor, " P"], rest: float, row: Float[Tensor, " n"]) -> None:
        """One more to come, of this length before; how much of it the products of Q have."""
        self.basis.append(y.div_(rest))
        self._E = torch.cat([self._E, rest * row.unsqueeze(0)])

    def _left_out(self, y: Float[Tensor, " P"], place: Float[Tensor, " n"]) -> Float[Tensor, " P"]:
        """Count what a product left over among what is missing; what of it is not along that."""
        if self._missing is not None:
            vector, row = self._missing
            before = length(vector)
            # Of the vectors that came since it may have a part, and y has none.
            self._resolve(vector, row)
            rest = length(vector)
            # Else it is known by now.
            if rest > self._eps**0.5 * before:
                part = inner_product(vector, y) / rest**2
                self._missing = vector, row + part * place
                return y.add_(vector, alpha=-part)
        self._missing = y, place
        return torch.zeros_like(y)

    def _add(self, y: Float[Tensor, " P"]) -> None:
        """A random vector to what the product of the last of Q left over."""
        size = len(self._like)
        long = self.scale * min(_PART * self._tolerance * math.sqrt(size), _LONGEST)
        added = random_vectors(1, self._like, self._random)[0]
        self.basis.orthogonalized(added)
        norm = length(added)
        if norm <= 100 * self._eps * math.sqrt(size):
            return
        added *= long / norm
        y += added
        self._missing = added.neg_(), torch.eye(self._n + 1, dtype=torch.float64)[self._n]
        self._added = True

    def _complete(self) -> bool:
        """What is missing from the products is one more to come; whether anything was."""
        if self._missing is None:
            return False
        (vector, row), self._missing = self._missing, None
        self._resolve(vector, row)
        rest = length(vector)
        if rest > self._eps * self.scale * float(row.norm()):
            self._append(vector, rest, row)
        return True

    def _resolve(self, vector: Float[Tensor, " P"], row: Float[Tensor, " n"]) -> None:
        """Take from what is missing what lies along the vectors to come."""
        along = self.basis.orthogonalized(vector)
        self._E = self._E + along[self._n :].unsqueeze(1) * row

    @property
    def _smallest(self) -> float:
        """What a product leaves over that need not be followed: far within what is asked for."""
        return max(_NOTHING * self._eps, 0.01 * self._tolerance) * self.scale

    def _begin_anew(self) -> None:
        """One vector to come, drawn, orthogonal to all, unless they are the whole space."""
        while self.basis.count < len(self._like):
            if self._begin(random_vectors(1, self._like, self._random)[0]):
                return

    def _begin(self, vector: Float[Tensor, " P"]) -> bool:
        """One vector to come; whether there is anything new in it."""
        v = vector.clone()
        size = length(v)
        if not size > 0:
            return False
        v /= size
        self.basis.orthogonalized(v)
        rest = length(v)
        if rest <= 100 * self._eps:
            return False
        v /= rest
        # Of little the rounding is large: once more.
        self.basis.orthogonalized(v)
        self.basis.append(v.div_(length(v)))
        self._E = torch.cat([self._E, torch.zeros(1, self._n, dtype=torch.float64)])
        return True

    def _ritz(self) -> tuple[Int[Tensor, " k"], Float[Tensor, "n n"]]:
        values, S = torch.linalg.eigh(self._H)
        self.scale = max(self.scale, float(values.abs().max()))
        return wanted(values, self._k, self._which), S

    def _values(self) -> Float[Tensor, " k"]:
        """The wanted Ritz values; by size where the sign does not matter."""
        values = torch.linalg.eigvalsh(self._H)
        found = values[wanted(values, self._k, self._which)]
        return found.abs() if self._which == "magnitude" else found

    def _keep(self, count: int) -> None:
        """Wanted Ritz vectors alone, and what is to come."""
        values, S = torch.linalg.eigh(self._H)
        places = wanted(values, min(count, len(values)), self._which)
        coming = self.basis.count - self._n
        if self._missing is not None:
            # What of it lies in the vectors that are let go of is in H.
            self._resolve(*self._missing)
        self.basis.turn(S[:, places], coming)
        if self._missing is not None:
            vector, row = self._missing
            self._missing = vector, row @ S[:, places]
        self._H, self._E, self._n = torch.diag(values[places]), self._E @ S[:, places], len(places)
