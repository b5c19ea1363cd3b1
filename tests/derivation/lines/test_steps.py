"""The lines: what each block's must contain, that every one is certified, and that a wrong one is
caught."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch

import hesse
from derivation.expressions import CASES, Case
from hesse.derivation.calculus.algebra import scale
from hesse.derivation.calculus.expression import Expression, Group, Partial, Term
from hesse.derivation.check.certification import certified
from hesse.derivation.check.valuation import Valuation

TWO_LAYERS = "1/2*sum((y - f(W2 @ f(W1 @ x)))**2)"


@pytest.fixture(scope="module")
def two():
    return hesse.derive(TWO_LAYERS, wrt=["W1", "W2"])


def test_the_mixed_block_goes_by_start_product_rule_branches_and_collect(two):
    lines = two.steps("W1", "W2")
    assert [line.rule for line in lines if line.label.isdigit()] == [
        "start",
        "product rule",
        "collect",
    ]
    assert lines[1].marks == ("branch A", "branch B")
    assert {line.label[0] for line in lines} >= {"A", "B"}
    assert lines[-1].after == two.block("W1", "W2").expression


def test_every_line_has_a_rule_and_a_deviation_at_rounding(two):
    for block in two:
        for line in block.lines:
            assert line.rule
            assert line.deviation < 1e-12
        assert block.deviation < 1e-12


def test_the_transposed_block_says_so_and_is_the_transpose(two):
    there, back = two.block("W1", "W2"), two.block("W2", "W1")
    assert back.lines[-1].rule == "symmetry"
    assert back.rows == there.columns
    arrays = {
        name: torch.randn(shape, dtype=torch.float64)
        for name, shape in {"W1": (3, 2), "W2": (1, 3), "x": (2,), "y": (1,)}.items()
    }
    left, right = there.evaluate(f="tanh", **arrays), back.evaluate(f="tanh", **arrays)
    assert torch.equal(left.permute(2, 3, 0, 1), right)


def test_a_known_activation_is_substituted_last():
    d = hesse.derive("1/2*sum((y - sigmoid(W2 @ sigmoid(W1 @ x)))**2)", wrt=["W1", "W2"])
    rules = [line.rule for line in d.steps("W1", "W2")]
    assert rules[-2:] == ["sigmoid", "put in"]
    assert rules.index("collect") < rules.index("sigmoid", rules.index("collect"))


def test_the_second_derivative_of_relu_goes_with_the_remark_where(two):
    d = hesse.derive("1/2*sum((y - W2 @ relu(W1 @ x))**2)", wrt=["W1", "W2"])
    lines = d.steps("W1", "W1")
    (zero,) = [line for line in lines if line.rule == "relu" and line.after.is_zero]
    assert "not zero" in zero.reason
    assert len(d.block("W1", "W1").expression.terms) == 1


def test_a_parameter_that_does_not_occur_has_zero_blocks_and_it_is_said():
    d = hesse.derive("sum(x**2)", wrt=["x", "w"], shapes="w[k]")
    block = d.block("x", "w")
    assert block.expression.is_zero
    assert "does not occur" in block.lines[-1].reason


def test_parameters_that_never_meet_have_a_zero_block():
    d = hesse.derive("sum(sin(x)) + sum(w**3)", wrt=["x", "w"])
    assert d.block("x", "w").expression.is_zero
    assert "zero" in d.steps("x", "w")[-1].reason


def test_a_wrong_line_is_caught_and_named(two):
    block = two.blocks["W1", "W2"]
    wrong = replace(block.lines[3], after=scale(block.lines[3].after, Fraction(2)))
    lines = (*block.lines[:3], wrong, *block.lines[4:])
    broken = replace(two, blocks={("W1", "W2"): replace(block, lines=lines)})
    with pytest.raises(
        hesse.HesseError,
        match=rf"line {wrong.label} \({wrong.rule}\) of the block \(W1, W2\) is wrong by",
    ):
        certified(broken)


@pytest.mark.parametrize(
    "text",
    [
        "norm2(logsumexp(log_softmax(A)))",  # which is zero, and here not a number
        "norm2(logsumexp(log_softmax(A + A)))",
        "norm(inv(A) @ A - A @ inv(A))",
    ],
)
def test_the_norm_of_what_is_zero_up_to_rounding_is_no_fault_of_a_line(text):
    with pytest.raises(hesse.HesseError, match="a quotient of what is always zero") as refused:
        hesse.derive(text, "A")
    assert "report" not in str(refused.value)


def test_certify_at_other_points(two):
    certificate = two.certify(seed=5)
    assert certificate.lines == two.certificate.lines
    assert certificate.deviation < 1e-12


def test_without_certification_nothing_is_claimed():
    d = hesse.derive("x @ A @ x", wrt=["x"], certify=False)
    assert d.certificate is None


def test_the_user_s_default_dtype_and_random_state_stay():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    hesse.derive("sum(exp(A @ x))", wrt=["x"])
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_default_dtype() == torch.float32


def test_lines_of_each_block_hold_by_central_differences(two):
    """A third way to the block, without automatic differentiation: differences of differences of
    the cost."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"W1": (3, 2), "W2": (2, 3), "x": (2,), "y": (2,)}
    arrays = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    h = 1e-4

    def cost(W1, W2):
        found = Valuation(two.program, {**arrays, "W1": W1, "W2": W2}, {"f": torch.tanh})
        return float(found.value("J"))

    block = two.block("W1", "W2").evaluate(f="tanh", **arrays)
    for o, i, p, j in [(0, 0, 0, 0), (2, 1, 1, 0), (1, 1, 1, 1)]:
        total = 0.0
        for s, t in [(1, 1), (1, -1), (-1, 1), (-1, -1)]:
            W1, W2 = arrays["W1"].clone(), arrays["W2"].clone()
            W1[o, i] += s * h
            W2[p, j] += t * h
            total += s * t * cost(W1, W2)
        assert total / (4 * h * h) == pytest.approx(float(block[o, i, p, j]), abs=1e-6)


@pytest.mark.parametrize("text", ["logsumexp(x)", "logdet(A)", "sum(logsumexp(W @ x))"])
def test_no_line_says_nothing(text: str) -> None:
    derivation = hesse.derive(text, wrt=[text.strip(")")[-1]])
    for name in derivation.parameters:
        lines = derivation.block(name, name).lines
        assert all(line.before != line.after or line.name for line in lines)


def terms(value: Expression) -> int:
    """How many terms stand there; of one derivative of a sum, those of the sum."""
    match value:
        case Expression((Term(1, (Partial(Group(body)),), ()),)):
            return len(body.terms)
    return len(value.terms)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_no_line_brings_more_than_three_terms_at_once(case: Case) -> None:
    """More than those before it, on its left or above it in its branch."""
    d = case.derivation
    for part in (*d.slopes.values(), *d.stages, *d):
        longest: dict[str, int] = {}
        for line in part.lines:
            branch = line.label.rstrip("0123456789")
            before = max(terms(line.before), longest.get(branch, 0))
            assert len(line.after.terms) <= before + 3, line.label
            longest[branch] = max(longest.get(branch, 0), terms(line.after))
