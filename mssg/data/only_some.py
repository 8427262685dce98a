"""Some of a cohort's images, by what their names say: left eyes, the first visit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mssg.data.cohort import CohortImage, LeftOut
from mssg.data.cohort_values import ImageRecord, natural
from mssg.errors import UsageError
from mssg.study.cells import same_value

FIRST = "first"


def only_some(
    records: Sequence[ImageRecord], asked: Sequence[str]
) -> tuple[list[ImageRecord], list[LeftOut]]:
    """The images of which files' names, or rows of a table of paths, say what is asked for.

    Args:
        records: A cohort's images.
        asked: NAME=VALUE,VALUE: side=left, session=0; NAME=first takes each person's (of eyes, each side's)
            first.

    Returns:
        These images, and the others as left out.

    Raises:
        UsageError: Not of this form, no name says such a thing, or no image is left.
    """
    kept, left = list(records), list[LeftOut]()
    for text in asked:
        name, words = _parsed(text, kept)
        first = _firsts(kept, name) if words == [FIRST] else {}
        fits = [_fits(record.image, name, words, first) for record in kept]
        left += [r.image.left_out("only", f"not {text}") for r, fit in zip(kept, fits) if not fit]
        kept = [record for record, fit in zip(kept, fits) if fit]
        if records and not kept:
            raise UsageError("no image is left", field="--only", found=text)
    return kept, left


def _parsed(text: str, records: Sequence[ImageRecord]) -> tuple[str, list[str]]:
    name, _, wanted = (part.strip() for part in text.partition("="))
    words = [word.strip() for word in wanted.split(",")]
    said = {record.image.facts.get(name, "") for record in records} - {""}
    if not all(words) or (records and not said):
        names = sorted(
            {fact for record in records[:1] for fact, value in record.image.facts.items() if value}
        )
        expected = f"NAME=VALUE,VALUE or NAME=first, of {', '.join(names)}"
        raise UsageError("nothing says this", field="--only", found=repr(text), expected=expected)
    return name, words


def _fits(image: CohortImage, name: str, words: Sequence[str], first: Mapping[tuple[str, str], str]) -> bool:
    said = image.facts.get(name, "")
    return said == first[_whose(image, name)] if first else any(same_value(said, word) for word in words)


def _whose(image: CohortImage, name: str) -> tuple[str, str]:
    return image.subject, "" if name == "side" else image.facts.get("side", "")


def _firsts(records: Sequence[ImageRecord], name: str) -> dict[tuple[str, str], str]:
    """Whose -> the first of what their images' names say."""
    first: dict[tuple[str, str], str] = {}
    for image in (record.image for record in records):
        said = image.facts.get(name, "")
        first[_whose(image, name)] = min(first.get(_whose(image, name), said), said, key=natural)
    return first
