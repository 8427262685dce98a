"""GPU kernels in Triton. The very same source runs on CPU tensors when TRITON_INTERPRET=1 was set before the
import.

Resampling is written as a product with a banded matrix: output sample r receives tap `c * up + pad - r *
down` of input sample c. A tile of the image then needs matrix products only, which is what tensor cores do
best, no zero is ever inserted, and the signal at the raised rate of `filtered_lrelu` lives in registers.
Filters of higher rank are sums of such separable terms. Multiplying by the zeros of a band would let one NaN
poison its whole tile, so non-finite samples take a path of their own that only touches what their taps reach
(`_product`).

Arithmetic is float32 for float16 and float32 data (products of three tf32 parts, so float32-exact to about
1e-6), and float64 for float64 data.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _activate(v, ACT: tl.constexpr, ALPHA: tl.constexpr):
    """act(v)."""
    if ACT == "relu":
        v = tl.where(v <= 0, 0.0, v)  # NaN passes
    elif ACT == "lrelu":
        v = tl.where(v > 0, v, v * ALPHA)
    elif ACT == "tanh":
        v = 2 * tl.sigmoid(2 * v) - 1
    elif ACT == "sigmoid":
        v = tl.sigmoid(v)
    elif ACT == "elu":
        v = tl.where(v > 0, v, tl.exp(tl.where(v > 0, 0.0, v)) - 1)
    elif ACT == "selu":
        v = 1.0507009873554805 * tl.where(
            v > 0, v, 1.6732632423543772 * (tl.exp(tl.where(v > 0, 0.0, v)) - 1)
        )
    elif ACT == "softplus":
        v = tl.where(v > 20, v, tl.log(1 + tl.exp(tl.where(v > 20, 0.0, v))))
    elif ACT == "swish":
        v = v * tl.sigmoid(v)
    return v


@triton.jit
def _slope(v, ACT: tl.constexpr, ALPHA: tl.constexpr):
    """act'(v)."""
    s = tl.sigmoid(v)
    one = tl.full(v.shape, 1.0, v.dtype)
    if ACT == "relu":
        one = tl.where(v <= 0, 0.0, one)
    elif ACT == "lrelu":
        one = tl.where(v > 0, one, ALPHA)
    elif ACT == "tanh":
        t = 2 * tl.sigmoid(2 * v) - 1
        one = 1 - t * t
    elif ACT == "sigmoid":
        one = s * (1 - s)
    elif ACT == "elu":
        one = tl.where(v > 0, one, tl.exp(tl.where(v > 0, 0.0, v)))
    elif ACT == "selu":
        one = 1.0507009873554805 * tl.where(v > 0, one, 1.6732632423543772 * tl.exp(tl.where(v > 0, 0.0, v)))
    elif ACT == "softplus":
        one = tl.where(v > 20, one, s)
    elif ACT == "swish":
        one = s * (1 + v * (1 - s))
    return one


@triton.jit
def _limit(v, CLAMP: tl.constexpr):
    """clamp(v); NaN passes."""
    if CLAMP is not None:
        v = tl.where(v > CLAMP, CLAMP, tl.where(v < -CLAMP, -CLAMP, v))
    return v


@triton.jit
def tail_kernel(
    x,
    grad,
    scale,
    noise,
    bias,
    y,
    total,
    channels,
    pixels,
    channel_stride,
    pixel_stride,
    noise_images,
    ACT: tl.constexpr,
    ALPHA: tl.constexpr,
    GAIN: tl.constexpr,
    CLAMP: tl.constexpr,
    ACC: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """y = clamp(GAIN act(v)) with v = scale x + noise + bias; given a gradient, y = grad times the derivative
    at v.

    All arrays are walked in the order of x in memory; strides say where channel and pixel are in it. scale
    [B, C], noise [noise_images, pixels] and bias [C] may be None. WIDE: more than 2^31 elements.
    """
    block = tl.program_id(0)
    if WIDE:
        block = block.to(tl.int64)
    i = block * BLOCK + tl.arange(0, BLOCK)
    inside = i < total
    channel = (i // channel_stride) % channels
    sample = i // (channels * pixels)
    v = tl.load(x + i, mask=inside, other=0.0).to(ACC)
    if scale is not None:
        v *= tl.load(scale + sample * channels + channel, mask=inside, other=0.0).to(ACC)
    if noise is not None:
        pixel = (i // pixel_stride) % pixels
        v += tl.load(noise + (sample % noise_images) * pixels + pixel, mask=inside, other=0.0).to(ACC)
    if bias is not None:
        v += tl.load(bias + channel, mask=inside, other=0.0).to(ACC)
    result = _activate(v, ACT, ALPHA) * GAIN
    if grad is None:
        result = _limit(result, CLAMP)
    else:
        g = tl.load(grad + i, mask=inside, other=0.0).to(ACC)
        g *= _slope(v, ACT, ALPHA) * GAIN
        if CLAMP is not None:
            g = tl.where((result >= -CLAMP) & (result <= CLAMP), g, 0.0)
        result = g
    tl.store(y + i, result.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _floor(a, b: tl.constexpr):
    """floor(a / b) for a of either sign; integer division rounds towards zero on a GPU."""
    return (a + b * 65536) // b - 65536


@triton.jit
def _band(
    taps,
    row,
    col,
    pad,
    UP: tl.constexpr,
    DOWN: tl.constexpr,
    TAPS: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
):
    """Banded matrix [R, C] that takes input samples col.. to output samples row..; and where its band is."""
    tap = (col + tl.arange(0, C))[None, :] * UP + pad - (row + tl.arange(0, R))[:, None] * DOWN
    inside = (tap >= 0) & (tap < TAPS)
    return tl.load(taps + tap, mask=inside, other=0.0), inside


@triton.jit
def _product(band, inside, x, ACC: tl.constexpr):
    """band @ x, in which a non-finite sample of x reaches no further than the band does."""
    bad = (x - x) != 0
    y = tl.dot(band, tl.where(bad, 0.0, x).to(band.dtype), input_precision="tf32x3", out_dtype=ACC)
    if tl.max(bad.to(tl.int32)) > 0:
        # Infinities of one sign add up, of both signs make NaN, as do NaN itself and 0 times infinity.
        sign = tl.where(bad, tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, 0.0)), 0.0).to(tl.float16)
        taps = tl.where(band > 0, 1.0, tl.where(band < 0, -1.0, 0.0)).to(tl.float16)
        balance = tl.dot(taps, sign, out_dtype=tl.float32)
        count = tl.dot(inside.to(tl.float16), bad.to(tl.float16), out_dtype=tl.float32)
        infinite = tl.where(balance == count, float("inf"), float("-inf"))
        poison = tl.where(tl.abs(balance) == count, infinite, float("nan"))
        y += tl.where(count > 0, poison, 0.0).to(ACC)
    return y


@triton.jit
def _both(wy, iny, wx, inx, x, ACC: tl.constexpr):
    """wy @ x @ wx^T, in the precision of accumulation."""
    y = _product(wy, iny, x, ACC).to(x.dtype)
    return tl.trans(_product(wx, inx, tl.trans(y), ACC))


@triton.jit
def _patch(x, row, col, height, width, stride_h, stride_w, R: tl.constexpr, C: tl.constexpr):
    """Addresses of an [R, C] patch of a plane that starts at (row, col), and which of them are inside."""
    rows, cols = row + tl.arange(0, R), col + tl.arange(0, C)
    at = x + rows[:, None].to(tl.int64) * stride_h + cols[None, :].to(tl.int64) * stride_w
    inside = ((rows >= 0) & (rows < height))[:, None] & ((cols >= 0) & (cols < width))[None, :]
    return at, inside


@triton.jit
def _place(channels, tiles_y, tiles_x, GROUP: tl.constexpr):
    """Which tile, sample and first channel this program works on; neighbouring programs take neighbouring
    tiles."""
    i = tl.program_id(0)
    groups = (channels + GROUP - 1) // GROUP
    tile_x, i = i % tiles_x, i // tiles_x
    tile_y, i = i % tiles_y, i // tiles_y
    return tile_y, tile_x, (i // groups).to(tl.int64), (i % groups) * GROUP


@triton.jit
def _resample(
    x,
    wy,
    iny,
    wx,
    inx,
    fy,
    fx,
    row,
    col,
    in_row,
    in_col,
    pad_y,
    pad_x,
    UP_Y: tl.constexpr,
    UP_X: tl.constexpr,
    DOWN_Y: tl.constexpr,
    DOWN_X: tl.constexpr,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    RANK: tl.constexpr,
    ACC: tl.constexpr,
):
    """Resample a tile by the sum of RANK separable filters, of which the first's matrices are given."""
    R: tl.constexpr = wy.shape[0]
    C: tl.constexpr = wx.shape[0]
    total = _both(wy, iny, wx, inx, x, ACC)
    for r in tl.static_range(1, RANK):
        ry, riny = _band(fy + r * TAPS_Y, row, in_row, pad_y, UP_Y, DOWN_Y, TAPS_Y, R, x.shape[0])
        rx, rinx = _band(fx + r * TAPS_X, col, in_col, pad_x, UP_X, DOWN_X, TAPS_X, C, x.shape[1])
        total += _both(ry, riny, rx, rinx, x, ACC)
    return total


@triton.jit
def upfirdn2d_kernel(
    x,
    y,
    fy,
    fx,
    channels,
    height,
    width,
    out_height,
    out_width,
    x_n,
    x_c,
    x_h,
    x_w,
    y_n,
    y_c,
    y_h,
    y_w,
    pad_y,
    pad_x,
    tiles_y,
    tiles_x,
    UP_Y: tl.constexpr,
    UP_X: tl.constexpr,
    DOWN_Y: tl.constexpr,
    DOWN_X: tl.constexpr,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    RANK: tl.constexpr,
    TILE_Y: tl.constexpr,
    TILE_X: tl.constexpr,
    IN_Y: tl.constexpr,
    IN_X: tl.constexpr,
    OUT_Y: tl.constexpr,
    OUT_X: tl.constexpr,
    GROUP: tl.constexpr,
    ACC: tl.constexpr,
):
    """upfirdn2d of one tile, for GROUP channels; fy [RANK, TAPS_Y] and fx [RANK, TAPS_X] correlate.

    A tile has TILE results along each axis, in blocks OUT, made of input blocks IN (powers of two that hold
    them).
    """
    tile_y, tile_x, sample, first = _place(channels, tiles_y, tiles_x, GROUP)
    row, col = tile_y * TILE_Y, tile_x * TILE_X
    in_row, in_col = _floor(row * DOWN_Y - pad_y, UP_Y), _floor(col * DOWN_X - pad_x, UP_X)
    wy, iny = _band(fy, row, in_row, pad_y, UP_Y, DOWN_Y, TAPS_Y, OUT_Y, IN_Y)
    wx, inx = _band(fx, col, in_col, pad_x, UP_X, DOWN_X, TAPS_X, OUT_X, IN_X)
    x_at, x_in = _patch(x + sample * x_n, in_row, in_col, height, width, x_h, x_w, IN_Y, IN_X)
    end_row, end_col = tl.minimum(out_height, row + TILE_Y), tl.minimum(out_width, col + TILE_X)
    y_at, y_in = _patch(y + sample * y_n, row, col, end_row, end_col, y_h, y_w, OUT_Y, OUT_X)
    x_at += first.to(tl.int64) * x_c
    y_at += first.to(tl.int64) * y_c
    for _ in range(first, tl.minimum(first + GROUP, channels)):
        v = tl.load(x_at, mask=x_in, other=0.0)
        v = _resample(
            v,
            wy,
            iny,
            wx,
            inx,
            fy,
            fx,
            row,
            col,
            in_row,
            in_col,
            pad_y,
            pad_x,
            UP_Y,
            UP_X,
            DOWN_Y,
            DOWN_X,
            TAPS_Y,
            TAPS_X,
            RANK,
            ACC,
        )
        tl.store(y_at, v.to(y.dtype.element_ty), mask=y_in)
        x_at += x_c
        y_at += y_c


@triton.jit
def filtered_lrelu_kernel(
    x,
    scale,
    bias,
    grad,
    y,
    uy,
    ux,
    gy,
    gx,
    dy,
    dx,
    channels,
    height,
    width,
    grad_height,
    grad_width,
    out_height,
    out_width,
    x_n,
    x_c,
    x_h,
    x_w,
    g_n,
    g_c,
    g_h,
    g_w,
    y_n,
    y_c,
    y_h,
    y_w,
    up_pad_y,
    up_pad_x,
    grad_pad_y,
    grad_pad_x,
    down_pad_y,
    down_pad_x,
    tiles_y,
    tiles_x,
    UP: tl.constexpr,
    UP_TAPS_Y: tl.constexpr,
    UP_TAPS_X: tl.constexpr,
    UP_RANK: tl.constexpr,
    GRAD_UP: tl.constexpr,
    GRAD_TAPS_Y: tl.constexpr,
    GRAD_TAPS_X: tl.constexpr,
    GRAD_RANK: tl.constexpr,
    DOWN: tl.constexpr,
    DOWN_TAPS_Y: tl.constexpr,
    DOWN_TAPS_X: tl.constexpr,
    DOWN_RANK: tl.constexpr,
    GAIN: tl.constexpr,
    SLOPE: tl.constexpr,
    CLAMP: tl.constexpr,
    TILE_Y: tl.constexpr,
    TILE_X: tl.constexpr,
    IN_Y: tl.constexpr,
    IN_X: tl.constexpr,
    GRAD_Y: tl.constexpr,
    GRAD_X: tl.constexpr,
    MID_Y: tl.constexpr,
    MID_X: tl.constexpr,
    OUT_Y: tl.constexpr,
    OUT_X: tl.constexpr,
    GROUP: tl.constexpr,
    ACC: tl.constexpr,
):
    """One tile of filtered_lrelu, for GROUP channels; or of its derivative.

    s = up(scale x + bias), at the raised rate. Without a gradient: y = down(clamp(GAIN lrelu(s))). With one:
    y = down(m up(grad)), where m is the derivative of the activation at s. Both directions of differentiation
    are
    of this form: with the filters' roles exchanged it takes gradients of y to x, without it takes those of x
        to y.
    """
    tile_y, tile_x, sample, first = _place(channels, tiles_y, tiles_x, GROUP)
    row, col = tile_y * TILE_Y, tile_x * TILE_X
    mid_row, mid_col = row * DOWN - down_pad_y, col * DOWN - down_pad_x
    in_row, in_col = _floor(mid_row - up_pad_y, UP), _floor(mid_col - up_pad_x, UP)
    wuy, inuy = _band(uy, mid_row, in_row, up_pad_y, UP, 1, UP_TAPS_Y, MID_Y, IN_Y)
    wux, inux = _band(ux, mid_col, in_col, up_pad_x, UP, 1, UP_TAPS_X, MID_X, IN_X)
    wdy, indy = _band(dy, row, mid_row, down_pad_y, 1, DOWN, DOWN_TAPS_Y, OUT_Y, MID_Y)
    wdx, indx = _band(dx, col, mid_col, down_pad_x, 1, DOWN, DOWN_TAPS_X, OUT_X, MID_X)
    x_at, x_in = _patch(x + sample * x_n, in_row, in_col, height, width, x_h, x_w, IN_Y, IN_X)
    end_row, end_col = tl.minimum(out_height, row + TILE_Y), tl.minimum(out_width, col + TILE_X)
    y_at, y_in = _patch(y + sample * y_n, row, col, end_row, end_col, y_h, y_w, OUT_Y, OUT_X)
    x_at += first.to(tl.int64) * x_c
    y_at += first.to(tl.int64) * y_c
    at = sample * channels + first
    if grad is not None:
        g_row, g_col = _floor(mid_row - grad_pad_y, GRAD_UP), _floor(mid_col - grad_pad_x, GRAD_UP)
        wgy, ingy = _band(gy, mid_row, g_row, grad_pad_y, GRAD_UP, 1, GRAD_TAPS_Y, MID_Y, GRAD_Y)
        wgx, ingx = _band(gx, mid_col, g_col, grad_pad_x, GRAD_UP, 1, GRAD_TAPS_X, MID_X, GRAD_X)
        g_at, g_in = _patch(
            grad + sample * g_n, g_row, g_col, grad_height, grad_width, g_h, g_w, GRAD_Y, GRAD_X
        )
        g_at += first.to(tl.int64) * g_c
    for i in range(0, tl.minimum(GROUP, channels - first)):
        v = tl.load(x_at, mask=x_in, other=0.0).to(ACC)
        if scale is not None:
            v *= tl.load(scale + at + i).to(ACC)
        if bias is not None:
            v += tl.load(bias + first + i).to(ACC)
        v = tl.where(x_in, v, 0.0).to(x.dtype.element_ty)
        s = _resample(
            v,
            wuy,
            inuy,
            wux,
            inux,
            uy,
            ux,
            mid_row,
            mid_col,
            in_row,
            in_col,
            up_pad_y,
            up_pad_x,
            UP,
            UP,
            1,
            1,
            UP_TAPS_Y,
            UP_TAPS_X,
            UP_RANK,
            ACC,
        )
        a = _activate(s, "lrelu", SLOPE) * GAIN
        if grad is None:
            a = _limit(a, CLAMP)
        else:
            g = _resample(
                tl.load(g_at, mask=g_in, other=0.0),
                wgy,
                ingy,
                wgx,
                ingx,
                gy,
                gx,
                mid_row,
                mid_col,
                g_row,
                g_col,
                grad_pad_y,
                grad_pad_x,
                GRAD_UP,
                GRAD_UP,
                1,
                1,
                GRAD_TAPS_Y,
                GRAD_TAPS_X,
                GRAD_RANK,
                ACC,
            )
            g *= _slope(s, "lrelu", SLOPE) * GAIN
            if CLAMP is not None:
                g = tl.where((a >= -CLAMP) & (a <= CLAMP), g, 0.0)
            a = g
            g_at += g_c
        a = _resample(
            a.to(x.dtype.element_ty),
            wdy,
            indy,
            wdx,
            indx,
            dy,
            dx,
            row,
            col,
            mid_row,
            mid_col,
            down_pad_y,
            down_pad_x,
            1,
            1,
            DOWN,
            DOWN,
            DOWN_TAPS_Y,
            DOWN_TAPS_X,
            DOWN_RANK,
            ACC,
        )
        tl.store(y_at, a.to(y.dtype.element_ty), mask=y_in)
        x_at += x_c
        y_at += y_c
