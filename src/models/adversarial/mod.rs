//! Adversarial networks: DCGAN (Radford, Metz & Chintala, ICLR 2016) under several objectives, with or
//! without classes, or given a reduced image that it restores (Isola et al. 2017).
//!
//! The generator maps z ~ N(0, I) to an image in [-1, 1], and the critic maps an image to one number. Read
//! `stages` (the layers that an image needs), `given` (class and reduced image), `generator`, `critic` with
//! `spectral`, and `game` (what each of them minimises). Here they are trained.
//!
//! One plan holds a training step of both. The critic learns from real and generated images, and then the
//! generator learns from the new critic, on the same generated batch. Further critic steps are a plan of
//! their own, which runs first.

mod critic;
mod game;
mod generator;
mod given;
mod spectral;
mod stages;

use self::critic::{Critic, CriticWeights};
use self::game::Game;
use self::generator::Generator;
use self::given::{Given, enlarged};
use self::stages::{Stages, image_of};
use super::{TEMPERATURE, required};
use crate::config::{Config, Objective};
use crate::data::Reduction;
use crate::error::Result;
use crate::nn::{Env, Mode, ParamSet};
use crate::optim::{Learner, STEP, UpdateRule};
use crate::rng::Stream;
use crate::shape::{ImageSize, Meta};
use crate::tape::op::{Dist, Param, Scalar};
use crate::tape::plan::Plan;
use crate::tape::{InputRole, Tape, Var};

/// Step of the critic's optimiser, counted from 1: the critic may take several steps for one of the
/// generator.
pub(crate) const CRITIC_STEP: Scalar = Scalar::f32("CriticStep", 1.0);

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
    /// Their size with padding, which both networks see.
    padded: ImageSize,
    /// Number of classes; 0 without classes.
    classes: usize,
    /// How the reduced image is made that both networks are given, if they are given one.
    reduction: Option<Reduction>,
    /// Weight of the absolute difference from the original, if a reduced image is given.
    l1: f64,
    /// Dimensions of z.
    pub latent: usize,
}

impl Gan {
    /// Declares the parameters of the generator, `g.`, and of the critic, `d.`, and what their optimisers
    /// remember.
    pub(super) fn new(set: &mut ParamSet, config: &Config) -> Result<Self> {
        let (channels, latent) =
            (required(config.model.channels, "channels")?, required(config.model.latent, "latent")?);
        let classes = required(config.model.classes, "classes")?;
        let image = image_of(config)?;
        let reduction = required(config.model.reduced, "reduced")?.reduction();
        let (stages, game) = (Stages::new(image, channels), Game::new(config));
        let given = reduction.map_or(0, |reduction| reduction.size(stages.padded).channels);
        let generator = Generator::new(set, latent, &stages, classes, given);
        let generator_weights: Vec<Param> = set.weights().cloned().collect();
        let critic = Critic::new(set, &stages, classes, given, &game);
        let critic_weights = set.weights().skip(generator_weights.len()).cloned().collect();
        // Averaged weights need statistics of their own time: those of the raw weights lead them.
        let generator_learner =
            Learner::new(set, generator_weights, config, STEP).averaging(set, generator.statistics());
        // Nothing is drawn from the critic, so it needs no moving average.
        let rule = UpdateRule { ema: 0.0, ..UpdateRule::from(config) };
        let critic_learner = Learner::new(set, critic_weights, rule, CRITIC_STEP);
        let critic_steps = config.critic_steps.unwrap_or(1) as usize;
        let (set, padded, l1) = (set.clone(), stages.padded, config.l1.unwrap_or(100.0));
        Ok(Gan {
            set,
            generator,
            critic,
            generator_learner,
            critic_learner,
            game,
            critic_steps,
            image,
            padded,
            classes,
            reduction,
            l1,
            latent,
        })
    }

    /// The size of its images, without padding.
    pub(super) fn image(&self) -> ImageSize {
        self.image
    }

    /// The size to which its images are padded.
    pub(super) fn padded(&self) -> ImageSize {
        self.padded
    }

    /// Number of classes that it is conditional on; 0 without classes.
    pub(super) fn classes(&self) -> usize {
        self.classes
    }

    /// How the reduced image is made that it is given, if it is given one.
    pub(super) fn reduction(&self) -> Option<Reduction> {
        self.reduction
    }

    /// The plans of one step: `critic_steps - 1` of the critic alone, then one of both.
    pub(super) fn training(&self, batch: usize) -> Vec<Plan> {
        let alone = (1..self.critic_steps).map(|_| self.step(batch, false));
        alone.chain([self.step(batch, true)]).collect()
    }

    /// The generated images of a step have the classes and the reduced images of the batch.
    fn step(&self, batch: usize, with_generator: bool) -> Plan {
        let t = Tape::new();
        let env = Env::new(&t, Mode::Train);
        // x, y ~ the data, z ~ N(0, I), G(z, y)
        let real = t.input_of(InputRole::Images, Meta::f32(self.padded.batch(batch)));
        let given = self.given(&t, batch);
        let z = t.random(Dist::Normal, Stream::Prior, [batch, 1, 1, self.latent]);
        let fake = t.scope("g", || self.generator.forward(&env, z, given));
        self.critic_step(&env, real, fake, given);
        if with_generator {
            self.generator_step(&env, real, fake, given);
        }
        env.commit();
        Plan::new(if with_generator { "gan.train" } else { "gan.train_critic" }, &t)
    }

    /// `x[n, h, w, c], fake[n, h, w, c], [label], [reduced]`, the images in [-1, 1]: a training step of the
    /// critic on given images.
    #[cfg(feature = "cli")]
    pub(crate) fn critic_on_given(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::new(&t, Mode::Train);
        let real = t.input_of(InputRole::Images, Meta::f32(self.padded.batch(batch)));
        let fake = t.input("fake", Meta::f32(self.padded.batch(batch)));
        self.critic_step(&env, real, fake, self.given(&t, batch));
        env.commit();
        Plan::new("gan.train_critic", &t)
    }

    /// Declares what both networks are given: the class of each image, `label[n]` (u32), if the model has
    /// classes, and `reduced[n, h', w', c']` in 0 to 1, if it is given reduced images.
    fn given(&self, t: &Tape, batch: usize) -> Given {
        let class = (self.classes > 0).then(|| t.input_of(InputRole::Labels, Meta::u32([batch])));
        let image = self.reduction.map(|reduction| {
            let reduced = Meta::f32(reduction.size(self.padded).batch(batch));
            enlarged(t, reduction, t.input_of(InputRole::Reduced, reduced), self.padded)
        });
        Given { class, image }
    }

    /// Records an update of the critic on `real` and `fake`. From here on `env` has its new weights.
    fn critic_step(&self, env: &Env, real: Var, fake: Var, given: Given) {
        let (t, game) = (env.t, &self.game);
        // Nothing of the critic's loss reaches the generator.
        let shown = t.detach(fake);
        // A power iteration for each weight, and W / sigma(W) (Miyato et al. 2018, algorithm 1)
        t.scope("d", || self.critic.advance(env));
        let critic = t.scope("d", || self.critic.weights(env));
        // D(x, y), D(G(z, y), y)
        let on_real = t.scope("d", || self.critic.forward(env, &critic, real, given));
        let on_fake = t.scope("d", || self.critic.forward(env, &critic, shown, given));
        let mut critic_loss = game.critic_loss(t, on_real, on_fake);
        if game.objective == Objective::WganGp {
            let penalty = t.scope("penalty", || self.penalty(env, &critic, real, shown, given));
            t.output("penalty", penalty);
            critic_loss = t.add(critic_loss, t.scale(penalty, game.penalty));
        }
        t.output("critic_loss", critic_loss);
        t.output("d_real", game.verdict(t, on_real));
        t.output("d_fake", game.verdict(t, on_fake));
        if let Some(norm) = self.critic_learner.minimize(env, critic_loss) {
            t.output("critic_grad_norm", norm);
        }
        // w = clip(w, -c, c) (Arjovsky et al. 2017, algorithm 1, line 7)
        if game.objective == Objective::Wgan {
            for w in self.critic_learner.weights() {
                env.set(w, t.clamp(env.get(w), -game.weight_clip, game.weight_clip));
            }
        }
    }

    /// mean((|dD/dx| - 1)^2) at points between real and generated images of the same classes (Gulrajani et
    /// al. 2017, eq. 3 and algorithm 1, lines 4 to 7).
    fn penalty(&self, env: &Env, critic: &CriticWeights, real: Var, fake: Var, given: Given) -> Var {
        let t = env.t;
        let shape = t.shape(real);
        // epsilon ~ U[0, 1), a point at that part of the way from the generated to the real image
        let mix = t.expand(t.random(Dist::Uniform, Stream::Penalty, [shape.dims()[0], 1, 1, 1]), shape);
        let between = t.add(fake, t.mul(mix, t.sub(real, fake)));
        // The score of an image depends on this image alone, so one gradient has all of them.
        let score = t.sum(self.critic.forward(env, critic, between, given));
        let slope = t.grad(score, &[between])[0];
        let norm = t.sqrt(t.sum_rows(t.square(slope)));
        t.mean(t.square(t.affine(norm, 1.0, -1.0)))
    }

    /// Records an update of the generator by the current critic, whose power iterations stand still.
    fn generator_step(&self, env: &Env, real: Var, fake: Var, given: Given) {
        let t = env.t;
        let critic = t.scope("d", || self.critic.weights(env));
        let judged = t.scope("d", || self.critic.forward(env, &critic, fake, given));
        let mut loss = self.game.generator_loss(t, judged);
        t.output("generator_loss", loss);
        if given.image.is_some() {
            // + lambda E|y - G(x, z)| (Isola et al. 2017, eq. 3 and 4), with |d| = max(d, 0) + max(-d, 0)
            let difference = t.sub(real, fake);
            let l1 = t.mean(t.add(t.relu(difference), t.relu(t.scale(difference, -1.0))));
            t.output("l1", l1);
            loss = t.add(loss, t.scale(l1, self.l1));
        }
        if let Some(norm) = self.generator_learner.minimize(env, loss) {
            t.output("generator_grad_norm", norm);
        }
    }

    /// `[label], [reduced] -> image[n, h, w, c]` in [-1, 1], generated from draws from the prior. The
    /// temperature scales their deviation.
    pub fn sampling(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let given = self.given(&t, batch);
        let draws = t.random_by_image(Dist::Normal, Stream::Prior, [batch, 1, 1, self.latent]);
        let z = t.mul_scalar(draws, t.scalar(TEMPERATURE));
        t.output("image", self.generator.forward(&env, z, given));
        Plan::new("gan.sample", &t)
    }
}
