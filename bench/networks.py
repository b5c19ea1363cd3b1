"""Networks of real sizes, of random weights: a ResNet-18 for small images, a BERT-like encoder
whose code looks at its padding, and for a GPU a ResNet-50 and a GPT."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.cases import Arrays


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)])
        self.around: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.around = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h / stride, w / stride)."""
        way = self.second(F.relu(self.norms[0](self.first(x))))
        return F.relu(self.norms[1](way) + self.around(x))


def resnet18(width: int) -> nn.Module:
    """Eight blocks over four resolutions, for images of 32 × 32; its statistics those of noise, and
    fixed."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    inputs = width
    for level in range(4):
        for stride in (2 if level else 1, 1):
            layers.append(Block(inputs, width * 2**level, stride))
            inputs = width * 2**level
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))
    with torch.no_grad():
        model(torch.randn(32, 3, 32, 32))
    return model.eval()


class Bottleneck(nn.Module):
    """Convolutions to fewer channels, among them and to four times as many, and a way around
    them."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.way = nn.Sequential(
            *(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)),
        )
        self.around: nn.Module = nn.Identity()
        if stride > 1 or inputs != 4 * width:
            self.around = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, 4 width, h / stride, w / stride)."""
        return F.relu(self.way(x) + self.around(x))


def resnet50() -> nn.Module:
    """Sixteen bottlenecks over four resolutions, for images of 224 × 224 and 1,000 classes; its
    statistics those of noise, and fixed."""
    layers: list[nn.Module] = [
        *(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
        nn.MaxPool2d(3, 2, 1),
    ]
    inputs = 64
    for level, count in enumerate((3, 4, 6, 3)):
        for place in range(count):
            layers.append(Bottleneck(inputs, 64 * 2**level, 2 if level and not place else 1))
            inputs = 256 * 2**level
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))
    with torch.no_grad():
        model(torch.randn(8, 3, 224, 224))
    return model.eval()


class Layer(nn.Module):
    """Attention and a dense network of two layers, each with a way around it and a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(n, tokens, width) -> the same."""
        query, key, value = (
            made(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for made in (self.query, self.key, self.value)
        )
        met = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.norm1(x + self.out(met.transpose(1, 2).flatten(2)))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Encoder(nn.Module):
    """An encoder of sentences with padding, token 0, which it makes a mask of where there is any;
    it classifies a sentence by its first token."""

    def __init__(self, width: int, heads: int, layers: int, tokens: int, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.1 * torch.randn(tokens, width))
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList([Layer(width, heads) for _ in range(layers)])
        self.head = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2))

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of both classes."""
        x, mask = self.norm(self.embedding(tokens) + self.position), None
        given = tokens != 0
        if not bool(given.all()):
            mask = x.new_zeros(len(x), 1, 1, x.shape[1])
            mask = mask.masked_fill(~given[:, None, None, :], -1e9)
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(x[:, 0])


class CausalLayer(nn.Module):
    """Attention to what came before and a dense network of two layers, each after a norm and beside
    a way around it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) -> the same."""
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).chunk(3, -1)
        )
        met = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(met.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    """Causal layers that score the next token by the embedding's own weights."""

    def __init__(self, width: int, heads: int, layers: int, tokens: int, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.layers = nn.Sequential(*[CausalLayer(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of shape (samples, vocabulary, tokens), as cross entropy wants them."""
        x = self.layers(self.embedding(tokens) + self.position)
        return F.linear(self.norm(x), self.embedding.weight).transpose(1, 2)


def gpt2() -> nn.Module:
    """Twelve layers of width 768 for 1,024 tokens of 50,257, as of the smallest GPT-2: P =
    124,439,808."""
    return GPT(768, 12, 12, 1024, 50_257)


def minilm() -> nn.Module:
    """Six layers of width 384, as of a MiniLM, for 64 tokens."""
    return Encoder(384, 12, 6, 64, 1000)


def images(samples: int, size: int = 32, classes: int = 10) -> Arrays:
    """Images of noise, each with a label."""
    return torch.randn(samples, 3, size, size), torch.randint(classes, (samples,))


def texts(samples: int, tokens: int) -> Arrays:
    """Tokens of a GPT-2, and those that follow them."""
    words = torch.randint(50_257, (samples, tokens + 1))
    return words[:, :-1], words[:, 1:]


def sentences(samples: int, tokens: int = 64) -> Arrays:
    """Sentences of several lengths, padded."""
    words = torch.randint(1, 1000, (samples, tokens))
    lengths = torch.randint(tokens // 2, tokens, (samples, 1))
    words[torch.arange(tokens) >= lengths] = 0
    return words, torch.randint(2, (samples,))
