"""One sample's loss as plain data: its values, the sites where parameters enter, what columns and
curvatures look like."""
