"""The kernels of the CPU, by how rows lie in memory."""
