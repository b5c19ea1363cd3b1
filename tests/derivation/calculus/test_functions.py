"""The table of elementwise functions: written derivatives against automatic differentiation and
against computer algebra."""

import math

import pytest
import sympy
import torch

from formula_cases import DOMAIN
from hesse.derivation.calculus.expression import Entry, Index
from hesse.derivation.calculus.functions import closed_form, nth_derivative, sample_function
from hesse.derivation.calculus.program import Leaf, Program
from hesse.derivation.check.valuation import Valuation, relative
from hesse.operations.registry import FUNCTIONS

AT = Index("i", "n")
Z = Entry("z", (AT,))

# What the names mean to sympy, which differentiates by rules of its own.
SYMBOLIC = {
    "exp": sympy.exp,
    "log": sympy.log,
    "sin": sympy.sin,
    "cos": sympy.cos,
    "tanh": sympy.tanh,
    "sigmoid": lambda z: 1 / (1 + sympy.exp(-z)),
    "softplus": lambda z: sympy.log(1 + sympy.exp(z)),
    "silu": lambda z: z / (1 + sympy.exp(-z)),
    "gelu": lambda z: z * (1 + sympy.erf(z / sympy.sqrt(2))) / 2,
    "normcdf": lambda z: (1 + sympy.erf(z / sympy.sqrt(2))) / 2,
    "normpdf": lambda z: sympy.exp(-(z**2) / 2) / sympy.sqrt(2 * sympy.pi),
    "erf": sympy.erf,
    "tan": sympy.tan,
    "sinh": sympy.sinh,
    "cosh": sympy.cosh,
    "atan": sympy.atan,
    "atanh": sympy.atanh,
    "asin": sympy.asin,
    "acos": sympy.acos,
    "acosh": sympy.acosh,
    "erfc": sympy.erfc,
    "lgamma": sympy.loggamma,
    "digamma": sympy.digamma,
    "trigamma": lambda z: sympy.polygamma(1, z),
    "tetragamma": lambda z: sympy.polygamma(2, z),
    "pentagamma": lambda z: sympy.polygamma(3, z),
    "asinh": sympy.asinh,
    "expm1": lambda z: sympy.exp(z) - 1,
    "log1p": lambda z: sympy.log(1 + z),
    "logit": lambda z: sympy.log(z / (1 - z)),
    "log_sigmoid": lambda z: -sympy.log(1 + sympy.exp(-z)),
}
WRITTEN = [
    (name, order)
    for name, function in FUNCTIONS.items()
    for order in range(1, len(function.derivatives) + 1)
]


def points(name: str) -> torch.Tensor:
    z = torch.tensor([-3.7, -2.5, -0.9, -0.3, 0.2, 0.7, 2.9, 6.4], dtype=torch.float64)
    low, high = DOMAIN.get(name, (-math.inf, math.inf))
    return z[(z > low) & (z < high)]


def written(name: str, order: int, z: torch.Tensor) -> torch.Tensor:
    expression = closed_form(name, order, Z)
    assert expression is not None
    return Valuation(Program({"z": Leaf("z", ("n",))}, ()), {"z": z}).array(expression, (AT,))


@pytest.mark.parametrize(("name", "order"), WRITTEN)
def test_a_written_derivative_is_that_of_automatic_differentiation(name, order):
    z = points(name)
    assert (
        relative(written(name, order, z), nth_derivative(FUNCTIONS[name].value, order, z)) < 1e-12
    )


@pytest.mark.parametrize(("name", "order"), [pair for pair in WRITTEN if pair[0] in SYMBOLIC])
def test_a_written_derivative_is_that_of_sympy(name, order):
    t = sympy.Symbol("t", real=True)
    slope = sympy.diff(SYMBOLIC[name](t), t, order)
    z = points(name)
    expected = torch.tensor(
        [float(slope.subs(t, sympy.Float(value, 30))) for value in z.tolist()], dtype=torch.float64
    )
    assert relative(written(name, order, z), expected) < 1e-12


def test_every_smooth_function_is_held_against_sympy():
    assert {name for name, function in FUNCTIONS.items() if not function.kink} == set(SYMBOLIC)


def test_what_is_unknown_has_no_closed_form():
    assert closed_form("f", 1, Z) is None
    assert closed_form("tanh", 0, Z) is None


def test_the_stand_in_for_an_unknown_function_is_neither_odd_nor_even():
    f, z = sample_function(0), torch.tensor([0.7, 1.3], dtype=torch.float64)
    assert not torch.allclose(f(z), f(-z))
    assert not torch.allclose(f(z), -f(-z))
