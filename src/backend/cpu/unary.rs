//! The elementwise functions and their derivatives. Each function has a pair: `f(x)`, and `dy f'(x)`, which
//! is computed from the output y or the input x. Elementary functions are in [`crate::math`].
//! `kernels/math.cuh` and `shaders/common.wgsl` have the same pairs. The list of the functions is in
//! `src/tape/functions.rs`.

use crate::math::{exp, expm1_nonpositive, log, relu, sigmoid, softplus, tanh};
use crate::tape::functions::unary_functions;
use crate::tape::op::Unary;

#[inline(always)]
fn relu_bwd(dy: f32, y: f32) -> f32 {
    if y > 0.0 { dy } else { 0.0 }
}

#[inline(always)]
fn leaky_relu(x: f32, slope: f32) -> f32 {
    (if x > 0.0 { 1.0 } else { slope }) * x
}

#[inline(always)]
fn leaky_relu_bwd(dy: f32, y: f32, slope: f32) -> f32 {
    dy * (if y > 0.0 { 1.0 } else { slope })
}

#[inline(always)]
fn elu(x: f32) -> f32 {
    let below = expm1_nonpositive(if x > 0.0 { 0.0 } else { x });
    if x > 0.0 { x } else { below }
}

#[inline(always)]
fn elu_bwd(dy: f32, y: f32) -> f32 {
    dy * (if y > 0.0 { 1.0 } else { y + 1.0 })
}

#[inline(always)]
fn tanh_bwd(dy: f32, y: f32) -> f32 {
    dy * (1.0 - y * y)
}

#[inline(always)]
fn sigmoid_bwd(dy: f32, y: f32) -> f32 {
    dy * (y * (1.0 - y))
}

#[inline(always)]
fn softplus_bwd(dy: f32, x: f32) -> f32 {
    dy * sigmoid(x)
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

#[inline(always)]
fn silu_bwd(dy: f32, x: f32) -> f32 {
    let p = sigmoid(x);
    dy * (p * (1.0 + x * (1.0 - p)))
}

#[inline(always)]
fn exp_bwd(dy: f32, y: f32) -> f32 {
    dy * y
}

#[inline(always)]
fn log_bwd(dy: f32, x: f32) -> f32 {
    dy / x
}

#[inline(always)]
fn sqrt(x: f32) -> f32 {
    x.sqrt()
}

#[inline(always)]
fn sqrt_bwd(dy: f32, y: f32) -> f32 {
    0.5 * dy / y
}

#[inline(always)]
fn square(x: f32) -> f32 {
    x * x
}

#[inline(always)]
fn square_bwd(dy: f32, x: f32) -> f32 {
    2.0 * dy * x
}

#[inline(always)]
fn recip(x: f32) -> f32 {
    1.0 / x
}

#[inline(always)]
fn recip_bwd(dy: f32, y: f32) -> f32 {
    -dy * (y * y)
}

/// x sigmoid(u) with u = x (2 c + 2 c 0.044715 x^2) and c = sqrt(2 / pi). This is the usual formula, because
/// (1 + tanh(u / 2)) / 2 is sigmoid(u); sigmoid keeps its digits where tanh is near -1.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    x * sigmoid(x * (7.135_481_4e-2 * (x * x) + 1.595_769_2))
}

/// dy (p + x p (1 - p) u') with p = sigmoid(u). Beyond +-12, p (1 - p) is 0; x is clamped there, so that u'
/// stays finite.
#[inline(always)]
fn gelu_bwd(dy: f32, x: f32) -> f32 {
    let near = if x > 12.0 { 12.0 } else { x };
    let near = if near < -12.0 { -12.0 } else { near };
    let square = near * near;
    let p = sigmoid(near * (7.135_481_4e-2 * square + 1.595_769_2));
    dy * (p + near * (p * (1.0 - p)) * (0.214_064_45 * square + 1.595_769_2))
}

macro_rules! define_unary {
    ([] $($(#[$doc:meta])* $variant:ident $(($argument:ident = $example:literal))? = $code:literal:
        $name:ident(x), $bwd:ident(dy, $saved:ident);)*) => {
        /// f(x).
        #[inline(always)]
        pub fn unary(f: Unary, x: f32) -> f32 {
            match f {
                $(Unary::$variant $(($argument))? => $name(x $(, $argument as f32)?),)*
            }
        }

        /// `dy * f'`, from y or x as [`Unary::saves_output`] says.
        #[inline(always)]
        pub fn unary_bwd(f: Unary, dy: f32, saved: f32) -> f32 {
            match f {
                $(Unary::$variant $(($argument))? => $bwd(dy, saved $(, $argument as f32)?),)*
            }
        }
    };
}
unary_functions!(define_unary);

/// Evaluates `$body` with `$g` bound to the function `$f`. The body is compiled once per function, so the
/// function is a constant in each copy, and a loop over [`unary`] in the body has no branch.
macro_rules! specialize_unary {
    ($f:expr, $g:ident => $body:expr) => {
        $crate::tape::functions::unary_functions!(crate::backend::cpu::unary::specialize_arms, $f, $g => $body)
    };
}
pub(super) use specialize_unary;

/// Expands the list of functions to the match of [`specialize_unary!`].
macro_rules! specialize_arms {
    ([$f:expr, $g:ident => $body:expr] $($(#[$doc:meta])* $variant:ident $(($argument:ident = $example:literal))? = $code:literal:
        $name:ident(x), $bwd:ident(dy, $saved:ident);)*) => {
        match $f {
            $($crate::tape::op::Unary::$variant $(($argument))? => {
                let $g = $crate::tape::op::Unary::$variant $(($argument))?;
                $body
            })*
        }
    };
}
pub(super) use specialize_arms;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_nan() {
        assert_eq!(unary(Unary::Elu, f32::NEG_INFINITY), -1.0);
        for f in Unary::EACH {
            assert!(unary(f, f32::NAN).is_nan(), "{f} hides NaN");
        }
    }
}
