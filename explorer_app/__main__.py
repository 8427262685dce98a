"""Start the explorer: `python -m explorer_app [SNAPSHOT|RUN] [--session FILE] [--export FILE -o OUT]`."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from mssg import extras
from mssg.errors import MssgError, UsageError
from mssg.processes import set_up

SCALES = (0.5, 4.0)


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mssg explore", description="Explore a snapshot: drag covariates, watch the picture answer."
    )
    parser.add_argument(
        "target",
        nargs="?",
        default="",
        metavar="SNAPSHOT|RUN",
        help="a snapshot, a run's folder, or a shipped name; default: a shipped one",
    )
    parser.add_argument("--session", default="", help="restore a saved session")
    parser.add_argument(
        "--export", default="", metavar="SESSION", help="draw a session's picture without a window, then end"
    )
    parser.add_argument(
        "-o", "--output", default="", help="file for --export: .png, .nii.gz, .gif, .pdf (its grid)"
    )
    parser.add_argument(
        "--scale", type=float, default=None, help="size of text and controls; default: the screen's"
    )
    parser.add_argument("--size", default="", metavar="WxH", help="window size, for example 1280x800")
    parser.add_argument(
        "--device", default="auto", help="where to draw: cpu, cuda, mps, or auto, the best here"
    )
    parser.add_argument(
        "--data-order",
        action="store_true",
        help="--export writes grey levels in data order, not pictures as displayed",
    )
    parser.add_argument("--movie", action="store_true", help="--export writes the movie of the keyframes")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run the explorer; returns the exit status: 0, or 2 for a user's mistake or a missing display."""
    set_up()
    arguments = _arguments(words)
    try:
        if arguments.export:
            from explorer_app.headless import export_session

            told = export_session(
                arguments.export,
                arguments.output,
                arguments.target,
                arguments.device,
                data_order=arguments.data_order,
                movie=arguments.movie,
            )
            print(told)
            return 0
        return _window(arguments)
    except MssgError as error:
        print(f"{'mssg figure movie' if arguments.movie else 'mssg explore'}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _window(arguments: argparse.Namespace) -> int:
    extras.need("explorer", "the explorer's window")
    from explorer_app.config import SIZE, default_snapshot
    from explorer_app.render_client import RenderClient

    if not has_display():
        print(
            "mssg explore: there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set).\n"
            "Start it on a desktop, through `ssh -X`, or under `xvfb-run`; "
            "`mssg explore --export SESSION -o out.png` needs no display.",
            file=sys.stderr,
        )
        return 2
    try:
        width, height = (int(v) for v in arguments.size.lower().split("x")) if arguments.size else SIZE
    except ValueError:
        print(
            f"mssg explore: --size: expected WxH such as 1280x800, found {arguments.size!r}", file=sys.stderr
        )
        return 2
    scale = arguments.scale
    if scale is not None and not SCALES[0] <= scale <= SCALES[1]:
        expected = f"{SCALES[0]:g} to {SCALES[1]:g}, 1 being 96 dots an inch"
        raise UsageError("cannot be read at this size", field="--scale", found=scale, expected=expected)
    target = arguments.session or arguments.target or default_snapshot()
    client = RenderClient(wake=wake, device=arguments.device)  # its torch is loaded while the window is
    from explorer_app.app import Explorer

    try:
        explorer = Explorer(target, client, size=(width, height), scale=scale)
        signal.signal(signal.SIGTERM, lambda *_: explorer.context.interface.quit())
        explorer.run()
    except RuntimeError as error:
        if "glfw" not in str(error).lower():
            raise
        display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or ""
        print(
            f"mssg explore: no window can be opened on display {display!r}: it cannot be reached, or has no"
            " OpenGL 3.3.\n`mssg explore --export SESSION -o out.png` needs neither.",
            file=sys.stderr,
        )
        return 2
    return 0


def has_display() -> bool:
    """True where a window can be opened."""
    if os.name == "nt" or os.uname().sysname == "Darwin":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def wake() -> None:
    """Have an idle window draw a frame."""
    from imgui_bundle import hello_imgui

    hello_imgui.request_refresh()


if __name__ == "__main__":
    sys.exit(main())
