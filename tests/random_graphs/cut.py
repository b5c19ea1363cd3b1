"""A failing graph made as small as it still fails in the same manner."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from cases import Problem
from random_graphs.build import Net, Step, pruned
from random_graphs.check import Outcome, check, expected_hessian, tried
from random_graphs.graphs import Graph, Input
from random_graphs.losses import Weigh


def cut(graph: Graph) -> str:
    """The smallest graph found, described, with what fails in it."""
    first = check(graph)
    if not first.failures:
        return f"seed {graph.seed} does not fail"
    wanted = max(first.failures, key=lambda outcome: outcome.verdict == "wrong")
    smaller = True
    while smaller:
        smaller = False
        for candidate in _candidates(graph):
            if _fails(candidate, wanted):
                graph, smaller = candidate, True
                break
    last = _outcome(graph, wanted)
    return f"{graph.described()}\n{last}"


def _fails(graph: Graph, wanted: Outcome) -> bool:
    found = _outcome(graph, wanted)
    return (
        found is not None
        and found.verdict == wanted.verdict
        and found.text[:25] == wanted.text[:25]
    )


def _outcome(graph: Graph, wanted: Outcome) -> Outcome | None:
    """What the way that failed gives for another graph; None where there is nothing to compare
    with."""
    name, _, certified = wanted.way.partition(", ")
    if name == "cost":
        verdict = check(graph, (), ())
        return verdict.outcomes[0] if verdict.outcomes else None
    try:
        cost = graph.problem.cost()
        expected = expected_hessian(graph, cost.layout.names)
    except Exception:
        return None
    if not bool(torch.isfinite(expected).all()) or not float(expected.abs().max()) > 1e-6:
        return None
    return tried(name, graph, cost, expected, certified == "certified")


def _candidates(graph: Graph) -> Iterator[Graph]:
    """Graphs one change smaller, the largest cuts first."""
    net, batches, loss, weigh = graph.net, graph.batches, graph.loss, graph.weigh
    steps = list(net.walk())
    params = graph.problem.params if isinstance(graph.problem.model, nn.Module) else None
    penalty = graph.problem.penalty
    if penalty is not None or not isinstance(graph.problem.model, nn.Module):
        yield _made(graph, steps, net.outputs, batches, loss, weigh, params)
    for place in range(net.given, net.given + len(steps)):
        if [place] != net.outputs:
            yield _ending_at(graph, steps, place)
    if len(batches) > 1:
        for batch in batches:
            yield _made(graph, steps, net.outputs, [batch], loss, weigh, params)
    if len(batches) == 1 and len(batches[0][1]) > 1:
        (x, y) = batches[0]
        for at in range(len(y)):
            yield _made(
                graph, steps, net.outputs, [(_sample(x, at), y[at : at + 1])], loss, weigh, params
            )
    for place, step in enumerate(steps):
        for value in step.inputs:
            without, outputs = _without(net.given, steps, net.outputs, place, value)
            yield _made(graph, without, outputs, batches, loss, weigh, params)
    shared = max((len(step.inputs) for step in steps), default=0)
    if shared > 2:
        for place, step in enumerate(steps):
            for at in range(len(step.inputs) if len(step.inputs) > 2 else 0):
                fewer = Step(step.module, step.inputs[:at] + step.inputs[at + 1 :])
                yield _made(
                    graph,
                    [*steps[:place], fewer, *steps[place + 1 :]],
                    net.outputs,
                    batches,
                    loss,
                    weigh,
                    params,
                )
    names = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    chosen = [name for name in names if not isinstance(params, list) or name in params]
    if len(chosen) > 1:
        for name in chosen:
            yield _made(
                graph,
                steps,
                net.outputs,
                batches,
                loss,
                weigh,
                [other for other in chosen if other != name],
            )


def _without(
    given: int, steps: list[Step], outputs: list[int], place: int, value: int
) -> tuple[list[Step], list[int]]:
    """The steps without one: what read its value reads one that went into it."""
    gone = given + place

    def renamed(at: int) -> int:
        return value if at == gone else at - (at > gone)

    kept = [
        Step(step.module, tuple(map(renamed, step.inputs)))
        for at, step in enumerate(steps)
        if at != place
    ]
    return kept, [renamed(at) for at in outputs]


def _sample(x: Input, at: int) -> Input:
    return tuple(part[at : at + 1] for part in x) if isinstance(x, tuple) else x[at : at + 1]


def _ending_at(graph: Graph, steps: list[Step], place: int) -> Graph:
    """Half the squared error of a value in the middle."""
    net = Net(graph.net.given, *pruned(graph.net.given, steps, [place]))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: list[Any] = [net(x) for x, _ in graph.batches]
        batches = [
            (x, torch.randn_like(value)) for (x, _), value in zip(graph.batches, made, strict=True)
        ]
    return Graph(graph.seed, Problem(net, "half_sse", batches), net, batches, "half_sse", None)


def _made(
    graph: Graph,
    steps: list[Step],
    outputs: list[int],
    batches: list[tuple[Input, Tensor]],
    loss: Any,
    weigh: Weigh,
    params: Any,
) -> Graph:
    net = Net(graph.net.given, *pruned(graph.net.given, steps, outputs))
    own = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    if isinstance(params, list):
        params = _renamed(graph.net, net, params)
    elif params is not None:
        params = None
    return Graph(
        graph.seed,
        Problem(net, loss, batches, params if params and own else None),
        net,
        batches,
        loss,
        weigh,
    )


def _renamed(old: Net, new: Net, names: list[str]) -> list[str]:
    """Names of the same parameters in a net whose pieces are numbered anew."""
    chosen = {id(old.get_parameter(name)) for name in names}
    return [name for name, parameter in new.named_parameters() if id(parameter) in chosen]
