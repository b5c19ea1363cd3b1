"""Records: they name operations that there are, their rules are their formulas, and the page that
shows them is theirs."""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from hesse.capture import capture
from hesse.errors import HesseValueError
from hesse.operations.record import Function, Operation, aten
from hesse.operations.registry import BY_TARGET, RECORDS, register, registered, remove
from networks import Lambda

SCRIPT = Path(__file__).parents[2] / "docs" / "operations.py"


def _page() -> Any:
    spec = importlib.util.spec_from_file_location("page_of_operations", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGE = _page()


def test_records_name_operations_that_there_are() -> None:
    missing = [
        f"torch.ops.aten has no {name}, of {record.name}"
        for record in RECORDS.values()
        for name in record.aten.split()
        if not hasattr(aten, name)
    ]
    assert not missing


def test_a_record_stands_alone() -> None:
    with pytest.raises(ValueError, match=r"tanh.* has a record already"):
        register(Operation(name="another", aten="tanh"))
    with pytest.raises(ValueError, match="its name has a record already"):
        register(Operation(name="tanh"))


def test_the_page_of_operations_is_written_from_the_records() -> None:
    assert PAGE.PAGE.read_text(encoding="utf-8") == PAGE.page(), "run `python docs/operations.py`"


@pytest.mark.some(of=3)
@pytest.mark.parametrize(
    "name", [*PAGE.ACTIVATIONS.split(), *PAGE.NORMALISATIONS.split(), *PAGE.CONVOLUTIONS.split()]
)
def test_layers_of_torch_are_known(name: str) -> None:
    _known(PAGE.cost_of_layer(name))


@pytest.mark.parametrize("name", PAGE.LOSSES.split())
def test_losses_of_torch_are_known(name: str) -> None:
    _known(PAGE.cost_of_loss(name))


def _known(cost: hesse.Cost) -> None:
    """Captured, all of it in records, and right."""
    assert PAGE.operations_of(cost)[1] == []
    assert hesse.hessian(cost).certificate is not None and hesse.plan(cost).captured


@pytest.mark.parametrize(
    "name", [*PAGE.CONVOLUTIONS.split(), "LayerNorm", "GroupNorm", "RMSNorm", "BatchNorm2d"]
)
def test_parameters_enter_through_a_site_of_their_own(name: str) -> None:
    """What a site says is held against the operation; one that is not true is left for a slot of
    all entries."""
    kinds = {slot.kind for site in capture(PAGE.cost_of_layer(name)).sites for slot in site.uses}
    assert "leaf" not in kinds


def test_mistakes_in_a_record_are_named() -> None:
    given: dict[str, Any] = {
        "value": torch.sin,
        "derivatives": ("cos(z)", "-a"),
        "numpy": "numpy.sin(z)",
        "torch": "torch.sin(z)",
    }
    for wrong, text in (
        ({"derivatives": ("cos(x)", "-a")}, "derivative 1, 'cos\\(x\\)': write it in z"),
        ({"torch": "torch.sinn(z)"}, "there is no torch.sinn"),
    ):
        with pytest.raises(ValueError, match=text):
            Function(**{**given, **wrong})
    with pytest.raises(ValueError, match="its derivatives call 'coss', which has no record"):
        register(
            Operation(name="sine", function=Function(**{**given, "derivatives": ("coss(z)", "-a")}))
        )


def test_a_wrong_divisor_is_found() -> None:
    record = RECORDS["huber_loss"]
    assert record.loss is not None
    wrong = dataclasses.replace(record, loss=dataclasses.replace(record.loss, divisor="samples"))
    remove(record)
    try:
        with (
            registered(wrong),
            pytest.raises(
                HesseValueError, match="its sum divided by 5, which is what hesse's record"
            ),
        ):
            PAGE.cost_of_loss.__wrapped__("HuberLoss")  # anew
    finally:
        register(record)


def test_a_wrong_formula_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    record = BY_TARGET[aten.huber_loss]
    monkeypatch.setitem(
        BY_TARGET,
        aten.huber_loss,
        dataclasses.replace(record, formula=BY_TARGET[aten.mse_loss].formula),
    )
    with pytest.raises(
        HesseValueError, match=r"for a sample for which the model gives .* huber_loss"
    ):
        hesse.derive(PAGE.cost_of_loss("HuberLoss"))


# ---------------------------------------- the formula printed is the formula run


def x(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).double()


def _cost(model: nn.Module, inputs: Tensor, loss: Any = "half_sse") -> hesse.Cost:
    torch.manual_seed(0)
    model = model.double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.7)
    with torch.no_grad():
        shape = model(inputs).shape
    return hesse.Cost(model, loss, (inputs, x(*shape)))


def _bent(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Tanh(), nn.Flatten())


def _classes(loss: Any = "cross_entropy") -> hesse.Cost:
    torch.manual_seed(0)
    return hesse.Cost(nn.Linear(2, 3).double(), loss, (x(4, 2), torch.tensor([0, 2, 1, 0])))


def _compared(loss: Any, targets: Callable[[Tensor], Tensor] = lambda y: y) -> hesse.Cost:
    torch.manual_seed(0)
    into = (
        Lambda(lambda layers, z: torch.sigmoid(layers[0](z)), nn.Linear(2, 2))
        if loss == F.binary_cross_entropy
        else None
    )
    return hesse.Cost((into or nn.Linear(2, 2)).double(), loss, (x(4, 2), targets(x(4, 2))))


def _signs(y: Tensor) -> Tensor:
    return y.sign()


def _shares(y: Tensor) -> Tensor:
    return y.sigmoid()


# A cost in which the written-out rule runs, by the name of its record.
WRITTEN: dict[str, Callable[[], hesse.Cost]] = {
    "add": lambda: _cost(
        Lambda(
            lambda layers, z: torch.tanh(layers[0](z) + layers[1](z)),
            nn.Linear(2, 2),
            nn.Linear(2, 2),
        ),
        x(3, 2),
    ),
    **{
        name: lambda f=f: _cost(
            Lambda(
                lambda layers, z: f(torch.tanh(layers[0](z)), torch.sin(layers[1](z))),
                nn.Linear(2, 2),
                nn.Linear(2, 2),
            ),
            x(3, 2),
        )
        for name, f in {
            "sub": lambda a, b: a - torch.sub(b, a[:, :1], alpha=3) - b,
            "mul": lambda a, b: (a * b) * b[:, :1],
        }.items()
    },
    "linear": lambda: _cost(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)), x(4, 2)),
    "matmul": lambda: _cost(
        Lambda(lambda layers, z: layers[0](z) @ layers[1](z).mT, nn.Linear(2, 2), nn.Linear(2, 2)),
        x(3, 2, 2),
    ),
    **{
        name: lambda d=d, kind=kind: _cost(
            _bent(kind(1, 2, 2), nn.Tanh(), kind(2, 1, 2)),
            x(2, 1, *(3 if "T" in kind.__name__ else 4,) * d),
        )
        for d in (1, 2)
        for name, kind in (
            (f"conv{d}d", getattr(nn, f"Conv{d}d")),
            (f"conv_transpose{d}d", getattr(nn, f"ConvTranspose{d}d")),
        )
    },
    "conv3d": lambda: _cost(
        _bent(nn.Conv3d(1, 1, 2), nn.Tanh(), nn.Conv3d(1, 1, 2)), x(1, 1, 3, 3, 3)
    ),
    "conv_transpose3d": lambda: _cost(
        _bent(nn.ConvTranspose3d(1, 1, 2), nn.Tanh(), nn.ConvTranspose3d(1, 1, (1, 2, 1))),
        x(1, 1, 1, 1, 1),
    ),
    "avg_pool2d": lambda: _cost(_bent(nn.Conv2d(1, 1, 2), nn.AvgPool2d(2)), x(2, 1, 5, 5)),
    **{
        name: lambda f=f: _cost(
            _bent(Lambda(lambda layers, z: f(layers[0](z)), nn.Linear(2, 4)), nn.Linear(2, 2)),
            x(3, 2),
        )
        for name, f in {
            "reshape": lambda z: z.reshape(-1, 2, 2),
            "unflatten": lambda z: z.unflatten(1, (2, 2)),
        }.items()
    },
    "flatten": lambda: _cost(
        nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(8, 2)), x(2, 1, 3, 3)
    ),
    "squeeze": lambda: _cost(
        _bent(Lambda(lambda layers, z: layers[0](z).squeeze(1), nn.Linear(2, 2))), x(3, 1, 2)
    ),
    "unsqueeze": lambda: _cost(
        _bent(Lambda(lambda layers, z: layers[0](z).unsqueeze(1), nn.Linear(2, 2))), x(3, 2)
    ),
    "clone": lambda: _cost(
        _bent(Lambda(lambda layers, z: layers[0](z).clone(), nn.Linear(2, 2))), x(3, 2)
    ),
    "contiguous": lambda: _cost(
        _bent(Lambda(lambda layers, z: layers[0](z).mT.contiguous(), nn.Linear(2, 2))), x(3, 2, 2)
    ),
    "alias": lambda: _cost(
        _bent(Lambda(lambda layers, z: torch.ops.aten.alias(layers[0](z)), nn.Linear(2, 2))),
        x(3, 2),
    ),
    "transpose": lambda: _cost(
        Lambda(lambda layers, z: torch.tanh(layers[0](z)).transpose(1, 2), nn.Linear(2, 2)),
        x(2, 3, 2),
    ),
    "permute": lambda: _cost(
        Lambda(lambda layers, z: torch.tanh(layers[0](z)).permute(0, 2, 1), nn.Linear(2, 2)),
        x(2, 3, 2),
    ),
    "softmax": lambda: _cost(
        nn.Sequential(nn.Linear(2, 3), nn.Softmax(-1), nn.Linear(3, 2)), x(3, 2)
    ),
    "layer_norm": lambda: _cost(
        nn.Sequential(nn.Linear(2, 3, bias=False), nn.LayerNorm(3), nn.Tanh()), x(3, 2)
    ),
    "group_norm": lambda: _cost(
        nn.Sequential(nn.Linear(2, 4, bias=False), nn.GroupNorm(2, 4), nn.Tanh()), x(3, 2)
    ),
    "scale_shift": lambda: _cost(
        nn.Sequential(nn.Linear(2, 3, bias=False), nn.LayerNorm(3), nn.Tanh()), x(3, 2)
    ),
    "cross_entropy": _classes,
    "mse_loss": lambda: _compared("mse"),
    "l1_loss": lambda: _compared(F.l1_loss),
    "huber_loss": lambda: _compared(F.huber_loss),
    "smooth_l1_loss": lambda: _compared(F.smooth_l1_loss),
    "binary_cross_entropy": lambda: _compared(F.binary_cross_entropy, _shares),
    "binary_cross_entropy_with_logits": lambda: _compared("bce", _shares),
    "poisson_nll_loss": lambda: _compared(F.poisson_nll_loss, _shares),
    "kl_div": lambda: _compared(F.kl_div, _shares),
    "soft_margin_loss": lambda: _compared(F.soft_margin_loss, _signs),
}


def _with_both() -> Iterator[Operation]:
    """The records that have a formula beside a rule that is written out; not a view, which is
    rewritten as a reshape."""
    return (
        record
        for record in RECORDS.values()
        if record.formula is not None
        and (record.pull is not None or record.second is not None)
        and record.name != "view"
    )


@pytest.mark.some(of=2)
@pytest.mark.parametrize("record", [*_with_both()], ids=lambda record: record.name)
def test_the_formula_printed_is_the_formula_run(
    record: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: set[str] = set()

    def watched(part: str, rule: Callable[..., Any] | None) -> Callable[..., Any] | None:
        def run(*arguments: Any) -> Any:
            found = rule(*arguments) if rule is not None else None
            ran.update([part] if found is not None else [])
            return found

        return None if rule is None else run

    cost = WRITTEN[record.name]()
    watching = dataclasses.replace(
        record, pull=watched("pull", record.pull), second=watched("second", record.second)
    )
    for target in record.targets:
        monkeypatch.setitem(BY_TARGET, target, watching)
    numbers = hesse.hessian(cost, certify=False)
    assert ran >= ({"second"} if record.second is not None else {"pull"}), (
        "its rule is not what ran"
    )
    derivation = hesse.derive(cost, certify=False)
    for a, b in numbers.pairs:
        expected = derivation.block(a, b).evaluate()
        assert float((numbers[a, b] - expected).norm()) <= 1e-11 * (1 + float(expected.norm())), (
            a,
            b,
        )
