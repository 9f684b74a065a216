"""The loss kernels that tests of values, layouts and traffic share.

A kernel is compiled in seconds and executed in a blink: hence few kernels, and many inputs for each.  Forms, dtypes,
options, targets and widths of labels are paired, so that each meets each of the others somewhere.
"""

from typing import NamedTuple

import numpy as np

from fastsoftmax.cuda.plan import BLOCK, CLUSTER, ONLINE, PART_WARP, SCALAR, SHARED, WARP
from tests.cuda.kernels.support import A100, H200, KINDS, Lie
from tests.pairs import covering
from tests.support import (
    ALL,
    ALONE,
    CAP_AND,
    FOCAL_AND,
    INDEX_OPTIONS,
    SMOOTH_AND,
    SOFT_ALL,
    SOFT_CAP,
    SOFT_OPTIONS,
    SOFT_SMOOTH_AND,
    SOFT_Z,
    filled,
    logits,
    names,
    probabilities,
)

FLOAT16, BFLOAT16, FLOAT32, FLOAT64 = (KINDS[k] for k in range(4))
TINY = (2, 1024, False)  # a GPU without shared memory to speak of
PLAIN = Lie()
MAJOR = Lie(major=True)
NAMES = ("scalar", "part_warp", "warp", "block", "shared", "cluster", "online")  # of the forms


class Case(NamedTuple):
    """A loss kernel, by what it is planned from."""

    dtype: np.dtype
    classes: int
    form: int
    lie: Lie = PLAIN
    facts: tuple = H200
    options: dict = INDEX_OPTIONS[0]
    label: int = 8  # bytes of a class index
    soft: np.dtype | None = None  # of soft targets

    @property
    def name(self):
        """A name for a test."""
        target = f"-soft_{self.soft}" if self.soft else "-int32" if self.label == 4 else ""
        return f"{NAMES[self.form]}-{self.dtype}-{self.classes}{target}-{names(self.options)}"

    @property
    def how(self):
        """What `loss_of` is told."""
        return {"lie": self.lie, "facts": self.facts, "label": self.label}

    def drawn(self, rows):
        """(random logits, targets at the ends of rows and between, the options with weights)."""
        random, shape = np.random.default_rng(self.classes), (rows, self.classes)
        x, options = logits(self.classes, shape, self.dtype), filled(self.options, random, shape)
        if self.soft:
            return x, probabilities(random, shape, self.soft), options
        target = edges(self.classes, rows)
        target[2::7] = -100
        return x, target, options


def edges(classes, rows):
    """Classes from the two ends of a row inwards, where heads and tails are, and then random ones."""
    ends = np.stack([np.arange(8), classes - 1 - np.arange(8)], axis=-1).ravel() % classes
    return np.resize(np.r_[ends, np.random.default_rng(rows).integers(0, classes, rows)], rows)


#: One of each form, without options: tests of layouts and of labels use them too.
EACH = [
    Case(FLOAT32, 50, SCALAR, MAJOR),
    Case(FLOAT32, 10, PART_WARP),
    Case(FLOAT32, 1001, WARP),
    Case(FLOAT32, 5001, BLOCK, Lie(offset=3)),
    Case(FLOAT32, 33001, SHARED, facts=A100),
    Case(FLOAT32, 40001, CLUSTER),
    Case(FLOAT32, 33001, ONLINE, facts=TINY),
]
CLASSES, SAMPLES = {"class_weight": True}, {"sample_weight": True}
OTHERS = [
    Case(FLOAT32, 1, PART_WARP, options=ALONE["label_smoothing"]),
    Case(FLOAT32, 2, PART_WARP, options=ALONE["z_loss"]),
    Case(FLOAT32, 33, PART_WARP, options=ALONE["focal_gamma"], label=4),
    Case(FLOAT32, 20, PART_WARP, MAJOR, options=CLASSES),
    Case(BFLOAT16, 7, PART_WARP, options=ALONE["temperature"], label=4),
    Case(BFLOAT16, 515, WARP),
    Case(BFLOAT16, 5003, BLOCK),
    Case(BFLOAT16, 33005, CLUSTER, options=SMOOTH_AND, label=4),
    Case(BFLOAT16, 65701, SHARED, Lie(offset=1), A100, ALONE["softcap"], label=4),
    Case(BFLOAT16, 65701, ONLINE, facts=TINY, options=FOCAL_AND),
    Case(FLOAT16, 515, WARP, Lie(offset=3), options=SAMPLES),
    Case(FLOAT64, 121, WARP, options=CAP_AND, label=4),
    Case(FLOAT64, 1001, BLOCK),
    Case(FLOAT32, 50, SCALAR, MAJOR, options=ALL),
    Case(FLOAT64, 22, PART_WARP, options=ALL),
    Case(FLOAT16, 5003, BLOCK, options=ALL),
    Case(FLOAT32, 33001, SHARED, facts=A100, options=ALL),
    Case(FLOAT32, 17001, CLUSTER, options=ALL, label=4),
]
OTHERS += [
    Case(FLOAT32, 9, PART_WARP, options=options)
    for options in INDEX_OPTIONS
    if all(options != case.options for case in EACH + OTHERS)
]
SOFTS = [
    Case(BFLOAT16, 50, SCALAR, MAJOR, options=SOFT_Z, soft=FLOAT32),
    Case(FLOAT16, 21, PART_WARP, options=ALONE["label_smoothing"], soft=FLOAT16),
    Case(FLOAT64, 6, PART_WARP, options=SOFT_SMOOTH_AND, soft=FLOAT64),
    Case(FLOAT16, 3000, BLOCK, options=SOFT_CAP, soft=FLOAT32),
    Case(FLOAT64, 16500, ONLINE, facts=TINY, soft=FLOAT64),
    Case(BFLOAT16, 251, WARP, options=SOFT_ALL, soft=FLOAT32),
    Case(FLOAT32, 3001, BLOCK, options=SOFT_ALL, soft=FLOAT32),
    Case(BFLOAT16, 33005, CLUSTER, options=SOFT_ALL, soft=BFLOAT16),
    Case(FLOAT32, 33001, SHARED, facts=A100, options=SOFT_ALL, soft=FLOAT32),
    Case(FLOAT16, 65701, ONLINE, facts=TINY, options=SOFT_ALL, soft=FLOAT32),
]
SOFTS += [
    Case(FLOAT32, 9, PART_WARP, options=options, soft=FLOAT32)
    for options in SOFT_OPTIONS
    if all(options != case.options for case in SOFTS)
]


def _about(case):
    """The values of a case that the default run is to meet."""
    options = ((name, name in case.options) for name in INDEX_OPTIONS[-1])
    return case.dtype, case.form, (case.soft, bool(case.options)), case.label, case.lie.major, *options


#: For the default run: each form, dtype and option; the others are exhaustive.
USUAL = covering(EACH + OTHERS + SOFTS, 1, _about)
