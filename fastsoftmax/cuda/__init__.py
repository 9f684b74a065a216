"""The GPU backend: kernels for NVIDIA GPUs, compiled by numba-cuda from the same mathematics as those of the CPU."""
