"""Compiled kernels of the GPU, interpreted and taken apart."""
