//! Distances between features: precision and recall by the k-th nearest neighbour (Kynkäänniemi et al.,
//! "Improved precision and recall metric for assessing generative models", NeurIPS 2019), and the nearest
//! training images of a sample.
//!
//! Rows are distributed over threads, and each distance is one sum in a fixed order, so the result does not
//! depend on the number of threads.

use crate::data::Images;
use rayon::prelude::*;

/// Independent sums of a distance, so that the processor adds several at a time.
const LANES: usize = 8;

/// Points in a space of features.
#[derive(Clone, Debug)]
pub(crate) struct Points {
    /// `[n, width]`; every row ends with zeros up to a multiple of [`LANES`].
    values: Vec<f64>,
    width: usize,
    dims: usize,
}

/// A point that was found, with its distance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Neighbour {
    /// The row of the point.
    pub index: usize,
    /// The square of its distance.
    pub squared: f64,
}

/// How well two sets of points cover each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PrecisionRecall {
    /// The fraction of the samples that are as near to a real point as its k-th nearest other real point.
    pub precision: f64,
    /// The fraction of the real points that are as near to a sample as its k-th nearest other sample.
    pub recall: f64,
}

impl Points {
    /// The rows of `values`, `[n, dims]`.
    pub fn new(values: impl IntoIterator<Item = f64>, dims: usize) -> Points {
        let width = dims.next_multiple_of(LANES);
        let mut padded = vec![];
        for (i, value) in values.into_iter().enumerate() {
            if i > 0 && i % dims == 0 {
                padded.resize(i / dims * width, 0.0);
            }
            padded.push(value);
        }
        padded.resize(padded.len().next_multiple_of(width), 0.0);
        Points { values: padded, width, dims }
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Numbers per point.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The numbers of a point.
    pub fn values_of(&self, index: usize) -> &[f64] {
        &self.row(index)[..self.dims]
    }

    fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.width..][..self.width]
    }

    fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.width)
    }

    /// The `count` nearest points of `query`, the nearest first; of equally near ones the first.
    fn nearest_to(&self, query: &[f64], count: usize) -> Vec<Neighbour> {
        nearest_of(self.rows().map(|row| squared_distance(query, row)), count)
    }

    /// The `count` nearest of these points for each of `queries`, the nearest first.
    pub fn nearest(&self, queries: &Points, count: usize) -> Vec<Vec<Neighbour>> {
        (0..queries.len()).into_par_iter().map(|i| self.nearest_to(queries.row(i), count)).collect()
    }

    /// The squared distance of each point from its k-th nearest other point.
    fn radii(&self, k: usize) -> Vec<f64> {
        // Each point is its own nearest neighbour, at distance 0.
        let farthest = |i: usize| self.nearest_to(self.row(i), k + 1).last().map_or(0.0, |found| found.squared);
        (0..self.len()).into_par_iter().map(farthest).collect()
    }

    /// The fraction of `queries` within the radius of at least one of these points.
    fn share_covered(&self, radii: &[f64], queries: &Points) -> f64 {
        let is_covered = |i: &usize| {
            let query = queries.row(*i);
            self.rows().zip(radii).any(|(row, radius)| squared_distance(query, row) <= *radius)
        };
        (0..queries.len()).into_par_iter().filter(is_covered).count() as f64 / queries.len() as f64
    }
}

impl PrecisionRecall {
    /// Compares samples with real points, by their `k`-th nearest neighbours (eq. 1 and 2).
    ///
    /// # Panics
    /// If a set has no more than `k` points.
    pub fn of(real: &RealPoints, samples: &Points) -> PrecisionRecall {
        assert!(samples.len() > real.k, "{} neighbours of {} points", real.k, samples.len());
        PrecisionRecall {
            precision: real.points.share_covered(&real.radii, samples),
            recall: samples.share_covered(&samples.radii(real.k), &real.points),
        }
    }
}

/// Real points with their distances among each other, with which several sets of samples are compared.
#[derive(Clone, Debug)]
pub(crate) struct RealPoints {
    points: Points,
    radii: Vec<f64>,
    k: usize,
}

impl RealPoints {
    /// These points, by their `k`-th nearest neighbours.
    ///
    /// # Panics
    /// If there are no more than `k`.
    pub fn new(points: Points, k: usize) -> RealPoints {
        assert!(points.len() > k, "{k} neighbours of {} points", points.len());
        RealPoints { radii: points.radii(k), points, k }
    }
}

/// The training images that are nearest to each of `queries` by their pixels in 0 to 1, `count` of each, the
/// nearest first.
pub(crate) fn nearest_by_pixels(images: &Images, queries: &[&[u8]], count: usize) -> Vec<Vec<Neighbour>> {
    let square = f64::from(images.levels().max()).powi(2);
    let distance = |a: &[u8], b: &[u8]| {
        // Whole numbers: the sum is exact.
        let sum: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
        sum as f64 / square
    };
    let all = || images.pixels().chunks_exact(images.dims());
    queries.par_iter().map(|query| nearest_of(all().map(|image| distance(query, image)), count)).collect()
}

/// The `count` least of the squared distances, the least first; of equal ones the first.
fn nearest_of(squared: impl Iterator<Item = f64>, count: usize) -> Vec<Neighbour> {
    let mut found: Vec<Neighbour> = Vec::with_capacity(count + 1);
    for (index, squared) in squared.enumerate() {
        if found.len() < count || squared < found[found.len() - 1].squared {
            let place = found.partition_point(|other| other.squared <= squared);
            found.insert(place, Neighbour { index, squared });
            found.truncate(count);
        }
    }
    found
}

/// |a - b|², summed in [`LANES`] interleaved sums, which are added in order.
fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            let difference = a[lane] - b[lane];
            sums[lane] += difference * difference;
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Levels;
    use crate::rng::{self, Stream};

    fn points(rows: &[&[f64]]) -> Points {
        Points::new(rows.concat(), rows[0].len())
    }

    fn compare(real: &Points, samples: &Points, k: usize) -> (f64, f64) {
        let PrecisionRecall { precision, recall } = PrecisionRecall::of(&RealPoints::new(real.clone(), k), samples);
        (precision, recall)
    }

    /// `n` points of `dims` uniform numbers in 0 to 1, moved by `shift` along the first axis.
    fn cloud(n: usize, dims: usize, seed: u32, shift: f64) -> Points {
        let value = |i: usize| {
            let uniform = f64::from(rng::uniform(seed, Stream::Test, [1, i as u32]));
            uniform + if i.is_multiple_of(dims) { shift } else { 0.0 }
        };
        Points::new((0..n * dims).map(value), dims)
    }

    #[test]
    fn rows_are_padded_and_distances_are_euclidean() {
        let set = points(&[&[0.0, 3.0, 1.0], &[4.0, 0.0, 1.0], &[0.0, 3.0, 2.0]]);
        assert_eq!((set.len(), set.width), (3, LANES));
        assert_eq!(squared_distance(set.row(0), set.row(1)), 25.0);
        let wide = cloud(2, 19, 5, 0.0);
        let expected: f64 = (0..19).map(|i| (wide.row(0)[i] - wide.row(1)[i]).powi(2)).sum();
        assert!((squared_distance(wide.row(0), wide.row(1)) - expected).abs() < 1e-12);
    }

    #[test]
    fn neighbours_come_the_nearest_first_and_ties_in_their_order() {
        let set = points(&[&[5.0], &[1.0], &[-1.0], &[0.5], &[1.0]]);
        let found = &set.nearest(&points(&[&[0.0]]), 4)[0];
        assert_eq!(found.iter().map(|n| n.index).collect::<Vec<_>>(), [3, 1, 2, 4]);
        assert_eq!(found[0].squared, 0.25);
        assert_eq!(set.nearest(&points(&[&[0.0]]), 9)[0].len(), 5);
        // A point is no neighbour of itself; its duplicate is one.
        assert_eq!(set.radii(1), [16.0, 0.0, 2.25, 0.25, 0.0]);
    }

    #[test]
    fn pixels_are_compared_in_0_to_1() {
        let images = Images::new("three", [1, 2, 1], vec![0, 0, 255, 0, 0, 51], None, Levels::Grey256).unwrap();
        let found = &nearest_by_pixels(&images, &[&[0, 255]], 3)[0];
        assert_eq!(found.iter().map(|n| n.index).collect::<Vec<_>>(), [2, 0, 1]);
        assert!((found[0].squared - 0.64).abs() < 1e-12 && found[1].squared == 1.0 && found[2].squared == 2.0);
    }

    #[test]
    fn a_set_covers_itself_and_nothing_that_is_far_away() {
        let (real, far) = (cloud(60, 4, 1, 0.0), cloud(60, 4, 2, 50.0));
        assert_eq!(compare(&real, &real, 3), (1.0, 1.0));
        assert_eq!(compare(&real, &far, 3), (0.0, 0.0));
    }

    #[test]
    fn two_modes_of_which_one_is_drawn_have_full_precision_and_half_the_recall() {
        let line = |from: f64| (0..10).map(move |i| from + f64::from(i));
        let both = Points::new(line(0.0).chain(line(100.0)), 1);
        let one = Points::new(line(0.0), 1);
        assert_eq!(compare(&both, &one, 1), (1.0, 0.5));
        // The other way round, half of what is drawn is not real, and all that is real is drawn.
        assert_eq!(compare(&one, &both, 1), (0.5, 1.0));
    }

    #[test]
    fn one_sample_drawn_again_and_again_has_precision_and_no_recall() {
        let real = cloud(60, 4, 1, 0.0);
        let same = Points::new((0..20).flat_map(|_| real.row(7)[..4].to_vec()), 4);
        assert_eq!(compare(&real, &same, 3), (1.0, 1.0 / 60.0));
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let (real, samples) = (cloud(300, 11, 1, 0.0), cloud(200, 11, 2, 0.1));
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (compare(&real, &samples, 3), real.nearest(&samples, 2)))
        };
        let one = on(1);
        assert!(one == on(2) && one == on(5));
        assert!((0.05..0.999).contains(&one.0.0), "{:?}", one.0);
    }
}
