//! The game of generator and critic: what each of them minimises under an objective.

use crate::config::{Config, Objective};
use crate::tape::{Tape, Var};

/// The objective with its constants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Game {
    pub objective: Objective,
    /// Bound on every weight of the critic, for `wgan`.
    pub weight_clip: f64,
    /// Weight of the gradient penalty, for `wgan-gp`.
    pub penalty: f64,
}

impl Game {
    pub fn new(config: &Config) -> Game {
        Game {
            objective: config.objective.unwrap_or(Objective::NonSaturating),
            weight_clip: config.weight_clip.unwrap_or(0.01),
            penalty: config.penalty.unwrap_or(10.0),
        }
    }

    /// Whether the critic has batch norm. A gradient penalty is a matter of one image, which batch norm
    /// mixes with the others (Gulrajani et al. 2017, section 4), and spectral norm takes its place (Miyato
    /// et al. 2018).
    pub fn has_critic_norm(&self) -> bool {
        !matches!(self.objective, Objective::WganGp | Objective::Hinge)
    }

    /// Whether the critic's weights are divided by their spectral norms.
    pub fn has_spectral_norm(&self) -> bool {
        self.objective == Objective::Hinge
    }

    /// The loss of the critic, from its outputs `[n]` for real and for generated images.
    pub fn critic_loss(&self, t: &Tape, real: Var, fake: Var) -> Var {
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
            // max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (Miyato et al. 2018, eq. 16)
            Objective::Hinge => {
                let real = t.mean(t.relu(t.affine(real, -1.0, 1.0)));
                t.add(real, t.mean(t.relu(t.affine(fake, 1.0, 1.0))))
            }
        }
    }

    /// The loss of the generator, from the critic's outputs `[n]` for generated images.
    pub fn generator_loss(&self, t: &Tape, fake: Var) -> Var {
        match self.objective {
            // log(1 - D(G(z))): the minimax game itself
            Objective::Minimax => t.scale(t.mean(t.softplus(fake)), -1.0),
            // -log D(G(z)): stronger gradients early on
            Objective::NonSaturating => t.mean(t.softplus(t.scale(fake, -1.0))),
            Objective::Lsgan => t.scale(t.mean(t.square(t.affine(fake, 1.0, -1.0))), 0.5),
            // -D(G(z)); for the hinge too (Miyato et al. 2018, eq. 17)
            Objective::Wgan | Objective::WganGp | Objective::Hinge => t.scale(t.mean(fake), -1.0),
        }
    }

    /// The mean output of the critic: a probability if the objective has one, else the score.
    pub fn verdict(&self, t: &Tape, judged: Var) -> Var {
        match self.objective {
            Objective::Minimax | Objective::NonSaturating => t.mean(t.sigmoid(judged)),
            _ => t.mean(judged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{self, Feed, Scalars};
    use crate::config::preset;
    use crate::shape::Meta;
    use crate::tape::plan::Plan;

    /// The losses of critic and generator under `objective`, and their gradients with respect to the
    /// critic's outputs: `[critic loss], [generator loss], critic by real, critic by fake, generator by
    /// fake`.
    fn losses(objective: &str, real: &[f32], fake: &[f32]) -> Vec<Vec<f32>> {
        let mut config = preset("gan-mnist").unwrap();
        config.set(&format!("objective={objective}")).unwrap();
        let (game, t) = (Game::new(&config), Tape::new());
        let [on_real, on_fake] = [("real", real), ("fake", fake)].map(|(name, d)| t.input(name, Meta::f32([d.len()])));
        let (critic, generator) = (game.critic_loss(&t, on_real, on_fake), game.generator_loss(&t, on_fake));
        let mut values = vec![critic, generator];
        values.extend(t.grad(critic, &[on_real, on_fake]));
        values.extend(t.grad(generator, &[on_fake]));
        values.iter().enumerate().for_each(|(i, value)| t.output(&format!("v{i}"), *value));
        let mut device = backend::open("cpu", 1).unwrap();
        let plan = device.compile(&Plan::new("losses", &t)).unwrap();
        device.run(plan, &[Feed::F32(real), Feed::F32(fake)], &Scalars::default()).unwrap();
        let read = |(i, value): (usize, &Var)| {
            let mut out = vec![0.0; t.shape(*value).len()];
            backend::read(&mut *device, plan, i, &mut out).unwrap();
            out
        };
        values.iter().enumerate().map(read).collect()
    }

    #[test]
    fn the_hinge_loss_and_its_gradients_on_both_sides_of_the_margin() {
        // Real images are past the margin from 1 on, generated ones up to -1.
        let got = losses("hinge", &[-2.0, 0.5, 1.5, 3.0], &[-3.0, -1.5, -0.5, 2.0]);
        assert_eq!(got[0], [(3.0 + 0.5) / 4.0 + (0.5 + 3.0) / 4.0]);
        assert_eq!(got[1], [0.75]);
        assert_eq!(got[2], [-0.25, -0.25, 0.0, 0.0]);
        assert_eq!(got[3], [0.0, 0.0, 0.25, 0.25]);
        assert_eq!(got[4], [-0.25; 4]);
    }

    #[test]
    fn the_signs_of_every_objective() {
        for objective in ["minimax", "non-saturating", "lsgan", "wgan", "wgan-gp", "hinge"] {
            let got = losses(objective, &[0.3, -0.2], &[-0.4, 0.1]);
            // The critic raises its outputs for real images and lowers them for generated ones; the
            // generator raises the latter.
            assert!(got[2].iter().all(|d| *d < 0.0), "{objective}: {:?}", got[2]);
            assert!(got[4].iter().all(|d| *d < 0.0), "{objective}: {:?}", got[4]);
            // The target of least squares is 0, on both sides of which there are outputs.
            let falls =
                if objective == "lsgan" { got[3][0] < 0.0 && got[3][1] > 0.0 } else { got[3].iter().all(|d| *d > 0.0) };
            assert!(falls, "{objective}: {:?}", got[3]);
        }
    }
}
