//! Elementary functions as our own polynomials, so that every device computes the same thing.
//!
//! They are plain multiplications and additions, without branches and library calls. So LLVM vectorises any
//! loop over them, each instruction set gives the same bits, and WGSL and CUDA can mirror them line by line.
//! The polynomials are minimax fits (Remez) with errors below 6e-9. The remaining error is rounding, 1 to 2
//! units in the last place. The argument reductions are those of Cody & Waite 1980. Parameters are
//! initialised and series are made by the same functions.

/// Adding this number rounds x, if |x| < 2^22, to an integer, which is in the low bits of the sum.
/// Subtracting it again gives the integer as a float.
const ROUND: f32 = 12_582_912.0;
/// log 2 as the sum of a part of 9 significant bits, whose products with exponents are exact, and the rest.
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;
/// 2 pi as the sum of the nearest float and the rest.
const TAU_HI: f32 = std::f32::consts::TAU;
const TAU_LO: f32 = -1.748_455_5e-7;

/// 2^k for -126 <= k <= 127.
#[inline(always)]
fn pow2(k: i32) -> f32 {
    f32::from_bits((k.wrapping_add(127) as u32) << 23)
}

/// `(k, r, exp(r) - 1 - r)` with x = k log 2 + r and |r| <= log(2) / 2.
#[inline(always)]
fn reduced_exp(x: f32) -> (i32, f32, f32) {
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HI) - n * LN2_LO;
    let q = ((1.395_049_2e-3 * r + 8.368_89e-3) * r + 4.166_620_6e-2) * r + 0.166_665_18;
    let k = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    (k, r, r * r * (q * r + 0.5))
}

/// exp(x). Overflows to infinity above 88.72, underflows through the subnormals to 0 at -104.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    exp_at_most_89(if x > 89.0 { 89.0 } else { x })
}

/// exp(x) for x <= 89.
#[inline(always)]
fn exp_at_most_89(x: f32) -> f32 {
    // This comparison is false for NaN, like that of `exp`, so the result is NaN.
    let x = if x < -104.0 { -104.0 } else { x };
    let (k, r, rest) = reduced_exp(x);
    // Two factors, because 2^k alone leaves the range of normal numbers at both ends.
    let half = k >> 1;
    (1.0 + (r + rest)) * pow2(half) * pow2(k.wrapping_sub(half))
}

/// exp(x) - 1 for x <= 0, accurate near 0.
#[inline(always)]
pub fn expm1_nonpositive(x: f32) -> f32 {
    let x = if x < -30.0 { -30.0 } else { x };
    let (k, r, rest) = reduced_exp(x);
    let scale = pow2(k);
    scale * (r + rest) + (scale - 1.0)
}

/// `k log 2 + log(1 + f)` for sqrt(1/2) <= 1 + f <= sqrt(2).
#[inline(always)]
fn log_of_reduced(k: f32, f: f32) -> f32 {
    let q = ((-7.634_514_6e-2 * f + 0.127_615_94) * f - 0.131_601_84) * f + 0.142_017_56;
    let q = (((q * f - 0.166_233_57) * f + 0.200_012_27) * f - 0.250_008_2) * f + 0.333_333_3;
    let square = f * f;
    let tail = f * square * q + k * LN2_LO - 0.5 * square;
    (f + tail) + k * LN2_HI
}

/// Natural logarithm: -infinity at 0, NaN below 0.
#[inline(always)]
pub fn log(x: f32) -> f32 {
    let subnormal = x < f32::MIN_POSITIVE;
    let (scaled, shift) = if subnormal { (x * 8_388_608.0, 23) } else { (x, 0) };
    let bits = scaled.to_bits();
    // The exponent k for which the fraction x / 2^k is in [sqrt(1/2), sqrt(2)).
    let k = (bits.wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits()) as i32) >> 23;
    let fraction = f32::from_bits(bits.wrapping_sub((k as u32) << 23));
    let y = log_of_reduced((k - shift) as f32, fraction - 1.0);
    let y = if x < f32::INFINITY { y } else { x };
    let below = if x == 0.0 { f32::NEG_INFINITY } else { f32::NAN };
    if x > 0.0 { y } else { below }
}

/// log(1 + u) for 0 <= u <= 1, accurate near 0.
#[inline(always)]
fn log1p_unit(u: f32) -> f32 {
    let upper = u > 0.414_213_5;
    let f = if upper { 0.5 * u - 0.5 } else { u };
    log_of_reduced(if upper { 1.0 } else { 0.0 }, f)
}

/// exp(x) - 1 - x, accurate near 0. The KL divergence sums this term over the log variances x.
#[inline(always)]
pub fn exp_minus_1_minus(x: f32) -> f32 {
    let (k, _, rest) = reduced_exp(x);
    let far = (exp(x) - 1.0) - x;
    // For k = 0 nothing was reduced: r is x.
    if k == 0 { rest } else { far }
}

/// Turns a standard normal number `eps` into one with mean `mu` and variance `exp(logvar)`.
#[inline(always)]
pub fn reparameterize(mu: f32, logvar: f32, eps: f32) -> f32 {
    mu + exp(0.5 * logvar) * eps
}

/// tanh(x), accurate near 0.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let e = expm1_nonpositive(-2.0 * x.abs());
    (-e / (2.0 + e)).copysign(x)
}

/// 1 / (1 + exp(-x)), accurate until it underflows.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    let e = exp_at_most_89(-x.abs());
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

/// log(1 + exp(-|x|)), the term that softplus and the binary cross entropy add to a maximum.
#[inline(always)]
pub fn softplus_of_minus_abs(x: f32) -> f32 {
    log1p_unit(exp_at_most_89(-x.abs()))
}

/// log(1 + exp(x)) without overflow.
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    relu(x) + softplus_of_minus_abs(x)
}

/// max(x, 0); NaN for NaN.
#[inline(always)]
pub fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// cos(2 pi u), for |u| < 2^20. The argument is reduced in units of turns, which is exact.
#[inline(always)]
pub fn cos_turns(u: f32) -> f32 {
    let shifted = 4.0 * u + ROUND;
    let quarter = shifted.to_bits();
    let f = u - 0.25 * (shifted - ROUND);
    let z = f * f;
    let sin = f * TAU_HI + f * (TAU_LO + z * ((-75.453_27 * z + 81.593_93) * z - 41.341_675));
    let cos = 1.0 + z * (((59.245_865 * z - 85.443_74) * z + 64.939_32) * z - 19.739_208);
    let y = if quarter & 1 == 0 { cos } else { sin };
    if quarter.wrapping_add(1) & 2 == 0 { y } else { -y }
}

/// A standard normal number from two random words: Box-Muller on (1 - u1, u2), the cosine branch.
#[inline(always)]
pub fn normal(words: [u32; 2]) -> f32 {
    let (u1, u2) = (crate::rng::unit(words[0]), crate::rng::unit(words[1]));
    (-2.0 * log(1.0 - u1)).sqrt() * cos_turns(u2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error of `f` compared with `truth`, in units in the last place of the result, and the
    /// argument where it occurs. Results below the smallest normal number use the unit of that number. The
    /// arguments have the given signs and are spread evenly over the bit patterns up to `limit`.
    fn worst_ulp(signs: &[f32], limit: f32, f: fn(f32) -> f32, truth: fn(f64) -> f64) -> (f64, f32) {
        let mut worst = (0.0, 0.0);
        for bits in (0..=limit.to_bits()).step_by(397) {
            for sign in signs {
                let x = sign * f32::from_bits(bits);
                let want = truth(f64::from(x));
                let nearest = want as f32;
                if nearest.is_infinite() {
                    assert_eq!(f(x), nearest, "at {x}");
                    continue;
                }
                let ulp = f64::from(nearest.abs().max(f32::MIN_POSITIVE)) * f64::from(f32::EPSILON);
                // The spacing of floats above a power of two is twice the spacing below it. This takes the
                // larger one.
                let ulp = 2f64.powi(ulp.log2().floor() as i32);
                let error = (f64::from(f(x)) - want).abs() / ulp;
                if error > worst.0 || error.is_nan() {
                    worst = (error, x);
                }
            }
        }
        worst
    }

    fn check(name: &str, bound: f64, (worst, at): (f64, f32)) {
        println!("{name}: {worst:.3} ulp at {at:e}");
        assert!(worst <= bound, "{name} is off by {worst} ulp at {at:e}");
    }

    #[test]
    fn accuracy_in_units_in_the_last_place() {
        let both = &[1.0, -1.0];
        check("exp", 1.0, worst_ulp(both, 110.0, exp, f64::exp));
        check("log", 1.0, worst_ulp(&[1.0], f32::MAX, log, f64::ln));
        check("expm1", 1.5, worst_ulp(&[-1.0], 100.0, expm1_nonpositive, f64::exp_m1));
        check("tanh", 2.5, worst_ulp(both, 100.0, tanh, f64::tanh));
        check("sigmoid", 2.5, worst_ulp(both, 100.0, sigmoid, |x| 1.0 / (1.0 + (-x).exp())));
        check("softplus", 2.5, worst_ulp(both, 200.0, softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p()));
        check("softplus(-|x|)", 2.5, worst_ulp(both, 100.0, softplus_of_minus_abs, |x| (-x.abs()).exp().ln_1p()));
        let kl = |x: f64| if x.abs() < 1e-3 { x * x * (0.5 + x / 6.0 + x * x / 24.0) } else { x.exp_m1() - x };
        check("exp - 1 - x", 16.0, worst_ulp(both, 80.0, exp_minus_1_minus, kl));
    }

    #[test]
    fn cosine_of_every_uniform_is_accurate() {
        let mut worst: f64 = 0.0;
        for i in (0..1 << 24).step_by(7) {
            let u = i as f32 / 16_777_216.0;
            let want = (std::f64::consts::TAU * f64::from(u)).cos();
            worst = worst.max((f64::from(cos_turns(u)) - want).abs());
        }
        assert!(worst < 1e-7, "{worst}");
        assert!((f64::from(cos_turns(0.250_000_06)) + std::f64::consts::TAU * 2f64.powi(-24)).abs() < 1e-13);
        assert_eq!([0.0, 0.25, 0.5, 0.75].map(cos_turns), [1.0, 0.0, -1.0, 0.0]);
    }

    #[test]
    fn limits_and_nan() {
        assert_eq!(
            [exp(-200.0), exp(f32::NEG_INFINITY), exp(100.0), exp(f32::INFINITY)],
            [0.0, 0.0, f32::INFINITY, f32::INFINITY]
        );
        assert_eq!([exp(0.0), log(1.0), sigmoid(0.0), tanh(0.0)], [1.0, 0.0, 0.5, 0.0]);
        assert_eq!([log(0.0), log(-0.0), log(f32::INFINITY)], [f32::NEG_INFINITY, f32::NEG_INFINITY, f32::INFINITY]);
        assert!(log(-1.0).is_nan() && log(f32::NEG_INFINITY).is_nan());
        assert_eq!([tanh(1e4), tanh(-1e4), tanh(f32::INFINITY)], [1.0, -1.0, 1.0]);
        assert_eq!([sigmoid(1e4), sigmoid(-1e4)], [1.0, 0.0]);
        assert_eq!([softplus(1e4), softplus(-1e4), softplus(f32::INFINITY)], [1e4, 0.0, f32::INFINITY]);
        assert_eq!(tanh(-0.0).to_bits(), (-0f32).to_bits());
        assert!(exp_minus_1_minus(f32::NAN).is_nan());
    }
}
