//! Planning by simulation: swings up a pendulum by trying random torques in a model of it.
//!
//! The method is random shooting. At every decision a number of torque sequences is drawn, in which each
//! torque is held for some steps. The sequence with the highest return over the horizon wins, and its
//! first torque is applied. The next decision starts again. Planners differ in where they simulate: in a
//! trained sequence model ([`Learned`]) or in the equations of motion ([`TrueDynamics`]). [`Random`] does
//! not plan.
//!
//! Read [`Task`], [`Planner`] and [`play`] first.

mod learned;
mod reward;

pub use learned::{Learned, pendulum_model, returns};
pub use reward::{record_reward, reward};

use crate::data::Pendulum;
use crate::error::Result;
use crate::rng::{self, Stream};
use rayon::prelude::*;
use std::f32::consts::PI;

/// Steps per episode: 10 seconds.
pub const STEPS: usize = 200;

/// Steps for which a torque is held.
pub const HELD: usize = 5;

/// Steps at the end of an episode that count for [`Outcome::upright`].
const LAST: usize = 50;

/// The rod counts as upright if the cosine of its angle is above this, which is 18 degrees.
const STANDS: f32 = 0.95;

/// The task, and how much effort planners spend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Number of episodes. Each starts with the rod hanging down, nearly at rest.
    pub episodes: usize,
    /// Seed of the start states and of the torques that are tried. Episode i depends only on the seed and
    /// on i.
    pub seed: u32,
    /// How many steps planners look ahead.
    pub horizon: usize,
    /// How many torque sequences planners try at every decision.
    pub candidates: usize,
}

impl Task {
    /// Torques per sequence that is tried.
    pub fn torques(&self) -> usize {
        self.horizon.div_ceil(HELD)
    }

    fn start(&self, episode: usize) -> Pendulum {
        let words = rng::words(self.seed, Stream::Control, [u32::MAX, episode as u32]);
        let [angle, speed] = words.map(|word| 2.0 * rng::unit(word) - 1.0);
        Pendulum { angle: PI + 0.2 * angle, speed: 0.2 * speed }
    }

    /// A random torque as a value in 0 to 1: number `index` of those that are drawn at a decision of an
    /// episode.
    fn torque(&self, decision: usize, episode: usize, index: usize) -> f32 {
        let word =
            rng::words(self.seed, Stream::Control, [(decision * MOST_EPISODES + episode) as u32, index as u32])[0];
        rng::unit(word)
    }
}

/// The largest number of episodes: each has its own range of random numbers.
pub const MOST_EPISODES: usize = 1 << 16;

/// Chooses the torques of all episodes.
pub trait Planner {
    /// Returns the next torque of each episode as a value in 0 to 1. This is decision number `decision`.
    ///
    /// # Errors
    /// Whatever a device reports.
    fn choose(&mut self, task: &Task, decision: usize, now: &[Pendulum]) -> Result<Vec<f32>>;

    /// Receives, after every step, the observation before it and the torque that was applied, `[episodes,
    /// 4]` in 0 to 1.
    ///
    /// # Errors
    /// Whatever a device reports.
    fn observe(&mut self, observations: &[f32]) -> Result<()>;
}

/// Applies the first torque that it draws, without planning.
#[derive(Clone, Copy, Debug, Default)]
pub struct Random;

impl Planner for Random {
    fn choose(&mut self, task: &Task, decision: usize, now: &[Pendulum]) -> Result<Vec<f32>> {
        Ok((0..now.len()).map(|episode| task.torque(decision, episode, 0)).collect())
    }

    fn observe(&mut self, _: &[f32]) -> Result<()> {
        Ok(())
    }
}

/// Tries torques in the equations of motion, from the true state of the pendulum.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrueDynamics;

impl Planner for TrueDynamics {
    fn choose(&mut self, task: &Task, decision: usize, now: &[Pendulum]) -> Result<Vec<f32>> {
        let plan = |(episode, start): (usize, &Pendulum)| {
            let returns: Vec<f32> = (0..task.candidates)
                .map(|candidate| {
                    let mut pendulum = *start;
                    let mut total = 0.0;
                    for step in 0..task.horizon {
                        let torque = task.torque(decision, episode, candidate * task.torques() + step / HELD);
                        let torque = Pendulum::torque_of_unit(torque);
                        total += reward(pendulum, torque);
                        pendulum = pendulum.step(torque);
                    }
                    total
                })
                .collect();
            task.torque(decision, episode, best(&returns) * task.torques())
        };
        Ok(now.par_iter().enumerate().map(plan).collect())
    }

    fn observe(&mut self, _: &[f32]) -> Result<()> {
        Ok(())
    }
}

/// The index of the highest return. If several are equal, the first.
fn best(returns: &[f32]) -> usize {
    let highest = |best: usize, i: usize| if returns[i] > returns[best] { i } else { best };
    (0..returns.len()).fold(0, highest)
}

/// The result of a planner.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The sum of the rewards of each episode, see `reward`.
    pub returns: Vec<f64>,
    /// The fraction of the last 50 steps of each episode in which the rod was within 18 degrees of
    /// upright.
    pub upright: Vec<f64>,
}

/// A mean and its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

/// The mean of `values` and its standard error.
pub fn mean(values: &[f64]) -> Mean {
    let n = values.len() as f64;
    let value = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - value).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    Mean { value, error: (variance / n).sqrt() }
}

/// Runs all episodes of a task at once.
///
/// # Errors
/// Whatever the planner reports.
pub fn play(task: &Task, planner: &mut dyn Planner) -> Result<Outcome> {
    let mut now: Vec<Pendulum> = (0..task.episodes).map(|episode| task.start(episode)).collect();
    let mut outcome = Outcome { returns: vec![0.0; task.episodes], upright: vec![0.0; task.episodes] };
    let mut torques = vec![];
    for step in 0..STEPS {
        if step % HELD == 0 {
            torques = planner.choose(task, step / HELD, &now)?;
        }
        let mut seen = Vec::with_capacity(task.episodes * Pendulum::WIDTH);
        for (episode, pendulum) in now.iter_mut().enumerate() {
            seen.extend(pendulum.observe().map(|byte| f32::from(byte) / 255.0));
            seen.push(torques[episode]);
            let torque = Pendulum::torque_of_unit(torques[episode]);
            outcome.returns[episode] += f64::from(reward(*pendulum, torque));
            *pendulum = pendulum.step(torque);
            if step >= STEPS - LAST && pendulum.cos() > STANDS {
                outcome.upright[episode] += 1.0 / LAST as f64;
            }
        }
        planner.observe(&seen)?;
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(seed: u32, episodes: usize) -> Task {
        Task { episodes, seed, horizon: 40, candidates: 200 }
    }

    #[test]
    fn planning_in_the_equations_swings_the_rod_up_and_random_torques_do_not() {
        let [truth, random] = [play(&task(1, 4), &mut TrueDynamics).unwrap(), play(&task(1, 4), &mut Random).unwrap()];
        assert!(mean(&truth.returns).value > mean(&random.returns).value + 400.0, "{truth:?} {random:?}");
        assert!(mean(&truth.upright).value > 0.5 && mean(&random.upright).value < 0.3, "{truth:?} {random:?}");
    }

    #[test]
    fn an_episode_depends_on_the_seed_and_its_number_alone() {
        let play = |seed, episodes| play(&task(seed, episodes), &mut Random).unwrap();
        let (few, more) = (play(3, 2), play(3, 5));
        assert_eq!(few.returns, more.returns[..2]);
        assert_ne!(more.returns[0], more.returns[1]);
        assert_ne!(play(4, 2).returns, few.returns);
    }

    #[test]
    fn means_have_their_error() {
        assert_eq!(mean(&[1.0, 3.0]), Mean { value: 2.0, error: 1.0 });
        assert_eq!(mean(&[5.0]), Mean { value: 5.0, error: 0.0 });
    }
}
