//! A damped oscillation around 0.5 with noise on every observation. Each series has its own frequency,
//! phase, amplitude, damping and noise.

use super::{SEED, STEPS, to_byte};
use crate::data::draws::Draws;
use crate::math::{cos_turns, normal};
use crate::rng::Stream;

/// Writes series `index` to `series`, [`STEPS`] values.
pub(super) fn draw(index: u32, series: &mut [u8]) {
    let mut draws = Draws::new(SEED, Stream::Series, index);
    // The period in steps.
    let period = draws.uniform(8.0, 40.0);
    let phase = draws.uniform(0.0, 1.0);
    let mut amplitude = draws.uniform(0.15, 0.45);
    // The factor by which the amplitude shrinks per step.
    let kept = draws.uniform(0.97, 1.0);
    let noise = draws.uniform(0.005, 0.04);
    for (step, value) in series.iter_mut().enumerate().take(STEPS) {
        let swing = cos_turns(step as f32 / period + phase);
        *value = to_byte(0.5 + amplitude * swing + noise * normal(draws.words()));
        amplitude *= kept;
    }
}
