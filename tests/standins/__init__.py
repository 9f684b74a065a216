"""Stand-ins for GPUs, drivers and array libraries."""
