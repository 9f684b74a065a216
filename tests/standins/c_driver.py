"""Builds the stand-in driver's library, and drives it.  IT IS NO GPU: its memory is the host's.

A process that has loaded it takes it for NVIDIA's: only processes of their own do.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_suffix(".c")
OUT_OF_MEMORY = 2


def build(folder):
    """The library, as a linker would find it; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    made = Path(folder, "libcuda.so.1")
    flags = ["-O1", "-w", "-shared", "-fPIC", f"-Wl,-soname,{made.name}"]
    subprocess.run([compiler, *flags, "-o", made, SOURCE, "-ldl"], check=True)
    return made


class Config(ctypes.Structure):
    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
    ]


class CDriver:
    """The library in this process: whoever looks for a driver now finds this one."""

    def __init__(self, library):
        self._library = ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
        self._kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(Config), ctypes.POINTER(ctypes.c_void_p))
        self._kernels, self._run = {}, None

    def fail(self, status):
        """Have the next function that can fail answer so."""
        ctypes.c_int.in_dll(self._library, "standin_fail").value = status

    def stream(self, *, behind=False, capturing=False):
        """Say what streams are at."""
        for name, value in (("standin_behind", behind), ("standin_capturing", capturing)):
            ctypes.c_int.in_dll(self._library, name).value = value

    def devices(self, count):
        ctypes.c_int.in_dll(self._library, "standin_devices").value = count

    def took(self):
        """The driver's calls since the last time."""
        size = 1 << 16
        text = (ctypes.c_char * size).in_dll(self._library, "standin_log").value.decode()
        self._library.standin_forget()
        return text.splitlines()

    def knows(self, loaded, compiled):
        """Say which kernel a handle belongs to."""
        self._kernels[int(loaded.handle)] = compiled

    def run(self, function):
        """Call ``function(compiled, arguments, config)`` at each launch, with the arguments as they were packed."""
        from tests.interpreter import ptx

        def launched(handle, config, places):
            compiled = self._kernels[handle]
            kernel = ptx.program(compiled.ptx, compiled.entry)
            arguments = tuple(
                _value(places[i], kind, size) for i, (_, kind, _, size) in enumerate(kernel.kernel.parameters)
            )
            function(compiled, arguments, config.contents)

        self._run = self._kind(launched)  # kept: the library holds its address only
        ctypes.c_void_p.in_dll(self._library, "standin_run").value = ctypes.cast(self._run, ctypes.c_void_p).value


def _value(place, kind, size):
    """A parameter as the interpreter takes it."""
    raw = ctypes.string_at(place, size)
    return np.frombuffer(raw, f"f{size}")[0] if kind.startswith("f") else int.from_bytes(raw, "little", signed=True)


class Interpreter:
    """Runs what is launched, on memory that was made known."""

    def __init__(self):
        from tests.interpreter import ptx

        self._ptx, self.memory = ptx, ptx.Memory()

    def add(self, address, size):
        """Memory that kernels may access."""
        held = np.frombuffer((ctypes.c_char * size).from_address(address), np.uint8)
        self.memory.add(held, f"memory {len(self.memory.buffers)}", at=address)

    def __call__(self, compiled, arguments, config):
        kernel = self._ptx.program(compiled.ptx, compiled.entry)
        grid, block = tuple(config.grid), tuple(config.block)
        self._ptx.launch(kernel, self.memory, grid, block, arguments, config.shared, compiled.cluster)
