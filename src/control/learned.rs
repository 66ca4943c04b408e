//! A planner that tries torques in a trained sequence model. One plan simulates every candidate of every
//! episode over the whole horizon.
//!
//! [`returns`] records that plan. [`Learned`] replays it at every decision, and follows the real pendulum
//! with the model's one-step plan.

use super::{HELD, Planner, Task, best, record_reward};
use crate::backend::{self, Backend, Compiled, Feed, Scalars};
use crate::data::Pendulum;
use crate::error::{Error, Result};
use crate::models::{Family, Model, Sequence};
use crate::nn::LstmState;
use crate::shape::Meta;
use crate::tape::Tape;
use crate::tape::plan::Plan;

/// Values of an observation that the model predicts: all but the torque.
const SEEN: usize = Pendulum::WIDTH - 1;

/// A planner that knows the dynamics only from a trained model, and the state only from the observations
/// so far.
pub struct Learned<'a> {
    backend: &'a mut dyn Backend,
    returns: Compiled,
    step: Compiled,
    /// Indices of the state among the outputs of the one-step plan.
    state_outputs: LstmState<usize>,
    /// The state of the model in each episode, `[episodes, d]` each.
    state: LstmState<Vec<f32>>,
}

/// The sequence network of a model that was trained on the pendulum.
///
/// # Errors
/// If it is another model. The message names the preset to use.
pub fn pendulum_model(model: &Model) -> Result<&Sequence> {
    let refused = || {
        Error::Failed(format!(
            "{} was not trained on a pendulum with torques; give a checkpoint of lstm-pendulum",
            model.config.name()
        ))
    };
    let Family::Sequence(net) = &model.family else { return Err(refused()) };
    let observations = net.observations();
    let fits = observations.actions == 1 && observations.width == Pendulum::WIDTH;
    if fits { Ok(net) } else { Err(refused()) }
}

/// Records the plan `h[e, d], c[e, d], seen[e, 3], torques[e * k, b] -> returns[e * k]` for e episodes
/// and k candidates of b torques: the sum of the rewards over `horizon` steps. In each step the mean that
/// the model predicts becomes the next observation.
pub fn returns(net: &Sequence, task: &Task) -> Plan {
    let t = Tape::new();
    let env = net.env(&t);
    let (e, k) = (task.episodes, task.candidates);
    // All candidates of an episode have the same start.
    let start = |name: &str, len: usize| {
        let each = t.input(name, Meta::f32([e, len]));
        t.reshape(t.expand(t.reshape(each, [e, 1, len]), [e, k, len]), [e * k, len])
    };
    let mut state = LstmState { h: start("h", net.units()), c: start("c", net.units()) };
    let mut seen = start("seen", SEEN);
    let torques = t.input("torques", Meta::f32([e * k, task.torques()]));
    let mut total = None;
    for step in 0..task.horizon {
        let torque = t.channels(torques, step / HELD, step / HELD + 1);
        let reward = record_reward(&t, seen, torque);
        total = Some(total.map_or(reward, |total| t.add(total, reward)));
        if step + 1 < task.horizon {
            let x = t.add(t.pad(seen, [0; 4], [0, 0, 0, 1]), t.pad(torque, [0, 0, 0, SEEN], [0; 4]));
            let (prediction, next) = net.step(&env, x, state);
            (seen, state) = (t.clamp(prediction.mean(&t), 0.0, 1.0), next);
        }
    }
    t.output("returns", total.unwrap_or_else(|| t.fill(0.0, [e * k, 1])));
    Plan::new("control.returns", &t)
}

impl<'a> Learned<'a> {
    /// Compiles the plans for a task. The weights of the model must be on the device already.
    ///
    /// # Errors
    /// If the model was not trained on the pendulum, and whatever the device reports.
    pub fn new(backend: &'a mut dyn Backend, model: &Model, task: &Task) -> Result<Self> {
        let net = pendulum_model(model)?;
        let stepping = net.stepping(task.episodes);
        let zeros = vec![0.0; task.episodes * net.units()];
        let mut planner = Learned {
            returns: backend.compile(&returns(net, task))?,
            step: backend.compile(&stepping)?,
            state_outputs: LstmState { h: stepping.output("h"), c: stepping.output("c") },
            state: LstmState { h: zeros.clone(), c: zeros },
            backend,
        };
        // Advances the state from zeros, so that the model predicts the first observation.
        planner.observe(&vec![0.0; task.episodes * Pendulum::WIDTH])?;
        Ok(planner)
    }
}

impl Planner for Learned<'_> {
    fn choose(&mut self, task: &Task, decision: usize, now: &[Pendulum]) -> Result<Vec<f32>> {
        let (count, tried) = (task.torques(), task.candidates * task.torques());
        let seen: Vec<f32> = now.iter().flat_map(|state| state.observe()).map(|byte| f32::from(byte) / 255.0).collect();
        let torque = |i: usize| task.torque(decision, i / tried, i % tried);
        let torques: Vec<f32> = (0..now.len() * tried).map(torque).collect();
        let feeds = [&self.state.h, &self.state.c, &seen, &torques].map(|values| Feed::F32(values));
        self.backend.run(self.returns, &feeds, &Scalars::default())?;
        let mut returns = vec![0.0; now.len() * task.candidates];
        backend::read(self.backend, self.returns, 0, &mut returns)?;
        let winners = returns.chunks(task.candidates).map(best).enumerate();
        Ok(winners.map(|(episode, winner)| torques[episode * tried + winner * count]).collect())
    }

    fn observe(&mut self, observations: &[f32]) -> Result<()> {
        let episodes = observations.len() / Pendulum::WIDTH;
        let noise = vec![0.0; episodes * SEEN];
        let feeds = [observations, &self.state.h, &self.state.c, &noise].map(Feed::F32);
        self.backend.run(self.step, &feeds, &Scalars::default())?;
        backend::read(self.backend, self.step, self.state_outputs.h, &mut self.state.h)?;
        backend::read(self.backend, self.step, self.state_outputs.c, &mut self.state.c)
    }
}
