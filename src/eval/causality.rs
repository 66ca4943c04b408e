//! The exact support of a network's Jacobian: which inputs each output depends on, measured by running
//! the kernels.
//!
//! There are two methods, so that both forward and backward kernels are tested:
//!
//! - **by gradient**: computes the gradient of one output at a time with respect to the whole input;
//! - **by perturbation**: changes one input at a time, and marks every output that changes.
//!
//! With the weights of a trained model neither is exact: terms cancel, an inactive relu hides its input,
//! and a small change is lost in rounding. Therefore the parameters are replaced. All weights of products
//! are positive, and so are their inputs. Every activation in use (relu, tanh, sigmoid, the gated unit,
//! an LSTM cell) is strictly increasing there. Then each path from an input to an output adds a positive
//! term, and no term can cancel it: a gradient is zero exactly where there is no path.
//!
//! A perturbation starts from an input that the first layer reads as zero, without biases. Every output
//! is then exactly 0, and each output that is not 0 after a change depends on that input, however small
//! the effect is. Only a gate whose other factor is zero hides a change, so every input is changed a
//! second time from a state in which everything is positive. Underflow is avoided by weights of about
//! half of one over the number of terms, which keep the values of every layer in range. The support is a
//! property of the architecture: it is the same for all weights in general position.

use crate::backend::{self, Backend, Compiled, Feed, Scalars};
use crate::error::Result;
use crate::models::{Autoregressive, Conditions};
use crate::nn::{Env, Layout, ParamSet};
use crate::rng::{self, Stream};
use crate::shape::{DType, ImageSize, Meta};
use crate::tape::plan::Plan;
use crate::tape::{Tape, Var};

/// Number of outputs or inputs that are examined together, one per image of a batch.
const BATCH: usize = 16;

/// The value of the biases in the runs in which everything is to be positive.
const CONSTANT: f32 = 0.1;

/// The size of gradients and changes, far above the smallest float.
const LOUD: f32 = 1e6;

/// A network that maps images to outputs at each of their pixels.
pub struct Subject<'a> {
    /// Its parameters.
    pub set: &'a ParamSet,
    /// The size of its input.
    pub input: ImageSize,
    /// Outputs per pixel: equal groups of the last layer's channels. Each group is examined as a whole.
    pub outputs: usize,
    /// The input value that its first layer reads as zero.
    pub zero: f32,
    /// Records the network: `x[n, h, w, c] -> y[n, h, w, outputs * k]`. It may declare further inputs,
    /// which are fed zeros.
    pub network: &'a dyn Fn(&Env, Var) -> Var,
}

/// Which inputs each output depends on ("sees"). Inputs and outputs are numbered by pixel in raster
/// order, then by channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// The size of the input.
    pub input: ImageSize,
    /// Outputs per pixel.
    pub outputs: usize,
    /// `[output][input]`
    seen: Vec<bool>,
}

/// An output that depends on an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Number of the output.
    pub output: usize,
    /// Number of the input.
    pub input: usize,
}

/// Progress callback: receives how many outputs or inputs have been examined, and how many there are.
pub type Progress<'a> = dyn FnMut(usize, usize) + 'a;

/// The support of one network, measured by both methods. If the kernels are right, both are equal.
pub struct Supports {
    /// Measured by the gradient of each output.
    pub by_gradient: Support,
    /// Measured by a change of each input.
    pub by_perturbation: Support,
}

/// Measures the exact support of an autoregressive model by both methods.
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
    // Both methods take about the same time: a gradient costs about two forward passes, and the other
    // method needs two forward passes per input.
    Ok(Supports {
        by_gradient: subject.by_gradient(backend, &mut |done, of| progress(done, 2 * of))?,
        by_perturbation: subject.by_perturbation(backend, &mut |done, of| progress(of + done, 2 * of))?,
    })
}

impl Subject<'_> {
    /// Measures the support by the gradient of each output.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn by_gradient(&self, backend: &mut dyn Backend, progress: &mut Progress) -> Result<Support> {
        self.write_weights(backend, CONSTANT)?;
        let t = Tape::new();
        let env = Env::infer(&t, self.set);
        let (pixels, inputs) = (self.input.height * self.input.width, self.input.dims());
        let x = t.input("x", Meta::f32(self.input.batch(BATCH)));
        let y = (self.network)(&env, x);
        let dy = t.input("dy", Meta::f32(t.shape(y)));
        t.output("dx", t.grad_from(&[(y, dy)], &[x])[0]);
        let running = Running::new(backend, Plan::new("causality.gradient", &t))?;
        // Inputs above the middle of their range are positive to the first layer, whether it reads them
        // in 0 to 1 or in -1 to 1.
        let x: Vec<f32> = (0..BATCH * inputs).map(|i| 0.75 + 0.25 * draw(0, i)).collect();
        let (mut support, k) = (self.nothing(), t.shape(y).last() / self.outputs);
        let (mut cotangent, mut dx) = (vec![0.0; t.shape(y).len()], vec![0.0; x.len()]);
        let total = pixels * self.outputs;
        for first in (0..total).step_by(BATCH) {
            cotangent.fill(0.0);
            for (i, output) in (first..total).take(BATCH).enumerate() {
                cotangent[(i * total + output) * k..][..k].fill(LOUD);
            }
            running.replay(backend, &[("x", &x), ("dy", &cotangent)], &mut dx)?;
            for (output, dx) in (first..total).zip(dx.chunks_exact(inputs)) {
                dx.iter().enumerate().filter(|(_, d)| **d != 0.0).for_each(|(input, _)| support.set(output, input));
            }
            progress((first + BATCH).min(total), total);
        }
        backend.free(running.compiled);
        Ok(support)
    }

    /// Measures the support by a change of each input.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn by_perturbation(&self, backend: &mut dyn Backend, progress: &mut Progress) -> Result<Support> {
        let t = Tape::new();
        let env = Env::infer(&t, self.set);
        let (pixels, inputs) = (self.input.height * self.input.width, self.input.dims());
        let x = t.input("x", Meta::f32(self.input.batch(BATCH)));
        let y = (self.network)(&env, x);
        t.output("y", y);
        let (mut support, k) = (self.nothing(), t.shape(y).last() / self.outputs);
        let (mut x, mut y) = (vec![0.0; BATCH * inputs], vec![0.0; t.shape(y).len()]);
        struct Start {
            bias: f32,
            level: f32,
        }
        // First from zero everywhere, then from a state in which everything is positive.
        let starts = [Start { bias: 0.0, level: self.zero }, Start { bias: CONSTANT, level: self.zero + 0.25 }];
        for (round, Start { bias, level }) in starts.iter().enumerate() {
            self.write_weights(backend, *bias)?;
            let running = Running::new(backend, Plan::new("causality.perturbation", &t))?;
            x.fill(*level);
            running.replay(backend, &[("x", &x)], &mut y)?;
            let unchanged = y[..pixels * self.outputs * k].to_vec();
            for first in (0..inputs).step_by(BATCH) {
                x.fill(*level);
                for (i, input) in (first..inputs).take(BATCH).enumerate() {
                    x[i * inputs + input] = LOUD;
                }
                running.replay(backend, &[("x", &x)], &mut y)?;
                for (input, y) in (first..inputs).zip(y.chunks_exact(unchanged.len())) {
                    for (output, (y, before)) in y.chunks_exact(k).zip(unchanged.chunks_exact(k)).enumerate() {
                        if y != before {
                            support.set(output, input);
                        }
                    }
                }
                progress(round * inputs + (first + BATCH).min(inputs), starts.len() * inputs);
            }
            backend.free(running.compiled);
        }
        Ok(support)
    }

    /// Writes positive weights of about half of one over the number of terms of a sum, so that no gate
    /// saturates, and sets every additive constant to `constant`.
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
        let outputs = self.input.height * self.input.width * self.outputs;
        let seen = vec![false; outputs * self.input.dims()];
        Support { input: self.input, outputs: self.outputs, seen }
    }
}

/// A number in [0, 1).
fn draw(what: u32, element: usize) -> f32 {
    rng::uniform(0, Stream::Test, [what, element as u32])
}

/// A compiled plan, with zeros for the inputs that are not named.
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

    /// Replays the plan on the named inputs and reads its only output.
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
        self.input.dims()
    }

    fn set(&mut self, output: usize, input: usize) {
        let inputs = self.inputs();
        self.seen[output * inputs + input] = true;
    }

    /// Whether output number `output` sees input number `input`.
    #[doc(hidden)]
    pub fn sees(&self, output: usize, input: usize) -> bool {
        self.seen[output * self.inputs() + input]
    }

    /// Whether an output sees any channel of the pixel.
    #[doc(hidden)]
    pub fn sees_pixel(&self, output: usize, pixel: usize) -> bool {
        let channels = self.input.channels;
        (pixel * channels..(pixel + 1) * channels).any(|input| self.sees(output, input))
    }

    /// The dependencies that an autoregressive model must not have: an output on its own dimension or on
    /// a later one.
    pub fn leaks(&self) -> Vec<Dependency> {
        let later = |output: usize| (output..self.inputs()).map(move |input| Dependency { output, input });
        let pairs = (0..self.seen.len() / self.inputs()).flat_map(later);
        pairs.filter(|pair| self.sees(pair.output, pair.input)).collect()
    }

    /// The dependencies that exactly one of two supports has.
    #[doc(hidden)]
    pub fn differences(&self, other: &Support) -> Vec<Dependency> {
        let inputs = self.inputs();
        let differ = self.seen.iter().zip(&other.seen).enumerate().filter(|(_, (a, b))| a != b);
        differ.map(|(at, _)| Dependency { output: at / inputs, input: at % inputs }).collect()
    }

    /// The dependencies that at least one of two supports has.
    #[doc(hidden)]
    pub fn union(mut self, other: &Support) -> Support {
        self.seen.iter_mut().zip(&other.seen).for_each(|(a, b)| *a |= b);
        self
    }

    /// The blind spot of an output: earlier pixels that it does not see, although they are within the
    /// rows and columns that its context spans.
    pub fn blind_spot(&self, output: usize) -> Vec<usize> {
        let width = self.input.width;
        let own = output / self.outputs;
        let seen: Vec<usize> = (0..own).filter(|pixel| self.sees_pixel(output, *pixel)).collect();
        let (rows, columns) = (seen.iter().map(|p| p / width), seen.iter().map(|p| p % width));
        let (Some(top), Some(left), Some(right)) = (rows.min(), columns.clone().min(), columns.max()) else {
            return vec![];
        };
        let within = |pixel: &usize| *pixel / width >= top && (left..=right).contains(&(pixel % width));
        (0..own).filter(within).filter(|pixel| !self.sees_pixel(output, *pixel)).collect()
    }

    /// The number of outputs that have a blind spot.
    pub fn blind_outputs(&self) -> usize {
        (0..self.seen.len() / self.inputs()).filter(|output| !self.blind_spot(*output).is_empty()).count()
    }
}
