"""Dual TV-L1 optical flow in Triton, batched over pairs: the algorithm of `tvl1_torch.py` on a CUDA GPU.

The iterations of a warp are the work. A launch does several of them on tiles that overlap by a halo: state and
coefficients are read once, neighbors are exchanged inside the tile, and only its middle is written. The host never
waits for the device: a launch sees by the sums of squared changes of the launch before that a pair has converged, and
does nothing else for it. Tiles add up these sums in integers: in whatever order they come, the sum is the same.

A kernel is compiled once for all sizes of frames: nothing of its arguments is a constant that depends on them.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from hrpro_pipeline.extract.flow.tvl1_torch import (
    EPSILON,
    INNER_ITERATIONS,
    LAMBDA,
    OUTER_ITERATIONS,
    SCALE_STEP,
    TAU,
    THETA,
    TINY_GRADIENT,
    WARPS,
    Variant,
    centered_gradient,
    enlarge,
    pyramid,
)

# Iterations of a launch, and the sides of a tile with its halo of as many pixels on each side: as much as stays in the
# registers of eight warps.
FUSED = 5
assert INNER_ITERATIONS % FUSED == 0, "a median comes between launches, not inside of one"
_TILE_HEIGHT, _TILE_WIDTH, _WARPS = 32, 64, 8
_BLOCK = 256


def tvl1_pairs(first: Tensor, second: Tensor, variant: Variant = "opencv") -> Tensor:
    """Flow from `first` to `second`, gray float32 images [B, H, W] on a CUDA device -> [B, 2, H, W].

    As `tvl1_torch.tvl1_pairs`, without its checks: `flow.tvl1` makes them.
    """
    return _coarse_to_fine(pyramid(first, variant), pyramid(second, variant), variant)


def tvl1_frames(frames: Tensor, variant: Variant = "opencv") -> Tensor:
    """Flow from each frame to the next, [N, H, W] -> [N - 1, 2, H, W]: `tvl1_pairs`, but each pyramid is built once."""
    levels = pyramid(frames, variant)
    return _coarse_to_fine([level[:-1] for level in levels], [level[1:] for level in levels], variant)


def _coarse_to_fine(first: Sequence[Tensor], second: Sequence[Tensor], variant: Variant) -> Tensor:
    flow = torch.zeros_like(first[-1])[:, None].repeat(1, 2, 1, 1)
    for level in reversed(range(len(first))):
        flow = _refine(first[level], second[level], flow, variant)
        if level > 0:
            flow = enlarge(flow, first[level - 1].shape[1:], variant) / SCALE_STEP
    return flow


def _refine(first: Tensor, second: Tensor, flow: Tensor, variant: Variant) -> Tensor:
    """All warps of one scale: images [B, H, W] and a first flow [B, 2, H, W] -> the flow."""
    batch, height, width = first.shape
    images = torch.cat([second[:, None], centered_gradient(second)], dim=1).contiguous()  # [B, 3, H, W]
    # u and p: [two buffers, B, (u x, u y, p xx, p xy, p yx, p yy), H, W]; a launch reads one and writes the other.
    state = flow.new_zeros(2, batch, 6, height, width)
    state[0, :, :2] = flow
    smoothed = torch.empty_like(flow)
    coefficients = flow.new_empty(batch, 3, height, width)
    tiles = triton.cdiv(height, _TILE_HEIGHT - 2 * FUSED) * triton.cdiv(width, _TILE_WIDTH - 2 * FUSED)
    inner = INNER_ITERATIONS // FUSED
    launches = OUTER_ITERATIONS * inner + 1  # the last one only mends what the one before has overshot
    pixels = (triton.cdiv(height * width, _BLOCK), batch)
    limit = EPSILON**2 * height * width
    first = first.contiguous()
    for _ in range(WARPS):
        # Nothing is fused, as in OpenCV: warps multiply a rounding error by hundreds where images are flat or noisy.
        _warp[pixels](images, first, state, coefficients, height, width, variant == "opencv",
                      BLOCK=_BLOCK, enable_fp_fusion=False)  # fmt: skip
        # Of each launch and pair: sums of squared changes by iteration, and 1 if the pair took part.
        changes = flow.new_zeros(launches + 1, batch, FUSED + 1, dtype=torch.int64)
        changes[0] = 2**62
        for launch in range(launches):
            smooths = variant == "opencv" and launch % inner == 0
            if smooths and launch < launches - 1:
                source = state[launch % 2]
                _median[pixels](source, smoothed, changes[launch], height, width, limit, FUSED=FUSED, BLOCK=_BLOCK)
            _iterate[(tiles, batch)](
                state,
                state.stride(0),
                smoothed,
                coefficients,
                changes[launch],
                changes[launch + 1],
                height,
                width,
                limit,
                launch % 2,
                int(launch == launches - 1),
                int(smooths),
                int(variant == "opencv" and (launch - 1) % inner == 0),
                L=LAMBDA * THETA,
                STEP=TAU / THETA,
                THETA=THETA,
                TINY=TINY_GRADIENT,
                FUSED=FUSED,
                HEIGHT=_TILE_HEIGHT,
                WIDTH=_TILE_WIDTH,
                num_warps=_WARPS,
                enable_fp_fusion=False,
            )
        # What a pair has reached lies in the buffer that its last launch wrote.
        done = changes[1:, :, FUSED].sum(dim=0)  # [B]
        odd = (done % 2 == 1)[:, None, None, None]
        state[0] = torch.where(odd, state[1], state[0])
    return state[0, :, :2].clone()


@triton.jit
def _cubic_opencv(x):  # type: ignore[no-untyped-def]
    """Cubic kernel with A = -0.75 at a distance of 0 to 2."""
    near = (1.25 * x - 2.25) * x * x + 1.0
    far = ((-0.75 * x + 3.75) * x - 6.0) * x + 3.0
    return tl.where(x <= 1, near, far)


@triton.jit
def _cubic_catmull_rom(x):  # type: ignore[no-untyped-def]
    """Cubic kernel with A = -0.5 at a distance of 0 to 2."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return tl.where(x <= 1, near, far)


# By default a kernel is compiled again for numbers that are 1 or divide by 16, and for arrays that start at odd places.
@triton.jit(
    do_not_specialize=["height", "width"],
    do_not_specialize_on_alignment=["images", "first", "state", "coefficients"],
)
def _warp(  # type: ignore[no-untyped-def]
    images,
    first,
    state,
    coefficients,
    height,
    width,
    zero_outside: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Second image and its gradient at x + u, and what the iterations need of them: rho without its u term, Ix, Iy."""
    pair = tl.program_id(1).to(tl.int64)
    pixels = height * width
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < pixels
    y, x = index // width, index % width
    flow_x = tl.load(state + pair * 6 * pixels + index, mask=inside, other=0.0)
    flow_y = tl.load(state + (pair * 6 + 1) * pixels + index, mask=inside, other=0.0)
    at_x, at_y = x + flow_x, y + flow_y
    left, top = tl.floor(at_x), tl.floor(at_y)
    warped = tl.zeros([BLOCK], tl.float32)
    gradient_x = tl.zeros([BLOCK], tl.float32)
    gradient_y = tl.zeros([BLOCK], tl.float32)
    for i in tl.static_range(4):
        row = top - 1 + i
        for j in tl.static_range(4):
            column = left - 1 + j
            if zero_outside:
                weight = _cubic_opencv(tl.abs(at_y - row)) * _cubic_opencv(tl.abs(at_x - column))
                valid = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
            else:
                weight = _cubic_catmull_rom(tl.abs(at_y - row)) * _cubic_catmull_rom(tl.abs(at_x - column))
                valid = inside
            near_row = tl.minimum(tl.maximum(row, 0.0), height - 1.0).to(tl.int32)
            near_column = tl.minimum(tl.maximum(column, 0.0), width - 1.0).to(tl.int32)
            source = images + pair * 3 * pixels + near_row * width + near_column
            warped += weight * tl.load(source, mask=valid, other=0.0)
            gradient_x += weight * tl.load(source + pixels, mask=valid, other=0.0)
            gradient_y += weight * tl.load(source + 2 * pixels, mask=valid, other=0.0)
    constant = warped - gradient_x * flow_x - gradient_y * flow_y
    constant -= tl.load(first + pair * pixels + index, mask=inside, other=0.0)
    target = coefficients + pair * 3 * pixels + index
    tl.store(target, constant, mask=inside)
    tl.store(target + pixels, gradient_x, mask=inside)
    tl.store(target + 2 * pixels, gradient_y, mask=inside)


@triton.jit
def _fixed_point(change):  # type: ignore[no-untyped-def]
    """Squared pixels as int64, 2**30 to one: exact for what matters. More than 2**16 is above any limit, as is NaN."""
    return (tl.where(change < 65536.0, change, 65536.0) * 1073741824.0).to(tl.int64)


@triton.jit
def _iterations_to_keep(changes, pair, limit, FUSED: tl.constexpr):  # type: ignore[no-untyped-def]
    """Of the launch before, for a pair: 0 while it goes on, else how many iterations count; -1 if it had none."""
    own = changes + pair * (FUSED + 1)
    count = 0
    for turn in tl.static_range(FUSED - 1, -1, -1):
        change = tl.load(own + turn).to(tl.float32) / 1073741824.0
        count = tl.where(change <= limit, turn + 1, count)
    return tl.where(tl.load(own + FUSED) == 0, -1, count)


@triton.jit(
    do_not_specialize=[
        *("buffer_stride", "height", "width", "limit"),
        *("source_buffer", "only_mends", "from_smoothed", "before_from_smoothed"),
    ],
    do_not_specialize_on_alignment=["state", "smoothed", "coefficients", "changes_before", "changes"],
)
def _iterate(  # type: ignore[no-untyped-def]
    state,
    buffer_stride,
    smoothed,
    coefficients,
    changes_before,
    changes,
    height,
    width,
    limit,
    source_buffer,
    only_mends,
    from_smoothed,
    before_from_smoothed,
    L: tl.constexpr,
    STEP: tl.constexpr,
    THETA: tl.constexpr,
    TINY: tl.constexpr,
    FUSED: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """FUSED primal and dual steps of a tile; or, where the launch before went past convergence, its steps up to it."""
    pair = tl.program_id(1).to(tl.int64)
    to_keep = _iterations_to_keep(changes_before, pair, limit, FUSED)
    goes_on = (to_keep == 0) & (only_mends == 0)
    mends = (to_keep > 0) & (to_keep < FUSED)
    if goes_on | mends:
        # The launch before wrote what is now the source; what it read is still there.
        source = tl.where(mends, 1 - source_buffer, source_buffer)
        count = tl.where(mends, to_keep, FUSED)
        smooth = tl.where(mends, before_from_smoothed, from_smoothed)
        pixels = height * width
        across = tl.cdiv(width, WIDTH - 2 * FUSED)
        tile = tl.program_id(0)
        y = (tile // across) * (HEIGHT - 2 * FUSED) - FUSED + tl.arange(0, HEIGHT)[:, None]
        x = (tile % across) * (WIDTH - 2 * FUSED) - FUSED + tl.arange(0, WIDTH)[None, :]
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        at = y * width + x
        pair_state = state + source * buffer_stride + pair * 6 * pixels + at
        smooth_flow = smoothed + pair * 2 * pixels + at
        ux = tl.load(pair_state, mask=inside & (smooth == 0), other=0.0)
        uy = tl.load(pair_state + pixels, mask=inside & (smooth == 0), other=0.0)
        ux += tl.load(smooth_flow, mask=inside & (smooth != 0), other=0.0)
        uy += tl.load(smooth_flow + pixels, mask=inside & (smooth != 0), other=0.0)
        pxx = tl.load(pair_state + 2 * pixels, mask=inside, other=0.0)
        pxy = tl.load(pair_state + 3 * pixels, mask=inside, other=0.0)
        pyx = tl.load(pair_state + 4 * pixels, mask=inside, other=0.0)
        pyy = tl.load(pair_state + 5 * pixels, mask=inside, other=0.0)
        given = coefficients + pair * 3 * pixels + at
        constant = tl.load(given, mask=inside, other=0.0)
        gx = tl.load(given + pixels, mask=inside, other=0.0)
        gy = tl.load(given + 2 * pixels, mask=inside, other=0.0)
        squared = gx * gx + gy * gy
        far = L * squared

        zero = tl.zeros([HEIGHT, WIDTH], tl.int32)
        rows, columns = tl.arange(0, HEIGHT)[:, None] + zero, tl.arange(0, WIDTH)[None, :] + zero
        left, right = tl.maximum(columns - 1, 0), tl.minimum(columns + 1, WIDTH - 1)
        above, below = tl.maximum(rows - 1, 0), tl.minimum(rows + 1, HEIGHT - 1)
        middle = inside & (rows >= FUSED) & (rows < HEIGHT - FUSED) & (columns >= FUSED) & (columns < WIDTH - FUSED)
        own_changes = changes + pair * (FUSED + 1)
        if goes_on & (tile == 0):
            tl.store(own_changes + FUSED, 1)
        has_right, has_below = inside & (x < width - 1), inside & (y < height - 1)
        for turn in range(count):
            rho = constant + (gx * ux + gy * uy)
            step = tl.where(squared > TINY, tl.div_rn(-rho, tl.where(squared > TINY, squared, 1.0)), 0.0)
            step = tl.where(rho < -far, L, tl.where(rho > far, -L, step))
            # Outside the image p is 0, so that the first row and column take the value itself.
            vx = ux + step * gx + THETA * ((pxx - tl.gather(pxx, left, 1)) + (pxy - tl.gather(pxy, above, 0)))
            vy = uy + step * gy + THETA * ((pyx - tl.gather(pyx, left, 1)) + (pyy - tl.gather(pyy, above, 0)))
            move_x, move_y = tl.where(inside, vx - ux, 0.0), tl.where(inside, vy - uy, 0.0)
            ux, uy = tl.where(inside, vx, 0.0), tl.where(inside, vy, 0.0)
            if goes_on:
                change = tl.sum(tl.sum(tl.where(middle, move_x * move_x + move_y * move_y, 0.0), axis=1))
                tl.atomic_add(own_changes + turn, _fixed_point(change), sem="relaxed")
            slope = tl.where(has_right, tl.gather(ux, right, 1) - ux, 0.0)
            slope_down = tl.where(has_below, tl.gather(ux, below, 0) - ux, 0.0)
            grown = 1.0 + STEP * tl.sqrt_rn(slope * slope + slope_down * slope_down)
            pxx, pxy = tl.div_rn(pxx + STEP * slope, grown), tl.div_rn(pxy + STEP * slope_down, grown)
            slope = tl.where(has_right, tl.gather(uy, right, 1) - uy, 0.0)
            slope_down = tl.where(has_below, tl.gather(uy, below, 0) - uy, 0.0)
            grown = 1.0 + STEP * tl.sqrt_rn(slope * slope + slope_down * slope_down)
            pyx, pyy = tl.div_rn(pyx + STEP * slope, grown), tl.div_rn(pyy + STEP * slope_down, grown)
        target = state + (1 - source) * buffer_stride + pair * 6 * pixels + at
        tl.store(target, ux, mask=middle)
        tl.store(target + pixels, uy, mask=middle)
        tl.store(target + 2 * pixels, pxx, mask=middle)
        tl.store(target + 3 * pixels, pxy, mask=middle)
        tl.store(target + 4 * pixels, pyx, mask=middle)
        tl.store(target + 5 * pixels, pyy, mask=middle)


@triton.jit
def _sort2(a, b):  # type: ignore[no-untyped-def]
    return tl.minimum(a, b), tl.maximum(a, b)


@triton.jit
def _sort5(a, b, c, d, e):  # type: ignore[no-untyped-def]
    a, b = _sort2(a, b)
    d, e = _sort2(d, e)
    c, e = _sort2(c, e)
    c, d = _sort2(c, d)
    b, e = _sort2(b, e)
    a, d = _sort2(a, d)
    a, c = _sort2(a, c)
    b, d = _sort2(b, d)
    b, c = _sort2(b, c)
    return a, b, c, d, e


@triton.jit
def _median13(a, b, c, d, e, f, g, h, i, j, k, l, m):  # type: ignore[no-untyped-def]  # noqa: E741
    """Of any half plus two values, the least and the greatest cannot be the median: drop them, take the next one in."""
    # 8 of 13: least to a, greatest to h.
    a, b = _sort2(a, b)
    c, d = _sort2(c, d)
    e, f = _sort2(e, f)
    g, h = _sort2(g, h)
    a, c = _sort2(a, c)
    e, g = _sort2(e, g)
    a, e = _sort2(a, e)
    b, d = _sort2(b, d)
    f, h = _sort2(f, h)
    d, h = _sort2(d, h)
    # 7: b c d e f g and i; least to b, greatest to i.
    b, c = _sort2(b, c)
    d, e = _sort2(d, e)
    f, g = _sort2(f, g)
    b, d = _sort2(b, d)
    b, f = _sort2(b, f)
    c, e = _sort2(c, e)
    e, g = _sort2(e, g)
    b, i = _sort2(b, i)
    g, i = _sort2(g, i)
    # 6: c d e f g and j.
    c, d = _sort2(c, d)
    e, f = _sort2(e, f)
    g, j = _sort2(g, j)
    c, e = _sort2(c, e)
    c, g = _sort2(c, g)
    d, f = _sort2(d, f)
    f, j = _sort2(f, j)
    # 5: d e f g and k.
    d, e = _sort2(d, e)
    f, g = _sort2(f, g)
    d, f = _sort2(d, f)
    e, g = _sort2(e, g)
    d, k = _sort2(d, k)
    g, k = _sort2(g, k)
    # 4: e f g and l.
    e, f = _sort2(e, f)
    g, l = _sort2(g, l)  # noqa: E741
    e, g = _sort2(e, g)
    f, l = _sort2(f, l)  # noqa: E741
    # 3: f g and m.
    f, g = _sort2(f, g)
    f, m = _sort2(f, m)
    return tl.minimum(g, m)


@triton.jit
def _column(image, y, x, height, width, inside, dx: tl.constexpr):  # type: ignore[no-untyped-def]
    """Five values of a column, sorted; edges repeated."""
    column = tl.minimum(tl.maximum(x + dx, 0), width - 1)
    a = tl.load(image + tl.maximum(y - 2, 0) * width + column, mask=inside, other=0.0)
    b = tl.load(image + tl.maximum(y - 1, 0) * width + column, mask=inside, other=0.0)
    c = tl.load(image + y * width + column, mask=inside, other=0.0)
    d = tl.load(image + tl.minimum(y + 1, height - 1) * width + column, mask=inside, other=0.0)
    e = tl.load(image + tl.minimum(y + 2, height - 1) * width + column, mask=inside, other=0.0)
    return _sort5(a, b, c, d, e)


@triton.jit(
    do_not_specialize=["height", "width", "limit"],
    do_not_specialize_on_alignment=["state", "smoothed", "changes"],
)
def _median(  # type: ignore[no-untyped-def]
    state,
    smoothed,
    changes,
    height,
    width,
    limit,
    FUSED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Median over 5 x 5 pixels of both components of the flow in a buffer, for pairs that go on."""
    pair = tl.program_id(1).to(tl.int64)
    if _iterations_to_keep(changes, pair, limit, FUSED) == 0:
        pixels = height * width
        index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        inside = index < pixels
        y, x = index // width, index % width
        for component in tl.static_range(2):
            image = state + (pair * 6 + component) * pixels
            a0, a1, a2, a3, a4 = _column(image, y, x, height, width, inside, -2)
            b0, b1, b2, b3, b4 = _column(image, y, x, height, width, inside, -1)
            c0, c1, c2, c3, c4 = _column(image, y, x, height, width, inside, 0)
            d0, d1, d2, d3, d4 = _column(image, y, x, height, width, inside, 1)
            e0, e1, e2, e3, e4 = _column(image, y, x, height, width, inside, 2)
            a0, b0, c0, d0, e0 = _sort5(a0, b0, c0, d0, e0)
            a1, b1, c1, d1, e1 = _sort5(a1, b1, c1, d1, e1)
            a2, b2, c2, d2, e2 = _sort5(a2, b2, c2, d2, e2)
            a3, b3, c3, d3, e3 = _sort5(a3, b3, c3, d3, e3)
            a4, b4, c4, d4, e4 = _sort5(a4, b4, c4, d4, e4)
            # With rows and columns sorted, only these thirteen can be the median: the others have more than twelve
            # values on one side, six of them on each.
            median = _median13(e0, d1, e1, c2, d2, b2, b3, c3, a3, a4, b4, d0, c1)
            tl.store(smoothed + (pair * 2 + component) * pixels + index, median, mask=inside)
