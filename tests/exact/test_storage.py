"""A Hessian comes back from its file as it was, and nothing else is taken for one."""

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from hesse.errors import HesseError, HesseFileError
from hesse.layout import Layout
from hesse.matrix.block_hessian import BlockHessian
from hesse.matrix.loading import load
from process.damage import check

LAYOUT = Layout(("0.weight", 'odd "name" ∂\n', "scale"), ((2, 3), (3,), ()))
PROVENANCE = {"model": "Sequential", "note": 'quotes " and λ'}


def symmetric(dtype: torch.dtype = torch.float64) -> Tensor:
    half = torch.arange(LAYOUT.size**2, dtype=dtype).reshape(LAYOUT.size, LAYOUT.size)
    return half + half.T


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matrix_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    hessian = BlockHessian(LAYOUT, matrix=symmetric(dtype), provenance=PROVENANCE)
    hessian.save(tmp_path / "h.safetensors")
    back = load(str(tmp_path / "h.safetensors"))
    assert back.layout == LAYOUT and back.provenance == PROVENANCE
    assert back.dtype == dtype and torch.equal(back.dense(), hessian.dense())


def test_blocks_come_back_though_they_share_memory(tmp_path: Path) -> None:
    matrix, (a, b, c) = symmetric(), LAYOUT.names
    pairs = [(a, a), (a, b), (c, c)]
    hessian = BlockHessian(
        LAYOUT, blocks={(p, q): matrix[LAYOUT.slice(p), LAYOUT.slice(q)] for p, q in pairs}
    )
    hessian.save(tmp_path / "h")
    back = load(tmp_path / "h")
    assert back.pairs == tuple(pairs)
    assert all(torch.equal(back[pair], hessian[pair]) for pair in pairs)


def test_a_bit_that_was_flipped_is_found(tmp_path: Path) -> None:
    path = tmp_path / "h.safetensors"
    BlockHessian(LAYOUT, matrix=symmetric()).save(path)
    content = bytearray(path.read_bytes())
    for place in (len(content) - 1, len(content) - 100, len(content) - LAYOUT.size**2 * 8 + 3):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(
            HesseFileError, match=r"'matrix' is not as it was written: the file is damaged"
        ):
            load(path)
    path.write_bytes(content)
    assert torch.equal(load(path).dense(), symmetric())


def test_a_loaded_hessian_can_be_saved_over_its_own_file(tmp_path: Path) -> None:
    path = tmp_path / "h.safetensors"
    BlockHessian(LAYOUT, matrix=symmetric()).save(path)
    back = load(path)
    back.save(path)
    assert torch.equal(back.dense(), symmetric()) and torch.equal(load(path).dense(), symmetric())
    assert [entry.name for entry in tmp_path.iterdir()] == ["h.safetensors"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "h.safetensors"
    path.write_bytes(b"old")

    def full(tensors: dict, filename: Path, metadata: dict) -> None:
        Path(filename).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(HesseFileError, match=r"save: cannot write .*No space left"):
        BlockHessian(LAYOUT, matrix=symmetric()).save(path)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_save_into_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HesseFileError, match=r"save: there is no folder .*nowhere'; make it first"):
        BlockHessian(LAYOUT, matrix=symmetric()).save(tmp_path / "nowhere" / "h")


def test_load_of_no_file(tmp_path: Path) -> None:
    with pytest.raises(HesseFileError, match=r"load: there is no file .*h\.safetensors"):
        load(tmp_path / "h.safetensors")


@pytest.mark.parametrize("content", [b"", b"{}", b"not a tensor in sight" * 9, b"\xff" * 64])
def test_load_of_something_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "h").write_bytes(content)
    with pytest.raises(HesseFileError, match="cannot be read as safetensors; is it cut short"):
        load(tmp_path / "h")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.99])
def test_load_of_a_file_cut_short(tmp_path: Path, share: float) -> None:
    path = tmp_path / "h"
    BlockHessian(LAYOUT, matrix=symmetric()).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(HesseFileError, match="cannot be read as safetensors"):
        load(path)


HEADER = {
    "format": 2,
    "names": ["w", "b"],
    "shapes": [[2], []],
    "blocks": None,
    "provenance": {},
    "checksums": {},
    "finite": True,
}


@pytest.mark.parametrize(
    ("header", "tensors", "expected"),
    [
        (None, {"matrix": torch.eye(3)}, "its metadata has no 'hesse' entry"),
        ("{", {"matrix": torch.eye(3)}, "its description is not JSON"),
        ("[" * 100_000, {"matrix": torch.eye(3)}, "its description is not JSON"),
        ([1], {"matrix": torch.eye(3)}, "its description is not a JSON object"),
        ({"format": 1}, {"matrix": torch.eye(3)}, "its format is 1, and this hesse reads 2"),
        ({"finite": None}, {"matrix": torch.eye(3)}, "does not say whether its entries are finite"),
        ({"checksums": None}, {"matrix": torch.eye(3)}, "its checksums are not numbers"),
        ({"checksums": {"matrix": 0}}, {"matrix": torch.eye(3)}, "not as it was written"),
        ({"checksums": {"other": 0}}, {"matrix": torch.eye(3)}, "checksums are of other tensors"),
        ({"shapes": [[10**30], []]}, {"matrix": torch.eye(3)}, "its shapes do not fit its names"),
        ({}, {"matrix": torch.ones(3, 3).triu()}, "'matrix' is not symmetric"),
        ({}, {"matrix": torch.full((3, 3), torch.inf)}, "entries that are not finite"),
        ({"names": ["w", "w"]}, {"matrix": torch.eye(3)}, "no names, or one name twice"),
        ({"names": "wb"}, {"matrix": torch.eye(3)}, "no names, or one name twice"),
        ({"shapes": [[2]]}, {"matrix": torch.eye(3)}, "its shapes do not fit its names"),
        ({"shapes": [[2], [-1]]}, {"matrix": torch.eye(3)}, "its shapes do not fit its names"),
        ({"shapes": [[2], [True]]}, {"matrix": torch.eye(3)}, "its shapes do not fit its names"),
        ({"provenance": {"a": 1}}, {"matrix": torch.eye(3)}, "its provenance is not text"),
        ({"blocks": [[1, 0]]}, {"block 1 0": torch.ones(1, 2)}, "its list of blocks does not fit"),
        ({"blocks": [[0, 2]]}, {"block 0 2": torch.ones(1, 2)}, "its list of blocks does not fit"),
        ({"blocks": []}, {"matrix": torch.eye(3)}, "its list of blocks does not fit"),
        (
            {"blocks": [[0, 0]]},
            {"matrix": torch.eye(3)},
            "it holds 1 tensors, not the 1 that it describes",
        ),
        ({}, {"matrix": torch.eye(4)}, r"'matrix' is F32 \(4, 4\), not F32 or F64 \(3, 3\)"),
        ({"shapes": [[10**12], []]}, {"matrix": torch.eye(4)}, "'matrix' is F32"),
        ({}, {"matrix": torch.eye(3).half()}, "'matrix' is F16"),
        (
            {"blocks": [[0, 0], [1, 1]]},
            {"block 0 0": torch.eye(2), "block 1 1": torch.eye(1).double()},
            "its blocks have several dtypes",
        ),
    ],
)
def test_load_of_a_file_that_is_not_ours(
    tmp_path: Path, header, tensors: dict[str, Tensor], expected: str
) -> None:
    if isinstance(header, dict):
        sums = {key: zlib.crc32(tensor.numpy().tobytes()) for key, tensor in tensors.items()}
        header = {**HEADER, "checksums": sums, **header}
    text = header if isinstance(header, str) else json.dumps(header)
    checksum = f"{zlib.crc32(text.encode()):08x}"
    metadata = None if header is None else {"hesse": text, "checksum": checksum}
    save_file(tensors, tmp_path / "h", metadata=metadata)
    with pytest.raises(HesseFileError, match=expected):
        load(tmp_path / "h")


def test_what_is_not_finite_comes_back(tmp_path: Path) -> None:
    matrix = torch.tensor([[torch.nan, 1.0], [1.0, -torch.inf]])
    BlockHessian(Layout(("w",), ((2,),)), matrix=matrix).save(tmp_path / "h")
    assert torch.equal(load(tmp_path / "h").dense().nan_to_num(), matrix.nan_to_num())


@pytest.mark.parametrize(
    ("matrix", "text"),
    [
        (torch.ones(2, 2).triu(), "'matrix' is not symmetric"),
        (torch.ones(2, 2).half(), "float16; convert it"),
    ],
)
def test_what_load_would_refuse_is_not_saved(tmp_path: Path, matrix: Tensor, text: str) -> None:
    with pytest.raises(HesseError, match=text):
        BlockHessian(Layout(("w",), ((2,),)), matrix=matrix).save(tmp_path / "h")
    assert not list(tmp_path.iterdir())


NO_PATHS = ["", "a\0b", "\ud800", ".", "n" * 256, Path("n" * 256)]


@pytest.mark.parametrize("path", NO_PATHS)
def test_what_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for name, call in {"save": BlockHessian(LAYOUT, matrix=symmetric()).save, "load": load}.items():
        with pytest.raises(HesseError, match=f"^{name}: "):
            call(path)
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_refused() -> None:
    outcomes = check(150)
    assert outcomes["refused"] > 100 and outcomes["forged"]
