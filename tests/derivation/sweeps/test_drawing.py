"""The picture: what stands in it, that nothing in it covers anything else, that names are text."""

import itertools
import runpy
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

import hesse
from hesse.derivation.sources.language import program
from hesse.derivation.sweeps.computation import Computation, computation
from hesse.derivation.sweeps.drawing import svg
from hesse.derivation.sweeps.numbers import line_of_numbers
from hesse.derivation.sweeps.placement import placement
from hesse.derivation.sweeps.subject import at_random, of_cost

DOCS = Path(__file__).parents[3] / "docs"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def found() -> Computation:
    return computation(at_random(*program("1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", "W1, W2")))


def test_the_picture_has_every_node_edge_and_step(found: Computation) -> None:
    root = ElementTree.fromstring(svg(found, "Two layers"))
    assert root.findtext(f"{SVG}title") == "Two layers"
    assert "z3 = W2 a2" in (root.findtext(f"{SVG}desc") or "")
    assert root.get("role") == "img"
    nodes = [group for group in root.iter(f"{SVG}g") if "node" in group.get("class", "")]
    assert [group.findtext(f"{SVG}title") for group in nodes] == [n.line for n in found.nodes]
    steps = [text.get("data-step") for text in root.iter(f"{SVG}text") if text.get("data-step")]
    assert sorted(map(int, filter(None, steps))) == [*range(len(found.steps))]
    edges = [path for path in root.iter(f"{SVG}path") if path.get("class") == "edge"]
    assert len(edges) == sum(len(node.inputs) for node in found.nodes)


def test_the_picture_beside_the_page_is_of_its_numbers() -> None:
    draw = runpy.run_path(str(DOCS / "automatic_differentiation.py"))["picture"]
    there = (DOCS / "automatic-differentiation.svg").read_text(encoding="utf-8")
    assert draw() == there, "python docs/automatic_differentiation.py draws it again"


def test_numbers_too_long_for_a_node_are_summarised_not_cut() -> None:
    found = computation(at_random(*program("sum(weights_of_it**2)", "weights_of_it")))
    value = torch.tensor([-1.23e-05, -4.56e-05, -7.89e-05, -1.01e-05], dtype=torch.float64)
    drawn = svg(replace(found, given={"weights_of_it": value}), "")
    assert "weights_of_it = 4 entries, norm 9.25e−05" in drawn


HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e\x00&\"'"


def test_a_hostile_name_is_text() -> None:
    cost = hesse.Cost(
        lambda p, x: x @ p[HOSTILE], "mse", (torch.ones(2, 2), torch.ones(2)),
        params={HOSTILE: torch.ones(2)},
    )  # fmt: skip
    text = svg(computation(of_cost(cost)), HOSTILE)
    root = ElementTree.fromstring(text)
    assert {element.tag for element in root.iter()} == {
        SVG + tag
        for tag in ("svg", "title", "desc", "style", "defs", "marker", "path", "text", "g", "rect")
    }
    assert "<script" not in text and all(letter.isprintable() or letter == "\n" for letter in text)
    assert "&lt;script&gt;" in text


# Two residual blocks, each with a way past two nodes, and a shared parameter at the top.
GRAPH = {
    "W": (), "x": (), "z1": ("W", "x"), "a1": ("z1",), "u1": ("x", "a1"), "z2": ("W", "u1"),
    "a2": ("z2",), "u2": ("u1", "a2"), "y": (), "J": ("u2", "y"),
}  # fmt: skip


def test_no_node_covers_another_and_no_edge_goes_through_one() -> None:
    sizes = {name: (60.0 + 20 * len(name), 30.0 + 10 * k) for k, name in enumerate(GRAPH)}
    placed = placement(GRAPH, sizes)
    for a, b in itertools.combinations(GRAPH, 2):
        apart_x = abs(placed.nodes[a][0] - placed.nodes[b][0]) - (sizes[a][0] + sizes[b][0]) / 2
        apart_y = abs(placed.nodes[a][1] - placed.nodes[b][1]) - (sizes[a][1] + sizes[b][1]) / 2
        assert apart_x > 20 or apart_y > 20, (a, b)
    for (source, name), points in placed.edges.items():
        assert placed.nodes[source][1] < placed.nodes[name][1]
        for (x, top), (to_x, bottom) in itertools.pairwise(points):
            assert top <= bottom
            for other, (at_x, at_y) in placed.nodes.items():
                if other in (source, name):
                    continue
                width, height = sizes[other]
                beside = min(x, to_x) >= at_x + width / 2 or max(x, to_x) <= at_x - width / 2
                above = bottom <= at_y - height / 2 or top >= at_y + height / 2
                assert beside or above, (source, name, other)
    assert all(0 <= x <= placed.width and 0 <= y <= placed.height for x, y in placed.nodes.values())


def test_what_is_given_stands_right_above_what_it_goes_into() -> None:
    y = {
        name: at[1]
        for name, at in placement(GRAPH, dict.fromkeys(GRAPH, (50.0, 20.0))).nodes.items()
    }
    assert y["y"] == y["u2"] < y["J"]
    assert y["x"] == y["W"] < y["z1"]


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (torch.tensor(-0.0), "0"),
        (torch.tensor(float("nan")), "nan"),
        (torch.tensor([-1.5, float("inf")]), "(−1.5, inf)"),
        (torch.ones(2, 2, 2), "2 × 2 × 2, norm 2.828"),
        (torch.ones(9), "9 entries, norm 3"),
        (torch.zeros(0), "()"),
    ],
)
def test_numbers_on_a_line(value: torch.Tensor, line: str) -> None:
    assert line_of_numbers(value, 4) == line
