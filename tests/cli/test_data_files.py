"""Data in .csv and .pt files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hesse
from hesse.cli.inputs.cost import build_cost
from hesse.cli.inputs.data import load_data

TABLE = "a,b,price\n1,2.5,3\n-1e-1,4,0\n\n"


def csv(text: str | bytes) -> str:
    Path("d.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return "d.csv"


@pytest.mark.parametrize("text", [TABLE, TABLE.replace("\n", "\r\n"), "\ufeff" + TABLE])
def test_a_table_of_numbers(folder: Path, text: str) -> None:
    X, y = load_data(csv(text), torch.float64)
    assert X.tolist() == [[1, 2.5], [-0.1, 4]] and y.tolist() == [[3], [0]]
    assert (X.dtype, y.dtype) == (torch.float64, torch.float64)
    X, y = load_data("d.csv", torch.float32, "a")
    assert X.tolist() == [[2.5, 3], [4, 0]] and y.dtype == torch.float32
    X, y = load_data("d.csv", torch.float32, classes=True)
    assert y.tolist() == [3, 0] and y.dtype == torch.int64 and X.dtype == torch.float32


def test_a_table_is_a_cost_like_its_arrays(folder: Path) -> None:
    (folder / "other.py").write_text(
        "import torch\ntorch.manual_seed(0)\n"
        "net, one = torch.nn.Linear(3, 4), torch.nn.Linear(3, 1)\n"
    )
    X, y = np.random.default_rng(0).normal(size=(6, 3)), np.array([0, 1, 2, 3, 0, 1])
    rows = [[*x, int(label)] for x, label in zip(X.tolist(), y.tolist(), strict=True)]
    lines = ["p,q,r,label", *(",".join(map(repr, row)) for row in rows)]
    csv("\n".join(lines))
    for model, loss, shape in (("net", "cross_entropy", (6,)), ("one", "mse", (6, 1))):
        np.savez(folder / "same.npz", X=X, y=y.reshape(shape))
        costs = [
            build_cost(f"other.py:{model}", data, loss, dtype="float64")
            for data in ("d.csv", "same.npz")
        ]
        assert hesse.value(costs[0]) == hesse.value(costs[1])


WRONG: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "text": (
        "a,b\n1,2\n3,x\n",
        {},
        "'d.csv', line 3, column 'b': expected a finite number, got 'x'",
    ),
    "empty cell": ("a,b\n1,\n", {}, "line 2, column 'b': expected a finite number, got ''"),
    "nan": ("a,b\nnan,1\n", {}, "line 2, column 'a': expected a finite number, got 'nan'"),
    "inf": ("a,b\n1,-inf\n", {}, "line 2, column 'b'"),
    "grouped": ("a,b\n1,1_000\n", {}, "got '1_000'"),
    "short": ("a,b\n1,2\n\n3\n", {}, "line 4: expected 2 cells, as many as there are names, got 1"),
    "long": ("a,b\n1,2,3\n", {}, "line 2: expected 2 cells"),
    "no names": ("1,2\n3,4\n", {}, "its first line holds numbers, 1, 2; expected the names"),
    "one column": ("a;b\n1;2\n", {}, "has one column, 'a;b'; expected inputs and a target"),
    "index": (",a,b\n0,1,2\n", {}, "column 1 has no name"),
    "twice": ("a,b,a\n1,2,3\n", {}, "two columns are named 'a'"),
    "empty": ("", {}, "'d.csv' is empty"),
    "names alone": ("a,b\n", {}, "has names of columns, and no numbers below"),
    "bytes": (b"a,b\n\xff,1\n", {}, "is not text in UTF-8 (byte 4)"),
    "target": ("price,b\n1,2\n", {"target": "prize"}, "--target: 'd.csv' has no column 'prize'"),
    "near": ("price,b\n1,2\n", {"target": "prize"}, "the nearest names in it: 'price'"),
    "class": ("a,b\n1,2\n1,0.5\n", {"classes": True}, "column 'b': expected numbers of classes"),
    "minus": ("a,b\n1,-1\n", {"classes": True}, "got -1 in row 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_table_that_is_none_is_told_where(folder: Path, case: str) -> None:
    text, options, said = WRONG[case]
    with pytest.raises(hesse.HesseError) as caught:
        load_data(csv(text), torch.float64, **options)
    assert said in str(caught.value)


def test_a_target_is_of_a_table(folder: Path) -> None:
    with pytest.raises(hesse.HesseError, match=r"--target is for a \.csv file in --data"):
        load_data("data.npz", torch.float64, "y")


X, Y, W = torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 1]), torch.ones(3)


@pytest.mark.parametrize("held", [{"X": X, "y": Y}, {"x": X, "y": Y, "z": W}, (X, Y), [X, Y]])
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_tensors_that_torch_wrote(folder: Path, held: Any, suffix: str) -> None:
    torch.save(held, folder / f"d{suffix}")
    inputs, targets = load_data(f"d{suffix}", torch.float64)
    assert inputs.dtype == torch.float64 and torch.equal(inputs, X.double())
    assert torch.equal(targets, Y)


def test_weights_beside_them(folder: Path) -> None:
    torch.save((X, Y, W), folder / "d.pt")
    assert len(load_data("d.pt", torch.float32)) == 3


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (X, "'d.pt' holds a Tensor; expected (X, y), (X, y, weights) or"),
        ((X,), "holds a tuple; expected (X, y)"),
        ((X, "text"), "holds a tuple; expected (X, y)"),
        ({"X": X}, "holds 'X'; expected inputs named 'X' or 'x' and targets named 'y'"),
        ({"X": X, "y": "text"}, "holds a dict; expected"),
        (torch.nn.Linear(2, 1), "holds other objects than tensors, and is not read"),
    ],
)
def test_what_torch_wrote_besides(folder: Path, held: Any, said: str) -> None:
    torch.save(held, folder / "d.pt")
    with pytest.raises(hesse.HesseError) as caught:
        load_data("d.pt", torch.float64)
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk"])
def test_what_torch_did_not_write(folder: Path, content: bytes) -> None:
    (folder / "d.pt").write_bytes(content)
    with pytest.raises(hesse.HesseError, match=r"--data: 'd\.pt' "):
        load_data("d.pt", torch.float64)
