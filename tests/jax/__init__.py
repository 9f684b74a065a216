"""The functions of JAX's arrays; run where JAX is installed (``pip install '.[jax]'``)."""
