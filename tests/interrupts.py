"""Ctrl-C at random moments of everything that hesse does: nothing of the caller's is changed, and
the same cost gives the same numbers afterwards.

``python tests/interrupts.py --count 400`` runs many; `tests/test_interrupts.py` a few.
"""

import argparse
import logging
import random
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.utils.checkpoint as checkpointing
from torch import Tensor, nn
from torch.fx import config
from torch.overrides import _get_current_function_mode_stack

import hesse
from hesse.capture.tracing import modes_before_dispatch


class Drawing(nn.Module):
    """Attention, a recurrent layer, batch normalisation, a counter, and numbers that are drawn and
    left."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.layer = nn.TransformerEncoderLayer(4, 1, 4, dropout=0.0, batch_first=True)
        self.cell, self.calls = nn.RNN(4, 2, batch_first=True), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        _ = torch.rand(1), np.random.rand(), random.random()
        hidden = self.layer(self.norm(self.first(x)).unsqueeze(1))
        return self.cell(hidden)[0][:, 0]


def question() -> tuple[nn.Module, hesse.Cost]:
    torch.manual_seed(0)
    model = Drawing().double().train()
    return model, hesse.Cost(model, "mse", (torch.randn(8, 3).double(), torch.randn(8, 2).double()))


def small() -> tuple[nn.Module, hesse.Cost]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    return model, hesse.Cost(model, "mse", (torch.randn(8, 2).double(), torch.randn(8, 1).double()))


def surroundings(model: nn.Module) -> dict[str, Any]:
    """What is the caller's, and could be left changed."""
    cuda = torch.backends.cuda
    loggers = ["torch.export", "torch._dynamo", "torch._functorch"]
    return {
        "switches": [
            torch._C._get_mkldnn_enabled(),
            torch.backends.cudnn.enabled,
            torch.backends.mha.get_fastpath_enabled(),
            cuda.flash_sdp_enabled(),
            cuda.mem_efficient_sdp_enabled(),
            cuda.math_sdp_enabled(),
        ],
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "modes": (_get_current_function_mode_stack(), torch._C._len_torch_dispatch_stack()),
        "before dispatch": modes_before_dispatch(),
        "tracing": config.do_not_emit_stack_traces,
        "transforms": torch._C._functorch.get_dynamic_layer_stack_depth(),  # type: ignore[attr-defined]
        "hooks": torch._C._autograd._top_saved_tensors_default_hooks(True),  # type: ignore[attr-defined]
        "checkpoints": checkpointing.CheckpointFunction,
        "exporting": torch.compiler.is_exporting(),
        "dtype": torch.get_default_dtype(),
        "filters": [repr(each) for each in warnings.filters],
        "printing": "print" in vars(sys.modules.get("torch.export._trace", sys)),
        "logging": [list(logging.getLogger(name).filters) for name in loggers],
        "torch generator": torch.get_rng_state().tolist(),
        "numpy generator": repr(np.random.get_state()),
        "python generator": random.getstate(),
        "tensors": {k: v.tolist() for k, v in model.state_dict().items()},
        "slopes": [p.grad for p in model.parameters()],
        "attributes": [
            {k: v for k, v in vars(module).items() if not k.startswith("_")}
            for module in model.modules()
        ],
    }


# The operator's product is of one made before: what is interrupted is the product.
WORK: dict[str, Callable[[nn.Module, hesse.Cost, hesse.HessianOperator], Any]] = {
    "value": lambda m, c, op: hesse.value(c),
    "gradient": lambda m, c, op: hesse.gradient(c),
    "hessian": lambda m, c, op: hesse.hessian(c),
    "columns": lambda m, c, op: hesse.hessian(c.with_total(c.total)),
    "diagonal": lambda m, c, op: hesse.diagonal(c),
    "plan": lambda m, c, op: hesse.plan(c),
    "operator": lambda m, c, op: hesse.operator(c),
    "products": lambda m, c, op: [op @ c.theta for _ in range(5)],
    "minimize": lambda m, c, op: hesse.minimize(c, maxiter=3),
    "Newton-CG": lambda m, c, op: hesse.minimize(c, "Newton-CG", maxiter=3),
    "cost": lambda m, c, op: hesse.hessian(
        hesse.Cost(
            m, "mse", tuple(2 * part for b in c.batches() if b is not None for part in b.tensors)
        )
    ),
    "quadratic": lambda m, c, op: hesse.quadratic(c, dense=False).saddle_free(0.1),
}


def interrupted(work: Callable[[], Any], seconds: float) -> bool:
    """Whether the work was interrupted before it was done."""
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
            work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return True
    return False


def run(
    count: int,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
    ask: Callable[[], tuple[nn.Module, hesse.Cost]] = question,
) -> list[str]:
    """What was left changed, after so many interrupts."""
    before_alarm = signal.signal(signal.SIGALRM, signal.default_int_handler)
    moments, faults, hits = random.Random(seed), list[str](), Counter[str]()
    model, cost = ask()
    asked, formula = small()
    operator = hesse.operator(cost)
    expected = hesse.value(cost), hesse.hessian(cost).dense(), operator @ cost.theta
    # Of a cost whose samples do not meet.
    kinds = {
        **WORK,
        "derive": lambda m, c, op: hesse.derive(formula),
        "kfac": lambda m, c, op: hesse.kfac(formula).inverse(0.1) @ formula.theta,
        "per sample": lambda m, c, op: hesse.per_sample(formula, "diagonal").stack(),
        "eigenpairs": lambda m, c, op: hesse.eigenpairs(op, 2),
    }
    lasts: dict[str, float] = {}
    for kind, work in kinds.items():
        begin = time.perf_counter()
        work(model, cost, operator)
        lasts[kind] = time.perf_counter() - begin
    before, before_small = surroundings(model), surroundings(asked)
    for turn in range(100 * count):
        if hits.total() >= count:
            break
        kind = list(kinds)[turn % len(kinds)]
        # A cost whose captures are new: the first work on a model is the longest.
        fresh = hesse.Cost(model, "mse", cost.data._given) if turn % 3 == 0 else cost  # type: ignore[union-attr]
        if turn % 3 == 0:
            fresh.captures.clear()
        hit = interrupted(
            lambda work=kinds[kind], fresh=fresh: work(model, fresh, operator),
            moments.random() * lasts[kind] * (1.5 if turn % 3 else 3),
        )
        hits[kind] += hit
        after = surroundings(model)
        left = [name for name in before if after[name] != before[name]]
        if surroundings(asked)["tensors"] != before_small["tensors"]:
            left.append("the model derived")
        if hit and hesse.value(cost) != expected[0]:
            left.append("J")
        if hit and turn % 5 == 0 and not torch.equal(operator @ cost.theta, expected[2]):
            left.append("H v")
        if left:
            faults.append(f"{kind}: {', '.join(left)}")
            tell(faults[-1])
            before = surroundings(model)
    signal.signal(signal.SIGALRM, before_alarm)
    if not torch.equal(hesse.hessian(cost).dense(), expected[1]):
        faults.append("H at the end")
    if hesse.plan(cost).captured != hesse.plan(ask()[1]).captured:
        faults.append("the graph is lost")
    tell(f"{hits.total()} interrupts: {dict(hits)}; {len(faults)} of them left something changed")
    return faults


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=400)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    sys.exit(bool(run(given.count, given.seed, lambda line: print(line, flush=True))))
