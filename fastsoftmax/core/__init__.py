"""True on every device: the mathematics, options, dtypes, strides and rules."""
