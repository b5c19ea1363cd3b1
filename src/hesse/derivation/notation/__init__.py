"""How a derivation is shown: in Unicode text, in LaTeX and as a page of HTML, each in three readings."""
