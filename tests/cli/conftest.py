"""A folder as a user would have it: a file with models, and data beside it."""

from pathlib import Path

import numpy as np
import pytest

MODELS = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))

net = make()
X, y = torch.randn(6, 3), torch.randn(6, 2)
pair = (X, y)
arrays = (X.double().numpy(), y.numpy())
data = torch.utils.data.TensorDataset(X, y)
loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
number = 3
def batches():
    return [pair, pair]

def once():
    yield pair

def quartic(prediction, target):
    return ((prediction - target) ** 4).mean()

def needs(width):
    return nn.Linear(width, 2)

def fails():
    raise RuntimeError("no weights")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with model.py and data.npz in it."""
    rng = np.random.default_rng(0)
    (tmp_path / "model.py").write_text(MODELS)
    np.savez(tmp_path / "data.npz", X=rng.normal(size=(6, 3)), y=rng.normal(size=(6, 2)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # and take it away again: loading model.py adds it too
    return tmp_path
