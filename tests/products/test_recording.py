"""A recording does what the function does, notes each operation once, and refuses what has no
program."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hesse.capture import forms
from hesse.capture.forms import FormTensor, NeedsValue
from hesse.capture.recording import Program, Unsuitable, record
from hesse.capture.straight_line import aten

Function = Callable[[Tensor, Tensor], list[Tensor]]
TABLE = torch.arange(12.0).reshape(4, 3)


def _written(x: Tensor, y: Tensor) -> list[Tensor]:
    total = x.clone()
    total[1:].mul_(y[0]).add_(1)
    total.t()[0] = y.sum()
    return [total, torch.zeros_like(x).copy_(y.expand_as(x))]


def _split(x: Tensor, y: Tensor) -> list[Tensor]:
    first, second = x.split([1, 3])
    return [torch.cat([second, first]), *torch.var_mean(x, 0), *torch.topk(x, 2).values.unbind(1)]


FUNCTIONS: dict[str, Function] = {
    "written into": _written,
    "several results": _split,
    "numbers": lambda x, y: [2 * x + 1, x / 2 + True, x.mul(1.0) + x.mul(1)],
    "constants": lambda x, y: [x @ TABLE.T, TABLE.mul(2) + y, TABLE[torch.tensor([0, 2])] * y],
    "no argument": lambda x, y: [torch.eye(3) + torch.arange(3) * y, torch.full((2,), 0.5)],
    "an argument": lambda x, y: [x, x.detach(), x.view(-1), x.to(torch.float32), x.expand(4, 3)],
    "other strides": lambda x, y: [x.t().clone().reshape(-1), x.t().contiguous().view(-1)],
    "dtypes": lambda x, y: [x.double() + y, (x > 0).sum(), x.long().float()],
}


# What is written through a transpose is recorded where writes are replaced.
ROWS = [(name, writes) for name in FUNCTIONS for writes in (False, True)]
ROWS.remove(("written into", True))


@pytest.mark.parametrize(("name", "writes"), ROWS)
def test_the_program_gives_what_the_function_does(name: str, writes: bool) -> None:
    function, x, y = FUNCTIONS[name], torch.randn(4, 3), torch.randn(3)
    program = record(function, [torch.zeros(4, 3), torch.zeros(3)], writes)
    before = x.clone(), y.clone()
    torch.testing.assert_close(program(x, y), function(x, y), rtol=0, atol=0)
    assert torch.equal(x, before[0]) and torch.equal(y, before[1])
    for node in program.graph.nodes:
        assert isinstance(node.meta.get("val"), FormTensor | tuple | list) or node.op == "output"


def targets(program: Program) -> list[object]:
    program.graph.eliminate_dead_code()
    return [node.target for node in program.graph.nodes if node.op == "call_function"]


def test_each_operation_is_noted_once_and_copies_are_not() -> None:
    def function(x: Tensor) -> list[Tensor]:
        return [(x.clone().exp() * x.detach().exp()).view(2, 2) + (x.exp() * x.exp()).view(2, 2)]

    program = record(function, [torch.ones(4)])
    assert targets(program) == [
        aten.exp.default,
        aten.mul.Tensor,
        aten.reshape.default,
        aten.add.Tensor,
    ]
    # Of another type a number is another.
    numbers = record(
        lambda x: [x.pow(1), x.pow(1.0), x.pow(True)], [torch.ones(4, dtype=torch.int64)]
    )
    assert len({str(node.args) for node in numbers.graph.nodes if node.op == "call_function"}) == 3


def test_a_program_is_compiled_when_it_is_run() -> None:
    program = record(lambda x: [x.sin()], [torch.ones(2)])
    assert "_module" not in vars(program)
    program(torch.ones(2))
    compiled = program._module
    program(torch.zeros(2))
    assert program._module is compiled


def test_a_constant_is_that_of_the_moment() -> None:
    held = torch.ones(2)
    program = record(lambda x: [x + held], [held])
    held.zero_()
    assert torch.equal(program(torch.ones(2))[0], torch.full((2,), 2.0))


def test_nothing_is_computed_and_no_memory_taken() -> None:
    x = FormTensor.like(torch.empty(10**6, device="meta"))
    large = (x[:, None] * x).softmax(1)
    assert large.shape == (10**6, 10**6) and large.device.type == "meta"


LOOKS: dict[str, Function] = {
    "an item": lambda x, y: [x * y.sum().item()],
    "a branch": lambda x, y: [x if y.sum() > 0 else y],
    "a mask that selects": lambda x, y: [x[x > 0]],
    "what is not zero": lambda x, y: [x.nonzero()],
}


@pytest.mark.parametrize("name", LOOKS)
def test_what_looks_at_values_is_refused(name: str) -> None:
    with pytest.raises(NeedsValue, match="aten"):
        record(LOOKS[name], [torch.ones(4, 3), torch.ones(3)])


def test_what_changes_the_shape_of_its_argument_is_not_written() -> None:
    with pytest.raises(Unsuitable, match="another shape"):
        record(lambda x: [x.clone().unsqueeze_(0)], [torch.ones(2)], writes=True)


def test_steps_of_a_loop_ask_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an operation makes of forms is asked as often for three steps as for twelve, and as many
    operations are noted for each."""
    asked, ask = list[object](), forms._made_by_torch

    def counted(func: object, *given: object) -> object:
        asked.append(func)
        return ask(func, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(forms, "_made_by_torch", counted)
    cell = nn.LSTMCell(2, 3)

    def function(x: Tensor, h: Tensor) -> list[Tensor]:
        state = h, h
        for step in x.unbind(0):
            state = cell(step, state)
        return [torch.func.grad(lambda h: (state[0] * h).sum())(h), *state]

    counts, noted = list[int](), list[int]()
    for steps in (3, 6, 12):
        forms._MADE.clear()
        asked.clear()
        program = record(function, [torch.ones(steps, 4, 2), torch.ones(4, 3)])
        counts.append(len(asked))
        noted.append(len(program.graph.nodes))
    # But for where a step is taken out of the sequence.
    assert counts[0] == counts[1] == counts[2] < 40
    assert noted[2] - noted[1] == 2 * (noted[1] - noted[0])
