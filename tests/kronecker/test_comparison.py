"""The distances from the exact blocks, their table and their picture."""

import matplotlib
import pytest
import torch
from matplotlib.figure import Figure

import hesse
from hesse.errors import HesseError
from kronecker.networks_of_layers import cost_of, exact, parts_of

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def comparison() -> object:
    return hesse.kfac(cost_of("dense")).compare()


def test_numbers_are_those_of_the_definitions(comparison: object) -> None:
    K, cost = hesse.kfac(cost_of("dense")), cost_of("dense")
    for curvature in ("gauss_newton", "hessian"):
        C = hesse.hessian(cost, curvature=curvature).dense()
        rows = [row for row in comparison.rows if row.curvature == curvature]  # type: ignore[attr-defined]
        assert [row.names for row in rows] == [b.names for b in K.blocks]
        for row, entries in zip(rows, (slice(0, 16), slice(16, 31)), strict=True):
            ours, truth = K.dense()[entries, entries], C[entries, entries]
            assert row.size == len(ours)
            assert abs(row.relative - float((ours - truth).norm() / truth.norm())) < 1e-10
            cosine = (ours * truth).sum() / (ours.norm() * truth.norm())
            assert abs(row.cosine - float(cosine)) < 1e-10
            damped = ours + 1e-3 * ours.trace() / len(ours) * torch.eye(len(ours)).to(ours)
            largest = torch.linalg.eigvals(torch.linalg.solve(damped, truth)).real.max()
            assert abs(row.ratio - float(largest)) < 1e-8 * float(largest)


def test_the_table_prints(comparison: object) -> None:
    lines = str(comparison).splitlines()
    assert " ".join(lines[0].split()) == (
        "block entries exact |K - C| / |C| cosine largest of C / K"
    )
    assert [line.split()[:4] for line in lines[1:]] == [
        ["0.(weight,", "bias)", "16", "gauss_newton"],
        ["0.(weight,", "bias)", "16", "hessian"],
        ["2.(weight,", "bias)", "15", "gauss_newton"],
        ["2.(weight,", "bias)", "15", "hessian"],
    ]


def test_the_picture(comparison: object) -> None:
    ax = Figure().add_subplot()
    drawn = comparison.plot(ax)  # type: ignore[attr-defined]
    assert drawn is comparison and drawn.ax is ax and drawn.figure is ax.figure
    assert list(drawn.artists["bars"]) == ["gauss_newton", "hessian"]
    widths = [bar.get_width() for bar in drawn.artists["bars"]["gauss_newton"]]
    assert widths == [row.relative for row in drawn.rows if row.curvature == "gauss_newton"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["0.(weight, bias)", "2.(weight, bias)"]


def test_exact_blocks_are_at_no_distance() -> None:
    K = hesse.kfac(cost_of("no biases"))
    (row,) = K.compare("gauss_newton", names="2.weight").rows
    assert row.relative < 1e-12 and abs(row.cosine - 1) < 1e-12 and 0.9 < row.ratio < 1
    (row,) = K.compare("gauss_newton", names="2.weight", damping=0.0).rows
    assert abs(row.ratio - 1) < 1e-9


def test_parts_of_one_parameter_are_compared_as_one() -> None:
    rows = hesse.kfac(cost_of("attention across"), sharing="reduce").compare("gauss_newton").rows
    assert rows[0].names == ("attend.in_proj_weight", "attend.in_proj_bias")
    G = exact("attention across")
    assert rows[0].size == sum(G.layout.sizes[name] for name in rows[0].names)


def test_a_penalty_is_in_neither() -> None:
    model, loss, X, y = parts_of("dense")
    plain, more = (
        hesse.kfac(hesse.Cost(model, loss, (X, y), penalty=penalty)).compare("gauss_newton").rows
        for penalty in (None, 0.7)
    )
    for a, b in zip(plain, more, strict=True):
        assert abs(a.relative - b.relative) < 1e-12 and abs(a.ratio - b.ratio) < 1e-9


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"curvatures": []}, "curvatures: expected at least one"),
        ({"curvatures": "nope"}, "got 'nope'"),
        ({"names": "nope"}, "no parameter is named 'nope'"),
        ({"names": []}, "expected the names of some parameters"),
        ({"damping": -1.0}, "expected a number >= 0"),
    ],
)
def test_what_is_refused(given: dict[str, object], text: str) -> None:
    with pytest.raises(HesseError, match=text):
        hesse.kfac(cost_of("dense")).compare(**given)  # type: ignore[arg-type]
