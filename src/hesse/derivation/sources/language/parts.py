"""What a person names in a cost that is no network: the residual of a fit, norms and roots, the
numerator and the denominator of a quotient, and its value."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hesse.derivation.sources.language.tree import (
    Binary,
    FunctionCall,
    Negative,
    Number,
    Symbol,
    Transpose,
    Tree,
    walk,
)


@dataclass(frozen=True)
class Part:
    """A subtree with a name.

    Attributes:
        tree: what it stands for.
        name: what it is called, unless that is taken.
        role: "value", or the rule by which it is differentiated: "root", "quotient".
    """

    tree: Tree
    name: str
    role: str = "value"


@dataclass(frozen=True)
class Naming:
    """What may be asked of a subtree.

    Attributes:
        varies: whether a parameter stands in it.
        rank: the number of its axes.
    """

    varies: Callable[[Tree], bool]
    rank: Callable[[Tree], int]

    def parts(self, tree: Tree) -> Iterator[Part]:
        """The parts of a cost that have names of their own, each once or more often."""
        for part in walk(tree):
            for rule in RULES:
                yield from rule(self, part)

    def residual(self, tree: Tree) -> Iterator[Part]:
        """r = y − X w, the base of a square, what a norm is taken of, or r of rᵀ W r"""
        match tree:
            case Binary("**", base, Number(two)) if two == 2:
                pass
            case FunctionCall("norm2", base, None):
                pass
            case Binary("@", Transpose(base) | Binary("@", Transpose(base), _), other) if (
                base == other
            ):
                pass
            case Binary("@", base, other) if base == other and self.rank(base) == 1:
                pass
            case _:
                return
        while isinstance(base, Binary) and base.operator == "*":
            base = base.right if self.varies(base.right) else base.left
        if isinstance(base, Negative):
            base = base.operand
        if _is_difference(base) and self.varies(base):
            yield Part(base, "r" if self.rank(base) < 2 else "R")
        match base:
            # The distance from the mean, of a deviation.
            case Binary("-", u, FunctionCall("mean", v, None)) if u == v and self.varies(u):
                yield Part(base, "c")

    def root(self, tree: Tree) -> Iterator[Part]:
        """n = ‖x‖; s = √v of v = wᵀ S w"""
        match tree:
            case FunctionCall("norm2", u, None) if self.varies(u):
                yield Part(tree, "n", "root")
            case FunctionCall("sqrt", u) if self.varies(u) and not self.rank(u) and _is_work(u):
                yield Part(tree, "s", "root")
                if isinstance(u, Binary) and u.operator == "@":
                    yield Part(u, "v")

    def quotient(self, tree: Tree) -> Iterator[Part]:
        """α/β with its value λ, or q where it is no Rayleigh quotient"""
        match tree:
            case Binary("/", above, below) if (
                self.varies(above)
                and self.varies(below)
                and _is_work(below)
                and not self.rank(above)
                and not self.rank(below)
            ):
                for part, name in ((above, "α"), (below, "β")):
                    if not (self._is_root(part) or self._is_product_of_roots(part)):
                        yield Part(part, name)
                rayleigh = _is_quadratic(above) and _is_quadratic(below)
                yield Part(tree, "λ" if rayleigh else "q", "quotient")

    def _is_root(self, tree: Tree) -> bool:
        return any(part.tree == tree for part in self.root(tree))

    def _is_product_of_roots(self, tree: Tree) -> bool:
        match tree:
            case Binary("*", left, right):
                return all(
                    self._is_root(side) or self._is_product_of_roots(side) for side in (left, right)
                )
        return False


RULES: tuple[Callable[[Naming, Tree], Iterator[Part]], ...] = (
    Naming.residual,
    Naming.root,
    Naming.quotient,
)


def _is_difference(tree: Tree) -> bool:
    """Whether a tree is y − X w or its like: a sum with a product of matrices in it."""
    return isinstance(tree, Binary) and tree.operator in "+-" and _has_product(tree)


def _has_product(tree: Tree) -> bool:
    return any(isinstance(part, Binary) and part.operator == "@" for part in walk(tree))


def _is_work(tree: Tree) -> bool:
    return _has_product(tree) or any(
        isinstance(part, FunctionCall) and part.function in ("sum", "mean", "norm2", "trace")
        for part in walk(tree)
    )


def _is_quadratic(tree: Tree) -> bool:
    """Whether a tree is xᵀ x or xᵀ A x."""
    match tree:
        case Binary("@", Binary("@", left, _), right) | Binary("@", left, right):
            return left in (right, Transpose(right)) and isinstance(right, Symbol)
        case FunctionCall("sum", Binary("**", Symbol(), Number(two)), None):
            return two == 2
    return False
