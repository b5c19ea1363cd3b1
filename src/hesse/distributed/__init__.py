"""The work of one cost by several processes: every rank makes the same calls, takes a share of the
data or of the tiles, and gets the same result."""
