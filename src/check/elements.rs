//! The elements of test inputs. They are random, depend only on the seed, the input and the element, and are
//! the same on every machine.

use crate::backend::Feed;
use crate::rng::{self, Stream};

/// The distribution of the elements of an input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Elements {
    /// N(0, 1).
    Normal,
    /// N(mean, 1), to test that statistics do not cancel.
    Offset(f32),
    /// Normal, but at least 0.05 away from 0, where some functions have a kink.
    Away,
    /// Uniform in [lo, hi).
    Uniform(f32, f32),
    /// 0 or 1.
    Bit,
    /// A u32 index below this number.
    Index(u32),
    /// Normal numbers mixed with logits of +-30 and +-10 000, as a confident network has them.
    Saturated,
}

impl Elements {
    /// Positive numbers, for logarithms, roots and reciprocals.
    pub const POSITIVE: Elements = Elements::Uniform(0.5, 2.0);

    /// `len` elements of input number `input`.
    pub fn values(self, seed: u32, input: usize, len: usize) -> Values {
        let words = |i: usize| rng::words(seed, Stream::Test, [input as u32, i as u32]);
        let uniform = |i: usize| f64::from(rng::unit(words(i)[0]));
        let normal = |i: usize| {
            let [u1, u2] = words(i).map(|w| f64::from(rng::unit(w)));
            (-2.0 * (1.0 - u1).ln()).sqrt() * (std::f64::consts::TAU * u2).cos()
        };
        let floats = |f: &dyn Fn(usize) -> f64| Values::F32((0..len).map(|i| f(i) as f32).collect());
        match self {
            Elements::Normal => floats(&normal),
            Elements::Offset(mean) => floats(&|i| f64::from(mean) + normal(i)),
            Elements::Away => floats(&|i| normal(i) + 0.05f64.copysign(normal(i))),
            Elements::Uniform(lo, hi) => floats(&|i| f64::from(lo) + f64::from(hi - lo) * uniform(i)),
            Elements::Bit => floats(&|i| f64::from(words(i)[0] & 1)),
            Elements::Index(below) => Values::U32((0..len).map(|i| words(i)[0] % below.max(1)).collect()),
            Elements::Saturated => floats(&|i| match words(i)[1] % 8 {
                0 => 30.0,
                1 => -30.0,
                2 => 1e4,
                3 => -1e4,
                _ => normal(i),
            }),
        }
    }
}

/// The elements of an input or output.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Floats.
    F32(Vec<f32>),
    /// Indices.
    U32(Vec<u32>),
}

impl Values {
    /// The values as a backend takes them.
    pub fn feed(&self) -> Feed<'_> {
        match self {
            Values::F32(v) => Feed::F32(v),
            Values::U32(v) => Feed::U32(v),
        }
    }

    /// The values as exact f64 numbers.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Values::F32(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Values::U32(v) => v.iter().map(|x| f64::from(*x)).collect(),
        }
    }
}
