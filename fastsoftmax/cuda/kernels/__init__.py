"""The kernels of a GPU, and what they are made of."""
