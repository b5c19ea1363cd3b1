"""Names for the quantities of a program and letters for its indices, as a person would choose
them."""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TypeGuard

from hesse.derivation.calculus.expression import LETTERS, Index, Size
from hesse.derivation.calculus.name import Name
from hesse.derivation.calculus.picking import Picker, numbered
from hesse.derivation.sources.language.parts import Naming
from hesse.derivation.sources.language.tree import (
    Binary,
    FunctionCall,
    Negative,
    Number,
    Symbol,
    Transpose,
    Tree,
    children,
    walk,
)
from hesse.derivation.sources.language.vocabulary import along_the_last
from hesse.errors import HesseValueError
from hesse.operations.registry import ARRAY_FUNCTIONS

# Products and powers within each other that are differentiated as one formula: a derivative of n of
# them has n terms of n factors, a second one n² terms.
NESTED = 3

FACTORS = 8
# Powers within each other whose exponents vary, as in x**x**x: each line has four terms for each of
# them, and there are some eight lines for each.
TOWER = 20

_ARITHMETIC = frozenset({"sum", "mean", "norm2", "trace", "diag", "eye", "sqrt"})


def _is_product(tree: Tree) -> bool:
    return isinstance(tree, Binary) and tree.operator in ("*", "@")


def is_whole(tree: Tree) -> TypeGuard[FunctionCall]:
    """Whether a tree is a function of a whole array."""
    return isinstance(tree, FunctionCall) and tree.function in ARRAY_FUNCTIONS


def is_elementwise(tree: Tree) -> TypeGuard[FunctionCall]:
    """Whether a tree is a nonlinear function of each entry. A square root is a power: its argument
    stands in parentheses."""
    return (
        isinstance(tree, FunctionCall)
        and tree.function not in ARRAY_FUNCTIONS
        and tree.function not in _ARITHMETIC
    )


def _is_plain_log(tree: FunctionCall) -> bool:
    """Whether a tree is log|u|, which is differentiated as one function of u, or log(1 − p), whose
    slope is as short as its name."""
    match tree:
        case FunctionCall("log", FunctionCall("abs")):
            return True
        case FunctionCall("log", Binary("+" | "-", left, right)):
            return isinstance(left, Number) and is_leaf(right)
    return False


class QuantityNames:
    """Which subtrees of a cost are quantities of their own, and what they are called.

    The arguments of nonlinear functions are; so is what occurs twice and is more than arithmetic;
    and so are the activations of a network: functions of a weighted sum that stand within another
    weighted sum or are compared with data.

    Args:
        tree: the cost.
        constant: whether a subtree is a number, whatever the arrays are.
        taken: names that the user has given to something.
        naming: what else has a name, where there are no layers.
    """

    def __init__(
        self,
        tree: Tree,
        constant: Callable[[Tree], bool],
        taken: Iterable[str],
        naming: Naming,
    ) -> None:
        self._constant = constant
        self._names = Picker({*taken, "u"})  # u1, u2, ... from the first on
        # A tree is asked for its depth by every tree above it.
        self._depth: dict[Tree, int] = {}
        self._plan: dict[Tree, tuple[str, str]] = {}  # the name wished for, and the role
        # How many products and powers without a name stand within each other.
        self._nesting: dict[Tree, int] = {}
        self._factors: dict[Tree, int] = {}  # of a product, those that vary
        self._towers: dict[Tree, int] = {}
        parts = tuple(dict.fromkeys(walk(tree)))
        layers = [part for part in parts if self._is_layer(part)]
        self._layers(layers, parts)
        if not layers:
            for part in naming.parts(tree):
                self._plan.setdefault(part.tree, (part.name, part.role))
        # How often each subtree stands somewhere, equal ones together.
        within = Counter(child for part in parts for child in children(part))
        for part in parts:
            if is_whole(part):
                self._plan[part] = (ARRAY_FUNCTIONS[part.function].base, "value")
                if not isinstance(part.argument, Symbol) or constant(part.argument):
                    self._plan.setdefault(part.argument, ("u", "value"))
            elif is_elementwise(part):
                if not (is_leaf(part.argument) or constant(part.argument) or _is_plain_log(part)):
                    self._plan.setdefault(part.argument, ("u", "value"))
            elif within[part] > 1 and self._is_work(part):
                self._plan.setdefault(part, ("u", "value"))
        # Last, when it is known what else has a name.
        for part in parts:
            self._split(part)
        self._whole: dict[bool, str] = {}

    def __contains__(self, tree: Tree) -> bool:
        return tree in self._plan

    def cost(self, vector: bool = False) -> str:
        """What all of it is called: a cost J, a ``vector`` f."""
        if vector not in self._whole:
            self._whole[vector] = self.free("f" if vector else "J")
        return self._whole[vector]

    def role(self, tree: Tree) -> str:
        """What a quantity is to the cost."""
        return self._plan[tree][1]

    def name(self, tree: Tree, argument: str = "") -> str:
        """A name for a quantity that is not taken; it is taken then.

        Args:
            tree: what it stands for.
            argument: for a function of a whole array, the name of that array.
        """
        wish, _ = self._plan[tree]
        return self.free(wish or f"{tree.function}({argument})" if is_whole(tree) else wish)

    def free(self, wish: str) -> str:
        """A name like this that is not taken; it is taken then."""
        return self._names.pick(chain([wish], numbered(wish if len(wish) == 1 else "u")))

    def _is_work(self, tree: Tree) -> bool:
        """Whether a subtree is worth a name where it occurs twice."""
        return not self._constant(tree) and any(
            isinstance(part, FunctionCall) or (isinstance(part, Binary) and part.operator == "@")
            for part in walk(tree)
        )

    def _split(self, tree: Tree) -> None:
        """Name the parts in which products and powers are nested too deep for one formula."""
        self._towers[tree] = max((self._towers[child] for child in children(tree)), default=0)
        parts = [child for child in children(tree) if child not in self._plan]
        nested = max(map(self._nesting.__getitem__, parts), default=0)
        if self._opens(tree):
            # The factors of one product stand side by side.
            own = max((self._nesting[p] - _is_product(p) for p in parts), default=0)
            # Of a power whose exponent moves too, base and exponent have a term each.
            match tree:
                case Binary("**", _, exponent):
                    twofold = not self._constant(exponent)
                case _:
                    twofold = False
            self._towers[tree] += twofold
            if self._towers[tree] > TOWER:
                raise HesseValueError(
                    f"more than {TOWER} powers whose exponents vary stand within each other, as in"
                    " x**x**x; split the expression, or derive its parts"
                )
            nested = 1 + twofold + (own if _is_product(tree) else nested)
        # So do no more than a few in one formula: each has a term with all the others.
        factors = sum(self._factors.get(p, 1) for p in parts) if _is_product(tree) else 1
        if factors > FACTORS:
            self._plan.update({p: ("u", "value") for p in parts if self._factors.get(p, 1) > 1})
            factors = 2
        self._factors[tree] = factors
        if nested > NESTED:
            for part in parts:
                if self._nesting[part] >= NESTED - 1:
                    self._plan[part] = ("u", "value")
            nested = 2
        self._nesting[tree] = nested

    def _opens(self, tree: Tree) -> bool:
        """Whether a tree is a product or a power of what varies."""
        match tree:
            case Binary("*" | "@" | "/", left, right):
                return not (self._constant(left) or self._constant(right)) or (
                    tree.operator == "/" and not self._constant(right)
                )
            case Binary("**", left, right):
                return not self._constant(tree)
            case FunctionCall("sqrt" | "norm2"):
                return True
        return False

    # ---------------------------------------------------------------- networks

    def _is_layer(self, tree: Tree) -> TypeGuard[FunctionCall]:
        """Whether a tree is a function of a weighted sum, σ(W x + b)."""
        return (
            isinstance(tree, FunctionCall)
            and (is_elementwise(tree) or tree.function in along_the_last())
            and self._is_weighted(tree.argument)
        )

    def _is_weighted(self, tree: Tree) -> bool:
        match tree:
            case Negative(operand) | Transpose(operand):
                return self._is_weighted(operand)
            case Binary("+" | "-", left, right):
                return self._is_weighted(left) or self._is_weighted(right)
            case Binary("*" | "@", left, right):
                # A product weighs where both sides vary: 2 x is no weighted sum.
                free = [side for side in (left, right) if not self._constant(side)]
                return len(free) == 2 or any(self._is_weighted(side) for side in free)
            case Binary("/", left, right):
                return self._constant(right) and self._is_weighted(left)
        return False

    def depth(self, tree: Tree) -> int:
        """How many layers a value has passed, the input counted as the first."""
        if tree not in self._depth:
            below = max((self.depth(child) for child in children(tree)), default=1)
            self._depth[tree] = below + self._is_layer(tree)
        return self._depth[tree]

    def _layers(self, layers: list[FunctionCall], parts: tuple[Tree, ...]) -> None:
        weighted = dict.fromkeys(layer.argument for layer in layers)
        active = [layer for layer in layers if is_elementwise(layer)]
        compared = dict.fromkeys(side for part in parts for side in _compared(part))
        # A last weighted sum that is compared with data as it is: the output of a network for
        # regression.
        for side in compared:
            if (
                side not in layers
                and self._is_weighted(side)
                and any(part in active for part in walk(side))
            ):
                weighted[side] = None
        inside = {part for tree in weighted for part in walk(tree)}
        hidden = [layer for layer in active if layer in inside]
        numbers = self._numbers(list(weighted))
        for tree, number in numbers.items():
            self._plan[tree] = (str(Name("z", number)), "preactivation")
        outputs = [layer for layer in active if layer in compared and layer not in inside]
        for layer in (*hidden, *outputs):
            # ŷ is the prediction: there can be only one.
            hat = layer in outputs and len(outputs) == 1
            self._plan.setdefault(
                layer, ("ŷ" if hat else str(Name("a", numbers[layer.argument])), "activation")
            )

    def _numbers(self, weighted: list[Tree]) -> dict[Tree, str]:
        """The layer of each weighted sum; their order where two are of one layer; nothing where
        there is only one."""
        if len(weighted) == 1:
            return {weighted[0]: ""}
        depths = [self.depth(tree) + 1 for tree in weighted]
        # Two of one depth cannot both be z2: then they are counted.
        distinct = len(set(depths)) == len(depths)
        numbers = depths if distinct else range(2, 2 + len(depths))
        return dict(zip(weighted, map(str, numbers), strict=True))


def is_leaf(tree: Tree) -> bool:
    """Whether a tree is an array as it is given, transposed or not."""
    return isinstance(tree, Symbol) or (isinstance(tree, Transpose) and is_leaf(tree.operand))


def _compared(tree: Tree) -> list[Tree]:
    """The sides of a difference of which the other is data."""
    match tree:
        case Binary("-", left, right):
            return [
                side for side, other in ((left, right), (right, left)) if isinstance(other, Symbol)
            ]
    return []


class IndexNames:
    """A letter for each index: one pair for each size, for where it is summed over in a product and
    where it stands outside.

    ``W[o,i] x_i``: a size has a letter of inputs, from i on, where ``@`` sums over it, and one of
    outputs, from o on, where it is left over. A size that is in no product has a letter of inputs.

    Args:
        summed: the sizes that ``@`` sums over, in the order in which that happens.
        outside: the sizes of rows and outputs, in that order too.
        taken: letters that stand for something else.
    """

    def __init__(
        self, summed: Iterable[Size], outside: Iterable[Size], taken: Iterable[str]
    ) -> None:
        self._taken = set(taken)
        letters = Picker(set(self._taken))
        self._summed = {size: letters.pick(numbered(_INPUTS)) for size in dict.fromkeys(summed)}
        self._outside = {size: letters.pick(numbered(_OUTPUTS)) for size in dict.fromkeys(outside)}

    def index(self, size: Size, scope: set[str], summed: bool = False) -> Index:
        """An index of this size whose letter is not in scope."""
        first, second = (self._summed, self._outside) if summed else (self._outside, self._summed)
        for wish in (first.get(size), second.get(size)):
            if wish is not None and wish not in scope:
                return Index(wish, size)
        # A letter of another size would be misread.
        foreign = {letter for pool in (self._summed, self._outside) for letter in pool.values()}
        letters = _OUTPUTS if size in self._outside and size not in self._summed else _INPUTS
        free = "".join(letter for letter in letters if letter not in foreign) or letters
        return Index(Picker(self._taken | scope).pick(numbered(free)), size)


_INPUTS = "ijklmn" + "".join(letter for letter in LETTERS if letter not in "ijklmnopqrstuvw")
_OUTPUTS = "opqrstuvw" + "".join(letter for letter in LETTERS if letter not in "ijklmnopqrstuvw")
