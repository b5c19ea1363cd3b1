"""What can happen to a saved Hessian: bits that flip, files cut short, forged headers, kills.

`python tests/process/damage.py --count 2000 --kills 200` tries many; the tests try a few.
"""

import argparse
import json
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import Any, NoReturn

import torch

import hesse
from hesse.errors import HesseFileError
from hesse.layout import Layout
from hesse.matrix.block_hessian import BlockHessian
from hesse.matrix.loading import load

# Bytes that loading a file of a few kB may take beyond it.
ROOM = 50_000_000


def examples() -> list[BlockHessian]:
    """A whole matrix, and some blocks."""
    layout = Layout(("0.weight", "0.bias", "scale"), ((2, 3), (3,), ()))
    half = torch.randn(
        layout.size, layout.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    matrix = half + half.T
    whole = BlockHessian(layout, matrix=matrix, provenance={"model": "Sequential"})
    pairs = [("0.weight", "0.weight"), ("0.weight", "0.bias"), ("scale", "scale")]
    return [whole, BlockHessian(layout, blocks={pair: whole.flat(*pair) for pair in pairs})]


def same(one: BlockHessian, other: BlockHessian) -> bool:
    """Whether two are the same in everything that a file holds."""
    return (
        one.layout == other.layout
        and one.pairs == other.pairs
        and one.provenance == other.provenance
        and one.certificate == other.certificate
        and all(torch.equal(one.flat(*pair), other.flat(*pair)) for pair in one.pairs)
    )


def damaged(content: bytes, draw: random.Random) -> bytes:
    """A file after an accident: of bits, of length, of a stretch of bytes, of its header's text."""
    changed = bytearray(content)
    place = draw.randrange(len(changed))
    match draw.choice(["bit", "bit", "bit", "cut", "grown", "stretch", "moved", "header"]):
        case "bit":
            changed[place] ^= 1 << draw.randrange(8)
        case "cut":
            del changed[place:]
        case "grown":
            changed[place:place] = draw.randbytes(draw.randint(1, 9))
        case "stretch":
            length = draw.randint(1, 64)
            changed[place : place + length] = draw.choice([bytes(length), draw.randbytes(length)])
        case "moved":
            other = draw.randrange(len(changed) - 8)
            changed[other : other + 8] = changed[place : place + 8].ljust(8, b"\0")
        case _:
            header, data = parted(content)
            return joined(edited(header, draw), data)
    return bytes(changed)


def forged(content: bytes, draw: random.Random) -> bytes:
    """A file whose description somebody changed, and its checksum with it."""
    header, data = parted(content)
    text = json.dumps(edited(json.loads(header["__metadata__"]["hesse"]), draw))
    header["__metadata__"] = {"hesse": text, "checksum": f"{zlib.crc32(text.encode()):08x}"}
    return joined(header, data)


def edited(tree: Any, draw: random.Random) -> Any:
    """JSON with one value in it replaced, taken away, or given twice."""
    if not isinstance(tree, dict | list) or not tree or draw.random() < 0.2:
        strange = [None, True, -1, 0, 10**9, 10**400, 1e308, "", "x", [], {}, [[0]], {"a": 1}]
        return draw.choice([*strange, "\ud800", "F64", "F32", [10**12, 10**12], [2**62, 4]])
    if isinstance(tree, dict):
        key = draw.choice(list(tree))
        rest = {name: value for name, value in tree.items() if name != key}
        return draw.choice(
            [rest, {**tree, key: edited(tree[key], draw)}, {**rest, f"{key} ": tree[key]}]
        )
    place = draw.randrange(len(tree))
    before, value, after = tree[:place], tree[place], tree[place + 1 :]
    return draw.choice(
        [[*before, *after], [*before, value, value, *after], [*before, edited(value, draw), *after]]
    )


def parted(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and entries of a file of tensors."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: Any, data: bytes) -> bytes:
    """The file of a header and entries."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def check(count: int, seed: int = 0) -> Counter[str]:
    """Load so many damaged and forged files; how many were refused, and how many were as before.

    Raises:
        AssertionError: another Hessian was loaded in silence, or it took much memory.
        Exception: another error than hesse's.
    """
    draw, outcomes = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "h.safetensors")
        saved = []
        for H in examples():
            H.save(path)
            saved.append((H, path.read_bytes()))
        before = _peak()
        for _ in range(count):
            H, content = draw.choice(saved)
            is_forged = draw.random() < 0.25
            path.write_bytes((forged if is_forged else damaged)(content, draw))
            try:
                loaded = load(path)
            except HesseFileError as error:
                assert str(error).startswith("load: ") and len(str(error)) < 1500, error
                outcomes["refused"] += 1
            else:
                # A forger may describe another Hessian, which is a sound one.
                assert is_forged or same(H, loaded), path.read_bytes()
                assert loaded.summary and all(loaded.flat(*pair).numel() for pair in loaded.pairs)
                outcomes["forged" if is_forged else "as it was"] += 1
        assert _peak() - before < ROOM, f"{_peak() - before} bytes"
    return outcomes


def check_kills(count: int, seed: int = 0) -> Counter[str]:
    """Kill so many processes while they save; how many left something half-written behind.

    Raises:
        AssertionError: a file was not whole, or what was left stayed after the next save.
    """
    draw, outcomes = random.Random(seed), Counter[str]()
    layout = Layout(("w",), ((700,),))
    first, second = (
        BlockHessian(layout, matrix=torch.full((700, 700), value)) for value in (1.0, 2.0)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "h.safetensors")
        first.save(path)
        for _ in range(count):
            process = os.fork()
            if process == 0:
                _save_for_ever([second, first], path)
            time.sleep(draw.uniform(0.0, 0.1))
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            left = len(os.listdir(folder)) - 1
            outcomes["in the middle" if left else "between two"] += 1
            held = load(path)
            assert same(held, first) or same(held, second)
            second.save(path)
            assert os.listdir(folder) == [path.name]
    return outcomes


def _save_for_ever(hessians: list[BlockHessian], path: Path) -> NoReturn:
    try:
        torch.set_num_threads(1)  # a fork has no other threads
        for H in cycle(hessians):
            H.save(path)
    finally:  # not on with what the parent does
        os._exit(1)


def _peak() -> int:
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="damaged files")
    parser.add_argument("--kills", type=int, default=200, help="killed processes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"hesse {hesse.__version__}, seed {options.seed}")
    print("files:", dict(check(options.count, options.seed)))
    print("kills:", dict(check_kills(options.kills, options.seed)))


if __name__ == "__main__":
    main()
