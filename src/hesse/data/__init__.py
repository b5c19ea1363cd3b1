"""The data of a cost: one batch, how a model is called on it, and which reading of what the user
gave fits."""
