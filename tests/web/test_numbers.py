"""The page for numbers: arrays as text, H of a small network, each entry by its formula, and the
plane that one plays in."""

import base64
import io
import json
import math
import zipfile
from itertools import chain

import numpy as np
import pytest
import torch

import hesse
from hesse.derivation.sources.networks.network import LOSSES
from hesse.errors import HesseError
from hesse.web import arrays, numbered_network, numbers, plane
from hesse.web.numbered_network import NumberedNetwork
from hesse.web.workers import Workers
from web.answering import client

BROWSER = client()


def said(network: str, samples: int = 3, seed: int = 1) -> dict[str, str]:
    form = {"network": network, "samples": str(samples), "seed": str(seed)}
    return {"network": network, **numbers.drawn(form)}


TWO_LAYERS = said("2-2-1")


# ---------------------------------------------------------------- arrays as text


def test_arrays_are_read_as_they_were_written() -> None:
    given = {"W1": np.random.default_rng(0).normal(size=(2, 3)), "b1": np.array([0.5, 2.0, -1e-30])}
    for name, array in arrays.read(arrays.written(given)).items():
        assert np.array_equal(array, given[name])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("W1 = [[1, 2], [3]]", "W1: its rows differ: expected 2 entries"),
        ("W1 = [[1, 2], 3]", "W1: its rows differ"),
        ("W1 = [[1, 2]", "W1: expected numbers in brackets"),
        ("W1 = NaN", "W1: has entries that are not finite"),
        ("W1 = [1e999]", "W1: has entries that are not finite"),
        ("W1 = [" + "9" * 400 + "]", "W1: has entries that are not finite"),
        ("W1 = [" + "9" * 5000 + "]", "W1: expected numbers in brackets"),
        ("W1 = " + "[" * 100_000, "W1: expected numbers in brackets"),
        ("W1 = [[[[1]]]]", "W1: expected at most 3 axes"),
        ("W1 = [true]", "W1: expected a number, got 'true'"),
        ('W1 = ["<b>"]', "W1: expected a number"),
        ("W1 = __import__('os')", "W1: expected numbers in brackets"),
        ("W1 = 1\nW1 = 2", "arrays: W1 is given twice"),
        ("<script>alert(1)</script>", "arrays: expected lines such as W1 ="),
    ],
)
def test_what_is_no_array_is_refused(text, told) -> None:
    with pytest.raises(HesseError, match=f"^{told[:3]}") as refused:
        arrays.read(text)
    assert told in str(refused.value)
    assert len(str(refused.value)) < 200


def packed(**given: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **given)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def test_a_file_takes_the_place_of_arrays_of_the_same_name() -> None:
    form = {"arrays": "b1 = [1]\nx = [[2]]"}
    form["file"] = base64.b64encode(packed(x=np.eye(2, dtype=np.float32))).decode()
    assert numbers.filed(form)["arrays"] == "b1 = [1]\nx = [[1, 0],\n     [0, 1]]"


class Hostile:
    def __reduce__(self) -> tuple:
        return pytest.fail, ("a pickle was executed",)


def bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("W1.npy", bytes(arrays.LARGEST_FILE + 1))
    return file.getvalue()


def claiming() -> bytes:
    """An array that says that it is huge, and is not."""
    header = io.BytesIO()
    about = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(header, about)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("W1.npy", header.getvalue())
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 no archive",
        packed(W1=np.ones(3))[:-30],
        packed(W1=np.array([Hostile()], dtype=object)),
        packed(W1=np.array(["text"])),
        packed(W1=np.array([1j])),
        packed(W1=np.array([math.nan])),
        bomb(),
        claiming(),
    ],
)
def test_a_hostile_file_is_refused(content) -> None:
    with pytest.raises(HesseError):
        arrays.from_file(content)


# ---------------------------------------------------------------- the network


@pytest.mark.parametrize(
    ("network", "changed", "told"),
    [
        ("", {}, "network: expected widths"),
        ("2-h-1", {}, "network: 'h' is no number"),
        ("2-2-1, f", {}, "activation: f is not known"),
        ("9-9-9", {}, "has 180 parameters; up to 60"),
        ("2-99999999999999-1", {}, "up to 60 are shown"),
        ("2" * 5000, {}, "network: expected at most 4000 characters"),
        ("<script>", {}, "widths"),
        ("2-2-1", {"b1": "b1 = [1, 2, 3]"}, "b1: expected shape (2,)"),
        ("2-2-1", {"b1": "b3 = [1, 2]"}, "missing: b1, unknown: b3"),
        ("2-2-1", {"y": "y = [[1], [2]]"}, "y: expected a row for each of the 3 samples"),
        ("2-2-1", {"x": "x = [[1, 2, 3]]"}, "x: expected a row of 2"),
        ("2-2-1", {"x": "x = []"}, "x: expected a row of 2"),
        ("2-2-1", {"x": f"x = {[[1, 2]] * 1001}"}, "x: up to 1,000 samples"),
        ("2-2, cross_entropy", {"y": f"y = {[[1, 1]] * 3}"}, "rows of probabilities"),
        ("2-2-1, identity", {"W2": "W2 = [[1e300, 1]]"}, "the value is inf"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(network, changed, told) -> None:
    try:
        form = said(network)
    except HesseError as error:  # before any number is drawn
        assert told in str(error)
        return
    lines = arrays.read(form["arrays"])
    text = [changed.get(name, arrays.written({name: array})) for name, array in lines.items()]
    reply = BROWSER.post("/numbers/matrix", json={"network": network, "arrays": "\n".join(text)})
    assert reply.status_code == 422
    assert told in reply.json()["error"]


def test_one_vector_is_one_sample_and_numbers_are_samples_of_one_entry() -> None:
    form = {"network": "2-1, no biases", "arrays": "W1 = [[1, 2]]\nx = [3, 4]\ny = [5]"}
    assert NumberedNetwork.of(form).x.shape == (1, 2)
    form = {"network": "1-1, no biases", "arrays": "W1 = [[1]]\nx = [3, 4]\ny = [5, 6]"}
    assert NumberedNetwork.of(form).y.shape == (2, 1)


def test_every_loss_of_networks_has_numbers() -> None:
    assert set(numbered_network.LOSSES) == set(LOSSES)


# ---------------------------------------------------------------- H and its entries


@pytest.mark.parametrize(
    "network",
    [
        "2-2-1",
        "1-2, bce",
        "2-2, cross_entropy, no biases",
        "1-1-1-1-1, tanh, mse, no biases",  # by layer
    ],
)
def test_the_terms_of_a_formula_sum_to_the_entries(network) -> None:
    form = said(network)
    found = numbers.matrix(form)
    H, at = np.array(found["matrix"]), {}
    begin = 0
    for parameter in found["parameters"]:
        at[parameter["name"]] = slice(begin, begin := begin + parameter["size"])
    names = list(at)
    for rows, columns in [(names[0], names[-1]), (names[-1], names[0])]:
        block = numbers.block({**form, "rows": rows, "columns": columns})
        values = sum(np.array(term["values"]) for term in block["terms"])
        expected = H[at[rows], at[columns]].reshape(-1)
        np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-15)
        check_factors(block)


def check_factors(block: dict) -> None:
    """What a term adds to an entry is made of the numbers that stand in its table."""
    letters = {name: chr(97 + k) for k, name in enumerate(chain(*block["indices"]))}
    for term in block["terms"]:
        sides = "".join(letters.values())
        sizes = dict(zip(letters.values(), chain(*block["shapes"]), strict=True))
        total = np.zeros([sizes[letter] for letter in sides])
        for n in range(block["samples"]):
            product = np.full_like(total, term["number"])
            for factor in term["factors"]:
                array = np.reshape(factor["values"][n], factor["shape"])
                axes = "".join(letters[name] for name in factor["axes"])
                ones = np.ones_like(total)
                product = product * np.einsum(f"{axes},{sides}->{sides}", array, ones)
            total += product
        expected = total / block["samples"] if block["mean"] else total
        np.testing.assert_allclose(term["values"], expected.reshape(-1), rtol=1e-12, atol=1e-15)


def test_h_has_names_eigenvalues_and_a_certificate() -> None:
    found = numbers.matrix(TWO_LAYERS)
    assert found["names"][:3] == ["W1[1,1]", "W1[1,2]", "W1[2,1]"]
    values = np.linalg.eigvalsh(np.array(found["matrix"]))
    np.testing.assert_allclose(found["eigenvalues"], values, atol=1e-14)
    assert "0 undecided" in found["inertia"]
    assert "double backward" in found["certificate"]


def test_a_cost_by_central_differences_has_the_same_curvature() -> None:
    numbered, found = NumberedNetwork.of(TWO_LAYERS), numbers.matrix(TWO_LAYERS)
    theta, h = numbered.layout.flatten(numbered.parameters), 1e-4
    step = torch.zeros_like(theta)
    step[4] = h

    def J(s: torch.Tensor) -> float:
        return float(numbered.value(numbered.layout.unflatten(theta + s)))

    assert J(torch.zeros_like(theta)) == pytest.approx(found["value"])
    curvature = (J(step) - 2 * J(torch.zeros_like(theta)) + J(-step)) / h**2
    assert curvature == pytest.approx(found["matrix"][4][4], abs=1e-6)


def test_a_block_that_is_none_is_refused() -> None:
    reply = BROWSER.post("/numbers/block", json={**TWO_LAYERS, "rows": "W7", "columns": "<b>"})
    assert reply.status_code == 422
    assert "W7" in reply.json()["error"]


# ---------------------------------------------------------------- the plane


def test_the_model_in_the_plane_is_that_of_all_weights() -> None:
    form = {**TWO_LAYERS, "u": "eigenvector 0", "v": "weight 2", "reach": "0.5"}
    found = plane.plane(form)
    model = hesse.quadratic(NumberedNetwork.of(form).cost)
    U = torch.tensor(found["basis"], dtype=torch.float64).T
    np.testing.assert_allclose(U.T @ U, np.eye(2), atol=1e-14)
    np.testing.assert_allclose(found["gradient"], U.T @ model.gradient, atol=1e-14)
    np.testing.assert_allclose(found["hessian"], U.T @ model.product(U), atol=1e-13)
    # A row for each b, and θ in the middle of both.
    line, side = found["line"], plane.POINTS
    assert (line[0], line[side // 2], line[-1]) == (-0.5, 0.0, 0.5)
    a, b = 7, 50
    there = model.true(U @ torch.tensor([line[a], line[b]], dtype=torch.float64))
    assert found["true"][b * side + a] == pytest.approx(there, rel=1e-13)
    assert found["true"][side * side // 2] == pytest.approx(found["value"], rel=1e-14)


def test_steps_are_those_of_the_model() -> None:
    form = {**said("2-1, no biases"), "u": "weight 0", "v": "weight 1"}
    found = plane.plane(form)
    H, g = np.array(found["hessian"]), np.array(found["gradient"])
    for step in found["trust"]:
        s, λ = np.array(step["vector"]), step["multiplier"]
        np.testing.assert_allclose((H + λ * np.eye(2)) @ s, -g, atol=1e-10)
        assert np.linalg.norm(s) <= step["radius"] * (1 + 1e-9)
        assert step["predicted"] == pytest.approx(-(g @ s + s @ H @ s / 2), abs=1e-12)
    for step in found["cubic"]:
        s = np.array(step["vector"])
        assert step["multiplier"] == pytest.approx(step["bound"] * np.linalg.norm(s) / 2, rel=1e-6)
    assert "vector" in found["newton"] or "newton(damping=" in found["newton"]["refused"]


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"u": "weight 0", "v": "weight 0"}, "v: weight 0 is weight 0 again"),
        ({"u": "weight 99", "v": "weight 0"}, "u: expected 'weight k'"),
        ({"u": "weight 0", "v": "<script>"}, "v: expected 'weight k'"),
        ({"u": "axis 0", "v": "weight 1"}, "u: expected 'weight k'"),
        ({"u": "weight 0", "v": "weight 1", "reach": "nan"}, "reach: expected a number"),
        ({"u": "weight 0", "v": "weight 1", "reach": "1e99"}, "reach: expected a number"),
        ({**said("1-1, no biases"), "u": "weight 0", "v": "weight 0"}, "needs two parameters"),
    ],
)
def test_a_plane_that_is_none_is_refused(form, told) -> None:
    reply = BROWSER.post("/numbers/plane", json={**TWO_LAYERS, **form})
    assert reply.status_code == 422
    assert told in reply.json()["error"]


def test_a_cost_that_is_not_finite_far_away_is_drawn_where_it_is() -> None:
    form = {"network": "1-1, exp, no biases", "arrays": "W1 = [[0]]\nx = [[1]]\ny = [[0]]"}
    wide = {**said("2-1, exp, no biases"), "u": "weight 0", "v": "weight 1", "reach": "1e5"}
    found = plane.plane(wide)
    assert None in found["true"]
    json.dumps(found, allow_nan=False)
    assert numbers.matrix(form)["matrix"] == [[2.0]]


# ---------------------------------------------------------------- the page


def test_the_page_holds_what_its_link_says_and_runs_none_of_it() -> None:
    hostile = '"></textarea><script>alert(1)</script>'
    link = {"network": hostile, "arrays": hostile, "seed": hostile}
    page = BROWSER.get("/numbers", params=link).text
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)") == 3


@pytest.mark.parametrize("body", ["[", "[1]", '{"network": 1}', "[" * 100_000, "\x00"])
def test_a_body_that_is_none_is_refused(body) -> None:
    assert BROWSER.post("/numbers/matrix", content=body).status_code == 400


def test_a_body_without_end_is_refused() -> None:
    reply = BROWSER.post("/numbers/matrix", content=(b" " * (1 << 16) for _ in range(20)))
    assert reply.status_code == 413


def test_numbers_are_asked_by_this_page_alone() -> None:
    elsewhere = {"Origin": "http://example.org"}
    assert BROWSER.post("/numbers/matrix", json={}, headers=elsewhere).status_code == 403
    assert BROWSER.get("/numbers/matrix").status_code == 405


def test_a_process_that_was_forked_computes_them() -> None:
    # Threads that were begun before the fork would be waited for until the time is over.
    found = Workers(seconds=60.0).answer(numbers.matrix, TWO_LAYERS)
    expected = numbers.matrix(TWO_LAYERS)["matrix"]
    np.testing.assert_allclose(found["matrix"], expected, rtol=1e-12, atol=1e-15)
