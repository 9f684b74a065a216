"""The kernels of a GPU, and their device functions."""
