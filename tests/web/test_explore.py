"""The page for a saved Hessian: what it holds, windows of it, its spectrum, and no other file."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import hesse
from hesse.errors import HesseError
from hesse.web import explore
from web.answering import client

NAMES = ("0.weight", "0.bias", "<script>alert(1)</script>")
LAYOUT = hesse.Layout(NAMES, ((10, 14), (10,), ()))
P = LAYOUT.size


def symmetric(size: int) -> torch.Tensor:
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(0)).double()
    return matrix + matrix.T


H = hesse.BlockHessian(LAYOUT, matrix=symmetric(P))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("saved")
    for ending in ("safetensors", "npz", "zarr"):
        H.save(made / f"h.{ending}")
    return made


@pytest.fixture(scope="module", params=["safetensors", "npz", "zarr"])
def saved(folder: Path, request: pytest.FixtureRequest) -> str:
    return str(folder / f"h.{request.param}")


def window(path: str, top: int, left: int, rows: int, columns: int) -> dict:
    where = {"top": top, "left": left, "rows": rows, "columns": columns}
    return explore.window(path, {name: str(number) for name, number in where.items()})


def largest(matrix: np.ndarray, rows: list[int], columns: list[int]) -> np.ndarray:
    """The entry of largest size of each cell, one cell after the other."""
    patches = [[matrix[i:k, j:m].ravel() for j, m in pairwise(columns)] for i, k in pairwise(rows)]
    return np.array([[patch[np.abs(patch).argmax()] for patch in row] for row in patches])


@pytest.mark.parametrize("where", [(0, 0, P, P), (3, 100, 148, 51), (130, 5, 21, 140)])
def test_a_window_shows_the_largest_entry_of_each_cell(saved, where) -> None:
    found = window(saved, *where)
    assert found["what"] == "largest"
    assert (found["rows"][0], found["rows"][-1]) == (where[0], where[0] + where[2])
    expected = largest(H.dense().numpy(), found["rows"], found["columns"])
    np.testing.assert_allclose(np.array(found["cells"]), expected, rtol=1e-3)


def test_zoomed_in_a_window_shows_entries(saved) -> None:
    found = window(saved, 137, 2, 14, 9)
    assert found["what"] == "entry"
    assert np.array_equal(found["cells"], H.dense()[137:151, 2:11].numpy())


def test_of_a_file_no_more_is_read_than_is_shown(folder, tmp_path) -> None:
    whole = (folder / "h.safetensors").read_bytes()
    damaged = tmp_path / "h.safetensors"
    damaged.write_bytes(whole[:-8] + bytes(8))
    assert window(str(damaged), 0, 0, 9, 9) == window(str(folder / "h.safetensors"), 0, 0, 9, 9)
    # All of it is held against its checksum where it is told of.
    with pytest.raises(HesseError, match="the file is damaged"):
        explore.about(str(damaged), {})


def test_of_a_store_too_large_to_read_the_tiles_are_shown(folder, monkeypatch) -> None:
    monkeypatch.setattr(explore, "_AT_ONCE", 100)
    found = window(str(folder / "h.zarr"), 0, 0, P, P)
    assert found["what"] == "root mean square"
    cells = np.array(found["cells"])
    tiles = [(0, 0, H["0.weight", "0.weight"]), (0, -4, H["0.weight", "0.bias"])]
    for rows, columns, block in tiles:
        assert cells[rows, columns] == pytest.approx(float(block.square().mean().sqrt()), rel=1e-3)
    np.testing.assert_array_equal(cells, cells.T)


def test_blocks_that_were_not_computed_are_empty(tmp_path) -> None:
    blocks = {(a, a): H[a, a].reshape(n, n) for a, n in zip(NAMES[:2], (140, 10), strict=True)}
    path = tmp_path / "some.safetensors"
    hesse.BlockHessian(LAYOUT, blocks=blocks).save(path)
    found = window(str(path), 135, 135, P - 135, P - 135)
    cells = np.array(found["cells"], dtype=float)
    assert np.isnan(cells[:5, 5:]).all()
    assert not np.isnan(cells[:5, :5]).any()
    about = explore.about(str(path), {})
    assert about["count"] == 2
    assert about["layers"][1]["norm"] is None
    with pytest.raises(HesseError, match="blocks"):
        explore.spectrum(str(path), {})


def test_what_is_told_of_it(saved) -> None:
    about = explore.about(saved, {})
    assert [one["name"] for one in about["parameters"]] == list(NAMES)
    assert [one["begin"] for one in about["parameters"]] == [0, 140, 150]
    assert [one["shape"] for one in about["parameters"]] == [[10, 14], [10], []]
    norms = [block["norm"] for block in about["blocks"]]
    assert norms == sorted(norms, reverse=True)
    own = next(one for one in about["blocks"] if one["rows"] == one["columns"] == "0.bias")
    assert own["trace"] == pytest.approx(float(H["0.bias", "0.bias"].trace()))
    layer = H.dense()[:150, :150]
    assert about["layers"][0]["norm"] == pytest.approx(float(layer.norm()))
    assert about["layers"][0]["trace"] == pytest.approx(float(layer.trace()))


def test_its_spectrum(saved) -> None:
    found = explore.spectrum(saved, {})
    np.testing.assert_allclose(
        found["eigenvalues"], np.linalg.eigvalsh(H.dense().numpy()), atol=1e-10
    )
    assert found["inertia"] == str(H.inertia())


def test_a_spectrum_that_takes_too_long_is_not_begun(saved, monkeypatch) -> None:
    monkeypatch.setattr(explore, "MOST_EIGENVALUES", 100)
    with pytest.raises(HesseError, match=r"has 151 rows, and up to 100 .* hesse.density\(H\)"):
        explore.spectrum(saved, {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"top": "-1"},
        {"top": str(P)},
        {"rows": "0"},
        {"rows": str(P + 1)},
        {"columns": "1e9"},
        {"left": "9" * 5000},
        {"left": "<script>"},
        {"rows": "٣"},
    ],
)
def test_a_window_beside_the_matrix_is_refused(folder, wrong) -> None:
    (name,) = wrong
    with pytest.raises(HesseError, match=f"^{name}: expected a whole number"):
        explore.window(
            str(folder / "h.npz"),
            {"top": "0", "left": "0", "rows": "5", "columns": "5", **wrong},
        )


class Hostile:
    def __reduce__(self) -> tuple:
        return pytest.fail, ("a pickle was executed",)


@pytest.mark.parametrize(
    "arrays",
    [
        {"w,b": np.ones((2, 1))},
        {"w,w": np.ones((2, 2)), "w,b": np.ones((2, 1))},
        {"w": np.ones((2, 3))},
        {"w": np.array([Hostile()], dtype=object)},
        {"w,w": np.array(["text"])},
        {"w": np.eye(2) * 1j},
        {"w": np.array([[1.0, 2.0], [3.0, 4.0]])},
        {"w,w": np.array([[1.0, 2.0], [3.0, 4.0]])},
        {"w": np.float64(3)},
        {"w": np.ones((2, 2, 2))},
        {},
    ],
)
def test_arrays_that_are_no_hessian_are_refused(tmp_path, arrays) -> None:
    np.savez(tmp_path / "h.npz", **arrays)
    with pytest.raises(HesseError, match=r"h\.npz|matrix"):
        explore.about(str(tmp_path / "h.npz"), {})


def test_files_that_are_none_are_refused(tmp_path) -> None:
    (tmp_path / "h.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "h.safetensors").write_bytes(b"no tensors")
    for name in ("h.npz", "h.safetensors", "missing.zarr", "missing.npz"):
        with pytest.raises(HesseError):
            explore.about(str(tmp_path / name), {})


def test_a_square_matrix_alone_is_one_parameter(tmp_path) -> None:
    np.savez(tmp_path / "h.npz", H=np.diag([2.0, -1.0]))
    path = str(tmp_path / "h.npz")
    assert explore.about(path, {})["parameters"] == [{"name": "H", "shape": [2], "begin": 0}]
    assert explore.spectrum(path, {})["eigenvalues"] == [-1.0, 2.0]


@pytest.mark.parametrize("dtype", [int, bool, np.float16, np.longdouble])
def test_other_numbers_are_taken_as_float64(tmp_path, dtype) -> None:
    np.savez(tmp_path / "h.npz", H=np.eye(2, dtype=dtype))
    path = str(tmp_path / "h.npz")
    assert explore.about(path, {})["layers"][0]["trace"] == 2.0
    assert window(path, 0, 0, 2, 2)["cells"] == [[1.0, 0.0], [0.0, 1.0]]
    assert explore.spectrum(path, {})["eigenvalues"] == [1.0, 1.0]


# ---------------------------------------------------------------- the page


def test_the_page_reads_no_file_but_the_one_of_the_command_line(folder) -> None:
    browser = client(saved=folder / "h.npz")
    assert "<h1>h.npz</h1>" in browser.get("/explore").text
    elsewhere = {"path": "/etc/passwd", "saved": "/etc/passwd", "file": "/etc/passwd"}
    assert browser.get("/explore/about", params=elsewhere).json()["name"] == "h.npz"
    for path in ("/explore/../../etc/passwd", "/explore/%2e%2e/etc/passwd", "/static/../server.py"):
        assert browser.get(path).status_code == 404


def test_without_a_file_the_page_says_how() -> None:
    browser = client()
    page = browser.get("/explore").text
    assert "hesse serve h.safetensors" in page
    assert "explore.js" not in page
    assert browser.get("/explore/about").status_code == 404


def test_a_hostile_name_of_a_file_is_text(tmp_path) -> None:
    path = tmp_path / "<img src=x onerror=alert(1)>.npz"
    np.savez(path, H=np.eye(2))
    page = client(saved=path).get("/explore").text
    assert "<img" not in page
    assert "&lt;img" in page
