"""The functions that can be called in an expression, those that cannot, and what a called name that
is neither means."""

import math
import re
from difflib import get_close_matches

from hesse.operations.registry import ARRAY_FUNCTIONS, FUNCTIONS

# What the language itself knows; functions come from the records of `hesse.operations`.
_ROOT = frozenset({"sqrt"})  # a power
_REDUCTIONS = frozenset({"sum", "mean", "norm2"})
_MATRICES = frozenset({"trace", "diag", "eye"})


def elementwise() -> frozenset[str]:
    """The functions of each entry."""
    return _ROOT | {name for name, function in FUNCTIONS.items() if function.word}


def along_an_axis() -> frozenset[str]:
    """Those that take ``axis=``."""
    return _REDUCTIONS | along_the_last()


def along_the_last() -> frozenset[str]:
    """Functions of a whole array along one axis."""
    return frozenset(name for name, function in ARRAY_FUNCTIONS.items() if function.axes == 1)


def of_a_matrix() -> frozenset[str]:
    """Those of a matrix."""
    return _MATRICES | {name for name, function in ARRAY_FUNCTIONS.items() if function.axes == 2}


def kept_axes(name: str) -> int:
    """How many of the axes that a function sees its result has."""
    return ARRAY_FUNCTIONS[name].keeps if name in ARRAY_FUNCTIONS else 0


def known() -> frozenset[str]:
    """All of them."""
    return elementwise() | along_an_axis() | of_a_matrix()


# Names that are these numbers, where nobody declares or derives by them.
CONSTANTS: dict[str, float] = {"pi": math.pi, "π": math.pi, "e": math.e}

_JUMPS = "it is not differentiable where it jumps, and its derivative is zero elsewhere"

# Not differentiable, or known elsewhere by a name that is not ours: what to write instead.
INSTEAD: dict[str, str] = {
    **dict.fromkeys(
        ("max", "amax"),
        "max is not differentiable where two entries tie; logsumexp is its smooth form",
    ),
    **dict.fromkeys(
        ("min", "amin"),
        "min is not differentiable where two entries tie; -logsumexp(-x) is its smooth form",
    ),
    **dict.fromkeys(
        ("argmax", "argmin", "argsort", "sort"),
        "it is not differentiable: it gives places, not values",
    ),
    **dict.fromkeys(("heaviside", "round", "floor", "ceil", "trunc"), _JUMPS),
    "ln": "the natural logarithm is log",
    "log2": "write log(x)/log(2)",
    "log10": "write log(x)/log(10)",
    **dict.fromkeys(
        ("gamma", "beta", "zeta"),
        "the Gamma function is exp(lgamma(x)), and its relatives have no formula here; for an"
        " unknown elementwise function write a letter, such as g",
    ),
    "roll": "write P @ x with a matrix P of a permutation",
    "square": "write x**2",
    "pow": "write x**y",
    **dict.fromkeys(
        ("norm1", "linalg_norm"),
        "norm2(x) is the root of the sum of squares, sum(abs(x)) the 1-norm",
    ),
    **dict.fromkeys(("tr", "Tr"), "the sum of the diagonal is trace"),
    **dict.fromkeys(("dot", "matmul", "inner", "mm", "mv"), "write x @ y"),
    "transpose": "write A.T",
    **dict.fromkeys(("avg",), "write mean"),
    **dict.fromkeys(("logsigmoid", "log_sigmoid"), "write log(sigmoid(x))"),
    **dict.fromkeys(("ReLU", "Relu"), "write relu"),
    **dict.fromkeys(("swish", "SiLU"), "write silu"),
}

_GREEK = (
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho|sigma"
    "|tau|upsilon|phi|chi|psi|omega"
)
_UNKNOWN = re.compile(rf"(?:[^\W\d_]|{_GREEK}|{_GREEK.title()})(?:\d+|_\w+)?")


def is_unknown(name: str) -> bool:
    """Whether a called name stands for an unknown elementwise function: one letter, Greek ones
    spelled out or not, with or without a number or a subscript, such as ``f``, ``g2``, ``phi``,
    ``σ``, ``h_out``. Longer names are more often misspelled."""
    return name not in known() and name not in INSTEAD and _UNKNOWN.fullmatch(name) is not None


def advice(name: str) -> str:
    """What to write instead of a name that cannot be called."""
    if name in INSTEAD:
        return f"{name!r} cannot be used here: {INSTEAD[name]}"
    words = sorted(known())
    # Capitals throughout, as in EXP, have no letter in common with the name that is meant.
    close = get_close_matches(name, words, n=1, cutoff=0.6) or [
        word for word in words if word == name.lower()
    ]
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(words)}."
    return (
        f"unknown function {name!r}; {hint} An unknown elementwise function is a letter with or"
        " without a subscript, such as f, g2, phi, sigma_1"
    )
