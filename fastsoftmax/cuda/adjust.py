"""Masks of classes on a GPU, and what else logits are adjusted by there."""

from typing import NamedTuple

from ..core import rules
from ..core.dtypes import SIZES
from ..core.options import Flags
from ..core.strides import Operand, axes_last, joined
from .arrays.library import Argument, Description


class Adjust(NamedTuple):
    """The adjustment of logits, after softcap and temperature: as far as calls are prepared for it."""

    offset: bool = False  # a number for each class
    mask: Operand | None = None  # in the shape of the logits, with the classes last

    @property
    def given(self) -> bool:
        """Whether there is anything to adjust by."""
        return self.offset or self.mask is not None

    def of(self, flags: Flags) -> Flags:
        """The switches of a kernel that does it."""
        return flags._replace(adjusted=self.given, offset=self.offset, mask=self.mask is not None)


NOTHING = Adjust()


def mask_of(where: Argument, like: Description, axes: tuple[int, ...]) -> Operand:
    """A mask as an operand for results along some axes of logits."""
    about, shape = where.description, like.shape
    rules.mask(about.shape, about.dtype, shape)
    if where.address == 0 and 0 not in shape:
        raise ValueError(
            f"where must have memory on a GPU, got the address 0 with shape {about.shape}; pass an array whose memory "
            "was not given back"
        )
    return broadcast("where", where, like, axes)


def broadcast(name: str, argument: Argument, like: Description, axes: tuple[int, ...]) -> Operand:
    """An operand in the shape of logits, for results along some of their axes, which are merged as theirs are."""
    about, shape = argument.description, like.shape
    dtype, missing = about.dtype if about.dtype in SIZES else "bool", len(shape) - len(about.shape)
    steps = [0 if n == 1 else step for n, step in zip(about.shape, about.strides, strict=True)]
    strides = (*(0,) * missing, *steps)
    order, rest = axes_last(axes, like.strides), len(shape) - len(axes)
    shape, strides = (tuple(of[a] for a in order) for of in (shape, strides))
    merged = joined(shape, strides, rest) if axes else (1, SIZES.get(about.dtype, 1))
    if merged is None:
        raise ValueError(
            f"{name} must lie as x does along the axes {axes} on a GPU, where nothing is copied, got shape "
            f"{about.shape} with strides {about.strides}; pass a contiguous array in the shape of x, {like.shape}"
        )
    return Operand((*shape[:rest], merged[0]), (*strides[:rest], merged[1]), dtype, argument.address)
