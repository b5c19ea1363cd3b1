"""A process whose address space is limited: what each way of asking says when memory runs out, as
JSON. ``python tests/process/limited.py``"""

import gc
import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import hesse


def question(samples: int, width: int = 60) -> hesse.Cost:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, width), nn.Tanh(), nn.Linear(width, 5))
    return hesse.Cost(model, "mse", (torch.randn(samples, 40), torch.randn(samples, 5)))


def limit(more: float) -> None:
    """So many bytes beyond what there are, or as many as there are."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = int(pages * resource.getpagesize() + more)
    unlimited = resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_AS, (unlimited if more < 0 else most, unlimited))


def said(work: Callable[[], Any], more: float) -> str:
    gc.collect()
    limit(more)
    try:
        work()
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        limit(-1)


def main() -> None:
    small, large, many = question(3, 2), question(10000), question(60000)
    # What is loaded for the first time takes memory of its own.
    for method in ("trust-krylov", "trust-exact"):
        hesse.minimize(small, method, maxiter=1)
    op, v = hesse.operator(many, certify=False), torch.randn(many.layout.size, 5000)
    tried: dict[str, tuple[Callable[[], Any], float]] = {
        "first trace": (lambda: hesse.operator(question(4)), 4e6),
        "hessian": (lambda: hesse.hessian(large, memory=10**12), 60e6),
        "diagonal": (lambda: hesse.diagonal(many, memory=10**12), 5e6),
        "operator": (lambda: hesse.operator(many), 5e6),
        "product": (lambda: op @ v, 5e6),
        "minimize": (lambda: hesse.minimize(large, dense=True, memory=10**12), 140e6),
        "minimize by products": (lambda: hesse.minimize(large, "trust-krylov"), 30e6),
    }
    print(json.dumps({name: said(*each) for name, each in tried.items()}))


if __name__ == "__main__":
    main()
