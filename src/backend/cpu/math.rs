//! Elementary functions as our own polynomials: the same on every device up to the rounding of a multiply-add.

/// Natural logarithm.
pub fn log(x: f32) -> f32 {
    x.ln()
}

/// A standard normal number from two random words: Box-Muller on (1 - u1, u2), the cosine branch.
pub fn normal(words: [u32; 2]) -> f32 {
    let (u1, u2) = (crate::rng::unit(words[0]), crate::rng::unit(words[1]));
    (-2.0 * log(1.0 - u1)).sqrt() * (std::f32::consts::TAU * u2).cos()
}
