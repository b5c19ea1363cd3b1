"""A Hessian beyond one machine's memory: computed onto the disk, and read from there. ``python -m
bench.scale --folder DIR``, where DIR is on the disk to measure.

Beside the time of it stand the bounds that there are: the rate of a matrix product, and the speed
at which the disk writes and reads, each measured just before in the same process.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

import hesse
from bench import report
from bench.measure import forget_peak, peak_memory, product_rate, timed
from hesse.exact.plan import Plan
from hesse.store.archive import Archive
from hesse.store.chunk import forget

# Of what bounds it.
COMPUTING, READING = 0.6, 0.8
SECONDS, MEMORY = 300.0, 4e9
_SAMPLE = 2**28


def cost(widths: Sequence[int], samples: int) -> hesse.Cost:
    """A dense network with tanh on random images and labels."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for x, z in pairwise(widths):
        layers += [nn.Linear(x, z), nn.Tanh()]
    data = torch.rand(samples, widths[0]), torch.randint(widths[-1], (samples,))
    return hesse.Cost(nn.Sequential(*layers[:-1]), "cross_entropy", data)


def writing_rate(folder: Path) -> float:
    """Bytes a second, synced."""
    content = torch.rand(_SAMPLE // 4).numpy().data
    path = folder / "written"

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            file.write(content)
            os.fsync(file.fileno())

    seconds = timed(write)[0]
    path.unlink()
    return _SAMPLE / seconds


def reading_rate(files: Sequence[Path]) -> float:
    """Bytes a second of some files, not from the cache, into memory that is used again."""
    for path in files:
        forget(path)
    memory = bytearray(max(path.stat().st_size for path in files))

    def read() -> int:
        total = 0
        for path in files:
            with path.open("rb", buffering=0) as file:
                total += file.readinto(memory) or 0
        return total

    seconds, total = timed(read)
    return total / seconds


def tiles(store: Path) -> list[Path]:
    """The files of its tiles."""
    return [path for path in store.rglob("*") if path.is_file() and path.parent.name.isdigit()]


def computed(asked: hesse.Cost, store: Path, memory: int) -> dict[str, float]:
    """Compute it, and multiply with it."""
    plan: Plan = hesse.plan(asked)
    forget_peak()
    cpu = time.process_time()
    seconds, H = timed(lambda: hesse.hessian(asked, out=store, memory=memory, progress=True))
    cpu, peak = time.process_time() - cpu, peak_memory()
    files, certificate = tiles(store), H.certificate
    assert certificate is not None
    v = torch.randn(asked.layout.size)
    some = files[:: max(1, len(files) // 100)]
    read = reading_rate(some)
    for path in files:
        forget(path)
    product = timed(lambda: H @ v)[0]
    archive = Archive(store, "bench")
    return {
        "P": asked.layout.size,
        "samples": asked.samples,
        "operations": plan.operations,
        "seconds": seconds,
        "cpu seconds": cpu,
        "seconds of the certificate": certificate.seconds,
        "deviation": certificate.deviation,
        "peak": peak,
        "bytes": archive.bytes,
        "reading": read,
        "seconds of a product": product,
    }


def main() -> None:
    """Measure and print; with ``--save`` record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--widths", type=int, nargs="+", default=[784, 128, 64, 10])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--memory", type=float, default=3.3e9)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    asked = cost(options.widths, options.samples)
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        rate, write = product_rate(), writing_rate(folder)
        m: dict[str, Any] = computed(asked, folder / "h.zarr", int(options.memory))
    finally:
        shutil.rmtree(folder)
    bound = max(m["operations"] / rate, m["bytes"] / write)
    product = m["bytes"] / m["seconds of a product"]
    rows = [
        ["seconds", f"{m['seconds']:.0f}", f"{SECONDS:.0f}"],
        ["of the bound", f"{bound / m['seconds']:.0%}", f"{COMPUTING:.0%}"],
        ["peak memory, GB", f"{m['peak'] / 1e9:.2f}", f"{MEMORY / 1e9:.0f}"],
        ["H @ v, of the reading speed", f"{product / m['reading']:.0%}", f"{READING:.0%}"],
    ]
    result = report.Report(
        name="scale",
        title=(
            f"A Hessian on disk: {'-'.join(map(str, options.widths))}, P = {m['P']}, N ="
            f" {m['samples']}, {m['bytes'] / 1e9:.1f} GB, {torch.get_num_threads()} threads"
        ),
        header=["what", "measured", "target"],
        rows=rows,
        notes=[
            f"{m['operations'] / 1e12:.2f} TFLOP at {rate / 1e9:.0f} GFLOP/s of a float32 matrix"
            f" product: {m['operations'] / rate:.0f} s. Writing at {write / 1e6:.0f} MB/s:"
            f" {m['bytes'] / write:.0f} s. The slower of the two is the bound.",
            f"{m['cpu seconds']:.0f} s of the processor; H @ v in"
            f" {m['seconds of a product']:.1f} s at {product / 1e6:.0f} MB/s, the disk reading at"
            f" {m['reading'] / 1e6:.0f} MB/s.",
            f"Certificate: {m['deviation']:.1g} from double backward,"
            f" {m['seconds of the certificate']:.0f} s of the time.",
        ],
        measurements={**m, "product rate": rate, "writing": write},
    )
    print(result.markdown())
    if options.save:
        result.save()


if __name__ == "__main__":
    main()
