"""OpenGL 3.3: float textures, one shader (window/level, colour map, zoom, difference), and the targets imgui
shows.

Every call must come from the window's thread. A target is redrawn only when its texture or a setting changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from OpenGL import GL

from explorer_app import colormaps

_VERTEX = """#version 330 core
uniform vec4 box;
out vec2 screen;
void main() {
    vec2 corner = vec2((gl_VertexID << 1) & 2, gl_VertexID & 2);
    screen = box.xy + corner * box.zw;
    gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0);
}
"""
_UNIFORMS = (
    "box",
    "first",
    "second",
    "colours",
    "origin",
    "pixel_step",
    "low",
    "width",
    "change_width",
    "threshold",
    "overlay",
    "inverted",
    "share",
    "swiped",
    "background",
)
_CAPABILITIES = (GL.GL_SCISSOR_TEST, GL.GL_BLEND, GL.GL_DEPTH_TEST, GL.GL_CULL_FACE)


class Texture:
    """A 2-D texture, clamped at its edges."""

    def __init__(self) -> None:
        self.id = int(GL.glGenTextures(1))
        self.shape: tuple[int, ...] = ()
        self._filter = 0

    def upload(self, pixels: np.ndarray) -> None:
        """Put float32 [H, W], float32 [H, W, 3] or uint8 [H, W, 3|4] into the texture; row 0 is its first
        row."""
        pixels = np.ascontiguousarray(pixels)
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        layout = {1: GL.GL_RED, 3: GL.GL_RGB, 4: GL.GL_RGBA}[channels]
        kind = GL.GL_FLOAT if pixels.dtype == np.float32 else GL.GL_UNSIGNED_BYTE
        inner = {
            (1, GL.GL_FLOAT): GL.GL_R32F,
            (3, GL.GL_FLOAT): GL.GL_RGB32F,
            (3, GL.GL_UNSIGNED_BYTE): GL.GL_RGB8,
            (4, GL.GL_UNSIGNED_BYTE): GL.GL_RGBA8,
        }[channels, kind]
        before = GL.glGetIntegerv(GL.GL_TEXTURE_BINDING_2D)
        GL.glBindTexture(GL.GL_TEXTURE_2D, self.id)
        GL.glPixelStorei(GL.GL_UNPACK_ALIGNMENT, 1)
        if self.shape != (pixels.shape, kind):
            GL.glTexImage2D(
                GL.GL_TEXTURE_2D, 0, inner, pixels.shape[1], pixels.shape[0], 0, layout, kind, pixels
            )
            for key in (GL.GL_TEXTURE_WRAP_S, GL.GL_TEXTURE_WRAP_T):
                GL.glTexParameteri(GL.GL_TEXTURE_2D, key, GL.GL_CLAMP_TO_EDGE)
            self.shape = (pixels.shape, kind)
            self._filter = 0
        else:
            GL.glTexSubImage2D(
                GL.GL_TEXTURE_2D, 0, 0, 0, pixels.shape[1], pixels.shape[0], layout, kind, pixels
            )
        GL.glPixelStorei(GL.GL_UNPACK_ALIGNMENT, 4)
        GL.glBindTexture(GL.GL_TEXTURE_2D, int(before))
        self.interpolate(self._filter == GL.GL_LINEAR)

    def interpolate(self, linear: bool) -> None:
        """Interpolate between pixels, or show them as squares."""
        wanted = GL.GL_LINEAR if linear else GL.GL_NEAREST
        if wanted == self._filter:
            return
        before = GL.glGetIntegerv(GL.GL_TEXTURE_BINDING_2D)
        GL.glBindTexture(GL.GL_TEXTURE_2D, self.id)
        GL.glTexParameteri(GL.GL_TEXTURE_2D, GL.GL_TEXTURE_MIN_FILTER, wanted)
        GL.glTexParameteri(GL.GL_TEXTURE_2D, GL.GL_TEXTURE_MAG_FILTER, wanted)
        GL.glBindTexture(GL.GL_TEXTURE_2D, int(before))
        self._filter = wanted

    def delete(self) -> None:
        """Free the texture."""
        GL.glDeleteTextures(1, [self.id])


@dataclass(frozen=True)
class Look:
    """How a target draws its image.

    `size` of the target in pixels; `origin` image pixel at its top left; `step` image pixels per target
    pixel; `level` and `width` in grey levels; `joined` says how a second image is shown in the same place:
    "difference" subtracts it and shows that in its own window of `change_width` around zero; what is smaller
    than `threshold` counts as none, and `overlay` lays it over the picture. "blend" shows the `share` of the
    second, "swipe" the second from that share of the width on, as seen on the screen.
    """

    size: tuple[int, int]
    origin: tuple[float, float]
    step: tuple[float, float]
    level: float = 127.5
    width: float = 255.0
    colormap: str = "grey"
    invert: bool = False
    linear: bool = False
    cubic: bool = False
    joined: str = ""
    share: float = 0.5
    change_width: float = 255.0
    threshold: float = 0.0
    overlay: bool = False
    background: tuple[float, float, float] = (0.055, 0.06, 0.07)


class Program:
    """The shader compiled for one kind of picture, in words: none for grey levels through a colour table;
    DIFFERENCE, or IN_COLOUR; MIXED of two images; CUBIC."""

    def __init__(self, kind: str) -> None:
        version, source = Path(__file__).with_name("image.glsl").read_text(encoding="utf-8").split("\n", 1)
        define = "".join(f"#define {word}\n" for word in kind.split())
        self.id = GL.glCreateProgram()
        for stage, text in (
            (GL.GL_VERTEX_SHADER, _VERTEX),
            (GL.GL_FRAGMENT_SHADER, f"{version}\n{define}{source}"),
        ):
            shader = GL.glCreateShader(stage)
            GL.glShaderSource(shader, text)
            GL.glCompileShader(shader)
            if not GL.glGetShaderiv(shader, GL.GL_COMPILE_STATUS):
                raise RuntimeError(GL.glGetShaderInfoLog(shader))
            GL.glAttachShader(self.id, shader)
        GL.glLinkProgram(self.id)
        if not GL.glGetProgramiv(self.id, GL.GL_LINK_STATUS):
            raise RuntimeError(GL.glGetProgramInfoLog(self.id))
        self.at = {name: GL.glGetUniformLocation(self.id, name) for name in _UNIFORMS}  # -1 where it has none


class Shader:
    """The one shader in its kinds, and its colour tables."""

    def __init__(self) -> None:
        self.array = int(GL.glGenVertexArrays(1))
        self._programs: dict[str, Program] = {}
        self._tables: dict[tuple[str, bool], Texture] = {}

    def program(self, kind: str) -> Program:
        """The program for a kind of picture."""
        if kind not in self._programs:
            self._programs[kind] = Program(kind)
        return self._programs[kind]

    def table(self, name: str, invert: bool) -> Texture:
        """The texture of a colour table."""
        if (name, invert) not in self._tables:
            texture = Texture()
            texture.upload(colormaps.table(name, invert)[None])
            texture.interpolate(True)
            self._tables[name, invert] = texture
        return self._tables[name, invert]


class Target:
    """A picture on the screen: up to two source images and the texture they are drawn into."""

    def __init__(self, shader: Shader) -> None:
        self.shader = shader
        self.first, self.second, self.out = Texture(), Texture(), Texture()
        self._frames: list[np.ndarray | None] = [None, None]
        self._drawn: Any = None
        self._framebuffer = int(GL.glGenFramebuffers(1))
        self.draws = 0

    def show(self, image: np.ndarray, look: Look, other: np.ndarray | None = None) -> int:
        """Draw the image and return the id of the texture that holds it.

        Args:
            image: float32 [H, W] or [H, W, 3], grey levels. Must not be changed in place afterwards.
            other: The second image where `look.joined`; same shape.
        """
        changed = self._put(0, self.first, image)
        if look.joined and other is not None:
            changed |= self._put(1, self.second, other)
        if not changed and look == self._drawn:
            return self.out.id
        if self.out.shape != ((look.size[1], look.size[0], 4), GL.GL_UNSIGNED_BYTE):
            self._resize(look.size)
        self._draw(look, image.shape)
        self._drawn = look
        self.draws += 1
        return self.out.id

    def _put(self, index: int, texture: Texture, image: np.ndarray) -> bool:
        if self._frames[index] is image:
            return False
        texture.upload(image)
        self._frames[index] = image
        return True

    def _resize(self, size: tuple[int, int]) -> None:
        self.out.upload(np.zeros((size[1], size[0], 4), np.uint8))
        before = int(GL.glGetIntegerv(GL.GL_FRAMEBUFFER_BINDING))
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self._framebuffer)
        GL.glFramebufferTexture2D(
            GL.GL_FRAMEBUFFER, GL.GL_COLOR_ATTACHMENT0, GL.GL_TEXTURE_2D, self.out.id, 0
        )
        complete = GL.glCheckFramebufferStatus(GL.GL_FRAMEBUFFER) == GL.GL_FRAMEBUFFER_COMPLETE
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, before)
        if not complete:
            raise RuntimeError("this OpenGL driver cannot draw into a texture")

    def _draw(self, look: Look, image: tuple[int, ...]) -> None:
        shader = self.shader
        difference = look.joined == "difference"
        kind = "DIFFERENCE" if difference else "IN_COLOUR" if len(image) == 3 else ""
        kind += " MIXED" if look.joined and not difference else ""
        program = shader.program(f"{kind} CUBIC" if look.cubic else kind)
        before, at, box = _SavedState(), program.at, _covered(look, image)
        for capability in _CAPABILITIES:
            GL.glDisable(capability)
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self._framebuffer)
        GL.glClearBufferfv(GL.GL_COLOR, 0, (*look.background, 1.0))
        GL.glViewport(*box)
        GL.glUseProgram(program.id)
        GL.glBindVertexArray(shader.array)
        table = shader.table("signed" if difference else look.colormap, look.invert and not difference)
        for unit, (name, texture) in enumerate(
            (("first", self.first), ("second", self.second), ("colours", table))
        ):
            if texture is not table:
                texture.interpolate(look.linear)
            GL.glActiveTexture(int(GL.GL_TEXTURE0) + unit)
            GL.glBindTexture(GL.GL_TEXTURE_2D, texture.id)
            GL.glUniform1i(at[name], unit)
        GL.glUniform4f(at["box"], *box)
        GL.glUniform2f(at["origin"], *look.origin)
        GL.glUniform2f(at["pixel_step"], *look.step)
        GL.glUniform1f(at["low"], look.level - look.width / 2)
        GL.glUniform1f(at["width"], look.width)
        GL.glUniform1f(at["change_width"], look.change_width)
        GL.glUniform1f(at["threshold"], look.threshold)
        GL.glUniform1i(at["overlay"], int(look.overlay))
        GL.glUniform1i(at["inverted"], int(look.invert))
        GL.glUniform1f(at["share"], look.share)
        GL.glUniform1i(at["swiped"], int(look.joined == "swipe"))
        GL.glUniform3f(at["background"], *look.background)
        GL.glDrawArrays(GL.GL_TRIANGLES, 0, 3)
        before.restore()

    def read(self) -> np.ndarray:
        """What was drawn, uint8 [H, W, 3], for tests and captures; row 0 is the top."""
        height, width = self.out.shape[0][:2]  # type: ignore[index]
        before = int(GL.glGetIntegerv(GL.GL_FRAMEBUFFER_BINDING))
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self._framebuffer)
        GL.glPixelStorei(GL.GL_PACK_ALIGNMENT, 1)
        data: Any = GL.glReadPixels(0, 0, width, height, GL.GL_RGB, GL.GL_UNSIGNED_BYTE)
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, before)
        return np.frombuffer(data, np.uint8).reshape(height, width, 3)

    def delete(self) -> None:
        """Free the textures and the framebuffer."""
        for texture in (self.first, self.second, self.out):
            texture.delete()
        GL.glDeleteFramebuffers(1, [self._framebuffer])


def _covered(look: Look, image: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The part of a target that an image [H, W, ...] may reach, in target pixels: left, top, width,
    height."""
    ends = []
    for axis, length in ((0, image[1]), (1, image[0])):
        places = sorted((edge - look.origin[axis]) / look.step[axis] for edge in (0, length))
        low, high = (min(max(v, 0.0), float(look.size[axis])) for v in places)
        ends.append((math.floor(low), math.ceil(high)))
    (left, right), (top, bottom) = ends
    return left, top, right - left, bottom - top


class _SavedState:
    """What imgui's renderer expects to find as it left it."""

    def __init__(self) -> None:
        self.framebuffer = int(GL.glGetIntegerv(GL.GL_FRAMEBUFFER_BINDING))
        self.viewport = [int(v) for v in GL.glGetIntegerv(GL.GL_VIEWPORT)]
        self.program = int(GL.glGetIntegerv(GL.GL_CURRENT_PROGRAM))
        self.array = int(GL.glGetIntegerv(GL.GL_VERTEX_ARRAY_BINDING))
        self.unit = int(GL.glGetIntegerv(GL.GL_ACTIVE_TEXTURE))
        self.enabled = [c for c in _CAPABILITIES if GL.glIsEnabled(c)]

    def restore(self) -> None:
        """Put everything back."""
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self.framebuffer)
        GL.glViewport(*self.viewport)
        GL.glUseProgram(self.program)
        GL.glBindVertexArray(self.array)
        GL.glActiveTexture(self.unit)
        for capability in self.enabled:
            GL.glEnable(capability)


class Screen:
    """The targets of a window, by name, sharing one shader; made on first use, on the window's thread."""

    def __init__(self) -> None:
        self._shader: Shader | None = None
        self.targets: dict[str, Target] = {}
        self._photographs: dict[str, tuple[Texture, np.ndarray | None]] = {}

    def target(self, name: str) -> Target:
        """The target of a name."""
        if self._shader is None:
            self._shader = Shader()
        if name not in self.targets:
            self.targets[name] = Target(self._shader)
        return self.targets[name]

    def photograph(self, name: str, pixels: np.ndarray, smooth: bool) -> int:
        """The texture of finished pixels, uint8 [H, W] or [H, W, 3], as they are."""
        if name not in self._photographs:
            self._photographs[name] = (Texture(), None)
        texture, held = self._photographs[name]
        if held is not pixels:
            texture.upload(np.repeat(pixels[..., None], 3, -1) if pixels.ndim == 2 else pixels)
            self._photographs[name] = texture, pixels
        texture.interpolate(smooth)
        return texture.id

    def keep(self, names: set[str], prefix: str) -> None:
        """Free the targets with a prefix that are not among the names."""
        for name in [n for n in self.targets if n.startswith(prefix) and n not in names]:
            self.targets.pop(name).delete()

    def close(self) -> None:
        """Free everything; before the window goes."""
        for target in self.targets.values():
            target.delete()
        for texture, _ in self._photographs.values():
            texture.delete()
        self.targets.clear()
        self._photographs.clear()


def read_window(width: int, height: int) -> np.ndarray:
    """What the window shows, uint8 [H, W, 3], row 0 at the top; between drawing a frame and swapping it."""
    GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, 0)
    GL.glPixelStorei(GL.GL_PACK_ALIGNMENT, 1)
    data: Any = GL.glReadPixels(0, 0, width, height, GL.GL_RGB, GL.GL_UNSIGNED_BYTE)
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)[::-1].copy()
