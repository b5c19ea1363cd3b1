"""Derivations of any depth: every stage certified, length linear in the depth, blocks equal to
those written out."""

import pytest
import torch

import hesse
from hesse.derivation.calculus.program import mentioned


def deep(layers: int, f: str = "tanh") -> tuple[str, list[str]]:
    text = "x"
    for layer in range(1, layers + 1):
        text = f"{f}(W{layer} @ {text})"
    return f"1/2*sum((y - {text})**2)", [f"W{layer}" for layer in range(1, layers + 1)]


def test_four_layers_go_stage_by_stage_and_three_do_not():
    assert hesse.derive(*deep(4)).stages
    assert not hesse.derive(*deep(3)).stages


def test_the_recursion_is_that_of_delta_S_and_D():
    d = hesse.derive(*deep(4, "f"))
    second = next(stage for stage in d.stages if stage.name == "z3")
    rules = [line.rule for line in second.lines]
    assert rules == ["δ, pulled down", "S, pulled down", "S, closed", "D, pushed up"]
    delta, mixed, own, _ = second.lines
    assert set(mentioned(delta.after)) == {"δ4", "W3", "z3"}
    assert set(mentioned(mixed.after)) == {"S4,m", "W3", "z3"}
    assert set(mentioned(own.after)) == {"S3,4", "δ4", "W3", "z3"}
    assert len(mixed.instances) >= 2
    assert all(line.deviation < 1e-12 for line in second.lines)


def test_the_length_grows_linearly():
    lengths = [
        sum(len(stage.lines) for stage in hesse.derive(*deep(depth, "f"), certify=False).stages)
        for depth in (5, 7, 9)
    ]
    assert lengths[1] - lengths[0] == lengths[2] - lengths[1]


@pytest.mark.parametrize(
    "pair", [("W1", "W1"), ("W1", "W2"), ("W1", "W3"), ("W2", "W3"), ("W3", "W3"), ("W3", "W1")]
)
def test_the_blocks_are_those_written_out(pair):
    text, wrt = deep(3)
    shapes = {"W1": (3, 2), "W2": (4, 3), "W3": (2, 4), "x": (2,), "y": (2,)}
    generator = torch.Generator().manual_seed(1)
    arrays = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    short, long = (
        hesse.derive(text, wrt, stagewise=way).block(*pair).evaluate(**arrays)
        for way in (True, False)
    )
    assert torch.allclose(short, long, atol=1e-12)


def test_any_block_can_be_asked_for_later_and_is_certified():
    d = hesse.derive(*deep(5))
    assert ("W2", "W4") not in d.blocks
    block = d.block("W2", "W4")
    assert block.block.deviation < 1e-12
    assert all(line.deviation < 1e-12 for line in block.lines)
    assert [term.kind for term in block.expression.terms] == [
        "curvature from above",
        "product-rule term",
    ]


def test_a_tied_parameter_enters_at_all_its_places():
    d = hesse.derive(
        "1/2*sum((y - tanh(W @ tanh(W @ tanh(W @ tanh(W @ x)))))**2)",
        wrt=["W"],
        shapes="W[n,n] x[n] y[n]",
    )
    assert d.stages
    assert d.certificate is not None
    assert d.certificate.block_deviation < 1e-12
