"""Attention, recurrence and embeddings: pieces over tokens, and those that make them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from random_graphs.dense import adopted
from random_graphs.plain import Apply, Function, Maker
from random_graphs.weights import Pool, Shape, Weight

# ---------------------------------------------------------------- attention


class SelfAttention(nn.Module):
    """`nn.MultiheadAttention` of a value with itself."""

    def __init__(self, attention: nn.MultiheadAttention, mask: str, weights: bool) -> None:
        super().__init__()
        self.attention, self.mask, self.weights = attention, mask, weights

    def forward(self, x: Tensor) -> Tensor:
        t = x.shape[1]
        later = torch.triu(torch.ones(t, t, dtype=torch.bool), 1)
        mask = {"none": None, "causal": later, "added": later.double() * -1.5}[self.mask]
        return self.attention(x, x, x, attn_mask=mask, need_weights=self.weights)[0]


class EncoderLayer(nn.Module):
    """`nn.TransformerEncoderLayer`, causal or not."""

    def __init__(self, layer: nn.TransformerEncoderLayer, causal: bool) -> None:
        super().__init__()
        self.layer, self.causal = layer, causal

    def forward(self, x: Tensor) -> Tensor:
        mask = (
            torch.triu(torch.full((x.shape[1],) * 2, float("-inf"), dtype=x.dtype), 1)
            if self.causal
            else None
        )
        return self.layer(x, src_mask=mask)


def _multihead(pool: Pool, d: int) -> nn.Module:
    heads = pool.draw.choice([h for h in (1, 2, 3) if d % h == 0])
    options = {
        "bias": pool.chance(0.7),
        "add_bias_kv": pool.chance(0.15),
        "add_zero_attn": pool.chance(0.1),
    }
    attention = nn.MultiheadAttention(d, heads, batch_first=True, **options)
    mask = (
        "none"
        if options["add_bias_kv"] or options["add_zero_attn"]
        else pool.draw.choice(["none", "causal", "added"])
    )
    return SelfAttention(attention, mask, pool.chance(0.3))


def _scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT / k.shape[-1] ** 0.5


def _projected(kind: str) -> Function:
    """Attention with weights of its own, projections by hand."""

    def attend(x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        a, b, c = x @ q, x @ k, x @ v
        t = x.shape[1]
        if kind == "causal":
            return F.scaled_dot_product_attention(a, b, c, is_causal=True)
        if kind == "bool mask":
            return F.scaled_dot_product_attention(
                a, b, c, attn_mask=torch.ones(t, t, dtype=torch.bool).tril()
            )
        if kind == "float mask":
            return F.scaled_dot_product_attention(
                a, b, c, attn_mask=-torch.arange(t).to(x).expand(t, t) / 2
            )
        if kind == "scale":
            return F.scaled_dot_product_attention(a, b, c, scale=0.7)
        if kind == "relative":
            distance = (torch.arange(t)[:, None] - torch.arange(t)).abs().to(x)
            return (_scores(a, b) - 0.5 * distance).softmax(-1) @ c
        if kind == "linear":
            return (F.elu(a) + 1) @ ((F.elu(b) + 1).mT @ c) / t
        if kind == "sigmoid":
            return _scores(a, b).sigmoid().tril() @ c
        return F.scaled_dot_product_attention(a, b, c)

    return attend


def _two_heads(x: Tensor, w: Tensor, o: Tensor) -> Tensor:
    """Queries, keys and values of two heads by one matrix, as in GPT-2."""
    n, t, _ = x.shape
    q, k, v = ((x @ w.T).view(n, t, 3, 2, -1).permute(2, 0, 3, 1, 4)).unbind(0)
    made = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return made.transpose(1, 2).reshape(n, t, -1) @ o


def attention(pool: Pool, shape: Shape) -> nn.Module | None:
    if len(shape) != 2:
        return None
    t, d = shape
    kinds = ["plain", "causal", "bool mask", "float mask", "scale", "relative", "linear", "sigmoid"]
    kind, inner = pool.draw.choice(kinds), pool.draw.choice([1, 2])

    def by_hand() -> nn.Module:
        weights = [pool.weight((d, inner)), pool.weight((d, inner)), pool.weight((d, pool.width()))]
        return Apply(f"attention, {kind}", _projected(kind), *weights)

    def chunked() -> nn.Module:
        def attend(x: Tensor, w: Tensor) -> Tensor:
            q, k, v = F.linear(x, w).chunk(3, -1)
            return F.scaled_dot_product_attention(q, k, v, is_causal=kind == "causal")

        return Apply(
            "attention of chunks" + (", causal" if kind == "causal" else ""),
            attend,
            pool.weight((3 * inner, d)),
        )

    def queried(x: Tensor, q: Tensor) -> Tensor:
        return _scores(q, x).softmax(-1) @ x

    ways: list[Callable[[], nn.Module]] = [
        by_hand,
        by_hand,
        chunked,
        lambda: _multihead(pool, d),
        lambda: _multihead(pool, d),
        lambda: Apply(
            "two heads", _two_heads, pool.weight((12, d)), pool.weight((4, pool.width()))
        ),
        lambda: Apply("learned queries", queried, pool.weight((pool.width(), d))),
        lambda: Apply(
            "pooled by scores",
            lambda x, w: (x.tanh() @ w).softmax(1).mul(x).sum(1),
            pool.weight((d, 1)),
        ),
        lambda: Apply(
            "biased scores", lambda x, b: (_scores(x, x) + b).softmax(-1) @ x, pool.weight((t, t))
        ),
        lambda: Apply(
            "key per token",
            lambda x, k: F.scaled_dot_product_attention(x, k.expand_as(x), x),
            pool.weight((t, d)),
        ),
        lambda: EncoderLayer(
            nn.TransformerEncoderLayer(
                d,
                1,
                2,
                0.0,
                pool.draw.choice(["relu", "gelu"]),
                batch_first=True,
                norm_first=pool.chance(0.5),
            ),
            pool.chance(0.5),
        ),
    ]
    return adopted(pool, pool.draw.choice(ways)())


# ---------------------------------------------------------------- recurrence


class Recurrent(nn.Module):
    """A recurrent layer: all of its outputs, the last, or its final state."""

    def __init__(self, layer: nn.RNNBase, give: str) -> None:
        super().__init__()
        self.layer, self.give = layer, give

    def forward(self, x: Tensor) -> Tensor:
        outputs, state = self.layer(x)
        if self.give == "state":
            return (state[0] if isinstance(state, tuple) else state).transpose(0, 1).flatten(1)
        return outputs if self.give == "all" else outputs[:, -1]


class Cells(nn.Module):
    """A cell in a loop over the tokens, or several times on one vector."""

    def __init__(
        self, cell: nn.Module, width: int, times: int, give: str, start: Weight | None
    ) -> None:
        super().__init__()
        self.cell, self.width, self.times, self.give, self.start = cell, width, times, give, start

    def forward(self, x: Tensor) -> Tensor:
        inputs = x.unbind(1) if x.ndim == 3 else (x,) * self.times
        first = (
            x.new_zeros(len(x), self.width)
            if self.start is None
            else self.start().expand(len(x), self.width)
        )
        state: Tensor | tuple[Tensor, Tensor] = (
            (first, first.tanh()) if isinstance(self.cell, nn.LSTMCell) else first
        )
        outputs = []
        for step in inputs:
            state = self.cell(step, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, 1) if self.give == "all" else outputs[-1]


def _scan(kind: str) -> Function:
    def run(x: Tensor, a: Tensor, u: Tensor, b: Tensor) -> Tensor:
        h = x.new_zeros(len(x), len(b)) + (b if kind == "learned start" else 0)
        states = []
        for step in x.unbind(1):
            if kind == "linear":
                h = h @ a * 0.5 + step @ u
            elif kind == "gated":
                gate = (step @ u + b).sigmoid()
                h = gate * h + (1 - gate) * (h @ a).tanh()
            else:
                h = torch.tanh(step @ u + h @ a + b)
            states.append(h)
        return torch.stack(states, 1)

    return run


def recurrence(pool: Pool, shape: Shape) -> nn.Module | None:
    if len(shape) == 3:
        return None
    d, h = shape[-1], pool.draw.choice([1, 1, 2])
    give = pool.draw.choice(["all", "last", "state"])
    bias = pool.chance(0.7)

    def layer() -> nn.Module:
        kind = pool.draw.choice([nn.RNN, nn.GRU, nn.LSTM])
        options = {
            "bias": bias,
            "batch_first": True,
            "bidirectional": pool.chance(0.2),
            "num_layers": pool.draw.choice([1, 1, 2]),
        }
        if kind is nn.RNN:
            options["nonlinearity"] = pool.draw.choice(["tanh", "tanh", "relu"])
        return Recurrent(kind(d, h, **options), give)

    def cells() -> nn.Module:
        kind = pool.draw.choice([nn.RNNCell, nn.GRUCell, nn.LSTMCell])
        start = pool.weight((h,)) if pool.chance(0.4) else None
        return Cells(kind(d, h, bias=bias), h, pool.draw.choice([2, 3]), give, start)

    def scan() -> nn.Module:
        kind = pool.draw.choice(["tanh", "linear", "gated", "learned start"])
        return Apply(
            f"scan, {kind}",
            _scan(kind),
            pool.weight((h, h)),
            pool.weight((d, h)),
            pool.weight((h,)),
        )

    def decayed() -> nn.Module:
        def run(x: Tensor, a: Tensor) -> Tensor:
            h, states = x[:, 0], []
            for step in x.unbind(1):
                h = h * a.sigmoid() + step
                states.append(h)
            return torch.stack(states, 1)

        return Apply("state space", run, pool.weight(pool.draw.choice([(d,), ()])))

    return adopted(
        pool,
        pool.draw.choice([cells] if len(shape) == 1 else [layer, layer, cells, scan, decayed])(),
    )


# ---------------------------------------------------------------- embeddings


def embedding(pool: Pool, vocabulary: int) -> nn.Module:
    """Token numbers to vectors."""
    d = pool.width()
    ways: list[Callable[[], nn.Module]] = [
        lambda: nn.Embedding(vocabulary, d),
        lambda: nn.Embedding(vocabulary, d, padding_idx=0),
        lambda: Apply("F.embedding", lambda x, w: F.embedding(x, w), pool.weight((vocabulary, d))),
        lambda: Apply("W[x]", lambda x, w: w[x], pool.weight((vocabulary, d))),
        lambda: Apply(
            "one_hot(x) @ W",
            lambda x, w: F.one_hot(x, vocabulary).to(w) @ w,
            pool.weight((vocabulary, d)),
        ),
        lambda: Apply("index_select", _selected, pool.weight((vocabulary, d))),
        lambda: Apply(
            "W[x] + P[:t]",
            lambda x, w, p: w[x] + p[: x.shape[1]],
            pool.weight((vocabulary, d)),
            pool.weight((4, d)),
        ),
        lambda: Apply(
            "W[x] * E[x]",
            lambda x, w, e: w[x] * e[x],
            pool.weight((vocabulary, d)),
            pool.weight((vocabulary, 1)),
        ),
    ]
    ways += [lambda: Positions(nn.Embedding(vocabulary, d), nn.Embedding(4, d))]
    return adopted(pool, pool.draw.choice(ways)())


class Positions(nn.Module):
    """Token and position embeddings summed, as in GPT-2."""

    def __init__(self, tokens: nn.Embedding, positions: nn.Embedding) -> None:
        super().__init__()
        self.tokens, self.positions = tokens, positions

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))


def _selected(x: Tensor, w: Tensor) -> Tensor:
    return w.index_select(0, x.flatten()).unflatten(0, x.shape)


SEQUENCES: list[tuple[float, Maker]] = [(7, attention), (8, recurrence)]
