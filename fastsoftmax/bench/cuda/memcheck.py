"""Small calls of each function on a GPU, checked: what NVIDIA's compute-sanitizer watches for accesses out of bounds.

compute-sanitizer --tool memcheck python -m fastsoftmax.bench.cuda.memcheck
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ..cases import LOSS, LOSS_AND_GRAD, SHAPES, SOFTMAX, Case
from ..results import IN_PLACE, INTO, OURS
from . import arrays
from .contestants import drawn, prepared

TOOL = "compute-sanitizer"
FOUND = 97  # the exit status for errors of memory
LONGEST = 100.0  # seconds

#: A case for each way to hold a row: few classes, a warp, a block, shared memory or a cluster; most of them odd.
SMALL = tuple(
    Case(SHAPES, function, shape, dtype)
    for function, shape, dtype in (
        (LOSS_AND_GRAD, (37, 5), "float32"),
        (LOSS_AND_GRAD, (33, 1000), "float32"),
        (SOFTMAX, (9, 5003), "float32"),
        (LOSS_AND_GRAD, (5, 50257), "bfloat16"),
        (LOSS, (3, 300001), "float32"),
        (LOSS_AND_GRAD, (2, 600001), "float32"),
    )
)


def main() -> int:
    """Run and check them; the number of calls, and what is wrong, are printed."""
    gpu, calls, wrong = arrays.first_gpu(), 0, 0
    for case in SMALL:
        names = {LOSS_AND_GRAD: (OURS, INTO, IN_PLACE), SOFTMAX: (OURS, INTO), LOSS: (OURS,)}[case.function]
        try:
            right, skipped = prepared(case, drawn(gpu, case), names)
        except Exception as error:
            right, skipped = {}, dict.fromkeys(names, str(error))
        calls += len(right)
        wrong += sum(why.startswith("wrong") for why in skipped.values())
        for name, why in skipped.items():
            print(f"{case.name}, {name}: {why}")
    print(f"{calls} calls")
    return 1 if wrong or not calls else 0


def verdict(seconds: float) -> str:
    """The verdict of compute-sanitizer on the small calls, or the reason that it did not run."""
    tool = shutil.which(TOOL)
    if tool is None:
        return f"not run: {TOOL} is not on PATH (it comes with NVIDIA's CUDA toolkit)"
    command = [tool, "--tool", "memcheck", "--error-exitcode", str(FOUND), sys.executable, "-m", __name__]
    root = Path(__file__).parents[3]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    # Torch's allocator keeps blocks, in which a step beyond an array goes unnoticed.
    environment = {**os.environ, "PYTHONPATH": path, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, env=environment, encoding="utf-8", timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return f"not finished within {seconds:.0f} s"
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode == FOUND:
        summary = next((line for line in reversed(lines) if "ERROR SUMMARY" in line), "")
        return f"memcheck: ERRORS ({summary.strip('= ') or lines[-1]})"
    if done.returncode:
        said = [line for line in lines if ": wrong" in line] or lines or done.stderr.splitlines() or [""]
        return f"memcheck: exit status {done.returncode} ({said[-1][:200]})"
    counted = next((line for line in lines if line.endswith(" calls")), "calls")
    return f"memcheck: no errors in {counted}"


if __name__ == "__main__":
    sys.exit(main())
