"""`mssg push` and `mssg pull`: snapshots on a Hugging Face hub, with card, licence and what was measured."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from mssg.errors import UsageError
from mssg.extras import need

if TYPE_CHECKING:
    from mssg.checkpoint.header import Header
    from mssg.metrics.results import Evaluation

WEIGHTS, CARD, MEASURED = "model.safetensors", "README.md", "eval.json"
EXTRA = "hub"


@click.command()
@click.argument("snapshot")
@click.argument("repository", metavar="NAME/MODEL")
@click.option(
    "--eval",
    "evaluated",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="eval.json whose figures go along. Default: that of the run's folder.",
)
@click.option(
    "--licence", metavar="NAME", help="Such as cc-by-4.0; default: what the study states under [about]."
)
@click.option(
    "--data",
    metavar="TEXT",
    help="What the training images are; default: what the study states under [about].",
)
@click.option("--private", is_flag=True, help="Only you and your organisation may see it.")
@click.option(
    "--unscreened", is_flag=True, help="Push although nothing says how many training images the model copies."
)
@click.option(
    "--to-folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write what would be pushed into a folder instead.",
)
def push(
    snapshot: str,
    repository: str,
    evaluated: Path | None,
    licence: str | None,
    data: str | None,
    private: bool,
    unscreened: bool,
    to_folder: Path | None,
) -> None:
    """Push SNAPSHOT (a file, a run's folder, or a shipped name) to a Hugging Face hub as NAME/MODEL.

    What goes: the weights, a model card, and eval.json. It is refused without figures of memorisation
    (`mssg evaluate … --metrics memorisation`), a licence, and a statement of what the data are. Log in with
    `hf auth login`; HF_ENDPOINT names another hub.
    """
    from mssg.checkpoint.header import read_header, resolve_snapshot
    from trainer_cli.model_card import screened

    if to_folder is None:
        need(EXTRA, "mssg push")
    header = read_header(resolve_snapshot(snapshot))
    measured = _evaluation(snapshot, evaluated)
    if not unscreened and not screened(header, measured):
        raise UsageError(
            "nothing says how many training images this snapshot copies",
            file=header.path,
            hint="Measure it: mssg evaluate … --metrics memorisation,kid -o eval.json, and give --eval"
            " eval.json; or push with --unscreened",
        )
    about = _about(header, licence, data)
    with TemporaryDirectory() as place:
        folder = to_folder or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        _fill(folder, header, about, measured)
        if to_folder:
            click.echo(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
            return
        with _told():
            from huggingface_hub import HfApi

            api = HfApi()
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=f"Snapshot {header.snapshot_id}"
            )
    click.echo(f"{repository}: {done.commit_url}")


@click.command()
@click.argument("repository", metavar="NAME/MODEL")
@click.option("-o", "--output", required=True, metavar="FILE", help="Snapshot to write: .safetensors.")
@click.option("--revision", metavar="NAME", help="A branch, a tag or a commit. Default: the newest.")
def pull(repository: str, output: str, revision: str | None) -> None:
    """Fetch a snapshot that `mssg push` has put on a Hugging Face hub. Nothing in it is run."""
    from mssg.checkpoint.header import read_header
    from trainer_cli.common import check_suffix, writable

    check_suffix(output, (".safetensors",))
    path = writable(output)
    need(EXTRA, "mssg pull")
    with TemporaryDirectory(dir=path.parent) as place, _told():
        from huggingface_hub import hf_hub_download

        fetched = Path(hf_hub_download(repository, WEIGHTS, revision=revision, local_dir=place))
        read_header(fetched)  # what is no snapshot replaces nothing
        shutil.move(fetched, path)
    header = read_header(path)
    about = header.study.about
    click.echo(f"{path}: {header.study.name}, snapshot {header.snapshot_id}")
    click.echo(f"  licence: {about.get('licence', 'not stated')}; data: {header.origin or 'not stated'}")


def _evaluation(snapshot: str, evaluated: Path | None) -> Evaluation | None:
    """What was measured: the file that is named, or that of the run."""
    from mssg.metrics.results import Evaluation

    own = Path(snapshot) / MEASURED
    if evaluated is None and not own.is_file():
        return None
    return Evaluation.load(evaluated or own)


def _about(header: Header, licence: str | None, data: str | None) -> dict[str, str]:
    """Licence and data statement.

    Raises:
        UsageError: One is stated nowhere.
    """
    stated = {"licence": licence or header.study.about.get("licence", ""), "data": data or header.origin}
    for key, text in stated.items():
        if not text:
            raise UsageError(
                "is stated nowhere", file=header.path, field=key, hint=f"Give --{key}, or {key} under [about]"
            )
    return stated


def _fill(folder: Path, header: Header, about: dict[str, str], measured: Evaluation | None) -> None:
    """What is pushed: weights that carry the statement, card, and what was measured of them."""
    from mssg.checkpoint.header import read_header
    from mssg.checkpoint.restated import restate
    from trainer_cli.model_card import model_card

    weights = folder / WEIGHTS
    if about == dict(header.study.about):
        shutil.copyfile(header.path, weights)
    else:
        restate(header.path, weights, about)
    pushed = read_header(weights)
    if measured:  # the same weights under the name of the new file
        names = {header.snapshot_id: pushed.snapshot_id}
        models = tuple(replace(m, snapshot=names.get(m.snapshot, m.snapshot)) for m in measured.models)
        measured = replace(measured, models=models)
        measured.save(folder / MEASURED)
    (folder / CARD).write_text(model_card(pushed, measured), encoding="utf-8")


@contextmanager
def _told() -> Iterator[None]:
    """The hub's own errors as ours.

    Raises:
        UsageError: What the hub refused, or that it cannot be reached.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, LocalEntryNotFoundError

    try:
        yield
    except (HFValidationError, HfHubHTTPError) as error:
        raise UsageError(f"the hub: {_first_line(error)}") from None
    except (HTTPError, LocalEntryNotFoundError) as error:  # nobody answered
        raise UsageError(
            f"the hub {constants.ENDPOINT} cannot be reached",
            found=_first_line(error.__cause__ or error),
            hint="Check this machine's network; HF_ENDPOINT names another hub",
        ) from None


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
