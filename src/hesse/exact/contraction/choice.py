"""Contractions: from the signals at two slots to the block of the Hessian, by large matrix
products.

For one sample, with slot l at or before slot m in the network,

    H[(g,o,i),(h,p,j)] = Σ_{t,s} a[g,t,i] ( S[h,s,p; g,t,o] b[h,s,j]  +  δ[h,s,p] D[h,s,j; g,t,o] )
                                            curvature from above         product-rule term

and the block is the sum over samples. There are several orders to do it in, each best somewhere;
`Order.estimate` says what each costs, and the cheapest runs. Those for plain slots (one group, one
position: dense layers) are

    pairs      [(o,p) × n]·[n × (i,j)]; halves of both symmetric pairs on a diagonal block, a
    quarter of the work gram       for each o ≤ p: (a ∘ S[:,o,p]) aᵀ, upper tiles only, straight
    into the block rows       for each o: aᵀ · [n × (p,j)], straight into the block diagonal   S
    diagonal, or diagonal minus rank one (softmax at the last layer): [o × n]·[n × (i,j)] and one
    Gram matrix

and for slots with positions or groups

    first l    contract the positions of l, then those of m        first m    the other way about
    narrow     where S and D pass through a value with fewer entries than z_l: first contract that
    value's Jacobian with a

Index letters, here and in the modules of the orders: n sample; g t o i group, position, output,
input of l; h s p j those of m; x the entries of m's input.
"""

from hesse.exact.contraction import dense_layers as plain
from hesse.exact.contraction import shared_positions as positions
from hesse.exact.contraction.pair import Estimate, Order, Sizes


def choose(sizes: Sizes, samples: int) -> tuple[Order, Estimate]:
    """The cheapest order for a pair and so many samples."""
    estimates = [
        (order, order.estimate(sizes).times(sizes.positions))
        for order in ORDERS
        if order.applies(sizes)
    ]
    return min(estimates, key=lambda made: made[1].time(samples))


def _structured(z: Sizes) -> bool:
    return z.signal in ("diagonal", "rank one") and z.transport == "zero"


def _dense_self(z: Sizes) -> bool:
    return z.plain and z.same and z.signal == "dense"


ORDERS = (
    Order("pairs", _dense_self, plain.estimate_pairs_self, plain.pairs_self, complete=True),
    Order(
        "gram", _dense_self, plain.estimate_gram, plain.gram_self, plain.gram_finish, complete=True
    ),
    Order(
        "diagonal",
        lambda z: z.plain and z.same and _structured(z),
        plain.estimate_diagonal_self,
        plain.diagonal_self,
    ),
    Order(
        "diagonal",
        lambda z: z.plain and not z.same and _structured(z),
        plain.estimate_diagonal,
        plain.diagonal,
    ),
    Order(
        "pairs",
        lambda z: z.plain and not z.same and not _structured(z),
        plain.estimate_pairs,
        plain.pairs,
    ),
    Order(
        "rows",
        lambda z: z.plain and not z.same and not _structured(z),
        plain.estimate_rows,
        plain.rows,
    ),
    Order(
        "first l",
        lambda z: not z.plain and not z.narrow,
        positions.estimate_first_l,
        positions.first_l,
        whole=True,
    ),
    Order(
        "first m",
        lambda z: not z.plain and not z.narrow,
        positions.estimate_first_m,
        positions.first_m,
        whole=True,
    ),
    Order(
        "narrow", lambda z: z.narrow > 0, positions.estimate_narrow, positions.narrow, whole=True
    ),
)
