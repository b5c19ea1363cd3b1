"""Networks in: from a description of a network, or from a captured cost, to the program that a
derivation begins with."""
