"""The lines of a derivation: what each says, and who writes them, in full or layer by layer."""
