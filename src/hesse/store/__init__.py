"""A Hessian on disk: computed in tiles, tile by tile, and read as one."""
