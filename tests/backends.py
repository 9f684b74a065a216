"""Both devices behind one face, for tests of what holds on each: NumPy's arrays go in, and NumPy's arrays come out."""

import re

import numpy as np
import pytest

from tests.support import DTYPES, LAYOUTS, computed


class Backend:
    """Whatever functions compute on."""

    layouts = tuple(LAYOUTS)

    def lay(self, layout, x):
        """A copy of an array in a layout, or in C order where that is refused."""
        return LAYOUTS[layout if layout in self.layouts else "C"](x)


class Cpu(Backend):
    """Main memory, where arguments and results are NumPy's anyway."""

    gpu = False
    block_rows = None  # of linear functions: as they choose it

    @staticmethod
    def array(values):
        return values

    @staticmethod
    def call(function, *arguments, **options):
        """The result of a public function."""
        return function(*arguments, **options)

    @staticmethod
    def targets(dtype):
        """The dtypes that soft targets may have for logits of a dtype."""
        return DTYPES


class Gpu(Backend):
    """A stand-in for a GPU whose kernels are NumPy's; its arrays are a library's, or bare ones."""

    gpu = True
    layouts = tuple(name for name in LAYOUTS if name not in ("unaligned", "byte-swapped"))
    block_rows = 16  # several chunks of most problems

    def __init__(self, driver, library=None, *, forget=True):
        self.driver, self.array, self.kind = driver, (library or driver).array, library and library.type
        self.forget = driver.forget if forget else lambda: None

    def call(self, function, *arguments, **options):
        """The result of a public function, whose arguments are moved there; an output comes back as it was given."""
        moved = {}

        def there(value):
            if isinstance(value, dict):
                return {name: there(array) for name, array in value.items()}
            if type(value) is tuple:
                return tuple(map(there, value))
            if not isinstance(value, np.ndarray):
                return value
            array = self.array(value)
            moved[id(array)] = value, array
            return array

        def back(result):
            if isinstance(result, tuple):
                made = map(back, result)
                return tuple(made) if type(result) is tuple else type(result)(*made)
            if result is None or id(result) in moved:
                return result and moved[id(result)][0]
            assert self.kind is None or type(result) is self.kind
            return self.driver.host(result) if self.kind is None else result.values

        operands = [np.asarray(value) if isinstance(value, list) else value for value in arguments]
        work = computed(operands[0].dtype)
        for name in ("class_weight", "sample_weight", "grad_output"):
            if options.get(name) is not None:
                options[name] = np.asarray(options[name], work)[()]  # a number stays one
        result = back(function(*map(there, operands), **{name: there(value) for name, value in options.items()}))
        self.forget()
        return result

    @staticmethod
    def targets(dtype):
        """The dtypes that soft targets may have for logits of a dtype: nothing is converted."""
        return list(dict.fromkeys((dtype, computed(dtype))))


def raises(error, text, function, *arguments, backend=None, **options):
    """A public function refuses its arguments, on a device, in words that hold the text."""
    call = backend.call if backend else lambda function, *rest, **more: function(*rest, **more)
    with pytest.raises(error, match=re.escape(text)):
        call(function, *arguments, **options)
