//! Sampling by windows on the CPU. The images of a batch are split into shares, and each share is one task,
//! which goes through all rounds and windows.
//!
//! Images are independent, so tasks never wait for each other. After the steps that run whole, a batch is a
//! single parallel region, instead of one region per step. [`share`] gives the operands of a share.
//! [`kernels`] computes a window for all images of a share; the windows of LSTM scans are in [`scan`].

mod kernels;
mod scan;
mod share;

use super::access::Access;
use super::buffer::WordBuffer;
use super::product::Isa;
use super::{CompiledPlan, CpuEngine, launch};
use crate::backend::Progress;
use crate::error::{Error, Result};
use crate::tape::window::SamplingPlan;
use kernels::Kernel;
use rayon::prelude::*;
use share::Share;

/// Most images of a share: enough rows for a register tile, few enough to stay in the caches.
const IMAGES: usize = 16;

/// The parts of a sampled plan in addition to its buffers.
pub(super) struct Sampling {
    plan: SamplingPlan,
    /// The kernel of each step; `None` if the step runs whole, before the first round.
    kernels: Vec<Option<Kernel>>,
    /// The packed weights of all products.
    packed: WordBuffer,
}

impl Sampling {
    /// # Errors
    /// [`Error::Device`] if a step has no windows; the error names the step.
    pub(super) fn new(plan: &SamplingPlan, isa: Isa) -> Result<Self> {
        let mut packed = 0;
        let mut kernels = vec![];
        for (step, size) in plan.plan.steps.iter().zip(&plan.sizes) {
            let kernel = size.map(|size| Kernel::new(step, size, isa, &mut packed)).transpose();
            kernels.push(kernel.map_err(|why| {
                let (name, label) = (&plan.plan.name, step.label());
                Error::Device(format!("plan {name}: {label} in {}, recorded at {}: {why}", step.scope, step.at))
            })?);
        }
        Ok(Sampling { plan: plan.clone(), kernels, packed: WordBuffer::new(packed) })
    }

    /// Whether a step of the plan runs whole, before the first round.
    pub(super) fn runs_whole(&self, index: usize) -> bool {
        self.kernels[index].is_none()
    }

    /// Number of floats of the packed weights.
    pub(super) fn packed_len(&self) -> usize {
        self.packed.len()
    }
}

impl CpuEngine {
    /// Draws a batch. The plan was compiled for sampling, and its inputs and scalars are already in its
    /// buffers.
    pub(super) fn draw_windows(&mut self, compiled: &mut CompiledPlan, from: usize, progress: &Progress) {
        let (isa, poison) = (self.isa, self.options.poison);
        let CompiledPlan { slots, scratch, places, sampling, .. } = compiled;
        let Some(Sampling { plan: sampling, kernels, packed }) = sampling else { return };
        if poison {
            slots.iter_mut().for_each(|slot| slot.floats_mut().fill(f32::NAN));
        }
        let (scratch_at, scratch_len) = (scratch.as_ptr() as usize, scratch.len());
        let (places, kernels, sampling) = (&*places, &*kernels, &*sampling);
        self.pool.install(|| {
            for step in sampling.before() {
                // SAFETY: no operand is longer than its slot, input or parameter, and no output of a step is
                // also an input, except the state that an optimiser replaces in place
                // (`SamplingPlan::check`, which includes `Plan::check`, called by `Gate::compile_sampling`).
                // `allocate` made slots and inputs as long as the plan says, and the scratch as long as the
                // longest request of these steps. Parameters have the declared length
                // (`Gate::check_params`). Engine and plan are held by `&mut`, so nothing else accesses the
                // buffers.
                let access = unsafe { Access::new(step, places, scratch_at as *mut u32, scratch_len) };
                launch::launch(step, isa.into(), &access);
            }
            for (step, kernel) in sampling.plan.steps.iter().zip(kernels) {
                // SAFETY: the lengths are those of the steps above, for the same reasons. `Kernel::pack`
                // only reads the weights, which nothing writes.
                let access = unsafe { Access::new(step, places, scratch_at as *mut u32, scratch_len) };
                if let Some(kernel) = kernel {
                    kernel.pack(&access, packed.floats_mut());
                }
            }
            let packed: &[f32] = bytemuck::cast_slice(packed.words());
            let each = sampling.images.div_ceil(rayon::current_num_threads()).clamp(1, IMAGES);
            (0..sampling.images.div_ceil(each)).into_par_iter().with_max_len(1).for_each(|i| {
                let images = i * each..sampling.images.min((i + 1) * each);
                // SAFETY: no operand is longer than its buffer. An operand has the same number of elements
                // for each image, unless all images share it. Steps with windows write only slots (all
                // three: `SamplingPlan::check`, called by `Gate::compile_sampling`). So two shares, which
                // have no image in common, never write the same elements, and parameters and scalars are not
                // written. The engine and the plan are held by `&mut`, so nothing else accesses the buffers.
                let share = unsafe { Share::new(sampling, places, images) };
                walk(&share, kernels, packed, from, progress);
            });
        });
    }
}

/// Computes all rounds of a share.
fn walk(share: &Share, kernels: &[Option<Kernel>], packed: &[f32], from: usize, progress: &Progress) {
    let plan = share.plan();
    let row = plan.image.width * plan.image.channels;
    for round in 0..plan.rounds() {
        for window in plan.in_round(round) {
            let step = window.step as usize;
            if let (Some(kernel), Some(size)) = (&kernels[step], plan.sizes[step]) {
                kernel.run(share, &plan.plan.steps[step], size, window, packed);
            }
        }
        if round >= from {
            share.feed_back(round);
        }
        if (round + 1) % row == 0 {
            progress(share.count() * row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::{Cpu, Options};
    use crate::backend::engine::Engine;
    use crate::backend::{Feed, Scalars};
    use crate::rng::{self, Stream};
    use crate::shape::Meta;
    use crate::tape::geometry::Mask;
    use crate::tape::op::{Dist, Param, ParamId, Scalar};
    use crate::tape::plan::Plan;
    use crate::tape::record::ConvAttrs;
    use crate::tape::{InputRole, Tape};

    /// Three images of 6x6x1 through two masked layers, then a draw. The weights are large enough that the
    /// draws depend on each other.
    fn plan(engine: &mut CpuEngine) -> SamplingPlan {
        let t = Tape::new();
        let x = t.input_of(InputRole::Images, Meta::f32([3, 6, 6, 1]));
        let weight = |id, shape: [usize; 4]| Param { id: ParamId(id), path: "weight".into(), shape: shape.into() };
        let (first, last) = (weight(0, [3, 3, 1, 8]), weight(1, [3, 3, 8, 1]));
        let y = t.tanh(t.conv(x, t.param(&first), ConvAttrs::masked(Mask::A, 3, 1)));
        let y = t.conv(y, t.param(&last), ConvAttrs::masked(Mask::B, 3, 1));
        let u = t.random_by_image(Dist::Uniform, Stream::Pixel, t.shape(y));
        t.output("draw", t.bernoulli(y, u, t.scalar(Scalar::f32("Temperature", 1.0))));
        for param in [first, last] {
            let number = |k| 4.0 * rng::uniform(1, Stream::Test, [param.id.0, k as u32]) - 2.0;
            let value: Vec<f32> = (0..param.shape.len()).map(number).collect();
            engine.write_param(param.id, &value).unwrap();
        }
        SamplingPlan::new(&Plan::new("test", &t)).unwrap()
    }

    fn draw(engine: &mut CpuEngine, plan: &SamplingPlan) -> Vec<f32> {
        let mut x = vec![0.0; 3 * 36];
        let mut compiled = engine.compile_sampling(plan).unwrap().unwrap();
        engine.sample(&mut compiled, &[Feed::F32(&x)], 0, &Scalars::default(), &|_| {}).unwrap();
        let words = bytemuck::cast_slice_mut(&mut x);
        engine.read_words(&mut compiled, SamplingPlan::IMAGES, words).unwrap();
        x
    }

    /// Shows that the draws depend on the windows, so a comparison of windows with whole plans means
    /// something. The test calls the engine directly, because the gate refuses some of these plans.
    #[test]
    fn a_window_that_is_wrong_changes_the_draws() {
        let mut cpu = Cpu::new(Options { threads: 1, ..Default::default() }).unwrap();
        let engine = &mut cpu.engine;
        let right = plan(engine);
        let want = draw(engine, &right);
        let half = right.starts[right.rounds() / 2];
        for change in 0..3 {
            let mut wrong = right.clone();
            let window = &mut wrong.windows[half];
            match change {
                // The window is next to the pixel that became computable; it lacks the last channels; it is
                // empty.
                0 => window.columns = if window.columns[0] > 0 { window.columns.map(|c| c - 1) } else { [1, 2] },
                1 => window.channels[1] -= 4,
                _ => window.rows[1] = window.rows[0],
            }
            assert_ne!(draw(engine, &wrong), want, "change {change}");
        }
    }
}
