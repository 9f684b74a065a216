"""JAX with its 64-bit dtypes, where a test asks for them."""

import pytest


@pytest.fixture
def x64():
    """float64 and int64 for a test."""
    jax = pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)
