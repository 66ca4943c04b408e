//! How much features help with few labels: softmax regression and the nearest neighbour, trained on a few
//! labelled images and measured on all test images.
//!
//! [`LabelDraws`] selects the labelled images, [`FewLabels::measure`] measures features. Features are
//! centred and divided by one number, so their geometry stays: a dimension that hardly varies counts hardly.
//! For softmax regression they may be standardised instead, if cross-validation on the labelled images
//! prefers it. Means and divisors come from all training images, without their labels. Test images choose
//! nothing.

use super::Latents;
use super::nearest::nearest_of_first;
use super::softmax_regression::{Labelled, Regression};
use crate::backend::Backend;
use crate::data::Images;
use crate::error::Result;
use crate::rng::{Stream, words};
use rayon::prelude::*;

/// The labelled images of several draws, for several numbers of labels.
#[derive(Clone, Debug)]
pub(crate) struct LabelDraws {
    counts: Vec<usize>,
    classes: usize,
    /// For each draw, the rows of the images. The first `counts[i]` are those of that number of labels.
    rows: Vec<Vec<usize>>,
}

/// A fraction of the test images, from several draws.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Score {
    /// The fraction of each draw. All features have the same draws, so they can be compared draw by draw.
    pub draws: Vec<f64>,
    /// Mean of the draws.
    pub mean: f64,
    /// Standard deviation of the draws; `None` for a single one.
    pub deviation: Option<f64>,
}

/// The fractions of the test images that are classified correctly by some features.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FewLabels {
    /// By softmax regression, for each number of labels.
    pub probe: Vec<Score>,
    /// By the nearest labelled image, for each number of labels.
    pub neighbour: Vec<Score>,
    /// By the nearest training image, with all labels.
    pub neighbour_of_all: f64,
}

impl LabelDraws {
    /// Draws `draws` times, from images with these labels. The classes have equal shares, except that with
    /// `count % classes` > 0 some have one image more. Within a draw, the images of a smaller number are
    /// among those of a larger one. Returns also a sentence for each of `counts` for which there are too few
    /// classes or images; it is left out.
    pub fn new(labels: &[u32], counts: &[usize], draws: usize, seed: u32) -> (LabelDraws, Vec<String>) {
        let mut of_class: Vec<Vec<usize>> = vec![];
        for (row, label) in labels.iter().enumerate() {
            let label = *label as usize;
            of_class.resize_with(of_class.len().max(label + 1), Vec::new);
            of_class[label].push(row);
        }
        // Numbers that are no label of any image are no classes.
        let names: Vec<usize> = (0..of_class.len()).filter(|class| !of_class[*class].is_empty()).collect();
        let classes = names.len();
        let fewest = names.iter().copied().min_by_key(|class| of_class[*class].len()).unwrap_or(0);
        let (mut kept, mut left_out) = (vec![], vec![]);
        for count in counts {
            let (share, images) = (count.div_ceil(classes), of_class[fewest].len());
            if *count < classes {
                left_out.push(format!("{count} labels are fewer than the {classes} classes"));
            } else if share > images {
                left_out.push(format!(
                    "{count} labels are {share} per class, and class {fewest} has {images} training images"
                ));
            } else {
                kept.push(*count);
            }
        }
        kept.sort_unstable();
        kept.dedup();
        let most = kept.last().copied().unwrap_or(0);
        let draw = |draw: u32| {
            let key = |index: usize| words(seed, Stream::Labels, [draw, index as u32]);
            let shuffled = |class: &usize| {
                let mut rows = of_class[*class].clone();
                rows.sort_by_key(|row| key(*row));
                rows
            };
            // Which classes come first is drawn too, by keys that no image has.
            let mut order = names.clone();
            order.sort_by_key(|class| key(u32::MAX as usize - *class));
            let columns: Vec<Vec<usize>> = order.iter().map(shuffled).collect();
            (0..most).map(|i| columns[i % classes][i / classes]).collect()
        };
        (LabelDraws { counts: kept, classes, rows: (0..draws as u32).map(draw).collect() }, left_out)
    }

    /// The numbers of labels, in ascending order.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// Number of draws.
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

impl FewLabels {
    /// Measures the means of `train`, some of which are labelled by `draws`, on those of `test`.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn measure(
        backend: &mut dyn Backend,
        pool: &rayon::ThreadPool,
        train: &Latents,
        test: &Latents,
        draws: &LabelDraws,
    ) -> Result<FewLabels> {
        let dims = train.dims;
        let moments = Moments::of(train);
        let scales = [moments.one_scale(), moments.standard()];
        let points = scales[0].apply(&train.mu);
        let queries = scales.each_ref().map(|scale| scale.apply(&test.mu));
        let share = |predicted: &[u32]| {
            predicted.iter().zip(&test.labels).filter(|(a, b)| a == b).count() as f64 / test.labels.len() as f64
        };
        let of_rows = |found: &[u32], label: &dyn Fn(usize) -> u32| {
            share(&found.iter().map(|row| label(*row as usize)).collect::<Vec<u32>>())
        };
        let mut by_neighbour = vec![];
        for rows in &draws.rows {
            let labelled = gathered(&points, dims, rows);
            let found = nearest_of_first(backend, pool, &labelled, &queries[0], dims, &draws.counts)?;
            let label = |row: usize| train.labels[rows[row]];
            by_neighbour.push(found.iter().map(|found| of_rows(found, &label)).collect::<Vec<_>>());
        }
        let classes = 1 + train.labels.iter().copied().max().unwrap_or(0) as usize;
        let probe = |rows: &Vec<usize>| -> Vec<f64> {
            let labels: Vec<u32> = rows.iter().map(|row| train.labels[*row]).collect();
            let labelled = scales.each_ref().map(|scale| scale.apply(&gathered(&train.mu, dims, rows)));
            let of_count = |count: &usize| {
                let forms = labelled.each_ref().map(|points| Labelled {
                    points: &points[..count * dims],
                    labels: &labels[..*count],
                    dims,
                    classes,
                    round: draws.classes,
                });
                let (form, fit) = Regression::cross_validated(&forms);
                share(&fit.predicted(&queries[form]))
            };
            draws.counts.par_iter().map(of_count).collect()
        };
        let by_probe: Vec<Vec<f64>> = pool.install(|| draws.rows.par_iter().map(probe).collect());
        let all = nearest_of_first(backend, pool, &points, &queries[0], dims, &[train.labels.len()])?;
        let scores = |of: &[Vec<f64>]| {
            (0..draws.counts.len()).map(|i| Score::of(of.iter().map(|draw| draw[i]).collect())).collect()
        };
        Ok(FewLabels {
            probe: scores(&by_probe),
            neighbour: scores(&by_neighbour),
            neighbour_of_all: of_rows(&all[0], &|row| train.labels[row]),
        })
    }
}

impl Score {
    /// The mean and the standard deviation (of a sample: over n - 1) of the draws.
    fn of(draws: Vec<f64>) -> Score {
        let n = draws.len() as f64;
        let mean = draws.iter().sum::<f64>() / n;
        let square = draws.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        Score { mean, deviation: (draws.len() > 1).then(|| (square / (n - 1.0)).sqrt()), draws }
    }
}

/// The pixels of images in 0 to 1 as features.
pub(crate) fn pixels(images: &Images) -> Latents {
    let largest = f32::from(images.levels().max());
    Latents {
        dims: images.dims(),
        mu: images.pixels().iter().map(|level| f32::from(*level) / largest).collect(),
        logvar: vec![],
        labels: images.labels().unwrap_or_default().iter().map(|label| u32::from(*label)).collect(),
    }
}

/// Rows of features, `[n, dims]`.
fn gathered(features: &[f32], dims: usize, rows: &[usize]) -> Vec<f32> {
    rows.iter().flat_map(|row| &features[row * dims..][..dims]).copied().collect()
}

/// Mean and variance of each dimension.
struct Moments {
    mean: Vec<f64>,
    variance: Vec<f64>,
}

/// What is subtracted from each dimension, and by what it is multiplied then.
struct Scale {
    mean: Vec<f32>,
    factors: Vec<f32>,
}

impl Moments {
    fn of(latents: &Latents) -> Moments {
        let rows = || latents.mu.chunks_exact(latents.dims);
        let n = rows().len() as f64;
        let (mut mean, mut variance) = (vec![0.0; latents.dims], vec![0.0; latents.dims]);
        for row in rows() {
            mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value) / n);
        }
        for row in rows() {
            let deviations = row.iter().zip(&mean).map(|(value, mean)| f64::from(*value) - mean);
            variance.iter_mut().zip(deviations).for_each(|(sum, deviation)| *sum += deviation * deviation / n);
        }
        Moments { mean, variance }
    }

    /// One factor for all dimensions, after which the mean of |x|² is 1.
    fn one_scale(&self) -> Scale {
        let square: f64 = self.variance.iter().sum();
        // Features that are the same for every image stay zero.
        let factor = if square > 0.0 { (1.0 / square.sqrt()) as f32 } else { 0.0 };
        self.scale(vec![factor; self.mean.len()])
    }

    /// A factor for each dimension, after which all have the same variance and the mean of |x|² is 1.
    fn standard(&self) -> Scale {
        let dims = self.mean.len() as f64;
        // A collapsed dimension carries no information and must not be amplified.
        self.scale(self.variance.iter().map(|variance| (1.0 / ((variance + 1e-6) * dims).sqrt()) as f32).collect())
    }

    fn scale(&self, factors: Vec<f32>) -> Scale {
        Scale { mean: self.mean.iter().map(|mean| *mean as f32).collect(), factors }
    }
}

impl Scale {
    fn apply(&self, features: &[f32]) -> Vec<f32> {
        let scaled = |row: &[f32]| -> Vec<f32> {
            let dims = row.iter().zip(&self.mean).zip(&self.factors);
            dims.map(|((value, mean), factor)| (value - mean) * factor).collect()
        };
        features.chunks_exact(self.mean.len()).flat_map(scaled).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend;
    use crate::rng::uniform;

    /// Labels of three classes, of which 1 is missing, with 5, 0, 30 and 40 images.
    fn labels() -> Vec<u32> {
        (0..75).map(|i| if i % 15 == 0 { 0 } else { 2 + u32::from(i % 15 > 6) }).collect()
    }

    #[test]
    fn labelled_images_are_balanced_nested_and_drawn_by_the_seed() {
        let labels = labels();
        let (draws, left_out) = LabelDraws::new(&labels, &[12, 3, 13, 12], 4, 7);
        assert_eq!((draws.counts(), draws.len(), left_out.len()), (&[3, 12, 13][..], 4, 0));
        let class_counts = |rows: &[usize]| [0, 2, 3].map(|class| rows.iter().filter(|r| labels[**r] == class).count());
        for rows in &draws.rows {
            assert_eq!(rows.len(), 13);
            assert_eq!((class_counts(&rows[..3]), class_counts(&rows[..12])), ([1; 3], [4; 3]));
            let mut last = class_counts(rows);
            last.sort_unstable();
            assert_eq!(last, [4, 4, 5]);
            let mut distinct = rows.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), 13);
        }
        assert!(draws.rows.windows(2).all(|pair| pair[0] != pair[1]), "two draws are equal");
        assert_eq!(LabelDraws::new(&labels, &[13], 4, 7).0.rows, draws.rows);
        assert_ne!(LabelDraws::new(&labels, &[13], 4, 8).0.rows, draws.rows);
    }

    #[test]
    fn too_few_classes_or_images_are_said() {
        let (draws, left_out) = LabelDraws::new(&labels(), &[2, 15, 18], 1, 0);
        assert_eq!(draws.counts(), [15]);
        assert_eq!(
            left_out,
            ["2 labels are fewer than the 3 classes", "18 labels are 6 per class, and class 0 has 5 training images"]
        );
        assert!(LabelDraws::new(&labels(), &[2], 3, 0).0.rows.iter().all(Vec::is_empty));
    }

    #[test]
    fn scores_are_mean_and_deviation_of_a_sample() {
        let score = |draws: &[f64], mean: f64, deviation: Option<f64>| {
            assert_eq!(Score::of(draws.to_vec()), Score { draws: draws.to_vec(), mean, deviation });
        };
        score(&[0.25, 0.75], 0.5, Some(0.125_f64.sqrt()));
        score(&[0.25], 0.25, None);
    }

    #[test]
    fn one_scale_keeps_the_geometry_and_standard_features_have_equal_variances() {
        let latents = |mu: &[f32]| Latents { dims: 2, mu: mu.to_vec(), logvar: vec![], labels: vec![] };
        let is_near = |found: &[f32], expected: &[f32]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4);
        // Variances 16 and 9.
        let uneven = latents(&[1.0, 2.0, 9.0, 2.0, 1.0, 8.0, 9.0, 8.0]);
        let moments = Moments::of(&uneven);
        let one = moments.one_scale().apply(&uneven.mu);
        assert!(is_near(&one, &[-0.8, -0.6, 0.8, -0.6, -0.8, 0.6, 0.8, 0.6]), "{one:?}");
        let standard = moments.standard().apply(&uneven.mu);
        let h = 0.5_f32.sqrt();
        assert!(is_near(&standard, &[-h, -h, h, -h, -h, h, h, h]), "{standard:?}");
        let constant = Moments::of(&latents(&[2.0; 6]));
        assert_eq!([constant.one_scale(), constant.standard()].map(|scale| scale.apply(&[2.0; 6])), [[0.0; 6]; 2]);
    }

    /// Clouds around the corners of a square, one class each, of radius `radius`.
    fn clouds(n: usize, radius: f32, seed: u32) -> Latents {
        let noise = |i: usize, axis: u32| radius * (2.0 * uniform(seed, Stream::Test, [axis, i as u32]) - 1.0);
        let corner = |i: usize| [(i % 2) as f32 + noise(i, 0), (i / 2 % 2) as f32 + noise(i, 1)];
        let labels = (0..n).map(|i| (i % 4) as u32).collect();
        Latents { dims: 2, mu: (0..n).flat_map(corner).collect(), logvar: vec![], labels }
    }

    fn measured(train: &Latents, test: &Latents, threads: usize) -> FewLabels {
        let mut backend = backend::open("cpu", threads).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (draws, left_out) = LabelDraws::new(&train.labels, &[4, 40], 3, 1);
        assert!(left_out.is_empty(), "{left_out:?}");
        FewLabels::measure(&mut *backend, &pool, train, test, &draws).unwrap()
    }

    #[test]
    fn separate_clouds_need_one_label_each() {
        let found = measured(&clouds(200, 0.2, 1), &clouds(101, 0.2, 2), 1);
        let all_right = vec![Score { draws: vec![1.0; 3], mean: 1.0, deviation: Some(0.0) }; 2];
        let expected = FewLabels { probe: all_right.clone(), neighbour: all_right, neighbour_of_all: 1.0 };
        assert_eq!(found, expected);
    }

    #[test]
    fn overlapping_clouds_need_more_labels_and_threads_change_no_bit() {
        let (train, test) = (clouds(400, 0.8, 1), clouds(500, 0.8, 2));
        let found = measured(&train, &test, 1);
        assert!(found.probe[1].mean > found.probe[0].mean + 0.02, "{found:?}");
        assert!(found.probe[1].deviation < found.probe[0].deviation, "{found:?}");
        // The best rule is right for 1 - 0.375 * 0.5 of each axis.
        assert!((0.55..0.75).contains(&found.probe[1].mean), "{found:?}");
        assert!((0.45..0.7).contains(&found.neighbour_of_all), "{found:?}");
        assert_eq!(found, measured(&train, &test, 3));
        // Labels that say nothing: three draws may agree with the classes of four clouds by chance.
        let shuffled = Latents { labels: (0..400).map(|i| (i / 4 % 4) as u32).collect(), ..train };
        let chance = measured(&shuffled, &test, 2);
        let is_chance = |score: &Score| (0.1..0.45).contains(&score.mean);
        assert!(chance.probe.iter().chain(&chance.neighbour).all(is_chance), "{chance:?}");
    }
}
