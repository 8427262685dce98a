"""Imports every module of our packages under this interpreter, with stand-ins for what is not installed for
it.

Shows syntax, standard library and class definitions that an interpreter does not accept; run by
test_interpreters.py.
"""

import importlib
import importlib.abc
import importlib.machinery
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))


class Meta(type):
    """Classes that have every attribute and take part in any expression."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Stand


class Stand(metaclass=Meta):
    """Stands for any object, function, decorator or base class."""

    def __init__(self, *_, **__):
        pass

    def __call__(self, *_, **__):
        return self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Stand()

    def __class_getitem__(cls, _):
        return cls

    def __init_subclass__(cls, **_):
        pass

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 0

    def __bool__(self):
        return False

    def __float__(self):
        return 0.0

    def __index__(self):
        return 0


def _self(self, *_):
    return self


for _name in "add sub mul truediv pow neg or and getitem".split():
    for _form in ("__{}__", "__r{}__"):
        setattr(Stand, _form.format(_name), _self)
        setattr(Meta, _form.format(_name), _self)


UNBUILT = {"_posixshmem", "_multiprocessing"} if sys.platform == "emscripten" else set()


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers for every module that is neither ours nor Python's, and for what a build for WebAssembly
    lacks."""

    def find_spec(self, name, path, target=None):
        top = name.split(".")[0]
        if top in ("mssg", "trainer_cli", "explorer_app"):
            return None
        if top in sys.stdlib_module_names and top not in UNBUILT:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.__getattr__ = lambda name: Stand if not name.startswith("__") else _missing(name)


def _missing(name):
    raise AttributeError(name)


sys.meta_path.insert(sys.meta_path.index(importlib.machinery.PathFinder) + 1, Finder())
sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
count = 0
for package in ("mssg", "trainer_cli", "explorer_app"):
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if not name.endswith("__main__"):
            importlib.import_module(name)
            count += 1
print(count, "modules")
