"""Without numba-cuda, modules that import what needs it are left out."""

from importlib.util import find_spec

if find_spec("numba_cuda") is None:
    collect_ignore = [
        *(f"host/test_{name}.py" for name in ("borrowed", "cache", "calls", "prepared")),
        *(f"kernels/test_{name}.py" for name in ("build", "layouts", "losses", "maps", "mutants", "sums", "traffic")),
        *(f"linear/test_{name}.py" for name in ("chunks", "predictions", "values")),
    ]
