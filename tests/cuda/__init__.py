"""The GPU, without one."""
