//! Pictures from a model: prior draws, completions, reconstructions, points between latents.

use crate::backend::{self, Backend, Compiled, Feed, Scalars};
use crate::error::{Error, Result};
use crate::models::{Family, Model};
use crate::tape::cost::{self, Cost};
use crate::tape::op::Scalar;

/// How images are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Seed of the draws.
    pub seed: u32,
    /// Divisor of the logits, or factor of the prior's spread; 1 is the model itself.
    pub temperature: f32,
}

impl Draw {
    fn scalars(&self, first_image: usize) -> Scalars {
        let mut scalars = Scalars::default();
        scalars
            .set_u32(Scalar::Seed, self.seed)
            .set_u32(Scalar::FirstImage, first_image as u32)
            .set(Scalar::Temperature, self.temperature);
        scalars
    }
}

/// A plan that gives images, compiled for one batch size.
pub struct Sampler {
    plan: Compiled,
    batch: usize,
    /// Height, width and channels of what the plan gives.
    size: [usize; 3],
    /// Height, width and channels of the model's images.
    image: [usize; 3],
    /// The smallest and the largest value of a pixel.
    range: [f32; 2],
    /// Whether the plan gives one pixel at a time.
    pixelwise: bool,
    cost: Cost,
}

impl Sampler {
    /// Compiles the sampling plan of `model` for `batch` images at a time.
    pub fn new(backend: &mut dyn Backend, model: &Model, batch: usize) -> Result<Self> {
        let batch = batch.max(1);
        let (plan, range, pixelwise) = match &model.family {
            Family::Autoregressive(net) => (net.draw(batch), [0.0, 1.0], true),
            Family::Latent(net) => (net.sampling(batch), [0.0, 1.0], false),
            Family::Adversarial(net) => (net.sampling(batch), [-1.0, 1.0], false),
        };
        let dims = plan.outputs[0].1.meta.shape;
        let size = [dims.dims()[1], dims.dims()[2], dims.dims()[3]];
        let cost = cost::total(&plan);
        Ok(Sampler { plan: backend.compile(&plan)?, batch, size, image: model.image, range, pixelwise, cost })
    }

    /// What a batch costs at least: one pass through the network.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Draws `n` images, NHWC bytes. Image `i` depends on the seed and on `i` alone, not on `n` or the batch size.
    pub fn draw(&self, backend: &mut dyn Backend, n: usize, how: Draw) -> Result<Vec<u8>> {
        let mut out = vec![];
        let len: usize = self.size.iter().product();
        let mut values = vec![0.0; self.batch * len];
        for first in (0..n).step_by(self.batch) {
            if self.pixelwise {
                values.fill(0.0);
                self.pixel_by_pixel(backend, &mut values, 0, first, how)?;
            } else {
                backend.run(self.plan, &[], &how.scalars(first))?;
                backend::read(backend, self.plan, 0, &mut values)?;
            }
            let images = self.batch.min(n - first);
            out.extend(values[..images * len].chunks(len).flat_map(|image| self.bytes(image)));
        }
        Ok(out)
    }

    /// Draws what lies at or behind pixel `from` (in raster order) of each image, given what lies before it; `images`
    /// are NHWC values in 0 to 1.
    ///
    /// # Errors
    /// When the model does not draw pixel by pixel.
    pub fn complete(&self, backend: &mut dyn Backend, images: &mut [f32], from: usize, how: Draw) -> Result<()> {
        if !self.pixelwise {
            return Err(Error::Failed(
                "only an autoregressive model completes images; give a checkpoint of pixelcnn-mnist".into(),
            ));
        }
        let len: usize = self.size.iter().product();
        let mut values = vec![0.0; self.batch * len];
        for (i, part) in images.chunks_mut(self.batch * len).enumerate() {
            values[..part.len()].copy_from_slice(part);
            self.pixel_by_pixel(backend, &mut values, from, i * self.batch, how)?;
            part.copy_from_slice(&values[..part.len()]);
        }
        Ok(())
    }

    /// The plain way: the whole network once a pixel.
    fn pixel_by_pixel(
        &self,
        backend: &mut dyn Backend,
        values: &mut [f32],
        from: usize,
        first: usize,
        how: Draw,
    ) -> Result<()> {
        let len: usize = self.size.iter().product();
        let mut draws = vec![0.0; values.len()];
        let scalars = how.scalars(first);
        for pixel in from..len {
            backend.run(self.plan, &[Feed::F32(values)], &scalars)?;
            backend::read(backend, self.plan, 0, &mut draws)?;
            for at in (pixel..values.len()).step_by(len) {
                values[at] = draws[at];
            }
        }
        Ok(())
    }

    /// One image as bytes, cropped to the model's size.
    fn bytes(&self, image: &[f32]) -> Vec<u8> {
        crop_to_bytes(image, self.size, self.image, self.range)
    }
}

/// The middle of an image `[h, w, c]` with values in `range`, as bytes of size `to`.
pub fn crop_to_bytes(image: &[f32], size: [usize; 3], to: [usize; 3], range: [f32; 2]) -> Vec<u8> {
    let [top, left] = [(size[0] - to[0]) / 2, (size[1] - to[1]) / 2];
    let byte = |v: f32| (((v - range[0]) / (range[1] - range[0])).clamp(0.0, 1.0) * 255.0).round() as u8;
    let rows = (0..to[0]).map(|r| ((top + r) * size[1] + left) * size[2]);
    rows.flat_map(|start| image[start..start + to[1] * to[2]].iter().map(|v| byte(*v))).collect()
}
