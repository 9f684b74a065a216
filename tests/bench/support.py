"""A run of the whole suite as a machine might have given it, computed from the cases alone."""

import zlib

from fastsoftmax.bench import results
from fastsoftmax.bench.cases import BUSY, CASES, DRAM, DTYPES, LAYOUTS, OPTIONS, SHAPES, SIZE, START, WRITERS
from fastsoftmax.bench.cpu import busy
from fastsoftmax.bench.results import Result, Run, Timing

PEERS = {
    results.NUMPY: 9.0,
    results.SCIPY: 25.0,
    results.SKLEARN: 12.0,
    results.TORCH: 7.0,
    results.COMPILED: 4.4,
    results.JAX: 3.8,
}
MACHINE = {"fastsoftmax": "0.1.0", "Python": "3.11", "CPU": 'A & B <"CPU">', "threads": "2 of 2", "date": "2026-01-31"}
CEILINGS = {
    results.COPY: 44.0,
    results.UPDATE: 68.0,
    results.SUM: 52.0,
    results.EXP: 3.1,
    results.EXP64: 1.2,
    results.COPY + results.ONE_THREAD: 30.0,
}

SKIPPED = {"CuPy <gpu>": "no & such device"}


def _timing(seconds, name):
    """Times that differ a little from name to name, the same ones every time."""
    seconds *= 0.9 + zlib.crc32(name.encode()) % 1000 / 2500
    return Timing(seconds * 0.97, seconds, 15)


def found(case):
    """What a case might have given."""
    name = case.name
    if case.group == START:
        return Result(case, {results.OURS: _timing(0.4, name)}, {results.JAX: "JAX is not installed"})
    if case.group == BUSY:
        return Result(case, {name: _timing(2e-4, name) for name in (results.INTO, busy.ALONE)}, SKIPPED)
    floor = max(case.nbytes / (44e9 if case.memory == DRAM else 120e9), case.elements / 6.2e9) * (
        2 if case.threads else 1
    )
    ours = 6e-6 + 1.3 * floor
    timings = {results.OURS: _timing(ours, name)}
    if case.function in WRITERS:
        timings[results.INTO] = _timing(6e-6 + 1.1 * floor, name + "out=")
    peers = {SHAPES: list(PEERS), SIZE: [results.TORCH, results.JAX], DTYPES: [results.TORCH]}.get(case.group, [])
    timings |= {peer: _timing(ours * PEERS[peer] + 2e-5, name + peer) for peer in peers}
    if case.shape == (64, 10) and results.JAX in timings:
        timings[results.JAX] = Timing(ours * 0.6, ours * 0.7, 200)
    if case.group == DTYPES and case.dtype != "float64":
        timings[results.FLOAT32] = _timing(1.7 * ours, name + "float32")
    if case.group == LAYOUTS:
        timings[results.CONTIGUOUS] = _timing(ours / 1.2, name + "contiguous")
    if case.group == OPTIONS and case.option:
        timings[results.PLAIN] = _timing(ours / 1.05, name + "plain")
    skipped = {} if case.group in {OPTIONS, LAYOUTS} else SKIPPED
    return Result(case, timings, skipped, ("copy", floor))


def run(cases=CASES):
    """A run of some cases."""
    return Run(MACHINE, CEILINGS, [found(case) for case in cases])
