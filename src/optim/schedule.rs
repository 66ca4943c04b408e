//! Schedules: the learning rate and the weight of the KL term, as functions of the training step. Both are computed on the host and
//! given to a plan as scalars.

use crate::config::{Config, ScheduleKind};

/// How far a training run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Training steps that have been run; also the index of the next one.
    pub done: u64,
    /// Training steps of the whole run.
    pub total: u64,
}

/// The learning rate of the next step: a linear warm-up, then the configured schedule.
pub fn learning_rate(config: &Config, steps: Steps) -> f32 {
    let (peak, schedule) = (config.optimizer.lr, &config.schedule);
    let warmup = u64::from(schedule.warmup_steps);
    if steps.done < warmup {
        return (peak * (steps.done + 1) as f64 / warmup as f64) as f32;
    }
    let part = (steps.done - warmup) as f64 / (steps.total.saturating_sub(warmup + 1)).max(1) as f64;
    let part = part.min(1.0);
    let rate = match schedule.kind {
        ScheduleKind::Constant => peak,
        ScheduleKind::Linear => peak + (schedule.final_lr - peak) * part,
        ScheduleKind::Cosine => {
            schedule.final_lr + (peak - schedule.final_lr) * 0.5 * (1.0 + (std::f64::consts::PI * part).cos())
        }
    };
    rate as f32
}

/// The weight of the KL term in the next step: it grows linearly to 1 over the first `kl_warmup` steps (Sonderby et al., "Ladder
/// variational autoencoders", NIPS 2016). It is 1 from the first step on if the configuration has no such warm-up.
pub fn kl_weight(config: &Config, steps: Steps) -> f32 {
    match config.kl_warmup {
        None | Some(0) => 1.0,
        Some(warmup) => ((steps.done + 1) as f32 / warmup as f32).min(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::preset;

    #[test]
    fn schedules_start_at_the_peak_and_end_at_the_final_rate() {
        let mut config = preset("vae-mnist").unwrap();
        config.schedule.warmup_steps = 10;
        config.schedule.final_lr = 1e-4;
        let rate = |config: &Config, done| learning_rate(config, Steps { done, total: 100 });
        assert!((rate(&config, 0) - 1e-4).abs() < 1e-9);
        assert!((rate(&config, 99) - 1e-3).abs() < 1e-9);
        for kind in [ScheduleKind::Cosine, ScheduleKind::Linear] {
            config.schedule.kind = kind;
            assert!((rate(&config, 10) - 1e-3).abs() < 1e-9, "{kind:?}");
            assert!((rate(&config, 99) - 1e-4).abs() < 1e-9, "{kind:?}");
            assert!(rate(&config, 50) < 1e-3);
        }
    }

    #[test]
    fn the_kl_weight_reaches_1_at_the_end_of_its_warm_up_and_stays_there() {
        let mut config = preset("vae-mnist").unwrap();
        config.kl_warmup = Some(4);
        let weight = |config: &Config, done| kl_weight(config, Steps { done, total: 100 });
        assert_eq!([0, 1, 2, 3, 4, 99].map(|done| weight(&config, done)), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
        for none in [None, Some(0)] {
            config.kl_warmup = none;
            assert_eq!(weight(&config, 0), 1.0);
        }
    }
}
