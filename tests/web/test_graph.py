"""The page for computational graphs: what it answers, what it refuses, and that names are text."""

import re

import pytest
from starlette.testclient import TestClient

from hesse.errors import HesseError
from hesse.web import numbers
from hesse.web.graph import graph, seed_of
from web.answering import client


@pytest.fixture(scope="module")
def browser() -> TestClient:
    return client()


def test_an_empty_page_shows_the_two_layer_network(browser: TestClient) -> None:
    page = browser.get("/graph").text
    assert page.count('<section class="sweep') == 4
    for line in ("z2 = W1 x", "δ3 = δŷ ∘ f&#39;(z3)", "dz3 = v_W2 a2 + W2 da2", "Hv_W1 = dδ2 xᵀ"):
        assert f'<code class="line">{line}</code>' in page
    assert "Computational graph of 1/2*sum((y - f(W2 @ f(W1 @ x)))**2)" in page


def test_steps_are_numbered_as_in_the_picture() -> None:
    found = graph({"network": "2-2-1, tanh, no biases", "seed": "4"})
    numbers = [step["number"] for sweep in found["sweeps"] for step in sweep["steps"]]
    assert numbers == [*range(len(numbers))]
    drawn = {int(number) for number in re.findall(r'data-step="(\d+)"', found["svg"])}
    assert drawn == {*numbers}
    assert {step["node"] for sweep in found["sweeps"] for step in sweep["steps"]} <= {
        *range(len(found["nodes"]))
    }
    assert found["query"].endswith("&seed=4")


def test_a_seed_gives_its_numbers_again() -> None:
    asked = {"cost": "1/2*sum((y - X @ w)**2)"}
    assert graph(asked) == graph({**asked, "seed": "0"}) != graph({**asked, "seed": "1"})


def test_the_picture_by_itself(browser: TestClient) -> None:
    reply = browser.get("/graph/figure", params={"cost": "x @ A @ x", "wrt": "x"})
    assert reply.headers["content-type"].startswith("image/svg+xml")
    assert reply.text.startswith("<svg ")


@pytest.mark.parametrize("seed", ["-1", "1.5", "1" * 9, "²", "1; rm", "99999999"])
def test_a_seed_that_is_none_is_refused(seed: str) -> None:
    with pytest.raises(ValueError, match="seed: expected a whole number from 0"):
        seed_of({"seed": seed})


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"cost": "1/2*sum((y - W @"}, "W @"),
        ({"cost": "W @ x", "wrt": "W"}, "sum over its entries"),
        ({"network": "2-3-1, sigmiod"}, "sigmoid"),
        ({"network": "500-500-1"}, "at most 100,000"),
        ({"cost": "x" * 5000}, "at most 4000 characters"),
        ({"cost": "sum(x)", "seed": "<script>"}, "&lt;script&gt;"),
    ],
)
def test_what_is_refused_says_why(browser: TestClient, said: dict[str, str], words: str) -> None:
    for path in ("/graph", "/graph/answer", "/graph/figure"):
        reply = browser.get(path, params=said)
        assert reply.status_code == 422
        assert words in reply.text and "<script>" not in reply.text


@pytest.mark.parametrize("field", ["cost", "network", "wrt", "shapes", "given", "seed", "arrays"])
def test_an_injection_comes_back_as_text(browser: TestClient, field: str) -> None:
    hostile = "\"'><script>alert(1)</script>\x00\u202e{{ 7*7 }}"
    page = browser.get("/graph", params={"cost": "sum(x**2)", field: hostile}).text
    assert "<script>alert" not in page and "{{ 7*7 }}" in page
    assert re.findall(r"<script[^>]*>", page) == ['<script type="module" src="/static/graph.js">']


def values(found: dict, sweep: int) -> dict[str, str]:
    """What the steps of a sweep compute, by the letters that stand before it."""
    steps = found["sweeps"][sweep]["steps"]
    return {step["line"].split(" = ")[0]: step["value"] for step in steps}


def test_numbers_of_ones_own_are_taken_and_say_the_sizes() -> None:
    given = "X = [[1, 2], [3, 4], [5, 6]]\nw = [1, -1]\ny = [0, 0, 1]"
    found = graph({"cost": "1/2*sum((y - X @ w)**2)", "arrays": given})
    assert values(found, 0)["J"] == "3"
    # Xᵀ(Xw − y) by hand.
    assert values(found, 1)["∂J/∂w"] == "(−14, −18)"
    assert "arrays=X+%3D" in found["query"]
    # Those without numbers get the sizes that go with the others.
    found = graph({"cost": "1/2*sum((y - X @ w)**2)", "arrays": "X = [[1, 2, 3], [3, 4, 4]]"})
    shapes = {node["line"]: node["shape"] for node in found["nodes"]}
    assert (shapes["w"], shapes["y"]) == ("a vector of 3", "a vector of 2")


@pytest.mark.parametrize("loss", ["half_sse", "mse", "cross_entropy", "bce"])
def test_rows_are_samples_of_a_network(loss: str) -> None:
    network = {"network": f"2-2-2, tanh, {loss}", "samples": "3", "seed": "1"}
    said = {**network, **numbers.drawn(network)}
    found, alike = graph(said), numbers.matrix(said)
    assert values(found, 0)["J"] == f"{alike['value']:.4g}"


def test_a_shape_is_changed_and_parameters_are_chosen() -> None:
    asked = {"cost": "1/2*sum((y - X @ w)**2)", "wrt": "w", "shapes": "X[5,4]"}
    shapes = {node["line"]: node["shape"] for node in graph(asked)["nodes"]}
    assert (shapes["X"], shapes["w"]) == ("5 × 4", "a vector of 4")
    found = graph({"network": "2-2-1, no biases", "wrt": "W2"})
    assert [one["line"] for one in found["nodes"] if one["role"] == "parameter"] == ["W2"]
    assert [line for line in values(found, 3) if line.startswith("Hv")] == ["Hv"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"arrays": "Z = 1"}, "no array is called 'Z'"),
        ({"arrays": "w = [[1, 2]]"}, "w: expected shape"),
        ({"arrays": "w = [1, 2]\nX = [[1, 2, 3]]"}, "axis 1 has 3, expected d = 2 by w"),
        ({"arrays": "w = [1e999]"}, "not finite"),
        ({"arrays": "w = [1,"}, "expected numbers in brackets"),
        ({"arrays": "w = [" + "1," * 20_000}, "at most 20000 characters"),
        ({"arrays": "X = []\nw = []\ny = []"}, "X: "),
        ({"cost": "x @ A @ x", "given": "A == A.T", "arrays": "A = [[1, 2], [0, 1]]"}, "A = Aᵀ"),
        ({"network": "2-2-1", "wrt": "W9"}, "there is no parameter 'W9'"),
        ({"network": "2-1", "arrays": "x = [[1, 2]]\ny = [1]"}, "give both for many samples"),
        (
            {"network": "2-2, cross_entropy", "arrays": "x = [1, 2]\ny = [1, 1]"},
            "given to add to 1",
        ),
    ],
)
def test_numbers_that_do_not_fit_are_refused(said: dict[str, str], words: str) -> None:
    usual = {} if "network" in said else {"cost": "1/2*sum((y - X @ w)**2)"}
    with pytest.raises(HesseError, match=re.escape(words)):
        graph(usual | said)
