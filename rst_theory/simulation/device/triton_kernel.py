# mypy: ignore-errors
"""The fused GPU kernel, in Triton: whole trajectories of separable problems without leaving the registers.

A program runs LANES replicas from x_0 to x_T. Coordinates come in pairs, as their noise does: pair j holds
coordinate 2j in a block `a` and 2j + 1 in a block `b`, both of shape (PAIRS, LANES). In the layout that
Triton gives such blocks replicas lie along threads and pairs along registers: while a replica fits into one
thread no number travels between threads, and the pairs that only pad PAIRS to a power of two are seen by the
compiler to be zero and vanish. Memory is touched for the parameters of a step and at measurements alone.

A family plugs in through two functions of a coordinate u and its coefficient c, phi and phi':
f(x) = sum_i phi(x_i, c_i).
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["quadratic", "quadratic_derivative", "rippled", "rippled_derivative", "trajectories"]


@triton.jit
def quadratic(u, c):
    """One half c u^2."""
    return 0.5 * c * u * u


@triton.jit
def quadratic_derivative(u, c):
    """Its derivative, c u."""
    return c * u


@triton.jit
def rippled(u, c):
    """One half u^2, and c sin(u)^2."""
    sine = tl.sin(u)
    return 0.5 * u * u + c * sine * sine


@triton.jit
def rippled_derivative(u, c):
    """Its derivative, u + c sin 2u."""
    return u + c * tl.sin(2 * u)


@triton.jit
def _fraction(high, low):
    """The leading 53 of the 64 bits of two words, int64."""
    return (high.to(tl.int64) << 21) | (low.to(tl.int64) >> 11)


@triton.jit
def _cosine_and_sine(v, ORDER: tl.constexpr):
    """The cosine and sine of 2 pi v, v = q/4 + z/(2 pi), |z| <= pi/4: Taylor's sums to z^(2 ORDER)."""
    quarter = tl.floor(4 * v + 0.5)
    z = 6.283185307179586 * (v - 0.25 * quarter)
    cosine = z * 0 + 1
    sine = cosine
    for k in tl.static_range(ORDER, 0, -1):
        cosine = 1 - cosine * (z * z * (1.0 / ((2 * k - 1) * (2 * k))))
        sine = 1 - sine * (z * z * (1.0 / ((2 * k) * (2 * k + 1))))
    sine *= z
    q = quarter.to(tl.int32)
    odd = (q & 1) != 0
    first = tl.where(odd, sine, cosine)
    second = tl.where(odd, cosine, sine)
    return tl.where(((q + 1) & 2) != 0, -first, first), tl.where((q & 2) != 0, -second, second)


@triton.jit
def _normals(seed, t, replica, pair, dtype: tl.constexpr):
    """Two standard normals for each pair of coordinates, as `philox` defines them."""
    w0, w1, w2, w3 = tl.philox(seed, t, replica, pair, 2)
    if dtype == tl.float64:
        u = (_fraction(w0, w1) + 1).to(tl.float64) * (2.0**-53)
        cosine, sine = _cosine_and_sine(_fraction(w2, w3).to(tl.float64) * (2.0**-53), 8)
    else:
        u = w0.to(tl.float32) * (2.0**-32) + 2.0**-33
        cosine, sine = _cosine_and_sine(w2.to(tl.float32) * (2.0**-32), 4)
    radius = tl.sqrt(-2 * tl.log(u))
    return radius * cosine, radius * sine


@triton.jit
def _scale(largest, dtype: tl.constexpr):
    """A power of two that brings gradients whose squares would leave the floating range back into it."""
    if dtype == tl.float64:
        return tl.where(largest > 2.0**450, 2.0**-600, tl.where(largest < 2.0**-450, 2.0**600, 1.0)).to(dtype)
    else:
        return tl.where(largest > 2.0**50, 2.0**-80, tl.where(largest < 2.0**-50, 2.0**100, 1.0)).to(dtype)


@triton.jit
def trajectories(
    samples,
    extra_pairs,
    start,
    center,
    coefficients,
    numbers,
    stops,
    eta,
    rho,
    gamma,
    threshold,
    comb,
    seed,
    first,
    n,
    K,
    VALUE: tl.constexpr,
    DERIVATIVE: tl.constexpr,
    D: tl.constexpr,
    PAIRS: tl.constexpr,
    LANES: tl.constexpr,
    NORMALIZED: tl.constexpr,
    SYSTEMATIC: tl.constexpr,
    NOISY: tl.constexpr,
    CENTERED: tl.constexpr,
):
    """Run and measure LANES replicas; arguments as `launch.run` gives them."""
    dtype: tl.constexpr = start.dtype.element_ty
    LAST: tl.constexpr = 0x1FFFFFFFFFFFFF  # 2^53 - 1
    lane = tl.program_id(0) * LANES + tl.arange(0, LANES)
    replica = tl.minimum(tl.load(first) + lane, 0xFFFFFFFF).to(tl.uint32)
    pair = tl.arange(0, PAIRS)[:, None]
    a = 2 * pair
    b = a + 1
    in_a = a < D
    in_b = b < D
    c_a = tl.load(coefficients + a, in_a, 0.0)
    c_b = tl.load(coefficients + b, in_b, 0.0)
    zeros = tl.zeros((PAIRS, LANES), dtype)
    x_a = tl.load(start + a, in_a, 0.0) + zeros
    x_b = tl.load(start + b, in_b, 0.0) + zeros
    noise = tl.load(numbers)
    f_star = tl.load(numbers + 1)
    key = tl.load(seed)
    high, low, _, _ = tl.philox(key, 0, 0, replica, 0)
    offset = _fraction(high, low)
    extra = tl.zeros((LANES,), tl.int64)
    at = samples + lane
    plane = tl.full((), 1, tl.int64) * K * n  # of one quantity; may exceed 2^31
    for k in range(K):
        for t in range(tl.load(stops + k), tl.load(stops + k + 1)):
            e = tl.load(eta + t)
            h = tl.load(rho + t)
            w = tl.load(gamma + t)
            if SYSTEMATIC:
                number = LAST - ((offset + tl.load(comb + t)) & LAST)
            else:
                high, low, _, _ = tl.philox(key, t, 0, replica, 0)
                number = _fraction(high, low)
            coin = number < tl.load(threshold + t)
            extra += coin.to(tl.int64)

            xi_a = zeros
            xi_b = zeros
            if NOISY:
                xi_a, xi_b = _normals(key, t, replica[None, :], pair, dtype)
                xi_a *= noise
                xi_b *= noise
            g_a = tl.where(in_a, DERIVATIVE(x_a, c_a) + xi_a, 0.0)
            g_b = tl.where(in_b, DERIVATIVE(x_b, c_b) + xi_b, 0.0)
            u_a = g_a
            u_b = g_b
            if NORMALIZED:
                scale = _scale(tl.max(tl.maximum(tl.abs(g_a), tl.abs(g_b)), 0), dtype)[None, :]
                u_a = g_a * scale
                u_b = g_b * scale
                length = tl.sqrt(tl.sum(u_a * u_a + u_b * u_b, 0))
                reach = tl.where(length > 0, h / length, 0.0)[None, :]
            else:
                reach = h
            d_a = DERIVATIVE(x_a + reach * u_a, c_a) + xi_a
            d_b = DERIVATIVE(x_b + reach * u_b, c_b) + xi_b
            if w != 1:
                d_a = (1 - w) * g_a + w * d_a
                d_b = (1 - w) * g_b + w * d_b
            x_a = tl.where(in_a, x_a - e * tl.where(coin[None, :], d_a, g_a), 0.0)
            x_b = tl.where(in_b, x_b - e * tl.where(coin[None, :], d_b, g_b), 0.0)

        g_a = tl.where(in_a, DERIVATIVE(x_a, c_a), 0.0)
        g_b = tl.where(in_b, DERIVATIVE(x_b, c_b), 0.0)
        v_a = tl.where(in_a, VALUE(x_a, c_a), 0.0)
        v_b = tl.where(in_b, VALUE(x_b, c_b), 0.0)
        tl.store(at, tl.sum(g_a * g_a + g_b * g_b, 0), lane < n)
        tl.store(at + plane, tl.sum(v_a + v_b, 0) - f_star, lane < n)
        if CENTERED:
            m_a = tl.where(in_a, x_a - tl.load(center + a, in_a, 0.0), 0.0)
            m_b = tl.where(in_b, x_b - tl.load(center + b, in_b, 0.0), 0.0)
            tl.store(at + 2 * plane, tl.sum(m_a * m_a + m_b * m_b, 0), lane < n)
        at += n
    tl.store(extra_pairs + lane, extra, lane < n)
