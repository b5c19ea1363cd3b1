"""How a derivation looks: in text, LaTeX and HTML; in indices, as matrices, with one weight per
layer."""
