"""Networks put together at random as graphs, each held against double backward.

`graph_of(seed)` draws one and `check(graph)` compares. As a command, from the repository's root:

    python tests/random_graphs --count 5000 --jobs 2    # counts, and a line for each seed that
    fails python tests/random_graphs --show 17                # the network of a seed, and its
    Hessian by blocks
"""

from random_graphs.check import Outcome, Verdict, check
from random_graphs.graphs import Graph, graph_of

__all__ = ["Graph", "Outcome", "Verdict", "check", "graph_of"]
