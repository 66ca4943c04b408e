//! Sampling pixel by pixel on the CPU: every thread walks a share of the images through all rounds and windows.
//!
//! Images are independent of each other, so shares never wait for each other: there is one parallel region a batch, not
//! one a step. [`share`] gives the operands of a share, [`kernels`] computes a window for all its images.

mod kernels;
mod scan;
mod share;

use super::buffer::WordBuffer;
use super::product::Isa;
use super::{Access, CompiledPlan, Cpu, launch};
use crate::backend::{Compiled, Feed, Progress, Scalars};
use crate::error::{Error, Result};
use crate::tape::window::SamplingPlan;
use kernels::Kernel;
use rayon::prelude::*;
use share::Share;

/// Most images of a share: enough rows for a register tile, few enough to stay in the caches.
const IMAGES: usize = 16;

/// What [`CompiledPlan`] knows besides where a plan is sampled.
pub(super) struct Sampling {
    plan: SamplingPlan,
    /// Of each step; `None` where it runs whole, before the first round.
    kernels: Vec<Option<Kernel>>,
    /// Weights of all products.
    packed: WordBuffer,
}

impl Sampling {
    /// # Errors
    /// [`Error::Device`] for a step that has no windows here; the error names it.
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

    /// Number of floats of the packed weights.
    pub(super) fn packed_len(&self) -> usize {
        self.packed.len()
    }
}

impl Cpu {
    pub(super) fn draw_windows(
        &mut self,
        plan: Compiled,
        feeds: &[Feed],
        from: usize,
        scalars: &Scalars,
        progress: &Progress,
    ) -> Result<()> {
        self.feed(plan, feeds, scalars)?;
        let (isa, poison) = (self.isa, self.options.poison);
        let CompiledPlan { plan, slots, scratch, places, sampling, .. } = &mut self.plans[plan.0];
        let Some(Sampling { plan: sampling, kernels, packed }) = sampling else {
            return Err(Error::Failed(format!("plan {} was not compiled for sampling", plan.name)));
        };
        if poison {
            slots.iter_mut().for_each(|slot| slot.floats_mut().fill(f32::NAN));
        }
        let (scratch_at, scratch_len) = (scratch.as_ptr() as usize, scratch.len());
        let (places, kernels, sampling) = (&*places, &*kernels, &*sampling);
        self.pool.install(|| {
            for step in sampling.before() {
                // SAFETY: as in `Cpu::execute`.
                let access = unsafe { Access::new(step, places, scratch_at as *mut u32, scratch_len) };
                launch::launch(step, isa, &access);
            }
            for (step, kernel) in sampling.plan.steps.iter().zip(kernels) {
                // SAFETY: as in `Cpu::execute`; only parameters are read.
                let access = unsafe { Access::new(step, places, scratch_at as *mut u32, scratch_len) };
                if let Some(kernel) = kernel {
                    kernel.pack(&access, packed.floats_mut());
                }
            }
            let packed: &[f32] = bytemuck::cast_slice(packed.words());
            let each = sampling.images.div_ceil(rayon::current_num_threads()).clamp(1, IMAGES);
            (0..sampling.images.div_ceil(each)).into_par_iter().with_max_len(1).for_each(|i| {
                let images = i * each..sampling.images.min((i + 1) * each);
                // SAFETY: `compile_sampling` made every buffer as long as its operand; shares have no image in common.
                let share = unsafe { Share::new(sampling, places, images) };
                walk(&share, kernels, packed, from, progress);
            });
        });
        Ok(())
    }
}

/// Walks a share through all rounds.
fn walk(share: &Share, kernels: &[Option<Kernel>], packed: &[f32], from: usize, progress: &Progress) {
    let plan = share.plan();
    let row = plan.image[1] * plan.image[2];
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
    use crate::backend::Backend;
    use crate::backend::cpu::Options;
    use crate::nn::{Init, Layout, ParamSet};
    use crate::rng::Stream;
    use crate::shape::Meta;
    use crate::tape::Tape;
    use crate::tape::geometry::Mask;
    use crate::tape::op::{Dist, Scalar};
    use crate::tape::plan::Plan;
    use crate::tape::record::ConvAttrs;

    /// Three images of 6x6x1 through two masked layers, then a draw; and the weights, which make the draws depend on each other.
    fn plan(cpu: &mut Cpu) -> SamplingPlan {
        let (t, mut set) = (Tape::new(), ParamSet::new());
        let x = t.input("x", Meta::f32([3, 6, 6, 1]));
        let first = set.weight("first", [3, 3, 1, 8], Init::Normal(0.0, 2.0), Layout::Conv);
        let last = set.weight("last", [3, 3, 8, 1], Init::Normal(0.0, 2.0), Layout::Conv);
        let y = t.tanh(t.conv(x, t.param(&first), ConvAttrs::masked(Mask::A, 3, 1)));
        let y = t.conv(y, t.param(&last), ConvAttrs::masked(Mask::B, 3, 1));
        let u = t.random_by_image(Dist::Uniform, Stream::Pixel, t.shape(y));
        t.output("draw", t.bernoulli(y, u, t.scalar(Scalar::Temperature)));
        for spec in set.specs() {
            cpu.write_param(spec.param.id, &spec.initial(1)).unwrap();
        }
        SamplingPlan::new(&Plan::new("test", &t)).unwrap()
    }

    fn draw(cpu: &mut Cpu, plan: &SamplingPlan) -> Vec<f32> {
        let mut x = vec![0.0; 3 * 36];
        let compiled = cpu.compile_sampling(plan).unwrap().unwrap();
        cpu.sample(compiled, &[Feed::F32(&x)], 0, &Scalars::default(), &|_| {}).unwrap();
        cpu.read_words(compiled, SamplingPlan::IMAGES, bytemuck::cast_slice_mut(&mut x)).unwrap();
        x
    }

    /// Without this the tests that compare windows with whole plans might compare nothing.
    #[test]
    fn a_window_that_is_wrong_changes_the_draws() {
        let mut cpu = Cpu::new(Options { threads: 1, ..Default::default() }).unwrap();
        let right = plan(&mut cpu);
        let want = draw(&mut cpu, &right);
        let half = right.starts[right.rounds() / 2];
        for change in 0..3 {
            let mut wrong = right.clone();
            let window = &mut wrong.windows[half];
            match change {
                // Next to the pixel that became computable, without its last channels, and nothing at all.
                0 => window.columns = if window.columns[0] > 0 { window.columns.map(|c| c - 1) } else { [1, 2] },
                1 => window.channels[1] -= 4,
                _ => window.rows[1] = window.rows[0],
            }
            assert_ne!(draw(&mut cpu, &wrong), want, "change {change}");
        }
    }
}
