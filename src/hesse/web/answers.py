"""What the pages ask for, each answered in a process of its own: from the fields of a form to what
is shown, as JSON."""

import time
from collections.abc import Mapping
from typing import Any

from hesse.derivation.calculus.program import Leaf, Program
from hesse.derivation.code.binding import shape_text
from hesse.derivation.code.module import module
from hesse.derivation.derivation import Derivation
from hesse.derivation.derive import parameters_asked
from hesse.derivation.show import html
from hesse.derivation.sources.language import program
from hesse.derivation.sources.language.parsing import parse
from hesse.derivation.sources.language.tree import symbols
from hesse.errors import HesseError
from hesse.web.question import Question, network_in_words

BACKENDS = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}
_KINDS = ("a number", "a vector", "a matrix")
# What people call the parameters of a cost, as against its data.
_PARAMETERS = frozenset(("W", "w", "b", "U", "V", "x", "theta", "beta", "mu", "sigma", "Sigma"))


def reading(said: Mapping[str, str]) -> dict[str, Any]:
    """How a question is understood: each array with its shape, whether it is a parameter, and what
    it could be instead.

    Examples:
        >>> found = reading({"cost": "1/2*sum((y - X @ w)**2)"})
        >>> found["wrt"], [array["name"] for array in found["arrays"]]
        ('w', ['X', 'w', 'y'])
    """
    question = Question.of(said)
    found, parameters = read(question)
    return {
        "network": str(network_in_words(question.network)) if question.network else "",
        "wrt": ", ".join(parameters),
        "shape": shape_text(found.shape(found.cost.name)) if found.cost.indices else "",
        "arrays": [
            {
                "name": leaf.name,
                "parameter": leaf.name in parameters,
                "shape": _brackets(leaf.sizes),
                "kind": _kind(leaf),
                "otherwise": None if leaf.otherwise is None else _brackets(leaf.otherwise),
            }
            for leaf in sorted(found.leaves.values(), key=lambda leaf: leaf.name)
            if leaf.role in ("parameter", "data")
        ],
    }


def read(question: Question) -> tuple[Program, tuple[str, ...]]:
    """The program that a question is about, and its parameters: where it names none, those that are
    likely, or all of a network's.

    Raises:
        HesseError: as `hesse.derive` and `hesse.Network`.
    """
    if question.network:
        found, names = network_in_words(question.network).program()
        return found, parameters_asked(question.wrt or None, names)
    wrt = question.wrt or ", ".join(_likely(symbols(parse(question.cost))))
    return program(question.cost, wrt, question.shapes or None, question.facts)


def derivation(said: Mapping[str, str]) -> dict[str, Any]:
    """The derivation that answers a question: as a part of a page, and as text to copy."""
    question, start = Question.of(said), time.perf_counter()
    d = question.derivation()
    seconds = time.perf_counter() - start
    return {
        "html": html.fragment(d, level=2),
        "latex": d.latex(),
        "codes": _codes(d),
        "seconds": round(seconds, 3),
        "query": question.query,
    }


def page(said: Mapping[str, str]) -> dict[str, Any]:
    """The derivation as one page to keep."""
    return {"page": Question.of(said).derivation().html()}


def _codes(d: Derivation) -> list[list[str]]:
    formulas, codes = d.formulas, []
    for backend, title in BACKENDS.items():
        try:
            codes.append([title, module(formulas, backend)])
        except HesseError as error:  # a map without a formula, for instance
            codes.append([title, f"# {error}"])
    return codes


def _likely(names: tuple[str, ...]) -> list[str]:
    """The parameters, where nobody has said which they are."""
    likely = [name for name in names if name.rstrip("0123456789") in _PARAMETERS]
    weights = [name for name in likely if name != "x"]
    return sorted(weights or likely) or list(names[:1])


def _brackets(sizes: tuple[Any, ...]) -> str:
    return f"[{','.join(map(str, sizes))}]"


def _kind(leaf: Leaf) -> str:
    axes = len(leaf.sizes)
    return _KINDS[axes] if axes < len(_KINDS) else f"an array of {axes} axes"
