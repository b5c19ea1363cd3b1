"""A report: one page of HTML about a cost, of what the other rooms compute."""
