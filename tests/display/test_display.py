"""Every public object shows itself within a screen, and within a notebook's cell; nothing that a
name holds gets out of its place."""

import inspect
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import linear

import hesse
from hesse.display import Display, Displayed, Fact, Table
from hesse.display.html import MOST, html
from hesse.display.text import LINES, WIDTH, text
from hesse.kronecker.comparison import Comparison
from hesse.taylor.result import Minimum

# A tag, a colour of terminals, a line break, and what turns the direction of a text.
HOSTILE = "<script>alert('&')</script>\x1b[31m\n\u202e"
TAGS = {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "code", "br"}
MATHS = {"math", "mi", "mo", "mn", "mrow", "mtext", "mfrac", "msqrt", "mover", "munder"} | {
    "msub", "msup", "msubsup",
}  # fmt: skip


@pytest.fixture(scope="module")
def made() -> SimpleNamespace:
    """A cost whose parameters have hostile names, what was made of it, and a derivation."""
    torch.manual_seed(0)
    weight, bias = f"{HOSTILE}.weight", f"{HOSTILE}.bias"

    def model(p: Any, x: torch.Tensor) -> torch.Tensor:
        return linear(x, p[weight], p[bias]).tanh()

    parameters = {
        weight: torch.randn(3, 16, dtype=torch.float64),
        bias: torch.randn(3, dtype=torch.float64),
    }
    X, y = torch.randn(6, 16, dtype=torch.float64), torch.zeros(6, 3, dtype=torch.float64)
    cost = hesse.Cost(model, "half_sse", (X, y), params=parameters)
    derivation = hesse.derive("1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", wrt=["W1", "W2"])
    q = hesse.quadratic(cost)
    return SimpleNamespace(
        cost=cost,
        H=q.hessian,
        q=q,
        A=hesse.operator(cost),
        K=hesse.kfac(cost),
        d=derivation,
        step=q.trust_region(0.1),
        trust=q.trust(),
        pairs=hesse.eigenpairs(q.hessian, k=3),
        layout=cost.layout,
        b=torch.ones(51, dtype=torch.float64),
    )


def mean() -> hesse.Cost:
    """Squares about their mean, at their minimum."""
    y = torch.arange(6.0, dtype=torch.float64)[:, None]
    return hesse.Cost(
        lambda p, x: x + p[HOSTILE], "mse", (torch.zeros_like(y), y), params={HOSTILE: y.mean(0)}
    )


# One of each class, by its name.
OBJECTS: dict[str, Callable[[SimpleNamespace], Any]] = {
    "BlockHessian": lambda m: m.H,
    "Certificate": lambda m: m.H.certificate,
    "Comparison": lambda m: m.K.compare("gauss_newton"),
    "Composed": lambda m: 2 * m.A - (m.K @ m.A).T + m.A.damped(0.5).block_diagonal(),
    "Convexity": lambda m: m.d.convexity("W1"),
    "Cost": lambda m: m.cost,
    "Density": lambda m: hesse.density(m.H),
    "Derivation": lambda m: m.d,
    "DerivedHessian": lambda m: m.d.hessian(),
    "DiagonalOperator": lambda m: hesse.DiagonalOperator(m.b),
    "Eigenpairs": lambda m: m.pairs,
    "Eigenvectors": lambda m: hesse.Eigenvectors.from_eigenpairs(m.pairs),
    "ErrorCurve": lambda m: hesse.ErrorCurve.from_trust(m.trust),
    "Estimate": lambda m: hesse.trace(m.H),
    "EstimatedDiagonal": lambda m: hesse.estimated_diagonal(m.H),
    "Formula": lambda m: m.d.block("W1", "W2"),
    "FunctionOperator": lambda m: hesse.FunctionOperator(lambda v: v, m.layout),
    "HeatMap": lambda m: hesse.HeatMap.from_hessian(m.H),
    "HessianOperator": lambda m: m.A,
    "JacobianOperator": lambda m: hesse.jacobian(m.cost),
    "KFAC": lambda m: m.K,
    "LayerSpectra": lambda m: hesse.LayerSpectra.from_hessian(m.H),
    "Layers": lambda m: hesse.layers(m.H),
    "Layout": lambda m: m.layout,
    "LowRank": lambda m: hesse.LowRank(m.b[:2], m.b.new_ones(51, 2).tril(), diagonal=1.0),
    "Minimum": lambda m: hesse.minimize(m.cost, maxiter=1),
    "Network": lambda m: hesse.Network("2-3-1"),
    "NormMap": lambda m: hesse.NormMap.from_hessian(m.H),
    "PerSample": lambda m: hesse.per_sample(m.cost),
    "Plan": lambda m: hesse.plan(m.cost),
    "Plane": lambda m: hesse.Plane.from_model(m.q, points=3),
    "QuadraticModel": lambda m: m.q,
    "Report": lambda m: hesse.Report(f"{HOSTILE}.html", {"Cost": "", HOSTILE: HOSTILE}),
    "SampledFisher": lambda m: hesse.SampledFisher(),
    "Slice": lambda m: hesse.Slice.from_model(m.q, points=3),
    "Solution": lambda m: hesse.solve(m.H, m.b, damping=1e3),
    "Spectrum": lambda m: hesse.Spectrum.from_hessian(m.H),
    "StandardErrors": lambda m: hesse.standard_errors(mean()),
    "StationaryPoint": lambda m: m.q.stationary_point(),
    "Status": lambda m: hesse.Status(HOSTILE, HOSTILE, 9, 3, 900, 300, 2.0, ""),
    "Step": lambda m: m.step,
    "Trust": lambda m: m.trust,
}
# What cannot be made, and what is raised.
OTHERS = {"LinearOperator", "HesseError"}


class Page(HTMLParser):
    """What a page is made of: tags, each closed, and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        assert not {name for name, _ in attrs if name.startswith("on")}
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def require_a_screen(shown: str) -> None:
    lines = shown.split("\n")
    assert len(lines) <= LINES and max(map(len, lines)) <= WIDTH, shown
    assert all(map(str.isprintable, lines)) and "tensor(" not in shown, shown


def require_a_cell(shown: str) -> Page:
    page = Page(shown)
    assert len(shown.encode()) < MOST and page.tags <= TAGS | MATHS and not page.open
    assert "\x1b" not in shown and "\u202e" not in shown
    # Text and page bring their own colours.
    assert "color:" not in shown.replace("background:", "")
    return page


def test_every_public_class_shows_itself() -> None:
    public = {name for name in hesse.__all__ if inspect.isclass(getattr(hesse, name))}
    assert public <= {*OBJECTS, *OTHERS} and public >= OTHERS
    assert all(issubclass(getattr(hesse, name), Displayed) for name in public - {"HesseError"})
    assert issubclass(Minimum, Displayed) and issubclass(Comparison, Displayed)


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_fits_a_screen_and_a_cell(name: str, made: SimpleNamespace) -> None:
    shown = OBJECTS[name](made)
    kind = type(shown).__name__
    assert kind == name or name in ("Composed", "Formula")
    require_a_screen(repr(shown))
    page = require_a_cell(shown._repr_html_())
    # What it is first, and last what can be asked of it.
    heads = {"Composed": "Sum", "Formula": "Formula"}
    head = heads.get(name, name)
    assert repr(shown).startswith(f"{head}: ") and page.text.startswith(f"{head}: ")
    assert "next" in repr(shown).rpartition("\nnext")[1] and "next: " in page.text
    require_a_screen(str(shown)[:100].split("\n")[0])


def huge(number: int) -> Display:
    """More of everything than any screen holds."""
    name = HOSTILE * number
    return Display(
        name,
        name,
        (Fact(name, f"{name}\n" * number),) * number,
        Table((name,) * 9, ((name,) * 9,) * number, (0, 3), title=name, last=1),
        (name,) * number,
    )


@pytest.mark.parametrize("number", [0, 1, 3, 60])
@pytest.mark.parametrize("without", ["", "facts", "table", "next"])
def test_whatever_there_is_fits(number: int, without: str) -> None:
    empty = {"facts": (), "table": None, "next": ()}
    shown = Display(
        **{**vars(huge(number)), **({without: empty[without]} if without else {})},
    )
    require_a_screen(text(shown))
    require_a_cell(html(shown))


def test_of_many_rows_the_first_and_the_last_are_shown() -> None:
    rows = tuple((f"row {k}", str(k)) for k in range(1000))
    shown = text(Display("Thing", "of many rows", table=Table(("name", "k"), rows)))
    assert "row 0 " in shown and "row 999" in shown and "... 979 more ..." in shown
    sums = text(Display("Thing", "with a sum", table=Table(("name", "k"), rows, last=1)))
    assert sums.split()[-3:] == ["row", "999", "999"] and "row 998" not in sums


def test_operators_are_written_as_they_were_made() -> None:
    A, B = (hesse.as_operator(torch.randn(2, 2)) for _ in range(2))
    M = 2 * (A + B).T @ A - B.damped(0.5)
    assert "2 (A + B)ᵀ A − (B + 0.5 I)" in repr(M).replace("\n", " ")
    deep = A
    for _ in range(200):
        deep = deep + B
    require_a_screen(repr(deep))


def test_formulas_are_typeset_with_the_extra_and_written_without(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "<math>" in made.d._repr_html_()
    for missing in ("jinja2", "markupsafe"):
        monkeypatch.setitem(sys.modules, missing, None)
    shown = made.d._repr_html_()
    assert "<math>" not in shown and "Σ_p W2[p,o] S3_p W2[p,q]" in shown
    require_a_cell(shown)
