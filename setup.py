"""Build hook: the checkout's top-level assets/ travels in the wheel as the package mssg._assets."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["mssg*", "explorer_app*", "trainer_cli*"]), "mssg._assets"],
    package_dir={"mssg._assets": "assets"},
    package_data={"mssg._assets": ["**/*"], "*": ["*.glsl", "py.typed"]},
)
