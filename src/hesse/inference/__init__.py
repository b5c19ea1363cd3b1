"""What a minimum of a cost says of its parameters as estimates: errors, intervals, p-values."""
