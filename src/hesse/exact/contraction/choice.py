"""Contractions: from S, D and δ at two parameter uses to the block of the Hessian, by large matrix
products.

For one sample, with use l at or before use m in the network,

    H[(g,o,i),(h,p,j)] = Σ_{t,s} a[g,t,i] ( S[h,s,p; g,t,o] b[h,s,j]  +  δ[h,s,p] D[h,s,j; g,t,o] )
                                            curvature from above         product-rule term

and the block is the sum over samples. There are several *orders* to do it in, each best somewhere;
`Order.estimate` says what each costs, and the cheapest runs. Between dense layers on vectors (one
group, one position) there are

    pairs      [(o,p) × n]·[n × (i,j)]; on a diagonal block halves of both symmetric pairs, a
               quarter of the work
    gram       for each o ≤ p: (a ∘ S[:,o,p]) aᵀ, upper tiles only, straight into the block; of
               some outputs with others for each o and p
    rows       for each o: aᵀ · [n × (p,j)], straight into the block
    diagonal   S diagonal, or diagonal minus rank one (softmax at the last layer):
               [o × n]·[n × (i,j)] and one Gram matrix

between vectors where one or both uses scale or shift every entry

    by entry   multiplied on where there are few features, then [j × n]·[n × (q,g)]

and for uses with positions or groups

    first l    contract the positions of l, then those of m
    first m    the other way about
    narrow     where S and D pass through a value with fewer entries than z_l, a bottleneck: first
               contract that value's Jacobian with a

Index letters, here and in the modules of the orders: n sample; g t o i group, position, output,
input of l; h s p j those of m; x the entries of m's input.
"""

import math

from hesse.exact.contraction import dense_layers, output_pairs, scaled_vectors, shared_positions
from hesse.exact.contraction.pair import Estimate, Form, Order, Sizes

# With chunks of fewer samples products of matrices are slow.
_FAIR = 256


def choose(sizes: Sizes, samples: int, most: float = math.inf) -> tuple[Order, Estimate]:
    """The cheapest order for a pair and so many samples, of those that hold at most so many numbers
    for a fair number of them, or for one; where none does, the one that holds the fewest."""
    estimates = [
        (order, order.estimate(sizes).times(sizes.positions))
        for order in ORDERS
        if order.applies(sizes)
    ]
    for count in (min(samples, _FAIR), 1):
        fitting = [priced for priced in estimates if priced[1].room.of(count) <= most]
        if fitting:
            return min(fitting, key=lambda priced: priced[1].time(samples))
    return min(estimates, key=lambda priced: priced[1].room.of(1))


def _structured(z: Sizes) -> bool:
    return z.hessian in (Form.DIAGONAL, Form.RANK_ONE) and z.jacobian == Form.ZERO


def _has_positions(z: Sizes) -> bool:
    # Where every entry is a group, products of matrices over its features would be far too small.
    return not z.vector and not z.by_entry and not z.bottleneck


def _dense_self(z: Sizes) -> bool:
    return z.vector and z.same and z.hessian == Form.DENSE


# Every pair has an order that applies: the conditions split by form, and by vector or not. Where
# several apply, `choose` takes the cheapest.
ORDERS = (
    Order(
        "pairs",
        _dense_self,
        dense_layers.estimate_pairs_self,
        dense_layers.pairs_self,
        complete=True,
    ),
    Order(
        "gram",
        _dense_self,
        dense_layers.estimate_gram,
        dense_layers.gram_self,
        dense_layers.gram_finish,
        complete=True,
    ),
    Order(
        "gram",
        lambda z: z.vector and z.alike and not z.same and z.hessian == Form.DENSE,
        output_pairs.estimate,
        output_pairs.gram_between,
        output_pairs.finish,
    ),
    Order(
        "diagonal",
        lambda z: z.vector and z.same and _structured(z),
        dense_layers.estimate_diagonal_self,
        dense_layers.diagonal_self,
    ),
    Order(
        "diagonal",
        lambda z: z.vector and not z.same and _structured(z),
        dense_layers.estimate_diagonal,
        dense_layers.diagonal,
    ),
    Order(
        "pairs",
        lambda z: z.vector and not z.same and not _structured(z),
        dense_layers.estimate_pairs,
        dense_layers.pairs,
    ),
    Order(
        "rows",
        lambda z: z.vector and not z.same and not _structured(z),
        dense_layers.estimate_rows,
        dense_layers.rows,
    ),
    Order(
        "by entry",
        lambda z: z.by_entry,
        scaled_vectors.estimate_by_entry,
        scaled_vectors.by_entry,
        joined=True,
    ),
    Order(
        "first l",
        _has_positions,
        shared_positions.estimate_first_l,
        shared_positions.first_l,
        joined=True,
    ),
    Order(
        "first m",
        _has_positions,
        shared_positions.estimate_first_m,
        shared_positions.first_m,
        joined=True,
    ),
    Order(
        "narrow",
        lambda z: z.bottleneck > 0,
        shared_positions.estimate_through_bottleneck,
        shared_positions.through_bottleneck,
        joined=True,
    ),
)
