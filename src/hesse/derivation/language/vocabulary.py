"""The functions that can be called in an expression, those that cannot, and what a called name that is neither means."""

import re
from difflib import get_close_matches

ELEMENTWISE = frozenset(["exp", "log", "sqrt", "abs", "sin", "cos", "tanh", "sigmoid", "relu", "softplus", "gelu", "silu", "erf"])
ALONG_AN_AXIS = frozenset(["sum", "mean", "norm2", "softmax", "log_softmax", "logsumexp"])
OF_A_MATRIX = frozenset(["trace", "det", "logdet", "inv", "diag", "eye"])
KNOWN = ELEMENTWISE | ALONG_AN_AXIS | OF_A_MATRIX

_JUMPS = "it is not differentiable where it jumps, and its derivative is zero elsewhere"

# Not differentiable, or known elsewhere by a name that is not ours: what to write instead.
INSTEAD: dict[str, str] = {
    **dict.fromkeys(("max", "amax"), "max is not differentiable where two entries tie; logsumexp is its smooth form"),
    **dict.fromkeys(("min", "amin"), "min is not differentiable where two entries tie; -logsumexp(-x) is its smooth form"),
    **dict.fromkeys(("maximum", "minimum", "clip", "clamp"), "it is not differentiable at its corner; write it with relu"),
    **dict.fromkeys(("argmax", "argmin", "argsort", "sort"), "it is not differentiable: it gives places, not values"),
    **dict.fromkeys(("sign", "step", "heaviside", "round", "floor", "ceil", "trunc"), _JUMPS),
    "ln": "the natural logarithm is log",
    "log2": "write log(x)/log(2)",
    "log10": "write log(x)/log(10)",
    "log1p": "write log(1 + x)",
    "expm1": "write exp(x) - 1",
    "tan": "write sin(x)/cos(x)",
    "cosh": "write (exp(x) + exp(-x))/2",
    "sinh": "write (exp(x) - exp(-x))/2",
    "square": "write x**2",
    "pow": "write x**y",
    **dict.fromkeys(("norm", "norm1", "linalg_norm"), "norm2(x) is the root of the sum of squares, sum(abs(x)) the 1-norm"),
    **dict.fromkeys(("tr", "Tr"), "the sum of the diagonal is trace"),
    **dict.fromkeys(("dot", "matmul", "inner", "mm", "mv"), "write x @ y"),
    "transpose": "write A.T",
    **dict.fromkeys(("avg", "average"), "write mean"),
    **dict.fromkeys(("logsigmoid", "log_sigmoid"), "write log(sigmoid(x))"),
    **dict.fromkeys(("ReLU", "Relu"), "write relu"),
    **dict.fromkeys(("swish", "SiLU"), "write silu"),
}

_GREEK = (
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho|sigma|tau|upsilon|phi|chi|psi|omega"
)
_UNKNOWN = re.compile(rf"(?:[^\W\d_]|{_GREEK}|{_GREEK.title()})(?:\d+|_\w+)?")


def is_unknown(name: str) -> bool:
    """Whether a called name stands for an unknown elementwise function: one letter, Greek ones spelled out or not, with or
    without a number or a subscript, such as ``f``, ``g2``, ``phi``, ``σ``, ``h_out``. Longer names are more often misspelled."""
    return name not in KNOWN and name not in INSTEAD and _UNKNOWN.fullmatch(name) is not None


def advice(name: str) -> str:
    """What to write instead of a name that cannot be called."""
    if name in INSTEAD:
        return f"{name!r} cannot be used here: {INSTEAD[name]}"
    close = get_close_matches(name, sorted(KNOWN), n=1, cutoff=0.6) or [known for known in sorted(KNOWN) if known == name.lower()]
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(KNOWN))}."
    return (
        f"unknown function {name!r}; {hint} "
        "An unknown elementwise function is a letter with or without a subscript, such as f, g2, phi, sigma_1"
    )
