//! Random draws: uniform and normal numbers per element, Gaussian samples, and categories and bits from
//! given uniform numbers.

use super::loss;
use super::product::Isa;
use super::vector::{CHUNK, chunk_rows, largest, map, spread, vectorized};
use crate::math;
use crate::rng::{self, Stream};
use crate::tape::op::{Counter, Dist};
use rayon::prelude::*;

/// Draws a number for every element of y. `count` is the number of the replay, or the index of the first
/// image if draws are counted by image; an image has `per_image` elements.
pub(super) fn random(
    isa: Isa,
    (dist, stream, counter): (Dist, Stream, Counter),
    [seed, count]: [u32; 2],
    per_image: usize,
    y: &mut [f32],
) {
    let len = y.len();
    match counter {
        Counter::Replay => spread(y.par_chunks_mut(CHUNK).enumerate(), len)
            .for_each(|(i, y)| draws(isa, dist, stream, seed, count, (i * CHUNK) as u32, y)),
        Counter::Image => {
            let images = chunk_rows(per_image);
            spread(y.par_chunks_mut(images * per_image).enumerate(), len).for_each(|(i, y)| {
                for (j, y) in y.chunks_exact_mut(per_image).enumerate() {
                    draws(isa, dist, stream, seed, count.wrapping_add((i * images + j) as u32), 0, y);
                }
            });
        }
    }
}

vectorized! {
    fn draws(dist: Dist, stream: Stream, seed: u32, count: u32, first: u32, y: &mut [f32]) {
        let mut element = first;
        macro_rules! each {
            ($words:ident => $e:expr) => {
                for y in y {
                    let $words = rng::words(seed, stream, [count, element]);
                    *y = $e;
                    element = element.wrapping_add(1);
                }
            };
        }
        match dist {
            Dist::Uniform => each!(words => rng::unit(words[0])),
            Dist::Normal => each!(words => math::normal(words)),
        }
    }
}

/// `z = mu + exp(logvar / 2) eps` and, for each row of `d` elements,
/// `kl = sum of (mu^2 + exp(logvar) - 1 - logvar) / 2`. The normal draws eps are counted by replay and
/// element, and keyed by `[seed, replay]`.
pub(super) fn gaussian_sample(
    isa: Isa,
    stream: Stream,
    [seed, replay]: [u32; 2],
    d: usize,
    [mu, logvar]: [&[f32]; 2],
    [z, kl]: [&mut [f32]; 2],
) {
    if d == 0 {
        kl.fill(0.0);
        return;
    }
    let (rows, len) = (chunk_rows(d), z.len());
    let inputs = mu.par_chunks(rows * d).zip(logvar.par_chunks(rows * d));
    let outputs = z.par_chunks_mut(rows * d).zip(kl.par_chunks_mut(rows));
    spread(outputs.zip(inputs).enumerate(), len).for_each(|(i, ((z, kl), (mu, logvar)))| {
        gaussian_sample_rows(isa, d, stream, [seed, replay], (i * rows * d) as u32, [mu, logvar], [z, kl]);
    });
}

vectorized! {
    fn gaussian_sample_rows(
        d: usize,
        stream: Stream,
        keys: [u32; 2],
        first: u32,
        inputs: [&[f32]; 2],
        outputs: [&mut [f32]; 2],
    ) {
        let ([seed, replay], [mu, logvar], [z, kl]) = (keys, inputs, outputs);
        let mut element = first;
        // Computed across rows, so that vectors stay full if rows are short.
        map!(z <- mu, logvar: {
            let eps = math::normal(rng::words(seed, stream, [replay, element]));
            element = element.wrapping_add(1);
            math::reparameterize(mu, logvar, eps)
        });
        for ((kl, mu), logvar) in kl.iter_mut().zip(mu.chunks_exact(d)).zip(logvar.chunks_exact(d)) {
            *kl = loss::kl(mu, logvar);
        }
    }
}

/// `dmu = dz + dkl mu`, `dlogvar = (dz (z - mu) + dkl (exp(logvar) - 1)) / 2`, with one dkl per row of `d`
/// elements.
pub(super) fn gaussian_sample_bwd(
    isa: Isa,
    d: usize,
    [dz, dkl, mu, logvar, z]: [&[f32]; 5],
    [dmu, dlogvar]: [&mut [f32]; 2],
) {
    let (rows, len) = (chunk_rows(d), z.len());
    let chunk = rows * d.max(1);
    let draws = dz.par_chunks(chunk).zip(z.par_chunks(chunk));
    let inputs = draws.zip(mu.par_chunks(chunk).zip(logvar.par_chunks(chunk))).zip(dkl.par_chunks(rows));
    let outputs = dmu.par_chunks_mut(chunk).zip(dlogvar.par_chunks_mut(chunk));
    spread(outputs.zip(inputs), len).for_each(|((dmu, dlogvar), (((dz, z), (mu, logvar)), dkl))| {
        gaussian_sample_bwd_rows(isa, d, [dz, dkl, mu, logvar, z], [dmu, dlogvar]);
    });
}

vectorized! {
    fn gaussian_sample_bwd_rows(d: usize, inputs: [&[f32]; 5], outputs: [&mut [f32]; 2]) {
        let ([dz, dkl, mu, logvar, z], [dmu, dlogvar]) = (inputs, outputs);
        let outputs = dmu.chunks_exact_mut(d).zip(dlogvar.chunks_exact_mut(d));
        let draws = dz.chunks_exact(d).zip(z.chunks_exact(d));
        let inputs = mu.chunks_exact(d).zip(logvar.chunks_exact(d));
        for (((dmu, dlogvar), (dz, z)), ((mu, logvar), &dkl)) in outputs.zip(draws).zip(inputs.zip(dkl)) {
            map!(dmu <- dz, mu: dkl * mu + dz);
            map!(dlogvar <- dz, z, mu, logvar: {
                dkl * (0.5 * math::exp(logvar) - 0.5) + 0.5 * (dz * (z - mu))
            });
        }
    }
}

/// For each row of `k` logits, `index` is the smallest class whose cumulative softmax(logits / temperature)
/// exceeds u, or the last class if none does. At temperature 0 it is the first of the largest logits.
/// Without classes it is an index out of range.
pub(super) fn categorical(isa: Isa, k: usize, logits: &[f32], u: &[f32], temperature: f32, index: &mut [u32]) {
    if k == 0 {
        index.fill(u32::MAX);
        return;
    }
    let rows = chunk_rows(k);
    spread(index.par_chunks_mut(rows).zip(logits.par_chunks(rows * k)).zip(u.par_chunks(rows)), logits.len())
        .for_each(|((index, logits), u)| categorical_rows(isa, k, logits, u, temperature, index));
}

/// Classes whose probabilities are computed together.
const BLOCK: usize = 64;

vectorized! {
    pub(super) fn categorical_rows(k: usize, logits: &[f32], u: &[f32], temperature: f32, index: &mut [u32]) {
        for ((index, l), &u) in index.iter_mut().zip(logits.chunks_exact(k)).zip(u) {
            let max = largest(l);
            if temperature == 0.0 {
                *index = l.iter().position(|l| *l == max).unwrap_or(k - 1) as u32;
                continue;
            }
            // The same sum is computed twice in the same order: first to its end, then up to the draw.
            let mut total = 0.0;
            let mut drawn = k - 1;
            'passes: for pass in 0..2 {
                let mut sum = 0.0;
                for (b, l) in l.chunks(BLOCK).enumerate() {
                    let mut weights = [0f32; BLOCK];
                    let block = &mut weights[..l.len()];
                    map!(block <- l: math::exp((l - max) / temperature));
                    for (i, w) in block.iter().enumerate() {
                        sum += w;
                        if pass == 1 && sum > u * total {
                            drawn = b * BLOCK + i;
                            break 'passes;
                        }
                    }
                }
                total = sum;
            }
            *index = drawn as u32;
        }
    }
}

/// `y` is 1 if u < sigmoid(logit / temperature), else 0. At temperature 0 it is 1 if the logit is positive,
/// else 0.
pub(super) fn bernoulli(isa: Isa, logits: &[f32], u: &[f32], temperature: f32, y: &mut [f32]) {
    let len = y.len();
    spread(y.par_chunks_mut(CHUNK).zip(logits.par_chunks(CHUNK)).zip(u.par_chunks(CHUNK)), len)
        .for_each(|((y, l), u)| bernoulli_chunk(isa, l, u, temperature, y));
}

vectorized! {
    pub(super) fn bernoulli_chunk(l: &[f32], u: &[f32], temperature: f32, y: &mut [f32]) {
        if temperature == 0.0 {
            map!(y <- l: if l > 0.0 { 1.0 } else { 0.0 })
        } else {
            map!(y <- l, u: if u < math::sigmoid(l / temperature) { 1.0 } else { 0.0 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::elementwise;
    use super::super::testing::{numbers, same_bits};
    use super::*;

    #[test]
    fn draws_are_indexed_by_element() {
        let len = 2 * CHUNK + 33;
        let by_replay = (Dist::Uniform, Stream::Test, Counter::Replay);
        let y = same_bits(len, 0, |isa, y, _| random(isa, by_replay, [7, 3], len, y));
        assert!(y.iter().enumerate().all(|(i, y)| *y == rng::uniform(7, Stream::Test, [3, i as u32])));
        let by_replay = (Dist::Normal, Stream::Test, Counter::Replay);
        let y = same_bits(len, 0, |isa, y, _| random(isa, by_replay, [7, 3], len, y));
        assert!(y.iter().enumerate().all(|(i, y)| *y == math::normal(rng::words(7, Stream::Test, [3, i as u32]))));
        let (n, mean) = (len as f32, y.iter().sum::<f32>() / len as f32);
        let variance = y.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "mean {mean}, variance {variance}");
    }

    #[test]
    fn an_image_draws_the_same_in_any_batch() {
        let by_image = (Dist::Uniform, Stream::Pixel, Counter::Image);
        let batch = same_bits(5 * 17, 0, |isa, y, _| random(isa, by_image, [7, 40], 17, y));
        for image in 0..5 {
            let alone = same_bits(17, 0, |isa, y, _| random(isa, by_image, [7, 40 + image as u32], 17, y));
            assert_eq!(alone, batch[image * 17..][..17]);
        }
    }

    /// The fused kernel gives the same numbers as three separate steps, with any number of rows per task.
    #[test]
    fn a_sample_is_its_draws_reparameterized() {
        for (n, d) in [(5, 1), (3, 33), (2 * CHUNK / 20, 20), (2, CHUNK + 5)] {
            let len = n * d;
            let (mu, logvar) = (numbers(1, len, -3.0, 3.0), numbers(2, len, -9.0, 3.0));
            let both = same_bits(len + n, 0, |isa, y, _| {
                let (z, kl) = y.split_at_mut(len);
                gaussian_sample(isa, Stream::Latent, [7, 3], d, [&mu, &logvar], [z, kl]);
            });
            let eps = same_bits(len, 0, |isa, y, _| {
                random(isa, (Dist::Normal, Stream::Latent, Counter::Replay), [7, 3], len, y);
            });
            let z = same_bits(len, 0, |isa, z, _| elementwise::reparameterize(isa, &mu, &logvar, &eps, z));
            let kl = same_bits(n, 0, |isa, kl, _| loss::gaussian_kl(isa, d, &mu, &logvar, kl));
            assert!(both[..len] == z && both[len..] == kl, "[{n}x{d}]");
        }
        let kl = same_bits(2, 0, |isa, kl, _| gaussian_sample(isa, Stream::Test, [0; 2], 0, [&[], &[]], [&mut [], kl]));
        assert_eq!(kl, [0.0; 2]);
    }

    fn draw(k: usize, logits: &[f32], u: &[f32], temperature: f32) -> Vec<u32> {
        let words = same_bits(u.len(), 0, |isa, y, _| {
            categorical(isa, k, logits, u, temperature, bytemuck::cast_slice_mut(y));
        });
        bytemuck::cast_slice(&words).to_vec()
    }

    #[test]
    fn categories_by_cumulative_probability() {
        let (rows, k) = (130, 100);
        let (logits, u) = (numbers(1, rows * k, -3.0, 3.0), numbers(2, rows, 0.0, 1.0));
        for temperature in [0.3, 1.0, 2.0] {
            for (r, drawn) in draw(k, &logits, &u, temperature).into_iter().enumerate() {
                let weights = logits[r * k..][..k].iter().map(|l| (f64::from(*l) / f64::from(temperature)).exp());
                let total: f64 = weights.clone().sum();
                let mut sum = 0.0;
                let below = weights.take_while(|w| {
                    sum += w / total;
                    sum <= f64::from(u[r])
                });
                assert_eq!(drawn as usize, below.count(), "row {r}");
            }
        }
        let largest_u = 1.0 - f32::EPSILON / 2.0;
        assert_eq!(draw(3, &[0.0, 0.0, -1e4], &[largest_u], 1.0), [1]);
        assert_eq!(draw(3, &[1e4, -1e4, 1e4, f32::NEG_INFINITY, 0.0, 0.0], &[0.5, 0.0], 1.0), [2, 1]);
        assert_eq!(draw(3, &[1.0, 5.0, 5.0, f32::NAN, 0.0, 0.0], &[0.9, 0.0], 0.0), [1, 2]);
        assert_eq!(draw(3, &[f32::NAN; 3], &[0.0], 1.0), [2]);
        assert_eq!(draw(0, &[], &[0.0], 1.0), [u32::MAX]);
    }

    #[test]
    fn bits_by_probability() {
        let (l, u) = ([0.0, 0.0, 2.0, -1e4, 1e4], [0.49, 0.5, 0.8, 0.0, 0.999]);
        let bits = |t| same_bits(5, 0, |isa, y, _| bernoulli(isa, &l, &u, t, y));
        assert_eq!(bits(1.0), [1.0, 0.0, 1.0, 0.0, 1.0]);
        assert_eq!(bits(10.0), [1.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(bits(0.0), [0.0, 0.0, 1.0, 0.0, 1.0]);
    }
}
