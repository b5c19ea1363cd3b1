"""Losses as sums over samples, and what their means are divided by: PyTorch's, losses beside
weights of samples, and functions of the user's."""
