//! Schedules: the learning rate, the weight of the KL term and the rate of moving averages, as functions of
//! the training step. They are computed on the host and given to a plan as scalars.

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
pub(crate) fn learning_rate(config: &Config, steps: Steps) -> f32 {
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

/// The weight of the KL term in the next step: it grows linearly to `beta` over the first `kl_warmup`
/// steps (Sonderby et al., "Ladder variational autoencoders", NIPS 2016). It is `beta` from the first
/// step on if the configuration has no such warm-up.
pub(crate) fn kl_weight(config: &Config, steps: Steps) -> f32 {
    let beta = config.beta.map_or(1.0, |beta| beta as f32);
    match config.kl_warmup {
        None | Some(0) => beta,
        Some(warmup) => beta * ((steps.done + 1) as f32 / warmup as f32).min(1.0),
    }
}

/// The decay of the moving averages in the next step: `min(ema, (1 + t) / (10 + t))` with t the steps done.
/// At first an average is that of the last few steps; it then reaches back further and further, until the
/// decay is `ema`. So it does not keep the initial weights, as a constant decay near 1 does for long.
pub(crate) fn average_decay(config: &Config, steps: Steps) -> f32 {
    let done = steps.done as f64;
    config.ema.min((1.0 + done) / (10.0 + done)) as f32
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
    fn averages_forget_the_initial_weights_and_reach_back_as_far_as_ema_says_in_the_end() {
        let mut config = preset("vae-mnist").unwrap();
        config.ema = 0.99;
        let decay = |done| average_decay(&config, Steps { done, total: 0 });
        assert_eq!([0, 8, 80].map(decay), [0.1, 0.5, 0.9]);
        assert_eq!([890, 1_000_000].map(decay), [0.99, 0.99]);
        config.ema = 0.25;
        assert_eq!([1, 2, 3].map(|done| average_decay(&config, Steps { done, total: 0 })), [2.0 / 11.0, 0.25, 0.25]);
    }

    #[test]
    fn the_kl_weight_reaches_beta_at_the_end_of_its_warm_up_and_stays_there() {
        let mut config = preset("vae-mnist").unwrap();
        config.kl_warmup = Some(4);
        let weight = |config: &Config, done| kl_weight(config, Steps { done, total: 100 });
        assert_eq!([0, 1, 2, 3, 4, 99].map(|done| weight(&config, done)), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
        for none in [None, Some(0)] {
            config.kl_warmup = none;
            assert_eq!(weight(&config, 0), 1.0);
        }
        (config.kl_warmup, config.beta) = (Some(2), Some(4.0));
        assert_eq!([0, 1, 2].map(|done| weight(&config, done)), [2.0, 4.0, 4.0]);
    }
}
