//! What every output of a network sees of its input: the exact support of its Jacobian, found by running the kernels.
//!
//! Two ways, so that forward and backward kernels are both held to it:
//!
//! - **by gradient**: the gradient of one output at a time with respect to the whole input;
//! - **by perturbation**: one input at a time is changed, and every output that changes sees it.
//!
//! With the weights of a model at hand neither is exact: terms cancel, a relu that is off hides what is behind it, a small
//! change is lost in rounding. So the parameters are replaced. All weights of products are positive, and so is what they are
//! applied to; every activation in use (relu, tanh, sigmoid, the gated unit, an LSTM cell) strictly increases there. Then each
//! path from an input to an output adds a positive term and nothing can take it away: a gradient is zero where there is no path,
//! and nowhere else. A perturbation starts from an input that the first layer reads as zero, without biases: every output is
//! exactly 0 then, and whatever is not 0 after a change has seen it, however little arrives. Only a gate whose other factor is
//! at rest hides a change, so every input is changed a second time where everything is above zero. What remains is underflow:
//! weights of about half of one over their number keep every layer's values in range. The support belongs to the
//! architecture; it is the same for all weights in general position.

use crate::backend::{self, Backend, Compiled, Feed, Scalars};
use crate::error::Result;
use crate::models::{Autoregressive, Conditions};
use crate::nn::{Env, Layout, ParamSet};
use crate::rng::{self, Stream};
use crate::shape::{DType, Meta};
use crate::tape::plan::Plan;
use crate::tape::{Tape, Var};

/// Outputs or inputs that are examined together, one an image of a batch.
const BATCH: usize = 16;

/// What biases are, where everything is to lie above zero.
const CONSTANT: f32 = 0.1;

/// Raises gradients and changes far above the smallest float.
const LOUD: f32 = 1e6;

/// A network from images to outputs at each of their pixels.
pub struct Subject<'a> {
    /// Its parameters.
    pub set: &'a ParamSet,
    /// Height, width and channels of its input.
    pub input: [usize; 3],
    /// Outputs a pixel: equal groups of the channels that it ends with, each examined as a whole.
    pub outputs: usize,
    /// The input that its first layer reads as zero.
    pub zero: f32,
    /// Records it: `x[n, h, w, c] -> y[n, h, w, outputs * k]`. It may declare further inputs, which are fed zeros.
    pub network: &'a dyn Fn(&Env, Var) -> Var,
}

/// Which inputs each output sees. Inputs and outputs are numbered by pixel in raster order, then by channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// Height, width and channels of the input.
    pub input: [usize; 3],
    /// Outputs a pixel.
    pub outputs: usize,
    /// `[output][input]`
    seen: Vec<bool>,
}

/// An output that sees an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Number of the output.
    pub output: usize,
    /// Number of the input.
    pub input: usize,
}

/// Told how many of all outputs or inputs have been examined.
pub type Progress<'a> = dyn FnMut(usize, usize) + 'a;

/// The support of one network, found in both ways. A sound device gives the same one twice.
pub struct Supports {
    /// By the gradient of each output.
    pub by_gradient: Support,
    /// By a change of each input.
    pub by_perturbation: Support,
}

/// The exact support of an autoregressive model, found in both ways.
///
/// # Errors
/// Whatever the device reports.
pub fn supports(
    backend: &mut dyn Backend,
    set: &ParamSet,
    net: &Autoregressive,
    progress: &mut Progress,
) -> Result<Supports> {
    let pixels = net.pixels();
    let network = |env: &Env, x: Var| {
        let conditions: Conditions = net.conditions(env.t, env.t.shape(x).dims()[0]);
        net.network().logits(env, x, conditions)
    };
    let zero = if pixels.levels == 2 { 0.0 } else { 0.5 };
    let subject = Subject { set, input: pixels.size, outputs: pixels.colours(), zero, network: &network };
    // A gradient costs about twice a forward pass, of which the other way takes two.
    Ok(Supports {
        by_gradient: subject.by_gradient(backend, &mut |done, of| progress(done, 2 * of))?,
        by_perturbation: subject.by_perturbation(backend, &mut |done, of| progress(of + done, 2 * of))?,
    })
}

impl Subject<'_> {
    /// The support of the Jacobian, by the gradient of each output.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn by_gradient(&self, backend: &mut dyn Backend, progress: &mut Progress) -> Result<Support> {
        self.write_weights(backend, CONSTANT)?;
        let t = Tape::new();
        let env = Env::infer(&t, self.set);
        let [h, w, c] = self.input;
        let x = t.input("x", Meta::f32([BATCH, h, w, c]));
        let y = (self.network)(&env, x);
        let dy = t.input("dy", Meta::f32(t.shape(y)));
        t.output("dx", t.grad_from(&[(y, dy)], &[x])[0]);
        let running = Running::new(backend, Plan::new("causality.gradient", &t))?;
        // In the middle of its range an input is above zero to the first layer, however that reads it.
        let x: Vec<f32> = (0..BATCH * h * w * c).map(|i| 0.75 + 0.25 * draw(0, i)).collect();
        let (mut support, k) = (self.nothing(), t.shape(y).last() / self.outputs);
        let (mut cotangent, mut dx) = (vec![0.0; t.shape(y).len()], vec![0.0; x.len()]);
        let total = h * w * self.outputs;
        for first in (0..total).step_by(BATCH) {
            cotangent.fill(0.0);
            for (i, output) in (first..total).take(BATCH).enumerate() {
                cotangent[(i * total + output) * k..][..k].fill(LOUD);
            }
            running.replay(backend, &[("x", &x), ("dy", &cotangent)], &mut dx)?;
            for (output, dx) in (first..total).zip(dx.chunks_exact(h * w * c)) {
                dx.iter().enumerate().filter(|(_, d)| **d != 0.0).for_each(|(input, _)| support.set(output, input));
            }
            progress((first + BATCH).min(total), total);
        }
        Ok(support)
    }

    /// The support of the Jacobian, by changing each input.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn by_perturbation(&self, backend: &mut dyn Backend, progress: &mut Progress) -> Result<Support> {
        let t = Tape::new();
        let env = Env::infer(&t, self.set);
        let [h, w, c] = self.input;
        let x = t.input("x", Meta::f32([BATCH, h, w, c]));
        let y = (self.network)(&env, x);
        t.output("y", y);
        let (mut support, k) = (self.nothing(), t.shape(y).last() / self.outputs);
        let (mut x, mut y) = (vec![0.0; BATCH * h * w * c], vec![0.0; t.shape(y).len()]);
        let total = h * w * c;
        struct Start {
            bias: f32,
            level: f32,
        }
        // From rest, then from where everything is above zero.
        let starts = [Start { bias: 0.0, level: self.zero }, Start { bias: CONSTANT, level: self.zero + 0.25 }];
        for (round, Start { bias, level }) in starts.iter().enumerate() {
            self.write_weights(backend, *bias)?;
            let running = Running::new(backend, Plan::new("causality.perturbation", &t))?;
            x.fill(*level);
            running.replay(backend, &[("x", &x)], &mut y)?;
            let unchanged = y[..h * w * self.outputs * k].to_vec();
            for first in (0..total).step_by(BATCH) {
                x.fill(*level);
                for (i, input) in (first..total).take(BATCH).enumerate() {
                    x[i * total + input] = LOUD;
                }
                running.replay(backend, &[("x", &x)], &mut y)?;
                for (input, y) in (first..total).zip(y.chunks_exact(unchanged.len())) {
                    for (output, (y, before)) in y.chunks_exact(k).zip(unchanged.chunks_exact(k)).enumerate() {
                        if y != before {
                            support.set(output, input);
                        }
                    }
                }
                progress(round * total + (first + BATCH).min(total), starts.len() * total);
            }
        }
        Ok(support)
    }

    /// Positive weights, half of one over the number of terms of a sum, so that no gate saturates; every constant that is
    /// added is `constant`.
    fn write_weights(&self, backend: &mut dyn Backend, constant: f32) -> Result<()> {
        self.set.specs().iter().enumerate().try_for_each(|(i, spec)| {
            let shape = spec.param.shape;
            let is_weight = spec.layout != Layout::Same;
            let weight = |k| (0.25 + 0.5 * draw(i as u32 + 1, k)) / shape.rows() as f32;
            let value: Vec<f32> = (0..shape.len()).map(|k| if is_weight { weight(k) } else { constant }).collect();
            backend.write_param(spec.param.id, &value)
        })
    }

    fn nothing(&self) -> Support {
        let [h, w, c] = self.input;
        let seen = vec![false; (h * w * self.outputs) * (h * w * c)];
        Support { input: self.input, outputs: self.outputs, seen }
    }
}

/// A number in [0, 1).
fn draw(what: u32, element: usize) -> f32 {
    rng::uniform(0, Stream::Test, [what, element as u32])
}

/// A compiled plan with zeros for the inputs that nobody names.
struct Running {
    plan: Plan,
    compiled: Compiled,
    zeros: Vec<u32>,
}

impl Running {
    fn new(backend: &mut dyn Backend, plan: Plan) -> Result<Self> {
        let most = plan.inputs.iter().map(|i| i.meta.shape.len()).max().unwrap_or(0);
        Ok(Running { compiled: backend.compile(&plan)?, plan, zeros: vec![0; most] })
    }

    /// Replays the plan on the values of the named inputs and reads its only output.
    fn replay(&self, backend: &mut dyn Backend, values: &[(&str, &[f32])], out: &mut [f32]) -> Result<()> {
        let feeds: Vec<Feed> = self
            .plan
            .inputs
            .iter()
            .map(|input| {
                let zeros = &self.zeros[..input.meta.shape.len()];
                match (values.iter().find(|(name, _)| *name == input.name), input.meta.dtype) {
                    (Some((_, values)), _) => Feed::F32(values),
                    (None, DType::F32) => Feed::F32(bytemuck::cast_slice(zeros)),
                    (None, DType::U32) => Feed::U32(zeros),
                }
            })
            .collect();
        backend.run(self.compiled, &feeds, &Scalars::default())?;
        backend::read(backend, self.compiled, 0, out)
    }
}

impl Support {
    fn inputs(&self) -> usize {
        self.input.iter().product()
    }

    fn set(&mut self, output: usize, input: usize) {
        let inputs = self.inputs();
        self.seen[output * inputs + input] = true;
    }

    /// Whether output number `output` sees input number `input`.
    pub fn sees(&self, output: usize, input: usize) -> bool {
        self.seen[output * self.inputs() + input]
    }

    /// Whether an output sees any channel of the pixel.
    pub fn sees_pixel(&self, output: usize, pixel: usize) -> bool {
        let channels = self.input[2];
        (pixel * channels..(pixel + 1) * channels).any(|input| self.sees(output, input))
    }

    /// Where an output sees what an autoregressive model must not: its own dimension, or a later one.
    pub fn leaks(&self) -> Vec<Dependency> {
        let later = |output: usize| (output..self.inputs()).map(move |input| Dependency { output, input });
        let pairs = (0..self.seen.len() / self.inputs()).flat_map(later);
        pairs.filter(|pair| self.sees(pair.output, pair.input)).collect()
    }

    /// What one of two supports holds and the other does not.
    pub fn differences(&self, other: &Support) -> Vec<Dependency> {
        let inputs = self.inputs();
        let differ = self.seen.iter().zip(&other.seen).enumerate().filter(|(_, (a, b))| a != b);
        differ.map(|(at, _)| Dependency { output: at / inputs, input: at % inputs }).collect()
    }

    /// What either of two supports holds.
    pub fn union(mut self, other: &Support) -> Support {
        self.seen.iter_mut().zip(&other.seen).for_each(|(a, b)| *a |= b);
        self
    }

    /// The blind spot of an output: pixels before its own that it does not see, although they lie within the rows and columns
    /// that its context spans.
    pub fn blind_spot(&self, output: usize) -> Vec<usize> {
        let [_, width, _] = self.input;
        let own = output / self.outputs;
        let seen: Vec<usize> = (0..own).filter(|pixel| self.sees_pixel(output, *pixel)).collect();
        let (rows, columns) = (seen.iter().map(|p| p / width), seen.iter().map(|p| p % width));
        let (Some(top), Some(left), Some(right)) = (rows.min(), columns.clone().min(), columns.max()) else {
            return vec![];
        };
        let within = |pixel: &usize| *pixel / width >= top && (left..=right).contains(&(pixel % width));
        (0..own).filter(within).filter(|pixel| !self.sees_pixel(output, *pixel)).collect()
    }

    /// How many outputs have a blind spot.
    pub fn blind_outputs(&self) -> usize {
        (0..self.seen.len() / self.inputs()).filter(|output| !self.blind_spot(*output).is_empty()).count()
    }
}
