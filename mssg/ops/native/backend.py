"""The operations on the native kernels. What these do not take goes to `torch`: other dtypes and devices,
what gradients are wanted of (see training.py), kernels other than 1x1 and 3x3, filters that are not products
of a column and a row.

Registered twice: 3x3 convolutions run by Winograd's F(4x4, 3x3) or F(6x6, 3x3) in `native`, which also leaves
    terms
out of radial filters that are below that rounding; and in `native-exact` by F(2x2, 3x3), whose transforms
only add and
halve: its errors are twice a direct convolution's, and in whole networks the same.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from mssg.ops import fast
from mssg.ops.activations import ACTIVATIONS
from mssg.ops.dispatch import register_backend
from mssg.ops.filters import RANK_TOLERANCE, separable_terms
from mssg.ops.native import library
from mssg.ops.native.layout import in_layout, new, outline, padded_channels, place, plain, pointer
from mssg.ops.native.library import NOT_FINITE, Convolution, Epilogue, FilteredLrelu, FilteredLreluGradient
from mssg.ops.reference import DEMODULATION_EPS

NO_CLAMP = -1.0
_FAST_TOLERANCE = 3e-6  # of a filter's largest singular value: what `native` leaves out
_MOST_TERMS = 6  # a filter that needs more products of column and row is left to torch
_SIX_PIXELS, _SIX_SAVES = 90, 0.9  # see `_tile`
_prepared: WeakIdKeyDictionary = WeakIdKeyDictionary()  # weight or filter -> (version, {what: tensors})


def register() -> None:
    """Add the backends where the library has been built; `native` then serves float32 on the CPU in inference
    mode."""
    if isinstance(library.load(), str):
        return
    for name, exact in (("native-exact", True), ("native", False)):
        register_backend(
            name,
            base="torch",
            serves=(lambda x: False) if exact else serves,
            filtered_lrelu=partial(filtered_lrelu, exact),
            modulated_conv2d=partial(modulated_conv2d, exact),
            modulated_filtered_lrelu=partial(modulated_filtered_lrelu, exact),
        )


def serves(x: Tensor) -> bool:
    """Whether `native` is the best choice for an operation on x: float32 on the CPU in
    `torch.inference_mode`."""
    return plain(x) and torch.is_inference_mode_enabled()


def _takes(*tensors: Tensor | None) -> bool:
    """Whether these arguments are plain float32 tensors on the CPU through which no gradient is wanted."""
    return plain(*tensors) and not _wanted(*tensors)


def _wanted(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


# ---- Filtered leaky ReLU
# --------------------------------------------------------------------------------------


def filtered_lrelu(exact, x, fu, fd, b, up, down, padding, gain, slope, clamp, flip_filter):
    """See `reference.filtered_lrelu`."""
    terms_up, terms_down = _upsampling_terms(fu, flip_filter, exact, up, gain), _terms(fd, flip_filter, exact)
    if plain(x, b) and terms_up is not None and terms_down is not None:
        if not _wanted(x, b, fu, fd):
            return _filtered_lrelu(in_layout(x), b, terms_up, terms_down, up, down, padding, slope, clamp)
        if len(terms_down[0]) == 1 and not _wanted(fu, fd):
            return _FilteredLrelu.apply(
                x, b, fu, fd, terms_up, terms_down, up, down, padding, gain, slope, clamp, flip_filter
            )
    return fast.filtered_lrelu(x, fu, fd, b, up, down, padding, gain, slope, clamp, flip_filter)


def _filtered_lrelu(x, b, terms_up, terms_down, up, down, padding, slope, clamp):
    """The result for x in layout."""
    y = new(x, x.shape[1], *_filtered_size(x, terms_up, terms_down, up, down, padding))
    bias = padded_channels(b)
    library.filtered_lrelu(
        _arguments(x, y, y.shape, terms_up, terms_down, bias, up, down, padding, slope, clamp)
    )
    return y


def _filtered_size(x, terms_up, terms_down, up, down, padding):
    """Height and width of the result."""
    (up_column, up_row), (down_column, down_row) = terms_up, terms_down
    x0, x1, y0, y1 = padding
    height, width = x.shape[2:]
    out_height = (height * up + y0 + y1 - up_column.shape[1] + 1 - down_column.shape[1]) // down + 1
    return out_height, (width * up + x0 + x1 - up_row.shape[1] + 1 - down_row.shape[1]) // down + 1


def _gradient(x, b, grad, terms_up, terms_down, up, down, padding, slope, clamp):
    """The gradient with respect to x from that with respect to the result, both in layout."""
    y, bias = new(x, *x.shape[1:]), padded_channels(b)
    forward = _arguments(x, y, grad.shape, terms_up, terms_down, bias, up, down, padding, slope, clamp)
    n, _, h, w = grad.stride()
    library.filtered_lrelu_gradient(FilteredLreluGradient(forward, grad.data_ptr(), n, h, w))
    return y


def _arguments(x, y, result, terms_up, terms_down, bias, up, down, padding, slope, clamp):
    """From x to y, where the filtered leaky ReLU's result has this shape."""
    (up_column, up_row), (down_column, down_row) = terms_up, terms_down
    arguments = FilteredLrelu()
    place(arguments, x, y)
    _, arguments.channels, arguments.out_height, arguments.out_width = result
    arguments.up, arguments.down, arguments.pad_x, arguments.pad_y = up, down, padding[0], padding[2]
    arguments.bias, arguments.up_row, arguments.up_column = (
        pointer(bias),
        pointer(up_row),
        pointer(up_column),
    )
    arguments.down_row, arguments.down_column = pointer(down_row), pointer(down_column)
    arguments.up_row_taps, arguments.up_column_taps = up_row.shape[1], up_column.shape[1]
    arguments.down_row_taps, arguments.down_column_taps = down_row.shape[1], down_column.shape[1]
    arguments.terms = len(down_row)
    arguments.slope = slope
    arguments.clamp = NO_CLAMP if clamp is None else clamp
    return arguments


class _FilteredLrelu(torch.autograd.Function):
    """With a gradient for x and b, from x alone: nothing at the high sampling rate is kept. Where a gradient
    of the gradient is wanted, the differentiable `torch` backend forms it."""

    @staticmethod
    def forward(ctx, x, b, fu, fd, terms_up, terms_down, up, down, padding, gain, slope, clamp, flip_filter):
        ctx.save_for_backward(x, b, fu, fd)
        ctx.definition = up, down, padding, gain, slope, clamp, flip_filter
        ctx.native = terms_up, terms_down, up, down, padding, slope, clamp
        return _filtered_lrelu(in_layout(x), b, *ctx.native)

    @staticmethod
    def backward(ctx, grad):
        x, b, fu, fd = ctx.saved_tensors
        needs = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            y = fast.filtered_lrelu(x, fu, fd, b, *ctx.definition)
            wanted = [t for t, need in zip((x, b), needs) if need]
            found = iter(torch.autograd.grad(y, wanted, grad, create_graph=True))
            grads = [next(found) if need else None for need in needs]
        else:
            grad_x = _gradient(in_layout(x), b, in_layout(grad), *ctx.native)
            grads = [grad_x if needs[0] else None, grad_x.sum([0, 2, 3]) if needs[1] else None]
        return *grads, *[None] * 11


_ONE_TAP = torch.ones(1, 1)


def _terms(
    f: Tensor | None, flip_filter: bool, exact: bool, factor: float = 1.0
) -> tuple[Tensor, Tensor] | None:
    """factor * filter as columns [R, h] and rows [R, w] of correlation taps; None where R would be large."""

    def make() -> tuple[Tensor, Tensor] | None:
        assert f is not None
        terms = [(f, f)] if f.ndim == 1 else separable_terms(f, RANK_TOLERANCE if exact else _FAST_TOLERANCE)
        if len(terms) > _MOST_TERMS:
            return None
        columns, rows = (torch.stack(part).detach().float().cpu() for part in zip(*terms))
        if not flip_filter:
            columns, rows = columns.flip(1), rows.flip(1)
        return (columns * factor).contiguous(), rows.contiguous()

    if f is None:
        return _ONE_TAP * factor, _ONE_TAP
    return _prepare(f, ("terms", flip_filter, exact, factor), make)


def _upsampling_terms(fu, flip_filter, exact, up, gain):
    """One term, with the factors that restore the mean and the activation's gain (before it acts as behind
    it); or None."""
    terms = _terms(fu, flip_filter, exact, up * up * gain)
    return terms if terms is not None and len(terms[0]) == 1 and gain > 0 else None


# ---- Convolution
# ----------------------------------------------------------------------------------------------


def _version(t: Tensor) -> int | None:
    return None if t.is_inference() else t._version


def _identity(t: Tensor | None):
    """Tells tensors and their versions apart, for as long as they live."""
    return None if t is None else (id(t), _version(t))


def _geometry(x: Tensor) -> tuple:
    return x.shape, x.stride(), torch.get_num_threads()


def _prepare(w: Tensor, what: tuple, make):
    """What `make()` derives from a weight or filter, remembered for as long as the weight lives unchanged."""
    version = _version(w)
    known = _prepared.get(w)
    if known is None or known[0] != version:
        known = (version, {})
        _prepared[w] = known
    if what not in known[1]:
        known[1][what] = make()
    return known[1][what]


def pack(w: Tensor, turned: bool, up: int, tile: int) -> Tensor:
    """A weight as the kernels read it, its 3x3 taps turned by half a turn if asked for; tile as in
    `_tile`."""
    native, (outputs, inputs, kernel, _) = library.loaded(), w.shape
    w = w.detach()
    if w.stride()[2:] != (kernel, 1):
        w = w.contiguous()
    packed = w.new_empty(native.mssg_packed_size(outputs, inputs, kernel, tile))
    where = (w.data_ptr(), packed.data_ptr(), outputs, inputs, kernel, *w.stride()[:2])
    native.mssg_pack_weight(*where, turned, up, tile, torch.get_num_threads())
    return packed


def _packed(w: Tensor, flip_weight: bool, up: int, tile: int) -> Tensor:
    return _prepare(w, (flip_weight, up, tile), lambda: pack(w, not flip_weight, up, tile))


def _tile(w: Tensor, height: int, width: int, exact: bool) -> int:
    """Pixels along a Winograd tile for an output of this size; 0 = convolve directly.

    F(6x6) multiplies a fifth less than F(4x4), but its packed weights are 7 times the weights: it is taken
    where it saves work (edges count) and the weights are few beside the image.
    """
    if w.shape[2] != 3:
        return 0
    if exact:
        return 2

    def products(tile: int) -> int:
        return -(-height // tile) * -(-width // tile) * (tile + 2) ** 2

    few = w.shape[0] * w.shape[1] <= _SIX_PIXELS * height * width
    return 6 if few and products(6) < _SIX_SAVES * products(4) else 4


def _energy(w: Tensor) -> Tensor:
    """[I, O in whole blocks]: what demodulation needs of a weight."""
    return _prepare(w, ("energy",), lambda: padded_channels(w.detach().square().sum([2, 3]).T))


class _Plan(NamedTuple):
    """What all calls share that have one weight and tensors of one geometry."""

    result: tuple[int, int, int]  # channels, height, width
    convolution: Convolution  # but for what `_run` fills in
    filtered: FilteredLrelu | None  # what follows
    memory: tuple  # tensors that these point to, or whose identity the plan is found by


def _run(plan: _Plan, x, s, input_gain, noise, direct):
    """The result for x in layout. direct() packs the weights for a direct convolution."""
    s, y = s.detach().contiguous(), new(x, *plan.result)
    convolution = Convolution.from_buffer_copy(plan.convolution)
    convolution.x, convolution.styles = x.data_ptr(), s.data_ptr()
    if input_gain is not None:
        convolution.input_gain = float(input_gain)
    if noise is not None:
        stride = 0 if len(noise) == 1 else noise.stride(0)
        convolution.epilogue.noise, convolution.epilogue.noise_stride = noise.data_ptr(), stride
    if plan.filtered is None:
        convolution.y = y.data_ptr()
        call = partial(library.convolve, convolution)
    else:
        filtered = FilteredLrelu.from_buffer_copy(plan.filtered)
        filtered.y = y.data_ptr()
        call = partial(library.layer, convolution, filtered)
    # Winograd would spread an Inf or NaN over the whole tile: then convolve directly, as the definition says.
    if call() == NOT_FINITE:
        weight = direct()
        convolution.weight, convolution.winograd = weight.data_ptr(), 0
        call()
    return y


def _convolution(
    exact, x, w, b, demodulate, padding, flip_weight, gain, slope, clamp, smoothing=None
) -> _Plan:
    """Of clamp(gain * lrelu(d * (w * (s x)) + noise + b)), onto twice the size where a smoothing filter is
    given."""
    kernel, up = w.shape[2], 1 if smoothing is None else 2
    height, width = (up * (n + 2 * padding - kernel + 1) for n in x.shape[2:])
    result = (len(w), height, width)
    tile = 0 if up == 2 else _tile(w, height, width, exact)
    weight, bias = _packed(w, flip_weight, up, tile), padded_channels(b)
    energy = _energy(w) if demodulate else None
    arguments = Convolution()
    place(arguments, x, outline(x, *result))
    arguments.weight, arguments.energy = weight.data_ptr(), pointer(energy)
    arguments.winograd, arguments.up = tile, up
    arguments.input_gain, arguments.eps = 1.0, DEMODULATION_EPS
    arguments.out_channels, arguments.in_channels, arguments.kernel = w.shape[:3]
    arguments.padding = padding
    limit = NO_CLAMP if clamp is None else clamp
    arguments.epilogue = Epilogue(pointer(bias), None, 0, gain, slope, limit)
    if smoothing is not None:
        arguments.up_column, arguments.up_row = (taps.data_ptr() for taps in smoothing)
    return _Plan(result, arguments, None, (b, bias, weight, energy, smoothing))


def modulated_conv2d(
    exact, x, w, s, f, up, padding, flip_weight, demodulate, input_gain, noise, b, act, gain, clamp
):
    """See `reference.modulated_conv2d`."""
    smoothing = _smoothing(w, f, up, padding)
    direct = up == 1 and len(set(padding)) == 1 and padding[0] >= 0 and w.shape[2:] in ((1, 1), (3, 3))
    known = act in ("linear", "lrelu") and gain > 0
    if not (direct or smoothing) or not known or not _takes(x, w, s, input_gain, noise, b):
        rest = (flip_weight, demodulate, input_gain, noise, b, act, gain, clamp)
        return fast.modulated_conv2d(x, w, s, f, up, padding, *rest)
    slope = 1.0 if act == "linear" else ACTIVATIONS[act].alpha
    noise = None if noise is None else noise.reshape(-1, *noise.shape[-2:]).contiguous()
    x = in_layout(x)
    flip = flip_weight == (up == 1)  # a transposed convolution's kernel is stored the other way round
    tail = (padding[0], flip, gain, slope, clamp)
    what = (
        "convolution",
        exact,
        demodulate,
        *tail,
        *_geometry(x),
        _identity(b),
        smoothing and id(smoothing[0]),
    )
    plan = _prepare(w, what, lambda: _convolution(exact, x, w, b, demodulate, *tail, smoothing))
    return _run(plan, x, s, input_gain, noise, lambda: _packed(w, flip, up, 0))


def _smoothing(w, f, up, padding):
    """StyleGAN2's 4x4 smoothing filter as terms, where a layer is its 3x3 convolution onto twice the size;
    else None."""
    if up != 2 or w.shape[2:] != (3, 3) or padding != (1, 1, 1, 1) or f is None or f.shape != (4, 4):
        return None
    terms = _terms(f, False, True, 4.0)  # the zeros between pixels took three quarters of the mean
    return terms if terms is not None and len(terms[0]) == 1 else None


def modulated_filtered_lrelu(
    exact, x, w, s, fu, fd, b, conv_padding, demodulate, input_gain, up, down, padding, gain, slope, clamp
):
    """See `mssg.ops.modulated_filtered_lrelu`."""
    definition = (conv_padding, demodulate, up, down, padding, gain, slope, clamp)
    if _takes(x, w, s, b, input_gain):
        x = in_layout(x)
        what = ("layer", exact, *definition, *_geometry(x), *map(_identity, (fu, fd, b)))
        plan = _prepare(w, what, lambda: _layer(exact, x, w, fu, fd, b, *definition))
        if plan is not None:
            return _run(plan, x, s, input_gain, None, lambda: _packed(w, True, 1, 0))
    rest = (conv_padding, demodulate, input_gain, up, down, padding, gain, slope, clamp)
    filtered = partial(filtered_lrelu, exact)
    return fast.modulated_filtered_lrelu(x, w, s, fu, fd, b, *rest, filtered=filtered)


def _layer(
    exact, x, w, fu, fd, b, conv_padding, demodulate, up, down, padding, gain, slope, clamp
) -> _Plan | None:
    """Of a layer of StyleGAN3; None for one that is left to torch."""
    terms_up, terms_down = _upsampling_terms(fu, False, exact, up, gain), _terms(fd, False, exact)
    if terms_up is None or terms_down is None or w.shape[2:] not in ((1, 1), (3, 3)):
        return None
    convolution = partial(_convolution, exact, x, w, b, demodulate, conv_padding, True)
    if fu is None and fd is None and up == down == 1 and padding == (0, 0, 0, 0):
        return convolution(gain, slope, clamp)
    plan = convolution(1.0, 1.0, None)
    between = outline(x, *plan.result)
    result = len(w), *_filtered_size(between, terms_up, terms_down, up, down, padding)
    y = outline(x, *result)
    filtered = _arguments(between, y, y.shape, terms_up, terms_down, None, up, down, padding, slope, clamp)
    memory = (plan.memory, fu, fd, terms_up, terms_down)
    return _Plan(result, plan.convolution, filtered, memory)
