"""Threads of the CPU: kernels run over chunks of their rows."""
