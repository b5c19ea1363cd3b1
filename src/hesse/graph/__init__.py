"""One sample's loss as data, below everything that computes: its values, the sites where parameters
enter, the structures of cotangents and Hessians."""
