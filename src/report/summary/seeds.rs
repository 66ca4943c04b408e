//! Runs of one configuration with several seeds: which runs belong together, and the spread of a number over
//! them.

use super::{RunEvidence, SeedGroup};
use crate::config::Config;

/// What the runs of a group have in common.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// The configuration in the checkpoint.
    pub config: Config,
    /// Which checkpoint stands for the run.
    pub choice: Choice,
    /// The weights that are used: `raw` or `averaged`.
    pub weights: String,
    /// The hash of the training images, if the checkpoint says it.
    pub trained_on: Option<String>,
}

/// How the checkpoint of a run was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// It is that of this training step.
    Step(u64),
    /// It is the best one on validation images, which is at another step in every run.
    BestValidated,
}

impl Setting {
    /// Whether the two differ in nothing but the seed.
    fn is_same(&self, other: &Setting) -> bool {
        let same_config = self.config == Config { seed: self.config.seed, ..other.config.clone() };
        same_config
            && (self.choice, &self.weights, &self.trained_on) == (other.choice, &other.weights, &other.trained_on)
    }
}

/// Groups runs that differ in their seed alone, in the order of their first runs. A run with a seed that its
/// group has already is no new sample of the seeds: it begins a group of its own.
pub(crate) fn by_seed(runs: Vec<RunEvidence>) -> Vec<SeedGroup> {
    let mut groups: Vec<SeedGroup> = vec![];
    for run in runs {
        let fits = |group: &SeedGroup| {
            group.first().setting.is_same(&run.setting) && group.runs.iter().all(|other| other.seed != run.seed)
        };
        match groups.iter().position(fits) {
            Some(index) => groups[index].runs.push(run),
            None => groups.push(SeedGroup { runs: vec![run] }),
        }
    }
    groups
}

/// A number that was measured of several runs, at least one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spread {
    /// One value per run.
    pub values: Vec<f64>,
    pub mean: f64,
    /// The standard deviation of the values, which divides by n - 1; `None` if there is only one.
    pub deviation: Option<f64>,
}

impl Spread {
    /// The mean and the standard deviation of these values.
    ///
    /// # Panics
    /// If there is none.
    pub fn of(values: Vec<f64>) -> Spread {
        assert!(!values.is_empty(), "a spread needs a value");
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        let deviation = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
        Spread { values, mean, deviation }
    }

    /// The mean with its standard deviation, if there is one: `97.12 ± 0.31`. The deviation has two
    /// significant digits and the mean as many decimals. `digits` formats a mean without a deviation.
    pub fn text(&self, digits: impl Fn(f64) -> String) -> String {
        if !self.mean.is_finite() {
            return "not finite".to_string();
        }
        match self.deviation {
            None => digits(self.mean),
            Some(0.0) => format!("{} ± 0", digits(self.mean)),
            Some(deviation) => {
                let decimals = (1 - deviation.log10().floor() as i32).clamp(0, 8) as usize;
                format!("{:.decimals$} ± {deviation:.decimals$}", self.mean)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::made_up::run;
    use super::*;
    use crate::report::text::short;

    #[test]
    fn only_runs_that_differ_in_their_seed_alone_are_a_group() {
        let vae = |seed| run("vae-mnist", Kind::Variational, seed, &[]);
        let changed = |change: fn(&mut Setting)| {
            let mut run = vae(7);
            change(&mut run.setting);
            run
        };
        let runs = vec![
            vae(0),
            run("gan-mnist", Kind::Adversarial, 0, &[]),
            vae(1),
            // The same run again, or a copy of it.
            vae(1),
            vae(2),
            changed(|setting| setting.choice = Choice::Step(11)),
            changed(|setting| setting.choice = Choice::BestValidated),
            changed(|setting| setting.weights = "averaged".into()),
            changed(|setting| setting.trained_on = Some("cd".into())),
            changed(|setting| setting.config.batch += 1),
            changed(|setting| setting.config.model.latent = Some(3)),
        ];
        let groups = by_seed(runs);
        let seeds: Vec<Vec<u32>> = groups.iter().map(|group| group.runs.iter().map(|run| run.seed).collect()).collect();
        assert_eq!(seeds, [vec![0, 1, 2], vec![0], vec![1], vec![7], vec![7], vec![7], vec![7], vec![7], vec![7]]);
        assert_eq!((groups[0].title(), groups[1].title()), ("vae-mnist (3 seeds)".into(), "gan-mnist".into()));
    }

    #[test]
    fn the_spread_is_the_mean_and_the_deviation_of_a_sample() {
        let spread = Spread::of(vec![1.0, 2.0, 6.0]);
        assert_eq!((spread.mean, spread.deviation), (3.0, Some(7.0_f64.sqrt())));
        assert_eq!(spread.text(short), "3.0 ± 2.6");
        assert_eq!(Spread::of(vec![4.5]).deviation, None);
        assert_eq!(Spread::of(vec![4.5]).text(short), "4.5");
        assert_eq!(Spread::of(vec![5.0, 5.0]).text(short), "5 ± 0");
        assert_eq!(Spread::of(vec![5.0, 5.0001]).text(short), "5.000050 ± 0.000071");
        assert_eq!(Spread::of(vec![3000.0, 3400.0]).text(short), "3200 ± 283");
        assert_eq!(Spread::of(vec![f64::NAN, 5.0]).text(short), "not finite");
    }
}
