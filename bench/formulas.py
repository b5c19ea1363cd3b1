"""The Hessians that a derivation gives, run as formulas, beside torch.func.hessian and jax:
``python -m bench.formulas``.

Agreement first, in float64 and in float32, then time in float32. ``python -m bench.formulas CASE
...`` takes the cases whose names contain one of these, prints their table and records nothing.
"""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy
import numpy
import torch

import hesse
from bench import report
from bench.measure import interleaved

LAYERS, WIDTH = 10, 20
AGREEMENT = {"float64": 1e-11, "float32": 1e-4}
HEADER = [
    "Hessian",
    "evaluate, torch",
    "evaluate, NumPy",
    "python, torch",
    "python, NumPy",
    "torch.func",
    "jax",
    "times torch.func",
    "times jax",
    "error",
]

Arrays = Mapping[str, Any]
Blocks = Sequence[Any]


@dataclass(frozen=True)
class Case:
    """A cost as text for hesse, and as a function of arrays for its peers.

    Attributes:
        name: the line of the table.
        text, wrt, shapes: for `hesse.derive`.
        cost: of the arrays by name, and of the library that they belong to.
        arrays: float64, by name.
        least: how many times faster than torch.func.hessian every one of ours has to be.
        least_jax: the same beside jax.
        rounds: how often each is timed.
    """

    name: str
    text: str
    wrt: tuple[str, ...]
    shapes: str
    cost: Callable[[Any, Arrays], Any]
    arrays: Callable[[numpy.random.Generator], dict[str, numpy.ndarray]]
    least: float
    least_jax: float = 1
    rounds: int = 10


def _logistic(library: Any, a: Arrays) -> Any:
    z = a["X"] @ a["w"]
    softplus = torch.nn.functional.softplus if library is torch else jax.nn.softplus
    return (softplus(z) - a["y"] * z).sum()


def _deep(library: Any, a: Arrays) -> Any:
    relu, log_softmax = (
        (torch.relu, torch.log_softmax) if library is torch else (jax.nn.relu, jax.nn.log_softmax)
    )
    value = a["x"]
    for layer in range(1, LAYERS):
        value = relu(a[f"W{layer}"] @ value)
    return -(a["y"] * log_softmax(a[f"W{LAYERS}"] @ value, -1)).sum()


def _deep_text() -> str:
    value = "x"
    for layer in range(1, LAYERS):
        value = f"relu(W{layer} @ {value})"
    return f"-sum(y*log_softmax(W{LAYERS} @ {value}))"


def _deep_arrays(random: numpy.random.Generator) -> dict[str, numpy.ndarray]:
    weights = {
        f"W{k}": random.standard_normal((WIDTH, WIDTH)) * (2 / WIDTH) ** 0.5
        for k in range(1, LAYERS + 1)
    }
    return {**weights, "x": random.standard_normal(WIDTH), "y": numpy.eye(WIDTH)[3]}


CASES = [
    Case(
        "xᵀAx, n = 2048",
        "x @ A @ x",
        ("x",),
        "x[n] A[n,n]",
        lambda library, a: a["x"] @ a["A"] @ a["x"],
        lambda random: {
            "A": random.standard_normal((2048, 2048)),
            "x": random.standard_normal(2048),
        },
        least=12,
    ),
    Case(
        "logistic regression, 2048 × 256",
        "sum(softplus(X @ w) - y*(X @ w))",
        ("w",),
        "X[n,d] w[d] y[n]",
        _logistic,
        lambda random: {
            "X": random.standard_normal((2048, 256)),
            "w": random.standard_normal(256) / 16,
            "y": (random.random(2048) < 0.5).astype(float),
        },
        least=8,
        least_jax=2.5,
        rounds=30,
    ),
    Case(
        "matrix factorisation, 200 × 100, k = 5, four blocks",
        "sum((T - U @ V.T)**2)",
        ("U", "V"),
        "T[m,n] U[m,k] V[n,k]",
        lambda library, a: ((a["T"] - a["U"] @ a["V"].T) ** 2).sum(),
        lambda random: {
            name: random.standard_normal(shape)
            for name, shape in {"T": (200, 100), "U": (200, 5), "V": (100, 5)}.items()
        },
        least=8,
    ),
    Case(
        "first layer of ten, 20 wide, ReLU, softmax",
        _deep_text(),
        ("W1",),
        " ".join([*(f"W{layer}[n,n]" for layer in range(1, LAYERS + 1)), "x[n] y[n]"]),
        _deep,
        _deep_arrays,
        least=1,
        rounds=300,
    ),
]


def ours(case: Case) -> list[Any]:
    """The formulas of all blocks."""
    derivation = hesse.derive(case.text, case.wrt, shapes=case.shapes)
    return [derivation.block(rows, columns) for rows in case.wrt for columns in case.wrt]


def runs(
    case: Case, formulas: list[Any], arrays: dict[str, numpy.ndarray]
) -> dict[str, Callable[[], Blocks]]:
    """All ways to the same blocks, in the same order."""
    tensors = {name: torch.as_tensor(array) for name, array in arrays.items()}
    found: dict[str, Callable[[], Blocks]] = {}
    for kind, given in (("torch", tensors), ("NumPy", arrays)):
        found[f"evaluate, {kind}"] = lambda given=given: [
            formula.evaluate(**given) for formula in formulas
        ]
        functions = [_printed(formula, kind.lower()) for formula in formulas]
        chosen = [
            {name: given[name] for name in inspect.signature(function).parameters}
            for function in functions
        ]
        found[f"python, {kind}"] = lambda functions=functions, chosen=chosen: [
            function(**own) for function, own in zip(functions, chosen, strict=True)
        ]
    found["torch.func"] = _torch_func(case, tensors)
    found["jax"] = _jax(case, arrays)
    return {name: found[name] for name in HEADER if name in found}


def _printed(formula: Any, backend: str) -> Callable[..., Any]:
    space: dict[str, Any] = {}
    exec(formula.python(backend), space)
    return space["hessian_block"]


def _torch_func(case: Case, tensors: Arrays) -> Callable[[], Blocks]:
    def cost(parameters: Any) -> Any:
        return case.cost(torch, {**tensors, **parameters})

    moved = {name: tensors[name] for name in case.wrt}

    def run() -> Blocks:
        result: Any = torch.func.hessian(cost)(moved)
        return [result[rows][columns] for rows in case.wrt for columns in case.wrt]

    return run


def _jax(case: Case, arrays: Arrays) -> Callable[[], Blocks]:
    placed = {name: jax.numpy.asarray(array) for name, array in arrays.items()}
    moved = {name: placed.pop(name) for name in case.wrt}
    hessian = jax.jit(
        jax.hessian(lambda parameters, rest: case.cost(jax.numpy, {**rest, **parameters}))
    )

    def run() -> Blocks:
        result = jax.block_until_ready(hessian(moved, placed))
        return [result[rows][columns] for rows in case.wrt for columns in case.wrt]

    return run


def disagreement(found: Mapping[str, Callable[[], Blocks]]) -> float:
    """The largest difference of any way's blocks from torch.func's, over the largest entry."""
    expected = [numpy.asarray(block, dtype=float) for block in found["torch.func"]()]
    largest = max(float(abs(block).max()) for block in expected)
    errors = [
        float(abs(numpy.asarray(block, dtype=float) - reference).max())
        for run in found.values()
        for block, reference in zip(run(), expected, strict=True)
    ]
    return max(errors) / largest


def measure(case: Case) -> dict[str, Any]:
    """Seconds of every way; nothing is timed where any of them is wrong."""
    formulas, arrays = ours(case), case.arrays(numpy.random.default_rng(0))
    errors, found = {}, {}
    for kind, bound in AGREEMENT.items():
        found = runs(case, formulas, {name: array.astype(kind) for name, array in arrays.items()})
        errors[kind] = disagreement(found)
        if not errors[kind] <= bound:
            raise SystemExit(
                f"{case.name}: the Hessians differ by {errors[kind]:.1e} relative in {kind};"
                " nothing is timed"
            )
    seconds = interleaved(found, case.rounds)
    return {
        "name": case.name,
        "seconds": {name: min(times) for name, times in seconds.items()},
        "errors": errors,
    }


def line(case: Case, measured: dict[str, Any]) -> list[str]:
    """One line of the table. The ratios are those of the slowest of ours."""
    seconds = measured["seconds"]
    slowest = max(seconds[name] for name in HEADER[1:5])
    ratios = []
    for peer, least in (("torch.func", case.least), ("jax", case.least_jax)):
        ratio = seconds[peer] / slowest
        ratios.append(f"{ratio:.3g}× ({report.target(ratio, least, f'{least:g}×', least=True)})")
    return [
        case.name,
        *(report.seconds(seconds[name]) for name in HEADER[1:7]),
        *ratios,
        f"{measured['errors']['float32']:.0e}",
    ]


def main() -> None:
    """Measure, print, record."""
    jax.config.update("jax_enable_x64", True)
    chosen = [
        case
        for case in CASES
        if not sys.argv[1:] or any(part in case.name for part in sys.argv[1:])
    ]
    measured = []
    for case in chosen:
        measured.append(measure(case))
        print(" | ".join(line(case, measured[-1])), flush=True)
    table = report.Report(
        "formulas",
        f"Hessians as formulas, float32, {torch.get_num_threads()} threads",
        HEADER,
        [line(case, found) for case, found in zip(chosen, measured, strict=True)],
        [
            (
                "Seconds are the best of 10 to 300 rounds taken in turn. The ratios are those of"
                " the slowest of our four."
            ),
            (
                "`evaluate` runs the formula's schedule, with its checks of names and shapes;"
                " `python` is the printed function."
            ),
            (
                "The error is the largest difference between any two ways, over the largest entry;"
                " in float64 it is below 1e-11."
            ),
            "Not counted: the derivation, which is certified, and jax's compilation.",
        ],
        measured,
    )
    print(table.markdown())
    if len(chosen) == len(CASES):
        table.save()


if __name__ == "__main__":
    main()
