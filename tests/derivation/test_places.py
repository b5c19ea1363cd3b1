"""Slices and other constant arrays: as large as what is given, in numbers and in code."""

import numpy
import pytest
import torch

import hesse
from hesse.errors import HesseValueError

X = numpy.array([0.3, -1.2, 0.7, 2.0])


@pytest.fixture(scope="module")
def smooth() -> hesse.Derivation:
    return hesse.derive("sum((x[1:] - x[:-1] - y)**4) + mean(x[1:])", wrt="x")


def test_a_size_follows_from_another(smooth: hesse.Derivation) -> None:
    assert smooth.program.leaves["y"].sizes == ("d-1",)
    assert "y (d−1,)" in smooth.text() and "D x = x[1:] - x[:-1]" in smooth.text()
    assert "(d-1) \\times d" in smooth.latex() and "(d−1, d)" in smooth.html()


def test_what_is_given_must_fit(smooth: hesse.Derivation) -> None:
    block = smooth.block("x", "x")
    with pytest.raises(HesseValueError, match=r"axis 0 has 4, expected d-1 = 3 by x"):
        block.evaluate(x=X, y=X)


def test_the_numbers_are_those_of_autograd(smooth: hesse.Derivation) -> None:
    y = X[1:] / 2
    x = torch.tensor(X)
    expected = torch.autograd.functional.hessian(
        lambda x: ((x[1:] - x[:-1] - torch.tensor(y)) ** 4).sum() + x[1:].mean(), x
    )
    found = smooth.block("x", "x").evaluate(x=X, y=y)
    numpy.testing.assert_allclose(found, expected, atol=1e-12)
    scope: dict = {}
    exec(smooth.block("x", "x").python("torch", "block"), scope)
    order = {name: torch.tensor(value) for name, value in (("x", X), ("y", y))}
    torch.testing.assert_close(scope["block"](**order), expected)


def test_a_declared_size_may_follow_from_another() -> None:
    d = hesse.derive("sum(y**2)*mean(z)", wrt="y", shapes="y[n-1] z[n]")
    assert d.block("y", "y").matrix() == "(2 (1ᵀ z)/n) I"
    with pytest.raises(HesseValueError, match=r"n and n-1 differ|n-1 and n differ"):
        hesse.derive("sum(x[1:]*x)", wrt="x", shapes="x[n]")
    with pytest.raises(HesseValueError, match="nothing would be left"):
        hesse.derive("sum(x[3:])", wrt="x", shapes="x[3]")


def test_new_axes_count_from_the_front() -> None:
    d = hesse.derive("sum((A[None] - B[:, None])**2)", wrt="A", shapes="A[2,3] B[4,3]")
    assert d.block("A", "A").matrix() == "8 I"
