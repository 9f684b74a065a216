"""scikit-learn's callbacks, experimental since its release 1.9; without them nothing happens here."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in where scikit-learn has no callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Stands in where scikit-learn has no callbacks."""
        return method


__all__ = ["CallbackSupportMixin", "Callbacks", "with_callbacks"]

Array = NDArray[Any]


class Callbacks:
    """Calls scikit-learn's callbacks, if the fit has any: begin and end of the fit and of each iteration.

    `fitted` makes the attributes of a fitted model of θ, which the model itself gets when all is over.
    """

    def __init__(
        self, model: Any, x: Any, y: Array, sample_weight: Any, fitted: Callable[[Array], dict[str, Any]]
    ) -> None:
        self._fitted = fitted
        self.model, self.stopped = model, False
        self.context: Any = None
        self.inner: Any = None
        if getattr(model, "_skl_callbacks", None) or hasattr(model, "_parent_callback_ctx"):
            self.context = model._init_callback_context(max_subtasks=model.max_iter + 1)
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self.facts = {"estimator": model, "X": x, "y": y, "metadata": metadata}

    def _next(self, theta: Array) -> None:
        self.inner = self.context.subcontext(task_name="iteration")
        self.inner.call_on_fit_task_begin(**self.facts, reconstruction_attributes=lambda: self._fitted(theta))

    def begin(self, theta: Array) -> None:
        """Begin the fit, and its first iteration."""
        if self.context is not None:
            self.context.call_on_fit_task_begin(**self.facts)
            self._next(theta)

    def iterated(self, theta: Array) -> bool:
        """End an iteration and begin the next one; whether a callback wants the fit to stop."""
        if self.context is None:
            return False
        self.stopped = self.inner.call_on_fit_task_end(
            **self.facts, reconstruction_attributes=lambda: self._fitted(theta)
        )
        self._next(theta)
        return bool(self.stopped)

    def end(self, fitted: dict[str, Any]) -> None:
        """End the iteration that did not take place, and the fit, whose attributes are `fitted`."""
        if self.context is not None:
            self.inner.call_on_fit_task_end(estimator=self.model)
            self.context.call_on_fit_task_end(**self.facts, reconstruction_attributes=lambda: fitted)
