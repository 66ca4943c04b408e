//! Lists of the elementwise functions. Each line of a list declares one function.
//!
//! Code that needs something for each function passes a macro of its own to [`unary_functions!`] or
//! [`binary_functions!`], which expands that macro with the whole list. The codes, and the branches by which
//! a kernel selects a function by its code, are also in `kernels/functions.cuh` and
//! `shaders/functions.wgsl`. A test in `backend::codes` compares these files with the lists.

use std::fmt;

/// `unary_functions!(with, tokens)` expands to `with! { [tokens] list }`. A line of the list declares, in
/// this order:
///
/// - the variant of [`Unary`]; if the function has an argument besides x, the name and an example value of
///   it,
/// - its code on GPUs, which is never 0,
/// - the name of the function, which the recording method, printed plans and the kernels share,
/// - the name of the kernels' function for `dy f'(x)`, and the value that it reads: `y`, the output of f, or
///   `x`, its input.
macro_rules! unary_functions {
    ($($with:ident)::+ $(, $($given:tt)*)?) => {
        $($with)::+! {
            [$($($given)*)?]
            /// max(x, 0)
            Relu = 1: relu(x), relu_bwd(dy, y);
            /// x where x > 0, else slope * x
            LeakyRelu(slope = 0.2) = 2: leaky_relu(x), leaky_relu_bwd(dy, y);
            /// x where x > 0, else exp(x) - 1
            Elu = 3: elu(x), elu_bwd(dy, y);
            /// tanh(x)
            Tanh = 4: tanh(x), tanh_bwd(dy, y);
            /// 1 / (1 + exp(-x))
            Sigmoid = 5: sigmoid(x), sigmoid_bwd(dy, y);
            /// log(1 + exp(x)), computed without overflow
            Softplus = 6: softplus(x), softplus_bwd(dy, x);
            /// x * sigmoid(x)
            Silu = 7: silu(x), silu_bwd(dy, x);
            /// exp(x)
            Exp = 8: exp(x), exp_bwd(dy, y);
            /// Natural logarithm.
            Log = 9: log(x), log_bwd(dy, x);
            /// Square root.
            Sqrt = 10: sqrt(x), sqrt_bwd(dy, y);
            /// x * x
            Square = 11: square(x), square_bwd(dy, x);
            /// 1 / x
            Recip = 12: recip(x), recip_bwd(dy, y);
            /// x * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 (Hendrycks & Gimpel 2016, section 2)
            Gelu = 13: gelu(x), gelu_bwd(dy, x);
        }
    };
}
pub(crate) use unary_functions;

/// The same as [`unary_functions!`] for [`Binary`]. A line declares the variant, the code and the name.
macro_rules! binary_functions {
    ($($with:ident)::+ $(, $($given:tt)*)?) => {
        $($with)::+! {
            [$($($given)*)?]
            /// a + b
            Add = 1: add(a, b);
            /// a - b
            Sub = 2: sub(a, b);
            /// a * b
            Mul = 3: mul(a, b);
            /// a / b
            Div = 4: div(a, b);
        }
    };
}
pub(crate) use binary_functions;

/// Whether a derivative is computed from the output: true for `y`, false for `x`.
macro_rules! is_output {
    (y) => {
        true
    };
    (x) => {
        false
    };
}

macro_rules! declare_unary {
    ([] $($(#[$doc:meta])* $variant:ident $(($argument:ident = $example:literal))? = $code:literal:
        $name:ident(x), $bwd:ident(dy, $saved:ident);)*) => {
        /// Elementwise functions of one argument.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Unary {
            $($(#[$doc])* $variant $((#[doc = stringify!($argument)] f64))?,)*
        }

        impl Unary {
            /// Every function, with an example argument if it takes one. Tests and the cases of `check`
            /// iterate over it.
            #[doc(hidden)]
            pub const EACH: [Unary; [$($code),*].len()] = [$(Unary::$variant $(($example))?),*];

            /// The code of the function in GPU kernels; never 0.
            #[doc(hidden)]
            pub const fn code(self) -> u32 {
                match self {
                    $(Unary::$variant { .. } => $code,)*
                }
            }

            /// The name of the function, without its argument.
            #[doc(hidden)]
            pub fn name(self) -> &'static str {
                match self {
                    $(Unary::$variant { .. } => stringify!($name),)*
                }
            }

            /// The argument of the function besides x, if it takes one.
            #[doc(hidden)]
            pub fn argument(self) -> Option<f64> {
                match self {
                    $($(Unary::$variant($argument) => Some($argument),)?)*
                    _ => None,
                }
            }

            /// Whether the derivative is computed from the output y; otherwise it is computed from the input
            /// x. An activation whose derivative needs only y can be folded into the step that computes x.
            #[doc(hidden)]
            pub const fn saves_output(self) -> bool {
                match self {
                    $(Unary::$variant { .. } => is_output!($saved),)*
                }
            }
        }
    };
}
unary_functions!(declare_unary);

macro_rules! declare_binary {
    ([] $($(#[$doc:meta])* $variant:ident = $code:literal: $name:ident(a, b);)*) => {
        /// Elementwise functions of two arguments of equal shape.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Binary {
            $($(#[$doc])* $variant,)*
        }

        impl Binary {
            /// Every function.
            #[doc(hidden)]
            pub const EACH: [Binary; [$($code),*].len()] = [$(Binary::$variant),*];

            /// The code of the function in GPU kernels; never 0.
            #[doc(hidden)]
            pub const fn code(self) -> u32 {
                match self {
                    $(Binary::$variant => $code,)*
                }
            }

            /// The name of the function.
            #[doc(hidden)]
            pub fn name(self) -> &'static str {
                match self {
                    $(Binary::$variant => stringify!($name),)*
                }
            }
        }
    };
}
binary_functions!(declare_binary);

impl fmt::Display for Unary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.argument() {
            None => f.write_str(self.name()),
            // The f32 that the kernels compute with.
            Some(argument) => write!(f, "{}({})", self.name(), argument as f32),
        }
    }
}

/// The codes number the lines of a list from 1: none is 0 and none is used twice. The codes of unary
/// functions fit in a byte.
const _: () = {
    let mut i = 0;
    while i < Unary::EACH.len() {
        i += 1;
        assert!(Unary::EACH[i - 1].code() == i as u32 && i < 256);
    }
    i = 0;
    while i < Binary::EACH.len() {
        i += 1;
        assert!(Binary::EACH[i - 1].code() == i as u32);
    }
};
