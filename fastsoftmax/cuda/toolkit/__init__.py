"""NVIDIA's compiler and driver, and the store of compiled kernels."""
