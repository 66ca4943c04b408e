//! The elementwise functions and their derivatives, by [`Unary`], made of the functions of [`crate::math`].

use crate::math::{exp, expm1_nonpositive, log, relu, sigmoid, softplus, tanh};
use crate::tape::op::Unary;

/// f(x).
#[inline(always)]
pub fn unary(f: Unary, x: f32) -> f32 {
    match f {
        Unary::Relu => relu(x),
        Unary::LeakyRelu(slope) => (if x > 0.0 { 1.0 } else { slope }) * x,
        Unary::Elu => {
            let below = expm1_nonpositive(if x > 0.0 { 0.0 } else { x });
            if x > 0.0 { x } else { below }
        }
        Unary::Tanh => tanh(x),
        Unary::Sigmoid => sigmoid(x),
        Unary::Softplus => softplus(x),
        Unary::Silu => x * sigmoid(x),
        Unary::Exp => exp(x),
        Unary::Log => log(x),
        Unary::Sqrt => x.sqrt(),
        Unary::Square => x * x,
        Unary::Recip => 1.0 / x,
    }
}

/// `dy * f'`, from y or x as [`Unary::saves_output`] says.
#[inline(always)]
pub fn unary_bwd(f: Unary, dy: f32, saved: f32) -> f32 {
    match f {
        Unary::Relu => {
            if saved > 0.0 {
                dy
            } else {
                0.0
            }
        }
        Unary::LeakyRelu(slope) => dy * (if saved > 0.0 { 1.0 } else { slope }),
        Unary::Elu => dy * (if saved > 0.0 { 1.0 } else { saved + 1.0 }),
        Unary::Tanh => dy * (1.0 - saved * saved),
        Unary::Sigmoid => dy * (saved * (1.0 - saved)),
        Unary::Softplus => dy * sigmoid(saved),
        Unary::Silu => {
            let p = sigmoid(saved);
            dy * (p * (1.0 + saved * (1.0 - p)))
        }
        Unary::Exp => dy * saved,
        Unary::Log => dy / saved,
        Unary::Sqrt => 0.5 * dy / saved,
        Unary::Square => 2.0 * dy * saved,
        Unary::Recip => -dy * (saved * saved),
    }
}

/// Evaluates `$body` with `$g` bound to the function `$f`, once for each function, so that the compiler knows it in
/// every copy: a loop over [`unary`] in the body has no branch.
macro_rules! specialize_unary {
    ($f:expr, $g:ident => $body:expr) => {{
        use $crate::tape::op::Unary;
        macro_rules! arm {
            ($known:expr) => {{
                let $g = $known;
                $body
            }};
        }
        match $f {
            Unary::Relu => arm!(Unary::Relu),
            Unary::LeakyRelu(slope) => arm!(Unary::LeakyRelu(slope)),
            Unary::Elu => arm!(Unary::Elu),
            Unary::Tanh => arm!(Unary::Tanh),
            Unary::Sigmoid => arm!(Unary::Sigmoid),
            Unary::Softplus => arm!(Unary::Softplus),
            Unary::Silu => arm!(Unary::Silu),
            Unary::Exp => arm!(Unary::Exp),
            Unary::Log => arm!(Unary::Log),
            Unary::Sqrt => arm!(Unary::Sqrt),
            Unary::Square => arm!(Unary::Square),
            Unary::Recip => arm!(Unary::Recip),
        }
    }};
}
pub(super) use specialize_unary;

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
