//! The curves of training: each term that two or more models have logged, with one line per model.

use super::{RunEvidence, SeedGroup, SetSummary};
use crate::report::curves::{Chart, Series};
use crate::report::html::Element;
use std::collections::BTreeMap;

/// More lines in a chart could not be told apart by their colours.
const MOST: usize = 8;

/// Width of the running means of the curves, as a fraction of the training.
const SMOOTHING: f64 = 0.03;

/// A chart for every term of the metrics that two or more models of the set have, in the order of the terms'
/// names. Of runs that differ in their seed alone, the first is drawn. Only the first [`MOST`] models are.
pub(super) fn charts(set: &SetSummary) -> Vec<Element> {
    let mut terms: BTreeMap<&str, Vec<Series>> = BTreeMap::new();
    for run in set.groups.iter().map(SeedGroup::first).take(MOST) {
        for (name, points) in curves(run) {
            terms.entry(name).or_default().push(Series { name: run.run.clone(), points });
        }
    }
    let shared = terms.into_iter().filter(|(_, series)| series.len() > 1);
    shared.map(|(name, series)| Element::Chart(chart(name, series))).collect()
}

/// The logged values of each term of a run, by training step.
fn curves(run: &RunEvidence) -> BTreeMap<&str, Vec<(f64, f64)>> {
    let mut curves: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for row in &run.metrics {
        for (name, value) in &row.losses {
            curves.entry(name).or_default().push((row.step as f64, *value));
        }
    }
    curves
}

/// The axis is logarithmic if all values are positive and span more than a factor of ten.
fn chart(name: &str, series: Vec<Series>) -> Chart {
    let values = || series.iter().flat_map(|series| &series.points).map(|(_, y)| *y).filter(|y| y.is_finite());
    let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (y.min(low), y.max(high)));
    let log_y = low > 0.0 && high > 10.0 * low;
    Chart {
        title: format!("{name} in training"),
        x_label: "training step".to_string(),
        y_label: if log_y { format!("{name} (logarithmic)") } else { name.to_string() },
        log_y,
        smoothing: SMOOTHING,
        from_zero: false,
        series,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::made_up::{run, summary};
    use super::*;
    use crate::store::Row;

    fn trained(name: &str, seed: u32, terms: &[(&str, f64)]) -> RunEvidence {
        let losses: Vec<_> = terms.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        let row = |step| Row { step, seconds: 1.0, images_per_s: 1.0, learning_rate: None, losses: losses.clone() };
        RunEvidence { metrics: vec![row(1), row(5)], ..run(name, Kind::Adversarial, seed, &[]) }
    }

    #[test]
    fn terms_that_models_share_have_a_chart_with_a_line_each() {
        let runs = vec![
            trained("gan-mnist", 0, &[("generator_grad_norm", 1e-6), ("penalty", 0.1)]),
            trained("gan-mnist", 1, &[("generator_grad_norm", 1e-6)]),
            trained("dcgan-cifar", 0, &[("generator_grad_norm", 2.0)]),
        ];
        let charts = charts(&summary(runs).sets[0]);
        let [Element::Chart(chart)] = &charts[..] else { panic!("{charts:?}") };
        let lines: Vec<_> = chart.series.iter().map(|series| (series.name.as_str(), series.points.clone())).collect();
        let points = |y: f64| vec![(1.0, y), (5.0, y)];
        assert_eq!(lines, [("runs/gan-mnist-0", points(1e-6)), ("runs/dcgan-cifar-0", points(2.0))]);
        assert!(chart.log_y && chart.title == "generator_grad_norm in training");
    }
}
