//! A pendulum driven by a torque at its hinge: the swing-up task of Doya, "Reinforcement learning in
//! continuous time and space", Neural Computation 2000, section 4.1, with the rod and the constants of
//! OpenAI Gym's `Pendulum`.

use std::f32::consts::TAU;

use super::{SEED, to_byte};
use crate::data::draws::Draws;
use crate::math::cos_turns;
use crate::rng::Stream;

/// The largest number of steps for which a torque is held in the data.
const LONGEST_HELD: u32 = 8;

/// A uniform rod of mass 1 kg and length 1 m that hangs from a hinge; g = 10 m/s².
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pendulum {
    /// The angle from upright in radians, from -pi to pi.
    pub angle: f32,
    /// The angular velocity in radians per second.
    pub speed: f32,
}

impl Pendulum {
    /// Seconds per step.
    pub const DT: f32 = 0.05;
    /// The largest torque in newton metres. It is too small to lift the rod without swinging.
    pub const MAX_TORQUE: f32 = 2.0;
    /// The largest angular velocity in radians per second.
    pub const MAX_SPEED: f32 = 8.0;
    /// Values per observation, including the torque.
    pub const WIDTH: usize = 4;
    const GRAVITY: f32 = 10.0;

    /// Advances by one step under a torque: `speed' = speed + (3/2 g sin(angle) + 3 torque) dt`, `angle'
    /// = angle + speed' dt`. Torque and speed are clipped to their limits.
    pub fn step(self, torque: f32) -> Pendulum {
        let torque = torque.clamp(-Self::MAX_TORQUE, Self::MAX_TORQUE);
        let pull = 1.5 * Self::GRAVITY * self.sin() + 3.0 * torque;
        let speed = (self.speed + pull * Self::DT).clamp(-Self::MAX_SPEED, Self::MAX_SPEED);
        let angle = self.angle + speed * Self::DT;
        Pendulum { angle: angle - TAU * (angle / TAU).round(), speed }
    }

    /// The cosine of the angle: 1 is upright.
    pub fn cos(self) -> f32 {
        cos_turns(self.angle / TAU)
    }

    /// The sine of the angle.
    pub fn sin(self) -> f32 {
        cos_turns(self.angle / TAU - 0.25)
    }

    /// The observation as bytes: cosine, sine and speed, each scaled from its minimum (0) to its maximum
    /// (255).
    pub fn observe(self) -> [u8; 3] {
        [self.cos(), self.sin(), self.speed / Self::MAX_SPEED].map(|value| to_byte(0.5 * (value + 1.0)))
    }

    /// The torque in newton metres that a value in 0 to 1 represents.
    pub fn torque_of_unit(unit: f32) -> f32 {
        Self::MAX_TORQUE * (2.0 * unit - 1.0)
    }
}

/// Torques for `steps` steps as values in 0 to 1, each held for 1 to 8 steps. They are distributed like
/// those in the data and depend on the seed and the index.
pub fn held_torques(seed: u32, index: u32, steps: usize) -> Vec<f32> {
    held(&mut Draws::new(seed, Stream::Series, index), steps).into_iter().map(|byte| f32::from(byte) / 255.0).collect()
}

fn held(draws: &mut Draws, steps: usize) -> Vec<u8> {
    let mut torques = Vec::with_capacity(steps);
    while torques.len() < steps {
        let [time, torque] = draws.words();
        let time = 1 + (time >> 16) % LONGEST_HELD;
        torques.extend((0..time).map(|_| (torque >> 24) as u8));
    }
    torques.truncate(steps);
    torques
}

/// Writes series `index` to `series`: the observations of a pendulum with a random start, and the torques
/// that drive it.
pub(super) fn draw(index: u32, series: &mut [u8]) {
    let mut draws = Draws::new(SEED, Stream::Series, index);
    let angle = draws.uniform(-0.5 * TAU, 0.5 * TAU);
    let mut pendulum = Pendulum { angle, speed: draws.uniform(-6.0, 6.0) };
    let torques = held(&mut draws, series.len() / Pendulum::WIDTH);
    for (row, torque) in series.chunks_exact_mut(Pendulum::WIDTH).zip(torques) {
        row[..3].copy_from_slice(&pendulum.observe());
        row[3] = torque;
        pendulum = pendulum.step(Pendulum::torque_of_unit(f32::from(torque) / 255.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f32::consts::PI;

    /// Kinetic and potential energy in joules: `speed²/6 + g/2 cos(angle)`.
    fn energy(pendulum: Pendulum) -> f32 {
        pendulum.speed * pendulum.speed / 6.0 + 0.5 * Pendulum::GRAVITY * pendulum.cos()
    }

    #[test]
    fn without_torque_energy_stays_and_swings_are_as_long_as_they_should_be() {
        let mut pendulum = Pendulum { angle: PI - 0.2, speed: 0.0 };
        let start = energy(pendulum);
        let mut crossings = vec![];
        for step in 0..400 {
            let next = pendulum.step(0.0);
            // A symplectic step keeps the energy within a band of the order of dt.
            assert!((energy(next) - start).abs() < 0.05, "step {step}: {} not {start}", energy(next));
            // The rod passes the lowest point from the left.
            if pendulum.sin() > 0.0 && next.sin() <= 0.0 {
                crossings.push(step as f32 * Pendulum::DT);
            }
            pendulum = next;
        }
        // The period of small oscillations of a rod: 2 pi sqrt(2 l / (3 g)).
        let period = (crossings[crossings.len() - 1] - crossings[0]) / (crossings.len() - 1) as f32;
        assert!((period - TAU * (2.0_f32 / 30.0).sqrt()).abs() < 0.02, "{period} s");
    }

    #[test]
    fn a_torque_does_work_and_limits_hold() {
        let mut pendulum = Pendulum { angle: PI, speed: 0.0 };
        let start = energy(pendulum);
        let mut work = 0.0;
        for _ in 0..6 {
            let next = pendulum.step(10.0);
            let turned = next.speed * Pendulum::DT;
            work += Pendulum::MAX_TORQUE * turned;
            pendulum = next;
        }
        let gained = energy(pendulum) - start;
        assert!((gained - work).abs() < 0.15 * work, "{gained} J gained by {work} J of work");
        assert!(pendulum.cos() < 0.0, "the torque alone does not lift the rod");
        let fast = Pendulum { angle: 3.0, speed: 8.0 }.step(2.0);
        assert!(fast.speed <= 8.0 && (-PI..=PI).contains(&fast.angle));
    }

    #[test]
    fn what_the_data_hold_is_what_the_pendulum_does() {
        let mut series = [0; 100 * Pendulum::WIDTH];
        draw(5, &mut series);
        for rows in series.windows(2 * Pendulum::WIDTH).step_by(Pendulum::WIDTH) {
            let value = |i: usize| 2.0 * f32::from(rows[i]) / 255.0 - 1.0;
            let pendulum = Pendulum { angle: value(1).atan2(value(0)), speed: 8.0 * value(2) };
            let next = pendulum.step(2.0 * value(3)).observe();
            // The rounding to bytes allows a difference of 2.
            let off = (0..3).map(|i| next[i].abs_diff(rows[Pendulum::WIDTH + i])).max();
            assert!(off <= Some(2), "{next:?} after {rows:?}");
        }
        let torques = held_torques(1, 2, 100);
        assert_eq!((torques.len(), torques == held_torques(1, 2, 100)), (100, true));
        assert_ne!(torques, held_torques(1, 3, 100));
    }
}
