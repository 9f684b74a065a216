"""The passes over all that a thread holds of a row: its vectors, then its spare element.

A class is found by its distance `off` from a vector's first: a vector asks once whether it holds the target.
"""

from functools import lru_cache

from ..toolkit.compiler import cuda, device, types
from .adjusted import make_adjust, make_adjust_vector
from .hidden import make_unpack_again, make_wait_for_loads
from .memory import opaque
from .vectors import make_add_vector, make_emit_log_vector, make_emit_vector, make_read, may_keep
from .words import make_blank, make_load, make_remove, words_of

i32, u32, i64 = types.int32, types.uint32, types.int64


@lru_cache(maxsize=64)
def _make_load_spare(shape):
    """``load_spare(part, words)``: load the spare element of a thread that has one, -inf for others."""
    load, blank, spare, peeled = make_load(shape.kind, 1), make_blank(shape.kind, 1), shape.spare, shape.peeled

    @device
    def load_spare(part, words):
        if peeled:
            if part.spare:
                load(words, spare, part.spare_x)
            else:
                blank(words, spare)

    return load_spare


@lru_cache(maxsize=64)
def make_fill_spare(shape, flags):
    """``fill_spare(p, o, part, words)``: the same, adjusted where logits are."""
    if not shape.adjusted:
        load_spare = _make_load_spare(shape)

        @device
        def fill_spare(p, o, part, words):
            load_spare(part, words)

        return fill_spare
    load, adjust = make_load(shape.kind, 1), make_adjust_vector(shape.kind, 1, flags)
    spare, peeled, count = shape.spare, shape.peeled, words_of(shape.kind, 1)

    @device
    def fill_adjusted_spare(p, o, part, words):
        if peeled:
            raw = cuda.local.array(count, types.uint32)
            if part.spare:
                load(raw, 0, part.spare_x)
            adjust(p, o, part.mask, raw, 0, words, spare, part.spare_j, part.spare)

    return fill_adjusted_spare


@lru_cache(maxsize=64)
def make_load_all(shape):
    """``load_all(part, words)``: load all that a thread holds of the logits; elements that are not there are -inf."""
    load, blank = make_load(shape.kind, shape.vector), make_blank(shape.kind, shape.vector)
    items, threads, count, load_spare = shape.items, shape.threads, shape.words, _make_load_spare(shape)

    @device
    def load_all(part, words):
        load_spare(part, words)
        for i in range(items):
            if i32(i * threads) < part.left:
                load(words, i * count, part.x + i * part.x_way)
            else:
                blank(words, i * count)

    return load_all


@lru_cache(maxsize=64)
def make_fill(shape, flags):
    """``fill(p, o, part, words)``: the same, by loads that do not wait for each other; adjusted where logits are."""
    plain = shape._replace(adjusted=False)
    load_all, wait_for_loads = make_load_all(plain), make_wait_for_loads(plain.held, plain.words, plain.held)
    if not shape.adjusted:

        @device
        def fill(p, o, part, words):
            load_all(part, words)
            wait_for_loads(words, words)

        return fill
    count, adjust = plain.held, make_adjust(shape, flags)

    @device
    def fill_adjusted(p, o, part, words):
        raw = cuda.local.array(count, types.uint32)
        load_all(part, raw)
        wait_for_loads(raw, raw)
        adjust(p, o, part, raw, words)

    return fill_adjusted


@lru_cache(maxsize=64)
def make_fill_targets(shape, flags):
    """``fill_targets(part, words, targets)``: load the soft targets of all that a thread holds, if there are such."""
    load, load_spare = make_load(shape.y_kind, shape.vector), make_load(shape.y_kind, 1)
    items, threads, peeled, soft = shape.items, shape.threads, shape.peeled, flags.soft
    count = shape.y_words
    spare, wait_for_loads = items * count, make_wait_for_loads(shape.targets(flags), count, shape.held)

    @device
    def fill_targets(part, words, targets):
        if soft:
            if peeled and part.spare:
                load_spare(targets, spare, part.spare_y)
            for i in range(items):
                if i32(i * threads) < part.left:
                    load(targets, i * count, part.y + i * part.y_way)
            wait_for_loads(targets, words)

    return fill_targets


@lru_cache(maxsize=256)
def make_take(shape, flags):
    """``take(o, part, words, t, z, x)``: (the transformed target's logit, the logit) if held here, else `z` and `x`.

    It is no longer among the words then.
    """
    take_vector, take_spare = (_make_take_vector(shape.word_kind, vector, flags) for vector in (shape.vector, 1))
    items, step, peeled = shape.items, shape.threads * shape.vector, shape.peeled
    count, spare = shape.words, shape.spare

    @device
    def take(o, part, words, t, z, x):
        if peeled and part.spare:
            z, x = take_spare(o, words, spare, i32(t - part.spare_j), z, x)
        for i in range(items):
            z, x = take_vector(o, words, i * count, i32(i32(t - part.j) - i32(i * step)), z, x)
        return z, x

    return take


@lru_cache(maxsize=256)
def _make_take_vector(kind, vector, flags):
    """``take_vector(o, words, at, off, z, x)``: the same for one vector, if it holds the class at `off`."""
    read, read_raw = make_read(kind, flags), make_read(kind, flags._replace(cap=False, temper=False))
    remove = make_remove(kind)

    @device
    def take_vector(o, words, at, off, z, x):
        if u32(off) < u32(vector):
            for k in range(vector):
                if off == i32(k):
                    z, x = read(o, words, at, k, True), read_raw(o, words, at, k, True)
                    remove(words, at, k)
        return z, x

    return take_vector


@lru_cache(maxsize=256)
def make_top(shape, flags):
    """``top(o, part, words, t, m)``: the largest of `m` and all that a thread holds, but for class `t`."""
    items, threads, peeled, vector = shape.items, shape.threads, shape.peeled, shape.vector
    count, spare, read = shape.words, shape.spare, make_read(shape.word_kind, flags)

    @device
    def top(o, part, words, t, m):
        if peeled:
            m = max(m, read(o, words, spare, 0, part.spare and part.spare_j != t))
        for i in range(items):
            off, live = i32(i32(t - part.j) - i32(i * threads * vector)), i32(i * threads) < part.left
            for k in range(vector):
                m = max(m, read(o, words, i * count, k, live and off != i32(k)))
        return m

    return top


@lru_cache(maxsize=256)
def make_add(shape, flags, *, kept=False, infinite=False, exact=False):
    """``add(p, o, part, words, targets, t, base, sums)``: add all that a thread holds to `sums`."""
    kept = kept and may_keep(shape, flags)
    add_vector = make_add_vector(shape.word_kind, shape.y_kind, shape.vector, flags, kept, infinite, exact)
    add_spare = make_add_vector(shape.word_kind, shape.y_kind, 1, flags, kept, infinite, exact)
    items, threads, peeled, vector = shape.items, shape.threads, shape.peeled, shape.vector
    count, wide, spare = shape.words, shape.y_words, shape.spare
    unpack_again = make_unpack_again(shape.word_kind, shape.held)

    @device
    def add(p, o, part, words, targets, t, base, sums):
        unpack_again(words)
        for i in range(items):
            j, live = i32(part.j + i32(i * threads * vector)), i32(i * threads) < part.left
            sums = add_vector(p, o, words, i * count, targets, i * wide, j, i32(t - j), live, base, sums)
        if peeled:
            j = part.spare_j
            sums = add_spare(p, o, words, spare, targets, items * wide, j, i32(t - j), part.spare, base, sums)
        return sums

    return add


@lru_cache(maxsize=256)
def make_emit(shape, flags, *, kept=False, make=make_emit_vector):
    """``emit(p, o, part, words, targets, t, score)``: write the gradient of all that a thread holds.

    Its vectors are written by what `make` gives.
    """
    kept = kept and may_keep(shape, flags)
    emit_vector = make(shape.kind, shape.y_kind, shape.vector, flags, kept)
    emit_spare = make(shape.kind, shape.y_kind, 1, flags, kept)
    items, threads, peeled, vector = shape.items, shape.threads, shape.peeled, shape.vector
    count, wide, spare = shape.words, shape.y_words, shape.spare
    unpack_again = make_unpack_again(shape.word_kind, shape.held)
    unpack_targets_again = make_unpack_again(shape.y_kind, shape.targets(flags))
    soft, weights = flags.soft, flags.weighted and (flags.smooth or flags.soft)

    @device
    def emit(p, o, part, words, targets, t, score):
        unpack_again(words)
        if soft:
            unpack_targets_again(targets)
        first = part.j
        if weights:  # are read again
            first = i32(opaque(u32(first), u32(cuda.blockIdx.y)))
        for i in range(items):
            if i32(i * threads) < part.left:
                j, out = i32(first + i32(i * threads * vector)), part.out + i * part.out_way
                x = part.x + i * part.x_way
                emit_vector(p, o, words, i * count, targets, i * wide, x, out, j, i32(t - j), score)
        if peeled and part.spare:
            j, x, out = part.spare_j, part.spare_x, part.spare_out
            emit_spare(p, o, words, spare, targets, items * wide, x, out, j, i32(t - j), score)

    return emit


@lru_cache(maxsize=256)
def make_emit_log(shape):
    """``emit_log(part, words, base, log_s)``: write ``(x - base) - log_s`` for all that a thread holds."""
    emit_vector, emit_spare = (
        make_emit_log_vector(shape.kind, shape.word_kind, vector) for vector in (shape.vector, 1)
    )
    items, threads, peeled = shape.items, shape.threads, shape.peeled
    count, spare, unpack_again = shape.words, shape.spare, make_unpack_again(shape.word_kind, shape.held)

    @device
    def emit_log(part, words, base, log_s):
        unpack_again(words)
        for i in range(items):
            if i32(i * threads) < part.left:
                emit_vector(words, i * count, part.out + i * part.out_way, base, log_s)
        if peeled and part.spare:
            emit_spare(words, spare, part.spare_out, base, log_s)

    return emit_log


def make_clear(count):
    """``clear(words, ignored)``: zeros for all words of a row that is ignored, whatever its logits are."""

    @device
    def clear(words, ignored):
        if ignored:
            for k in range(count):
                words[k] = u32(0)

    return clear
