"""A format of one's own is a writer of formulas and a renderer of documents; a reading of one's own
is one object. Nothing in hesse knows of them."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import pytest

import hesse
from derivation.show.tex import check
from hesse.derivation.calculus.expression import Entry, Expression, rebuilt
from hesse.derivation.calculus.program import Program
from hesse.derivation.show import latex, text
from hesse.derivation.show.document import Document, Line, Section, Sum
from hesse.derivation.show.entries import outside
from hesse.derivation.show.matrices import Forms
from hesse.derivation.show.outline import Outline
from hesse.derivation.show.readings import READINGS, Reading
from hesse.derivation.show.writer import Writer

# ---------------------------------------------------------------- a format: Typst


class TypstWriter(Writer):
    """Formulas for Typst's math mode."""

    minus = "-"
    transposed, inverse, inverse_transposed = "^top", "^(-1)", "^(-top)"
    kron, hadamard, ones = " times.circle ", " compose ", "bold(1)"
    barred = True

    def name(self, name: str, indices: Sequence[str] = ()) -> str:
        return f'"{name}"' + (f"_({','.join(indices)})" if indices else "")

    def index(self, name: str) -> str:
        return name

    def size(self, size: int | str) -> str:
        return str(size)

    def function(self, name: str, order: int) -> str:
        return name + "'" * order

    def operator(self, name: str, index: str = "") -> str:
        return f'op("{name}")' + (f"_{index}" if index else "")

    def plain(self, text: str) -> str:
        return f'"{text}"'

    def array_function(self, operation: str, argument: str) -> str:
        return f"{operation}({self.name(argument)})"

    def black_box(self, operation: str, order: int, arguments: Sequence[str]) -> str:
        return f"{operation}({', '.join(arguments)})"

    def commutation(self, sizes: Sequence[str] = ()) -> str:
        return f"K_({','.join(sizes)})" if sizes else "K"

    def number(self, value: Fraction) -> str:
        return str(value)

    def coefficient(self, value: Fraction) -> str:
        return str(value)

    def parentheses(self, inside: str) -> str:
        return f"({inside})"

    def absolute(self, inside: str) -> str:
        return f"abs({inside})"

    def root(self, inside: str) -> str:
        return f"sqrt({inside})"

    def raised(self, base: str, exponent: str) -> str:
        return f"{base}^({exponent})"

    def exponent(self, exponent: Fraction | str, each: bool) -> str:
        return f"^(compose {exponent})" if each else f"^({exponent})"

    def quotient(self, above: str, below: Sequence[str]) -> str:
        return f"frac({above}, {' '.join(below)})"

    def ratio(self, above: str, below: Sequence[str], alone: bool) -> str:
        return self.quotient(above, below)

    def partial(self, of: str | None, by: Sequence[str], whole: bool = False) -> str:
        power = f"^{len(by)}" if len(by) > 1 else ""
        below = " ".join(f"partial {variable}" for variable in by)
        return f"frac(partial{power} {of or ''}, {below})"

    def summation(self, over: Sequence[str]) -> str:
        return f"sum_({','.join(over)})"

    def product(self, parts: Sequence[str], dotted: bool = False) -> str:
        return (" dot " if dotted else " ").join(parts)

    def moving(self, part: str) -> str:
        return f"underline({part})"


class TypstPage:
    """How each part of a document looks in Typst."""

    def __init__(self, program: Program) -> None:
        self.w = TypstWriter(program)

    def rows(self, document: Document) -> Iterator[str]:
        yield f"= Second derivatives of {document.cost}"
        for definition in document.header.definitions:
            yield f"$ {self.w.entry(definition.left)} = {self.w.write(definition.right)} $"
        for section in document.sections:
            yield from self.section(section)
        yield f"_{document.checked}_"

    def section(self, section: Section) -> Iterator[str]:
        yield f"== {section.name}"
        for line in section.lines:
            yield f"+ *{line.rule}* {line.reason} $ {self.equation(line)} $"
        result = section.result
        if result is not None:
            inner = self.summands(result.matrix if result.in_place else result.inner)
            if result.outer is not None and not result.in_place:
                inner = f"{outside(result.outer, self.w)} {{ {inner} }}"
            yield f"$ {self.w.write(section.bare)} = {inner} $"

    def equation(self, line: Line) -> str:
        equation = line.equation
        left = "" if equation.left is None else self.w.write(equation.left)
        return f"{left} = {self.summands(equation.right)}"

    def summands(self, parts: Sum) -> str:
        return " ".join(
            f"{'-' if part.negative else '+' if place else ''}{self.w.write(part.node)}"
            for place, part in enumerate(parts)
        )


# ---------------------------------------------------------------- a reading: in capitals


class Capitals(Reading):
    """Every name in capitals."""

    name, title = "capitals", "in capitals"
    about = ("every name in capitals",)

    def expression(self, expression: Expression, program: Program) -> Expression:
        return self._raised(expression)

    def entry(self, entry: Entry) -> Entry:
        return Entry(entry.name.upper(), entry.indices)

    def reason(self, reason: str, program: Program) -> str:
        return reason.upper()

    def matrix(
        self, expression: Expression, rows: Entry, columns: Entry | None, forms: Forms
    ) -> Sum:
        return super().matrix(self._raised(expression), rows, columns, forms)

    def _raised(self, value: Any) -> Any:
        return self.entry(value) if isinstance(value, Entry) else rebuilt(value, self._raised)


@pytest.fixture
def capitals(monkeypatch):
    monkeypatch.setitem(READINGS, "capitals", Capitals())


@pytest.mark.parametrize("reading", ["scalar", "indices", "matrix"])
def test_a_new_format_writes_a_derivation_in_every_reading(reading, derivation):
    document = Outline(derivation, reading).document()
    rows = list(TypstPage(derivation.program).rows(document))
    lines = sum(len(section.lines) for section in document.sections)
    assert rows[0] == "= Second derivatives of J"
    assert sum(row.startswith("+ *") for row in rows) == lines > 5
    assert all(row.count("$") in (0, 2) for row in rows)


def test_a_new_format_writes_one_block(derivation):
    (block,) = derivation
    page = TypstPage(derivation.program)
    results = {
        reading: list(page.section(Outline(derivation, reading).block(block)))[-1]
        for reading in ("scalar", "indices", "matrix")
    }
    front = '$ frac(partial^2 "J", partial "W1" partial "W2") = '
    assert results["scalar"] == (front + """"x" f'("z2") { "S3" "W2" "a2" +"δ3" } $""")
    assert results["indices"] == (
        front + """"x"_(i) f'("z2"_(o)) { "S3"_(p) "W2"_(p,o) "a2"_(j) +"δ3"_(p) [j = o] } $"""
    )
    assert " times.circle " in results["matrix"] and "K" in results["matrix"]


def test_a_new_format_writes_real_derivations():
    d = hesse.derive("1/2*sum((y - tanh(W2 @ f(W1 @ x)))**2)", ["W1", "W2"], certify=False)
    rows = list(TypstPage(d.program).rows(Outline(d, "matrix").document()))
    assert any('op("diag")(tanh\'' in row for row in rows)
    assert any("underline(" in row for row in rows)


def test_a_new_reading_is_in_every_format(derivation, capitals):
    (block,) = derivation
    shown = text.page(derivation, "capitals")
    assert "∂J/∂Z3_p = −(Y_p − Ŷ_p) f'(Z3_p) =: Δ3_p" in shown
    assert "Reading     every name in capitals" in shown and "z3_p" not in shown
    assert "δ3" not in text.part_text(block, derivation, "capitals")
    check(latex.document(derivation, "capitals"))
    assert "f'(Z_{2,o})" in latex.part_latex(block, derivation, "capitals")
    rows = list(TypstPage(derivation.program).rows(Outline(derivation, "capitals").document()))
    assert any('"Δ3"_(p)' in row for row in rows) and not any('"δ3"' in row for row in rows)
    assert derivation.write(block.expression, "capitals").startswith("X_i f'")


def test_a_new_reading_is_a_choice_on_the_page(derivation, capitals):
    pytest.importorskip("jinja2")
    page = derivation.html()
    assert 'id="hesse-capitals"' in page and "in capitals" in page
    assert page.count('id="hesse-block-0"') == 1 and page.count('class="formula in-capitals"') > 5
