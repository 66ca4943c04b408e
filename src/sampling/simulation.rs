//! Drawing sequences: the state of a model goes from step to step, and its draws are its next observations.

use super::options::DrawOptions;
use super::redraw::{Redraw, repeat_each};
use crate::backend::{self, Backend, Compiled, Feed};
use crate::data::held_torques;
use crate::error::Result;
use crate::models::{Observations, Sequence};
use crate::nn::LstmState;
use crate::tape::cost::{self, Cost};

/// Sequences that are drawn together at most.
const BATCH: usize = 64;

/// Draws what follows the first `given` steps of sequences `[n, t, w]`, whose values are in 0 to 1. All
/// futures of a sequence come one after the other: `[n * draws, t, w]`.
///
/// # Errors
/// Whatever the device reports.
pub fn draw_futures(
    backend: &mut dyn Backend,
    net: &Sequence,
    sequences: &[f32],
    given: usize,
    how: &Redraw,
) -> Result<Vec<f32>> {
    let Observations { steps, width, .. } = net.observations();
    let n = sequences.len() / (steps * width);
    let mut drawn = repeat_each(sequences, n, how.draws);
    let simulator = Simulator::new(backend, net, (n * how.draws).min(BATCH))?;
    let draw = DrawOptions { seed: how.seed, temperature: how.temperature, ..DrawOptions::default() };
    simulator.run(backend, &mut drawn, given, 0, draw)?;
    Ok(drawn)
}

/// The plans that continue sequences, compiled for one batch size.
pub struct Simulator {
    step: Compiled,
    noise: Compiled,
    /// The draw among the outputs of the step's plan.
    draw_output: usize,
    /// The state among the outputs of the step's plan.
    state_outputs: LstmState<usize>,
    observations: Observations,
    units: usize,
    batch: usize,
    cost: Cost,
}

impl Simulator {
    /// Compiles the plans of `net` for `batch` sequences at a time.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn new(backend: &mut dyn Backend, net: &Sequence, batch: usize) -> Result<Self> {
        let plan = net.stepping(batch);
        let once = cost::total(&plan);
        let observations = net.observations();
        let steps = observations.steps as u64;
        Ok(Simulator {
            draw_output: plan.output("draw"),
            state_outputs: LstmState { h: plan.output("h"), c: plan.output("c") },
            step: backend.compile(&plan)?,
            noise: backend.compile(&net.noise(batch))?,
            observations,
            units: net.units(),
            batch,
            cost: Cost { flops: once.flops * steps, bytes: once.bytes * steps },
        })
    }

    /// Frees the plans.
    pub fn release(self, backend: &mut dyn Backend) {
        backend.free(self.step);
        backend.free(self.noise);
    }

    /// Sequences in a batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The least cost of a batch of whole sequences.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Prepares `sequences`, `[n, t, w]`, to be drawn as a whole. If the model is given actions, they are
    /// random torques like those of its training data, by the sequence's index.
    pub fn start(&self, sequences: &mut [f32], first: usize, seed: u32) {
        let Observations { steps, width, actions, .. } = self.observations;
        sequences.fill(0.0);
        for (i, sequence) in sequences.chunks_mut(steps * width).enumerate().filter(|_| actions > 0) {
            let torques = held_torques(seed, (first + i) as u32, steps);
            sequence.chunks_mut(width).zip(torques).for_each(|(row, torque)| row[width - actions..].fill(torque));
        }
    }

    /// Draws the observations from step `given` on of each sequence, given those before it and all actions.
    /// `sequences` are `[n, t, w]` values in 0 to 1. Draws depend on the seed and on the sequence's index
    /// alone, which counts from `first`.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn run(
        &self,
        backend: &mut dyn Backend,
        sequences: &mut [f32],
        given: usize,
        first: usize,
        how: DrawOptions,
    ) -> Result<()> {
        let Observations { steps, width, .. } = self.observations;
        for (i, part) in sequences.chunks_mut(self.batch * steps * width).enumerate() {
            self.run_batch(backend, part, given, first + i * self.batch, how)?;
        }
        Ok(())
    }

    /// The same for at most one batch of sequences.
    fn run_batch(
        &self,
        backend: &mut dyn Backend,
        sequences: &mut [f32],
        given: usize,
        first: usize,
        how: DrawOptions,
    ) -> Result<()> {
        let Observations { steps, width, .. } = self.observations;
        let (n, predicted) = (self.batch, self.observations.predicted());
        let scalars = how.scalars(first);
        let mut noise = vec![0.0; n * steps * predicted];
        backend.run(self.noise, &[], &scalars)?;
        backend::read(backend, self.noise, 0, &mut noise)?;
        let mut x = vec![0.0; n * width];
        let mut state = LstmState { h: vec![0.0; n * self.units], c: vec![0.0; n * self.units] };
        let (mut noise_now, mut draws) = (vec![0.0; n * predicted], vec![0.0; n * predicted]);
        for step in 0..steps {
            let now = noise.chunks(steps * predicted).map(|all| &all[step * predicted..][..predicted]);
            noise_now.chunks_mut(predicted).zip(now).for_each(|(to, from)| to.copy_from_slice(from));
            backend.run(self.step, &[&x, &state.h, &state.c, &noise_now].map(|v| Feed::F32(v)), &scalars)?;
            backend::read(backend, self.step, self.state_outputs.h, &mut state.h)?;
            backend::read(backend, self.step, self.state_outputs.c, &mut state.c)?;
            backend::read(backend, self.step, self.draw_output, &mut draws)?;
            for ((sequence, x), draw) in
                sequences.chunks_mut(steps * width).zip(x.chunks_mut(width)).zip(draws.chunks(predicted))
            {
                let observation = &mut sequence[step * width..][..width];
                if step >= given {
                    observation[..predicted].copy_from_slice(draw);
                }
                x.copy_from_slice(observation);
            }
        }
        Ok(())
    }
}
