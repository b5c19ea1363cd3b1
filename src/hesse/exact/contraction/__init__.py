"""From S, D and δ to blocks of the Hessian: the orders in which a pair of parameter uses is
contracted, and which one is cheapest."""
