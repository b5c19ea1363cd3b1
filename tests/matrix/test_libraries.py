"""A Hessian among other libraries: as an array, a mapping of blocks, a table; in files that others
read."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hesse
from hesse.errors import HesseImportError, HesseKeyError, HesseTypeError, HesseValueError


@pytest.fixture(scope="module")
def cost() -> hesse.Cost:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    data = torch.randn(7, 2).double(), torch.randn(7, 1).double()
    return hesse.Cost(net, "mse", data)


@pytest.fixture(scope="module")
def H(cost: hesse.Cost) -> hesse.BlockHessian:
    return hesse.hessian(cost)


def test_as_an_array(H: hesse.BlockHessian) -> None:
    array = np.asarray(H)
    assert array.shape == H.shape == (13, 13) and array.dtype == np.float64
    assert np.array_equal(array, H.dense().numpy()) and not array.flags.writeable
    assert np.array(H).flags.writeable and np.asarray(H, dtype=np.float32).dtype == np.float32
    assert np.allclose(np.linalg.eigvalsh(H), H.eigvalsh())
    assert H.T is H


@pytest.mark.parametrize("shape", [(13,), (13, 2)])
def test_products_from_both_sides(H: hesse.BlockHessian, shape: tuple[int, ...]) -> None:
    dense, v = H.dense(), torch.randn(shape, dtype=torch.float64)
    u = v.mT if v.ndim == 2 else v
    assert torch.allclose(H @ v, dense @ v) and torch.allclose(u @ H, u @ dense)
    found = H @ v.numpy()
    assert isinstance(found, np.ndarray) and np.allclose(found, (dense @ v).numpy())
    found = u.numpy() @ H
    assert isinstance(found, np.ndarray) and np.allclose(found, (u @ dense).numpy())


def test_an_array_of_another_dtype(H: hesse.BlockHessian) -> None:
    with pytest.raises(HesseTypeError, match=r"v is float32; pass v\.astype\('float64'\)"):
        _ = H @ np.zeros(13, dtype=np.float32)


def test_as_a_mapping(H: hesse.BlockHessian) -> None:
    assert len(H) == 10 and list(H) == list(H.pairs) == list(H.keys())
    assert ("2.bias", "0.weight") in H and ("0.weight", "2.bias") in H
    assert ("0.weight", "another") not in H and "0.weight" not in H
    assert {pair: block.shape for pair, block in dict(H).items()} == {
        pair: block.shape for pair, block in H.items()
    }
    assert [block.shape for block in H.values()] == [H[pair].shape for pair in H.pairs]


def test_patterns_are_rows_and_columns(H: hesse.BlockHessian) -> None:
    dense = H.dense()
    assert torch.equal(H["0.*", "2.*"], dense[:9, 9:])
    assert torch.equal(H["*", "*"], dense)
    assert torch.equal(H[["0.bias", "2.bias"], "*.weight"].T, H["*.weight", ["0.bias", "2.bias"]])
    assert H["0.weight", "2.*"].shape == (6, 4)
    with pytest.raises(HesseKeyError, match=r"no parameter is named '3\.\*'"):
        H["3.*", "0.*"]


def test_pairs_by_patterns(cost: hesse.Cost, H: hesse.BlockHessian) -> None:
    some = hesse.hessian(cost, pairs=[("2.*", "0.*")])
    assert set(some) == {(a, b) for a in ("0.weight", "0.bias") for b in ("2.weight", "2.bias")}
    assert torch.allclose(some["0.*", "2.*"], H["0.*", "2.*"])
    assert hesse.hessian(cost, pairs=[("*", "*")]).pairs == H.pairs


def test_as_a_table(H: hesse.BlockHessian) -> None:
    pytest.importorskip("pandas")
    table = H.to_pandas()
    block = table.loc["0.weight", "2.bias"]
    assert list(block.index) == ["0, 0", "0, 1", "1, 0", "1, 1", "2, 0", "2, 1"]
    assert np.array_equal(block.to_numpy(), H.flat("0.weight", "2.bias").numpy())


def test_as_a_labelled_array(H: hesse.BlockHessian) -> None:
    pytest.importorskip("xarray")
    array = H.to_xarray()
    rows, columns = (array[f"{axis}_parameter"] for axis in array.dims)
    block = array.values[np.ix_(rows.values == "0.bias", columns.values == "2.weight")]
    assert np.array_equal(block, H.flat("0.bias", "2.weight").numpy())


@pytest.mark.parametrize(("method", "library"), [("to_pandas", "pandas"), ("to_xarray", "xarray")])
def test_without_the_library(
    H: hesse.BlockHessian, method: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(HesseImportError, match=rf"{library} is not installed; pip install"):
        getattr(H, method)()


def test_some_blocks_are_no_array(cost: hesse.Cost) -> None:
    some: Any = hesse.hessian(cost, block_diagonal=True)
    with pytest.raises(HesseValueError, match="needs blocks that were not computed"):
        np.asarray(some)


def test_formats_by_ending(H: hesse.BlockHessian, tmp_path: Path) -> None:
    H.save(tmp_path / "h.npz")
    with np.load(tmp_path / "h.npz") as arrays:
        assert arrays["0.weight,2.bias"].shape == (3, 2, 1)
        assert set(arrays) == {f"{a},{b}" for a, b in H}
    H.save(tmp_path / "h.csv")
    with open(tmp_path / "h.csv", newline="") as file:
        lines = list(csv.reader(file))
    assert (
        lines[0][2] == "0.weight" and lines[1][3] == "0, 1" and lines[2][:2] == ["0.weight", "0, 0"]
    )
    assert np.array_equal(np.array([line[2:] for line in lines[2:]], dtype=float), np.asarray(H))
    with pytest.raises(HesseValueError, match=r"not written as '\.pt'.*\.safetensors, \.zarr"):
        H.save(tmp_path / "h.pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["h.csv", "h.npz"]


def test_a_name_is_no_formula(tmp_path: Path) -> None:
    layout = hesse.Layout(("=1+1", "b"), ((1,), (1,)))
    hesse.BlockHessian(layout, matrix=torch.eye(2)).save(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_text().startswith("parameter,,'=1+1,b")


def test_a_table_is_of_a_size_that_can_be_opened(tmp_path: Path) -> None:
    layout = hesse.Layout(("w",), ((1001,),))
    with pytest.raises(HesseValueError, match="1,001 rows has 1,002,001 cells"):
        hesse.BlockHessian(layout, matrix=torch.eye(1001)).save(tmp_path / "h.csv")
