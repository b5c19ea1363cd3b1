"""Memory that runs out ends in an error of hesse's that says what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hesse.errors import HesseMemoryError
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
