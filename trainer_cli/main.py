"""The group of commands. Each command's file is imported only when that command runs, so that help is
instant."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

import click

from mssg.errors import MssgError
from mssg.ops.memory import keep_freed_memory
from mssg.processes import is_one_of_several, set_up
from mssg.version import __version__
from trainer_cli.common import INTERRUPTED, drop_output, while_heard

COMMANDS = {
    # name: (module:attribute, one line of help), in the order in which one meets them
    "demo": (
        "trainer_cli.demo:demo",
        "From nothing to a trained model, its figure and its control table, in minutes.",
    ),
    "doctor": (
        "trainer_cli.doctor:doctor",
        "Say what this machine can run, what it cannot, and what to do about it.",
    ),
    "prepare": ("trainer_cli.prepare:prepare", "Turn raw images and tables into sources for training."),
    "covariates": (
        "trainer_cli.covariates:covariates",
        "Fit a study's covariate models and show how well they fit.",
    ),
    "train": ("trainer_cli.train:train", "Train a study, or continue a run."),
    "watch": ("trainer_cli.watch:watch", "Watch a training run in a small window."),
    "predictors": (
        "trainer_cli.predictors:predictors",
        "Train networks that read covariates off real images.",
    ),
    "evaluate": (
        "trainer_cli.evaluate:evaluate",
        "Measure snapshots: distances, strata prediction score, control.",
    ),
    "inspect": ("trainer_cli.inspect:inspect", "Say what a snapshot holds."),
    "generate": ("trainer_cli.generate:generate", "Draw images with a snapshot."),
    "cohort": ("trainer_cli.cohort:cohort", "Draw synthetic people as a data set that other tools read."),
    "figure": ("trainer_cli.figure:figure", "Draw the paper's figures with a snapshot."),
    "report": ("trainer_cli.report:report", "Write what a model is and does as one HTML page or PDF."),
    "invert": (
        "trainer_cli.invert:invert",
        "Find the latent of a real image, so that its covariates can be edited.",
    ),
    "harmonise": (
        "trainer_cli.harmonise:harmonise",
        "Real pictures as another source would have taken them.",
    ),
    "import": (
        "trainer_cli.import_:import_",
        "Turn an official network pickle into a snapshot, running nothing in it.",
    ),
    "export-official": (
        "trainer_cli.export_official:export_official",
        "Write a snapshot's weights for the official tools.",
    ),
    "push": ("trainer_cli.hub:push", "Push a snapshot to a Hugging Face hub, with its card and figures."),
    "pull": ("trainer_cli.hub:pull", "Fetch a snapshot from a Hugging Face hub."),
    "explore": ("trainer_cli.explore:explore", "Open the desktop explorer."),
}


class Refused(click.ClickException):
    """A user's mistake: shown as it stands, exit code 2, no traceback."""

    exit_code = 2


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with the nearest name in the message where there is no such command."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" There are: {', '.join(COMMANDS)}."
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; what the user can mend becomes a message."""
        try:
            return super().invoke(ctx)
        except MssgError as error:
            raise Refused(str(error)) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.strerror is None:
                raise
            place = f"{error.filename}: " if error.filename else ""
            raise Refused(f"{place}{error.strerror}.") from None


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print the version, and which C++ kernels were built with it."""
    if not asked or ctx.resilient_parsing:
        return
    from mssg.ops.native import library

    kernels = ", ".join(library.built()) or "none, so drawing is slower: mssg doctor says why"
    click.echo(f"mssg, version {__version__} (C++ kernels: {kernels})")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=(
        "Values are in native units (years, ml, …). A SNAPSHOT is a .safetensors file, a run's folder (its"
        " newest) or a shipped name."
    ),
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and its compiled kernels, and exit.",
)
def cli() -> None:
    """Multi-Source StyleGAN: one conditional generator from several image sources with different
    covariates."""


def main(args: Sequence[str] | None = None) -> None:
    """Run `mssg` and exit: 0 done, 2 a mistake in the request, 130 interrupted."""
    set_up()
    keep_freed_memory()
    try:
        code = cli.main(
            args=list(args) if args is not None else None, prog_name="mssg", standalone_mode=False
        )
        code = code if isinstance(code, int) else 0
        sys.stdout.flush()
    except click.ClickException as error:
        code = error.exit_code
        with while_heard():
            error.show()
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
        with while_heard():
            click.echo("Interrupted.", err=True)
    except BrokenPipeError:
        code = 0  # the reader has gone (mssg … | head): nothing left to say
        drop_output(sys.stdout)
    except OSError as error:
        code = 2  # what was printed did not arrive: > /full/disk
        drop_output(sys.stdout)
        with while_heard():
            click.echo(f"Error: standard output: {error.strerror}.", err=True)
    if is_one_of_several():
        # one of torchrun's processes: end here and now, for torch's threads can abort while Python takes
        # itself apart
        with while_heard():
            sys.stdout.flush()
        with while_heard():
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def train_main() -> None:
    """Run `mssg train`."""
    main(["train", *sys.argv[1:]])


def explore_main() -> None:
    """Run `mssg explore`."""
    main(["explore", *sys.argv[1:]])
