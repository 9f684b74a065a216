"""Cases, contestants and floors of the GPU's benchmark."""
