"""Hugging Face models, tiny and random, each with its own loss: against double backward of that
loss in plain PyTorch."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

import hesse
from certificates.kinds import WAYS, double_backward, off

hf = pytest.importorskip("transformers")

Mapping = dict[str, Tensor]


class Wide(TorchFunctionMode):
    """What a model in float64 casts to float32 on the way from its parameters to its loss stays
    float64."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        first, options = next(iter(args), None), kwargs or {}
        if isinstance(first, Tensor) and first.requires_grad:
            if func is Tensor.float:
                return first
            args, options = pytree.tree_map_only(
                torch.dtype, lambda _: torch.float64, (args, options)
            )
        return func(*args, **options)


# ---------------------------------------------------------------- the models

TOKENS = torch.tensor([[2, 5, 3, 4], [4, 10, 6, 7], [8, 9, 3, 2], [5, 6, 7, 8]])
CLASSES = torch.tensor([0, 1, 2, 1])
TEXT = {"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS)}
SIZES: dict[str, Any] = {
    **{
        "vocab_size": 11,
        "hidden_size": 4,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 6,
    },
    **{"max_position_embeddings": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1},
}
SHARED = SIZES | {"num_key_value_heads": 1}


def numbers(*shape: int) -> Tensor:
    return torch.randn(
        *shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64
    )


def bert() -> nn.Module:
    return hf.BertForSequenceClassification(hf.BertConfig(**SIZES, num_labels=3))


def bert_of_masked_words() -> nn.Module:
    return hf.BertForMaskedLM(hf.BertConfig(**SIZES))


def distilbert() -> nn.Module:
    sizes = {
        "vocab_size": 11,
        "dim": 4,
        "n_layers": 1,
        "n_heads": 2,
        "hidden_dim": 6,
        "max_position_embeddings": 8,
    }
    return hf.DistilBertForSequenceClassification(hf.DistilBertConfig(**sizes, num_labels=3))


def roberta() -> nn.Module:
    return hf.RobertaForSequenceClassification(hf.RobertaConfig(**SIZES, num_labels=3))


def gpt2() -> nn.Module:
    sizes = {
        "vocab_size": 11,
        "n_embd": 4,
        "n_layer": 1,
        "n_head": 2,
        "n_inner": 6,
        "n_positions": 8,
    }
    return hf.GPT2LMHeadModel(hf.GPT2Config(**sizes, bos_token_id=1, eos_token_id=1))


def llama() -> nn.Module:
    return hf.LlamaForCausalLM(hf.LlamaConfig(**SHARED))


def mistral() -> nn.Module:
    return hf.MistralForCausalLM(hf.MistralConfig(**SHARED, sliding_window=2))


def t5() -> nn.Module:
    sizes = {"vocab_size": 11, "d_model": 4, "d_kv": 2, "d_ff": 6, "num_layers": 1, "num_heads": 2}
    return hf.T5ForConditionalGeneration(
        hf.T5Config(**sizes, relative_attention_num_buckets=4, decoder_start_token_id=0)
    )


def vit() -> nn.Module:
    sizes = {
        "hidden_size": 4,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 6,
    }
    return hf.ViTForImageClassification(
        hf.ViTConfig(**sizes, image_size=4, patch_size=2, num_labels=3)
    )


def whisper() -> nn.Module:
    sides = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in SIDE.items()}
    lengths = {"num_mel_bins": 4, "max_source_positions": 3, "max_target_positions": 8}
    special = {"decoder_start_token_id": 0, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    return hf.WhisperForConditionalGeneration(
        hf.WhisperConfig(vocab_size=11, d_model=4, **sides, **lengths, **special)
    )


SIDE = {"layers": 1, "attention_heads": 2, "ffn_dim": 6}


def mixtral(experts: str) -> nn.Module:
    net = hf.MixtralForCausalLM(
        hf.MixtralConfig(**SHARED, num_local_experts=3, num_experts_per_tok=2)
    )
    # Those in groups, which are the default, know no float64.
    net.set_experts_implementation(experts)
    return net


@dataclass(frozen=True)
class Row:
    """A model.

    Attributes:
        make: the model, of any parameters.
        batch: what it is called with.
        params: those that are asked about.
        narrow: whether it computes its norms, its routing or its loss in float32 whatever its
            parameters are. What hesse computes from the graph is then closer to the exact numbers
            than what the model itself gives.
        captured: whether its samples share their work.
    """

    make: Callable[[], nn.Module]
    batch: Mapping
    params: Sequence[str]
    narrow: bool = False
    captured: bool = True


CAUSAL = ["*q_proj.weight", "*input_layernorm.weight", "*norm.weight"]
ROWS = {
    "BERT": Row(
        bert,
        TEXT | {"labels": CLASSES},
        ["*query.weight", "*attention.output.LayerNorm.*", "classifier.bias"],
    ),
    "BERT, masked words": Row(
        bert_of_masked_words,
        TEXT | {"labels": TOKENS},
        ["*key.weight", "*token_type_embeddings.weight"],
    ),
    "DistilBERT": Row(
        distilbert,
        TEXT | {"labels": CLASSES},
        ["*q_lin.weight", "*sa_layer_norm.*", "classifier.bias"],
    ),
    "RoBERTa": Row(
        roberta, TEXT | {"labels": CLASSES}, ["*value.weight", "*output.LayerNorm.bias"]
    ),
    "GPT-2": Row(
        gpt2, TEXT | {"labels": TOKENS}, ["*ln_1.*", "*wpe.weight", "*c_attn.bias"], narrow=True
    ),
    "Llama": Row(llama, TEXT | {"labels": TOKENS}, CAUSAL, narrow=True),
    "Mistral": Row(mistral, TEXT | {"labels": TOKENS}, CAUSAL, narrow=True),
    "T5": Row(
        t5,
        TEXT | {"labels": TOKENS},
        [
            "*EncDecAttention.q.weight",
            "*encoder.final_layer_norm.weight",
            "*relative_attention_bias.weight",
        ],
        narrow=True,
    ),
    "ViT": Row(
        vit,
        {"pixel_values": numbers(4, 3, 4, 4), "labels": CLASSES},
        ["*cls_token", "*k_proj.weight", "*layernorm*"],
    ),
    "Whisper": Row(
        whisper,
        {"input_features": numbers(4, 4, 6), "labels": TOKENS},
        ["*encoder_attn.q_proj.weight", "*encoder.layer_norm.*", "*encoder.conv1.bias"],
    ),
    "Mixtral": Row(
        functools.partial(mixtral, "batched_mm"),
        TEXT | {"labels": TOKENS},
        ["*.gate.weight", "*norm.weight"],
        narrow=True,
    ),
    "Mixtral, expert by expert": Row(
        functools.partial(mixtral, "eager"),
        TEXT | {"labels": TOKENS},
        ["*.gate.weight", "*norm.weight"],
        narrow=True,
        captured=False,
    ),
}


@functools.cache
def model(name: str) -> nn.Module:
    """In float64, and frozen but for the parameters that are asked about."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = ROWS[name].make().double().eval()
        with torch.no_grad():
            for path, parameter in net.named_parameters():
                # As they come they are so small that attention is all but flat.
                parameter += torch.randn_like(parameter) / 4
                parameter.requires_grad_(
                    any(fnmatch(path, pattern) for pattern in ROWS[name].params)
                )
    return net


def halves(batch: Mapping) -> list[Mapping]:
    """Two batches of it."""
    return [
        {key: value[part] for key, value in batch.items()} for part in (slice(0, 2), slice(2, 4))
    ]


FORMS: dict[str, Callable[[Mapping], Any]] = {"one batch": dict, "a loader": halves}


@functools.cache
def cost(name: str, form: str) -> hesse.Cost:
    return hesse.Cost(model(name), data=FORMS[form](ROWS[name].batch), params=ROWS[name].params)


@functools.cache
def expected(name: str) -> Tensor:
    net, leaves = model(name), dict(model(name).named_parameters())
    chosen = [leaves[parameter] for parameter in cost(name, "a loader").layout.names]
    with Wide():
        return double_backward(lambda: net(**ROWS[name].batch).loss, chosen)


# What a model rounds to float32 by itself is seen where its own operations are run, not where its
# graph is.
OF_FLOAT32 = 100 * torch.finfo(torch.float32).eps


def tolerance(row: Row, way: str) -> float:
    return OF_FLOAT32 if row.narrow and (way == "operator" or not row.captured) else 1e-9


@pytest.mark.some(of=7)
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("way", WAYS)
def test_a_loader(name: str, way: str) -> None:
    assert off(WAYS[way](cost(name, "a loader")), expected(name), way) < tolerance(ROWS[name], way)


@pytest.mark.parametrize("name", ["BERT", "GPT-2", "T5", "Whisper"])
def test_one_batch(name: str) -> None:
    assert off(WAYS["hessian"](cost(name, "one batch")), expected(name)) < tolerance(
        ROWS[name], "hessian"
    )


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("form", FORMS)
def test_value(name: str, form: str) -> None:
    exact = float(model(name)(**ROWS[name].batch).loss.detach())
    assert abs(hesse.value(cost(name, form)) - exact) <= (
        OF_FLOAT32 if ROWS[name].narrow else 1e-12
    )


@pytest.mark.some(of=2)
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("form", FORMS)
def test_samples_share_their_work(name: str, form: str) -> None:
    assert hesse.plan(cost(name, form)).captured == ROWS[name].captured


# ---------------------------------------------------------------- padding

PADDED = {
    "BERT, masked words": (
        TEXT
        | {
            "attention_mask": torch.tensor(
                [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]]
            ),
            "labels": torch.tensor(
                [[2, 5, -100, -100], [4, -100, 6, 7], [8, -100, -100, -100], [5, 6, 7, -100]]
            ),
        }
    ),
    "Llama": (
        TEXT
        | {
            "attention_mask": torch.tensor(
                [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]]
            ),
            "labels": torch.tensor(
                [[2, 5, 3, -100], [4, -100, 6, 7], [8, 9, -100, -100], [5, 6, 7, 8]]
            ),
        }
    ),
}
# The first label is predicted from nothing where the labels are moved along by the model.
COUNTED: dict[str, Callable[[Tensor], Tensor]] = {
    "BERT, masked words": lambda labels: (labels != -100).sum(),
    "Llama": lambda labels: (labels[:, 1:] != -100).sum(),
}


def by_count(name: str) -> Callable[[Any, Any], tuple[Tensor, Tensor]]:
    count = COUNTED[name]
    return lambda output, batch: (output.loss * count(batch["labels"]), count(batch["labels"]))


@functools.cache
def padded(name: str) -> Tensor:
    net, leaves = model(name), dict(model(name).named_parameters())
    chosen = [leaves[parameter] for parameter in cost(name, "a loader").layout.names]
    with Wide():
        return double_backward(lambda: net(**PADDED[name]).loss, chosen)


@functools.cache
def padded_cost(name: str, form: str, counted: bool) -> hesse.Cost:
    return hesse.Cost(
        model(name),
        by_count(name) if counted else None,
        FORMS[form](PADDED[name]),
        params=ROWS[name].params,
    )


@pytest.mark.parametrize("name", PADDED)
@pytest.mark.parametrize("way", WAYS)
def test_padding_over_batches_with_a_count(name: str, way: str) -> None:
    made = padded_cost(name, "a loader", True)
    assert off(WAYS[way](made), padded(name), way) < tolerance(ROWS[name], way)
    assert hesse.plan(made).captured


@pytest.mark.parametrize("name", PADDED)
@pytest.mark.parametrize("counted", [False, True])
def test_padding_in_one_batch(name: str, counted: bool) -> None:
    # Without a count the mean over words is one of the whole batch, and is taken column by column.
    made = padded_cost(name, "one batch", counted)
    limit = OF_FLOAT32 if ROWS[name].narrow and not counted else 1e-9
    assert off(WAYS["hessian"](made), padded(name)) < limit
    assert hesse.plan(made).captured == counted


@pytest.mark.parametrize("name", PADDED)
def test_padding_over_batches_needs_a_count(name: str) -> None:
    with pytest.raises(
        hesse.HesseError,
        match=(
            r"model: its own loss is neither .* loss=lambda output, batch: \(output.loss \* n, n\)"
        ),
    ):
        hesse.Cost(model(name), data=halves(PADDED[name]))


def test_padding_is_seen_in_a_model_that_was_just_made() -> None:
    """Its losses are all but alike, so that the mean of means is nearly the mean over words."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = llama().eval()
    with torch.no_grad():
        net.get_parameter("lm_head.weight").mul_(0.1)
    with pytest.raises(hesse.HesseError, match="model: its own loss is neither"):
        hesse.Cost(net, data=halves(PADDED["Llama"]))
