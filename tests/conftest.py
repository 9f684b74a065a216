"""Settings of hypothesis for machines on which a first call compiles for seconds."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fastsoftmax", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fastsoftmax")
