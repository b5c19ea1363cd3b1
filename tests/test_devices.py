"""What can be told of devices on a machine with one: default devices, several devices, what a
certificate says of TF32."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

import hesse
from cases import CASES, Case
from hesse.certificates.precision import convolutions_in_tf32, eps_of, products_in_tf32, tf32_notes
from reference import expected_hessian, relative

GPU, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """Tensors made without a device have no numbers."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@pytest.mark.some(of=5)
# A function of a prediction is found out about before its cost is made.
@pytest.mark.parametrize(
    "case",
    [case for case in CASES if "custom" not in case.name and "couples" not in case.name],
    ids=str,
)
def test_nothing_is_made_on_the_default_device(case: Case, request: pytest.FixtureRequest) -> None:
    problem, expected = case.problem(), expected_hessian(case)
    request.getfixturevalue("elsewhere")
    cost = problem.cost()
    assert relative(hesse.hessian(cost).dense(), expected) < 1e-10
    op = hesse.operator(cost)
    assert (
        relative(op @ torch.eye(len(expected), dtype=torch.float64, device=CPU), expected) < 1e-10
    )
    assert relative(cost.layout.flatten(dict(hesse.diagonal(cost))), expected.diagonal()) < 1e-10


@pytest.mark.parametrize("method", ["trust-exact", "trust-krylov", "Newton-CG"])
def test_minimize_makes_nothing_there_either(elsewhere: None, method: str) -> None:
    start = {"x": torch.tensor([-1.2, 1.0], dtype=torch.float64, device=CPU)}
    cost = hesse.Cost.from_function(
        lambda p: (1 - p["x"][0]) ** 2 + 100 * (p["x"][1] - p["x"][0] ** 2) ** 2, start
    )
    assert hesse.minimize(cost, method, tolerance=1e-4).success
    q = hesse.quadratic(cost)
    assert q.trust_region(radius=0.1).vector.device == CPU and q.stationary_point() is not None


def test_a_model_on_several_devices_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).eval()
    model[1].register_buffer("mask", torch.ones(2, device="meta"))
    with pytest.raises(hesse.HesseError, match=r"several devices.*'1.mask' on meta"):
        hesse.Cost(model, "mse", (torch.randn(4, 3), torch.randn(4, 2)))
    model[1].register_buffer("mask", torch.ones(2))
    hesse.Cost(model, "mse", (torch.randn(4, 3), torch.randn(4, 2)))


def test_tf32_is_the_matter_of_a_gpu_and_float32() -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = False
        assert products_in_tf32(GPU) and not convolutions_in_tf32(GPU) and not products_in_tf32(CPU)
        assert eps_of(torch.float32, GPU) > 1e3 * eps_of(torch.float32, CPU)
        assert eps_of(torch.float64, GPU) == eps_of(torch.float64, CPU)
        (note,) = tf32_notes(torch.float32, GPU)
        assert note.startswith("TF32 is on for matrix products") and "off for convolutions" in note
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = True
        (note,) = tf32_notes(torch.float32, GPU)
        assert note.startswith("TF32 is off for matrix products") and "on for convolutions" in note
        assert (
            eps_of(torch.float32, GPU)
            == eps_of(torch.float32, CPU)
            < eps_of(torch.float32, GPU, convolution=True)
        )
        assert tf32_notes(torch.float64, GPU) == tf32_notes(torch.float32, CPU) == ()
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
