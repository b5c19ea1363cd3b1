"""The other ways to a dense Hessian, each used as its authors would want it used.

A peer prepares (copies weights, compiles) outside the clock and gives back ``run``: ``run(k)`` is
the first k columns of H as a (P, k) tensor. Those that cannot be asked for part of H give all of
it.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.cases import LOSSES, Problem
from bench.measure import DEVICE, available_memory, timed

CHUNK = 256

Run = Callable[[int], Tensor]


class Skipped(Exception):
    """The peer cannot run this case here; the text says why."""


@dataclass(frozen=True)
class Prepared:
    """A peer ready to be timed, and the seconds that getting ready took."""

    run: Run
    seconds: float = 0.0


@dataclass(frozen=True)
class Peer:
    """One way to H. ``partial`` says that the first k columns can be had at k/P of the price."""

    name: str
    prepare: Callable[[Problem], Prepared]
    partial: bool


def flat_cost(
    problem: Problem, dtype: torch.dtype = torch.float32
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """J as a function of the flat vector of parameters, and that vector."""
    parameters = {
        name: value.detach().to(dtype) for name, value in problem.model.named_parameters()
    }
    fixed = {
        name: held.to(dtype) if held.is_floating_point() else held
        for name, held in problem.model.named_buffers()
    }
    x = problem.x.to(dtype) if problem.x.is_floating_point() else problem.x
    sizes = [value.numel() for value in parameters.values()]

    def cost(theta: Tensor) -> Tensor:
        pieces = zip(parameters.items(), theta.split(sizes), strict=True)
        values = {name: piece.reshape(value.shape) for (name, value), piece in pieces}
        prediction = torch.func.functional_call(problem.model, {**fixed, **values}, (x,))
        return LOSSES[problem.loss](prediction, problem.y)

    return cost, torch.cat([value.reshape(-1) for value in parameters.values()])


def hessian_products(problem: Problem, directions: Tensor) -> Tensor:
    """H V for the columns of V (P, K), in the dtype of V: one forward-over-reverse pass for all
    K."""
    cost, theta = flat_cost(problem, directions.dtype)
    gradient = torch.func.grad(cost)

    def product(direction: Tensor) -> Tensor:
        return torch.func.jvp(gradient, (theta,), (direction,))[1]

    with differentiable(problem.model):
        return torch.func.vmap(product, in_dims=1, out_dims=1)(directions)


def differentiable(model: nn.Module) -> ExitStack:
    """Without the kernels that have no forward or no second derivative: fused attention, and
    cuDNN's recurrent layers."""
    stack = ExitStack()
    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    if any(isinstance(module, nn.RNNBase) for module in model.modules()):
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
    return stack


def double_backward_products(problem: Problem, directions: Tensor) -> Tensor:
    """H V by differentiating the gradient backward, one column at a time: shares no forward
    derivative with the above."""
    cost, theta = flat_cost(problem, directions.dtype)
    theta.requires_grad_()
    with differentiable(problem.model):
        (gradient,) = torch.autograd.grad(cost(theta), theta, create_graph=True)
        products = [
            torch.autograd.grad(gradient @ direction, theta, retain_graph=True)[0]
            for direction in directions.T
        ]
    return torch.stack(products, dim=1)


def columns(problem: Problem) -> Prepared:
    """``vmap(jvp(grad))`` on unit vectors, 256 at a time."""

    def run(count: int) -> Tensor:
        # H is symmetric: its columns are written as rows, where they lie together.
        rows = torch.empty(count, problem.size, device=DEVICE)
        for start in range(0, count, CHUNK):
            stop = min(start + CHUNK, count)
            rows[start:stop] = hessian_products(problem, unit_columns(problem.size, start, stop)).T
        return rows.T

    return Prepared(run)


def unit_columns(size: int, start: int, stop: int) -> Tensor:
    """Columns start to stop of the identity."""
    eye = torch.zeros(size, stop - start, device=DEVICE)
    eye[torch.arange(start, stop), torch.arange(stop - start)] = 1.0
    return eye


def whole(problem: Problem) -> Prepared:
    """``torch.func.hessian`` of the flat cost: all P tangents at once."""
    _refuse_beyond_memory(_tangent_bytes(problem))
    cost, theta = flat_cost(problem)
    hessian = torch.func.hessian(cost)

    def run(count: int) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return hessian(theta)

    return Prepared(run)


def jax_hessian(problem: Problem) -> Prepared:
    """``jax.jit(jax.hessian(cost))`` of the same network written in jax.numpy; compiling is timed
    apart."""
    layers = list(problem.model)[::2] if isinstance(problem.model, nn.Sequential) else []
    if not layers or not all(isinstance(layer, nn.Linear) for layer in layers):
        raise Skipped("written for the dense networks only")
    import jax
    import jax.numpy as jnp

    shapes = [
        (layer.out_features, layer.in_features) for layer in layers if isinstance(layer, nn.Linear)
    ]

    def cost(theta, x, y):
        at, a, z = 0, x, x
        for index, (narrow, wide) in enumerate(shapes):
            a = jnp.tanh(z) if index else x
            weight = theta[at : at + narrow * wide].reshape(narrow, wide)
            at += narrow * wide
            z = a @ weight.T + theta[at : at + narrow]
            at += narrow
        return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1).mean()

    theta = torch.cat([value.detach().reshape(-1) for value in problem.model.parameters()])
    arguments = [jnp.asarray(value.cpu().numpy()) for value in (theta, problem.x, problem.y.int())]
    seconds, compiled = timed(lambda: jax.jit(jax.hessian(cost)).lower(*arguments).compile())
    needs = compiled.memory_analysis()
    if needs is not None:
        _refuse_beyond_memory(needs.temp_size_in_bytes + needs.output_size_in_bytes)
    return Prepared(
        lambda count: torch.from_dlpack(compiled(*arguments).block_until_ready()), seconds
    )


def curvlinops(problem: Problem) -> Prepared:
    """``HessianLinearOperator @ eye``, 256 columns at a time, for all P at once would take P copies
    of the activations."""
    from curvlinops import HessianLinearOperator

    parameters = list(problem.model.parameters())
    operator = HessianLinearOperator(
        problem.model,
        nn.CrossEntropyLoss(),
        parameters,
        [(problem.x, problem.y)],
        check_deterministic=False,
    )

    def run(count: int) -> Tensor:
        rows = torch.empty(count, problem.size, device=DEVICE)
        with sdpa_kernel(SDPBackend.MATH):
            for start in range(0, count, CHUNK):
                stop = min(start + CHUNK, count)
                columns = operator @ unit_columns(problem.size, start, stop)
                assert isinstance(columns, Tensor)
                rows[start:stop] = columns.detach().T
        return rows.T

    return Prepared(run)


def _tangent_bytes(problem: Problem) -> int:
    """What P tangents of every layer's output take, with the few copies that live at once, and
    H."""
    outputs: list[int] = []
    leaves = [module for module in problem.model.modules() if not list(module.children())]
    hooks = [
        leaf.register_forward_hook(lambda m, i, output: outputs.append(output.numel()))
        for leaf in leaves
    ]
    with torch.no_grad():
        problem.model(problem.x)
    for hook in hooks:
        hook.remove()
    return 4 * problem.size * (LIVE_COPIES * sum(outputs) + 2 * problem.size)


# 1.6 to 2.4 were measured, as a process, on the dense cases.
LIVE_COPIES = 3


def _refuse_beyond_memory(needed: int) -> None:
    if needed > 0.8 * available_memory():
        raise Skipped(
            f"out of memory: needs about {math.ceil(needed / 1e9)} GB,"
            f" {available_memory() / 1e9:.0f} GB are free"
        )


PEERS = [
    Peer("columns", columns, partial=True),
    Peer("torch.func.hessian", whole, partial=False),
    Peer("jax", jax_hessian, partial=False),
    Peer("curvlinops", curvlinops, partial=True),
]
