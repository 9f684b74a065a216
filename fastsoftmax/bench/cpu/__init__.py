"""Cases, contestants and floors of the CPU's benchmark."""
