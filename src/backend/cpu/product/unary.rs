//! Elementary functions on f32 without branches or library calls, so that loops over them become vector code.
//!
//! Accurate to a few units in the last place; NaN stays NaN. Products and sums are rounded separately (no FMA), so every
//! instruction set gives the same bits.

use crate::tape::op::Unary;

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts, the first of which has few bits: n times it is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits.
const ROUND: f32 = 12_582_912.0;

/// 2^n for integer -126 <= n <= 127.
#[inline(always)]
fn exp2i(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23) as u32)
}

/// exp(x), with denormals and infinity where they belong (Cephes' `expf`).
#[inline(always)]
pub(in crate::backend::cpu) fn exp(x: f32) -> f32 {
    // Comparisons, not min and max: NaN must pass.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5.000_000_1e-1;
    let p = p * r * r + r + 1.0;
    // In two factors: 2^128 and 2^-150 are not floats.
    let n = shifted.to_bits() as i32 - ROUND.to_bits() as i32;
    let half = n >> 1;
    p * exp2i(half.clamp(-126, 127)) * exp2i((n - half).clamp(-126, 127))
}

/// The natural logarithm; NaN below zero, minus infinity at zero (Cephes' `logf`).
#[inline(always)]
pub(in crate::backend::cpu) fn ln(x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    // x = m * 2^e with sqrt(1/2) <= m < sqrt(2).
    let bits = scaled.to_bits() as i32;
    let e = (bits - 0x3f35_04f3) >> 23;
    let m = f32::from_bits((bits - (e << 23)) as u32) - 1.0;
    let e = e as f32 - if tiny { 23.0 } else { 0.0 };
    let p = 7.037_683_6e-2;
    let p = p * m - 1.151_461e-1;
    let p = p * m + 1.167_699_9e-1;
    let p = p * m - 1.242_014_1e-1;
    let p = p * m + 1.424_932_3e-1;
    let p = p * m - 1.666_805_8e-1;
    let p = p * m + 2.000_071_5e-1;
    let p = p * m - 2.499_999_4e-1;
    let p = p * m + 3.333_333_1e-1;
    let square = m * m;
    let y = p * m * square + e * LN2_LOW - 0.5 * square + m + e * LN2_HIGH;
    let y = if x < f32::INFINITY { y } else { x };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x < 0.0 { f32::NAN } else { y }
}

/// tanh(x): a rational function of odd degree 13 over even degree 6, as in Eigen; 1 beyond 7.9.
#[inline(always)]
pub(in crate::backend::cpu) fn tanh(x: f32) -> f32 {
    const END: f32 = 7.905_311;
    let x = if x > END { END } else { x };
    let x = if x < -END { -END } else { x };
    let s = x * x;
    let p = -2.760_768_5e-16;
    let p = p * s + 2.000_188e-13;
    let p = p * s - 8.604_672e-11;
    let p = p * s + 5.122_297_3e-8;
    let p = p * s + 1.485_722_4e-5;
    let p = p * s + 6.372_619_3e-4;
    let p = p * s + 4.893_524_6e-3;
    let q = 1.198_258_4e-6;
    let q = q * s + 1.185_347_1e-4;
    let q = q * s + 2.268_434_6e-3;
    let q = q * s + 4.893_525e-3;
    x * p / q
}

/// 1 / (1 + exp(-x))
#[inline(always)]
pub(in crate::backend::cpu) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// exp(x) - 1, accurate near zero: 2 t / (1 - t) with t = tanh(x / 2); for x <= 0.
#[inline(always)]
fn expm1_negative(x: f32) -> f32 {
    let t = tanh(0.5 * x);
    2.0 * t / (1.0 - t)
}

/// log(1 + exp(x)) without overflow.
#[inline(always)]
pub(in crate::backend::cpu) fn softplus(x: f32) -> f32 {
    let t = exp(-x.abs());
    // log(1 + t) with what the sum 1 + t has lost.
    let sum = 1.0 + t;
    let log1p = ln(sum) + (t - (sum - 1.0)) / sum;
    let positive = if x < 0.0 { 0.0 } else { x };
    positive + log1p
}

/// `y[i] = f(y[i])`.
#[inline(always)]
pub(in crate::backend::cpu) fn apply(u: Unary, y: &mut [f32]) {
    #[inline(always)]
    fn map(y: &mut [f32], f: impl Fn(f32) -> f32) {
        y.iter_mut().for_each(|v| *v = f(*v));
    }
    match u {
        // NaN must pass, so no max().
        Unary::Relu => map(y, |v| if v < 0.0 { 0.0 } else { v }),
        Unary::LeakyRelu(slope) => map(y, |v| if v < 0.0 { slope * v } else { v }),
        Unary::Elu => map(y, |v| if v > 0.0 { v } else { expm1_negative(v) }),
        Unary::Tanh => map(y, tanh),
        Unary::Sigmoid => map(y, sigmoid),
        Unary::Softplus => map(y, softplus),
        Unary::Silu => map(y, |v| v * sigmoid(v)),
        Unary::Exp => map(y, exp),
        Unary::Log => map(y, ln),
        Unary::Sqrt => map(y, f32::sqrt),
        Unary::Square => map(y, |v| v * v),
        Unary::Recip => map(y, |v| 1.0 / v),
    }
}

/// `dy[i] = dy[i] * f'(saved[i])`; `saved` is what [`Unary::saves_output`] says.
#[inline(always)]
pub(in crate::backend::cpu) fn apply_bwd(u: Unary, dy: &mut [f32], saved: &[f32]) {
    #[inline(always)]
    fn zip(dy: &mut [f32], saved: &[f32], f: impl Fn(f32, f32) -> f32) {
        dy.iter_mut().zip(saved).for_each(|(d, &s)| *d = f(*d, s));
    }
    match u {
        Unary::Relu => zip(dy, saved, |d, y| if y > 0.0 { d } else { 0.0 }),
        Unary::LeakyRelu(slope) => zip(dy, saved, |d, y| if y > 0.0 { d } else { d * slope }),
        Unary::Elu => zip(dy, saved, |d, y| if y > 0.0 { d } else { d * (y + 1.0) }),
        Unary::Tanh => zip(dy, saved, |d, y| d * (1.0 - y * y)),
        Unary::Sigmoid => zip(dy, saved, |d, y| d * (y * (1.0 - y))),
        Unary::Softplus => zip(dy, saved, |d, x| d * sigmoid(x)),
        Unary::Silu => zip(dy, saved, |d, x| {
            let s = sigmoid(x);
            d * (s * (1.0 + x * (1.0 - s)))
        }),
        Unary::Exp => zip(dy, saved, |d, y| d * y),
        Unary::Log => zip(dy, saved, |d, x| d / x),
        Unary::Sqrt => zip(dy, saved, |d, y| d * (0.5 / y)),
        Unary::Square => zip(dy, saved, |d, x| d * (2.0 * x)),
        Unary::Recip => zip(dy, saved, |d, y| -d * (y * y)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(low: f32, high: f32, f: impl Fn(f32) -> f32, truth: impl Fn(f64) -> f64) -> f64 {
        let n = 100_000;
        let at = |i: i32| low + (high - low) * i as f32 / n as f32;
        (0..=n).map(at).fold(0.0, |worst, x| {
            let want = truth(f64::from(x));
            worst.max((f64::from(f(x)) - want).abs() / want.abs().max(1e-37))
        })
    }

    #[test]
    fn close_to_the_library() {
        assert!(worst(-87.0, 88.0, exp, f64::exp) < 3e-7);
        assert!(worst(1e-6, 3.0, ln, f64::ln) < 3e-7);
        assert!(worst(1.0, 1e30, ln, f64::ln) < 3e-7);
        assert!(worst(-12.0, 12.0, tanh, f64::tanh) < 5e-7);
        assert!(worst(-1e-3, 1e-3, tanh, f64::tanh) < 3e-7);
        assert!(worst(-80.0, 80.0, sigmoid, |x| 1.0 / (1.0 + (-x).exp())) < 4e-7);
        assert!(worst(-80.0, 80.0, softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p()) < 4e-7);
        assert!(worst(-20.0, 0.0, expm1_negative, f64::exp_m1) < 5e-6);
    }

    #[test]
    fn ends_and_nan() {
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(ln(0.0), f32::NEG_INFINITY);
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(ln(f32::INFINITY), f32::INFINITY);
        assert!(ln(-1.0).is_nan());
        assert!((ln(1e-40) + 92.103_4).abs() < 1e-4);
        assert_eq!((tanh(30.0), tanh(-30.0)), (1.0, -1.0));
        assert_eq!(softplus(1e30), 1e30);
        let mut all = [Unary::Relu, Unary::LeakyRelu(0.2), Unary::Elu, Unary::Tanh, Unary::Sigmoid].to_vec();
        all.extend([Unary::Softplus, Unary::Silu, Unary::Exp, Unary::Log, Unary::Sqrt, Unary::Square, Unary::Recip]);
        for u in all {
            let mut y = [f32::NAN];
            apply(u, &mut y);
            assert!(y[0].is_nan(), "{u:?} hides NaN");
        }
    }
}
