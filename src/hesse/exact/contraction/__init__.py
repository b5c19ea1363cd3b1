"""From signals to blocks: the orders in which a pair of uses is contracted, and which one is
cheapest."""
