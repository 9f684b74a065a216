"""Vectors of the CPU: arithmetic, memory, half precision, elementary functions."""
