//! The reward of a step, from OpenAI Gym's `Pendulum`: as a number, and recorded on the tape.

use crate::data::Pendulum;
use crate::tape::{Tape, Var};

/// Weight of the squared speed.
const SPEED_COST: f32 = 0.1;

/// Weight of the squared torque.
const TORQUE_COST: f32 = 0.001;

/// Number of terms in the series of the squared angle. Its error is 0.003 if the rod hangs down, and far
/// smaller elsewhere.
const TERMS: i32 = 10;

/// The reward of a step, `-(angle² + speed²/10 + torque²/1000)`: at best 0, at worst -16.3.
pub fn reward(pendulum: Pendulum, torque: f32) -> f32 {
    let Pendulum { angle, speed } = pendulum;
    -(angle * angle + SPEED_COST * speed * speed + TORQUE_COST * torque * torque)
}

/// Records the reward `[m, 1]` of observations `seen[m, 3]` and torques `[m, 1]`, all in 0 to 1.
///
/// Only the cosine of the angle is known; the first value of `seen` is (1 + cos)/2 = cos²(angle/2). With
/// w = 1 - cos(angle/2), which is at most 1, angle² = 4 arccos²(1 - w) = 8 sum over n of (2 w)^n / (n²
/// binomial(2 n, n)).
#[track_caller]
pub fn record_reward(t: &Tape, seen: Var, torque: Var) -> Var {
    let w = t.affine(t.sqrt(t.channels(seen, 0, 1)), -1.0, 1.0);
    let mut binomial = 1.0_f32;
    let coefficients: Vec<f32> = (1..=TERMS)
        .map(|n| {
            binomial *= (4 * n - 2) as f32 / n as f32;
            8.0 * 2.0_f32.powi(n) / ((n * n) as f32 * binomial)
        })
        .collect();
    let mut sum = t.scale(w, f64::from(coefficients[TERMS as usize - 1]));
    for coefficient in coefficients.iter().rev().skip(1) {
        sum = t.mul(w, t.affine(sum, 1.0, f64::from(*coefficient)));
    }
    let symmetric = |v: Var, most: f32| t.square(t.affine(v, 2.0 * f64::from(most), -f64::from(most)));
    let speed = t.scale(symmetric(t.channels(seen, 2, 3), Pendulum::MAX_SPEED), SPEED_COST.into());
    let torque = t.scale(symmetric(torque, Pendulum::MAX_TORQUE), TORQUE_COST.into());
    t.scale(t.add(t.add(sum, speed), torque), -1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{self, Feed, Scalars};
    use crate::shape::Meta;
    use crate::tape::plan::Plan;
    use std::f32::consts::PI;

    #[test]
    fn the_tape_and_the_formula_agree_all_the_way_round() {
        let n = 101;
        let states: Vec<Pendulum> =
            (0..n).map(|i| Pendulum { angle: PI * (i as f32 / 50.0 - 1.0), speed: 8.0 - 0.16 * i as f32 }).collect();
        let torques: Vec<f32> = (0..n).map(|i| (i % 7) as f32 / 6.0).collect();
        let seen: Vec<f32> =
            states.iter().flat_map(|s| [s.cos(), s.sin(), s.speed / 8.0].map(|v| 0.5 * (v + 1.0))).collect();
        let t = Tape::new();
        let (x, u) = (t.input("seen", Meta::f32([n, 3])), t.input("torque", Meta::f32([n, 1])));
        t.output("reward", record_reward(&t, x, u));
        let mut device = backend::open("cpu", 1).unwrap();
        let plan = device.compile(&Plan::new("reward", &t)).unwrap();
        device.run(plan, &[Feed::F32(&seen), Feed::F32(&torques)], &Scalars::default()).unwrap();
        let mut got = vec![f32::NAN; n];
        backend::read(&mut *device, plan, 0, &mut got).unwrap();
        for ((state, torque), got) in states.iter().zip(&torques).zip(got) {
            let want = reward(*state, Pendulum::torque_of_unit(*torque));
            assert!((got - want).abs() < 4e-3, "{state:?}, {torque}: {got}, not {want}");
        }
    }
}
