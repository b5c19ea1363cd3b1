"""Networks as people write them keep their graph: attention with shared keys, views, caches, cells,
recurrent layers, masks among the inputs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from certificates.kinds import WAYS, Formula, Make, Subject, check_right, made, of, parameter, x
from hesse.capture import capture

TOKENS = torch.tensor([[1, 2, 3, 0], [4, 1, 0, 0], [2, 2, 4, 1]])


def heads(z: Tensor, count: int) -> Tensor:
    """(n, t, d) -> (n, heads, t, d / heads)."""
    return z.view(*z.shape[:2], count, -1).transpose(1, 2)


def attention(forward: Any, keys: int = 4, **members: Any) -> Subject:
    """A network of queries, keys and values of tokens of width 3, and a last layer of its own."""
    members |= {
        "q": nn.Linear(3, 4),
        "k": nn.Linear(3, keys),
        "v": nn.Linear(3, keys),
        "o": nn.Linear(4, 2),
    }
    return of(Formula(forward, **members), "half_sse", (x(3, 4, 3), x(3, 4, 2)))


def shared_keys(groups: int, **options: Any) -> Subject:
    """Grouped queries: heads of width 1."""

    def forward(m: Any, z: Tensor) -> Tensor:
        parts = heads(m.q(z), 4), heads(m.k(z), groups), heads(torch.tanh(m.v(z)), groups)
        return m.o(
            F.scaled_dot_product_attention(*parts, enable_gqa=True, **options)
            .transpose(1, 2)
            .flatten(2)
        )

    return attention(forward, groups)


def viewed(m: Any, z: Tensor) -> Tensor:
    """As GPT-2 does it: the batch's size comes from the input, and the heads are joined by a
    view."""
    n, t, _ = z.shape
    made = F.scaled_dot_product_attention(
        heads(m.q(z), 2), heads(m.k(z), 2), heads(m.v(z), 2), is_causal=True
    )
    return m.o(torch.tanh(made.transpose(1, 2).contiguous().view(n, t, 4)))


def viewed_flat(m: Any, z: Tensor) -> Tensor:
    """As GPT-2's convolutions do it: all tokens of all samples in one matrix."""
    made = (
        F.scaled_dot_product_attention(heads(m.q(z), 2), heads(m.k(z), 2), heads(m.v(z), 2))
        .transpose(1, 2)
        .contiguous()
    )
    size = (*made.size()[:-2], 4)
    return torch.addmm(m.o.bias, made.view(size).view(-1, 4), m.o.weight.T).view(*size[:-1], 2)


def cached(empty: Any) -> Any:
    """Keys joined to a cache without entries."""

    def forward(m: Any, z: Tensor) -> Tensor:
        k, v = (torch.cat([empty(z), heads(part(z), 2)], dim=-2) for part in (m.k, m.v))
        made = F.scaled_dot_product_attention(heads(m.q(z), 2), k, v, is_causal=True)
        return m.o(torch.tanh(made.transpose(1, 2).reshape(*z.shape[:2], 4)))

    return forward


def cell(kind: Any, params: str | None = None, **options: Any) -> Subject:
    """Two steps of a recurrent cell, its own parameters asked about or frozen."""

    def forward(m: Any, z: Tensor) -> Tensor:
        state = m.cell(torch.tanh(m.a(z)))
        state = m.cell(m.a(z), state)
        return state[0] if isinstance(state, tuple) else state

    model = Formula(forward, a=nn.Linear(3, 2), cell=kind(2, 2, **options))
    return of(model, "half_sse", (x(4, 3), x(4, 2)), params=params)


def layer(kind: Any, read: Any, **options: Any) -> Subject:
    """A recurrent layer over three steps, and what is read of its results."""
    made = kind(2, 3, batch_first=True, **options)
    model = Formula(lambda m, z: read(*m.layer(z)), layer=made)
    return of(model, "half_sse", (x(3, 3, 2), x(*read(*made(torch.zeros(3, 3, 2))).shape)))


def everything(outputs: Tensor, state: Any) -> Tensor:
    """What comes out at all steps, and the last states of all layers and directions."""
    states = state if isinstance(state, tuple) else (state,)
    return torch.cat([outputs.flatten(1), *(s.transpose(0, 1).flatten(1) for s in states)], 1)


def masked_input(layers: Any) -> Subject:
    """What is to be left out is said beside the input."""
    model = Formula(lambda m, z: m.layers(z[0], src_key_padding_mask=z[1]), layers=layers).eval()
    model, data = model.double(), ((x(3, 4, 4), TOKENS == 0), x(3, 4, 4))
    cost = hesse.Cost(model, "half_sse", data)
    return Subject(
        cost, lambda: (model(data[0]) - data[1]).square().sum() / 2, dict(model.named_parameters())
    )


def masked_tokens(layers: Any) -> Subject:
    model = Formula(
        lambda m, z: m.layers(m.e(z), src_key_padding_mask=z == 0),
        layers=layers,
        e=nn.Embedding(5, 4),
    ).eval()
    return of(model, "half_sse", (TOKENS, x(3, 4, 4)))


def encoder_layer() -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(4, 2, 5, 0.0, batch_first=True)


MASK = torch.ones(4, 4, dtype=torch.bool).tril()
CAPTURED: dict[str, Make] = {
    "shared keys": lambda: shared_keys(2),
    "one key": lambda: shared_keys(1),
    "a key each": lambda: shared_keys(4),
    "shared keys, causal": lambda: shared_keys(2, is_causal=True),
    "shared keys, masked and scaled": lambda: shared_keys(2, attn_mask=MASK, scale=0.3),
    "a view": lambda: attention(viewed),
    "a view of all tokens": lambda: attention(viewed_flat),
    "an empty cache": lambda: attention(cached(lambda z: torch.tensor([], dtype=z.dtype))),
    "an empty cache with axes": lambda: attention(cached(lambda z: z.new_zeros(len(z), 2, 0, 2))),
    **{
        f"{kind.__name__}{', frozen' * bool(params)}": lambda kind=kind, params=params: cell(
            kind, params
        )
        for kind in (nn.GRUCell, nn.LSTMCell, nn.RNNCell)
        for params in (None, "a.*")
    },
    "RNNCell of ReLU": lambda: cell(nn.RNNCell, nonlinearity="relu"),
    "a layer and its mask": lambda: masked_input(encoder_layer()),
    "layers and their mask": lambda: masked_input(
        nn.TransformerEncoder(encoder_layer(), 2, enable_nested_tensor=False)
    ),
    "a mask of tokens": lambda: masked_tokens(encoder_layer()),
}


@pytest.mark.some(of=5)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", CAPTURED.values(), ids=CAPTURED)
def test_the_graph_is_kept_and_right(kind: Make, way: str) -> None:
    check_right(kind, way)
    plan = hesse.plan(made(kind).cost)
    assert plan.captured, plan.notes


def test_heads_that_share_keys_go_by_matrix_products() -> None:
    plan = hesse.plan(made(CAPTURED["shared keys"]).cost)
    assert plan.strategy("q.weight", "k.weight") == "contraction"


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_size_written_into_the_model_goes_by_columns(way: str) -> None:
    def make() -> Subject:
        return of(
            Formula(lambda m, z: torch.tanh(m.w @ z.T).T.reshape(4, 2), w=parameter(2, 3)),
            "half_sse",
            (x(4, 3), x(4, 2)),
        )

    check_right(make, way)
    assert not hesse.plan(made(make).cost).captured


# A layer, what is read of it, and how many dense layers there are in its three steps: of the input
# one for each layer and direction, of the state and of a projection one for each step.
LAYERS: dict[str, tuple[Callable[[], Subject], int]] = {
    "GRU": (lambda: layer(nn.GRU, everything, num_layers=2, bidirectional=True), 4 + 12),
    "GRU's last state": (lambda: layer(nn.GRU, lambda outputs, state: state[0]), 1 + 3),
    "LSTM": (lambda: layer(nn.LSTM, everything, proj_size=2), 1 + 3 + 3),
    "LSTM's memory": (lambda: layer(nn.LSTM, lambda _, state: state[1][0], bias=False), 1 + 3),
    "RNN": (lambda: layer(nn.RNN, everything, bidirectional=True, bias=False), 2 + 6),
    "RNN of ReLU": (lambda: layer(nn.RNN, lambda out, _: out, nonlinearity="relu"), 1 + 3),
    "one after another": (
        lambda: of(
            Formula(lambda m, z: m.layer(m.layer(z)[0])[0], layer=nn.GRU(2, 2, batch_first=True)),
            "half_sse",
            (x(3, 3, 2), x(3, 3, 2)),
        ),
        2 + 6,
    ),
    "after a write": (
        lambda: of(
            Formula(
                lambda m, z: m.layer(m.a(z).mul_(2))[0],
                a=nn.Linear(2, 2),
                layer=nn.GRU(2, 2, batch_first=True),
            ),
            "half_sse",
            (x(3, 3, 2), x(3, 3, 2)),
        ),
        1 + 1 + 3,
    ),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("kind", LAYERS)
def test_a_recurrent_layer_is_the_dense_layers_of_its_steps(kind: str) -> None:
    make, count = LAYERS[kind]
    # A graph is held against the function as given: value, gradient and a product with the Hessian.
    graph = capture(make().cost).graph
    assert [str(node.op) for node in graph.nodes].count("aten.linear.default") == count
