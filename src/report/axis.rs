//! The axes of charts: their range, round ticks, and labels in one notation.

use super::text::short;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use std::ops::Range;

/// The range of an axis and its ticks. The library could choose the ticks itself, but it knows too few
/// round numbers for logarithmic axes.
#[derive(Clone)]
pub(super) struct Axis {
    pub low: f64,
    pub high: f64,
    pub ticks: Vec<f64>,
    /// The distance between two ticks; 0 if a logarithmic axis has powers of ten as ticks.
    step: f64,
    log: bool,
}

impl Axis {
    /// An axis over these values with about `count` ticks. For a logarithmic axis the values are decimal
    /// logarithms.
    pub fn over(values: impl Iterator<Item = f64>, log: bool, count: usize) -> Axis {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        // The range must not be empty, even if there is no value or if all values are equal.
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let least = (low.abs().max(high.abs()) * 1e-3).max(if low == 0.0 && high == 0.0 { 1.0 } else { 1e-30 });
        let (low, high) = if high - low < least { (low - least, high + least) } else { (low, high) };
        if log {
            return Axis::logarithmic(low, high, count);
        }
        let step = nice_step((high - low) / count as f64);
        let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
        let ticks: Vec<f64> = (first..=last).map(|i| i as f64 * step).collect();
        Axis { low: first as f64 * step, high: last as f64 * step, ticks, step, log }
    }

    fn logarithmic(low: f64, high: f64, count: usize) -> Axis {
        let pad = (high - low) * 0.05;
        let (low, high) = (low - pad, high + pad);
        let inside = |tick: &f64| (low..=high).contains(tick);
        let mut step = 0.0;
        let mut ticks: Vec<f64> = if high - low < 1.0 {
            // Less than a decade: use the round numbers of a linear axis.
            let (least, most) = (10f64.powf(low), 10f64.powf(high));
            step = nice_step((most - least) / count as f64);
            let multiples = (least / step).ceil() as i64..=(most / step).floor() as i64;
            multiples.map(|i| (i as f64 * step).log10()).filter(inside).collect()
        } else {
            let factors: &[f64] = if high - low < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let every = ((high - low) / (count + 2) as f64).ceil() as i64;
            let decades = (low.floor() as i64..=high.ceil() as i64).filter(|decade| decade % every == 0);
            let ticks = decades.flat_map(|decade| factors.iter().map(move |factor| decade as f64 + factor.log10()));
            ticks.filter(inside).collect()
        };
        if ticks.is_empty() {
            ticks = vec![low, high];
        }
        Axis { low, high, ticks, step, log: true }
    }

    pub fn label(&self, value: f64) -> String {
        let number = |value: f64| if self.log { 10f64.powf(value) } else { value };
        // All labels of an axis use the same notation.
        let magnitude = number(self.low).abs().max(number(self.high).abs());
        let value = number(value);
        if value == 0.0 || self.step == 0.0 || !(1e-3..1e7).contains(&magnitude) {
            return short(value);
        }
        if self.step >= 1000.0 {
            return format!("{}k", short(value / 1000.0));
        }
        let decimals = (-self.step.log10() + 1e-9).ceil().max(0.0) as usize;
        format!("{value:.decimals$}")
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        let part = (value - self.low) / (self.high - self.low);
        start + (part * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

/// The smallest number that is at least `rough` and is 1, 2 or 5 times a power of ten.
fn nice_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithmic_axes_have_round_ticks() {
        for (low, high, want) in [
            (0.001, 1000.0, vec!["0.001", "0.01", "0.1", "1", "10", "100", "1000"]),
            (80.0, 500.0, vec!["100", "200", "300", "400", "500"]),
            (98.1, 98.9, vec!["98.2", "98.4"]),
            (1e-12, 1e12, vec!["1e-12", "1e-8", "1e-4", "1", "10000", "1e8", "1e12"]),
        ] {
            let axis = Axis::over([f64::log10(low), f64::log10(high)].into_iter(), true, 6);
            let labels: Vec<String> = axis.ticks.iter().map(|tick| axis.label(*tick)).collect();
            assert!(want.iter().all(|text| labels.iter().any(|label| label == text)), "{labels:?}");
            assert!((2..=8).contains(&labels.len()), "{labels:?}");
        }
    }
}
