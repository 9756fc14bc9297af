"""Scalar arithmetic that LLVM turns into vector instructions: xoshiro256++, Philox, two normals.

Every function is branch-free, so that a loop over lanes becomes one over vector registers. Fused
multiply-adds are written out, never left to the compiler, so that the number of lanes changes no bit.

The polynomials are Chebyshev fits, made to 40 digits, of error below 3e-13 relative to the function:
    -4 (artanh(s)/s) for s^2 <= ((sqrt 2 - 1)/(sqrt 2 + 1))^2,
    sin(pi v/4)/v and cos(pi v/4) for v^2 <= 1.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["advance", "coin_word", "fma", "inlined", "leading_bits", "philox", "two_normals"]

inlined = njit(inline="always", error_model="numpy")
"""Inlined by Numba itself, before LLVM looks for loops to vectorise: worth a factor of two."""

Word: TypeAlias = Any  # np.uint64, in the compiler's eyes
Number: TypeAlias = Any  # np.float64

_I64 = ir.IntType(64)


@intrinsic
def fma(_: Any, a: Any, b: Any, c: Any) -> Any:
    """The product a b + c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


@intrinsic
def _rotate(_: Any, word: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        funnel = builder.module.declare_intrinsic(
            "llvm.fshl", [_I64], ir.FunctionType(_I64, [_I64, _I64, _I64])
        )
        return builder.call(funnel, [arguments[0], *arguments])

    return types.uint64(types.uint64, types.uint64), generate


@intrinsic
def _as_float(_: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.uint64), generate


@intrinsic
def _as_bits(_: Any, number: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _I64)

    return types.uint64(types.float64), generate


@inlined
def leading_bits(number: Number, shift: Word) -> Word:
    """The bits of a float from `shift` on."""
    return _as_bits(number) >> np.uint64(shift)


@inlined
def advance(s0: Word, s1: Word, s2: Word, s3: Word) -> tuple[Word, Word, Word, Word, Word]:
    """One step of xoshiro256++: the word, and the next state."""
    word = _rotate(s0 + s3, np.uint64(23)) + s0
    shifted = s1 << np.uint64(17)
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    s2 ^= shifted
    s3 = _rotate(s3, np.uint64(45))
    return word, s0, s1, s2, s3


_ONE = np.uint64(0x3FF0000000000000)
_HALF_ROOT = np.uint64(0x3FE6A09E667F3BCD)  # sqrt(1/2)
_FRACTION = np.uint64(0x000FFFFFFFFFFFFF)
_EXCHANGED = np.uint64(1 << 52)
_SIGN = np.uint64(1 << 63)
_MINUS_2_LN_2 = -2 * float(np.log(2.0))


@inlined
def _minus_2_log(u: Number) -> Number:
    """-2 ln u for u in (0, 1]: u = 2^k m with m in [sqrt(1/2), sqrt 2), s = (m - 1)/(m + 1)."""
    offset = _as_bits(u) - _HALF_ROOT
    k = float(np.int64(offset) >> np.int64(52))
    m = _as_float((offset & _FRACTION) + _HALF_ROOT)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    artanh = fma(z, 4 * -0.09681326857716614, 4 * -0.11095700415122568)
    artanh = fma(z, artanh, 4 * -0.14285877267957744)
    artanh = fma(z, artanh, 4 * -0.1999999939866879)
    artanh = fma(z, artanh, 4 * -0.3333333333368754)
    return fma(k, _MINUS_2_LN_2, s * fma(z, artanh, -4.0))


@inlined
def two_normals(a: Word, b: Word) -> tuple[Number, Number]:
    """Two standard normals from two words, as `simulation.streams` defines them."""
    u = 2.0 - _as_float((a & _FRACTION) | _ONE)
    v = fma(2.0, _as_float((b & _FRACTION) | _ONE), -3.0)
    radius = _as_float(_as_bits(np.sqrt(_minus_2_log(u))) ^ (b & _SIGN))
    z = v * v
    sine = fma(z, -1.7365167288597578e-09, 3.1333840829093e-07)
    sine = fma(z, sine, -3.6576192120767256e-05)
    sine = fma(z, sine, 0.0024903945673670634)
    sine = fma(z, sine, -0.08074551218803863)
    sine = fma(z, sine, 0.785398163397445)
    sine = (radius * v) * sine
    cosine = fma(z, -2.432541865328886e-08, 3.5906106809310757e-06)
    cosine = fma(z, cosine, -0.00032599179779493025)
    cosine = fma(z, cosine, 0.015854344232677915)
    cosine = fma(z, cosine, -0.3084251375338197)
    cosine = radius * fma(z, cosine, 1.0)
    exchanged = (b & _EXCHANGED) != np.uint64(0)
    return sine if exchanged else cosine, cosine if exchanged else sine


_LOW = np.uint64(0xFFFFFFFF)
_THIRTY_TWO = np.uint64(32)


@inlined
def philox(seed: Word, c0: Word, c1: Word, c2: Word, c3: Word) -> tuple[Word, Word]:
    """Philox4x32-10 with key = the seed, as in `trials`: its four words as two of 64 bits."""
    k0, k1 = seed & _LOW, seed >> _THIRTY_TWO
    for _ in range(10):
        product0, product1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0 = (product1 >> _THIRTY_TWO) ^ c1 ^ k0
        c1 = product1 & _LOW
        c2 = (product0 >> _THIRTY_TWO) ^ c3 ^ k1
        c3 = product0 & _LOW
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & _LOW, (k1 + np.uint64(0xBB67AE85)) & _LOW
    return (c0 << _THIRTY_TWO) | c1, (c2 << _THIRTY_TWO) | c3


@inlined
def coin_word(seed: Word, t: Word, replica: Word) -> Word:
    """The 53 bits behind the coin of step t: the counter is (t, replica, 0)."""
    word, _ = philox(seed, t & _LOW, t >> _THIRTY_TWO, replica, np.uint64(0))
    return word >> np.uint64(11)
