"""Memory that runs out ends in an error of hesse's that says what to do."""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hesse.errors import HesseMemoryError
from hesse.process import memory
from hesse.process.memory import enough_memory


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
def test_a_process_with_a_limit_hears_what_to_do() -> None:
    # So that what is freed goes back, and the limit means the same every time.
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("limited.py"))],
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "200000"},
        check=True,
        capture_output=True,
        text=True,
    )
    said = json.loads(done.stdout)
    assert len(said) == 7
    for name, text in said.items():
        assert text.startswith("HesseMemoryError: memory ran out: "), (name, text)
        assert "alloc" not in text and " free" in text, (name, text)
    assert "memory=" in said["hessian"] and "memory=" in said["diagonal"]
    assert "smaller batches" in said["operator"] and "fewer columns" in said["product"]
    assert "trust-ncg" in said["minimize by products"]


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (RuntimeError("can't allocate memory: you tried to allocate 144000000 bytes. E"), "144 MB"),
        (MemoryError("Unable to allocate 3. GiB for an array"), "3.22 GB"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.50 MiB."), "21.5 MB"),
        (RuntimeError("std::bad_alloc"), "ran out: more was"),
        (RuntimeError("can't start new thread"), "ran out: more was"),
    ],
)
def test_it_says_how_much_was_asked_for(error: Exception, asked: str) -> None:
    said = f"{asked}.* being free; wait"
    with pytest.raises(HesseMemoryError, match=said), enough_memory("wait"):
        raise error


_MAPPED = """
import ctypes, torch
from hesse.process.memory import enough_memory

class Info(ctypes.Structure):
    _fields_ = [(f"field_{i}", ctypes.c_size_t) for i in range(10)]

system = ctypes.CDLL(None)
system.mallinfo2.restype = Info

def mapped():
    before = system.mallinfo2().field_3
    held = torch.empty(5_000_000)
    return system.mallinfo2().field_3 - before

with enough_memory():
    print(mapped())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="what is mapped is counted as glibc does",
)
def test_what_is_freed_is_kept_for_what_is_asked_for_next() -> None:
    """A block of 20 MB is none that the system is asked for, and gets back, by itself."""
    counts = [
        subprocess.run(
            [sys.executable, "-c", _MAPPED.replace("enough_memory()", around)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for around in ("enough_memory()", "torch.no_grad()")
    ]
    assert counts == ["0\n", "1\n"]


_GROUPS = memory._GROUPS


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int | None]:
    """What control groups leave, as files say that stand for those of the system."""

    def left(version: int, member: str, folders: dict[str, tuple[str, int, int]]) -> int | None:
        controllers, _, limit, used, reclaimable = _GROUPS[version]
        for folder, (most, held, pages) in folders.items():
            place = tmp_path / folder
            place.mkdir(parents=True, exist_ok=True)
            (place / limit).write_text(f"{most}\n")
            (place / used).write_text(f"{held}\n")
            (place / "memory.stat").write_text(f"anon 5\n{reclaimable} {pages}\n")
        (tmp_path / "memberships").write_text(f"7:cpu:/\n{member}\n")
        monkeypatch.setattr(memory, "_MEMBERSHIPS", tmp_path / "memberships")
        files = controllers, str(tmp_path), limit, used, reclaimable
        monkeypatch.setattr(memory, "_GROUPS", (files,))
        return min(memory._groups(), default=None)

    return left


@pytest.mark.parametrize(
    ("version", "member", "folders", "left"),
    [
        (0, "0::/a", {"a": ("1000", 400, 0)}, 600),
        (0, "0::/a", {"a": ("1000", 400, 300)}, 900),  # pages that are given back
        (0, "0::/a/b", {"a": ("1000", 400, 0), "a/b": ("max", 50, 0)}, 600),  # of the outer one
        (0, "0::/a/b/c", {"a": ("900", 1, 0), "a/b": ("800", 2, 0), "a/b/c": ("700", 3, 1)}, 698),
        (0, "0::/a/b", {"a": ("500", 450, 0), "a/b": ("700", 3, 0)}, 50),
        (0, "0::/a", {"a": ("max", 400, 0)}, None),
        (0, "0::/far/away", {".": ("1000", 100, 0)}, 900),  # a container, whose mount is its group
        (0, "0::/../b", {".": ("1000", 100, 0)}, 900),
        (1, "4:memory:/a/b", {"a": ("1000", 400, 7), "a/b": (str(2**63 - 4096), 50, 0)}, 607),
        (1, "4:hugetlb,memory:/a", {"a": ("1000", 400, 0)}, 600),
        (1, "0::/a", {"a": ("1000", 400, 0)}, None),
    ],
)
def test_the_limits_of_control_groups(
    version: int,
    member: str,
    folders: dict[str, tuple[str, int, int]],
    left: int | None,
    group: Callable[..., int | None],
) -> None:
    assert group(version, member, folders) == left
