"""Loaded by the process from which those that answer are forked, and nowhere else: what a first
answer waits for is done here, once."""

import os

# PyTorch's automatic differentiation outlives a fork where it has begun no thread for a GPU.
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch

import hesse
from hesse.web import answers, explore, plane  # noqa: F401

hesse.derive("1/2*sum((y - f(W @ x))**2)", "W").html()
hesse.hessian(
    hesse.Cost.from_function(lambda p: torch.tanh(p["W"]).sum(), {"W": torch.ones(2)}),
    progress=False,
)
