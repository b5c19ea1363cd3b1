"""Where a cost comes from: text in the language of formulas, a network in words, a captured
model."""
