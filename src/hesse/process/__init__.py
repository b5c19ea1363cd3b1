"""The process around the work: memory, progress, files, what PyTorch prints, and the switches that
are off meanwhile."""
