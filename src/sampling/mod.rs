//! Images from a model: draws, and completions of given images.
//!
//! [`Sampler`] draws from any family. Autoregressive models are drawn window by window if the device can do
//! it (`docs/sampling.md`), sequence models by [`Simulator`].

mod options;
mod redraw;
mod simulation;

pub use options::DrawOptions;
pub use redraw::{Redraw, Redrawn, complete, restore};
#[cfg(feature = "cli")]
pub(crate) use redraw::{check_completion, check_restoration};
pub use simulation::{Simulator, draw_futures};

use crate::backend::{self, Backend, Compiled, Feed};
use crate::data::{BatchFeeds, Range};
use crate::error::{Error, Result};
use crate::models::{Family, Model};
use crate::shape::ImageSize;
use crate::tape::cost::{self, Cost};
use crate::tape::plan::Plan;
use crate::tape::window::SamplingPlan;
use crate::tape::{InputRole, InputSpec};

/// Progress callback: called from any thread with how much has been drawn since the last call, in images.
pub type Drawn<'a> = dyn Fn(f64) + Sync + 'a;

/// How a model's plans draw images.
enum Way {
    /// One replay draws a batch.
    AtOnce(Compiled),
    /// Position by position, window by window: about one forward pass per image.
    Windows(Compiled),
    /// Position by position, with one replay of the whole network for each. This is the plain way; tests
    /// compare the windows with it.
    Naive(Compiled),
    /// Observation by observation.
    Steps(Simulator),
}

/// The most bytes of activations of a batch that is drawn by windows. All layers of all its images are kept.
const BATCH_BYTES: usize = 1 << 30;

/// Plans that draw images, compiled for one batch size.
pub struct Sampler {
    way: Way,
    batch: usize,
    /// The size of the images that the plans draw, padding included.
    size: ImageSize,
    /// The size of the model's images.
    image: ImageSize,
    /// The range of the values that the plans draw.
    range: Range,
    /// The inputs of the plan.
    inputs: Vec<InputSpec>,
    /// Number of classes of the model; 0 if it has none.
    classes: usize,
    cost: Cost,
}

impl Sampler {
    /// Compiles the sampling plan of `model` for at most `batch` images at a time, or fewer if they would
    /// need too much memory.
    ///
    /// # Errors
    /// Whatever the device reports; a plan that cannot be scheduled.
    pub fn new(backend: &mut dyn Backend, model: &Model, batch: usize) -> Result<Self> {
        let Family::Autoregressive(net) = &model.family else { return Sampler::naive(backend, model, batch) };
        let mut plan = SamplingPlan::new(&net.draw(batch.max(1)))?;
        let most = backend.sampling_bytes().map_or(BATCH_BYTES, |bytes| bytes.min(BATCH_BYTES));
        let fitting = (most / plan.bytes_per_image().max(1)).max(1);
        if fitting < plan.images {
            plan = SamplingPlan::new(&net.draw(fitting))?;
        }
        match backend.compile_sampling(&plan)? {
            Some(compiled) => Ok(Sampler::of(model, &plan.plan, Way::Windows(compiled), Range::Unit)),
            None => Sampler::naive(backend, model, batch),
        }
    }

    /// The same without windows: an autoregressive model replays the whole network for every position.
    ///
    /// # Errors
    /// Whatever the device reports.
    #[doc(hidden)]
    pub fn naive(backend: &mut dyn Backend, model: &Model, batch: usize) -> Result<Self> {
        let batch = batch.max(1);
        let (plan, way, range): (Plan, fn(Compiled) -> Way, Range) = match &model.family {
            Family::Autoregressive(net) => (net.draw(batch), Way::Naive, Range::Unit),
            Family::Latent(net) => (net.sampling(batch), Way::AtOnce, Range::Unit),
            Family::Adversarial(net) => (net.sampling(batch), Way::AtOnce, Range::Symmetric),
            Family::Classifier(_) => {
                let name = model.config.name();
                return Err(Error::Failed(format!(
                    "{name} draws no images, it judges those of other models; use `pixtape judge --classifier`"
                )));
            }
            Family::Sequence(net) => {
                let (simulator, range) = (Simulator::new(backend, net, batch)?, Range::Unit);
                let (size, image, cost) = (model.image, model.image, simulator.cost());
                let (way, inputs, classes) = (Way::Steps(simulator), vec![], 0);
                return Ok(Sampler { way, batch, size, image, range, inputs, classes, cost });
            }
        };
        let compiled = backend.compile(&plan)?;
        Ok(Sampler::of(model, &plan, way(compiled), range))
    }

    fn of(model: &Model, plan: &Plan, way: Way, range: Range) -> Self {
        let [batch, height, width, channels] = plan.outputs[0].1.meta.shape.padded();
        let size = ImageSize { height, width, channels };
        Sampler {
            way,
            batch,
            size,
            image: model.image,
            range,
            inputs: plan.inputs.clone(),
            classes: model.classes(),
            cost: cost::total(plan),
        }
    }

    /// Frees the plans.
    pub fn release(self, backend: &mut dyn Backend) {
        match self.way {
            Way::AtOnce(plan) | Way::Windows(plan) | Way::Naive(plan) => backend.free(plan),
            Way::Steps(simulator) => simulator.release(backend),
        }
    }

    /// Images in a batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The least cost of a batch: one pass through the network.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Draws `n` images, NHWC bytes. Image `i` depends on the seed and on `i` alone, not on `n` or the batch
    /// size.
    pub fn draw(&self, backend: &mut dyn Backend, n: usize, how: DrawOptions) -> Result<Vec<u8>> {
        self.draw_with(backend, n, how, &|_| {})
    }

    /// Like [`Sampler::draw`]; `progress` is called with the number of images, as a fraction, that have been
    /// drawn since the last call.
    pub fn draw_with(
        &self,
        backend: &mut dyn Backend,
        n: usize,
        how: DrawOptions,
        progress: &Drawn,
    ) -> Result<Vec<u8>> {
        let mut out = vec![];
        let len = self.size.dims();
        let mut values = vec![0.0; self.batch * len];
        for first in (0..n).step_by(self.batch) {
            let images = self.batch.min(n - first);
            match &self.way {
                Way::AtOnce(plan) => {
                    let conditions = self.conditions(first, how)?;
                    backend.run(*plan, &conditions.feeds(&self.inputs, &[]), &how.scalars(first))?;
                    backend::read(backend, *plan, 0, &mut values)?;
                    progress(images as f64);
                }
                Way::Steps(simulator) => {
                    simulator.start(&mut values, first, how.seed);
                    simulator.run(backend, &mut values, 0, first, how)?;
                    progress(images as f64);
                }
                Way::Windows(_) | Way::Naive(_) => {
                    values.fill(0.0);
                    let part = images as f64 / self.batch as f64;
                    self.by_position(backend, &mut values, 0, first, how, &|drawn| progress(part * drawn))?;
                }
            }
            out.extend(values[..images * len].chunks(len).flat_map(|image| self.bytes(image)));
        }
        Ok(out)
    }

    /// Draws the positions from `from` on (rows, columns, colours) of each image, given the positions before
    /// it. `images` are NHWC values in 0 to 1. `progress` as for [`Sampler::draw_with`].
    ///
    /// # Errors
    /// When the model does not draw pixel by pixel.
    pub fn complete(
        &self,
        backend: &mut dyn Backend,
        images: &mut [f32],
        from: usize,
        how: DrawOptions,
        progress: &Drawn,
    ) -> Result<()> {
        let len = self.size.dims();
        let mut values = vec![0.0; self.batch * len];
        for (i, part) in images.chunks_mut(self.batch * len).enumerate() {
            values[..part.len()].copy_from_slice(part);
            let share = part.len() as f64 / values.len() as f64;
            self.by_position(backend, &mut values, from, i * self.batch, how, &|drawn| progress(share * drawn))?;
            part.copy_from_slice(&values[..part.len()]);
        }
        Ok(())
    }

    /// Draws the positions from `from` on of the batch that begins with image `first`.
    fn by_position(
        &self,
        backend: &mut dyn Backend,
        values: &mut [f32],
        from: usize,
        first: usize,
        how: DrawOptions,
        progress: &Drawn,
    ) -> Result<()> {
        let (len, scalars) = (self.size.dims(), &how.scalars(first));
        let conditions = self.conditions(first, how)?;
        let plan = match self.way {
            Way::Windows(plan) => {
                let progress = |positions: usize| progress(positions as f64 / len as f64);
                backend.sample(plan, &conditions.feeds(&self.inputs, values), from, scalars, &progress)?;
                return backend::read(backend, plan, SamplingPlan::IMAGES, values);
            }
            Way::Naive(plan) => plan,
            Way::AtOnce(_) | Way::Steps(_) => {
                return Err(Error::Failed(
                    "only an autoregressive model completes images; give a checkpoint of pixelcnn-mnist".into(),
                ));
            }
        };
        let mut draws = vec![0.0; values.len()];
        for position in from..len {
            backend.run(plan, &conditions.feeds(&self.inputs, values), scalars)?;
            backend::read(backend, plan, SamplingPlan::DRAWS, &mut draws)?;
            for at in (position..values.len()).step_by(len) {
                values[at] = draws[at];
            }
            progress(self.batch as f64 / len as f64);
        }
        Ok(())
    }

    /// The conditions of the batch that begins with image `first`. If there are fewer images than a batch
    /// holds, the batch is filled up with images that are dropped afterwards.
    fn conditions(&self, first: usize, how: DrawOptions) -> Result<ConditionValues> {
        let images = first..first + self.batch;
        let labels = images.clone().map(|i| how.class(i, self.classes)).collect();
        let reduced = self.inputs.iter().find(|input| input.role == Some(InputRole::Reduced));
        let reduced = reduced.map_or(Ok(vec![]), |input| {
            let len = input.meta.shape.len() / self.batch;
            let from = first * len;
            if how.reduced.len() < from + len {
                return Err(Error::Failed(
                    "this model draws only what an image lacks that it is given; use pixtape colorize or superres"
                        .into(),
                ));
            }
            let mut reduced = how.reduced[from..(images.end * len).min(how.reduced.len())].to_vec();
            reduced.resize(input.meta.shape.len(), 0.0);
            Ok(reduced)
        })?;
        Ok(ConditionValues { labels, reduced })
    }

    /// One image as bytes, cropped to the model's size.
    fn bytes(&self, image: &[f32]) -> Vec<u8> {
        crop_to_bytes(image, self.size, self.image, self.range)
    }
}

/// The inputs of a plan other than the image.
struct ConditionValues {
    labels: Vec<u32>,
    reduced: Vec<f32>,
}

impl ConditionValues {
    fn feeds<'a>(&'a self, inputs: &[InputSpec], images: &'a [f32]) -> Vec<Feed<'a>> {
        BatchFeeds { images, labels: &self.labels, reduced: &self.reduced }.in_order(inputs)
    }
}

/// The middle of an image of this size with values in `range`, as bytes of the size `to`.
pub(crate) fn crop_to_bytes(image: &[f32], size: ImageSize, to: ImageSize, range: Range) -> Vec<u8> {
    middle(image, size, to).map(|value| range.to_byte(value)).collect()
}

/// The elements of the middle of an image of this size, of the size `to`.
fn middle<T: Copy>(image: &[T], size: ImageSize, to: ImageSize) -> impl Iterator<Item = T> {
    let (top, left) = ((size.height - to.height) / 2, (size.width - to.width) / 2);
    let rows = (0..to.height).map(move |r| ((top + r) * size.width + left) * size.channels);
    rows.flat_map(move |start| image[start..start + to.width * to.channels].iter().copied())
}
