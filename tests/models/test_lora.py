"""Low-rank adapters by peft: the frozen model is held fixed, the adapters are asked about."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hesse
from certificates.kinds import TOLERANCE, WAYS, Subject, made, off, x
from networks import dense

peft = pytest.importorskip("peft")


def adapted(net: nn.Module, *targets: str, **options: Any) -> nn.Module:
    """As after some training: with adapters that are not zero."""
    config = peft.LoraConfig(r=2, target_modules=list(targets), **options)
    net = peft.get_peft_model(net, config).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += torch.randn_like(parameter) / 4
    return net


def layers() -> Subject:
    net, given, y = adapted(dense(3, 4, 2), "0", "2"), x(5, 3), x(5, 2)
    return Subject(
        hesse.Cost(net, "mse", (given, y), params="*lora*"),
        lambda: F.mse_loss(net(given), y),
        dict(net.named_parameters()),
    )


def by_gradient() -> Subject:
    """Without params=: what peft leaves to be trained."""
    net, given, y = adapted(dense(3, 4, 2), "0"), x(5, 3), x(5, 2)
    return Subject(
        hesse.Cost(net, "mse", (given, y)),
        lambda: F.mse_loss(net(given), y),
        dict(net.named_parameters()),
    )


def language_model() -> Subject:
    hf = pytest.importorskip("transformers")
    sizes = {
        "hidden_size": 4,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 6,
        "vocab_size": 11,
    }
    bert = hf.BertForSequenceClassification(
        hf.BertConfig(**sizes, max_position_embeddings=8, num_labels=3)
    )
    net = adapted(bert, "query", "value", task_type="SEQ_CLS")
    tokens, labels = torch.randint(11, (4, 3)), torch.tensor([0, 1, 2, 1])
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}
    loader = [
        {key: value[part] for key, value in batch.items()} for part in (slice(0, 2), slice(2, 4))
    ]
    return Subject(
        hesse.Cost(net, data=loader, params="*lora*"),
        lambda: net(**batch).loss,
        dict(net.named_parameters()),
    )


@pytest.mark.parametrize("make", [layers, by_gradient, language_model])
@pytest.mark.parametrize("way", WAYS)
def test_adapters(make: Any, way: str) -> None:
    subject = made(make)
    assert all("lora_" in name for name in subject.cost.layout.names)
    assert off(WAYS[way](subject.cost), subject.expected, way) < TOLERANCE
    assert hesse.plan(subject.cost).captured
