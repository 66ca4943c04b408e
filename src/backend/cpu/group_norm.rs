//! Group normalisation (Wu & He 2018): each image has a mean and a variance for each group of neighbouring
//! channels.
//!
//! The passes over elements are those of batch norm ([`norm`](super::norm)), applied to the chunks of each
//! image. Between the passes, the chunks and channels of a group are joined in double precision. The results
//! of a group are written for each of its channels, so the passes themselves need not know the groups.

use super::norm::{
    Statistics, gradient_rows, gradient_sums_of_chunk, join_statistics, normalize_rows, statistics_of_chunk,
};
use super::product::Isa;
use super::vector::{chunk_rows, map, spread};
use crate::shape::Shape;
use rayon::prelude::*;

/// Rows of `c` floats for the factors of an image: the mean, and three factors of the backward pass.
const FACTORS: usize = 4;
/// Rows of `c` floats for the parts of an image in the gradients of gamma and beta.
const SUMS: usize = 2;

/// How x `[images, pixels, c]` is divided into chunks and groups.
#[derive(Clone, Copy)]
pub(super) struct Groups {
    images: usize,
    pixels: usize,
    c: usize,
    groups: usize,
}

impl Groups {
    /// For x `[n, .., c]`.
    pub(super) fn of(x: Shape, groups: usize) -> Groups {
        let (images, c) = (x.dims()[0], x.last());
        Groups { images, pixels: x.rows() / images.max(1), c, groups }
    }

    /// Scratch of both passes: the parts of all chunks, the factors and the sums of each image.
    pub(super) fn scratch_len(&self) -> usize {
        self.images * (self.parts_len() + (FACTORS + SUMS) * self.c)
    }

    /// Floats of the parts of an image: three rows of c for each chunk.
    fn parts_len(&self) -> usize {
        3 * self.c * self.pixels.div_ceil(chunk_rows(self.c))
    }

    /// The channels of group `g`.
    fn channels(&self, g: usize) -> std::ops::Range<usize> {
        let share = self.c / self.groups;
        g * share..(g + 1) * share
    }
}

/// `y = (x - mean) inv_std gamma + beta` with mean and biased variance of each image and group.
pub(super) fn group_norm(
    isa: Isa,
    cut: Groups,
    eps: f32,
    [x, gamma, beta]: [&[f32]; 3],
    [y, mean, inv_std]: [&mut [f32]; 3],
    scratch: &mut [f32],
) {
    if y.is_empty() {
        mean.fill(0.0);
        inv_std.fill(1.0 / eps.sqrt());
        return;
    }
    let Groups { images, pixels, c, groups } = cut;
    let chunk = chunk_rows(c);
    let (parts, factors) = scratch.split_at_mut(images * cut.parts_len());
    let statistics = mean.par_chunks_mut(groups).zip(inv_std.par_chunks_mut(groups));
    let work = parts.par_chunks_mut(cut.parts_len()).zip(factors.par_chunks_mut(FACTORS * c));
    let image = y.par_chunks_mut(pixels * c).zip(x.par_chunks(pixels * c));
    spread(image.zip(statistics.zip(work)), x.len()).for_each(|((y, x), ((mean, inv_std), (parts, factors)))| {
        spread(parts.par_chunks_mut(3 * c).zip(x.par_chunks(chunk * c)), x.len())
            .for_each(|(part, x)| statistics_of_chunk(isa, x, part));
        let (of_channel, factors) = factors.split_at_mut(c);
        let (scale, shift) = factors.split_at_mut(c);
        for g in 0..groups {
            let Statistics { mean: exact, variance } = join_statistics(parts, cut.channels(g), c, pixels, chunk);
            mean[g] = exact as f32;
            inv_std[g] = (1.0 / (variance + f64::from(eps)).sqrt()) as f32;
            for j in cut.channels(g) {
                of_channel[j] = mean[g];
                scale[j] = gamma[j] * inv_std[g];
                shift[j] = beta[j] - (exact - f64::from(mean[g])) as f32 * scale[j];
            }
        }
        let (of_channel, scale, shift) = (&*of_channel, &*scale, &shift[..c]);
        spread(y.par_chunks_mut(chunk * c).zip(x.par_chunks(chunk * c)), x.len())
            .for_each(|(y, x)| normalize_rows(isa, None, x, of_channel, scale, shift, y));
    });
}

/// With xhat = (x - mean) inv_std, g = dy gamma and N elements in a group: `dgamma = sum dy xhat` and
/// `dbeta = sum dy` over images and pixels, `dx = inv_std (g - sum g / N - xhat sum(g xhat) / N)` with the
/// sums of the group.
pub(super) fn group_norm_bwd(
    isa: Isa,
    cut: Groups,
    [dy, x, gamma, mean, inv_std]: [&[f32]; 5],
    [dx, dgamma, dbeta]: [&mut [f32]; 3],
    scratch: &mut [f32],
) {
    dgamma.fill(0.0);
    dbeta.fill(0.0);
    if dx.is_empty() {
        return;
    }
    let Groups { images, pixels, c, groups } = cut;
    let chunk = chunk_rows(c);
    let (parts, rest) = scratch.split_at_mut(images * cut.parts_len());
    let (factors, sums) = rest.split_at_mut(images * FACTORS * c);
    let sums = &mut sums[..images * SUMS * c];
    let statistics = mean.par_chunks(groups).zip(inv_std.par_chunks(groups));
    let work = parts.par_chunks_mut(cut.parts_len()).zip(factors.par_chunks_mut(FACTORS * c));
    let image = dx.par_chunks_mut(pixels * c).zip(dy.par_chunks(pixels * c).zip(x.par_chunks(pixels * c)));
    let all = image.zip(statistics).zip(work.zip(sums.par_chunks_mut(SUMS * c)));
    spread(all, 2 * x.len()).for_each(|(((dx, (dy, x)), (mean, inv_std)), ((parts, factors), sums))| {
        let (of_channel, factors) = factors.split_at_mut(c);
        (0..groups).for_each(|g| of_channel[cut.channels(g)].fill(mean[g]));
        let of_channel = &*of_channel;
        spread(parts.par_chunks_mut(3 * c).zip(dy.par_chunks(chunk * c)).zip(x.par_chunks(chunk * c)), 2 * x.len())
            .for_each(|((part, dy), x)| gradient_sums_of_chunk(isa, dy, x, of_channel, part));
        let (by_dy, factors) = factors.split_at_mut(c);
        let (by_x, shift) = factors.split_at_mut(c);
        let (products, gradients) = sums.split_at_mut(c);
        for (g, inv_std) in inv_std.iter().enumerate() {
            let total =
                |k: usize, j: usize| parts.chunks_exact(3 * c).map(|part| f64::from(part[k * c + j])).sum::<f64>();
            let n = (pixels * cut.channels(g).len()) as f64;
            // `off` is the exact mean minus the rounded mean.
            let off = cut.channels(g).map(|j| total(2, j)).sum::<f64>() / n;
            let inv = f64::from(*inv_std);
            let (mut sum, mut product) = (0.0, 0.0);
            for j in cut.channels(g) {
                let of_dy = total(0, j);
                let with_x = total(1, j) - of_dy * off;
                (products[j], gradients[j]) = ((with_x * inv) as f32, of_dy as f32);
                sum += f64::from(gamma[j]) * of_dy;
                product += f64::from(gamma[j]) * with_x;
            }
            let b = -inv * inv * inv * product / n;
            for j in cut.channels(g) {
                by_dy[j] = (f64::from(gamma[j]) * inv) as f32;
                (by_x[j], shift[j]) = (b as f32, (-inv * sum / n - b * off) as f32);
            }
        }
        let factors = [&*by_dy, &*by_x, &shift[..c]];
        spread(dx.par_chunks_mut(chunk * c).zip(dy.par_chunks(chunk * c)).zip(x.par_chunks(chunk * c)), 2 * x.len())
            .for_each(|((dx, dy), x)| gradient_rows(isa, dy, x, of_channel, factors, dx));
    });
    for sums in sums.chunks_exact(SUMS * c) {
        let (products, gradients) = sums.split_at(c);
        map!(dgamma <- products: *dgamma + products);
        map!(dbeta <- gradients: *dbeta + gradients);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, numbers, same_bits};
    use super::*;

    /// With several chunks per image, several images, and a mean far from 0, the bits are the same on every
    /// instruction set and with any number of threads, and the mean is that of the drawn data.
    #[test]
    fn instruction_sets_and_threads_agree() {
        for ([images, pixels, c], groups) in [([3, 35, 6], 3), ([2, 9000, 4], 2), ([5, 1, 33], 11)] {
            let (len, cut) = (images * pixels * c, Groups { images, pixels, c, groups });
            let (x, dy) = (numbers(1, len, 99.0, 101.0), numbers(2, len, -1.0, 1.5));
            let (gamma, beta) = (numbers(3, c, 0.5, 1.5), numbers(4, c, -0.5, 0.5));
            let lengths = [len, images * groups, images * groups, len, c, c];
            let got = same_bits(lengths.iter().sum(), cut.scratch_len(), |isa, mut out, scratch| {
                let [y, m, inv, dx, dgamma, dbeta] =
                    lengths.map(|n| out.split_off_mut(..n).expect("room for each output"));
                group_norm(isa, cut, 1e-5, [&x, &gamma, &beta], [y, m, inv], scratch);
                scratch.fill(f32::NAN);
                group_norm_bwd(isa, cut, [&dy, &x, &gamma, m, inv], [dx, dgamma, dbeta], scratch);
            });
            assert!(got.iter().all(|v| v.is_finite()));
            let mean = |image: usize, g: usize| {
                let of = (0..pixels).flat_map(|p| cut.channels(g).map(move |j| (image * pixels + p) * c + j));
                of.map(|i| f64::from(x[i])).sum::<f64>() / (pixels * c / groups) as f64
            };
            let want: Vec<f64> = (0..images).flat_map(|i| (0..groups).map(move |g| mean(i, g))).collect();
            close(&got[len..][..images * groups], &want, 1e-6);
        }
    }
}
