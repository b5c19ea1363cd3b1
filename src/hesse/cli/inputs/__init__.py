"""What the command line names: models, losses and data in files, numbers of bytes, and where to
write."""
