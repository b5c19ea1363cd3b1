"""The minimisers of a quadratic model under a bound on the step, by its spectrum, and the spaces
they are sought in."""
