"""The list of options: what is written out agrees with it, and each option is checked by what it says."""

import inspect
import itertools
import math
import re

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.core.options import (
    LARGE,
    TERMS,
    Bounds,
    Flags,
    Numbers,
    Options,
    flags_of,
    in_precision,
    numbers_of,
    wide_enough,
)
from tests.support import ALONE, INDEX_OPTIONS, INDICES_ONLY, SOFT_OPTIONS

#: The switches that belong to the call.
SWITCHES = (
    *("hard", "soft", "weighted", "factors", "grad"),
    *("upstream", "entropy", "rest", "adjusted", "offset", "mask", "residual"),
)
NAMES = [term.option for term in TERMS]
LOSSES = {
    fs.cross_entropy: (np.zeros((4, 3)), [0, 1, 2, 0]),
    fs.cross_entropy_and_grad: (np.zeros((4, 3)), [0, 1, 2, 0]),
    fs.linear_cross_entropy: (np.zeros((4, 2)), np.zeros((3, 2)), [0, 1, 2, 0]),
    fs.linear_cross_entropy_and_grad: (np.zeros((4, 2)), np.zeros((3, 2)), [0, 1, 2, 0]),
}
each_term = pytest.mark.parametrize("term", TERMS, ids=NAMES)
each_loss = pytest.mark.parametrize("function", LOSSES, ids=lambda f: f.__name__)


def switches(**options):
    return flags_of(Options(**options), hard=True, weighted=False, factors=False, grad=False)


def test_options_are_the_list():
    defaults = {"ignore_index": -100, **{term.option: term.default for term in TERMS}, "reduction": "mean"}
    assert list(Options._fields) == list(defaults)
    assert Options()._asdict() == defaults


@each_loss
def test_signatures_have_the_options(function):
    """By keyword, with the defaults of the list, in its order; documented; and so has the reference."""
    parameters = inspect.signature(function).parameters
    found = {name: parameters[name] for name in Options._fields}
    assert {name: p.default for name, p in found.items()} == Options()._asdict()
    assert {p.kind for p in found.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert [name for name in parameters if name in Options._fields] == list(Options._fields)
    assert all(re.search(rf"\b{name}\b", inspect.getdoc(function)) for name in Options._fields)
    of = inspect.signature(reference.cross_entropy_and_grad).parameters
    assert {name: of[name].default for name in Options._fields} == Options()._asdict()


def test_flags_are_the_list():
    """What belongs to the call comes first; every option has a switch of its own, which it alone sets."""
    assert Flags._fields == (*SWITCHES, *(term.flag for term in TERMS))
    assert switches() == Flags(hard=True)
    for term in TERMS:
        for value in term.tried:
            assert switches(**{term.option: value}) == Flags(hard=True, **{term.flag: True})
    soft = flags_of(Options(label_smoothing=0.5), hard=False, weighted=True, factors=True, grad=True)
    assert soft == Flags(soft=True, weighted=True, factors=True, grad=True)


def test_numbers_are_the_list():
    """In its order behind the scale of gradients; the defaults are those of a loss without options."""
    assert Numbers._fields == ("scale", *(name for term in TERMS for name in term.numbers))
    assert all(numbers_of(Options(), classes) == Numbers() for classes in (1, 7))
    for term in TERMS:
        made = numbers_of(Options(**{term.option: term.tried[1]}), 7)._asdict()
        changed = {name for name, value in made.items() if value != getattr(Numbers(), name)}
        assert changed == set(term.numbers)
    assert numbers_of(Options(label_smoothing=0.5, temperature=4.0, softcap=3.0), 8) == Numbers(
        keep=0.5, share=0.0625, inverse_temperature=0.25, cap=3.0
    )


@each_term
def test_values_that_are_tried(term):
    """Two different ones that switch the option on, within its bounds."""
    assert len(set(term.tried)) >= 2
    assert all(term.bounds.admit(value) and value != term.default for value in term.tried)
    assert term.default is None or term.bounds.admit(term.default)


def _outside(bounds):
    """Numbers next to the bounds that are beyond them."""
    yield bounds.low if bounds.above else math.nextafter(bounds.low, -math.inf)
    if bounds.high < math.inf:
        yield bounds.high if bounds.below else math.nextafter(bounds.high, math.inf)


@each_loss
@each_term
def test_bounds_are_checked(function, term):
    """The error names the option: every function passes its own to the right place."""
    bounds = re.escape(str(term.bounds))
    for value in [*_outside(term.bounds), -math.inf, math.nan] + [math.inf] * (term.default is not None):
        with pytest.raises(ValueError, match=rf"^{term.option} must be a finite number {bounds}, got"):
            function(*LOSSES[function], **{term.option: value})
    with pytest.raises(TypeError, match=rf"^{term.option} must be a number {bounds}"):
        function(*LOSSES[function], **{term.option: "1"})


@each_term
def test_options_of_indices_alone(term):
    """Refused with probabilities, or else understood there."""
    call = np.zeros((4, 3)), np.full((4, 3), 0.5)
    if not term.indices_only:
        fs.cross_entropy(*call, **ALONE[term.option])
        return
    text = f"^{term.option} is defined for class indices, got target with probabilities; leave it at {term.default:g}$"
    with pytest.raises(ValueError, match=text):
        fs.cross_entropy(*call, **ALONE[term.option])
    fs.cross_entropy(*call, **{term.option: term.default})


@each_term
def test_numbers_that_a_dtype_has_no_products_of(term):
    """They are computed with in float64, or refused where there is nothing wider."""
    large = LARGE["float32"]
    beyond = [1 / large / 2] * term.bounds.above + [2 * large] * (term.default is not None and term.bounds.high > 1)
    for value in beyond:
        o = Options(**{term.option: value})
        assert wide_enough(o, "float32") == "float64"
        assert in_precision(o, "float64") == o
        with pytest.raises(ValueError, match=rf"^{term.option} must be .* computed in float32, got .*; convert"):
            in_precision(o, "float32")
    for value in term.tried:
        assert wide_enough(Options(**{term.option: value}), "float32") == "float32"


def test_every_pair_of_options_meets():
    """Both off, one of them on, both on: in the sets of options that values and gradients are tested with."""
    for a, b in itertools.combinations(NAMES, 2):
        assert len({(a in options, b in options) for options in INDEX_OPTIONS}) == 4
    assert set(SOFT_OPTIONS[-1]) >= set(NAMES) - INDICES_ONLY
    assert set().union(*SOFT_OPTIONS[1:-1]) >= set(NAMES) - INDICES_ONLY


def test_bounds():
    closed, above, below, both = Bounds(0, 1), Bounds(0, 1, True), Bounds(0, 1, below=True), Bounds(0, 1, True, True)
    assert [str(b) for b in (closed, above, below, both)] == ["in [0, 1]", "in (0, 1]", "in [0, 1)", "in (0, 1)"]
    assert [str(b) for b in (Bounds(0), Bounds(-1, above=True))] == [">= 0", "> -1"]
    for value, admitted in {
        0: (1, 0, 1, 0),
        0.5: (1, 1, 1, 1),
        1: (1, 1, 0, 0),
        2: (0,) * 4,
        math.nan: (0,) * 4,
    }.items():
        assert [b.admit(value) for b in (closed, above, below, both)] == list(admitted)
