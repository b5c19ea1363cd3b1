"""Down the graph: one sweep carries every second-order signal from the loss to the sites."""
