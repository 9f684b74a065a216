"""The CPU backend: kernels in explicit SIMD, and what launches them."""
