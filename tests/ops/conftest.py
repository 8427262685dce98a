"""Triton's interpreter, made quick enough for a suite: it prepares `triton.language` anew at every call of a
helper."""

import pytest
from native_cases import require_library
from triton.runtime import interpreter

_prepared = set()


def _call(self, *args, **kwargs):
    """Call a helper inside a kernel, whose start has prepared the language for functions of the kernel's own
    module."""
    module = self.fn.__module__
    if module.startswith("triton.") and module not in _prepared:
        interpreter._patch_lang(self.fn)
        _prepared.add(module)
    return self.rewrite()(*args, **kwargs)


interpreter.InterpretedFunction.__call__ = _call


@pytest.fixture(scope="session")
def native_library():
    """For tests of the compiled kernels."""
    require_library()
