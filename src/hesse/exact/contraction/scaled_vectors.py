"""An order of contraction for uses that scale or shift each entry of a vector, as a norm's weight
and bias do, with each other and with dense layers on vectors.

Index letters as in `hesse.exact.contraction.choice`; there are no positions, and each entry is a
group g or h of its own, with one output. Both terms have one form,

    H[(g,o,i),(h,q,j)] = Σ_n a[n,g,i] C[n,h,q; g,o] b[n,h,j]

with C = S, q = p for the curvature from above; C = D, q = c, b = δ, j = p for the product rule.
"""

import torch
from torch import Tensor

from hesse.exact.contraction.grid import Grid
from hesse.exact.contraction.pair import Estimate, Form, Pair, Sizes, dense


def by_entry(pair: Pair, grid: Grid) -> None:
    """Features with few for each entry are multiplied on, the others are summed with in a product
    of matrices."""
    a, blocks = pair.a[:, :, 0], grid.matrix.view(*pair.left.shape, *pair.right.shape)
    hessian, jacobian = dense(pair.hessian), dense(pair.jacobian)
    if hessian is not None:
        _add(a, hessian, pair.b[:, :, 0], blocks)
    if jacobian is not None:
        # D does not reach a joined bias, the last input.
        laid = blocks[..., : jacobian.shape[3]].transpose(-1, -2)
        _add(a, jacobian, pair.delta[:, :, 0], laid)


def _add(a: Tensor, coefficients: Tensor, b: Tensor, blocks: Tensor) -> None:
    """Add one term to blocks (g, o, i, h, q, j): a (n, g, i), C as it is arranged, b (n, h, j)."""
    g, o, i, h, q, j = blocks.shape
    n, C = len(a), coefficients.reshape(-1, h, q, g, o)
    if g > 1:
        right = b.permute(1, 2, 0)
        for x in range(i):
            weighed = (C * a[:, None, None, :, x, None]).view(n, h, q * g)
            total = torch.bmm(right, weighed.transpose(0, 1))  # (h, j, q g)
            blocks[:, 0, x].add_(total.view(h, j, q, g).permute(3, 0, 2, 1))
        return
    for y in range(j):
        weighed = (C * b[:, :, y, None, None, None]).view(n, h * q * o)
        total = a[:, 0].mT @ weighed  # (i, h q o)
        blocks[0, ..., y].add_(total.view(i, h, q, o).permute(3, 0, 1, 2))


def estimate_by_entry(z: Sizes) -> Estimate:
    left, right = z.g * z.o * z.i, z.h * z.p * z.j
    hessian, jacobian = z.hessian != Form.ZERO, z.jacobian != Form.ZERO
    numbers = z.g * z.o * (hessian * z.h * z.p + jacobian * z.x)
    # How often all of C is multiplied, and how many numbers each is summed with then.
    times, each = (z.i, z.j) if z.g > 1 else (z.j, z.i)
    return Estimate(
        2 * times * each * numbers,
        times * numbers,
        2 * z.g * z.o * max(z.h * z.p, z.x),
        3 * times * (hessian + jacobian),
        left * right * (hessian + jacobian),
        2 * left * right,
    )
