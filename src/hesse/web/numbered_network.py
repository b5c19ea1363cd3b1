"""A small network with numbers for its weights and its data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import hesse
from hesse.errors import HesseKeyError, HesseValueError
from hesse.layout import Layout
from hesse.operations.registry import FUNCTIONS
from hesse.web import arrays
from hesse.web.question import Question, network_in_words
from hesse.words.shapes import Float

MOST_PARAMETERS = 60  # as many rows as one can look at
MOST_SAMPLES = 1000
_DECIMALS = 2  # of random numbers: they can be read, and typed again

# From (samples, outputs) to what `hesse.Network` means: the sum over the samples, or their mean.
LOSSES: dict[str, Any] = {
    "half_sse": lambda found, y: ((y - found) ** 2).sum() / 2,
    "mse": lambda found, y: ((y - found) ** 2).mean(),
    "cross_entropy": lambda found, y: -(y * F.log_softmax(found, 1)).sum() / len(y),
    "bce": lambda found, y: (F.softplus(found) - y * found).sum() / len(y),
}


@dataclass(frozen=True, eq=False)
class NumberedNetwork:
    """A network, its weights, and samples.

    Attributes:
        network: in words.
        parameters: W1, b1, W2, ... in float64.
        x, y: a row for each sample.
    """

    network: "hesse.Network"
    parameters: dict[str, Tensor]
    x: Float[Tensor, "N d"]
    y: Float[Tensor, "N m"]

    @staticmethod
    def of(said: Mapping[str, str]) -> "NumberedNetwork":
        """The network of a form: its words in ``network``, its numbers in ``arrays``.

        Raises:
            HesseError: words that are no network, too large a one, numbers that do not fit it.
        """
        network = small_network(Question.of(said).network)
        given = arrays.read(said.get("arrays", ""))
        shapes = _shapes(network)
        unknown = sorted(given.keys() - shapes.keys() - {"x", "y"})
        missing = [name for name in (*shapes, "x", "y") if name not in given]
        if unknown or missing:
            raise HesseKeyError(
                f"arrays: {network} has the arrays {', '.join((*shapes, 'x', 'y'))}; missing:"
                f" {', '.join(missing) or 'none'}, unknown: {', '.join(unknown) or 'none'}"
            )
        for name, shape in shapes.items():
            if given[name].shape != shape:
                raise HesseValueError(
                    f"{name}: expected shape {shape} in {network}, got {given[name].shape}"
                )
        inputs, *_, outputs = _widths(network)
        x, y = _samples("x", given["x"], inputs), _samples("y", given["y"], outputs)
        if len(x) != len(y):
            raise HesseValueError(
                f"y: expected a row for each of the {len(x)} samples in x, got {len(y)}"
            )
        # The formulas are made with it.
        if network.loss == "cross_entropy" and not np.allclose(y.sum(1), 1):
            raise HesseValueError("y: cross_entropy expects rows of probabilities that sum to 1")
        parameters = {name: torch.from_numpy(given[name]) for name in shapes}
        return NumberedNetwork(network, parameters, torch.from_numpy(x), torch.from_numpy(y))

    @property
    def samples(self) -> int:
        """How many there are."""
        return len(self.x)

    @property
    def layout(self) -> Layout:
        """The order of the parameters."""
        return Layout.of(self.parameters)

    def value(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The cost at other weights, in PyTorch's words and without any formula."""
        return self._value(parameters, self.x, self.y)

    @cached_property
    def cost(self) -> "hesse.Cost":
        """The same for `hesse.hessian`."""

        def of_samples(parameters: Mapping[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
            return self._value(parameters, *batch)

        reduction = "sum" if self.network.loss == "half_sse" else "mean"
        return hesse.Cost.from_function(
            of_samples, self.parameters, (self.x, self.y), reduction=reduction
        )

    @property
    def by_name(self) -> dict[str, np.ndarray]:
        """All arrays, as a formula takes them."""
        weights = {name: tensor.numpy() for name, tensor in self.parameters.items()}
        return {**weights, "x": self.x.numpy(), "y": self.y.numpy()}

    def _value(self, parameters: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        for layer, activation in enumerate(self.network.activations, 1):
            x = x @ parameters[f"W{layer}"].T
            if self.network.bias:
                x = x + parameters[f"b{layer}"]
            if activation != "identity":
                x = FUNCTIONS[activation].value(x)
        return LOSSES[self.network.loss](x, y)


def small_network(words: str) -> "hesse.Network":
    """A network that numbers can be put into.

    Raises:
        HesseError: not a network, one with sizes or functions that are left open, or too large.
    """
    if not words.strip():
        raise HesseValueError(
            "network: expected widths, an activation and a loss, such as 2-3-1, sigmoid, half_sse"
        )
    network = network_in_words(words)
    left_open = [size for size in network.widths if isinstance(size, str)]
    if left_open:
        raise HesseValueError(
            f"network: {left_open[0]!r} is no number; numbers need widths such as 2-3-1"
        )
    for name in network.activations:
        if name not in FUNCTIONS and name != "identity":
            raise HesseValueError(
                f"activation: {name} is not known, and numbers need a function that is: sigmoid,"
                " tanh, relu, softplus, …"
            )
    count = sum(math.prod(shape) for shape in _shapes(network).values())
    if count > MOST_PARAMETERS:
        raise HesseValueError(
            f"network: {network} has {count:,} parameters; up to {MOST_PARAMETERS} are shown here"
        )
    return network


def random_arrays(network: "hesse.Network", samples: int, seed: int) -> dict[str, np.ndarray]:
    """Weights and data to begin with: normal numbers, and of each loss the targets it takes."""
    random = np.random.default_rng(seed)
    inputs, *_, outputs = _widths(network)
    found = {
        name: random.normal(size=shape).round(_DECIMALS) for name, shape in _shapes(network).items()
    }
    found["x"] = random.normal(size=(samples, inputs)).round(_DECIMALS)
    if network.loss == "cross_entropy":
        found["y"] = np.eye(outputs)[random.integers(outputs, size=samples)]
    elif network.loss == "bce":
        found["y"] = random.integers(2, size=(samples, outputs)).astype(np.float64)
    else:
        found["y"] = random.uniform(size=(samples, outputs)).round(_DECIMALS)
    return found


def _widths(network: "hesse.Network") -> tuple[int, ...]:
    return tuple(int(size) for size in network.widths)


def _shapes(network: "hesse.Network") -> dict[str, tuple[int, ...]]:
    widths = _widths(network)
    return {
        name: (widths[int(name[1:])], widths[int(name[1:]) - 1])
        if name[0] == "W"
        else (widths[int(name[1:])],)
        for name in network.parameters
    }


def _samples(name: str, array: np.ndarray, width: int) -> np.ndarray:
    """A row for each sample: one vector is one sample, and numbers one by one are samples of one
    entry."""
    if array.ndim == 1:
        array = array[None] if len(array) == width else array[:, None]
    if array.ndim != 2 or array.shape[1] != width or not len(array):
        raise HesseValueError(
            f"{name}: expected a row of {width} for each sample, got shape {array.shape}"
        )
    if len(array) > MOST_SAMPLES:
        raise HesseValueError(
            f"{name}: up to {MOST_SAMPLES:,} samples are taken here, got {len(array):,}"
        )
    return array
