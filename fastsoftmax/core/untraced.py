"""torch.compile, kept out of the library: its trace has no memory, and ours are addresses.

A function that is marked so ends the graph that is traced, runs as it is, and a new graph begins behind it; with
``fullgraph=True`` there is an error that says so.  `torch.compiler.disable` does the same by a function around each
function, which a small call would pay for, and imports torch's compiler: two seconds.  Nothing is imported here.
"""

import sys
from types import FunctionType
from typing import Any

_functions: list[FunctionType] = []


def untraced(*functions: object) -> None:
    """Mark the functions among some objects as such that torch.compile calls and does not look into."""
    for function in functions:
        if isinstance(function, FunctionType):
            vars(function).update(_torchdynamo_disable=True, _torchdynamo_disable_msg="it reads addresses of arrays")
            _functions.append(function)
    skip_frames()


def skip_frames() -> None:
    """Have whatever they call left alone as well, once torch is imported: to be called by whoever sees that it is."""
    frames: Any = getattr(getattr(sys.modules.get("torch._C"), "_dynamo", None), "eval_frame", None)
    if not _functions or not hasattr(frames, "set_code_exec_strategy"):  # torch before 2.7 may look into what they call
        return
    skip = frames._FrameAction.SKIP
    while _functions:
        frames.set_code_exec_strategy(_functions.pop().__code__, frames._FrameExecStrategy(skip, skip))
    frames.set_eval_frame(None)  # what is left of a call that is under way runs as it is


untraced(skip_frames)
