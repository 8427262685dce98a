"""Build hook: the native kernels, and the checkout's top-level assets/ as the package mssg._assets.

The kernels are plain C libraries, one for each instruction set, that Python opens through ctypes: they know
neither Python nor torch, so one wheel serves every version of both. Without a C++ compiler the package
installs all the same, and `mssg doctor` says what is missing.
"""

import atexit
import os
import platform
import re
import shutil
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SOURCE = os.environ.get("MSSG_SOURCE_URL", "").rstrip("/")
"""The repository's public address, which whoever publishes knows."""
NATIVE = Path("mssg/ops/native")
X86 = platform.machine().lower() in ("x86_64", "amd64")
AVX512 = [
    "-mavx512f",
    "-mavx512dq",
    "-mavx512bw",
    "-mavx512vl",
    "-mavx2",
    "-mfma",
    "-mprefer-vector-width=512",
]
VARIANTS = {"plain": []} | ({"avx2": ["-mavx2", "-mfma"], "avx512": AVX512} if X86 else {})
FLAGS = [
    "-std=c++17",
    "-O3",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
]


class BuildKernels(build_ext):
    """Compiles the libraries; what fails is reported and left out."""

    def get_ext_filename(self, fullname):
        """No Python in the name: nothing of Python is inside."""
        ending = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
        return str(Path(*fullname.split("."))) + ending

    def get_export_symbols(self, ext):
        """Symbols are exported in the source."""
        return []

    def build_extension(self, ext):
        """Objects of each variant in a folder of its own, since they come from the same sources."""
        temporary, self.build_temp = self.build_temp, str(Path(self.build_temp) / ext.name)
        try:
            super().build_extension(ext)
        finally:
            self.build_temp = temporary


def kernels() -> list[Extension]:
    """One library for each instruction set."""
    return [
        Extension(
            f"mssg.ops.native._native_{name}",
            sources=[str(NATIVE / "src" / source) for source in ("kernels.cpp", "threads.cpp")],
            depends=[str(path) for path in sorted((NATIVE / "src").glob("*.h"))],
            extra_compile_args=FLAGS + flags,
            extra_link_args=["-pthread"] if sys.platform.startswith("linux") else [],
            language="c++",
            optional=True,
        )
        for name, flags in VARIANTS.items()
    ]


class Wheel(bdist_wheel):
    """Names a wheel: for this platform, but for any Python 3."""

    def get_tag(self):
        """As in the class's first line."""
        return "py3", "none", super().get_tag()[2]


def readme() -> str:
    """README.md as it can be read away from the repository: its links and pictures absolute where the public
    address is known (MSSG_SOURCE_URL), else pictures left out and links as plain text."""
    text = Path("README.md").read_text(encoding="utf-8")
    if SOURCE:
        place = re.compile(r"(!?)(\[[^\]]*\]\()(?!https?:|#)")
        return place.sub(lambda m: f"{m[1]}{m[2]}{SOURCE}/{'raw' if m[1] else 'blob'}/HEAD/", text)
    text = re.sub(r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n+", "", text)
    return re.sub(r"\[([^\]]*)\]\((?!https?:|#)[^)]*\)", r"\1", text)


def scratch() -> dict[str, dict[str, str]]:
    """Options that send what a build writes beside its sources elsewhere, where they cannot be written to: a
    read-only share, or another user's checkout."""
    if os.access(".", os.W_OK):
        return {}
    folder = tempfile.mkdtemp(prefix="mssg-build-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return {"egg_info": {"egg_base": folder}, "build": {"build_base": str(Path(folder) / "build")}}


setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    project_urls={"Source": SOURCE, "Changelog": f"{SOURCE}/blob/HEAD/CHANGELOG.md"} if SOURCE else {},
    packages=[*find_packages(include=["mssg*", "explorer_app*", "trainer_cli*"]), "mssg._assets"],
    package_dir={"mssg._assets": "assets"},
    package_data={"mssg._assets": ["**/*"], "": ["*.glsl", "py.typed"]},
    ext_modules=kernels(),
    options=scratch(),
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
)
