"""This process as an entry point sets it up, and the processes it starts.

Imported first of all, so it imports nothing itself that a file in the current folder could stand in for.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mssg.errors import UsageError

if TYPE_CHECKING:
    import threading
    from concurrent.futures import ProcessPoolExecutor

PASSIVE_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""Threads that wait for each other sleep: GNU's OpenMP reads the first, Intel's and LLVM's the second.

By default they spin. On a core that another process uses as well, a spinning thread takes the very time
that the thread it waits for needs, and training with two threads is many times slower than with one.
"""
SAFE_PATH = {"PYTHONSAFEPATH": "1", "NoDefaultCurrentDirectoryInExePath": "1"}
"""Neither Python nor Windows looks for what it runs in the current folder."""
_PLAIN = {
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "≤": "<=",
    "≥": ">=",
    "─": "-",
    "×": "x",
    "→": "->",
    "←": "<-",
    "•": "*",
}
_WAITING = (*PASSIVE_WAITING, "GOMP_SPINCOUNT", "KMP_LIBRARY")
_STOPPING = ("SIGHUP", "SIGUSR1", "SIGXCPU", "SIGBREAK")
_PLACE = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def set_up() -> None:
    """What every entry point does before it imports torch; never done for a library's caller.

    Waiting threads sleep unless the user's environment says otherwise, children do not search the current
    folder, and a character that the terminal's encoding lacks is written in another way.
    """
    if not any(name in os.environ for name in _WAITING):
        os.environ.update(PASSIVE_WAITING)
    os.environ.update(SAFE_PATH)
    codecs.register_error(_plainly.__name__, _plainly)
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_plainly.__name__)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """What to write instead of characters that an encoding lacks: the same in ASCII, or their numbers."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text), error.end


def python_command(entry: str, *words: str) -> list[str]:
    """The command that runs a function of ours in a process of its own: this interpreter and these very
    files, whatever the current folder holds.

    Args:
        entry: "module:function"; what the function returns is the exit status.
        words: Its arguments, as sys.argv[1:].
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    module, _, function = entry.partition(":")
    code = (
        f"import sys; root = {root!r}; root in sys.path or sys.path.insert(0, root); "
        f"from {module} import {function}; sys.exit({function}())"
    )
    return [sys.executable, "-P", "-c", code, *words]


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """An event that is set where a signal would have ended the process: time to save. A second Ctrl-C ends it
    at once.

    People and systems stop work with SIGINT and SIGTERM, a closed terminal with SIGHUP, schedulers before
    their limit with SIGUSR1 or SIGXCPU, Windows with SIGBREAK. What somebody else handles, or ignores as
    `nohup` does, stays as it is.
    """
    import signal
    import threading

    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def ask(number: int, _frame: object) -> None:
        if flag.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        flag.set()

    more = [getattr(signal, name) for name in _STOPPING if hasattr(signal, name)]
    free = [number for number in more if signal.getsignal(number) == signal.SIG_DFL]
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, *free)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def safe_children() -> Iterator[None]:
    """Python processes started inside, by multiprocessing too, do not search the current folder."""
    before = {name: os.environ.get(name) for name in SAFE_PATH}
    os.environ.update(SAFE_PATH)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def worker_pool(
    workers: int, initializer: Callable[..., None] | None = None, initargs: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Worker processes, spawned and on a safe path; what waits is dropped when the block ends, and they end
    with this process, however it ends.

    Args:
        initializer: Called once in each, with `initargs`.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with safe_children():
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(
            workers, context, initializer=_begin_worker, initargs=(initializer, initargs)
        )
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_worker(initializer: Callable[..., None] | None, initargs: tuple[Any, ...]) -> None:
    """What every worker does first: watch its parent, for one that is killed tells nobody."""
    import threading

    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer:
        initializer(*initargs)


def _end_with_parent() -> None:
    import multiprocessing
    from multiprocessing.connection import wait

    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
        os._exit(1)


def torchrun_place() -> tuple[int, int, int]:
    """Rank, number of processes and local rank that torchrun gave this process; (0, 1, 0) without torchrun.

    Schedulers and containers leave some of these variables set, or set and empty: without a WORLD_SIZE above
    1 the process is alone.

    Raises:
        UsageError: WORLD_SIZE says that there are others, but not how to find them.
    """
    values = {name: os.environ.get(name, "").strip() for name in _PLACE}
    size = values["WORLD_SIZE"] or "1"
    if size == "1":
        return 0, 1, 0
    missing = [name for name in _PLACE if not values[name]]
    numbers = {"WORLD_SIZE": size, "RANK": values["RANK"], "LOCAL_RANK": os.environ.get("LOCAL_RANK") or "0"}
    wrong = [f"{name}={text}" for name, text in numbers.items() if text and not text.isdecimal()]
    if missing or wrong or int(values["RANK"]) >= int(size):
        raise UsageError(
            "these environment variables do not name a process among several",
            field="WORLD_SIZE",
            found=", ".join([f"WORLD_SIZE={size}", *(f"no {name}" for name in missing), *wrong]),
            expected=f"all of {', '.join(_PLACE)}, as torchrun sets them",
            hint="Unset WORLD_SIZE for a process that is alone",
        )
    return int(values["RANK"]), int(size), int(numbers["LOCAL_RANK"])


def is_one_of_several() -> bool:
    """Whether torchrun started this process beside others."""
    try:
        return torchrun_place()[1] > 1
    except UsageError:
        return False
