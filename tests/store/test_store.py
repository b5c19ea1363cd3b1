"""A Hessian on disk against the same one in memory, and what can happen to a store."""

import contextlib
import errno
import json
import pickle
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from beartype.roar import BeartypeCallHintViolation
from torch import Tensor, nn

import hesse
from hesse.exact import panel_sums
from hesse.exact.planning import TiledWork
from hesse.plot.heat_map import HeatMap
from hesse.process import rates
from hesse.store import archive, chunk, on_disk
from hesse.store.archive import Archive, written_alone
from hesse.store.description import checksum_of
from store.kills import MEMORY, check_kills, tiles
from store.kills import cost as asked

NAMES = ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"]


@pytest.fixture(scope="module")
def cost() -> hesse.Cost:
    return asked()


@pytest.fixture(scope="module")
def expected(cost: hesse.Cost) -> hesse.BlockHessian:
    return hesse.hessian(cost)


@pytest.fixture(scope="module")
def whole(cost: hesse.Cost, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store."""
    path = tmp_path_factory.mktemp("stores") / "h.zarr"
    hesse.hessian(cost, out=path, memory=MEMORY)
    return path


@pytest.fixture(scope="module")
def H(whole: Path) -> hesse.BlockHessian:
    return hesse.load(whole)


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "copy.zarr")


def close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).norm() <= 1e-12 * (expected.norm() + 1e-30))


# ---------------------------------------------------------------- what is read


def test_it_is_the_hessian(H: hesse.BlockHessian, expected: hesse.BlockHessian) -> None:
    dense = H.dense()
    assert torch.equal(dense, dense.T) and close(dense, expected.dense())
    assert H.matrix is None and H.is_complete and H.pairs == expected.pairs
    assert H.certificate is not None and H.certificate.deviation < 1e-10
    assert str(H).splitlines()[1:9] == str(expected).splitlines()[1:9]


@pytest.mark.parametrize("a", NAMES)
@pytest.mark.parametrize("b", NAMES)
def test_every_block(a: str, b: str, H: hesse.BlockHessian, expected: hesse.BlockHessian) -> None:
    assert H[a, b].shape == expected[a, b].shape and close(H[a, b], expected[a, b])
    assert torch.equal(H[a, b], H.blocks[a, b].reshape(H[a, b].shape)) if (a, b) in H.pairs else 1


@pytest.mark.parametrize(
    "index",
    [
        (0,),
        (-1, slice(2, None)),
        (slice(1, 8, 3), 5, slice(None), -2),
        (slice(None), slice(None), slice(2, 2)),
        (8, 7, 8, 7),
        (slice(3, 100), slice(-2, None), slice(None, None, 2)),
    ],
    ids=str,
)
def test_parts_of_a_block(index: Any, H: hesse.BlockHessian, expected: hesse.BlockHessian) -> None:
    for held in (H, expected):
        for a, b in (("0.weight", "0.weight"), ("0.weight", "2.weight"), ("2.weight", "0.weight")):
            inside = index if a == "0.weight" or index[0] != 8 else (1, 7)
            try:
                part = held[a, b][inside]
            except IndexError:
                continue
            assert torch.equal(held[(a, b, *inside)], part)


@pytest.mark.parametrize("index", [(9,), (0,) * 5, ("x",), (1.0,), (True,), (slice(3, 0, -1),)])
def test_no_part_of_a_block(index: Any, H: hesse.BlockHessian) -> None:
    with pytest.raises(hesse.HesseError, match=r"H\[...\]"):
        H[("0.weight", "0.bias", *index)]


def test_products(H: hesse.BlockHessian, expected: hesse.BlockHessian) -> None:
    V = torch.randn(H.layout.size, 3, dtype=H.dtype, generator=torch.Generator().manual_seed(0))
    assert close(H @ V, expected @ V) and close(H @ V[:, 0], expected @ V[:, 0])
    by_name = H @ H.layout.unflatten(V[:, 1].contiguous())
    assert close(H.layout.flatten(by_name), expected @ V[:, 1])
    operator = hesse.as_operator(H)
    assert operator.is_symmetric and close(operator @ V, expected @ V)


def test_what_is_made_of_it(H: hesse.BlockHessian, expected: hesse.BlockHessian) -> None:
    for name, entries in expected.diagonal().items():
        assert close(H.diagonal()[name], entries)
    assert close(H.eigvalsh(), expected.eigvalsh())
    for pair, norm in expected.norms.items():
        assert H.norms[pair] == pytest.approx(norm, rel=1e-12, abs=1e-14)
    image = HeatMap.from_hessian(H).image
    assert np.allclose(image, HeatMap.from_hessian(expected).image, atol=1e-13)


def test_it_travels(H: hesse.BlockHessian, cost: hesse.Cost, tmp_path: Path) -> None:
    dense = H.dense()
    assert torch.equal(pickle.loads(pickle.dumps(H)).dense(), dense)
    H.save(tmp_path / "h.safetensors")
    held = hesse.load(tmp_path / "h.safetensors")
    held.save(tmp_path / "again.zarr")
    again = hesse.load(tmp_path / "again.zarr")
    assert torch.equal(held.dense(), dense) and torch.equal(again.dense(), dense)
    assert again.certificate == H.certificate and again.provenance == H.provenance
    with pytest.raises(hesse.HesseError, match="not overwritten"):
        held.save(tmp_path / "again.zarr")
    with pytest.raises(hesse.HesseError, match=r"H\.save wrote it"):
        hesse.hessian(cost, out=tmp_path / "again.zarr")


def places(held: Any, so_far: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within plain ones."""
    inside = (
        held.items()
        if isinstance(held, dict)
        else enumerate(held)
        if isinstance(held, list)
        else ()
    )
    for key, value in inside:
        yield (*so_far, key)
        yield from places(value, (*so_far, key))


def test_a_description_that_hesse_did_not_write(copy: Path) -> None:
    file = copy / "zarr.json"
    whole = json.loads(file.read_text())
    for way in list(places(whole["attributes"]["hesse"])):
        for value in (None, -1, "x", []):
            other = json.loads(json.dumps(whole))
            held = other["attributes"]["hesse"]
            within = held
            for key in way[:-1]:
                within = within[key]
            within[way[-1]] = value
            other["attributes"]["checksum"] = checksum_of(held)
            file.write_text(json.dumps(other))
            for ask in (hesse.load, hesse.status):
                # Where nothing contradicts it it is taken; else refused by name, here by the
                # checks of annotations as well.
                with contextlib.suppress(hesse.HesseError, BeartypeCallHintViolation):
                    ask(copy)


def test_others_read_it(whole: Path, H: hesse.BlockHessian) -> None:
    group = zarr.open_group(whole, mode="r")
    for a, b in H.pairs:
        block = torch.from_numpy(np.asarray(group[f"{a}/{b}"]))
        held = ~block.isnan()
        assert torch.equal(block[held], H.flat(a, b)[held])
        assert bool(held.all()) or a == b
        assert bool(held.triu().sum() == torch.ones_like(held).triu().sum())


# ---------------------------------------------------------------- other questions


@pytest.mark.parametrize(
    "options",
    [
        {"curvature": "gauss_newton"},
        {"curvature": "fisher_mc"},
        {"block_diagonal": True},
        {"pairs": [("2.weight", "0.bias"), ("4.bias", "4.bias")]},
    ],
    ids=str,
)
def test_other_blocks_and_curvatures(
    options: dict[str, Any], cost: hesse.Cost, tmp_path: Path
) -> None:
    H = hesse.hessian(cost, out=tmp_path / "h.zarr", memory=MEMORY, **options)
    expected = hesse.hessian(cost, **options)
    assert H.pairs == expected.pairs and H.certificate is not None
    assert all(close(H[pair], expected[pair]) for pair in H.pairs)
    if H.is_block_diagonal:
        v = torch.ones(H.layout.size, dtype=H.dtype)
        assert close(H @ v, expected @ v)


def test_names_that_are_no_paths(tmp_path: Path) -> None:
    # Among them those of the files that the format keeps beside what it holds.
    names = ("a/b", "..", "zarr.json", ".zgroup")
    u = {name: torch.ones(k + 1).double() for k, name in enumerate(names)}
    u[""] = torch.ones(()).double()
    cost = hesse.Cost.from_function(
        lambda p: p[""] ** 3 * sum(p[name].sum() * p[".."].square().sum() for name in names), u
    )
    H = hesse.hessian(cost, out=tmp_path / "h.zarr")
    assert close(H.dense(), hesse.hessian(cost).dense())
    assert [path.name for path in tmp_path.iterdir()] == ["h.zarr"]


def test_float32_batches_and_penalty(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = [(torch.randn(n, 4), torch.randn(n, 2)) for n in (5, 3)]
    cost = hesse.Cost(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)), "mse", data,
                      penalty=0.1)  # fmt: skip
    H = hesse.hessian(cost, out=tmp_path / "h.zarr", memory=40_000)
    expected = hesse.hessian(cost).dense()
    assert H.dtype == torch.float32
    assert float((H.dense() - expected).norm() / expected.norm()) < 1e-6


# ---------------------------------------------------------------- interrupted, damaged, refused


def test_killed_processes_go_on() -> None:
    assert sum(check_kills(3).values()) >= 3


@pytest.mark.parametrize(
    ("call", "place"),
    [
        ("os.mkdir", "/c/0"),  # a tile's folder
        ("os.fsync", ""),
        ("os.replace", "zarr.json"),
        ("os.unlink", "notes.1"),
        ("fcntl.flock", ""),
        ("tempfile.TemporaryFile", ""),  # which shows how fast the disk is
    ],
)
def test_whatever_call_a_full_disk_refuses(
    call: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a store that another process left notes in."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nowhere"))
    monkeypatch.setattr(rates, "_WRITTEN", 1000)
    module, name = call.split(".")
    real, path = getattr(sys.modules[module], name), tmp_path / "h.zarr"
    cost = hesse.Cost.from_function(lambda p: (p["x"] ** 4).sum(), {"x": torch.ones(3)})
    refused = []

    def fails(*arguments: Any, **options: Any) -> Any:
        if place in str(arguments) and not refused:
            refused.append(arguments)
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **options)

    monkeypatch.setattr(sys.modules[module], name, fails)
    with pytest.raises(hesse.HesseError, match="No space left on device"):
        hesse.hessian(cost, out=path)
        (path / "notes.1.json").write_text("[]")
        hesse.hessian(cost, out=path)
    assert refused
    assert torch.equal(hesse.hessian(cost, out=path).dense(), 12 * torch.eye(3))


def test_an_interrupted_store_says_so_and_goes_on(
    cost: hesse.Cost, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, written = tmp_path / "h.zarr", 0
    write = Archive.write

    def fails(self: Archive, *arguments: Any) -> float:
        nonlocal written
        written += 1
        if written == 40:
            raise KeyboardInterrupt
        return write(self, *arguments)

    monkeypatch.setattr(Archive, "write", fails)
    with pytest.raises(KeyboardInterrupt):
        hesse.hessian(cost, out=path, memory=MEMORY)
    monkeypatch.undo()
    status = hesse.status(path)
    assert 0 < status.done < 40 < status.tiles and not status.is_finished
    assert "left    about" in str(status)
    with pytest.raises(hesse.HesseError, match="is not finished"):
        hesse.load(path)
    made = _counted(monkeypatch)
    hesse.hessian(cost, out=path)  # of whatever memory: the store knows what it began with
    assert tiles(path) == tiles(whole) and len(made) == status.tiles - status.done
    assert "held against" in str(hesse.status(path))


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The tiles that are written from now on."""
    made, write = [], Archive.write

    def counting(self: Archive, tile: Any, values: Tensor) -> float:
        made.append(tile)
        return write(self, tile, values)

    monkeypatch.setattr(Archive, "write", counting)
    return made


def flip(tile: Path) -> None:
    content = bytearray(tile.read_bytes())
    content[len(content) // 2] ^= 1
    tile.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [flip, Path.unlink, lambda tile: tile.write_bytes(b"")], ids=["flip", "gone", "cut"]
)
def test_a_damaged_tile_is_told_and_made_again(
    damage: Callable[[Path], Any],
    copy: Path,
    cost: hesse.Cost,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    damage(copy / "0.weight" / "2.weight" / "c" / "1" / "0")
    if damage is flip:
        held = hesse.load(copy)
        with pytest.raises(hesse.HesseError, match=r"the block \('0.weight', '2.weight'\) in .* is"
                           r" damaged: its checksum"):  # fmt: skip
            _ = held @ torch.ones(held.layout.size).double()
        assert held["0.bias", "4.bias"].shape == (9, 1)  # others can be read
    else:
        with pytest.raises(hesse.HesseError, match="is not finished: 1 of"):
            hesse.load(copy)
    made = _counted(monkeypatch)
    hesse.hessian(cost, out=copy)
    assert len(made) == 1 and tiles(copy) == tiles(whole)


@pytest.mark.parametrize("name", ["zarr.json", "0.weight/0.bias/zarr.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", '{"attributes": {"hesse": 3}}'])
def test_a_damaged_description(name: str, content: str, copy: Path, cost: hesse.Cost) -> None:
    (copy / name).write_text(content)
    for call in (lambda: hesse.load(copy), lambda: hesse.hessian(cost, out=copy)):
        with pytest.raises(hesse.HesseError, match="not a Hessian that hesse stored"):
            call()


def test_a_changed_description(copy: Path) -> None:
    text = (copy / "zarr.json").read_text()
    (copy / "zarr.json").write_text(text.replace("half_sse", "half_SSE"))
    with pytest.raises(hesse.HesseError, match="not as it was written"):
        hesse.load(copy)


def others(cost: hesse.Cost) -> Iterator[tuple[str, hesse.Cost, dict[str, Any]]]:
    """Costs that are not this one, and what is said."""
    theta = {name: value + 1e-9 for name, value in cost.parameters.items()}
    yield "parameters have other values", cost.at(theta), {}
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 9), nn.Tanh(), nn.Linear(9, 3), nn.Tanh(), nn.Linear(3, 1))
    X, y = torch.randn(12, 8).double(), torch.randn(12, 1).double()
    net.double()
    yield "data are others", hesse.Cost(net, "half_sse", (X, y + 1e-9)), {}
    yield "loss is another", hesse.Cost(net, "mse", (X, y)), {}
    yield "penalty is another", hesse.Cost(net, "half_sse", (X, y), penalty=0.1), {}
    yield "another curvature", cost, {"curvature": "gauss_newton"}
    yield "other blocks", cost, {"block_diagonal": True}
    single = hesse.Cost(net.float(), "half_sse", (X.float(), y.float()))
    yield "another dtype", single, {}
    small = hesse.Cost(nn.Linear(8, 1), "half_sse", (X.float(), y.float()))
    yield "other names or shapes", small, {}


def test_another_cost_is_refused(whole: Path, cost: hesse.Cost) -> None:
    before = tiles(whole)
    for said, other, options in others(cost):
        with pytest.raises(hesse.HesseError, match=f"another cost: .*{said}"):
            hesse.hessian(other, out=whole, **options)
    assert tiles(whole) == before


def test_what_cannot_be_read_is_not_saved_in_part(copy: Path, tmp_path: Path) -> None:
    held = hesse.load(copy)
    flip(copy / "0.weight" / "2.weight" / "c" / "1" / "0")
    with pytest.raises(hesse.HesseError, match="is damaged: its checksum"):
        held.save(tmp_path / "again.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["copy.zarr"]


@pytest.mark.parametrize("name", ["h.zarr/", "H.ZARR", "h.zarr/."])
def test_a_store_by_its_ending(name: str, expected: hesse.BlockHessian, tmp_path: Path) -> None:
    expected.save(f"{tmp_path}/{name}")
    assert [path.is_dir() for path in tmp_path.iterdir()] == [True]
    assert torch.equal(hesse.load(f"{tmp_path}/{name}").dense(), expected.dense())


@pytest.mark.parametrize("memory", [0, -1])
def test_no_memory_for_a_store_that_is_there(memory: int, whole: Path, cost: hesse.Cost) -> None:
    with pytest.raises(hesse.HesseError, match="memory: expected a number of bytes"):
        hesse.hessian(cost, out=whole, memory=memory)


def test_it_goes_on_in_the_memory_that_there_is(
    copy: Path, cost: hesse.Cost, expected: hesse.BlockHessian, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest, of = [], panel_sums.PanelSums.of

    def measured(self: panel_sums.PanelSums, panel: Any) -> Any:
        largest.append(sum(strip.entries for strip in panel))
        return of(self, panel)

    monkeypatch.setattr(panel_sums.PanelSums, "of", measured)
    for memory in (None, MEMORY // 4):
        shutil.rmtree(copy / "0.weight" / "0.weight" / "c")
        H = hesse.hessian(cost, out=copy, memory=memory)
        assert close(H.dense(), expected.dense())
        most, largest[:] = max(largest), []
        assert most <= (memory or MEMORY) // 4 // 8


def test_two_begin_at_once(
    whole: Path, cost: hesse.Cost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, of = tmp_path / "h.zarr", on_disk.fingerprint

    def slow(asked: hesse.Cost) -> dict[str, Any]:
        path.symlink_to(whole)  # meanwhile another process has made it
        return of(asked)

    monkeypatch.setattr(on_disk, "fingerprint", slow)
    with (
        written_alone(Archive(whole, "out"), "out"),
        pytest.raises(hesse.HesseError, match="another process is writing"),
    ):
        hesse.hessian(cost, out=path)
    path.unlink()
    assert torch.equal(hesse.hessian(cost, out=path).dense(), hesse.load(whole).dense())


def test_two_writers(whole: Path, cost: hesse.Cost) -> None:
    with (
        written_alone(Archive(whole, "out"), "out"),
        pytest.raises(hesse.HesseError, match="another process is writing"),
    ):
        hesse.hessian(cost, out=whole)


def test_a_full_disk_is_foreseen(
    cost: hesse.Cost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(hesse.HesseError, match="more, and 1 kB are free on its disk"):
        hesse.hessian(cost, out=tmp_path / "h.zarr")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_with_what_is_kept(
    cost: hesse.Cost, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write, left = tmp_path / "h.zarr", chunk._write_all, [30]

    def full(file: Any, content: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, content)

    monkeypatch.setattr(chunk, "_write_all", full)
    with pytest.raises(hesse.HesseError, match=r"No space left on device; make room, or name"
                       r" another. \d+% of the Hessian is kept in"):  # fmt: skip
        hesse.hessian(cost, out=path, memory=MEMORY)
    monkeypatch.undo()
    hesse.hessian(cost, out=path)
    assert tiles(path) == tiles(whole)


def test_a_limit_of_the_size_of_files(cost: hesse.Cost, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, before[1]))
    try:
        with pytest.raises(hesse.HesseError, match="the limit for the size of files is in the way"):
            hesse.hessian(cost, out=tmp_path / "h.zarr")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_fails_goes_another_way(
    tmp_path: Path, expected: hesse.BlockHessian, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract, wrong = panel_sums.PanelSums._contract, asked()

    def tampered(self: Any, pair: Any, blocks: Any, strip: Any, sums: Any, rest: Any) -> None:
        contract(self, pair, blocks, strip, sums, rest)
        if strip.name == "2.weight" and any("2.weight" in names for names in blocks):
            sums["2.weight"].add_(0.1)

    monkeypatch.setattr(panel_sums.PanelSums, "_contract", tampered)
    H = hesse.hessian(wrong, out=tmp_path / "h.zarr", memory=MEMORY)
    assert close(H.dense(), expected.dense())
    # Another process is told.
    again = Archive(tmp_path / "h.zarr", "out").description["failures"]
    assert "2.weight" in again


def test_without_a_certificate(
    cost: hesse.Cost, expected: hesse.BlockHessian, tmp_path: Path
) -> None:
    H = hesse.hessian(cost, out=tmp_path / "h.zarr", memory=MEMORY, certify=False)
    assert H.certificate is None and close(H.dense(), expected.dense())
    assert hesse.hessian(cost, out=tmp_path / "h.zarr").certificate is not None


def test_another_cost_with_the_same_value_and_gradient(tmp_path: Path) -> None:
    def at_its_minimum(factor: float) -> hesse.Cost:
        return hesse.Cost.from_function(
            lambda p: factor * p["x"].square().sum(), {"x": torch.zeros(3)}
        )

    first = hesse.hessian(at_its_minimum(1.0), out=tmp_path / "h.zarr")
    assert torch.equal(first.dense(), 2 * torch.eye(3))
    hesse.hessian(at_its_minimum(1.0), out=tmp_path / "h.zarr")
    with pytest.raises(hesse.HesseError, match=r"of another cost: .* a product H v differs"):
        hesse.hessian(at_its_minimum(7.0), out=tmp_path / "h.zarr")


def test_a_store_is_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = hesse.Cost.from_function(lambda p: p["x"].square().sum(), {"x": torch.zeros(3)})
    monkeypatch.chdir(tmp_path)
    H = hesse.hessian(cost, out="h.zarr")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert torch.equal(H @ torch.ones(3), 2 * torch.ones(3))


def test_what_is_not_finite_is_told(tmp_path: Path) -> None:
    kink = hesse.Cost.from_function(
        lambda p: p["x"].abs().sqrt().sum(), {"x": torch.tensor([1.0, 0.0]).double()}
    )
    with pytest.raises(hesse.HesseError, match="entries that are not finite"):
        hesse.hessian(kink, out=tmp_path / "h.zarr")


@pytest.mark.parametrize(
    ("out", "said"),
    [("", "empty"), ("nowhere/h.zarr", "no folder"),
     ("h.safetensors", "is a file for H.save")],
)  # fmt: skip
def test_no_place(out: Any, said: str, cost: hesse.Cost, tmp_path: Path,
                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(hesse.HesseError, match=said):
        hesse.hessian(cost, out=out)


def test_a_place_that_is_taken(cost: hesse.Cost, tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "text.txt").write_text("x")
    for name in ("photographs", "text.txt"):
        with pytest.raises(hesse.HesseError, match="not a Hessian that hesse stored"):
            hesse.hessian(cost, out=tmp_path / name)


def test_what_is_asked_of_a_stored_one(
    H: hesse.BlockHessian, expected: hesse.BlockHessian, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = expected.dense()
    values, b = torch.linalg.eigvalsh(dense), torch.ones(len(dense), dtype=dense.dtype)
    found = hesse.eigenpairs(H, 3, "both")
    assert torch.allclose(found.values, values[[-1, -2, 0]], atol=1e-8)
    assert float(hesse.trace(H)) == pytest.approx(float(dense.trace()))
    for method in ("cholesky", "minres"):
        solved = hesse.solve(H, b, damping=20.0, method=method).vector
        exact = torch.linalg.solve(dense + 20 * torch.eye(len(dense), dtype=dense.dtype), b)
        assert torch.allclose(solved, exact, atol=1e-6)
    assert hesse.density(H, steps=12).mass(-99, 99) == pytest.approx(1)
    assert [row.name for row in hesse.layers(H).rows] == list(hesse.trace(H, by="layer"))
    # Of a large one a product reads all of it, its diagonal little.
    monkeypatch.setattr("hesse.spectra.subject._PRODUCTS", 0)
    assert hesse.trace(H).exact


def test_squares_are_as_they_were_written(copy: Path) -> None:
    held = copy / "0.weight" / "0.bias" / "zarr.json"
    described = json.loads(held.read_text())
    described["attributes"]["squares"][0][0] *= 2
    held.write_text(json.dumps(described))
    with pytest.raises(hesse.HesseError, match="squares are not as they were written"):
        hesse.load(copy)


@pytest.mark.parametrize("ask", [hesse.hessian, hesse.plan])
def test_where_no_store_can_begin(cost: hesse.Cost, tmp_path: Path, ask: Any) -> None:
    (tmp_path / "a.npz").write_text("x")
    for place, said in {
        "": "out: the path is empty",
        "a.npz": "a file, not a Hessian",
        ".": "a folder without zarr.json",
        "none/h.zarr": "there is no folder",
        "h.safetensors": "a file for H.save",
    }.items():
        with pytest.raises(hesse.HesseError, match=said):
            ask(cost, out=place and tmp_path / place)
    with pytest.raises(hesse.HesseError, match=r"^status: there is no store"):
        hesse.status(tmp_path / "none.zarr")


def test_memory_is_kept_to(cost: hesse.Cost) -> None:
    wanted = tuple((a, b) for k, a in enumerate(NAMES) for b in NAMES[k:])
    for memory in (20_000, 60_000, 500_000):
        tiling = TiledWork(cost, wanted, memory).tiling
        assert max(tiling.lengths.values()) ** 2 * 8 <= memory / 4


def test_a_store_too_large_for_the_system_to_hold_is_read_as_any(
    cost: hesse.Cost, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[Path] = []
    monkeypatch.setattr(archive, "_KEPT", 0.0)
    monkeypatch.setattr(archive, "forget", lambda path: (dropped.append(path), chunk.forget(path)))
    H = hesse.hessian(cost, out=tmp_path / "h.zarr", memory=MEMORY)
    written = len(dropped)
    assert tiles(tmp_path / "h.zarr") == tiles(whole) and written >= len(tiles(whole))
    assert torch.equal(H.dense(), hesse.load(whole).dense()) and len(dropped) > written
