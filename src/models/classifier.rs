//! A small convolutional classifier. It judges images that other models draw: by their classes, and by the
//! features of its last hidden layer (`pixtape judge`).
//!
//! Five 3x3 convolutions with batch norm (Ioffe & Szegedy 2015) halve the image twice. The mean of each
//! channel over the remaining map goes through one hidden layer, whose values are the features. Any height
//! and width is possible, because the mean is over whatever remains.

use super::{images_of, required};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::nn::{BatchNorm, Channels, Conv, Env, Init, Linear, Mode, ParamSet};
use crate::optim::{Learner, STEP};
use crate::shape::{ImageSize, Meta};
use crate::tape::plan::Plan;
use crate::tape::record::ConvAttrs;
use crate::tape::{InputRole, Tape, Var};

/// Height and width of every kernel.
const KERNEL: usize = 3;

/// Factor of the logits in the accuracy: a power of two, so that it rounds nothing.
const SHARPNESS: f64 = (1_u32 << 30) as f64;

/// A classifier with a layer of features.
#[derive(Clone, Debug)]
pub struct Classifier {
    set: ParamSet,
    layers: Vec<Layer>,
    hidden: Linear,
    out: Linear,
    learner: Learner,
    image: ImageSize,
    classes: usize,
}

/// A convolution without bias and the batch norm after it.
#[derive(Clone, Debug)]
struct Layer {
    conv: Conv,
    norm: BatchNorm,
}

/// What the network says of images.
#[derive(Clone, Copy)]
struct Judgement {
    /// `[n, features]`, at least 0
    features: Var,
    /// `[n, classes]`
    logits: Var,
}

impl Classifier {
    /// Declares the parameters: `c1 n1 .. c5 n5 hidden out`.
    pub(super) fn new(set: &mut ParamSet, config: &Config) -> Result<Self> {
        let image = images_of(config)?;
        let (c, features) = (required(config.model.channels, "channels")?, required(config.model.hidden, "hidden")?);
        let classes = required(config.model.classes, "classes")?;
        if classes < 2 {
            let name = config.name();
            return Err(Error::Usage(format!("{name} tells at least 2 classes apart; set model.classes")));
        }
        let widths = [(image.channels, c, 1), (c, 2 * c, 2), (2 * c, 2 * c, 1), (2 * c, 4 * c, 2), (4 * c, 4 * c, 1)];
        let layers = widths.iter().enumerate().map(|(i, &(inputs, outputs, stride))| {
            // He et al. 2015, eq. 10: the variance of a relu's output stays that of its input.
            let std = (2.0 / (KERNEL * KERNEL * inputs) as f32).sqrt();
            let attrs = ConvAttrs::new(stride, KERNEL / 2);
            let conv = Conv::plain(set, &format!("c{}", i + 1), Channels { inputs, outputs }, [KERNEL; 2], attrs, std);
            Layer { conv, norm: BatchNorm::new(set, &format!("n{}", i + 1), outputs, Init::Fill(1.0)) }
        });
        let layers = layers.collect();
        let hidden = Linear::new(set, "hidden", 4 * c, features);
        let out = Linear::new(set, "out", features, classes);
        let weights = set.weights().cloned().collect();
        let learner = Learner::new(set, weights, config, STEP);
        Ok(Classifier { set: set.clone(), layers, hidden, out, learner, image, classes })
    }

    /// The size of its images.
    pub(super) fn image(&self) -> ImageSize {
        self.image
    }

    /// Number of classes that it tells apart.
    pub(crate) fn classes(&self) -> usize {
        self.classes
    }

    /// Number of features per image.
    #[cfg(feature = "cli")]
    pub(crate) fn features(&self) -> usize {
        self.hidden.bias.shape.last()
    }

    /// `x[n, h, w, k] -> features[n, f], logits[n, classes]`
    fn forward(&self, env: &Env, x: Var) -> Judgement {
        let t = env.t;
        let n = t.shape(x).dims()[0];
        let mut y = x;
        for (i, Layer { conv, norm }) in self.layers.iter().enumerate() {
            y = t.scope(&format!("c{}", i + 1), || t.relu(norm.forward(env, conv.forward(env, y))));
        }
        let [_, h, w, c] = t.shape(y).padded();
        let mean = t.scope("mean", || t.scale(t.sum_to(y, [n, 1, 1, c]), 1.0 / (h * w) as f64));
        let features = t.scope("hidden", || t.relu(self.hidden.forward(env, t.reshape(mean, [n, c]))));
        Judgement { features, logits: t.scope("out", || self.out.forward(env, features)) }
    }

    /// The plan of a training step: `cross_entropy` in nats and `accuracy`, means over the batch.
    pub(super) fn training(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::new(&t, Mode::Train);
        let x = t.input_of(InputRole::Images, Meta::f32(self.image.batch(batch)));
        let label = t.input_of(InputRole::Labels, Meta::u32([batch]));
        let Judgement { logits, .. } = self.forward(&env, x);
        let loss = t.mean(t.softmax_cross_entropy(logits, label));
        t.output("cross_entropy", loss);
        t.output("accuracy", t.mean(is_largest(&t, logits, label)));
        if let Some(norm) = self.learner.minimize(&env, loss) {
            t.output("grad_norm", norm);
        }
        env.commit();
        Plan::new("classifier.train", &t)
    }

    /// `x[n, h, w, k] -> features[n, f], logits[n, classes]`
    pub fn judging(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let x = t.input_of(InputRole::Images, Meta::f32(self.image.batch(batch)));
        let Judgement { features, logits } = self.forward(&env, x);
        t.output("features", features);
        t.output("logits", logits);
        Plan::new("classifier.judge", &t)
    }
}

/// `logits[n, k], label[n] -> [n]`: 1 where the logit of the label is the largest alone, else 0.
///
/// The cross entropy of logits times s is s (largest - that of the label) + log(number of the largest), up
/// to what vanishes as s grows. So it is 0 if the label is right, log 2 or more at a tie, and far more
/// otherwise.
fn is_largest(t: &Tape, logits: Var, label: Var) -> Var {
    let sharp = t.softmax_cross_entropy(t.scale(t.detach(logits), SHARPNESS), label);
    t.clamp(t.affine(sharp, -2.0, 1.0), 0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{self, Feed, Scalars};

    #[test]
    fn a_label_is_right_if_its_logit_is_the_largest_alone() {
        let rows = [
            ([1.0, 2.0, 3.0], 2, 1.0),
            ([1.0, 2.0, 3.0], 1, 0.0),
            ([3.0, 3.0, 1.0], 0, 0.0),
            ([-50.0, -49.999_99, -90.0], 1, 1.0),
            ([-50.0, -49.999_99, -90.0], 0, 0.0),
            ([0.0, 1e-6, -1e-6], 1, 1.0),
            ([80.0, -80.0, 79.999_99], 0, 1.0),
        ];
        let t = Tape::new();
        let logits = t.input("logits", Meta::f32([rows.len(), 3]));
        let label = t.input("label", Meta::u32([rows.len()]));
        t.output("right", is_largest(&t, logits, label));
        let plan = Plan::new("right", &t);
        let mut cpu = backend::open("cpu", 1).unwrap();
        let compiled = cpu.compile(&plan).unwrap();
        let values: Vec<f32> = rows.iter().flat_map(|(row, ..)| *row).collect();
        let labels: Vec<u32> = rows.iter().map(|(_, label, _)| *label).collect();
        cpu.run(compiled, &[Feed::F32(&values), Feed::U32(&labels)], &Scalars::default()).unwrap();
        let mut right = vec![9.0; rows.len()];
        backend::read(&mut *cpu, compiled, 0, &mut right).unwrap();
        assert_eq!(right, rows.map(|(.., right)| right));
    }
}
