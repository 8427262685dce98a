"""The operations on the native kernels. What these do not take goes to `torch`: other dtypes and devices,
what gradients are wanted of (see training.py), kernels other than 1x1 and 3x3, filters that are not products
of a column and a row.

Registered twice: 3x3 convolutions run by Winograd's F(4x4, 3x3) or F(6x6, 3x3) in `native`, which also leaves
terms out of radial filters that are below that rounding; and in `native-exact` by F(2x2, 3x3), whose
transforms only add and halve: its errors are twice a direct convolution's, and in whole networks the same.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from mssg.ops import fast
from mssg.ops.dispatch import register_backend
from mssg.ops.filters import RANK_TOLERANCE, REMEMBERED_FILTERS, FilterValues, filter_values, separable_terms
from mssg.ops.native import library
from mssg.ops.native.layout import in_layout, new, outline, padded_channels, place, plain, pointer
from mssg.ops.native.library import NOT_FINITE, Convolution, Epilogue, FilteredLrelu, FilteredLreluGradient
from mssg.ops.reference import DEMODULATION_EPS
from mssg.ops.remembered import Remembered
from mssg.ops.specs import ActivationSpec, ConvSpec, FilteredLreluSpec, Filters

NO_CLAMP = -1.0
_FAST_TOLERANCE = 3e-6  # of a filter's largest singular value: what `native` leaves out
_MOST_TERMS = 6  # a filter that needs more products of column and row is left to torch
_SIX_PIXELS, _SIX_SAVES = 90, 0.9  # see `_tile`
_KERNELS = ((1, 1), (3, 3))  # of the convolutions
_prepared = Remembered()  # of weights and biases


def register() -> None:
    """Add the backends where the library has been built; `native` then serves float32 on the CPU in inference
    mode."""
    if isinstance(library.load(), str):
        return
    for name, exact, serving in (("native-exact", True, lambda x: False), ("native", False, serves)):
        register_backend(
            name,
            base="torch",
            serves=serving,
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


# ---- Filters


class _KernelTaps(NamedTuple):
    """A filter as the kernels read it, a sum of products: columns [R, h] and rows [R, w] of correlation
    taps."""

    columns: Tensor
    rows: Tensor


@lru_cache(REMEMBERED_FILTERS)
@torch.inference_mode(False)  # what is remembered serves training too
def _taps(values: FilterValues | None, flip: bool, exact: bool, factor: float = 1.0) -> _KernelTaps | None:
    """factor * a filter; None where it needs too many products."""
    if values is None:
        return _KernelTaps(torch.full((1, 1), factor), torch.ones(1, 1))
    f = values.tensor()
    terms = [(f, f)] if f.ndim == 1 else separable_terms(f, RANK_TOLERANCE if exact else _FAST_TOLERANCE)
    if len(terms) > _MOST_TERMS:
        return None
    columns, rows = (torch.stack(part).float() for part in zip(*terms))
    if not flip:
        columns, rows = columns.flip(1), rows.flip(1)
    return _KernelTaps((columns * factor).contiguous(), rows.contiguous())


def _pair(
    values: tuple[FilterValues | None, FilterValues | None], spec: FilteredLreluSpec, exact: bool
) -> tuple[_KernelTaps, _KernelTaps] | None:
    """Of upsampling: one term, with the factors that restore the mean and the activation's gain (before it
    acts as behind it). And of downsampling. None where the kernels do not take them."""
    gain = spec.activation.gain
    up = _taps(values[0], spec.flip, exact, spec.up * spec.up * gain)
    down = _taps(values[1], spec.flip, exact)
    if up is None or down is None or len(up.columns) > 1 or gain <= 0:
        return None
    return up, down


def _values(filters: Filters) -> tuple[FilterValues | None, FilterValues | None]:
    return filter_values(filters[0]), filter_values(filters[1])


# ---- Filtered leaky ReLU


class _Filtering(NamedTuple):
    """A filtered leaky ReLU that the kernels take."""

    filters: Filters
    taps: tuple[_KernelTaps, _KernelTaps]
    spec: FilteredLreluSpec


def filtered_lrelu(exact, x, b, filters, spec):
    """See `reference.filtered_lrelu`."""
    taps = _pair(_values(filters), spec, exact) if plain(x, b) else None
    if taps is not None:
        filtering = _Filtering(filters, taps, spec)
        if not _wanted(x, b, *filters):
            return _filtered_lrelu(in_layout(x), b, filtering)
        if len(taps[1].rows) == 1 and not _wanted(*filters):
            return _FilteredLreluOp.apply(x, b, filtering)
    return fast.filtered_lrelu(x, b, filters, spec)


def _filtered_lrelu(x: Tensor, b: Tensor | None, filtering: _Filtering) -> Tensor:
    """The result for x in layout."""
    y, bias = new(x, x.shape[1], *filtering.spec.size(x.shape[2:], filtering.filters)), padded_channels(b)
    library.filtered_lrelu(_arguments((x, y), y.shape, filtering, bias))
    return y


def _gradient(x: Tensor, b: Tensor | None, grad: Tensor, filtering: _Filtering) -> Tensor:
    """The gradient with respect to x from that with respect to the result, both in layout."""
    y, bias = new(x, *x.shape[1:]), padded_channels(b)
    forward = _arguments((x, y), grad.shape, filtering, bias)
    n, _, h, w = grad.stride()
    library.filtered_lrelu_gradient(FilteredLreluGradient(forward, grad.data_ptr(), n, h, w))
    return y


def _arguments(
    between: tuple[Tensor, Tensor], result: torch.Size, filtering: _Filtering, bias: Tensor | None
) -> FilteredLrelu:
    """From the one tensor to the other, where the filtered leaky ReLU's result has this shape."""
    (up, down), spec, arguments = filtering.taps, filtering.spec, FilteredLrelu()
    place(arguments, *between)
    _, arguments.channels, arguments.out_height, arguments.out_width = result
    arguments.up, arguments.down = spec.up, spec.down
    arguments.pad_x, _, arguments.pad_y, _ = spec.padding
    arguments.bias = pointer(bias)
    arguments.up_row, arguments.up_column = up.rows.data_ptr(), up.columns.data_ptr()
    arguments.down_row, arguments.down_column = down.rows.data_ptr(), down.columns.data_ptr()
    arguments.up_row_taps, arguments.up_column_taps = up.rows.shape[1], up.columns.shape[1]
    arguments.down_row_taps, arguments.down_column_taps = down.rows.shape[1], down.columns.shape[1]
    arguments.terms = len(down.rows)
    arguments.slope, arguments.clamp = spec.activation.slope, _limit(spec.activation)
    return arguments


def _limit(activation: ActivationSpec) -> float:
    return NO_CLAMP if activation.clamp is None else activation.clamp


class _FilteredLreluOp(torch.autograd.Function):
    """With a gradient for x and b, from x alone: nothing at the high sampling rate is kept. Where a gradient
    of the gradient is wanted, the differentiable `torch` backend forms it."""

    @staticmethod
    def forward(ctx, x, b, filtering):
        ctx.save_for_backward(x, b)
        ctx.filtering = filtering
        return _filtered_lrelu(in_layout(x), b, filtering)

    @staticmethod
    def backward(ctx, grad):
        (x, b), filtering = ctx.saved_tensors, ctx.filtering
        needs = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            y = fast.filtered_lrelu(x, b, filtering.filters, filtering.spec)
            wanted = [t for t, need in zip((x, b), needs) if need]
            found = iter(torch.autograd.grad(y, wanted, grad, create_graph=True))
            return *(next(found) if need else None for need in needs), None
        grad_x = _gradient(in_layout(x), b, in_layout(grad), filtering)
        return grad_x if needs[0] else None, grad_x.sum([0, 2, 3]) if needs[1] else None, None


# ---- Convolution


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


def _packed(w: Tensor, spec: ConvSpec, tile: int) -> Tensor:
    turned = spec.flip == (spec.up == 2)  # a transposed convolution's kernel is stored the other way round
    known, what = _prepared.of(w), (turned, spec.up, tile)
    if what not in known:
        known[what] = pack(w, turned, spec.up, tile)
    return known[what]


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
    known = _prepared.of(w)
    if "energy" not in known:
        known["energy"] = padded_channels(w.detach().square().sum([2, 3]).T)
    return known["energy"]


def _bias(b: Tensor | None) -> Tensor | None:
    """In whole blocks of channels; nothing is remembered that would share the memory of b itself."""
    if b is None or b.shape[0] % library.CHANNEL_BLOCK == 0:
        return padded_channels(b)
    known = _prepared.of(b)
    if "padded" not in known:
        known["padded"] = padded_channels(b)
    return known["padded"]


class _InputLayout(NamedTuple):
    """What a plan is for, beside what is computed: the input's memory, threads, `native-exact` or not."""

    shape: torch.Size
    stride: tuple[int, ...]
    threads: int
    exact: bool

    @classmethod
    def of(cls, x: Tensor, exact: bool) -> _InputLayout:
        return cls(x.shape, x.stride(), torch.get_num_threads(), exact)


class _LayerPlan(NamedTuple):
    """What all calls share that have one weight, one specification and tensors of one geometry."""

    spec: ConvSpec
    result: tuple[int, int, int]  # channels, height, width
    convolution: Convolution  # but for what `_run` fills in
    filtered: FilteredLrelu | None  # what follows
    memory: tuple  # tensors that these point to


def _run(plan: _LayerPlan, x: Tensor, w: Tensor, s: Tensor, *, input_gain, noise, b) -> Tensor:
    """The result for x in layout."""
    s, bias, y = s.detach().contiguous(), _bias(b), new(x, *plan.result)
    convolution = Convolution.from_buffer_copy(plan.convolution)
    convolution.x, convolution.styles = x.data_ptr(), s.data_ptr()
    convolution.epilogue.bias = pointer(bias)
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
        weight = _packed(w, plan.spec, 0)
        convolution.weight, convolution.winograd = weight.data_ptr(), 0
        call()
    return y


def _convolution(
    x: Tensor, w: Tensor, spec: ConvSpec, activation: ActivationSpec, *, exact: bool, smoothing=None
) -> _LayerPlan:
    """Of clamp(gain * lrelu(d * (w * (s x)) + noise + b)), onto twice the size where a smoothing filter is
    given."""
    height, width = (spec.up * (n + 2 * spec.padding[0] - w.shape[2] + 1) for n in x.shape[2:])
    result = (len(w), height, width)
    tile = 0 if spec.up == 2 else _tile(w, height, width, exact)
    weight = _packed(w, spec, tile)
    energy = _energy(w) if spec.demodulate else None
    arguments = Convolution()
    place(arguments, x, outline(x, *result))
    arguments.weight, arguments.energy = weight.data_ptr(), pointer(energy)
    arguments.winograd, arguments.up = tile, spec.up
    arguments.input_gain, arguments.eps = 1.0, DEMODULATION_EPS
    arguments.out_channels, arguments.in_channels, arguments.kernel = w.shape[:3]
    arguments.padding = spec.padding[0]
    arguments.epilogue = Epilogue(None, None, 0, activation.gain, activation.slope, _limit(activation))
    if smoothing is not None:
        arguments.up_column, arguments.up_row = (taps.data_ptr() for taps in smoothing)
    return _LayerPlan(spec, result, arguments, None, (weight, energy, smoothing))


def modulated_conv2d(exact, x, w, s, spec, *, activation, f, input_gain, noise, b):
    """See `reference.modulated_conv2d`."""
    values = filter_values(f) if spec.up == 2 and plain(f) else None
    smoothing = _smoothing(w, values, spec)
    fits = smoothing is not None or (spec.up == 1 and _is_direct(w, spec))
    if not fits or not activation.is_leaky or not _takes(x, w, s, input_gain, noise, b):
        tensors = {"f": f, "input_gain": input_gain, "noise": noise, "b": b}
        return fast.modulated_conv2d(x, w, s, spec, activation=activation, **tensors)
    noise = None if noise is None else noise.reshape(-1, *noise.shape[-2:]).contiguous()
    x = in_layout(x)
    known, what = _prepared.of(w), (spec, activation, values, _InputLayout.of(x, exact))
    if what not in known:
        known[what] = _convolution(x, w, spec, activation, exact=exact, smoothing=smoothing)
    return _run(known[what], x, w, s, input_gain=input_gain, noise=noise, b=b)


def _is_direct(w: Tensor, spec: ConvSpec) -> bool:
    """Whether the kernels take a convolution at one sampling rate."""
    padding = spec.padding[0]
    return w.shape[2:] in _KERNELS and padding >= 0 and spec.padding == (padding,) * 4


def _smoothing(w: Tensor, values: FilterValues | None, spec: ConvSpec) -> _KernelTaps | None:
    """StyleGAN2's 4x4 smoothing filter as one term, where a layer is its 3x3 convolution onto twice the size;
    else None."""
    if values is None or values.shape != (4, 4) or w.shape[2:] != (3, 3) or spec.padding != (1, 1, 1, 1):
        return None
    taps = _taps(values, False, True, 4.0)  # the zeros between pixels took three quarters of the mean
    return taps if taps is not None and len(taps.columns) == 1 else None


def modulated_filtered_lrelu(exact, x, w, s, spec, *, filtered, filters, input_gain, b):
    """See `reference.modulated_filtered_lrelu`."""
    if _takes(x, w, s, b, input_gain) and _is_direct(w, spec):
        x, values = in_layout(x), _values(filters)
        known, what = _prepared.of(w), (spec, filtered, values, _InputLayout.of(x, exact))
        if what not in known:
            known[what] = _layer(x, w, spec, filtered, filters=filters, exact=exact)
        if (plan := known[what]) is not None:
            return _run(plan, x, w, s, input_gain=input_gain, noise=None, b=b)
    return fast.modulated_filtered_lrelu(
        x,
        w,
        s,
        spec,
        filtered=filtered,
        filters=filters,
        input_gain=input_gain,
        b=b,
        filtered_lrelu=partial(filtered_lrelu, exact),
    )


def _layer(
    x: Tensor, w: Tensor, spec: ConvSpec, filtered: FilteredLreluSpec, *, filters: Filters, exact: bool
) -> _LayerPlan | None:
    """Of a layer of StyleGAN3; None for one that is left to torch."""
    taps = _pair(_values(filters), filtered, exact)
    if taps is None:
        return None
    unfiltered = filters[0] is None and filters[1] is None
    if unfiltered and filtered == FilteredLreluSpec(activation=filtered.activation):
        return _convolution(x, w, spec, filtered.activation, exact=exact)
    plan = _convolution(x, w, spec, ActivationSpec(), exact=exact)
    middle = outline(x, *plan.result)
    result = len(w), *filtered.size(plan.result[1:], filters)
    y = outline(x, *result)
    arguments = _arguments((middle, y), y.shape, _Filtering(filters, taps, filtered), None)
    return plan._replace(result=result, filtered=arguments, memory=(plan.memory, taps))
