"""The process around the work: memory, progress, what PyTorch prints, and the switches that are off
meanwhile."""
