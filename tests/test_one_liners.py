"""What people write with what they got, a line each: it works, or says the way."""

import copy
import json
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import scipy.sparse.linalg
import torch
from matplotlib import pyplot as plt
from torch import nn

import hesse

# By what is written: it agrees with the same of the dense matrix D, a NumPy array, or is true.
MATRIX = {
    "np.linalg.eigvalsh(H)": "np.linalg.eigvalsh(D)",
    "np.linalg.inv(H)": "np.linalg.inv(D)",
    "np.linalg.cond(H)": "np.linalg.cond(D)",
    "np.linalg.norm(H)": "np.linalg.norm(D)",
    "np.linalg.slogdet(H)[1]": "np.linalg.slogdet(D)[1]",
    "np.trace(H)": "np.trace(D)",
    "np.diag(H)": "np.diag(D)",
    "np.asarray(H)": "D",
    "np.array(H, dtype='f4')": "D.astype('f4')",
    "np.einsum('ij,j->i', H, v.numpy())": "D @ v.numpy()",
    "scipy.linalg.cho_factor(H)[0]": "scipy.linalg.cho_factor(D)[0]",
    "scipy.linalg.eigh(H, eigvals_only=True)": "np.linalg.eigvalsh(D)",
    "scipy.sparse.csr_matrix(H).toarray()": "D",
    "scipy.sparse.linalg.eigsh(np.asarray(H), k=2)[0]": "np.linalg.eigvalsh(D)[[-2, -1]]",
    "pd.DataFrame(H)": "D",
    "H.to_pandas()": "D",
    "torch.as_tensor(H)": "D",
    "torch.tensor(H)": "D",
    "torch.asarray(H)": "D",
    "torch.from_dlpack(H)": "D",
    "torch.linalg.eigvalsh(H.dense())": "np.linalg.eigvalsh(D)",
    "torch.linalg.eigvalsh(H)": "np.linalg.eigvalsh(D)",
    "torch.linalg.solve(H, v)": "np.linalg.solve(D, v.numpy())",
    "torch.mv(H, v)": "D @ v.numpy()",
    "torch.trace(H)": "np.trace(D)",
    "torch.stack([H, H])[1]": "D",
    "H.eigvalsh()": "np.linalg.eigvalsh(D)",
    "H @ v": "D @ v.numpy()",
    "v @ H": "D @ v.numpy()",
    "H @ v.numpy()": "D @ v.numpy()",
    "v.numpy() @ H": "D @ v.numpy()",
    "H @ torch.eye(9).double()": "D",
    "H.T": "D",
    "np.asarray(H) - np.asarray(H.T)": "0 * D",
    "H['*', '*']": "D",
    "H['0.*', '2.*']": "D[:6, 6:]",
    "pickle.loads(pickle.dumps(H))": "D",
    "copy.deepcopy(H)": "D",
    "copy.copy(H)": "D",
    "hesse.inverse(H).dense()": "np.linalg.inv(D)",
    "hesse.solve(H, v).vector": "np.linalg.solve(D, v.numpy())",
    "hesse.solve(np.asarray(H), v).vector": "np.linalg.solve(D, v.numpy())",
    "hesse.eigenpairs(np.asarray(H), 2).values": "np.linalg.eigvalsh(D)[[-1, -2]]",
    "float(hesse.trace(np.asarray(H)))": "np.trace(D)",
    "hesse.as_operator(H).dense()": "D",
    "op @ v": "D @ v.numpy()",
    "op.T @ v": "D @ v.numpy()",
    "op.dense()": "D",
    "op.to_scipy() @ v.numpy()": "D @ v.numpy()",
    "scipy.sparse.linalg.eigsh(op.to_scipy(), k=2)[0]": "np.linalg.eigvalsh(D)[[-2, -1]]",
    "scipy.sparse.linalg.cg(op.to_scipy(), v.numpy(), rtol=1e-14)[0]": (
        "np.linalg.solve(D, v.numpy())"
    ),
    "(op * 2 + op - op) @ v": "2 * D @ v.numpy()",
    "sum(block.sum() for block in op.dense())": "D.sum()",
    "float(H['2.bias', '2.bias'])": "D[8, 8]",
    "max(block.abs().max() for block in H.values())": "np.abs(D).max()",
    "pd.concat(map(pd.Series, (d.flatten() for d in H.diagonal().values())))": "np.diag(D)",
    "hesse.diagonal(cost)['0.bias']": "np.diag(D)[4:6]",
}
TRUE = (
    "H.shape == op.shape == (9, 9)",
    "H.dtype == op.dtype == torch.float64",
    "len(H) == 10 and len(list(H)) == 10",
    "('0.weight', '2.bias') in H and ('2.bias', '0.weight') in H",
    "'0.weight' not in H",
    "H.keys() == H.pairs and dict(H).keys() == dict(H.items()).keys()",
    "all(block.shape == H[a, b].shape for (a, b), block in H.items())",
    "json.dumps(H.provenance)",
    "pickle.loads(pickle.dumps(hesse.plan(cost))).blocks == hesse.plan(cost).blocks",
    "np.allclose(H, H.T)",
    "plt.imshow(H) and plt.matshow(H)",
    "net.load_state_dict(minimum.parameters)",
    "hesse.value(cost.at(minimum.x)) == minimum.fun == hesse.value(minimum.cost)",
    "hesse.value(cost.at(minimum.parameters)) == minimum.fun",
    "f'{hesse.trace(cost):.2f}' and float(hesse.trace(cost)) + 1",
    "hesse.Cost(net, 'mse_loss', (np.ones((3, 2)), np.ones((3, 1)))).samples == 3",
    "set(hesse.__all__) <= set(dir(hesse))",
)
# By what is written: what the error says is the way.
REFUSED = {
    "H - H.T": r"H\.dense\(\)",
    "H + H": r"H\.dense\(\)",
    "2 * H": r"H\.dense\(\)",
    "np.ones((9, 9)) - H": r"np\.asarray\(H\)",
    "H / 2": r"hesse\.as_operator\(H\)",
    "-H": r"H\.dense\(\)",
    "v - H": r"H\.dense\(\)",
    "H > 0": r"H\.dense\(\)",
    "abs(H)": r"H\.dense\(\)",
    "H @ H": "expected a tensor",
    "H[0]": r"named by two parameters.*H\.dense\(\)",
    "H[0, 1]": r"named by two parameters.*H\.dense\(\)",
    "H[:, 0]": r"named by two parameters.*H\.dense\(\)",
    "H['0.weight']": "named by two parameters",
    "H['0.wait', '2.bias']": "nearest",
    "H.numpy()": r"H\.dense\(\)\.numpy\(\)",
    "H.trace()": r"H\.dense\(\)\.trace\(\), or hesse\.trace\(H\)",
    "H.inverse()": r"hesse\.inverse\(H\)",
    "H.logdet()": r"hesse\.logdet\(H\)",
    "H.double()": r"H\.dense\(\)\.double\(\)",
    "H.to('cpu')": r"H\.dense\(\)\.to\(\)",
    "H.tolist()": r"H\.dense\(\)\.tolist\(\)",
    "H.ndim": r"H\.dense\(\)\.ndim$",
    "H.sum()": r"H\.dense\(\)\.sum\(\)",
    "op.diagonal()": r"hesse\.estimated_diagonal\(A\), or hesse\.diagonal\(cost\)",
    "op.trace()": r"hesse\.trace\(A\)",
    "op.numpy()": r"A\.dense\(\)\.numpy\(\)",
    "np.asarray(op)": r"A\.dense\(\)\.numpy\(\), or give SciPy A\.to_scipy\(\)",
    "torch.linalg.eigvalsh(op)": r"A\.dense\(\), or ask hesse: hesse\.eigenpairs\(A, k\)",
    "op @ v.numpy()": "expected a flat tensor",
    "cost.hessian()": r"hesse\.hessian\(cost\)",
    "cost.gradient": r"hesse\.gradient\(cost\)",
    "hesse.Cost(net, 'mse_lose', data)": "'mse_loss'",
    "hesse.Cost(net, 'triplet_margin_loss', data)": "takes something else than a prediction",
}


@pytest.fixture(scope="module")
def names() -> Iterator[dict[str, Any]]:
    random = torch.Generator().manual_seed(0)
    data = [torch.randn(8, n, generator=random, dtype=torch.float64) for n in (2, 1)]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)).double()
    cost = hesse.Cost(net, "mse", tuple(data), penalty=2.0)
    H = hesse.hessian(cost)
    v = torch.randn(9, generator=random, dtype=torch.float64)
    before = matplotlib.get_backend()
    plt.switch_backend("agg")
    yield {
        **dict(np=np, pd=pd, plt=plt, scipy=scipy, torch=torch, hesse=hesse),
        **dict(copy=copy, json=json, pickle=pickle),
        **dict(cost=cost, net=net, data=tuple(data), H=H, D=H.dense().numpy(), v=v),
        **dict(op=hesse.operator(cost), minimum=hesse.minimize(cost)),
    }
    plt.close("all")
    plt.switch_backend(before)


@pytest.mark.parametrize(("written", "expected"), MATRIX.items(), ids=MATRIX)
def test_it_is_that_of_the_matrix(written: str, expected: str, names: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, other = eval(written, names), eval(expected, names)
    np.testing.assert_allclose(np.asarray(found), other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("written", TRUE)
def test_it_holds(written: str, names: dict[str, Any]) -> None:
    assert eval(written, names)


@pytest.mark.parametrize(("written", "way"), REFUSED.items(), ids=REFUSED)
def test_it_is_refused_with_the_way(written: str, way: str, names: dict[str, Any]) -> None:
    with pytest.raises(hesse.HesseError, match=way):
        eval(written, names)


def test_what_is_not_there_is_not_there(names: dict[str, Any]) -> None:
    for thing in (names["H"], names["op"], names["cost"]):
        assert not hasattr(thing, "numpy") and not hasattr(thing, "_repr_png_")
        with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
            thing.nonsense  # noqa: B018
