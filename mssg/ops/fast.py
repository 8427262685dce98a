"""The `torch` backend: the same numbers as `reference`, without multiplying by zeros.

Three ideas, all plain torch, so gradients of any order exist and every device works:
- upsampling is a depthwise transposed convolution and downsampling a strided depthwise one (polyphase filtering);
- a modulated convolution scales its input by the styles and its output by the demodulation, so one ordinary
  convolution with shared weights serves the whole batch;
- activation gains move in front of the activation where it is homogeneous, which saves passes over memory.
Activations stay in channels_last on the CPU when they arrive so: there depthwise filtering is 2-10x faster.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mssg.ops.activations import ACTIVATIONS
from mssg.ops.filters import downsampling_padding, separable_terms, upsampling_padding
from mssg.ops.reference import DEMODULATION_EPS

_SMALL_FILTER = 16  # taps up to which one 2-D pass beats two 1-D passes


def bias_act(x, b, dim, act, alpha, gain, clamp):
    """See `reference.bias_act`."""
    activation = ACTIVATIONS[act]
    inner, outer = (gain, 1.0) if activation.homogeneous and gain > 0 else (1.0, gain)
    if b is not None:
        b = (b.to(x.dtype) * inner).reshape([-1 if d == dim else 1 for d in range(x.ndim)])
        x = torch.add(b, x, alpha=inner)
    elif inner != 1:
        x = x * inner
    if act == "lrelu":
        return _LeakyClamp.apply(x, alpha, clamp)
    y = activation.function(x, alpha)
    if outer != 1:
        y = y * outer
    return y if clamp is None else y.clamp(-clamp, clamp)


class _LeakyClamp(torch.autograd.Function):
    """clamp(leaky_relu(x)), which keeps only its output for the gradient (both masks can be read off it)."""

    @staticmethod
    def forward(ctx, x, slope, clamp):
        y = F.leaky_relu(x, slope)
        if clamp is not None:
            y.clamp_(-clamp, clamp)
        ctx.save_for_backward(y)
        ctx.slope, ctx.clamp = slope, clamp
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        y = y.detach()  # the masks are constant almost everywhere
        grad = torch.ops.aten.leaky_relu_backward(grad, y, ctx.slope, True)
        if ctx.clamp is not None:
            grad = torch.ops.aten.hardtanh_backward(grad, y, -ctx.clamp, ctx.clamp)
        return grad, None, None


def upfirdn2d(x, f, up, down, padding, flip_filter, gain):
    """See `reference.upfirdn2d`."""
    if f is None:
        f = x.new_ones(1, 1)
    f = f.to(x.dtype)
    if f.ndim == 1:
        passes = [(f[:, None], f[None, :] * gain)]
    elif f.numel() <= _SMALL_FILTER:
        return _fir(x, f * gain, up, down, padding, flip_filter)
    else:
        terms = separable_terms(f)
        if len(terms) * sum(f.shape) >= f.numel():
            return _fir(x, f * gain, up, down, padding, flip_filter)
        passes = [(column[:, None], row[None, :] * gain) for column, row in terms]
    x0, x1, y0, y1 = padding
    total = None
    for column, row in passes:
        y = _fir(x, row, (up[0], 1), (down[0], 1), (x0, x1, 0, 0), flip_filter)
        y = _fir(y, column, (1, up[1]), (1, down[1]), (0, 0, y0, y1), flip_filter)
        total = y if total is None else total + y
    return total


def _fir(x, f, up, down, padding, flip_filter):
    """One depthwise pass of filter f [kh, kw] over x [B, C, H, W]."""
    if up == (1, 1):
        return _correlate(x, f if flip_filter else f.flip([0, 1]), down, padding)
    y = _convolve_upsampled(x, f.flip([0, 1]) if flip_filter else f, up, padding)
    return y if down == (1, 1) else y[:, :, :: down[1], :: down[0]]


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
    """Depthwise transposed convolution, cropped to what zero-insertion, padding and a valid convolution give."""
    x0, x1, y0, y1 = padding
    (kh, kw), channels = kernel.shape, x.shape[1]
    # The transposed convolution returns the full response: k - 1 - before more pixels in front, k - up - after behind.
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


def filtered_lrelu(x, fu, fd, b, up, down, padding, gain, slope, clamp, flip_filter):
    """See `reference.filtered_lrelu`. The activation's gain rides on the upsampling filter."""
    if b is not None:
        x = x + b.to(x.dtype).reshape(1, -1, 1, 1)
    x = upfirdn2d(x, fu, (up, up), (1, 1), padding, flip_filter, up**2 * gain)
    x = _LeakyClamp.apply(x, slope, clamp)
    return upfirdn2d(x, fd, (1, 1), (down, down), (0, 0, 0, 0), flip_filter, 1.0)


def conv2d_resample(x, w, f, up, down, padding, flip_weight):
    """See `reference.conv2d_resample`. The convolution always runs at the lower resolution."""
    kh, kw = w.shape[2:]
    w = w.to(x.dtype)
    if up > 1:
        padding = upsampling_padding(f, (up, up), padding)
    if down > 1:
        padding = downsampling_padding(f, (down, down), padding)
    no_padding, no_factor = (0, 0, 0, 0), (1, 1)
    if not flip_weight and (kh, kw) != (1, 1) and up == 1:
        w = w.flip([2, 3])
    if up == 1 and down == 1:
        x0, x1, y0, y1 = padding
        if x0 == x1 >= 0 and y0 == y1 >= 0:
            return F.conv2d(x, w, padding=(y0, x0))
        return F.conv2d(_pad(x, padding), w)
    if up == 1:  # filter, then convolve only where a pixel is kept
        if (kh, kw) == (1, 1):
            return F.conv2d(upfirdn2d(x, f, no_factor, (down, down), padding, False, 1.0), w)
        return F.conv2d(upfirdn2d(x, f, no_factor, no_factor, padding, False, 1.0), w, stride=down)
    if (kh, kw) == (1, 1):
        x = upfirdn2d(F.conv2d(x, w), f, (up, up), no_factor, padding, False, float(up**2))
    else:
        x = F.conv_transpose2d(x, (w.flip([2, 3]) if flip_weight else w).transpose(0, 1), stride=up)
        x0, x1, y0, y1 = (
            padding  # the transposed convolution has padded by k - 1 and left out the last up - 1 zeros
        )
        rest = (x0 - kw + 1, x1 - kw + up, y0 - kh + 1, y1 - kh + up)
        x = upfirdn2d(x, f, no_factor, no_factor, rest, False, float(up**2))
    if down > 1:
        x = upfirdn2d(x, f, no_factor, (down, down), no_padding, False, 1.0)
    return x


def modulated_conv2d(x, w, s, f, up, padding, flip_weight, demodulate, input_gain, noise):
    """See `reference.modulated_conv2d`: (sum_i w_oi s_i x_i) d_o instead of sum_i (w_oi s_i d_o) x_i."""
    if (
        x.dtype == torch.float16 and demodulate
    ):  # keep half precision in range; demodulation cancels both factors
        w = w / w.abs().amax([1, 2, 3], keepdim=True)
        s = s / s.abs().amax(1, keepdim=True)
    scale = s if input_gain is None else s * input_gain
    y = conv2d_resample(x * scale.to(x.dtype)[:, :, None, None], w, f, up, 1, padding, flip_weight)
    if demodulate:
        d = (s.square() @ w.square().sum([2, 3]).T + DEMODULATION_EPS).rsqrt().to(x.dtype)[:, :, None, None]
        return y * d if noise is None else torch.addcmul(noise.to(x.dtype), y, d)
    return y if noise is None else y + noise.to(x.dtype)
