"""Σ x xᵀ, whichever way the vectors come."""

import pytest
import torch

from hesse.kronecker.gram import Gram


@pytest.mark.parametrize("with_one", [False, True])
@pytest.mark.parametrize("positions_side_by_side", [False, True])
@pytest.mark.parametrize(
    "sizes", [(1, 5, 4, 3), (2, 40, 8, 130), (1, 2, 150, 129), (1, 140, 5, 200)]
)
def test_against_one_product(
    sizes: tuple[int, int, int, int], positions_side_by_side: bool, with_one: bool
) -> None:
    """Of few vectors and of many, in a matrix that is made in blocks, in more blocks and in one
    piece."""
    g, n, t, d = sizes
    torch.manual_seed(0)
    gram, every = Gram(with_one), []
    # What is left in memory must not show.
    del [torch.full((g, d + 1, d + 1), torch.nan, dtype=torch.float64) for _ in range(3)][:]
    for samples in (n, 1, 2 * n):
        rows = torch.randn(g, samples, t, d, dtype=torch.float64)
        gram.add(rows.mT.contiguous().mT if positions_side_by_side else rows)
        every.append(rows.flatten(1, 2))
    vectors = torch.cat(every, 1)
    if with_one:
        vectors = torch.cat([vectors, torch.ones_like(vectors[..., :1])], 2)
    total = gram.total()
    assert total is not None
    torch.testing.assert_close(total, vectors.mT @ vectors, rtol=1e-12, atol=1e-10)
