"""Maxima of windows: where they go back to, for every option of the windows."""

from typing import Any

import pytest
import torch
from torch import nn

import hesse
from reference import relative


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 1},
        {"kernel_size": (2, 3), "stride": (1, 2), "padding": (0, 1)},
        {"kernel_size": 2, "dilation": 2},
        {"kernel_size": 2, "stride": 3, "ceil_mode": True},
    ],
    ids=str,
)
def test_windows_may_overlap_and_leave_out(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 2, bias=False), nn.Tanh(), nn.MaxPool2d(**options), nn.Flatten()
    ).double()
    X = torch.randn(3, 1, 5, 6, dtype=torch.float64)
    head = nn.LazyLinear(2).double()
    head(model(X))
    whole = nn.Sequential(model, nn.Tanh(), head)
    y = torch.randn(3, 2, dtype=torch.float64)
    H = hesse.hessian(hesse.Cost(whole, "half_sse", (X, y)), certify=False).dense()
    theta = {name: p.detach() for name, p in whole.named_parameters()}
    layout = hesse.Layout.of(theta)

    def value(flat: torch.Tensor) -> torch.Tensor:
        parts = layout.unflatten(flat)
        return (torch.func.functional_call(whole, parts, (X,)) - y).square().sum() / 2

    expected: Any = torch.autograd.functional.hessian(value, layout.flatten(theta))
    assert relative(H, expected) < 1e-12
