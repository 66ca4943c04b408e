//! The Frechet distance between two sets of features, each described by its mean and covariance (Heusel et
//! al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", NIPS 2017,
//! eq. 6), and what it tends to as the number of samples grows.

use crate::rng::{Stream, words};
use nalgebra::{DMatrix, DVector};

/// The parts into which a set is cut for [`Trend`].
const PARTS: [usize; 3] = [4, 2, 1];

/// The mean and covariance of a set of features.
#[derive(Clone, Debug)]
pub(crate) struct Gaussian {
    mean: DVector<f64>,
    /// A square root of the covariance: the symmetric one.
    root: DMatrix<f64>,
    /// The trace of the covariance.
    trace: f64,
}

impl Gaussian {
    /// Describes the rows of `features`, `[n, dims]`. The covariance is the unbiased estimate, which divides
    /// by n - 1.
    ///
    /// # Panics
    /// If there are fewer than two rows, or no whole number of them.
    pub fn of(features: &[f32], dims: usize) -> Gaussian {
        assert!(dims > 0 && features.len().is_multiple_of(dims) && features.len() >= 2 * dims, "two rows or more");
        let n = features.len() / dims;
        let mut mean = DVector::zeros(dims);
        for row in features.chunks_exact(dims) {
            mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        mean /= n as f64;
        // The lower triangle; deviations from the mean are small numbers, whose squares lose no digits.
        let (mut covariance, mut deviation) = (DMatrix::zeros(dims, dims), vec![0.0; dims]);
        for row in features.chunks_exact(dims) {
            deviation.iter_mut().zip(row).zip(&mean).for_each(|((to, value), mean)| *to = f64::from(*value) - mean);
            for (column, factor) in deviation.iter().enumerate() {
                let mut sums = covariance.column_mut(column);
                sums.iter_mut().zip(&deviation).skip(column).for_each(|(sum, value)| *sum += factor * value);
            }
        }
        covariance /= (n - 1) as f64;
        covariance.fill_upper_triangle_with_lower_triangle();
        Gaussian::from_moments(mean, covariance)
    }

    fn from_moments(mean: DVector<f64>, covariance: DMatrix<f64>) -> Gaussian {
        let trace = covariance.trace();
        let mut eigen = covariance.symmetric_eigen();
        // Rounding may turn an eigenvalue of 0 negative.
        eigen.eigenvalues.apply(|value| *value = value.max(0.0).sqrt());
        Gaussian { mean, root: eigen.recompose(), trace }
    }

    /// The squared Frechet distance |m1 - m2|² + tr S1 + tr S2 - 2 tr (S1^½ S2 S1^½)^½.
    ///
    /// The last trace is the sum of the singular values of S1^½ S2^½: the matrix is that product times its
    /// transpose, and its eigenvalues are their squares. The singular values are exact to rounding, also
    /// where covariances have no full rank. Square roots of eigenvalues near 0 would only be exact to half
    /// the digits.
    ///
    /// # Panics
    /// If the two differ in their dimensions.
    pub fn distance(&self, other: &Gaussian) -> f64 {
        let overlap: f64 = (&self.root * &other.root).singular_values().iter().sum();
        let means = (&self.mean - &other.mean).norm_squared();
        (means + self.trace + other.trace - 2.0 * overlap).max(0.0)
    }
}

/// The Frechet distance over the number of samples. Its estimate is too large, by an amount that falls as
/// one over that number, so numbers for different n cannot be compared (Chong & Forsyth, "Effectively
/// unbiased FID and Inception score and where to find them", CVPR 2020).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trend {
    /// Number of samples and the distance: for a quarter, for half and for all of them. The first two are
    /// means over the four quarters and the two halves.
    pub points: [(usize, f64); 3],
    /// The value at 1 / n = 0 of the straight line through the points over 1 / n, by least squares.
    pub limit: f64,
}

impl Trend {
    /// The distances of the rows of `features`, `[n, dims]`, from `reference`. The rows are cut into parts
    /// in a fixed random order, because files of samples may be sorted by class.
    ///
    /// # Panics
    /// If there are fewer than 8 rows.
    pub fn of(features: &[f32], dims: usize, reference: &Gaussian) -> Trend {
        let order = shuffled(features.len() / dims);
        let mixed: Vec<f32> = order.iter().flat_map(|&row| &features[row * dims..][..dims]).copied().collect();
        let points = PARTS.map(|parts| {
            let size = order.len() / parts;
            let distances = mixed.chunks_exact(size * dims).take(parts);
            let total: f64 = distances.map(|part| Gaussian::of(part, dims).distance(reference)).sum();
            (size, total / parts as f64)
        });
        Trend { points, limit: at_zero(points.map(|(size, distance)| (1.0 / size as f64, distance))) }
    }
}

/// The numbers below `n` in a fixed random order.
pub(crate) fn shuffled(n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_cached_key(|&index| (words(0, Stream::Shuffle, [u32::MAX, index as u32]), index));
    order
}

/// The value at x = 0 of the straight line through points (x, y), by least squares.
fn at_zero(points: [(f64, f64); 3]) -> f64 {
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
    let slopes = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>();
    let squares = points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>();
    y - slopes / squares * x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math;

    /// `[n, dims]` independent standard normal numbers.
    fn normal(n: usize, dims: usize, seed: u32) -> Vec<f32> {
        (0..n * dims).map(|i| math::normal(words(seed, Stream::Test, [0, i as u32]))).collect()
    }

    fn diagonal(mean: &[f64], variances: &[f64]) -> Gaussian {
        let covariance = DMatrix::from_diagonal(&DVector::from_column_slice(variances));
        Gaussian::from_moments(DVector::from_column_slice(mean), covariance)
    }

    /// The covariance that a Gaussian was made of.
    fn covariance(of: &Gaussian) -> DMatrix<f64> {
        &of.root * &of.root
    }

    #[test]
    fn the_moments_are_those_of_the_rows() {
        let of = Gaussian::of(&[1.0, 2.0, 3.0, 2.0, 5.0, 8.0], 2);
        assert_eq!(of.mean.as_slice(), [3.0, 4.0]);
        let expected = DMatrix::from_row_slice(2, 2, &[4.0, 6.0, 6.0, 12.0]);
        assert!((covariance(&of) - expected).norm() < 1e-12 && of.trace == 16.0);
    }

    #[test]
    fn equal_sets_have_distance_0_also_without_full_rank() {
        for (n, dims) in [(50, 6), (5, 12), (2, 3)] {
            let of = Gaussian::of(&normal(n, dims, 1), dims);
            let distance = of.distance(&of);
            assert!(distance < 1e-12, "{n} rows of {dims}: {distance}");
        }
    }

    #[test]
    fn gaussians_with_diagonal_covariances_have_a_closed_form() {
        let (m1, v1) = ([0.0, 1.0, -2.0, 0.5], [1.0, 4.0, 0.25, 0.0]);
        let (m2, v2) = ([3.0, 1.0, 0.0, 0.5], [9.0, 1.0, 0.0, 0.0]);
        // The sum over the dimensions of (m1 - m2)^2 + (sqrt v1 - sqrt v2)^2.
        let term = |i: usize| f64::powi(m1[i] - m2[i], 2) + (f64::sqrt(v1[i]) - f64::sqrt(v2[i])).powi(2);
        let expected: f64 = (0..4).map(term).sum();
        let (one, other) = (diagonal(&m1, &v1), diagonal(&m2, &v2));
        assert!((one.distance(&other) - expected).abs() < 1e-12, "{} {expected}", one.distance(&other));
        assert!((other.distance(&one) - expected).abs() < 1e-12);
    }

    #[test]
    fn the_trace_is_that_of_the_symmetric_form() {
        let of = |seed| Gaussian::of(&normal(40, 5, seed), 5);
        let (one, other) = (of(1), of(2));
        let product = &one.root * covariance(&other) * &one.root;
        let root: f64 = product.symmetric_eigenvalues().iter().map(|value| value.max(0.0).sqrt()).sum();
        let expected = (&one.mean - &other.mean).norm_squared() + one.trace + other.trace - 2.0 * root;
        assert!((one.distance(&other) - expected).abs() < 1e-10, "{} {expected}", one.distance(&other));
    }

    #[test]
    fn turning_both_sets_changes_nothing_and_moving_one_adds_the_square_of_the_way() {
        let (n, dims) = (200, 3);
        let (a, b) = (normal(n, dims, 1), normal(n, dims, 2));
        let turned = |set: &[f32]| -> Vec<f32> {
            // By 3-4-5 in the first plane, then a swap of two axes.
            set.chunks_exact(dims).flat_map(|r| [0.6 * r[0] - 0.8 * r[1], r[2], 0.8 * r[0] + 0.6 * r[1]]).collect()
        };
        let distance = |a: &[f32], b: &[f32]| Gaussian::of(a, dims).distance(&Gaussian::of(b, dims));
        let plain = distance(&a, &b);
        assert!((distance(&turned(&a), &turned(&b)) - plain).abs() < 1e-6, "{plain}");
        let moved: Vec<f32> = a.chunks_exact(dims).flat_map(|r| [r[0] + 2.0, r[1], r[2] - 1.0]).collect();
        assert!((distance(&a, &moved) - 5.0).abs() < 1e-5);
    }

    #[test]
    fn fewer_samples_than_dimensions_have_the_distance_of_their_plane() {
        // Two points on each of two axes: covariances of rank 1 that share no direction.
        let (one, other) = ([1.0, 0.0, 0.0, -1.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0, -3.0, 0.0]);
        let distance = Gaussian::of(&one, 3).distance(&Gaussian::of(&other, 3));
        assert!((distance - (2.0 + 18.0)).abs() < 1e-12, "{distance}");
    }

    #[test]
    fn the_limit_removes_most_of_the_bias() {
        let dims = 8;
        let reference = diagonal(&vec![0.0; dims], &vec![1.0; dims]);
        let Trend { points, limit } = Trend::of(&normal(800, dims, 3), dims, &reference);
        assert_eq!(points.map(|(n, _)| n), [200, 400, 800]);
        assert!(points[0].1 > 1.5 * points[1].1 && points[1].1 > 1.5 * points[2].1, "{points:?}");
        assert!(limit.abs() < 0.5 * points[2].1, "{limit} {points:?}");
        assert!((at_zero([(0.25, 3.5), (0.5, 4.0), (1.0, 5.0)]) - 3.0).abs() < 1e-12);
    }
}
