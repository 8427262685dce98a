"""`mssg doctor`: what this machine can run, what it cannot and why, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import click

from mssg import extras

OK, LIMITED, MISSING = "ok", "limited", "missing"
MARKS = {OK: "+", LIMITED: "~", MISSING: "-"}
PYTHON = ((3, 11), (3, 15))
PACKAGES = {
    # distribution: (module, what it is for)
    "numpy": ("numpy", "everything"),
    "scipy": ("scipy", "covariate models, measures"),
    "torch": ("torch", "training and drawing"),
    "safetensors": ("safetensors", "snapshots"),
    "matplotlib": ("matplotlib", "figures"),
    "pillow": ("PIL", "reading and writing images"),
    "nibabel": ("nibabel", "reading and writing NIfTI"),
    "psutil": ("psutil", "reporting memory"),
    "torchvision": ("torchvision", "predictors"),
}
GL_PROBE = """
import os, sys
os.environ["PYOPENGL_PLATFORM"] = "egl"
if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ["EGL_PLATFORM"] = "surfaceless"
try:
    from OpenGL import EGL, GL
    def attributes(*values):
        return (EGL.EGLint * (len(values) + 1))(*values, EGL.EGL_NONE)
    display = EGL.eglGetDisplay(EGL.EGL_DEFAULT_DISPLAY)
    EGL.eglInitialize(display, None, None)
    EGL.eglBindAPI(EGL.EGL_OPENGL_API)
    found, count = (EGL.EGLConfig * 1)(), EGL.EGLint()
    offscreen = (EGL.EGL_SURFACE_TYPE, EGL.EGL_PBUFFER_BIT, EGL.EGL_RENDERABLE_TYPE, EGL.EGL_OPENGL_BIT)
    wanted = attributes(*offscreen)
    EGL.eglChooseConfig(display, wanted, found, 1, count)
    surface = EGL.eglCreatePbufferSurface(display, found[0], attributes(EGL.EGL_WIDTH, 4, EGL.EGL_HEIGHT, 4))
    version = attributes(EGL.EGL_CONTEXT_MAJOR_VERSION, 3, EGL.EGL_CONTEXT_MINOR_VERSION, 3)
    context = EGL.eglCreateContext(display, found[0], EGL.EGL_NO_CONTEXT, version)
    EGL.eglMakeCurrent(display, surface, surface, context)
    print(GL.glGetString(GL.GL_VERSION).decode(), "|", GL.glGetString(GL.GL_RENDERER).decode())
except Exception as error:
    sys.exit(type(error).__name__ + " " + str(getattr(error, "err", "") or error).splitlines()[0][:80])
"""


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, how it stands, and what to do if it is not as it should
    be."""

    name: str
    state: str
    found: str
    advice: str = ""


@click.command()
def doctor() -> None:
    """Say what this machine can run, what it cannot, and what to do about it."""
    sections: dict[str, Callable[[], list[Finding]]] = {
        "Python and packages": python_and_packages,
        "Machine": machine,
        "Computing": computing,
        "Display": display,
        "Shipped data": shipped,
    }
    findings = []
    for title, look in sections.items():
        rows = look()
        findings += rows
        click.echo(click.style(title, bold=True))
        for row in rows:
            click.echo(f"  {MARKS[row.state]} {row.name:<14} {row.found}")
            if row.advice:
                click.echo(f"    {'':<14} → {row.advice}")
        click.echo()
    click.echo(verdict(findings))


def verdict(findings: list[Finding]) -> str:
    """One sentence on the whole: + usable, ~ usable with limits, - not usable."""
    legend = f"({MARKS[OK]} usable, {MARKS[LIMITED]} with limits, {MARKS[MISSING]} not)"
    missing = [f.name for f in findings if f.state == MISSING]
    limited = [f.name for f in findings if f.state == LIMITED]
    if missing:
        return f"Not usable: {', '.join(missing)}; the arrows say what to do. The rest works.  {legend}"
    if limited:
        return f"Usable, with limits: {', '.join(limited)}.  {legend}"
    return f"Everything is usable.  {legend}"


def python_and_packages() -> list[Finding]:
    """The interpreter and what is installed for it."""
    version = platform.python_version()
    fits = PYTHON[0] <= sys.version_info[:2] < PYTHON[1]
    advice = "" if fits else "Use Python {}.{} to {}.{}".format(*PYTHON[0], PYTHON[1][0], PYTHON[1][1] - 1)
    out = [Finding("python", OK if fits else MISSING, f"{version} ({sys.executable})", advice)]
    absent = []
    present = []
    for name, (module, purpose) in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            absent.append(
                Finding(name, MISSING, f"not installed; needed for {purpose}", f"pip install {name}")
            )
        else:
            present.append(f"{name} {importlib.metadata.version(name)}")
    for extra, names in extras.EXTRAS.items():
        lacking = extras.missing(extra)
        present += [f"{name} {importlib.metadata.version(name)}" for name in names if name not in lacking]
        if lacking:
            found = f"no {', no '.join(lacking)}; for {extras.PURPOSES[extra]}"
            absent.append(Finding(f"[{extra}]", LIMITED, found, extras.command(extra)))
    for start in range(0, len(present), 5):
        out.append(Finding("packages" if start == 0 else "", OK, ", ".join(present[start : start + 5])))
    return out + absent


def machine() -> list[Finding]:
    """Processor, memory and disk."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    free = shutil.disk_usage(".").free / 2**30
    gib = memory.available / 2**30
    return [
        Finding("system", OK, f"{platform.system()} {platform.release()}, {platform.machine()}"),
        Finding("cores", OK, f"{cores} usable of {os.cpu_count()}"),
        Finding(
            "memory",
            OK if gib >= 2 else LIMITED,
            f"{gib:.1f} GiB free of {memory.total / 2**30:.1f} GiB",
            "" if gib >= 2 else "Training needs about 2 GiB: close programs, or lower --micro-batch",
        ),
        Finding(
            "disk",
            OK if free >= 2 else LIMITED,
            f"{free:.1f} GiB free here",
            "" if free >= 2 else "Runs keep snapshots and states: give --outdir on a larger disk",
        ),
    ]


def computing() -> list[Finding]:
    """Torch, its devices, and the backends of the network operations."""
    if importlib.util.find_spec("torch") is None:
        return [Finding("torch", MISSING, "not installed", "pip install torch")]
    import torch

    from mssg.ops.device import devices

    out = [Finding("torch", OK, f"{torch.__version__}, {torch.get_num_threads()} threads")]
    if cards := [Finding(name, OK, about) for name, about in devices().items() if name.startswith("cuda")]:
        out += cards
    elif torch.version.cuda:
        out.append(
            Finding(
                "cuda",
                LIMITED,
                "torch can use CUDA, but no NVIDIA GPU or driver is found",
                "`nvidia-smi` tells more; the CPU works without",
            )
        )
    else:
        has_card = shutil.which("nvidia-smi") is not None
        advice = (
            "Install the CUDA build of torch: https://pytorch.org/get-started/locally" if has_card else ""
        )
        out.append(Finding("cuda", LIMITED, "this torch is built for the CPU only", advice))
    if sys.platform == "darwin":
        works = torch.backends.mps.is_available()
        out.append(
            Finding("mps", OK if works else LIMITED, "Apple GPU usable" if works else "no Apple GPU usable")
        )
    return out + [_native(), *(_backend(name) for name in _backend_names())]


def _native() -> Finding:
    """Whether the C++ kernels were built, and which of them this processor runs."""
    from mssg.ops.native import library

    if isinstance(reason := library.load(), str):
        advice = (
            "Install a C++ compiler (Debian: apt install g++), then mssg again:"
            " pip install --force-reinstall --no-deps with the folder or file it came from."
            " Drawing is slower without"
        )
        return Finding("native kernels", LIMITED, reason, advice)
    note = "" if platform.machine().lower() in ("x86_64", "amd64") else "Not yet verified on this processor"
    found = f"{library.variant()} in use; built: {', '.join(library.built())}"
    return Finding("native kernels", LIMITED if note else OK, found, note)


def _backend_names() -> list[str]:
    import mssg.ops.functional  # noqa: F401 - registers them
    from mssg.ops import dispatch

    return dispatch.names()


def _backend(name: str) -> Finding:
    """Try a backend on a small convolution."""
    import torch

    from mssg.ops import functional as ops

    if name == "cuda" and not torch.cuda.is_available():
        return Finding(f"ops {name}", LIMITED, "no GPU here to run its kernels on")
    x = torch.ones(1, 2, 8, 8)
    uses = {"training on the CPU": ops.backend(x=x).name}
    with torch.inference_mode():
        uses["drawing on the CPU"] = ops.backend(x=x).name
    uses = [use for use, chosen in uses.items() if chosen == name]
    chosen = f" (in use for {' and '.join(uses)})" if uses else ""
    try:
        y = ops.filtered_lrelu(
            x.to(name if name == "cuda" else "cpu"),
            ops.setup_filter([1, 3, 3, 1]),
            ops.setup_filter([1, 3, 3, 1]),
            up=2,
            down=2,
            padding=3,
            backend=name,
        )
        works = bool(torch.isfinite(y).all())
    except Exception as error:
        return Finding(f"ops {name}", MISSING, f"fails: {error}", "Choose another with MSSG_OPS=torch")
    return Finding(
        f"ops {name}", OK if works else MISSING, f"works{chosen}" if works else "gives wrong numbers"
    )


def display() -> list[Finding]:
    """Whether a window can be opened, and what OpenGL there is."""
    out = []
    if sys.platform.startswith("linux"):
        session = next((v for v in ("WAYLAND_DISPLAY", "DISPLAY") if os.environ.get(v)), None)
        if session:
            out.append(Finding("screen", OK, f"{session}={os.environ[session]}"))
        else:
            advice = "On a server: ssh -X, a remote desktop, or xvfb-run; figures and training need no screen"
            out.append(Finding("screen", LIMITED, "none, so the explorer cannot open a window", advice))
        out.append(_opengl() if not extras.missing("explorer") else _no_explorer())
    else:
        out.append(Finding("screen", OK, f"{platform.system()}'s own"))
    return out


def _no_explorer() -> Finding:
    found = "not looked at: only the explorer's packages can, and they are not installed"
    return Finding("opengl", LIMITED, found, extras.command("explorer"))


def _opengl() -> Finding:
    """Make a context in another process: a driver that crashes must not take this one along."""
    advice = "Install the graphics driver, or Mesa: apt install libgl1 libegl1 libgl1-mesa-dri"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", GL_PROBE], capture_output=True, text=True, timeout=30
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        return Finding("opengl", MISSING, f"the check did not finish: {error}", advice)
    if done.returncode or "|" not in done.stdout:
        reason = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        return Finding("opengl", MISSING, f"no OpenGL 3.3: {reason[:90]}", advice)
    version, renderer = (part.strip() for part in done.stdout.strip().rsplit("|", 1))
    soft = any(word in renderer.lower() for word in ("llvmpipe", "softpipe", "swrast"))
    note = "Drawn by the CPU: usable, but slower at large windows" if soft else ""
    return Finding("opengl", LIMITED if soft else OK, f"{version} on {renderer}", note)


def shipped() -> list[Finding]:
    """Assets and demo snapshots."""
    from mssg import assets

    root = assets.root()
    if not root.is_dir():
        return [
            Finding(
                "assets", MISSING, f"{root} is not there", "Install mssg again, or clone the whole repository"
            )
        ]
    size = sum(p.stat().st_size for p in root.rglob("*") if p.is_file()) / 2**20
    names = sorted(p.stem for p in (root / "snapshots").glob("*.safetensors"))
    return [
        Finding("assets", OK, f"{root} ({size:.1f} MiB)"),
        Finding(
            "snapshots",
            OK if names else LIMITED,
            ", ".join(names) or "none shipped",
            "" if names else "`mssg demo` trains one",
        ),
    ]
