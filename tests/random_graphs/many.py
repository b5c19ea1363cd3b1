"""The command: many graphs over several processes, counted; or one in detail, or cut down."""

import argparse
import collections
import functools
import multiprocessing
import os
import sys
import time
import traceback
import warnings
from collections.abc import Iterator

import torch

import hesse
from random_graphs.check import WAYS, Verdict, check, expected_hessian
from random_graphs.cut import cut
from random_graphs.graphs import MOST, graph_of, modules_used

VERDICTS = ("right", "refused", "raw", "wrong")


def work(seed: int, ways: tuple[str, ...], most: int) -> Verdict:
    """One seed in a worker: nothing is raised, and nothing but the verdict is kept."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        return check(graph_of(seed, most), ways, ways)
    except Exception as error:  # the generator's own
        return Verdict(
            seed,
            unsound=(
                f"the check itself raised {type(error).__name__}: {error}"
                f" {traceback.format_exc(limit=-2)!r}"
            ),
        )


def quiet() -> None:
    """In a worker: what torch's C++ and its tracing say of every operation goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def verdicts(seeds: range, jobs: int, ways: tuple[str, ...], most: int) -> Iterator[Verdict]:
    task = functools.partial(work, ways=ways, most=most)
    if jobs == 1:
        yield from map(task, seeds)
        return
    # Processes are renewed: tracing thousands of networks in one would hold on to their memory.
    with multiprocessing.get_context("spawn").Pool(jobs, quiet, maxtasksperchild=100) as pool:
        yield from pool.imap_unordered(task, seeds)
        pool.close()
        pool.join()


def run(seeds: range, jobs: int, ways: tuple[str, ...], most: int) -> bool:
    """Check the seeds, print a line for each that fails and the counts; whether all were right."""
    start, shown = time.perf_counter(), sys.stderr.isatty()
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    graphs, paths = collections.Counter[str](), collections.Counter[str]()
    slowest = Verdict(-1)
    for done, verdict in enumerate(verdicts(seeds, jobs, ways, most), 1):
        paths[verdict.path] += 1
        slowest = max(slowest, verdict, key=lambda v: v.seconds)
        for outcome in verdict.outcomes:
            counts[outcome.way, outcome.verdict] += 1
        for kind in kinds(verdict):
            graphs[kind] += 1
        if verdict.failures or verdict.unsound:
            told = "; ".join(map(str, verdict.failures)) or f"unsound: {verdict.unsound}"
            print(f"seed {verdict.seed} ({verdict.path}) {told}", flush=True)
            if verdict.failures:
                print("    " + verdict.description.replace("\n", " | "), flush=True)
        if shown:
            print(f"\r{done} of {len(seeds)}", end="", file=sys.stderr)
    print(
        f"\ngraphs {sum(paths.values())}: "
        + ", ".join(f"{count} {kind}" for kind, count in sorted(graphs.items()))
    )
    print(
        "paths "
        + ", ".join(f"{count} {path or 'not asked'}" for path, count in paths.most_common())
    )
    for way in dict.fromkeys(way for way, _ in sorted(counts)):
        print(f"{way:26}" + "".join(f"{counts[way, verdict]:7} {verdict}" for verdict in VERDICTS))
    print(
        f"{time.perf_counter() - start:.0f} s; the slowest was seed {slowest.seed} with"
        f" {slowest.seconds:.1f} s"
    )
    return not any(kind != "right" for _, kind in counts)


def chosen(seeds: range, count: int, most: int) -> list[int]:
    """The seeds whose networks together hold many kinds of pieces: one by one that which holds most
    of what is in none before."""
    pieces = {seed: set(modules_used(graph_of(seed, most).net)) for seed in seeds}
    found: list[int] = []
    while len(found) < count and any(pieces.values()):
        best = max(pieces, key=lambda seed: len(pieces[seed]))
        new = pieces.pop(best)
        for held in pieces.values():
            held -= new
        found.append(best)
    return sorted(found)


def kinds(verdict: Verdict) -> list[str]:
    """What to count a graph as, without certificates and with them: the worst that came of it."""
    if not verdict.outcomes:
        return ["unsound"]
    found = []
    for certified in (False, True):
        own = [
            outcome.verdict
            for outcome in verdict.outcomes
            if outcome.way.endswith(", certified") == certified
        ]
        worst = max(own, key=VERDICTS.index, default=None)
        found += [worst + (" certified" if certified else " bare")] if worst else []
    return found


def show(seed: int, most: int) -> bool:
    """A network and how its blocks compare."""
    graph = graph_of(seed, most)
    print(graph.described())
    verdict = check(graph)
    print(f"\n{verdict.path}, P = {verdict.size}, {verdict.seconds:.1f} s {verdict.unsound}")
    print("\n".join(map(str, verdict.outcomes)))
    if any(outcome.verdict == "raw" for outcome in verdict.failures):
        try:
            print(hesse.plan(graph.problem.cost()))
            hesse.hessian(graph.problem.cost(), certify=False)
        except Exception:
            traceback.print_exc()
        return False
    cost = graph.problem.cost()
    print(hesse.plan(cost))
    if verdict.unsound:
        return True
    expected, at = expected_hessian(graph, cost.layout.names), cost.layout.slice
    H = hesse.hessian(cost, certify=False).dense()
    scale = float(expected.abs().max())
    for place, a in enumerate(cost.layout.names):
        for b in cost.layout.names[place:]:
            off = float((H[at(a), at(b)] - expected[at(a), at(b)]).abs().max())
            if not off <= 1e-10 * scale:
                print(
                    f"off by {off:.2e} of {float(expected[at(a), at(b)].abs().max()):.2e}: {a}"
                    f" × {b}"
                )
    return not verdict.failures


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="random_graphs", description="Random networks against double backward."
    )
    parser.add_argument("--count", type=int, default=200, help="how many seeds")
    parser.add_argument(
        "--start", type=int, default=0, help="the first seed; to go on where another run ended"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--ways", default=",".join(WAYS), help="which of: " + ", ".join(WAYS))
    parser.add_argument(
        "--show", type=int, metavar="SEED", help="one network, whole, and its Hessian by blocks"
    )
    parser.add_argument(
        "--cut",
        type=int,
        metavar="SEED",
        help="make the network of a failing seed as small as it still fails",
    )
    parser.add_argument(
        "--choose",
        type=int,
        metavar="NUMBER",
        help="so many of the seeds, with as many kinds of pieces as there can be",
    )
    parser.add_argument(
        "--most", type=int, default=MOST, help="about how many values a network has at most"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    seeds = range(options.start, options.start + options.count)
    if options.choose is not None:
        print(*chosen(seeds, options.choose, options.most), sep=", ")
        return
    if options.show is not None:
        raise SystemExit(not show(options.show, options.most))
    if options.cut is not None:
        print(cut(graph_of(options.cut, options.most)))
        return
    ways = tuple(way.strip() for way in options.ways.split(","))
    raise SystemExit(not run(seeds, options.jobs, ways, options.most))
