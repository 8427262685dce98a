"""Drawing and reading in chunks: continued, shared, and never read twice."""

from __future__ import annotations

import numpy as np
import pytest

from mssg.errors import DataError
from mssg.metrics.sampling import ArrayCache, CachedSampler, Reader, batch_for


class Counting:
    """A generator and a reader that count what they are asked."""

    def __init__(self) -> None:
        self.drawn = self.read = 0
        self.reader = Reader("mean", self._read)

    def generate(self, values: np.ndarray, seed: int) -> np.ndarray:
        self.drawn += len(values)
        noise = np.random.default_rng(seed).integers(0, 100, (len(values), 1, 4, 4))
        return (noise + values[:, :1, None, None]).astype(np.uint8)

    def _read(self, images: np.ndarray, rows: slice) -> dict[str, np.ndarray]:
        self.read += len(images)
        return {"mean": images.mean(axis=(1, 2, 3)), "row": np.arange(rows.start, rows.stop)}


def sampler(folder, **options) -> CachedSampler:
    return CachedSampler(ArrayCache(folder / "drawn"), ArrayCache(folder / "real"), chunk=10, **options)


VALUES = np.arange(25.0)[:, None]


def test_a_second_time_nothing_is_drawn_and_another_seed_is_something_else(tmp_path):
    work = Counting()
    first = sampler(tmp_path).draw(work.generate, ["id"], VALUES, seed=3, readers=[work.reader], label="x")
    assert work.drawn == work.read == 25 and first["row"].tolist() == list(range(25))
    again = sampler(tmp_path).draw(work.generate, ["id"], VALUES, seed=3, readers=[work.reader], label="x")
    assert work.drawn == 25 and np.array_equal(first["mean"], again["mean"])
    fresh = sampler(tmp_path / "new").draw(
        work.generate, ["id"], VALUES, seed=3, readers=[work.reader], label="x"
    )
    assert np.array_equal(first["mean"], fresh["mean"])
    for identity, seed in ((["id"], 4), (["other"], 3)):
        before = work.drawn
        sampler(tmp_path).draw(work.generate, identity, VALUES, seed=seed, readers=[work.reader], label="x")
        assert work.drawn == before + 25


def test_an_interrupted_evaluation_continues_with_the_chunk_it_was_in(tmp_path):
    work, calls = Counting(), []

    def stop(label: str, done: int, total: int) -> None:
        calls.append(done)
        if done == 20 and len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sampler(tmp_path, progress=stop).draw(
            work.generate, ["id"], VALUES, seed=0, readers=[work.reader], label="x"
        )
    assert work.drawn == 20
    found = sampler(tmp_path, progress=stop).draw(
        work.generate, ["id"], VALUES, seed=0, readers=[work.reader], label="x"
    )
    assert work.drawn == 25 and len(found["mean"]) == 25
    sampler(tmp_path).drawn.clear()
    assert not (tmp_path / "drawn").exists()


def test_damaged_parts_are_made_again(tmp_path):
    work = Counting()
    first = sampler(tmp_path).draw(work.generate, ["id"], VALUES, seed=0, readers=[work.reader], label="x")
    part = sorted((tmp_path / "drawn").glob("*.npz"))[0]
    part.write_bytes(part.read_bytes()[:50])
    again = sampler(tmp_path).draw(work.generate, ["id"], VALUES, seed=0, readers=[work.reader], label="x")
    assert work.drawn in (30, 35) and np.array_equal(first["mean"], again["mean"])


def test_real_images_are_known_by_their_content(tmp_path):
    work = Counting()
    images = np.random.default_rng(0).integers(0, 255, (25, 1, 4, 4), dtype=np.uint8)
    sampler(tmp_path).read("x", lambda rows: images[rows], 25, [work.reader])
    sampler(tmp_path).read("x", lambda rows: images[rows].copy(), 25, [work.reader])
    assert work.read == 25
    images[12] += 1
    sampler(tmp_path).read("x", lambda rows: images[rows], 25, [work.reader])
    assert work.read == 35


def test_processes_share_the_work(tmp_path):
    class Two:
        """The second of two processes; the first has been here before."""

        size = 2

        def __init__(self, rank: int) -> None:
            self.rank, self.waited = rank, 0

        def barrier(self) -> None:
            self.waited += 1
            if self.rank == 0:
                sampler(tmp_path).draw(
                    work.generate, ["id"], VALUES, seed=0, readers=[work.reader], label="x"
                )

    work, world = Counting(), Two(0)
    found = sampler(tmp_path, workers=world).draw(
        work.generate, ["id"], VALUES, seed=0, readers=[work.reader], label="x"
    )
    assert world.waited == 1 and work.drawn == 25 and len(found["mean"]) == 25


def test_a_process_that_fails_still_meets_the_others(tmp_path):
    """The second chunk cannot be read: both processes wait once, and both say why."""

    class World:
        size = 2

        def __init__(self, rank: int) -> None:
            self.rank, self.waited = rank, 0

        def barrier(self) -> None:
            self.waited += 1

    def broken(images: np.ndarray, rows: slice) -> dict[str, np.ndarray]:
        if rows.start == 10:
            raise DataError("no matrix of finite numbers")
        return {"mean": images.mean((1, 2, 3))}

    for rank in (0, 1):
        world = World(rank)
        with pytest.raises(DataError, match="finite"):
            sampler(tmp_path, workers=world).draw(
                Counting().generate, ["id"], VALUES, seed=0, readers=[Reader("b", broken)], label="x"
            )
        assert world.waited == 1


def test_a_folder_that_cannot_be_written_is_told_and_everything_is_computed(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    found = ArrayCache(tmp_path / "file" / "x").get(["a"], lambda: {"a": np.arange(2)})
    assert found["a"].tolist() == [0, 1] and "cannot be written" in caplog.text


def test_the_batch_fits_the_memory():
    assert batch_for(32, 4.0) == 50 and batch_for(1024, 4.0) == 1 and 1 < batch_for(256, 4.0) < 50
