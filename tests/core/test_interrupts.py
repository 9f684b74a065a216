"""Ctrl-C while something must not be left halfway: raised, but only afterwards."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from fastsoftmax.core import interrupts
from fastsoftmax.core.interrupts import Deferred
from fastsoftmax.cpu import jit, table


@pytest.fixture(autouse=True)
def handler():
    """The usual answer to SIGINT even where this process ignores it, and the same one afterwards."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not interrupts._holding
    signal.signal(signal.SIGINT, before)


def interrupt():
    signal.raise_signal(signal.SIGINT)


def held(*actions):
    """Do some things in a block."""
    with Deferred():
        for action in actions:
            action()


def fail():
    raise OSError("x")


def test_raised_at_the_end():
    done = []
    with pytest.raises(KeyboardInterrupt):
        held(interrupt, interrupt, lambda: done.append(True))
    assert done
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_nested_blocks_end_together():
    done = []
    with pytest.raises(KeyboardInterrupt):
        held(lambda: held(interrupt), lambda: done.append(True))
    assert done


def test_errors_come_through():
    with pytest.raises(KeyboardInterrupt) as caught:
        held(interrupt, fail)
    assert isinstance(caught.value.__context__, OSError)
    with pytest.raises(OSError, match="x"):
        held(fail)


def test_places_to_be_interrupted():
    done = []
    interrupts.check()
    with pytest.raises(KeyboardInterrupt):
        held(interrupts.check, interrupt, lambda: done.append(1), interrupts.check, lambda: done.append(2))
    assert done == [1]


def test_a_place_within_an_inner_block_leaves_the_outer_one_whole():
    done = []
    with pytest.raises(KeyboardInterrupt):
        held(lambda: held(interrupt, interrupts.check), lambda: done.append(True))
    assert done


def test_handlers_of_others_are_called_once_and_kept():
    came = []

    def theirs(number, frame):
        came.append((number, frame is not None))

    signal.signal(signal.SIGINT, theirs)
    with Deferred():
        interrupt()
        assert not came
    assert came == [(signal.SIGINT, True)]
    assert signal.getsignal(signal.SIGINT) is theirs
    with Deferred():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # somebody changes his mind
    assert came == [(signal.SIGINT, True)]


def test_ignored_signals_stay_ignored(handler):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Deferred():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        interrupt()
    signal.signal(signal.SIGINT, handler)


def test_other_threads_change_nothing(handler):
    seen = []

    def other():
        with Deferred():
            seen.append(signal.getsignal(signal.SIGINT))
            interrupts.check()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(60)
    assert seen == [handler]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork on this system")
def test_child_of_another_thread_can_be_interrupted():
    code = """
import os, signal, threading, warnings
warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # forks of threaded processes are meant here
from fastsoftmax.core.interrupts import Deferred
signal.signal(signal.SIGINT, signal.default_int_handler)
status = []
def other():
    process = os.fork()
    if not process:
        try: signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt: os._exit(7)
        os._exit(0)
    status.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
with Deferred():
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
print(status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert (done.stdout, done.stderr) == ("[7]\n", "")


def test_interrupted_compilation(monkeypatch):
    """The kernel is finished and kept, so that the same call again compiles nothing."""
    made = []

    def make():
        def kernel(params, chunk, slot):
            pass

        interrupt()
        made.append(jit.kernel(kernel))
        return made[-1]

    monkeypatch.setenv("FASTSOFTMAX_CACHE", "0")
    monkeypatch.setattr(table, "_compiled", {})
    monkeypatch.setitem(table._FACTORIES, "softmax", make)
    with pytest.raises(KeyboardInterrupt):
        table.address("softmax")
    assert table.address("softmax") == made[0].address != 0
    assert len(made) == 1


def test_a_call_is_left_after_one_kernel_and_can_be_repeated(tmp_path):
    """In a process whose first call is interrupted while it compiles."""
    code = """
import signal
import fastsoftmax as fs
from fastsoftmax.cpu import jit
signal.signal(signal.SIGINT, signal.default_int_handler)
keep = jit._keep
def interrupted(*arguments):
    signal.raise_signal(signal.SIGINT)
    keep(*arguments)
jit._keep = interrupted
for _ in range(2):
    try: fs.softmax_vjp([0.5] * 100, [1.0] * 100)
    except KeyboardInterrupt: print("interrupted", jit.counts["compiled"])
jit._keep = keep
result = fs.softmax_vjp([0.5] * 100, [1.0] * 100)
print(f"{result[0]:.4f}", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        env=environment,
        encoding="utf-8",
        check=False,
    )
    assert (done.stdout, done.stderr) == ("interrupted 1\ninterrupted 2\n-24.5000 True\n", "")
