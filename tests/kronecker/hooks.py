"""K-FAC as its papers have it, sample by sample: forward hooks on modules, automatic
differentiation, no graph. Features are the derivative of a layer's output in its weight."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev

Calls = dict[str, list[tuple[Tensor, Tensor]]]


def rows_of_hessian(loss: Callable[[Tensor], Tensor], prediction: Tensor) -> list[Tensor]:
    """r_k with Σ r rᵀ the Hessian of a loss."""
    flat = prediction.detach().flatten()
    values, vectors = torch.linalg.eigh(hessian(lambda z: loss(z.view_as(prediction)))(flat))
    return list((vectors * values.clamp(min=0).sqrt()).T)


def row_of_slope(loss: Callable[[Tensor], Tensor], prediction: Tensor) -> list[Tensor]:
    """The slope of a loss."""
    return [torch.func.grad(loss)(prediction.detach()).flatten()]


def entries(module: nn.Module, weight: Tensor) -> list[Tensor]:
    """By output channel, which entries of the weight it is made with."""
    index = torch.arange(weight.numel()).view(weight.shape)
    if isinstance(module, nn.Embedding):
        return list(index.T)
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        groups = index.unflatten(0, (module.groups, -1))
        return [
            groups[g, :, o].flatten() for g in range(len(groups)) for o in range(groups.shape[2])
        ]
    return list(index.flatten(1))


def channels(module: nn.Module, value: Tensor) -> Tensor:
    """The value of a layer, or its signal, for one sample as (positions, outputs)."""
    last = isinstance(module, nn.Linear | nn.Embedding)
    return value[0].reshape(-1, value.shape[-1]) if last else value[0].flatten(1).T


def blocks(
    model: nn.Module,
    samples: list[tuple[Tensor, Callable[[Tensor], Tensor]]],
    rows: Callable[[Callable[[Tensor], Tensor], Tensor], list[Tensor]],
    reduce: bool,
    joint: bool,
) -> Mapping[str, Tensor]:
    """By module, the block of its weight, and of its bias behind it where the two are joint.

    Args:
        model: its layers are dense, convolutions or embeddings.
        samples: each an input with a leading axis of 1, and its loss of the prediction, divided by
            the divisor of the mean.
        rows: what is sent back.
        reduce: whether positions are summed over first.
        joint: whether a bias is an input of its weight.
    """
    layers = {name: m for name, m in model.named_modules() if hasattr(m, "weight")}
    A: dict[str, Any] = dict.fromkeys(layers, 0.0)
    B: dict[str, Any] = dict.fromkeys(layers, 0.0)
    count = dict.fromkeys(layers, 0)
    for x, loss in samples:
        calls: Calls = {name: [] for name in layers}
        handles = [
            m.register_forward_hook(
                lambda m, given, out, held=calls[name]: held.append((given[0].detach(), out))
            )
            for name, m in layers.items()
        ]
        prediction = model(x)
        for handle in handles:
            handle.remove()
        for name, m in layers.items():
            a = torch.cat([features(m, given, joint) for given, _ in calls[name]], 1)
            a = a.mean(1, keepdim=True) if reduce else a
            A[name] += a.mT @ a
            count[name] += a.shape[1]
        for row in rows(loss, prediction):
            for name, m in layers.items():
                outs = [out for _, out in calls[name]]
                signals = torch.autograd.grad(prediction.flatten() @ row, outs, retain_graph=True)
                d = torch.cat([channels(m, signal) for signal in signals])
                d = d.sum(0, keepdim=True) if reduce else d
                B[name] += d.T @ d
    return {name: product(m, A[name] / count[name], B[name], joint) for name, m in layers.items()}


def features(module: nn.Module, x: Tensor, joint: bool) -> Tensor:
    """a of every position, for each group of outputs: (groups, positions, inputs)."""
    weight, held = module.weight, dict(module.named_parameters())
    assert isinstance(weight, Tensor)
    jacobian = jacrev(lambda W: functional_call(module, {**held, "weight": W}, (x,)))(
        weight.detach()
    )
    own, groups = entries(module, weight), getattr(module, "groups", 1)
    # One output of each group stands for all.
    firsts = range(0, len(own), len(own) // groups)
    slopes = [channels(module, entry) for entry in jacobian.flatten(-weight.ndim).movedim(-1, 0)]
    table = torch.stack(slopes, 2)  # positions, outputs, entries of the weight
    found = torch.stack([table[:, o, own[o]] for o in firsts])
    has_bias = joint and getattr(module, "bias", None) is not None
    return torch.cat([found, torch.ones_like(found[..., :1])], 2) if has_bias else found


def product(module: nn.Module, A: Tensor, B: Tensor, joint: bool) -> Tensor:
    """B ⊗ A laid out in the order of weight and bias."""
    weight, bias = module.weight, getattr(module, "bias", None)
    assert isinstance(weight, Tensor)
    own = entries(module, weight)
    size, groups = weight.numel(), getattr(module, "groups", 1)
    if joint and bias is not None:
        own = [torch.cat([part, torch.tensor([size + o])]) for o, part in enumerate(own)]
        size += len(own)
    block = torch.zeros(size, size, dtype=A.dtype)
    each = len(own) // groups
    for o, left in enumerate(own):
        for p, right in enumerate(own):
            if o // each == p // each:
                block[left[:, None], right] = B[o, p] * A[o // each]
    return block
