"""Masks and offsets of classes, checked: what logits are adjusted by."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core import rules
from ..core.conversion import array_of, numbers

Array = NDArray[Any]


class Adjust(NamedTuple):
    """The numbers that are added to logits after softcap and temperature; -inf leaves a class out."""

    offset: Array | None = None  # by class, float64
    mask: Array | None = None  # bool, False for classes that are left out; in the shape of the logits, classes last

    @property
    def given(self) -> bool:
        """Whether there is anything to adjust by."""
        return self.offset is not None or self.mask is not None


NOTHING = Adjust()


def adjustment(where: Any, class_offset: Any, like: Array, axis: int, dtype: str) -> Adjust:
    """The adjustment of logits in the shape of `like` with their classes along `axis`."""
    if where is None and class_offset is None:
        return NOTHING
    offset = None if class_offset is None else _offset(class_offset, like.shape[axis], dtype)
    if where is None:
        return Adjust(offset)
    mask = np.moveaxis(broadcast(where, like.shape), axis, -1)
    if any(n > 1 and step for n, step in zip(mask.shape[:-1], mask.strides, strict=False)) or mask.size == 0:
        return Adjust(offset, mask)
    classes = mask[(0,) * (mask.ndim - 1)]  # the same for every row: a number for each class costs no traffic
    return Adjust(np.where(classes, 0.0 if offset is None else offset, -np.inf))


def broadcast(where: Any, shape: tuple[int, ...]) -> Array:
    """A mask in the shape of logits."""
    mask = array_of("where", where)
    rules.mask(mask.shape, mask.dtype, shape)
    return np.broadcast_to(mask, shape)


def _offset(value: Any, classes: int, dtype: str) -> Array:
    array = numbers("class_offset", value).astype(np.float64, order="C")
    rules.class_offset(array.shape, classes)
    good = (np.abs(array) <= np.finfo(dtype).max) | (array == -np.inf)
    if not good.all():
        raise rules.no_offset(array[~good][0], int(np.argmin(good)), float(np.finfo(dtype).max), dtype)
    return array
