"""The `torch` backend: the same numbers as `reference`, without multiplying by zeros.

Three ideas, all plain torch, so gradients of any order exist and every device works:
- upsampling is a depthwise transposed convolution and downsampling a strided depthwise one (polyphase
  filtering);
- a modulated convolution scales its input by the styles and its output by the demodulation, so one ordinary
  convolution with shared weights serves the whole batch;
- activation gains move in front of the activation where it is homogeneous, which saves passes over memory.
Activations stay in channels_last on the CPU when they arrive so: there depthwise filtering is 2-10x faster.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from mssg.ops.activations import ACTIVATIONS
from mssg.ops.dispatch import Backend
from mssg.ops.filters import downsampling_padding, filter_size, separable_terms, upsampling_padding
from mssg.ops.fused import modulate, scaled_leaky
from mssg.ops.reference import DEMODULATION_EPS
from mssg.ops.specs import NO_PADDING, ActivationSpec, FilterSpec

_STRIP, _LEAST_ROWS = 1 << 22, 16  # elements at the high sampling rate at a time; rows of output
_SMALL_FILTER = 16  # taps up to which one 2-D pass beats two 1-D passes


def bias_act(x, b, dim, spec):
    """See `reference.bias_act`."""
    if b is not None:
        b = b.to(x.dtype).reshape([-1 if d == dim else 1 for d in range(x.ndim)])
    if spec.is_leaky:
        return leaky_tail(x, spec, b=b)
    y = ACTIVATIONS[spec.act].function(x if b is None else x + b, spec.alpha) * spec.gain
    return y if spec.clamp is None else y.clamp(-spec.clamp, spec.clamp)


def leaky_tail(x, spec, *, scale=None, noise=None, b=None):
    """clamp(gain * act(scale * x + noise + b)): the gain moves inside, since act(gain x) = gain act(x)."""
    if spec.gain != 1:
        scale = x.new_full([1] * x.ndim, spec.gain) if scale is None else scale * spec.gain
        noise, b = (None if term is None else term * spec.gain for term in (noise, b))
    if spec.slope == 1 and spec.clamp is None and scale is None and noise is None:
        return x if b is None else x + b
    return scaled_leaky(x, spec.slope, spec.clamp, scale=scale, noise=noise, bias=b)


def upfirdn2d(x, f, spec):
    """See `reference.upfirdn2d`."""
    if f is None:
        f = x.new_ones(1, 1)
    terms = [(f, f)] if f.ndim == 1 else _cheaper_terms(f, x.dtype)
    if terms is None:
        return _fir(x, f.to(x.dtype) * spec.gain, spec)
    (ux, uy), (dx, dy), (x0, x1, y0, y1) = spec.up, spec.down, spec.padding
    along_x = FilterSpec((ux, 1), (dx, 1), (x0, x1, 0, 0), spec.flip)
    along_y = FilterSpec((1, uy), (1, dy), (0, 0, y0, y1), spec.flip)
    parts = []
    for column, row in terms:
        y = _fir(x, row.to(x.dtype)[None, :] * spec.gain, along_x)
        parts.append(_fir(y, column.to(x.dtype)[:, None], along_y))
    return sum(parts[1:], start=parts[0])


def _cheaper_terms(f, dtype):
    """Separable terms of a 2-D filter, or None where one 2-D pass is cheaper or (in float64) more exact."""
    if f.numel() <= _SMALL_FILTER or dtype == torch.float64:
        return None
    terms = separable_terms(f)
    return terms if len(terms) * sum(f.shape) < f.numel() else None


def _fir(x, f, spec):
    """One pass of filter f [kh, kw], gain included, over x [B, C, H, W]."""
    return _Fir.apply(x, f if spec.flip else f.flip([0, 1]), spec.up, spec.down, spec.padding)


class _Fir(torch.autograd.Function):
    """upfirdn2d by correlation. Its gradient is itself with the roles of up and down exchanged and the taps
    flipped; torch's own second derivative of a depthwise convolution would loop over the channels."""

    @staticmethod
    def forward(ctx, x, kernel, up, down, padding):
        ctx.save_for_backward(kernel)
        ctx.geometry = up, down, padding, x.shape
        if up == (1, 1):
            return _correlate(x, kernel, down, padding)
        y = _convolve_upsampled(x, kernel.flip([0, 1]), up, padding)
        return y if down == (1, 1) else y[:, :, :: down[1], :: down[0]].clone()

    @staticmethod
    def backward(ctx, grad):
        (kernel,) = ctx.saved_tensors
        (ux, uy), (dx, dy), (x0, _, y0, _), shape = ctx.geometry
        kh, kw = kernel.shape
        padding = (
            kw - 1 - x0,
            shape[3] * ux - grad.shape[3] * dx + x0 - ux + 1,
            kh - 1 - y0,
            shape[2] * uy - grad.shape[2] * dy + y0 - uy + 1,
        )
        return _Fir.apply(grad, kernel.flip([0, 1]), (dx, dy), (ux, uy), padding), None, None, None, None


def _correlate(x, kernel, down, padding):
    """Strided depthwise correlation; equal paddings are left to the convolution."""
    x0, x1, y0, y1 = padding
    if x0 == x1 >= 0 and y0 == y1 >= 0:
        inner = (y0, x0)
    else:
        x, inner = _pad(x, padding), (0, 0)
    channels = x.shape[1]
    weight = kernel.expand(channels, 1, *kernel.shape).contiguous()
    return F.conv2d(x, weight, stride=(down[1], down[0]), padding=inner, groups=channels)


def _convolve_upsampled(x, kernel, up, padding):
    """Depthwise transposed convolution, cropped to what zero-insertion, padding and a valid convolution
    give."""
    x0, x1, y0, y1 = padding
    (kh, kw), channels = kernel.shape, x.shape[1]
    # The transposed convolution returns the full response: k - 1 - before more pixels in front, k - up -
    # after behind.
    crop_x, crop_y = (kw - 1 - x0, kw - up[0] - x1), (kh - 1 - y0, kh - up[1] - y1)
    inner_x, inner_y = max(min(crop_x), 0), max(min(crop_y), 0)
    weight = kernel.expand(channels, 1, kh, kw).contiguous()
    y = F.conv_transpose2d(x, weight, stride=(up[1], up[0]), padding=(inner_y, inner_x), groups=channels)
    return _pad(y, (inner_x - crop_x[0], inner_x - crop_x[1], inner_y - crop_y[0], inner_y - crop_y[1]))


def _pad(x, padding):
    """Zero-pad, or crop where negative; crops are views."""
    if any(p < 0 for p in padding):
        x0, x1, y0, y1 = (max(-p, 0) for p in padding)
        x = x[:, :, y0 : x.shape[2] - y1, x0 : x.shape[3] - x1]
    positive = [max(p, 0) for p in padding]
    return F.pad(x, positive) if any(positive) else x


def filtered_lrelu(x, b, filters, spec):
    """See `reference.filtered_lrelu`. The activation's gain rides on the upsampling filter."""
    (fu, fd), activation = filters, spec.activation
    if b is not None:
        x = x + b.to(x.dtype).reshape(1, -1, 1, 1)
    raising = replace(spec.raising, gain=spec.up**2 * activation.gain)

    def filtered(x, raising):
        x = scaled_leaky(upfirdn2d(x, fu, raising), activation.slope, activation.clamp)
        return upfirdn2d(x, fd, spec.lowering)

    (batch, channels, height, _), (x0, x1, y0, _) = x.shape, spec.padding
    raised, up, down = raising.size(x.shape[2:], fu), spec.up, spec.down
    out_height, _ = spec.lowering.size(raised, fd)
    rows = max(_STRIP // max(batch * channels * down * raised[1], 1), _LEAST_ROWS)
    kept = torch.is_grad_enabled() and x.requires_grad
    if kept or x.device.type != "cpu" or out_height <= rows:
        return filtered(x, raising)
    high = filter_size(fu)[1] + filter_size(fd)[1]
    # In strips: the signal at the high sampling rate would cost more in page faults than in arithmetic.
    strips = []
    for start in range(0, out_height, rows):
        # Rows first, …, end - 1 of the image with zeros between its pixels, or outside of it.
        first = start * down - y0
        end = first + (min(rows, out_height - start) - 1) * down + high - 1
        i, j = max(-(-first // up), 0), min((end - 1) // up + 1, height)
        strip, above = (x[:, :, i:j], i * up - first) if i < j else (torch.zeros_like(x[:, :, :1]), 0)
        below = end - first - above - strip.shape[2] * up
        strips.append(filtered(strip, replace(raising, padding=(x0, x1, above, below))))
    return torch.cat(strips, 2)


def convolve(x, w, stride, padding):
    """An ordinary convolution with any padding (x0, x1, y0, y1)."""
    x0, x1, y0, y1 = padding
    if w.shape[2:] == (1, 1) and stride == 1 and padding == NO_PADDING and x.device.type == "cpu":
        return F.linear(x.permute(0, 2, 3, 1), w[:, :, 0, 0]).permute(0, 3, 1, 2)  # channels_last in and out
    if x0 == x1 >= 0 and y0 == y1 >= 0:
        return F.conv2d(x, w, stride=stride, padding=(y0, x0))
    return F.conv2d(_pad(x, padding), w, stride=stride)


def conv2d_resample(x, w, f, spec, *, fir=upfirdn2d, convolve=convolve):
    """See `reference.conv2d_resample`. The convolution always runs at the lower resolution.

    Other backends bring their own `fir` and `convolve`, with the signatures of `upfirdn2d` and `convolve`.
    """
    up, down, padding, w = (spec.up,) * 2, (spec.down,) * 2, spec.padding, w.to(x.dtype)
    if spec.up > 1:
        padding = upsampling_padding(f, up, padding)
    if spec.down > 1:
        padding = downsampling_padding(f, down, padding)
    if spec.up > 1:
        x, smoothing = _convolve_up(x, w, replace(spec, padding=padding))
        x = fir(x, f, smoothing)
        return x if spec.down == 1 else fir(x, f, FilterSpec(down=down))
    w = w if spec.flip else w.flip([2, 3])
    if spec.down == 1:
        return convolve(x, w, 1, padding)
    if w.shape[2:] == (1, 1):
        return convolve(fir(x, f, FilterSpec(down=down, padding=padding)), w, 1, NO_PADDING)
    return convolve(fir(x, f, FilterSpec(padding=padding)), w, spec.down, NO_PADDING)


def _convolve_up(x, w, spec):
    """A transposed convolution, and the low-pass filtering that makes upsampling of it."""
    up, gain = spec.up, float(spec.up**2)
    if w.shape[2:] == (1, 1):
        return convolve(x, w, 1, NO_PADDING), FilterSpec((up, up), padding=spec.padding, gain=gain)
    kh, kw = w.shape[2:]
    x = F.conv_transpose2d(x, (w.flip([2, 3]) if spec.flip else w).transpose(0, 1), stride=up)
    # The transposed convolution has padded by k - 1 and left out the last up - 1 zeros.
    x0, x1, y0, y1 = spec.padding
    rest = (x0 - kw + 1, x1 - kw + up, y0 - kh + 1, y1 - kh + up)
    return x, FilterSpec(padding=rest, gain=gain)


def demodulation(w, s):
    """[B, O]: what gives every output channel unit response to independent inputs."""
    return (s.square() @ w.square().sum([2, 3]).T + DEMODULATION_EPS).rsqrt()


def convolve_modulated(x, w, s, spec, *, f=None, input_gain=None, fir=upfirdn2d):
    """The convolution of `modulated_conv2d` and the factor [B, O, 1, 1] its result lacks; None = it lacks
    nothing."""
    if x.dtype == torch.float16 and spec.demodulate:
        # Keep half precision in range; demodulation cancels both factors.
        w = w / w.abs().amax([1, 2, 3], keepdim=True)
        s = s / s.abs().amax(1, keepdim=True)
    d = demodulation(w, s) if spec.demodulate else None
    if input_gain is not None:
        s = s * input_gain
    if w.shape[2:] == (1, 1) and spec.up == 1 and spec.padding == NO_PADDING:
        per_sample = w[:, :, 0, 0] * s[:, None, :]  # [B, O, I]: small, so both factors may as well go there
        return _pointwise_per_sample(x, per_sample if d is None else per_sample * d[:, :, None]), None
    x = modulate(x, s.to(x.dtype)[:, :, None, None])
    x = conv2d_resample(x, w, f, spec, fir=fir)
    return x, None if d is None else d.to(x.dtype)[:, :, None, None]


def modulated_conv2d(
    x, w, s, spec, *, activation, f, input_gain, noise, b, convolve=convolve_modulated, tail=leaky_tail
):
    """See `reference.modulated_conv2d`: (sum_i w_oi s_i x_i) d_o instead of sum_i (w_oi s_i d_o) x_i.

    Other backends bring their own `convolve` and `tail`, with the signatures of `convolve_modulated` and
    `leaky_tail`.
    """
    x, d = convolve(x, w, s, spec, f=f, input_gain=input_gain)
    noise = None if noise is None else noise.to(x.dtype)[(None,) * (4 - noise.ndim)]
    b = None if b is None else b.to(x.dtype)[None, :, None, None]
    if activation.is_leaky:
        return tail(x, activation, scale=d, noise=noise, b=b)
    return bias_act(tail(x, ActivationSpec(), scale=d, noise=noise, b=b), None, 1, activation)


def modulated_filtered_lrelu(
    x,
    w,
    s,
    spec,
    *,
    filtered,
    filters,
    input_gain,
    b,
    convolve=convolve_modulated,
    filtered_lrelu=filtered_lrelu,
):
    """See `reference.modulated_filtered_lrelu`: demodulation and bias share one pass.

    Other backends bring their own `convolve` and `filtered_lrelu`.
    """
    x, d = convolve(x, w, s, spec, input_gain=input_gain)
    if d is not None:
        bias = None if b is None else b.to(x.dtype)[None, :, None, None]
        x, b = leaky_tail(x, ActivationSpec(), scale=d, b=bias), None
    return filtered_lrelu(x, b, filters, filtered)


def _pointwise_per_sample(x, w):
    """A 1x1 convolution with weights w [B, O, I] of each sample's own: a matrix product per sample."""
    w = w.to(x.dtype)
    if x.is_contiguous():
        return torch.bmm(w, x.flatten(2)).unflatten(2, x.shape[2:])
    height, width = x.shape[2:]
    y = torch.bmm(x.permute(0, 2, 3, 1).flatten(1, 2), w.mT)  # [B, H W, O]: channels_last in and out
    return y.unflatten(1, (height, width)).permute(0, 3, 1, 2)


BACKEND = Backend(
    "torch",
    bias_act=bias_act,
    upfirdn2d=upfirdn2d,
    filtered_lrelu=filtered_lrelu,
    conv2d_resample=conv2d_resample,
    modulated_conv2d=modulated_conv2d,
    modulated_filtered_lrelu=modulated_filtered_lrelu,
)
