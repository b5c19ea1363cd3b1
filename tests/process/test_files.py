"""A file is there whole or not at all, where it was asked for, and with the mode it had."""

import os
import stat
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from hesse.errors import HesseError, HesseFileError
from hesse.layout import Layout
from hesse.matrix.block_hessian import BlockHessian
from hesse.matrix.loading import load
from hesse.process import files
from hesse.process.files import (
    read_tensors,
    replacing,
    require_path,
    require_place,
    write_tensors,
    write_text,
)
from process.damage import check_kills


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name, old in {"held": "old", "new": None}.items():
        end, link = tmp_path / "there" / name, tmp_path / name
        if old is not None:
            end.write_text(old)
        link.symlink_to(end)
        write_text(link, "save", "new")
        assert link.is_symlink() and end.read_text() == "new" and not end.is_symlink()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(HesseFileError, match=r"save: cannot write .*loop': .*; name another"):
        write_text(tmp_path / "loop", "save", "new")


@pytest.mark.parametrize("bits", [0o600, 0o664, 0o640])
def test_a_mode_is_kept(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(bits)
    write_text(path, "save", "new")
    write_tensors(tmp_path / "a", "save", {"x": torch.zeros(2)}, {})
    assert mode(path) == bits


def test_a_new_file_has_the_mode_of_any(tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    write_tensors(tmp_path / "a", "save", {"x": torch.zeros(2)}, {})
    assert mode(tmp_path / "a") == mode(tmp_path / "any")


@pytest.mark.parametrize("length", [237, 240, 255])
def test_long_names(tmp_path: Path, length: int) -> None:
    path = tmp_path / ("é" * (length // 2 - 2) + "a" * (length % 2 + 4))
    assert len(os.fsencode(path.name)) == length
    write_text(path, "save", "new")
    assert path.read_text() == "new"


def refused() -> dict[str, tuple[str, str]]:
    """Places in the current folder that cannot be written, and why."""
    Path("read-only").touch(mode=0o444)
    Path("folder").mkdir()
    os.mkfifo("pipe")
    Path("pipe link").symlink_to("pipe")
    return {
        "read-only": ("read-only", "'read-only' is read-only; make it writable, or name another"),
        "folder": ("folder", "'folder' is a folder; name a file in it"),
        "pipe": ("pipe", "'pipe' is a pipe, not a file"),
        "link to a pipe": ("pipe link", "'pipe link' is a pipe, not a file"),
        "device": ("/dev/full", "'/dev/full' is a device, not a file"),
        "no folder": ("no/a", "there is no folder 'no'; make it first, or name another"),
        "a file for a folder": ("read-only/a", "there is no folder 'read-only'"),
        "proc": ("/proc/a", "cannot write '/proc/a': "),
        "long": ("n" * 256, "File name too long; give it a shorter name"),
        "long path": ("n/" * 3000 + "a", "; give it a shorter name"),
        "empty": ("", "the path is empty; name a file"),
        "null": ("a\0b", "holds a null character"),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="pipes, /proc and /dev/full")
def test_places_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, (path, text) in refused().items():
        before = sorted(os.listdir())
        with pytest.raises(HesseError) as caught:
            require_place(path, "--out")
        assert str(caught.value).startswith("--out: ") and text in str(caught.value), name
        assert sorted(os.listdir()) == before


def test_a_folder_that_takes_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(HesseFileError, match=r"Permission denied; name another"):
        require_place(tmp_path / "a", "save")


def test_a_disk_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(9000, 4000, 5000))
    require_place(tmp_path / "a", "save", 5000)
    with pytest.raises(HesseFileError, match=r"save: .*a' takes 5 kB, and 5 kB are free on its"):
        require_place(tmp_path / "a", "save", 5001)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(0, 0, 0))
    require_place(tmp_path / "a", "save", 5001)


def test_what_is_no_path() -> None:
    for path, kind in {
        b"a": TypeError,
        None: TypeError,
        3: TypeError,
        "\ud800": ValueError,
    }.items():
        with pytest.raises(HesseError, match=r"^load: ") as caught:
            require_path(path, "load")
        assert isinstance(caught.value, kind)


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    for error, kind in [
        (OSError(28, "No space left on device"), HesseFileError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ]:
        with pytest.raises(kind), replacing(path, "save") as partial:
            partial.write_text("half")
            raise error
        assert path.read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_a_file_is_synced_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr("os.fsync", lambda fd: (calls.append("sync"), sync(fd)))
    monkeypatch.setattr("os.replace", lambda *names: (calls.append("rename"), rename(*names)))
    write_text(tmp_path / "a", "save", "new")
    assert calls == ["sync", "rename", "sync"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    other = "0" * 8 if files._HOST != "0" * 8 else "1" * 8

    def partial(host: str, process: int, age: float = 0.0) -> Path:
        path = tmp_path / f".hesse-{host}-{process}-abc_1234.partial"
        path.mkdir()
        (path / "a").write_text("half")
        os.utime(path, (time.time() - age, time.time() - age))
        return path

    left = [partial(files._HOST, gone.pid), partial(other, os.getpid(), 2 * 24 * 3600.0)]
    kept = [partial(files._HOST, os.getpid()), partial(other, gone.pid)]
    (tmp_path / ".hesse-mine.partial").mkdir()
    write_text(tmp_path / "a", "save", "new")
    assert not any(path.exists() for path in left) and all(path.exists() for path in kept)
    assert (tmp_path / ".hesse-mine.partial").exists()


def test_threads_that_save_to_one_place(tmp_path: Path) -> None:
    path, errors = tmp_path / "h", []
    hessians = [
        BlockHessian(Layout(("w",), ((50,),)), matrix=torch.full((50, 50), float(k)))
        for k in range(3)
    ]

    def save(hessian: BlockHessian) -> None:
        try:
            for _ in range(10):
                hessian.save(path)
        except HesseError as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(hessian,)) for hessian in hessians]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and os.listdir(tmp_path) == ["h"]
    assert float(load(path).dense()[0, 0]) in (0.0, 1.0, 2.0)


NAMES = ["w", "__metadata__", "\ud800", "a\nb", "", " " * 20, "  1"]


def test_tensors_of_any_name_come_back(tmp_path: Path) -> None:
    tensors = {name: torch.full((2,), float(k)) for k, name in enumerate(NAMES)}
    write_tensors(tmp_path / "a", "--out", tensors, {"radius": "1.0"})
    back, metadata = read_tensors(tmp_path / "a", "--start")
    assert set(back) == set(tensors) and metadata["radius"] == "1.0"
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a fork")
def test_kills_leave_a_whole_file() -> None:
    assert check_kills(10).total() == 10
