"""What is beyond any formula is refused by name and at once; what only looks large is derived."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from beartype.roar import BeartypeCallHintViolation

import hesse
from hesse.derivation.calculus.normal_form import weight
from hesse.derivation.check import valuation
from hesse.derivation.lines.records import Block
from hesse.derivation.lines.steps import block
from hesse.derivation.sources.language import program
from hesse.errors import HesseKeyError, HesseTypeError, HesseValueError

NESTED = {
    "an unknown function twenty deep": ("sum(" + "f(" * 20 + "x" + ")" * 20 + ")", "x"),
    "a product of twenty sums": ("*".join(f"(a{k} + b{k})" for k in range(20)), "a0"),
    "nought with an exponent": ("0e999999999*sum(x)", "x"),
    "a power of a hundred": ("sum((x + y)**100)", "x"),
    "powers eight deep": ("sum(" + "x**(" * 8 + "x" + ")" * 8 + ")", "x"),
}


@pytest.mark.parametrize("name", NESTED)
def test_what_looks_large_is_derived(name: str) -> None:
    text, wrt = NESTED[name]
    start = time.process_time()
    derivation = hesse.derive(text, wrt)
    assert derivation.certificate is not None and derivation.certificate.deviation < 1e-8
    assert derivation.text()
    assert time.process_time() - start < 60  # it was for ever


def test_every_factor_of_a_long_product_has_a_name() -> None:
    # Of forty a line had 7,716 symbols and was refused, though of eighty all lines were short.
    text = "*".join(f"tanh(sum(x*a{k}))" for k in range(40))
    lines = hesse.derive(text, "x", certify=False).block("x", "x").lines
    assert max(weight(line.after) for line in lines) < 1000


def test_every_link_of_a_long_chain_has_a_name() -> None:
    # Lines, not minutes, are counted: they grow with the depth and no faster.
    for name, depth, deviation, lines, longest in json.loads(
        _without_beartype("tests/derivation/chains.py")
    ):
        assert deviation < 1e-8, name
        assert lines <= 15 * depth, name
        assert longest <= 2 * depth + 1, name


def _without_beartype(*script: str) -> str:
    """What a script says. In a process of its own, for here beartype makes formulas slow, and
    refuses wrong types before hesse does."""
    command = [sys.executable, *script]
    ended = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def doubled(times: int) -> str:
    """x*x, its square, and so on, as it is written out."""
    return "x" if not times else f"({(half := doubled(times - 1))}*{half})"


REFUSED = [
    ("1e308*10*sum(x**2)", {}, "beyond the range of float64"),
    ("10**400*sum(x)", {}, "beyond the range of float64"),
    ("1/1e-310*sum(x**2)", {}, "beyond the range of float64"),
    ("sum(x**1e300)", {}, "beyond the range of float64"),
    ("sum((2*x)**1e300)", {}, "beyond the range of float64"),
    ("0." + "1" * 5000 + "*sum(x)", {}, "more than 1000 digits"),
    ("sum(x)", {"shapes": f"x[{'9' * 5000}]"}, "has 5000 digits"),
    ("sum(f(x)**2)", {"shapes": f"x[{','.join('2' * 30)}]"}, "30 axes"),
    ("sum(f(x)**2)", {"shapes": f"x[{','.join('2' * 64)}]"}, "64 axes"),
    ("sum(f(x)**2)", {"shapes": f"x[{','.join('h' * 40)}]"}, "40 axes"),
    ("sum(f(x)**2)", {"shapes": f"x[{','.join('2' * 20)}]"}, "the block"),
    ("sum(" + "x**(" * 50 + "x" + ")" * 50 + ")", {}, "more than 20 powers"),
    ("sum(" + "+".join(["(x+y)*(x-y)"] * 4000) + ")", {}, "parts|deep"),
    ("sum(" + "f(x+" * 50 + "x" + ")" * 50 + ")", {"stagewise": True}, "at most 300 .*stagewise"),
    ("sum(" + doubled(14) + ")", {}, "16,000 parts"),
    ("sum(" + doubled(20) + ")", {}, "16,000 parts"),
]


NAMES = [f"a{k}" for k in range(60)]


@pytest.mark.parametrize(("text", "options", "said"), REFUSED)
def test_what_cannot_be_checked_is_refused_by_name(
    text: str, options: dict[str, Any], said: str
) -> None:
    start = time.process_time()
    with pytest.raises(HesseValueError, match=said):
        hesse.derive(text, "x", **options)
    assert time.process_time() - start < 20  # a second or two, without beartype


def test_more_blocks_than_can_be_read_are_refused_before_they_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = "1,830 blocks of the Hessian, 1,770 of them not zero.*certify=False"
    made = list[object]()

    def watched(*given: Any) -> Block:
        made.append(given)
        return block(*given)

    monkeypatch.setattr(sys.modules["hesse.derivation.derive"], "block", watched)
    with pytest.raises(HesseValueError, match=said):
        hesse.derive("sum(" + "*".join(NAMES) + ")", NAMES)
    assert len(made) < 10


def test_what_is_multiplied_out_by_name_is_compared_apart() -> None:
    # Eight sums with the same entries have 40320 orders.
    start = time.process_time()
    derivation = hesse.derive("*".join(f"sum(x*a{k})" for k in range(30)), "x")
    assert derivation.certificate is not None and derivation.certificate.deviation < 1e-8
    assert time.process_time() - start < 15  # under one second, without beartype


def test_a_sum_of_many_terms_is_put_together_in_pairs() -> None:
    derivation = hesse.derive("sum(" + "f(x+" * 16 + "x" + ")" * 16 + ")", "x", stagewise=True)
    start = time.process_time()
    assert len(derivation.text().splitlines()) < 1000
    assert time.process_time() - start < 40  # half a second, without beartype; it was seven


def test_gradients_go_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = (torch.arange(12.0, dtype=torch.float64, requires_grad=True) for _ in range(2))
    whole = valuation._gradients(x**3, [x, y], False)
    # Eight rows at a time, and four.
    monkeypatch.setattr(valuation, "_TOGETHER", 0)
    portions = valuation._gradients(x**3, [x, y], False)
    for found in (whole, portions):
        assert torch.equal(found[0], torch.diag(3 * x.detach() ** 2))
        assert torch.equal(found[1], torch.zeros(12, 12, dtype=torch.float64))


def test_what_is_too_large_to_check_is_written_unchecked() -> None:
    derivation = hesse.derive("1e308*10*sum(x**2)", "x", certify=False)
    assert derivation.certificate is None and "x" in derivation.text()


# What beartype would refuse in the tests, before hesse does.
unchecked: Any = getattr(program, "__wrapped__", program)


@pytest.mark.parametrize(
    ("wrt", "shapes", "given", "said"),
    [
        (5, None, (), "wrt"),
        ([5], None, (), "wrt"),
        ("x", None, 5, "given"),
        ("x", None, None, "given"),
        ("x", None, [5], "given"),
        ("x", {"x": 3}, (), "shapes"),
        ("x", {3: ("n",)}, (), "shapes"),
        ("x", {"x": "nm"}, (), "shapes"),
    ],
)
def test_wrong_kinds_of_argument_are_named(wrt: Any, shapes: Any, given: Any, said: str) -> None:
    with pytest.raises(HesseTypeError, match=said):
        unchecked("sum(x)", wrt, shapes, given)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda d: d.block(5, "x"), HesseTypeError),
        (lambda d: d.block("x", None), HesseTypeError),
        (lambda d: d.steps("zz", "x"), HesseKeyError),
        (lambda d: d.text(5), HesseTypeError),
        (lambda d: d.text("zz"), HesseValueError),
        (lambda d: d.write("x"), HesseTypeError),
        (lambda d: d.certify("a"), HesseTypeError),
        (lambda d: d.certify(-1), HesseValueError),
        (lambda d: d.block("x", "x").python(name=5), HesseTypeError),
        (lambda d: d.block("x", "x").python("\x1b"), HesseValueError),
        (lambda d: d.block("x", "x").evaluate(x=None), HesseTypeError),
        (lambda d: hesse.derive("sum(x**2)", "x", certify=5), HesseTypeError),  # pyright: ignore
        (lambda d: hesse.derive("sum(x**2)", "x", stagewise=5), HesseTypeError),  # pyright: ignore
    ],
)
def test_a_derivation_names_what_it_cannot_use(call: Any, kind: type[Exception]) -> None:
    # What beartype would refuse in the tests, before hesse does, is refused as well.
    with pytest.raises((kind, BeartypeCallHintViolation)):
        call(hesse.derive("sum(x**3)", "x"))


def test_an_inverse_that_does_not_exist_is_said() -> None:
    block = hesse.derive("logdet(X)", wrt="X").block("X", "X")
    for singular in (numpy.ones((2, 2)), torch.ones(2, 2)):
        with pytest.raises(HesseValueError, match="inverse"):
            block.evaluate(X=singular)
    assert hesse.derive("logdet(X.T @ X)", wrt="X").certificate is not None


def test_a_slice_of_the_fuzzing() -> None:
    _without_beartype("-m", "bench.fuzz_derive", "--count", "25", "--here")


@pytest.mark.parametrize("text", ["sum(x)*sum(y)*sum(z)", "sum(w**2)**2*(b@x)"])
def test_a_parameter_that_does_not_occur_is_declared_or_refused(text: str) -> None:
    derivation = hesse.derive(text, ["A", "x"], shapes="A[n,m]")
    assert derivation.block("A", "x").expression.is_zero
    with pytest.raises(HesseKeyError, match=r"wrt names 'A', which does not occur.*declare"):
        hesse.derive(text, ["A", "x"])
