"""From signals to blocks: the orders in which a pair of slots is contracted, and which one is
cheapest."""
