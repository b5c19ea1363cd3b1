"""Loaded by the process from which those that answer are forked, and nowhere else: what a first
answer waits for is done here, once."""

import os

# PyTorch's automatic differentiation outlives a fork where it has begun no thread for a GPU.
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch

import hesse
from hesse.web import answers, explore, numbers, plane  # noqa: F401

# As many answers are made at once as there are cores; and threads that were begun before a fork are
# waited for in vain after it.
torch.set_num_threads(1)
hesse.derive("1/2*sum((y - f(W @ x))**2)", "W").html()
small = {"network": "1-1", "samples": "1", "seed": "0"}
numbers.matrix({**small, **numbers.drawn(small)})
