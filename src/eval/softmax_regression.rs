//! Softmax regression of few points, with an L2 penalty that cross-validation chooses.
//!
//! The loss of weights W `[dims, classes]` and biases b `[classes]` is the mean cross entropy plus
//! `l2` / 2 |W|². It is convex, so its minimum does not depend on where the search begins.
//! [`Regression::fit`] searches by L-BFGS (Liu & Nocedal 1989). [`Regression::cross_validated`] chooses `l2`
//! and the scale of the points by points that are held out. One thread computes each fit in a fixed order,
//! and fits are distributed over threads, so the result does not depend on their number.

use super::lbfgs::minimise;
use rayon::prelude::*;

/// Classes that are computed together. The weights of classes that do not exist are zero and stay zero.
const LANES: usize = 8;

/// The penalties that are tried, for points with a mean squared norm of 1.
const PENALTIES: [f64; 6] = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6];

/// The penalty if each class has one point only, so that none can be held out.
const PENALTY_OF_ONE: f64 = 1e-3;

/// The most parts that take turns in being held out.
const FOLDS: usize = 5;

/// Points with labels, in rounds: `round` rows with one point of each class, then `round` more. The last
/// round may lack some classes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Labelled<'a> {
    /// `[n, dims]`
    pub points: &'a [f32],
    /// `[n]`
    pub labels: &'a [u32],
    pub dims: usize,
    /// Labels are below this number.
    pub classes: usize,
    /// Number of classes that have points.
    pub round: usize,
}

/// Weights and biases.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Regression {
    dims: usize,
    classes: usize,
    /// For each group of [`LANES`] classes `[dims + 1, LANES]`; the last row holds the biases.
    values: Vec<f64>,
}

impl Regression {
    /// The minimum for points of this kind with the penalty `l2`.
    pub fn fit(data: Labelled, l2: f64) -> Regression {
        Regression::zero(data.dims, data.classes).improved(data, l2)
    }

    /// The minimum with that penalty of [`PENALTIES`], and for that one of several `forms` of the points,
    /// which have the least cross entropy on points that are held out: in up to five parts of equal shares
    /// of the classes, each in turn. Penalties fall until the cross entropy rises. If a class has a single
    /// point, it is the first form with [`PENALTY_OF_ONE`]. Returns the index of the form too.
    ///
    /// # Panics
    /// If there is no form.
    pub fn cross_validated(forms: &[Labelled]) -> (usize, Regression) {
        let penalties: Vec<Penalty> = forms.par_iter().map(|data| penalty(*data)).collect();
        let better = |a: usize, b: usize| if penalties[b].held_out < penalties[a].held_out { b } else { a };
        let best = (0..forms.len()).reduce(better).expect("at least one form");
        (best, Regression::fit(forms[best], penalties[best].l2))
    }

    /// The class with the largest logit of each row of `points`, the first one at a tie.
    pub fn predicted(&self, points: &[f32]) -> Vec<u32> {
        let weights = self.rounded();
        let classes = self.classes;
        let of_rows = |rows: &[f32]| -> Vec<u32> {
            let logits = self.logits(&weights, rows);
            let largest = |row: &[f32]| (0..classes).rev().max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(0);
            logits.chunks_exact(self.width()).map(|row| largest(row) as u32).collect()
        };
        points.par_chunks(256 * self.dims).flat_map_iter(of_rows).collect()
    }

    fn zero(dims: usize, classes: usize) -> Regression {
        let groups = classes.div_ceil(LANES);
        Regression { dims, classes, values: vec![0.0; groups * (dims + 1) * LANES] }
    }

    /// Numbers per row of logits.
    fn width(&self) -> usize {
        self.classes.next_multiple_of(LANES)
    }

    /// The minimum, searched from here.
    fn improved(&self, data: Labelled, l2: f64) -> Regression {
        let mut found = self.clone();
        found.values = minimise(self.values.clone(), |values, gradient| {
            found.values.copy_from_slice(values);
            found.loss(data, l2, gradient)
        });
        found
    }

    /// The penalised loss, and its gradient by [`Regression::values`].
    fn loss(&self, data: Labelled, l2: f64, gradient: &mut [f64]) -> f64 {
        let (width, n) = (self.width(), data.labels.len() as f64);
        let mut logits = self.logits(&self.rounded(), data.points);
        let mut sum = 0.0;
        for (row, label) in logits.chunks_exact_mut(width).zip(data.labels) {
            sum += to_residuals(row, self.classes, *label as usize);
        }
        let mut square = 0.0;
        let group_len = (self.dims + 1) * LANES;
        for (group, (gradient, values)) in
            gradient.chunks_exact_mut(group_len).zip(self.values.chunks_exact(group_len)).enumerate()
        {
            let sums = weighted_sums(data.points, self.dims, &logits, width, group);
            let weights = self.dims * LANES;
            for (i, (gradient, value)) in gradient.iter_mut().zip(values).enumerate() {
                let penalised = if i < weights { *value } else { 0.0 };
                square += penalised * penalised;
                *gradient = f64::from(sums[i]) / n + l2 * penalised;
            }
        }
        sum / n + 0.5 * l2 * square
    }

    /// The mean cross entropy of points, in nats.
    fn cross_entropy(&self, data: Labelled) -> f64 {
        let mut logits = self.logits(&self.rounded(), data.points);
        let rows = logits.chunks_exact_mut(self.width()).zip(data.labels);
        rows.map(|(row, label)| to_residuals(row, self.classes, *label as usize)).sum::<f64>()
            / data.labels.len() as f64
    }

    fn rounded(&self) -> Vec<f32> {
        self.values.iter().map(|value| *value as f32).collect()
    }

    /// The logits of rows, `[n, width]`.
    fn logits(&self, weights: &[f32], points: &[f32]) -> Vec<f32> {
        const ROWS: usize = 4;
        let (dims, width) = (self.dims, self.width());
        let mut logits = vec![0.0; points.len() / dims * width];
        for (group, weights) in weights.chunks_exact((dims + 1) * LANES).enumerate() {
            let (weights, biases) = weights.as_chunks::<LANES>().0.split_at(dims);
            for (rows, logits) in points.chunks(ROWS * dims).zip(logits.chunks_mut(ROWS * width)) {
                let count = rows.len() / dims;
                // At the end, the last row is computed more than once.
                let row = |i: usize| &rows[i.min(count - 1) * dims..][..dims];
                let mut sums = [biases[0]; ROWS];
                let four = row(0).iter().zip(row(1)).zip(row(2)).zip(row(3));
                for ((((a, b), c), d), weights) in four.zip(weights) {
                    for (sum, x) in sums.iter_mut().zip([a, b, c, d]) {
                        for lane in 0..LANES {
                            sum[lane] += x * weights[lane];
                        }
                    }
                }
                for (sum, logits) in sums.iter().zip(logits.chunks_exact_mut(width)) {
                    logits[group * LANES..][..LANES].copy_from_slice(sum);
                }
            }
        }
        logits
    }
}

/// Turns the logits of a point into the gradient of its cross entropy, the probabilities minus 1 at the
/// label, and returns the cross entropy in nats.
fn to_residuals(row: &mut [f32], classes: usize, label: usize) -> f64 {
    let (row, rest) = row.split_at_mut(classes);
    rest.fill(0.0);
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let own = f64::from(row[label] - largest);
    let mut sum = 0.0;
    for value in row.iter_mut() {
        let weight = f64::from(*value - largest).exp();
        sum += weight;
        *value = weight as f32;
    }
    row.iter_mut().for_each(|value| *value /= sum as f32);
    row[label] -= 1.0;
    sum.ln() - own
}

/// The sums over all points of the point times its residuals of one group of classes, and of the residuals:
/// `[dims + 1, LANES]`.
fn weighted_sums(points: &[f32], dims: usize, residuals: &[f32], width: usize, group: usize) -> Vec<f32> {
    const ROWS: usize = 4;
    let mut sums = vec![[0.0_f32; LANES]; dims + 1];
    for (rows, residuals) in points.chunks(ROWS * dims).zip(residuals.chunks(ROWS * width)) {
        let count = rows.len() / dims;
        let row = |i: usize| &rows[i.min(count - 1) * dims..][..dims];
        // At the end, missing rows are the last row with the weight 0.
        let mut weights = [[0.0; LANES]; ROWS];
        for (weights, residuals) in weights.iter_mut().zip(residuals.chunks_exact(width)) {
            weights.copy_from_slice(&residuals[group * LANES..][..LANES]);
        }
        let four = row(0).iter().zip(row(1)).zip(row(2)).zip(row(3));
        let (of_weights, of_biases) = sums.split_at_mut(dims);
        for ((((a, b), c), d), sum) in four.zip(of_weights) {
            for lane in 0..LANES {
                let [p, q, r, s] = [weights[0][lane], weights[1][lane], weights[2][lane], weights[3][lane]];
                sum[lane] += (a * p + b * q) + (c * r + d * s);
            }
        }
        for lane in 0..LANES {
            of_biases[0][lane] += weights.iter().map(|weights| weights[lane]).sum::<f32>();
        }
    }
    sums.into_flattened()
}

/// A penalty that was chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Penalty {
    l2: f64,
    /// The mean cross entropy of the points that were held out; infinite if none could be.
    held_out: f64,
}

/// The penalty for these points.
fn penalty(data: Labelled) -> Penalty {
    let per_class = data.labels.len() / data.round;
    if per_class < 2 {
        return Penalty { l2: PENALTY_OF_ONE, held_out: f64::INFINITY };
    }
    let folds = per_class.min(FOLDS);
    let parts: Vec<[Owned; 2]> = (0..folds).map(|fold| parted(data, fold, folds)).collect();
    let mut fits = vec![Regression::zero(data.dims, data.classes); folds];
    let mut best = Penalty { l2: PENALTIES[0], held_out: f64::INFINITY };
    for l2 in PENALTIES {
        // Each search begins where that with the next larger penalty has ended.
        fits = fits.par_iter().zip(&parts).map(|(fit, [kept, _])| fit.improved(kept.labelled(data), l2)).collect();
        let of_parts = fits.iter().zip(&parts).map(|(fit, [_, part])| fit.cross_entropy(part.labelled(data)));
        let held_out = of_parts.sum::<f64>() / folds as f64;
        if held_out >= best.held_out {
            break;
        }
        best = Penalty { l2, held_out };
    }
    best
}

/// Some of the points, copied.
struct Owned {
    points: Vec<f32>,
    labels: Vec<u32>,
}

impl Owned {
    fn labelled<'a>(&'a self, of: Labelled) -> Labelled<'a> {
        Labelled { points: &self.points, labels: &self.labels, ..of }
    }
}

/// The points that are kept and those that are held out, in turn `fold` of `folds`.
fn parted(data: Labelled, fold: usize, folds: usize) -> [Owned; 2] {
    let part = |held_out: bool| {
        let is_in = |i: &usize| (i / data.round % folds == fold) == held_out;
        let rows: Vec<usize> = (0..data.labels.len()).filter(is_in).collect();
        Owned {
            points: rows.iter().flat_map(|i| &data.points[i * data.dims..][..data.dims]).copied().collect(),
            labels: rows.iter().map(|i| data.labels[*i]).collect(),
        }
    };
    [part(false), part(true)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Stream, uniform};

    /// `rounds` points of each of three classes around three centres of `dims` dimensions.
    fn clouds(rounds: usize, dims: usize, radius: f32) -> (Vec<f32>, Vec<u32>) {
        let value = |i: usize| {
            let (row, axis) = (i / dims, i % dims);
            let centre = if axis % 3 == row % 3 { 1.0 } else { 0.0 };
            centre + radius * (2.0 * uniform(5, Stream::Test, [axis as u32, row as u32]) - 1.0)
        };
        ((0..3 * rounds * dims).map(value).collect(), (0..3 * rounds).map(|row| (row % 3) as u32).collect())
    }

    fn labelled<'a>(points: &'a [f32], labels: &'a [u32], dims: usize) -> Labelled<'a> {
        Labelled { points, labels, dims, classes: 3, round: 3 }
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        // 6 rows are no multiple of the rows that are computed together.
        let (points, labels) = clouds(2, 5, 0.7);
        let data = labelled(&points, &labels, 5);
        let mut at = Regression::zero(5, 3);
        let weight = |i: usize| f64::from(uniform(6, Stream::Test, [0, i as u32])) - 0.5;
        let exists = |i: usize| i % LANES < 3;
        at.values.iter_mut().enumerate().filter(|(i, _)| exists(*i)).for_each(|(i, value)| *value = weight(i));
        let mut gradient = vec![0.0; at.values.len()];
        let mut unused = gradient.clone();
        at.loss(data, 0.3, &mut gradient);
        for (i, computed) in gradient.iter().enumerate() {
            let mut slope = |by: f64| {
                let mut moved = at.clone();
                moved.values[i] += by;
                moved.loss(data, 0.3, &mut unused)
            };
            let measured = if exists(i) { (slope(1e-2) - slope(-1e-2)) / 2e-2 } else { 0.0 };
            assert!((measured - computed).abs() < 1e-4, "{i}: {measured} and {computed}");
        }
    }

    #[test]
    fn a_fit_is_the_minimum() {
        let (points, labels) = clouds(7, 9, 1.5);
        let data = labelled(&points, &labels, 9);
        let fit = Regression::fit(data, 1e-2);
        let mut gradient = vec![0.0; fit.values.len()];
        let least = fit.loss(data, 1e-2, &mut gradient);
        assert!(gradient.iter().map(|g| g * g).sum::<f64>().sqrt() < 2e-4, "{gradient:?}");
        for i in 0..fit.values.len() {
            let mut moved = fit.clone();
            moved.values[i] += 0.05;
            assert!(moved.loss(data, 1e-2, &mut gradient) > least || i % LANES >= 3, "{i}");
        }
    }

    #[test]
    fn separable_points_are_told_apart() {
        let (points, labels) = clouds(3, 7, 0.2);
        let (_, fit) = Regression::cross_validated(&[labelled(&points, &labels, 7)]);
        assert_eq!(fit.predicted(&points), labels);
        let (others, labels) = clouds(100, 7, 0.3);
        assert_eq!(fit.predicted(&others), labels);
    }

    #[test]
    fn the_penalty_is_small_for_clear_points_and_large_for_noise() {
        let (clear, labels) = clouds(20, 3, 0.1);
        let (noise, _) = clouds(20, 3, 50.0);
        let noise: Vec<f32> = noise.iter().map(|value| value / 50.0).collect();
        let [clear, noise, one] =
            [(&clear[..], 60), (&noise[..], 60), (&clear[..9], 3)].map(|(points, n)| labelled(points, &labels[..n], 3));
        assert!(penalty(clear).l2 <= 1e-4 && penalty(clear).held_out < 0.1, "{:?}", penalty(clear));
        assert!(penalty(noise).l2 == 1e-1 && penalty(noise).held_out > 1.0, "{:?}", penalty(noise));
        // A single point per class cannot be held out.
        assert_eq!(penalty(one), Penalty { l2: PENALTY_OF_ONE, held_out: f64::INFINITY });
        assert_eq!(Regression::cross_validated(&[noise, clear]), (1, Regression::fit(clear, penalty(clear).l2)));
        assert_eq!(Regression::cross_validated(&[one, one]), (0, Regression::fit(one, PENALTY_OF_ONE)));
    }

    #[test]
    fn every_point_is_held_out_once() {
        let (points, labels) = clouds(7, 2, 0.1);
        let data = Labelled { labels: &labels[..20], points: &points[..40], ..labelled(&points, &labels, 2) };
        let mut seen = 0;
        for fold in 0..5 {
            let [kept, held_out] = parted(data, fold, 5);
            assert_eq!(kept.labels.len() + held_out.labels.len(), 20);
            assert_eq!(held_out.points.len(), 2 * held_out.labels.len());
            assert!((0..3).all(|class| held_out.labels.contains(&class)), "{:?}", held_out.labels);
            seen += held_out.labels.len();
        }
        assert_eq!(seen, 20);
    }
}
