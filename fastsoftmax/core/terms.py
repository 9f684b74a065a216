"""What a loss's options are to kernels: compile-time switches and numbers, the same for every backend."""

from functools import lru_cache

from .options import Flags, Options


@lru_cache(maxsize=1024)
def flags(o: Options, *, hard: bool, weighted: bool, factors: bool, grad: bool) -> Flags:
    """The switches of a loss for class indices (`hard`) or probabilities."""
    return Flags(
        hard=hard,
        soft=not hard,
        weighted=weighted,
        smooth=hard and o.label_smoothing > 0,
        z_loss=o.z_loss > 0,
        focal=o.focal_gamma > 0,
        cap=o.softcap is not None,
        temper=o.temperature != 1,
        factors=factors,
        grad=grad,
    )


@lru_cache(maxsize=1024)
def numbers(o: Options, classes: int) -> tuple[float, float, float, float, float, float]:
    """(keep, share, z_loss, gamma, cap, inverse temperature): the numbers that follow a gradient's scale."""
    share = o.label_smoothing / classes
    return 1.0 - o.label_smoothing, share, o.z_loss, o.focal_gamma, o.softcap or 0.0, 1.0 / o.temperature
