"""Models, losses and data in files, and the errors about them."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import hesse
from hesse.cli.inputs.cost import build_cost, load_model
from hesse.cli.inputs.data import load_data
from hesse.cli.inputs.places import check_writable, parse_bytes, require


def cost(
    model: str = "model.py:net", data: str = "data.npz", loss: str = "mse", **options: object
) -> hesse.Cost:
    defaults = {"params": None, "penalty": None, "dtype": None}
    return build_cost(model, data, loss, **{**defaults, **options})  # type: ignore[arg-type]


def test_a_module_or_what_makes_one(folder: Path) -> None:
    (folder / "classes.py").write_text(
        "from torch import nn\nclass Net(nn.Linear):\n    def __init__(self): super().__init__(3,"
        " 2)\n"
    )
    assert isinstance(load_model("model.py:net"), nn.Sequential)
    assert isinstance(load_model("model.py:make"), nn.Sequential)
    assert isinstance(load_model("classes.py:Net"), nn.Linear)
    assert load_model(f"{folder}/model.py:net") is load_model("model.py:net"), "one file runs once"


def test_a_file_may_import_its_neighbours(folder: Path) -> None:
    (folder / "hesse_test_neighbour.py").write_text("from torch import nn\nnet = nn.Linear(3, 2)\n")
    (folder / "importer.py").write_text("from hesse_test_neighbour import net\n")
    assert isinstance(load_model("importer.py:net"), nn.Linear)
    del sys.modules["hesse_test_neighbour"]


@pytest.mark.parametrize("names", [("X", "y"), ("x", "y"), ("arr_0", "arr_1")])
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_arrays_by_name(folder: Path, names: tuple[str, str], suffix: str) -> None:
    x, y = np.arange(6.0).reshape(3, 2), np.array([0, 1, 1], dtype=np.int32)
    path = folder / f"arrays{suffix}"
    if suffix == ".npz":
        np.savez(path, extra=np.ones(1), **{names[0]: x, names[1]: y})  # type: ignore[arg-type]
    else:
        save_file(
            {names[0]: torch.from_numpy(x), names[1]: torch.from_numpy(y), "extra": torch.ones(1)},
            path,
        )
    inputs, targets = load_data(str(path), torch.float32)
    assert inputs.dtype == torch.float32 and targets.dtype == torch.int64
    assert torch.equal(inputs, torch.from_numpy(x).float()) and torch.equal(
        targets, torch.from_numpy(y).long()
    )


def test_big_endian_and_masks_keep_their_values() -> None:
    from hesse.cli.inputs.data import _tensor

    assert _tensor("d", np.array([1.5, 2.0], dtype=">f8"), torch.float64).tolist() == [1.5, 2.0]
    assert _tensor("d", np.array([True, False]), torch.float64).dtype == torch.bool


@pytest.mark.parametrize(
    "data", ["data.npz", "model.py:pair", "model.py:arrays", "model.py:loader", "model.py:batches"]
)
def test_every_kind_of_data_makes_a_cost(folder: Path, data: str) -> None:
    samples = 12 if data.endswith("batches") else 6
    assert repr(cost(data=data)) == f"Cost(Sequential, mse_loss, {samples} samples, P = 26)"


def test_a_loader_gives_the_numbers_of_its_pair(folder: Path) -> None:
    assert hesse.value(cost(data="model.py:loader")) == pytest.approx(
        hesse.value(cost(data="model.py:pair")), rel=1e-6
    )


def test_options_reach_the_cost(folder: Path) -> None:
    made = cost(
        model="model.py:make",
        loss="model.py:quartic",
        data="model.py:loader",
        params=["0.*", "2.bias"],
        penalty=0.5,
        dtype="float64",
    )
    assert made.dtype == torch.float64
    assert made.layout.names == ("0.weight", "0.bias", "2.bias")
    assert made.penalty == 0.5
    assert made.loss is not None and made.loss.name.startswith("quartic")


WRONG = {
    "not a reference": ({"model": "model.py"}, "MODEL: expected file.py:name, got 'model.py'"),
    "no file": (
        {"model": "modle.py:net"},
        "MODEL: there is no file 'modle.py'; the nearest .py files there: 'model.py'",
    ),
    "no folder": ({"model": "there/model.py:net"}, "MODEL: there is no folder 'there'"),
    "no name": (
        {"model": "model.py:nett"},
        "MODEL: model.py has no 'nett'; the nearest names in it: 'net'",
    ),
    "not a module": (
        {"model": "model.py:number"},
        "MODEL: expected an nn.Module, or a function of no arguments that makes one",
    ),
    "needs arguments": (
        {"model": "model.py:needs"},
        "MODEL: model.py:needs needs arguments (missing a required argument: 'width')",
    ),
    "fails": (
        {"model": "model.py:fails"},
        "MODEL: running model.py:fails failed at line 29: RuntimeError: no weights",
    ),
    "syntax": ({"model": "syntax.py:net"}, "failed: SyntaxError:"),
    "exits": ({"model": "exits.py:net"}, "failed at line 2: SystemExit: 3"),
    "no data": (
        {"data": "dota.npz"},
        "--data: there is no file 'dota.npz'; the nearest .npz files there: 'data.npz'",
    ),
    "kind of data": (
        {"data": "data.txt"},
        (
            "--data: expected a .npz, .safetensors, .pt, .pth, .csv file or file.py:name, got"
            " 'data.txt'"
        ),
    ),
    "names of arrays": (
        {"data": "names.npz"},
        (
            "--data: 'names.npz' holds 'a', 'b', 'c'; expected inputs named 'X' or 'x' and targets"
            " named 'y'"
        ),
    ),
    "pickled": (
        {"data": "pickled.npz"},
        "--data: 'pickled.npz' is not a .npz archive of plain arrays",
    ),
    "junk npz": ({"data": "junk.npz"}, "--data: 'junk.npz' is not a .npz archive of plain arrays"),
    "junk safetensors": (
        {"data": "junk.safetensors"},
        "--data: 'junk.safetensors' cannot be read as tensors",
    ),
    "text": (
        {"data": "text.npz"},
        "--data: text.npz has an array of <U1; expected floating numbers or integers",
    ),
    "read once": ({"data": "model.py:once"}, "can be read only once"),
    "not data": ({"data": "model.py:number"}, "data: expected a pair (X, y)"),
    "other width": (
        {"data": "wide.npz"},
        (
            "could not be evaluated on --data wide.npz: model: it failed on batch 0 (float32 (6,"
            " 5)) with RuntimeError:"
        ),
    ),
    "loss": ({"loss": "msee"}, "loss: no loss is named 'msee'"),
    "loss in a file": ({"loss": "model.py:cubic"}, "--loss: model.py has no 'cubic'"),
    "params": ({"params": ["7.*"]}, "params: no parameter is named or matches '7.*'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_told(folder: Path, case: str) -> None:
    (folder / "syntax.py").write_text("def net(:\n")
    (folder / "exits.py").write_text("import sys\nsys.exit(3)\n")
    np.savez(folder / "names.npz", a=np.ones(2), b=np.ones(2), c=np.ones(2))
    np.savez(folder / "pickled.npz", X=np.array([{}, None], dtype=object), y=np.ones(2))
    np.savez(folder / "text.npz", X=np.array(["a", "b"]), y=np.ones(2))
    np.savez(folder / "wide.npz", X=np.ones((6, 5)), y=np.ones((6, 2)))
    (folder / "junk.npz").write_text("hello")
    (folder / "junk.safetensors").write_text("hello")
    wrong, text = WRONG[case]
    with pytest.raises(hesse.HesseError) as caught:
        cost(**wrong)  # type: ignore[arg-type]
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1000", 1000),
        ("500MB", 500_000_000),
        ("2 gb", 2_000_000_000),
        ("1.5GiB", 1_610_612_736),
        ("64k", 64_000),
        ("1e", None),
    ]
    + [(text, None) for text in ("", "lots", "-1GB", "0", "nan", "2XB", "1,5GB")],
)
def test_bytes(text: str, count: int | None) -> None:
    if count is not None:
        assert parse_bytes(text) == count
        return
    with pytest.raises(
        hesse.HesseError, match=r"--memory: .* is not a number of bytes; write for instance 500MB"
    ):
        parse_bytes(text)


def test_outputs_are_refused_before_any_work(folder: Path) -> None:
    check_writable("--out", None, (".png",))
    check_writable("--out", folder / "h.PNG", (".png",))
    (folder / "there.png").mkdir()
    for path, text in {
        "h.gif": "--out: 'h.gif' should end with .png or .pdf",
        "no/h.png": "--out: there is no folder 'no'; make it first, or name another",
        "there.png": "--out: 'there.png' is a folder; name a file in it",
    }.items():
        with pytest.raises(hesse.HesseError) as caught:
            check_writable("--out", Path(path), (".png", ".pdf"))
        assert str(caught.value) == text


def test_a_missing_package_names_its_extra() -> None:
    require("torch", "all", "nothing")
    with pytest.raises(
        hesse.HesseError,
        match=(
            r"the demo needs the package hesse_none; install it with: pip install 'hesse\[demo\]'"
        ),
    ):
        require("hesse_none", "demo", "the demo")
