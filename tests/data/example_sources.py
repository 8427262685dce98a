"""What the example sources of these tests hold."""

import numpy as np

from mssg.data.split import split_subjects

SIDE = 8
SIZES = {"north": 60, "south": 35}


def make_table(name: str, n: int) -> dict:
    """A table whose age is its row number, with one missing age."""
    rng = np.random.default_rng(n)
    subjects = [f"{name}-{i:03d}" for i in range(n)]
    return {
        "subject": subjects,
        "split": split_subjects(subjects, 0),
        "age": [np.nan if i == 3 else 20.0 + i for i in range(n)],
        "sex": rng.integers(0, 2, n),
        "site": rng.choice(["x", "y", "z"], n),
        "truth": rng.normal(size=n),
    }


def make_images(n: int) -> np.ndarray:
    """uint8 [n,1,SIDE,SIDE]; the first pixel is the row number."""
    images = np.random.default_rng(1).integers(0, 256, (n, 1, SIDE, SIDE), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(n)
    return images
