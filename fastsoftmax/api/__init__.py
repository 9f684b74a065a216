"""The public functions: signatures and documentation."""
