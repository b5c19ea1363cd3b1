"""The workshop in which a graph becomes a program: leaves, named quantities, and products of
views."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from torch import Tensor

from hesse.derivation.calculus.algebra import multiply
from hesse.derivation.calculus.expression import (
    Apply,
    Delta,
    Entry,
    Expression,
    Factor,
    Index,
    Power,
    of,
)
from hesse.derivation.calculus.name import Name
from hesse.derivation.calculus.picking import Picker, numbered
from hesse.derivation.calculus.program import ArrayCall, Definition, Leaf, Quantity, mentioned
from hesse.derivation.sources.networks.axes import Axes
from hesse.derivation.sources.networks.conditions import Affine, composed, without_deltas
from hesse.derivation.sources.networks.letters import IndexLetters
from hesse.derivation.sources.networks.view import View
from hesse.errors import HesseMemoryError, readable_bytes

# Conditions on indices are held as arrays of up to so many entries.
LARGEST_CONDITION = 1 << 27

Given = Callable[[dict[str, Any]], Tensor]  # a leaf's array, from the values of one sample


class Builder:
    """Leaves and quantities, in the order in which they are made."""

    def __init__(self, reserved: Sequence[str] = ()) -> None:
        self.letters = IndexLetters()
        self.leaves: dict[str, Leaf] = {}
        self.quantities: list[Quantity] = []
        self.arrays: dict[str, Given] = {}
        self.functions: dict[str, Callable[[Tensor], Tensor]] = {}
        # Of a function without a row, the options with which it occurs.
        self.variants: dict[str, list[str]] = {}
        # Of a normalisation, the layer whose scale and shift come after it.
        self.layers: dict[str, str] = {}
        self._names = Picker(set(reserved))
        self._constants: dict[Hashable, str] = {}
        self._affine: dict[str, Affine] = {}
        self.axes = Axes(self.letters, self.affine, self._is_data)

    # ---------------------------------------------------------------- names

    def name(self, base: str, number: bool = False) -> str:
        """A name that nothing has: ``u1``, ``u2`` … where it is to be numbered, else ``p``, ``p2``
        …, ``z(fc)``, ``z(fc,2)``."""
        if number:
            candidates = (f"{base}{k}" for k in count(1))
        elif base.endswith(")"):
            candidates = (base if k == 1 else f"{base[:-1]},{k})" for k in count(1))
        else:
            candidates = numbered([base], 2)
        return self._names.pick(candidates)

    def parameters_in(self, expression: Expression) -> list[str]:
        """The parameters that an expression mentions itself, in order."""
        mentioned_names = [
            entry.name
            for term in expression.terms
            for entry in term.factors
            if isinstance(entry, Entry)
        ]
        return [
            name
            for name in dict.fromkeys(mentioned_names)
            if name in self.leaves and self.leaves[name].role == "parameter"
        ]

    # ---------------------------------------------------------------- leaves and quantities

    def leaf(self, leaf: Leaf, kinds: Sequence[str], given: Given | None = None) -> View:
        """A new leaf, one axis for each of its sizes."""
        self._names.taken.add(leaf.name)
        self.leaves[leaf.name] = leaf
        if given is not None:
            self.arrays[leaf.name] = given
        indices: list[Index] = []
        pick = (
            self.letters.new
            if leaf.role == "parameter" and len(leaf.sizes) > 1
            else self.letters.known
        )
        for size, kind in zip(leaf.sizes, kinds, strict=True):
            indices.append(pick(kind, size, {index.name for index in indices}))
        return View(of(Entry(leaf.name, tuple(indices))), tuple((index,) for index in indices))

    def condition(self, shown: str, indices: Sequence[Index], array: Tensor) -> Expression:
        """An entry of a constant array that is one where a condition on its indices holds, and zero
        elsewhere.

        Args:
            shown: the condition, with ``{0}``, ``{1}`` … for the indices.
            indices: the indices.
            array: its value.
        """
        return of(Entry(self.constant("I", array, shown), tuple(indices)))

    def affine(self, head: Index, start: int, parts: Sequence[tuple[int, Index]]) -> Expression:
        """An entry of the condition ``[head = start + Σ stride · index]``; a delta where the head
        equals one index."""
        condition = Affine(head, start, tuple(parts))
        same = condition.same_as
        if same is not None:
            return of(Delta(head, same))
        require_fits(condition.at)
        result = self.condition(condition.shown, condition.at, condition.array)
        (term,) = result.terms
        (entry,) = term.factors
        assert isinstance(entry, Entry)
        self._affine[entry.name] = condition
        return result

    def composed(self, expression: Expression) -> Expression:
        """The expression with conditions that lead from one to the next put into one, and without
        deltas that are summed."""
        parts = []
        for term in expression.terms:
            # Conditions in a row are put into one, so that nothing is summed between them.
            added, rest = composed(term, self._affine)
            value = Expression((replace(rest, bound=()),))
            around = frozenset(index.name for index in rest.bound)
            for condition in added:
                value = multiply(
                    value, self.affine(condition.head, condition.start, condition.parts), around
                )
            parts += [replace(part, bound=(*part.bound, *rest.bound)) for part in value.terms]
        return without_deltas(Expression(tuple(parts)))

    def constant(self, base: str, array: Tensor, shown: str | None = None) -> str:
        """The name of a constant array; the same one for the same array."""
        array = array.detach().double().cpu()
        # Equal arrays are one constant, whichever operation they came from.
        key = (shown, tuple(array.shape), array.numpy().tobytes())
        if key not in self._constants:
            name = self.name(base, number=shown is not None)
            self.leaves[name] = Leaf(name, tuple(array.shape), "constant", value=array, shown=shown)
            self._constants[key] = name
        return self._constants[key]

    def define(
        self,
        name: str,
        indices: Sequence[Index],
        definition: Definition,
        role: str = "value",
        note: str = "",
    ) -> Entry:
        """A new quantity."""
        if isinstance(definition, Expression):
            definition = self.composed(definition)
        self.quantities.append(Quantity(name, tuple(indices), definition, role, note))
        return self.quantities[-1].entry

    def named(self, view: View, name: str, role: str = "value", note: str = "") -> View:
        """The view as a quantity of its own."""
        return View(of(self.define(name, view.indices, view.expression, role, note)), view.axes)

    def settled(self, view: View, base: str = "u") -> View:
        """The view as an entry: as it is, or as a quantity that is named after the parameters that
        enter there."""
        if view.entry is not None:
            return view
        entering = self.parameters_in(view.expression)
        if entering:
            return self.named(view, self.name(preactivation(entering[0])), "preactivation")
        return self.named(view, self.name(base, number=base == "u"))

    def slot(self, view: View) -> View:
        """The place where a layer's parameters enter, with a name whatever it is."""
        entering = [
            name
            for name in mentioned(view.expression)
            if name in self.leaves and not self._is_condition(name)
        ]
        owned = [name for name in entering if self.leaves[name].role in ("parameter", "constant")]
        name = self.name(preactivation(owned[0])) if owned else self.name("u", number=True)
        return self.named(view, name, "preactivation")

    def label(self, node: str) -> str:
        """What a normalisation is called: its layer, or a number."""
        if node not in self.layers:
            self.layers[node] = str(len(self.layers) + 1)
        return self.layers[node]

    def light(self, view: View) -> bool:
        """Whether a view is an entry up to numbers, constants and a choice of indices, so that it
        needs no name."""
        if len(view.expression.terms) > 1:
            return False
        factors = view.expression.terms[0].factors if view.expression.terms else ()
        moving = [f for f in factors if not self._is_number(f)]
        return len(moving) <= 1 and all(isinstance(factor, Entry) for factor in moving)

    def _is_number(self, factor: Factor) -> bool:
        if isinstance(factor, Power):
            return not mentioned(factor)
        return isinstance(factor, Delta) or (
            isinstance(factor, Entry)
            and factor.name in self.leaves
            and self._is_constant(factor.name)
        )

    def _is_constant(self, name: str) -> bool:
        return self.leaves[name].role == "constant" or self._is_condition(name)

    def _is_condition(self, name: str) -> bool:
        return self.leaves[name].shown is not None

    def _is_data(self, view: View) -> bool:
        return all(
            name in self.leaves and self.leaves[name].role != "parameter"
            for name in mentioned(view.expression)
        )

    def operand(self, view: View) -> View:
        """The view as something that may be multiplied: a name for a sum."""
        return view if self.light(view) else self.settled(view)

    # ---------------------------------------------------------------- functions

    def apply(
        self, function: str, view: View, value: Callable[[Tensor], Tensor] | None = None
    ) -> View:
        """An elementwise function of a view, as an activation.

        Args:
            function: its name; with ``value`` one that the table of functions does not have.
            view: its argument.
            value: the function on tensors.
        """
        argument = self.settled(view)
        if value is not None:
            self.functions[function] = value
        entry = argument.entry
        assert entry is not None
        read = Name.read(entry.name)
        known = read.base == "z" and read.layer and entry.name not in self.leaves
        activation = str(replace(read, base="a"))
        name = self.name(activation if known else f"{function}({entry.name})")
        result = View(of(Apply(function, 0, entry)), argument.axes)
        return self.named(result, name, "activation")

    def whole(
        self, operation: str, view: View, axis: int, base: str = "", keeps: bool = True
    ) -> View:
        """softmax, log_softmax or logsumexp of a view along one axis; logsumexp takes the axis
        away."""
        view = self.axes.joined(self.settled(view), axis)
        (along,) = view.axes[axis]
        entry = view.entry
        # The function acts along the last index, so the array is laid out that way.
        if entry is None or entry.indices[-1] != along:
            rest = [index for index in view.indices if index != along]
            entry = self.define(self.name("u", number=True), (*rest, along), view.expression)
        name = self.name(base or f"{operation}({entry.name})")
        result = self.define(
            name, entry.indices if keeps else entry.indices[:-1], ArrayCall(operation, entry)
        )
        axes = view.axes if keeps else (*view.axes[:axis], *view.axes[axis + 1 :])
        return View(of(result), axes)


def require_fits(indices: Sequence[Index]) -> None:
    """Refuse a condition whose array would not fit.

    Raises:
        HesseMemoryError: it has too many entries.
    """
    sizes = [int(index.size) for index in indices]
    if math.prod(sizes) > LARGEST_CONDITION:
        raise HesseMemoryError(
            f"derive: an axis of {max(sizes)} places that is merged or split needs an array of"
            f" shape {tuple(sizes)}, {readable_bytes(8.0 * math.prod(sizes))}; a smaller model of"
            " the same layers has the same formulas: derive those"
        )


def preactivation(parameter: str) -> str:
    """What a quantity is called that a layer's parameter enters: z(fc1)."""
    return str(Name("z", f"({layer_of(parameter)})"))


def layer_of(parameter: str) -> str:
    """The layer that a parameter belongs to: ``fc1`` for ``fc1.weight``, ``cell.ih_l0`` for
    ``cell.weight_ih_l0``.

    Examples:
        >>> layer_of("fc1.weight"), layer_of("attn.in_proj_bias"), layer_of("W1")
        ('fc1', 'attn.in_proj', 'W1')
    """
    *path, last = parameter.split(".")
    words = [word for word in last.split("_") if word not in ("weight", "bias")]
    return ".".join([*path, *(["_".join(words)] if words else [])]) or parameter
