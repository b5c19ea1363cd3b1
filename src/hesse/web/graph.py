"""The answer of the page for computational graphs, made in a process of its own."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import torch
from torch import Tensor

from hesse.derivation.sweeps.computation import SWEEPS, Computation, computation
from hesse.derivation.sweeps.drawing import svg
from hesse.derivation.sweeps.nodes import LocalDerivative, Node
from hesse.derivation.sweeps.numbers import line_of_numbers
from hesse.derivation.sweeps.subject import at_random, direction
from hesse.errors import HesseValueError
from hesse.web import arrays
from hesse.web.answers import read
from hesse.web.question import Question, within

# What each sweep does, in a sentence below its heading.
ABOUT = (
    "From what is given, each quantity from those that go into it.",
    "δ of a quantity is ∂J by it: from each quantity that it goes into, that one's δ times its own"
    " derivative.",
    "The parameters move along v. How each quantity moves, dz, is the derivative of its line.",
    "How each δ moves, dδ: the derivative of its line. What arrives at a parameter is H v there.",
)
_NUMBERS = 24  # of an array that is written out beside its step
_LARGEST_SEED = 10**6
_LONGEST = 20_000  # characters of arrays: a link holds them


def graph(said: Mapping[str, str]) -> dict[str, Any]:
    """The graph that a question is about: the picture, the steps and the nodes. What ``arrays`` has
    no numbers for has random ones, by ``seed``.

    Examples:
        >>> found = graph({"cost": "1/2*sum((y - W @ x)**2)", "seed": "3"})
        >>> [step["line"] for step in found["sweeps"][0]["steps"]]
        ['r = y − W x', 'J = ½ rᵀr']
    """
    question, seed = Question.of(said), seed_of(said)
    text = within(said, "arrays", _LONGEST)
    given = {name: torch.from_numpy(array) for name, array in arrays.read(text).items()}
    subject = at_random(*read(question), seed, given)
    found = computation(subject, direction(subject, seed))
    numbers = {"seed": seed} | ({"arrays": text} if text else {})
    return {
        "svg": svg(found, f"Computational graph of {question.cost or question.network}"),
        "sweeps": [
            {"title": title, "about": about, "steps": _steps(found, k)}
            for k, (title, about) in enumerate(zip(SWEEPS, ABOUT, strict=True))
        ],
        "nodes": [_node(found, node) for node in found.nodes],
        "notes": found.notes,
        "query": f"{question.query}&{urlencode(numbers)}",
    }


def seed_of(said: Mapping[str, str]) -> int:
    """The seed that a link or a form holds.

    Raises:
        HesseValueError: it is no whole number, or a large one.
    """
    text = said.get("seed", "").strip() or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 8 and int(text) <= _LARGEST_SEED):
        raise HesseValueError(
            f"seed: expected a whole number from 0 to {_LARGEST_SEED}, got {text[:20]!r}"
        )
    return int(text)


def _steps(found: Computation, sweep: int) -> list[dict[str, Any]]:
    place = {node.name: k for k, node in enumerate(found.nodes)}
    return [
        {
            "number": k,
            "node": place[step.node],
            "line": step.line,
            "why": step.why,
            "value": line_of_numbers(step.value, _NUMBERS),
        }
        for k, step in enumerate(found.steps)
        if step.sweep == sweep
    ]


def _node(found: Computation, node: Node) -> dict[str, Any]:
    symbol = {other.name: other.symbol for other in found.nodes}
    given = found.given.get(node.name)
    values = found.values(0)[node.name] if given is None else given
    return {
        "line": node.line,
        "role": {"quantity": "computed", "cost": "the cost"}.get(node.role, node.role),
        "shape": _shape(values),
        "inputs": [symbol[name] for name in node.inputs],
        "users": [other.symbol for other in found.nodes if node.name in other.inputs],
        "given": "" if given is None else line_of_numbers(given, _NUMBERS),
        "curvature": node.curvature,
        "first": [_derivative(one) for one in node.first],
        "second": [_derivative(one) for one in node.second],
    }


def _shape(value: Tensor) -> str:
    if value.ndim == 1:
        return f"a vector of {len(value)}"
    return " × ".join(map(str, value.shape)) or "a number"


def _derivative(one: LocalDerivative) -> dict[str, str]:
    numbers = "" if one.value is None else line_of_numbers(one.value, one.value.numel())
    return {"line": one.line, "rule": one.rule, "value": numbers}
