//! Adversarial networks: DCGAN (Radford, Metz & Chintala, ICLR 2016) under several objectives.
//!
//! The generator maps z ~ N(0, I) to an image in [-1, 1] with transposed convolutions. The critic mirrors it
//! and ends in one number per image, a logit or a score. One plan holds a training step of both. The critic
//! learns from real and generated images, and then the generator learns from the new critic, on the same
//! generated batch. Further critic steps are a plan of their own, which runs first.

use super::{TEMPERATURE, images_of, required};
use crate::config::{Config, Objective};
use crate::error::{Error, Result};
use crate::nn::{BatchNorm, Channels, Conv, ConvTranspose, Env, Init, Mode, ParamSet};
use crate::optim::{Learner, STEP};
use crate::rng::Stream;
use crate::shape::{ImageSize, Meta};
use crate::tape::op::{Dist, Param, Scalar};
use crate::tape::plan::Plan;
use crate::tape::record::ConvAttrs;
use crate::tape::{InputRole, Tape, Var};

/// Step of the critic's optimiser, counted from 1: the critic may take several steps for one of the
/// generator.
pub(crate) const CRITIC_STEP: Scalar = Scalar::f32("CriticStep", 1.0);

/// Height and width of what the generator draws and the critic sees.
pub(super) const SIDE: usize = 32;
const SLOPE: f64 = 0.2;
/// Standard deviation of the initial weights (Radford et al. 2016, section 4).
const STD: f32 = 0.02;

/// A generator and a critic.
#[derive(Clone, Debug)]
pub struct Gan {
    set: ParamSet,
    generator: Generator,
    critic: Critic,
    generator_learner: Learner,
    critic_learner: Learner,
    game: Game,
    critic_steps: usize,
    /// The size of the images, without padding.
    image: ImageSize,
    /// Dimensions of z.
    pub latent: usize,
}

/// The objective with its constants.
#[derive(Clone, Copy, Debug)]
struct Game {
    objective: Objective,
    weight_clip: f64,
    penalty: f64,
}

/// z -> 4x4 -> 8x8 -> 16x16 -> 32x32.
#[derive(Clone, Debug)]
struct Generator {
    layers: Vec<ConvTranspose>,
    /// After every layer but the last.
    norms: Vec<BatchNorm>,
}

/// 32x32 -> 16x16 -> 8x8 -> 4x4 -> one number.
#[derive(Clone, Debug)]
struct Critic {
    layers: Vec<Conv>,
    /// After the second and the third layer. All are absent if the objective needs a critic without batch
    /// norm.
    norms: Vec<Option<BatchNorm>>,
}

impl Gan {
    /// Declares the parameters: `g.t1 g.n1 .. g.t4` and `d.c1 d.c2 d.n2 d.c3 d.n3 d.c4`.
    pub(super) fn new(set: &mut ParamSet, config: &Config) -> Result<Self> {
        let (c, latent) = (required(config.model.channels, "channels")?, required(config.model.latent, "latent")?);
        let image = image_of(config)?;
        let objective = config.objective.unwrap_or(Objective::NonSaturating);
        if objective == Objective::Hinge {
            let known = "minimax, non-saturating, lsgan, wgan or wgan-gp";
            return Err(Error::Usage(format!(
                "objective hinge needs spectral norm, which this version lacks; use {known}"
            )));
        }
        let generator = Generator::new(set, [latent, 4 * c, 2 * c, c, image.channels]);
        let generator_weights: Vec<Param> = set.weights().cloned().collect();
        let critic = Critic::new(set, [image.channels, c, 2 * c, 4 * c, 1], objective != Objective::WganGp);
        let critic_weights = set.weights().skip(generator_weights.len()).cloned().collect();
        let generator_learner = Learner::new(set, generator_weights, config, STEP);
        let critic_learner = Learner::new(set, critic_weights, config, CRITIC_STEP);
        let game = Game {
            objective,
            weight_clip: config.weight_clip.unwrap_or(0.01),
            penalty: config.penalty.unwrap_or(10.0),
        };
        let critic_steps = config.critic_steps.unwrap_or(1) as usize;
        let set = set.clone();
        Ok(Gan { set, generator, critic, generator_learner, critic_learner, game, critic_steps, image, latent })
    }

    /// The size of its images, which it pads to 32x32.
    pub(super) fn image(&self) -> ImageSize {
        self.image
    }

    /// The plans of one step: `critic_steps - 1` of the critic alone, then one of both.
    pub(super) fn training(&self, batch: usize) -> Vec<Plan> {
        let alone = (1..self.critic_steps).map(|_| self.step(batch, false));
        alone.chain([self.step(batch, true)]).collect()
    }

    fn step(&self, batch: usize, with_generator: bool) -> Plan {
        let t = Tape::new();
        let env = Env::new(&t, Mode::Train);
        let real = t.input_of(InputRole::Images, self.images(batch));
        let z = t.random(Dist::Normal, Stream::Prior, [batch, 1, 1, self.latent]);
        let fake = t.scope("g", || self.generator.forward(&env, z));
        self.critic_step(&env, real, fake);
        if with_generator {
            let judged = t.scope("d", || self.critic.forward(&env, fake));
            let loss = self.game.generator_loss(&t, judged);
            t.output("generator_loss", loss);
            if let Some(norm) = self.generator_learner.minimize(&env, loss) {
                t.output("generator_grad_norm", norm);
            }
        }
        env.commit();
        Plan::new(if with_generator { "gan.train" } else { "gan.train_critic" }, &t)
    }

    /// `x[n, 32, 32, c], fake[n, 32, 32, c]`, both in [-1, 1]: a training step of the critic on given
    /// images.
    #[cfg(feature = "cli")]
    pub(crate) fn critic_on_given(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::new(&t, Mode::Train);
        let real = t.input_of(InputRole::Images, self.images(batch));
        let fake = t.input("fake", self.images(batch));
        self.critic_step(&env, real, fake);
        env.commit();
        Plan::new("gan.train_critic", &t)
    }

    fn images(&self, batch: usize) -> Meta {
        Meta::f32([batch, SIDE, SIDE, self.image.channels])
    }

    /// Records an update of the critic on `real` and `fake`. From here on `env` has its new weights.
    fn critic_step(&self, env: &Env, real: Var, fake: Var) {
        let t = env.t;
        let shown = t.detach(fake);
        let on_real = t.scope("d", || self.critic.forward(env, real));
        let on_fake = t.scope("d", || self.critic.forward(env, shown));
        let mut critic_loss = self.game.critic_loss(t, on_real, on_fake);
        if self.game.objective == Objective::WganGp {
            let penalty = t.scope("penalty", || self.penalty(env, real, shown));
            t.output("penalty", penalty);
            critic_loss = t.add(critic_loss, t.scale(penalty, self.game.penalty));
        }
        t.output("critic_loss", critic_loss);
        t.output("d_real", self.game.verdict(t, on_real));
        t.output("d_fake", self.game.verdict(t, on_fake));
        if let Some(norm) = self.critic_learner.minimize(env, critic_loss) {
            t.output("critic_grad_norm", norm);
        }
        if self.game.objective == Objective::Wgan {
            for w in self.critic_learner.weights() {
                env.set(w, t.clamp(env.get(w), -self.game.weight_clip, self.game.weight_clip));
            }
        }
    }

    /// mean((|dD/dx| - 1)^2) at points between real and generated images (Gulrajani et al. 2017, eq. 3).
    fn penalty(&self, env: &Env, real: Var, fake: Var) -> Var {
        let t = env.t;
        let shape = t.shape(real);
        let mix = t.expand(t.random(Dist::Uniform, Stream::Penalty, [shape.dims()[0], 1, 1, 1]), shape);
        let between = t.add(fake, t.mul(mix, t.sub(real, fake)));
        let score = t.sum(self.critic.forward(env, between));
        let slope = t.grad(score, &[between])[0];
        let norm = t.sqrt(t.sum_rows(t.square(slope)));
        t.mean(t.square(t.affine(norm, 1.0, -1.0)))
    }

    /// `-> image[n, 32, 32, c]` in [-1, 1], generated from draws from the prior. The temperature scales
    /// their deviation.
    pub fn sampling(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let draws = t.random_by_image(Dist::Normal, Stream::Prior, [batch, 1, 1, self.latent]);
        let z = t.mul_scalar(draws, t.scalar(TEMPERATURE));
        t.output("image", self.generator.forward(&env, z));
        Plan::new("gan.sample", &t)
    }
}

/// The images that `config` describes by `model.height`, `model.width` and `model.colours`.
fn image_of(config: &Config) -> Result<ImageSize> {
    let ImageSize { height, width, channels } = images_of(config)?;
    if height.max(width) > SIDE {
        let name = config.name();
        return Err(Error::Usage(format!(
            "{name} draws images of at most {SIDE}x{SIDE}, not {height}x{width}; set model.height and model.width"
        )));
    }
    Ok(ImageSize { height, width, channels })
}

impl Generator {
    fn new(set: &mut ParamSet, widths: [usize; 5]) -> Self {
        let (mut layers, mut norms) = (vec![], vec![]);
        for (i, pair) in widths.windows(2).enumerate() {
            let attrs = if i == 0 { ConvAttrs::new(1, 0) } else { ConvAttrs::new(2, 1) };
            let channels = Channels { inputs: pair[0], outputs: pair[1] };
            layers.push(ConvTranspose::plain(set, &format!("g.t{}", i + 1), channels, 4, attrs, STD));
            if i + 2 < widths.len() {
                norms.push(BatchNorm::new(set, &format!("g.n{}", i + 1), pair[1], Init::Normal(1.0, STD)));
            }
        }
        Generator { layers, norms }
    }

    /// `z[n, 1, 1, d] -> [n, 32, 32, c]`
    fn forward(&self, env: &Env, z: Var) -> Var {
        let t = env.t;
        let mut y = z;
        for (i, layer) in self.layers.iter().enumerate() {
            y = t.scope(&format!("t{}", i + 1), || {
                let y = layer.forward(env, y);
                match self.norms.get(i) {
                    Some(norm) => t.relu(norm.forward(env, y)),
                    None => t.tanh(y),
                }
            });
        }
        y
    }
}

impl Critic {
    fn new(set: &mut ParamSet, widths: [usize; 5], with_norm: bool) -> Self {
        let (mut layers, mut norms) = (vec![], vec![]);
        for (i, pair) in widths.windows(2).enumerate() {
            let (path, inner) = (format!("d.c{}", i + 1), i == 1 || i == 2);
            let attrs = if i + 2 == widths.len() { ConvAttrs::new(1, 0) } else { ConvAttrs::new(2, 1) };
            let conv = Conv::plain(set, &path, Channels { inputs: pair[0], outputs: pair[1] }, 4, attrs, STD);
            layers.push(if with_norm { conv } else { conv.with_bias(set, &path) });
            let norm = || BatchNorm::new(set, &format!("d.n{}", i + 1), pair[1], Init::Normal(1.0, STD));
            norms.push((with_norm && inner).then(norm));
        }
        Critic { layers, norms }
    }

    /// `[n, 32, 32, c] -> [n]`
    fn forward(&self, env: &Env, x: Var) -> Var {
        let t = env.t;
        let mut y = x;
        for (i, (layer, norm)) in self.layers.iter().zip(&self.norms).enumerate() {
            y = t.scope(&format!("c{}", i + 1), || {
                let y = layer.forward(env, y);
                let y = norm.as_ref().map_or(y, |norm| norm.forward(env, y));
                if i + 1 == self.layers.len() { y } else { t.leaky_relu(y, SLOPE) }
            });
        }
        t.reshape(y, [t.shape(x).dims()[0]])
    }
}

impl Game {
    /// The loss of the critic, from its outputs for real and for generated images.
    fn critic_loss(&self, t: &Tape, real: Var, fake: Var) -> Var {
        match self.objective {
            // -log D(x) and -log(1 - D(G(z))) with D = sigmoid (Goodfellow et al. 2014, eq. 1)
            Objective::Minimax | Objective::NonSaturating => {
                let real = t.mean(t.softplus(t.scale(real, -1.0)));
                t.add(real, t.mean(t.softplus(fake)))
            }
            // ((D(x) - 1)^2 + D(G(z))^2) / 2 (Mao et al. 2017, eq. 9)
            Objective::Lsgan => {
                let real = t.mean(t.square(t.affine(real, 1.0, -1.0)));
                let real = t.scale(real, 0.5);
                t.add(real, t.scale(t.mean(t.square(fake)), 0.5))
            }
            // D(G(z)) - D(x) (Arjovsky et al. 2017, algorithm 1)
            Objective::Wgan | Objective::WganGp => {
                let real = t.scale(t.mean(real), -1.0);
                t.add(real, t.mean(fake))
            }
            Objective::Hinge => unreachable!("refused when the model is built"),
        }
    }

    /// The loss of the generator, from the critic's output for generated images.
    fn generator_loss(&self, t: &Tape, fake: Var) -> Var {
        match self.objective {
            // log(1 - D(G(z))): the minimax game itself
            Objective::Minimax => t.scale(t.mean(t.softplus(fake)), -1.0),
            // -log D(G(z)): stronger gradients early on
            Objective::NonSaturating => t.mean(t.softplus(t.scale(fake, -1.0))),
            Objective::Lsgan => t.scale(t.mean(t.square(t.affine(fake, 1.0, -1.0))), 0.5),
            Objective::Wgan | Objective::WganGp => t.scale(t.mean(fake), -1.0),
            Objective::Hinge => unreachable!("refused when the model is built"),
        }
    }

    /// The mean output of the critic: a probability if the objective has one, else the score.
    fn verdict(&self, t: &Tape, judged: Var) -> Var {
        match self.objective {
            Objective::Minimax | Objective::NonSaturating => t.mean(t.sigmoid(judged)),
            _ => t.mean(judged),
        }
    }
}
