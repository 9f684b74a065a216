"""The passes over all that a thread holds: its vectors, then its spare element.

A class is found by its distance `off` from a vector's first: a vector asks once whether it holds the target.
"""

from functools import lru_cache

from ..toolkit.compiler import cuda, device, types
from .hidden import forgetting, waiting
from .memory import again
from .vectors import differer, emitter, may_keep, reader, summer
from .words import blanker, loader, remover, words_of

i32, u32, i64 = types.int32, types.uint32, types.int64


def spare_at(shape):
    """Where the spare element lies among the words."""
    return shape.items * words_of(shape.kind, shape.vector)


def words_held(shape):
    """How many words a thread holds."""
    return spare_at(shape) + (words_of(shape.kind, 1) if shape.peeled else 0)


@lru_cache(maxsize=64)
def spare_reading(shape):
    """``fill(part, words)``: the spare element of a thread that has one, -inf for others."""
    load, blank, spare, peeled = loader(shape.kind, 1), blanker(shape.kind, 1), spare_at(shape), shape.peeled

    @device
    def fill(part, words):
        if peeled:
            if part.spare:
                load(words, spare, part.spare_x)
            else:
                blank(words, spare)

    return fill


@lru_cache(maxsize=64)
def reading(shape):
    """``fill(part, words)``: all that a thread holds of the logits, by loads that do not wait for each other.

    What is not there is -inf.
    """
    wait = waiting(words_held(shape), words_of(shape.kind, shape.vector), words_held(shape))
    load, blank, fill_spare = loader(shape.kind, shape.vector), blanker(shape.kind, shape.vector), spare_reading(shape)
    items, threads, count = shape.items, shape.threads, words_of(shape.kind, shape.vector)

    @device
    def fill(part, words):
        fill_spare(part, words)
        for i in range(items):
            if i32(i * threads) < part.left:
                load(words, i * count, part.x + i * part.x_way)
            else:
                blank(words, i * count)
        wait(words, words)

    return fill


def targets_held(shape, flags):
    """How many words of soft targets a thread holds; 1, of an array that nobody uses, where there are none."""
    count = shape.items * words_of(shape.y_kind, shape.vector) + (words_of(shape.y_kind, 1) if shape.peeled else 0)
    return count if flags.soft else 1


@lru_cache(maxsize=64)
def reading_targets(shape, flags):
    """``fill(part, words, targets)``: the soft targets of all that a thread holds, where there are such."""
    load, load_spare = loader(shape.y_kind, shape.vector), loader(shape.y_kind, 1)
    items, threads, peeled, soft = shape.items, shape.threads, shape.peeled, flags.soft
    count = words_of(shape.y_kind, shape.vector)
    spare, wait = items * count, waiting(targets_held(shape, flags), count, words_held(shape))

    @device
    def fill(part, words, targets):
        if soft:
            if peeled and part.spare:
                load_spare(targets, spare, part.spare_y)
            for i in range(items):
                if i32(i * threads) < part.left:
                    load(targets, i * count, part.y + i * part.y_way)
            wait(targets, words)

    return fill


@lru_cache(maxsize=256)
def taking(shape, flags):
    """``take(o, part, words, t, z, x)``: (the transformed target's logit, the logit) if held here, else `z` and `x`.

    It is no longer among the words then.
    """
    take, take_spare = _taker(shape.kind, shape.vector, flags), _taker(shape.kind, 1, flags)
    items, step, peeled = shape.items, shape.threads * shape.vector, shape.peeled
    count, spare = words_of(shape.kind, shape.vector), spare_at(shape)

    @device
    def take_all(o, part, words, t, z, x):
        if peeled and part.spare:
            z, x = take_spare(o, words, spare, i32(t - part.spare_j), z, x)
        for i in range(items):
            z, x = take(o, words, i * count, i32(i32(t - part.j) - i32(i * step)), z, x)
        return z, x

    return take_all


@lru_cache(maxsize=256)
def _taker(kind, vector, flags):
    """The same for one vector."""
    read, get, remove = reader(kind, flags), reader(kind, flags._replace(cap=False, temper=False)), remover(kind)

    @device
    def take(o, words, at, off, z, x):
        if u32(off) < u32(vector):
            for k in range(vector):
                if off == i32(k):
                    z, x = read(o, words, at, k, True), get(o, words, at, k, True)
                    remove(words, at, k)
        return z, x

    return take


@lru_cache(maxsize=256)
def finding(shape, flags):
    """``top(o, part, words, t, m)``: the largest of `m` and all that a thread holds."""
    items, threads, peeled, vector = shape.items, shape.threads, shape.peeled, shape.vector
    count, spare, read = words_of(shape.kind, shape.vector), spare_at(shape), reader(shape.kind, flags)

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
def summing(shape, flags, *, kept=False, level=False):
    """``add(p, o, part, words, targets, t, base, sums)``: what a thread holds is added to `sums`."""
    kept = kept and may_keep(shape, flags)
    add = summer(shape.kind, shape.y_kind, shape.vector, flags, kept, level)
    add_spare = summer(shape.kind, shape.y_kind, 1, flags, kept, level)
    items, threads, peeled, vector = shape.items, shape.threads, shape.peeled, shape.vector
    count, spare, forget = (
        words_of(shape.kind, shape.vector),
        spare_at(shape),
        forgetting(shape.kind, words_held(shape)),
    )
    wide = words_of(shape.y_kind, shape.vector)

    @device
    def add_all(p, o, part, words, targets, t, base, sums):
        forget(words)
        for i in range(items):
            j, live = i32(part.j + i32(i * threads * vector)), i32(i * threads) < part.left
            sums = add(p, o, words, i * count, targets, i * wide, j, i32(t - j), live, base, sums)
        if peeled:
            j = part.spare_j
            sums = add_spare(p, o, words, spare, targets, items * wide, j, i32(t - j), part.spare, base, sums)
        return sums

    return add_all


@lru_cache(maxsize=256)
def emitting(shape, flags, *, kept=False):
    """``emit(p, o, part, words, targets, t, score)``: write the gradient of all that a thread holds."""
    kept = kept and may_keep(shape, flags)
    emit = emitter(shape.kind, shape.y_kind, shape.vector, flags, kept)
    emit_spare = emitter(shape.kind, shape.y_kind, 1, flags, kept)
    items, threads, peeled, vector = shape.items, shape.threads, shape.peeled, shape.vector
    count, spare, forget = (
        words_of(shape.kind, shape.vector),
        spare_at(shape),
        forgetting(shape.kind, words_held(shape)),
    )
    wide, forget_targets = words_of(shape.y_kind, shape.vector), forgetting(shape.y_kind, targets_held(shape, flags))
    soft, weights = flags.soft, flags.weighted and (flags.smooth or flags.soft)

    @device
    def emit_all(p, o, part, words, targets, t, score):
        forget(words)
        if soft:
            forget_targets(targets)
        first = part.j
        if weights:  # are read again
            first = i32(again(u32(first), u32(cuda.blockIdx.y)))
        for i in range(items):
            if i32(i * threads) < part.left:
                j, out = i32(first + i32(i * threads * vector)), part.out + i * part.out_way
                emit(p, o, words, i * count, targets, i * wide, out, j, i32(t - j), score)
        if peeled and part.spare:
            j = part.spare_j
            emit_spare(p, o, words, spare, targets, items * wide, part.spare_out, j, i32(t - j), score)

    return emit_all


@lru_cache(maxsize=256)
def differing(shape):
    """``emit(part, words, base, log_s)``: write ``(x - base) - log_s`` for all that a thread holds."""
    emit, emit_spare = differer(shape.kind, shape.vector), differer(shape.kind, 1)
    items, threads, peeled = shape.items, shape.threads, shape.peeled
    count, spare, forget = (
        words_of(shape.kind, shape.vector),
        spare_at(shape),
        forgetting(shape.kind, words_held(shape)),
    )

    @device
    def emit_all(part, words, base, log_s):
        forget(words)
        for i in range(items):
            if i32(i * threads) < part.left:
                emit(words, i * count, part.out + i * part.out_way, base, log_s)
        if peeled and part.spare:
            emit_spare(words, spare, part.spare_out, base, log_s)

    return emit_all


def clearing(count):
    """``clear(words, really)``: zeros for all words of a row that is ignored, whatever its logits are."""

    @device
    def clear(words, really):
        if really:
            for k in range(count):
                words[k] = u32(0)

    return clear
