"""The calculus of entries with named indices: expressions, their algebra, their derivatives, and
programs of them."""
