"""What is given of arrays: read, held against their shapes, and drawn when a derivation is
checked."""

import pytest
import torch

import hesse
from hesse.derivation.calculus.structures import (
    DEFINITE,
    DIAGONAL,
    ORTHOGONAL,
    POSITIVE,
    SYMMETRIC,
    Structure,
)
from hesse.derivation.sources.language.facts import given_facts
from hesse.errors import HesseError


@pytest.mark.parametrize(
    ("fact", "structure"),
    [
        ("A == A.T", SYMMETRIC),
        ("A.T == A", SYMMETRIC),
        ("A == diag(diag(A))", DIAGONAL),
        ("A.T @ A == eye(n)", ORTHOGONAL),
        ("A @ A.T == eye(3)", ORTHOGONAL),
        ("A > 0", POSITIVE),
    ],
)
def test_facts_are_read(fact: str, structure: Structure) -> None:
    assert given_facts(fact, ["A"]).structures == {"A": structure}


@pytest.mark.parametrize("structure", [SYMMETRIC, DEFINITE, DIAGONAL, ORTHOGONAL])
def test_what_is_drawn_is_what_is_declared(structure: Structure) -> None:
    generator = torch.Generator().manual_seed(0)
    A = structure.drawn(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    if structure.symmetric:
        assert torch.equal(A, A.mT)
    if structure.orthogonal:
        assert torch.allclose(A @ A.mT, torch.eye(3, dtype=torch.float64))
    if structure is DEFINITE:
        assert torch.linalg.eigvalsh(A).min() > 0
    if structure is DIAGONAL:
        assert torch.equal(A, A.diagonal().diag())


@pytest.mark.parametrize(
    ("text", "wrt", "given", "said"),
    [
        ("x.T@A@x", "A", "A == A.T", "which is in wrt and varies"),
        ("x.T@A@y", "x", "A == A.T", "what holds for a square matrix, and its shape is (d, h)"),
        ("x.T@A@x", "x", "A < 0", "a fact is written like one of 'Omega == 1'"),
        ("x.T@A@x", "x", "A > 1", "what can be given is 'Omega == 1'"),
        ("x.T@A@x", "x", "B == B.T", "given names 'B', which does not occur"),
        ("x.T@A@x", "x", "A == B.T", "what can be given is"),
    ],
)
def test_bad_facts(text: str, wrt: str, given: str, said: str) -> None:
    with pytest.raises(HesseError) as caught:
        hesse.derive(text, wrt=wrt, given=given)
    assert said in str(caught.value)


def test_a_fact_is_said_wherever_the_shapes_are() -> None:
    d = hesse.derive("x.T@A@x - log(l*exp(x.T@x))", wrt="x", given=["A > 0", "l > 0"])
    for said in ("A = Aᵀ, positive definite is given", "l > 0 is given"):
        assert said in d.text()
    assert "positive definite is given" in d.latex() and "positive definite is given" in d.html()


def test_a_positive_parameter_may_vary() -> None:
    d = hesse.derive("log(x/y)", wrt="x y", given=["x > 0", "y > 0"], shapes="x[] y[]")
    assert "log(x) − log(y)" in d.text()
