"""What people write with what they got, a line each: it works, or says the way."""

import copy
import dataclasses
import io
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
import scipy.optimize
import scipy.sparse.linalg
import sklearn.covariance
import sklearn.decomposition
import sklearn.linear_model
import sklearn.metrics
import statsmodels.api
import statsmodels.stats.moment_helpers
import torch
import xarray
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
    "np.linalg.pinv(H)": "np.linalg.pinv(D)",
    "np.linalg.solve(H, v.numpy())": "np.linalg.solve(D, v.numpy())",
    "np.kron(H, np.eye(2))": "np.kron(D, np.eye(2))",
    "np.triu(H)": "np.triu(D)",
    "np.round(H, 2)": "np.round(D, 2)",
    "np.abs(H)": "np.abs(D)",
    "np.isfinite(H)": "np.isfinite(D)",
    "np.sum(H)": "D.sum()",
    "np.max(H, axis=0)": "D.max(axis=0)",
    "np.cumsum(H)": "np.cumsum(D)",
    "np.matmul(H, v.numpy())": "D @ v.numpy()",
    "np.matmul(v.numpy(), H)": "D @ v.numpy()",
    "np.dot(H, v.numpy())": "D @ v.numpy()",
    "np.concatenate([H, H])": "np.concatenate([D, D])",
    "scipy.linalg.expm(H)": "scipy.linalg.expm(D)",
    "scipy.linalg.sqrtm(H)": "scipy.linalg.sqrtm(D)",
    "scipy.linalg.solve(H, v, assume_a='pos')": "np.linalg.solve(D, v.numpy())",
    "scipy.linalg.block_diag(H, H)": "scipy.linalg.block_diag(D, D)",
    "scipy.linalg.eigh(H, eigvals_only=True)": "np.linalg.eigvalsh(D)",
    "scipy.sparse.csr_matrix(H).toarray()": "D",
    "scipy.sparse.linalg.eigsh(np.asarray(H), k=2)[0]": "np.linalg.eigvalsh(D)[[-2, -1]]",
    "pd.DataFrame(H)": "D",
    "H.to_pandas()": "D",
    "H.to_pandas().loc['0.weight', '2.bias']": "D[:4, 8:]",
    "pd.DataFrame(np.linalg.inv(H)).cov()": "np.cov(np.linalg.inv(D), rowvar=False)",
    "xarray.DataArray(H)": "D",
    "H.to_xarray().sum('row')": "D.sum(0)",
    "sklearn.metrics.pairwise_distances(H)": "sklearn.metrics.pairwise_distances(D)",
    "sklearn.decomposition.PCA(2).fit(H).explained_variance_": (
        "sklearn.decomposition.PCA(2).fit(D).explained_variance_"
    ),
    "sklearn.covariance.empirical_covariance(H)": "sklearn.covariance.empirical_covariance(D)",
    "statsmodels.stats.moment_helpers.cov2corr(np.linalg.inv(H))": (
        "statsmodels.stats.moment_helpers.cov2corr(np.linalg.inv(D))"
    ),
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
    "torch.sum(H)": "D.sum()",
    "torch.linalg.cond(H)": "np.linalg.cond(D)",
    "torch.func.vmap(lambda u: H @ u)(torch.eye(9).double())": "D",
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
    "hesse.as_operator(H.to_pandas()).dense()": "D",
    "hesse.as_operator(H.to_xarray()).dense()": "D",
    "hesse.eigenpairs(op.to_scipy(), 2).values": "np.linalg.eigvalsh(D)[[-1, -2]]",
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
    "H.get(('2.bias', '2.bias'))": "D[8:, 8:]",
    "v @ op @ v": "v.numpy() @ D @ v.numpy()",
    "np.asarray(hesse.trace(cost))": "np.trace(D)",
    "np.array([hesse.trace(cost)] * 2)": "np.array([np.trace(D)] * 2)",
    "np.float64(hesse.trace(cost))": "np.trace(D)",
    "list(hesse.layers(cost).to_pandas()['trace'])": (
        "[np.trace(D[:6, :6]), np.trace(D[6:, 6:]), np.trace(D)]"
    ),
    "[float(hesse.layers(cost)[name].trace) for name in hesse.layers(cost)][-1]": "np.trace(D)",
    "cost.layout.flatten(hesse.gradient(cost)).numpy()": (
        "torch.cat([g.flatten() for g in hesse.gradient(cost).values()])"
    ),
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
    "scipy.linalg.issymmetric(H)",
    "plt.imshow(H) and plt.matshow(H)",
    "plt.spy(H) and plt.pcolormesh(H) and plt.plot(H)",
    "plt.hist(H.eigvalsh()) and plt.plot([hesse.trace(cost)] * 2)",
    "plt.plot(hesse.density(cost)) and plt.bar(range(9), np.diag(H))",
    "H.plot().figure.savefig(io.BytesIO()) is None",
    "np.savetxt(io.StringIO(), H) is None and np.save(io.BytesIO(), H) is None",
    "H.to_pandas().to_csv() and H.to_pandas().style.background_gradient().to_html()",
    "pd.DataFrame(hesse.plan(cost).blocks).shape[0] == 10",
    "pd.Series(H.norms).idxmax() in H",
    "sum([op, op]) and len(H.get(('0.bias', 'none'), ())) == 0",
    "list(hesse.layers(cost)) == ['0', '2', '(whole)'] and len(hesse.layers(cost)) == 3",
    "dataclasses.asdict(H.certificate) and vars(hesse.trace(cost))",
    "all(json.dumps(x, default=str) for x in (H, op, cost, hesse.plan(cost), H.certificate))",
    "scipy.optimize.minimize(lambda x: hesse.value(cost.at(x)), np.zeros(9),"
    " jac=lambda x: cost.layout.flatten(hesse.gradient(cost.at(x))).numpy(), method='trust-exact',"
    " hess=lambda x: hesse.hessian(cost.at(x)), options={'maxiter': 1}).nit == 1",
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
    "sum(H)": r"sum\(H\).*H\.dense\(\)\.sum\(\)",
    "float(H)": r"H\.dense\(\)",
    "int(H)": r"H\.dense\(\)",
    "round(H, 2)": r"np\.asarray\(H\)",
    "f'{H:.2f}'": r"H\.dense\(\)",
    "'%f' % H": r"H\.dense\(\)",
    "divmod(H, 2)": r"np\.asarray\(H\)",
    "2**H": r"np\.asarray\(H\)",
    "~H": r"np\.asarray\(H\)",
    "H == D": r"np\.asarray\(H\)",
    "np.add(H, 1)": r"np\.asarray\(H\)",
    "np.maximum(H, 0)": r"np\.asarray\(H\)",
    "H.astype('f4')": r"H\.dense\(\)\.numpy\(\)\.astype\(\)",
    "H.copy()": r"H\.dense\(\)\.numpy\(\)\.copy\(\)",
    "H.to_numpy()": r"H\.dense\(\)\.numpy\(\)",
    "H.toarray()": r"H\.dense\(\)\.numpy\(\)",
    "H.eigvals()": r"torch\.linalg\.eigvals\(H\.dense\(\)\)",
    "H.iloc[0]": r"H\.to_pandas\(\)\.iloc$",
    "H.to_csv('h.csv')": r"H\.to_pandas\(\)\.to_csv\(\)",
    "scipy.sparse.linalg.eigsh(H)": r"hesse\.as_operator\(H\)\.to_scipy\(\)",
    "scipy.sparse.linalg.cg(H, v.numpy())": r"hesse\.as_operator\(H\)\.to_scipy\(\)",
    "scipy.sparse.linalg.eigsh(op)": r"A\.to_scipy\(\)",
    "scipy.sparse.linalg.eigs(op)": r"A\.to_scipy\(\)",
    "scipy.sparse.linalg.svds(op)": r"A\.to_scipy\(\)",
    "scipy.sparse.linalg.cg(op, v.numpy())": r"A\.to_scipy\(\)",
    "scipy.sparse.linalg.gmres(op, v.numpy())": r"A\.to_scipy\(\)",
    "scipy.sparse.linalg.aslinearoperator(op)": r"A\.to_scipy\(\)",
    "op.matvec(v.numpy())": r"A\.to_scipy\(\)",
    "op.toarray()": r"A\.dense\(\)\.numpy\(\)",
    "op.to_pandas()": r"A\.dense\(\)\.numpy\(\)",
    "op**2": r"A\.dense\(\)",
    "float(op)": r"hesse\.trace\(A\)",
    "np.sqrt(op)": r"A\.dense\(\)\.numpy\(\)",
    "np.matmul(op, v.numpy())": r"A\.dense\(\)\.numpy\(\)",
    "np.eye(9) + op": r"hesse\.as_operator",
    "v.numpy() @ op": "expected a flat tensor",
    "torch.as_tensor(op)": r"A\.dense\(\)",
    "torch.vmap(lambda u: op @ u)(torch.eye(9).double())": r"a matrix \(P, K\)",
    "plt.imshow(op)": r"A\.dense\(\)",
    "sklearn.decomposition.PCA(2).fit(op)": r"A\.dense\(\)\.numpy\(\)",
    "xarray.DataArray(op)": r"A\.dense\(\)\.numpy\(\)",
    "hesse.trace(cost) * 2": r"float\(e\)",
    "hesse.trace(cost) < 3": r"float\(e\)",
    "round(hesse.trace(cost), 2)": r"float\(e\)",
    "np.sqrt(hesse.trace(cost))": r"float\(e\)",
    "max(hesse.trace(cost), 3)": r"float\(e\)",
    "sum([hesse.trace(cost)])": r"float\(e\)",
    "float(cost)": r"hesse\.value\(cost\)",
    "cost + cost": r"hesse\.Cost\.from_function",
    "hesse.layers(cost)['3']": "the nearest known: '0', '2', '\\(whole\\)'",
    "hesse.Cost(sklearn.linear_model.LinearRegression(), 'mse', data)": "expected an nn.Module",
    "hesse.Cost(statsmodels.api.OLS([1.0], [[1.0]]), 'mse', data)": "expected an nn.Module",
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
        **dict(copy=copy, dataclasses=dataclasses, io=io, json=json, pickle=pickle),
        **dict(sklearn=sklearn, statsmodels=statsmodels, xarray=xarray),
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
