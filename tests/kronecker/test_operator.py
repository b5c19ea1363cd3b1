"""Products, inverses and determinants against dense Kronecker products; files."""

import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import hesse
from hesse.errors import HesseFileError, HesseValueError
from hesse.kronecker.block import KroneckerBlock
from kronecker.networks_of_layers import cost_of, parts_of
from reference import relative

TOLERANCE = 1e-11
NAMES = ["image", "normalised", "words", "attention across"]


@pytest.fixture(params=["kfac", "ekfac", "foof"])
def K(request: pytest.FixtureRequest) -> hesse.KFAC:
    return hesse.kfac(cost_of("image"), kind=request.param)


def laid_out(K: hesse.KFAC, of_block: object) -> Tensor:
    """A matrix from what a function says of each group of each block, B and A."""
    whole = torch.zeros(K.shape, dtype=torch.float64)
    for block in K.blocks:
        assert isinstance(block, KroneckerBlock)
        for g, entries in enumerate(block.index.reshape(block.shape[0], -1)):
            B, A = block.left.matrix[g], block.right.matrix[g]
            whole[entries[:, None], entries] = of_block(B, A)  # type: ignore[operator]
    return whole


@pytest.mark.parametrize("name", NAMES)
def test_products_are_those_of_kronecker_products(name: str) -> None:
    K = hesse.kfac(cost_of(name))
    whole = laid_out(K, torch.kron)
    v = torch.randn(K.shape[0], 3, dtype=torch.float64)
    assert relative(K @ v, whole @ v) < TOLERANCE
    assert relative(K @ v[:, 0], whole @ v[:, 0]) < TOLERANCE
    assert relative(K.dense(), whole) < TOLERANCE
    a, b = K.layout.names[:2]
    rows, columns = K.layout.slice(a), K.layout.slice(b)
    assert relative(K.block(a), whole[rows, rows]) < TOLERANCE
    assert torch.allclose(K.block(a, b), whole[rows, columns])
    assert relative(K[a, a] @ v[rows], whole[rows, rows] @ v[rows]) < TOLERANCE
    by_name = K @ K.layout.unflatten(v[:, 0])
    assert relative(K.layout.flatten(by_name), whole @ v[:, 0]) < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_inverses_are_those_of_the_formulas(name: str) -> None:
    K, delta = hesse.kfac(cost_of(name)), 0.03
    one = torch.eye(K.shape[0], dtype=torch.float64)
    assert relative(K.inverse(delta).dense(), (K.dense() + delta * one).inverse()) < 1e-9

    def damped(F: Tensor, by: float) -> Tensor:
        return (F + by * torch.eye(len(F), dtype=F.dtype)).inverse()

    def pi(B: Tensor, A: Tensor) -> Tensor:
        if len(A) == 1 and float(A) == 1:  # no product
            return damped(B, delta)
        ratio = math.sqrt(float(A.trace() / len(A)) / float(B.trace() / len(B)))
        return torch.kron(damped(B, math.sqrt(delta) / ratio), damped(A, math.sqrt(delta) * ratio))

    def factors(B: Tensor, A: Tensor) -> Tensor:
        single = len(A) == 1 and float(A) == 1
        return damped(B, delta) if single else torch.kron(damped(B, delta), damped(A, delta))

    assert relative(K.inverse(delta, "pi").dense(), laid_out(K, pi)) < 1e-9
    assert relative(K.inverse(delta, "factors").dense(), laid_out(K, factors)) < 1e-9


def test_eigenvalues_trace_and_determinant(K: hesse.KFAC) -> None:
    whole = K.dense()
    values = torch.linalg.eigvalsh(whole)
    assert relative(K.eigenvalues(), values) < 1e-10
    assert abs(K.trace() - float(whole.trace())) < 1e-10 * K.trace()
    damped = torch.logdet(whole + 0.1 * torch.eye(len(whole), dtype=whole.dtype))
    assert abs(K.logdet(0.1) - float(damped)) < 1e-9 * abs(float(damped))
    assert math.isclose(K.det(), math.exp(K.logdet()))


def test_a_number_is_a_penalty_of_all(K: hesse.KFAC) -> None:
    model, loss, X, y = parts_of("image")
    more = hesse.kfac(hesse.Cost(model, loss, (X, y), penalty=0.2), kind=K.kind)
    plain = hesse.kfac(hesse.Cost(model, loss, (X, y)), kind=K.kind)
    one = torch.eye(K.shape[0], dtype=torch.float64)
    assert relative(more.dense(), plain.dense() + 0.2 * one) < TOLERANCE
    assert relative(more.inverse(0.1).dense(), plain.inverse(0.3).dense()) < 1e-9
    assert abs(more.logdet() - plain.logdet(0.2)) < 1e-9
    assert abs(more.trace() - plain.trace() - 0.2 * len(one)) < 1e-9


def test_it_is_an_operator_like_others(K: hesse.KFAC) -> None:
    v = torch.randn(K.shape[0], dtype=torch.float64)
    assert K.is_symmetric and K.T is K and hesse.as_operator(K) is K
    assert relative((2 * K + K @ K) @ v, 2 * (K @ v) + K @ (K @ v)) < TOLERANCE
    assert relative((K.inverse(0.1) @ K) @ v + 0.1 * (K.inverse(0.1) @ v), v) < 1e-9
    assert torch.equal(pickle.loads(pickle.dumps(K)).dense(), K.dense())


def test_files(K: hesse.KFAC, tmp_path: Path) -> None:
    path = tmp_path / "k.safetensors"
    K.save(path)
    read = hesse.KFAC.load(path)
    assert torch.equal(read.dense(), K.dense()) and str(read) == str(K)
    assert str(hesse.load(path)) == str(K)
    with pytest.raises(HesseValueError, match="knows no cost"):
        read.compare()
    assert hesse.KFAC.load(path, cost_of("image")).compare("gauss_newton").rows
    with pytest.raises(HesseValueError, match="the file is of 5 parameters"):
        hesse.KFAC.load(path, cost_of("dense"))
    hesse.hessian(cost_of("no biases")).save(path)
    with pytest.raises(HesseFileError, match="not a K-FAC"):
        hesse.KFAC.load(path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k.safetensors"
    hesse.kfac(cost_of("no biases")).save(path)
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        texts = file.metadata()
    tensors = load_file(path)
    for change in (
        lambda t: t.update({"0 left": t["0 left"] * 2}),
        lambda t: t.update({"0 index": t["0 index"].flip(0)}),
        lambda t: t.pop("1 right"),
        lambda t: t.update({"more": torch.zeros(2)}),
    ):
        changed = dict(tensors)
        change(changed)
        save_file(changed, path, metadata=texts)
        with pytest.raises(HesseFileError, match="not a K-FAC"):
            hesse.KFAC.load(path)
    for text in ("{}", "[]", "nan", texts["kfac"].replace('"format": 1', '"format": 9')):
        save_file(tensors, path, metadata={"kfac": text})
        with pytest.raises(HesseFileError, match="not a K-FAC"):
            hesse.KFAC.load(path)


def test_what_cannot_be_inverted() -> None:
    K = hesse.kfac(cost_of("image"))
    with pytest.raises(HesseValueError, match="damping: more is needed"):
        K.inverse(0.0)
    with pytest.raises(HesseValueError, match="expected a number >= 0, got -1"):
        K.inverse(-1)
    with pytest.raises(HesseValueError, match="'exact', 'pi', 'factors', got 'x'"):
        K.inverse(0.1, "x")
    with pytest.raises(HesseValueError, match="eigenvalues are of no product"):
        hesse.kfac(cost_of("image"), kind="ekfac").inverse(0.1, "pi")
