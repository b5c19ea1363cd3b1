"""A dense network in words, such as 2-3-1 with sigmoids: what a derivation needs when there is no
model yet."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from hesse.derivation.calculus.algebra import add, multiply, product, scale, total
from hesse.derivation.calculus.expression import (
    Apply,
    Count,
    Entry,
    Expression,
    Group,
    Index,
    Power,
    Size,
    constant,
    of,
)
from hesse.derivation.calculus.name import Name
from hesse.derivation.calculus.program import ArrayCall, Leaf, Program, Quantity
from hesse.derivation.sources.language.vocabulary import advice, is_unknown, known
from hesse.derivation.sources.networks.letters import IndexLetters
from hesse.display import Display, Displayed, facts
from hesse.errors import HesseTypeError, HesseValueError, nearest
from hesse.operations.registry import ARRAY_FUNCTIONS, FUNCTIONS
from hesse.words import NetworkLoss

# A loss: from the quantity that is compared with y, and its index, to the cost and the quantities
# that it needs first.
Loss = Callable[[Entry, Index], tuple[Expression, tuple[Quantity, ...]]]


@dataclass(frozen=True, init=False, repr=False)
class Network(Displayed):
    """Dense layers z = W a + b with a = f(z) between them, and the cost of one sample.

    Args:
        widths: of the layers, inputs first: ``"2-3-1"`` or ``(2, 3, 1)``; letters stand for sizes
            left open: ``"d-h-m"``.
        activation: a function's name (``sigmoid``, ``tanh``, ``relu`` …), ``identity``, or a letter
            for one that is not known, such as ``f``, of which f' and f'' stay symbols; or a name
            for each hidden layer, or one more for the output.
        loss: ``half_sse`` is ½ Σ (y − ŷ)², ``mse`` the mean of the squares over the outputs,
            ``cross_entropy`` compares logits with a one-hot y, ``bce`` logits with numbers in [0,
            1].
        bias: whether the layers have biases b1, b2, …
        output: the activation of the last layer. By default that of the others for ``half_sse`` and
            ``mse``; none for the losses that take logits.

    Raises:
        HesseError: a width, an activation or a loss that cannot be used; the text says which.

    Examples:
        >>> net = Network("2-3-1", activation="tanh")
        >>> net
        Network: 2-3-1, tanh, half_sse
        parameters  W1, b1, W2, b2
        next        hesse.derive(network)
        >>> net.parameters
        ('W1', 'b1', 'W2', 'b2')
    """

    widths: tuple[Size, ...]
    activations: tuple[str, ...]
    loss: str
    bias: bool

    def __init__(
        self,
        widths: Any,
        activation: Any = "sigmoid",
        loss: NetworkLoss | str = "half_sse",
        bias: bool = True,
        *,
        output: str | None = None,
    ) -> None:
        if not isinstance(loss, str) or loss not in LOSSES:
            raise HesseValueError(
                f"loss: no loss is named {loss!r}; the nearest known:"
                f" {nearest(str(loss), list(LOSSES))}"
            )
        read = _widths(widths)
        object.__setattr__(self, "widths", read)
        object.__setattr__(
            self, "activations", _activations(activation, output, len(read) - 1, loss)
        )
        object.__setattr__(self, "loss", loss)
        object.__setattr__(self, "bias", bool(bias))

    def _display(self) -> Display:
        names = ", ".join(self.parameters)
        return Display(
            "Network", str(self), facts(parameters=names), next=("hesse.derive(network)",)
        )

    def __str__(self) -> str:
        hidden, last = self.activations[:-1], self.activations[-1]
        logits = self.loss in TAKES_LOGITS
        names = (
            [*(dict.fromkeys(hidden) if len(set(hidden)) == 1 else hidden)] if hidden else [last]
        )
        if hidden and last != ("identity" if logits else hidden[-1]):
            names.append(f"output {last}")
        return ", ".join(
            [
                "-".join(map(str, self.widths)),
                *names,
                self.loss,
                *(() if self.bias else ("no biases",)),
            ]
        )

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names W1, b1, W2, … in order."""
        letters = "Wb" if self.bias else "W"
        return tuple(
            f"{letter}{layer + 1}" for layer in range(len(self.activations)) for letter in letters
        )

    def program(self) -> tuple[Program, tuple[str, ...]]:
        """The cost of one sample as a program, and the names of its parameters.

        Examples:
            >>> program, names = Network("2-3-1", "f", bias=False).program()
            >>> [quantity.name for quantity in program.quantities]
            ['z2', 'a2', 'z3', 'ŷ', 'J']
            >>> program.quantities[2].indices, sorted(program.unknown)
            ((Index(name='p', size=1),), ['f'])
        """
        letters = IndexLetters(avoid=(size for size in self.widths if isinstance(size, str)))
        ends = self.widths[0], self.widths[-1]
        leaves = {
            "x": Leaf("x", ends[:1], per_sample=True),
            "y": Leaf(
                "y", ends[1:], sums_to=1 if self.loss == "cross_entropy" else None, per_sample=True
            ),
        }
        quantities: list[Quantity] = []
        below = "x"
        last = len(self.activations)
        for layer, (inputs, outputs, f) in enumerate(
            zip(self.widths, self.widths[1:], self.activations, strict=False), 1
        ):
            o, i = letters.new("output", outputs), letters.new("input", inputs)
            W, b, number = f"W{layer}", f"b{layer}", str(layer + 1) if last > 1 else ""
            leaves[W] = Leaf(W, (outputs, inputs), "parameter")
            value = total(product((Entry(W, (o, i)), Entry(below, (i,)))), (i,))
            if self.bias:
                leaves[b] = Leaf(b, (outputs,), "parameter")
                value = add(value, of(Entry(b, (o,))))
            z = Quantity(
                str(Name("z", number)),
                (o,),
                value,
                "preactivation",
                f"what goes into the units of layer {layer + 1}",
            )
            quantities.append(z)
            below = z.name
            if f != "identity":
                name = "ŷ" if layer == last else str(Name("a", number))
                note = (
                    "the prediction"
                    if layer == last
                    else f"what comes out of the units of layer {layer + 1}"
                )
                quantities.append(
                    Quantity(name, (o,), of(Apply(f, 0, z.entry)), "activation", note)
                )
                below = name
        top = quantities[-1].entry
        value, needed = LOSSES[self.loss](top, top.indices[0])
        cost = Quantity("J", (), value, "cost", "the cost of one sample")
        # What no record knows stays a symbol, with f' and f''.
        unknown = frozenset(self.activations) - set(FUNCTIONS) - {"identity"}
        samples = "sum" if self.loss == "half_sse" else "mean"  # as in hesse.Cost
        return Program(leaves, (*quantities, *needed, cost), unknown, samples), self.parameters


# ---------------------------------------------------------------- losses


def _squares(top: Entry, index: Index) -> Expression:
    """Σ_p (y_p − ŷ_p)²"""
    difference = Group(add(of(Entry("y", (index,))), scale(of(top), -1)))
    return total(of(Power(difference, constant(2))), (index,))


def _half_sse(top: Entry, index: Index) -> tuple[Expression, tuple[Quantity, ...]]:
    """½ Σ_p (y_p − ŷ_p)²"""
    return scale(_squares(top, index), Fraction(1, 2)), ()


def _mse(top: Entry, index: Index) -> tuple[Expression, tuple[Quantity, ...]]:
    """1/m Σ_p (y_p − ŷ_p)²"""
    if isinstance(index.size, int):
        return scale(_squares(top, index), Fraction(1, index.size)), ()
    return multiply(of(Power(Count(index.size), constant(-1))), _squares(top, index)), ()


def _cross_entropy(top: Entry, index: Index) -> tuple[Expression, tuple[Quantity, ...]]:
    """log Σ_k exp z_k − Σ_k y_k z_k"""
    name = f"logsumexp({top.name})"
    whole = Quantity(name, (), ArrayCall("logsumexp", top), note=f"log Σ exp {top.name}")
    return add(of(whole.entry), scale(_against(top, index), -1)), (whole,)


def _bce(top: Entry, index: Index) -> tuple[Expression, tuple[Quantity, ...]]:
    """Σ_p log(1 + exp z_p) − y_p z_p"""
    return add(total(of(Apply("softplus", 0, top)), (index,)), scale(_against(top, index), -1)), ()


def _against(top: Entry, index: Index) -> Expression:
    """Σ_p y_p z_p"""
    return total(product((Entry("y", (index,)), top)), (index,))


LOSSES: dict[str, Loss] = {
    "half_sse": _half_sse,
    "mse": _mse,
    "cross_entropy": _cross_entropy,
    "bce": _bce,
}
TAKES_LOGITS = frozenset({"cross_entropy", "bce"})


# ---------------------------------------------------------------- what was asked for


def _widths(given: Any) -> tuple[Size, ...]:
    if not isinstance(given, str | Sequence):
        raise HesseTypeError(
            "widths: expected text such as '2-3-1' or a sequence of numbers, got"
            f" {type(given).__name__}"
        )
    parts = [part.strip() for part in given.split("-")] if isinstance(given, str) else list(given)
    read: list[Size] = []
    for part in parts:
        text = str(part)
        # A size of more digits than 64 bits hold is no size of an array.
        digits = re.fullmatch(r"[0-9]{1,18}", text) is not None
        if digits and int(text) > 0 and not isinstance(part, bool):
            read.append(int(text))
        elif isinstance(part, str) and re.fullmatch(r"[A-Za-z]", text):
            read.append(text)
        else:
            raise HesseValueError(
                f"widths: {part!r} in {given!r} is not a width; each is a whole number from 1 on,"
                " or a single letter for a size that is left open, as in '2-3-1' or 'd-h-m'"
            )
    if len(read) < 2:
        raise HesseValueError(
            f"widths: {given!r} has {len(read)} layer; a network needs at least inputs and outputs,"
            " such as '2-1'"
        )
    return tuple(read)


def _activations(given: Any, output: str | None, layers: int, loss: str) -> tuple[str, ...]:
    """One for each layer of weights; the last is the output's."""
    if not isinstance(given, str | Sequence):
        raise HesseTypeError(
            "activation: expected the name of a function, such as 'tanh' or 'f', or several, got"
            f" {type(given).__name__}"
        )
    hidden = layers - 1
    names = [given] * hidden if isinstance(given, str) else list(given)
    if output is None and not isinstance(given, str) and len(names) == layers:
        output = names.pop()
    if len(names) != hidden:
        raise HesseValueError(
            f"activation: {len(names)} names for {hidden} hidden layer{'' if hidden == 1 else 's'};"
            " give one name for all, one for each hidden layer, or one more for the output"
        )
    if output is None:
        before = names[-1] if names else given if isinstance(given, str) else "identity"
        output = "identity" if loss in TAKES_LOGITS else before
    for name in (*names, output):
        if not isinstance(name, str) or not name.isidentifier():
            raise HesseValueError(
                f"activation: {name!r} is not the name of a function, such as 'tanh', 'identity'"
                " or 'f'"
            )
        if name not in {*FUNCTIONS, *ARRAY_FUNCTIONS, "identity"} and not is_unknown(name):
            raise HesseValueError(
                f"activation: {f'{name} is none' if name in known() else advice(name)}"
            )
        if name in ARRAY_FUNCTIONS:
            raise HesseValueError(
                f"activation: {name} does not act on each unit by itself"
                + (
                    ": use loss='cross_entropy', which has the softmax of its logits in it"
                    if "softmax" in name
                    else ""
                )
            )
    return (*names, output)
