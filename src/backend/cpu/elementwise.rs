//! Elementwise kernels.

use super::product::Isa;
use super::unary;
use super::vector::{CHUNK, chunk_rows, map, spread, vectorized};
use crate::math;
use crate::tape::op::{Binary, Unary};
use rayon::prelude::*;

/// `y = value`
pub(super) fn fill(value: f32, y: &mut [f32]) {
    let len = y.len();
    spread(y.par_chunks_mut(CHUNK), len).for_each(|y| y.fill(value));
}

/// `y = x`
pub(super) fn copy(x: &[f32], y: &mut [f32]) {
    let len = y.len();
    spread(y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)), len).for_each(|(y, x)| y.copy_from_slice(x));
}

/// `y = f(x)`
pub(super) fn unary(isa: Isa, f: Unary, x: &[f32], y: &mut [f32]) {
    let len = y.len();
    spread(y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)), len).for_each(|(y, x)| unary_chunk(isa, f, x, y));
}

vectorized! {
    fn unary_chunk(f: Unary, x: &[f32], y: &mut [f32]) {
        unary::specialize_unary!(f, f => map!(y <- x: unary::unary(f, x)))
    }
}

/// `dx = dy * f'(saved)`
pub(super) fn unary_bwd(isa: Isa, f: Unary, dy: &[f32], saved: &[f32], dx: &mut [f32]) {
    let len = dx.len();
    spread(dx.par_chunks_mut(CHUNK).zip(dy.par_chunks(CHUNK)).zip(saved.par_chunks(CHUNK)), len)
        .for_each(|((dx, dy), saved)| unary_bwd_chunk(isa, f, dy, saved, dx));
}

vectorized! {
    fn unary_bwd_chunk(f: Unary, dy: &[f32], saved: &[f32], dx: &mut [f32]) {
        unary::specialize_unary!(f, f => map!(dx <- dy, saved: unary::unary_bwd(f, dy, saved)))
    }
}

/// `y = a op b`
pub(super) fn binary(isa: Isa, op: Binary, a: &[f32], b: &[f32], y: &mut [f32]) {
    let len = y.len();
    spread(y.par_chunks_mut(CHUNK).zip(a.par_chunks(CHUNK)).zip(b.par_chunks(CHUNK)), len)
        .for_each(|((y, a), b)| binary_chunk(isa, op, a, b, y));
}

vectorized! {
    pub(super) fn binary_chunk(op: Binary, a: &[f32], b: &[f32], y: &mut [f32]) {
        match op {
            Binary::Add => map!(y <- a, b: a + b),
            Binary::Sub => map!(y <- a, b: a - b),
            Binary::Mul => map!(y <- a, b: a * b),
            Binary::Div => map!(y <- a, b: a / b),
        }
    }
}

/// `y = scale * x + shift`
pub(super) fn affine(isa: Isa, [scale, shift]: [f32; 2], x: &[f32], y: &mut [f32]) {
    let len = y.len();
    spread(y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)), len)
        .for_each(|(y, x)| affine_chunk(isa, scale, shift, x, y));
}

vectorized! {
    pub(super) fn affine_chunk(scale: f32, shift: f32, x: &[f32], y: &mut [f32]) {
        map!(y <- x: scale * x + shift)
    }
}

/// `y = min(max(x, lo), hi)`; NaN passes.
pub(super) fn clamp(isa: Isa, [lo, hi]: [f32; 2], x: &[f32], y: &mut [f32]) {
    let len = y.len();
    spread(y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)), len).for_each(|(y, x)| clamp_chunk(isa, lo, hi, x, y));
}

vectorized! {
    pub(super) fn clamp_chunk(lo: f32, hi: f32, x: &[f32], y: &mut [f32]) {
        map!(y <- x: {
            let above = if x < lo { lo } else { x };
            if above > hi { hi } else { above }
        })
    }
}

/// `y[.., c] = tanh(x[.., ..c]) * sigmoid(x[.., c..])`
pub(super) fn gated(isa: Isa, c: usize, x: &[f32], y: &mut [f32]) {
    let (len, rows) = (y.len(), chunk_rows(c));
    spread(y.par_chunks_mut(rows * c.max(1)).zip(x.par_chunks(rows * 2 * c.max(1))), len)
        .for_each(|(y, x)| gated_rows(isa, c, x, y));
}

vectorized! {
    fn gated_rows(c: usize, x: &[f32], y: &mut [f32]) {
        for (x, y) in x.chunks_exact(2 * c).zip(y.chunks_exact_mut(c)) {
            let (a, b) = x.split_at(c);
            gate(a, b, y);
        }
    }
}

vectorized! {
    /// `y = tanh(a) * sigmoid(b)`
    pub(super) fn gated_run(a: &[f32], b: &[f32], y: &mut [f32]) {
        gate(a, b, y);
    }
}

/// Inlined, so that it is compiled for the caller's instruction set.
#[inline(always)]
fn gate(a: &[f32], b: &[f32], y: &mut [f32]) {
    map!(y <- a, b: math::tanh(a) * math::sigmoid(b));
}

/// With t = tanh(a), s = sigmoid(b): `da = dy s (1 - t^2)`, `db = dy t s (1 - s)`
pub(super) fn gated_bwd(isa: Isa, c: usize, dy: &[f32], x: &[f32], dx: &mut [f32]) {
    let (len, rows, c1) = (x.len(), chunk_rows(c), c.max(1));
    spread(dx.par_chunks_mut(rows * 2 * c1).zip(x.par_chunks(rows * 2 * c1)).zip(dy.par_chunks(rows * c1)), len)
        .for_each(|((dx, x), dy)| gated_bwd_rows(isa, c, dy, x, dx));
}

vectorized! {
    fn gated_bwd_rows(c: usize, dy: &[f32], x: &[f32], dx: &mut [f32]) {
        for ((dx, x), dy) in dx.chunks_exact_mut(2 * c).zip(x.chunks_exact(2 * c)).zip(dy.chunks_exact(c)) {
            let ((a, b), (da, db)) = (x.split_at(c), dx.split_at_mut(c));
            for ((((da, db), &a), &b), &dy) in da.iter_mut().zip(db).zip(a).zip(b).zip(dy) {
                let (t, s) = (math::tanh(a), math::sigmoid(b));
                *da = dy * s * (1.0 - t * t);
                *db = dy * t * (s * (1.0 - s));
            }
        }
    }
}

/// `z = mu + exp(logvar / 2) * eps`
pub(super) fn reparameterize(isa: Isa, mu: &[f32], logvar: &[f32], eps: &[f32], z: &mut [f32]) {
    let len = z.len();
    let inputs = mu.par_chunks(CHUNK).zip(logvar.par_chunks(CHUNK)).zip(eps.par_chunks(CHUNK));
    spread(z.par_chunks_mut(CHUNK).zip(inputs), len)
        .for_each(|(z, ((mu, logvar), eps))| reparameterize_chunk(isa, mu, logvar, eps, z));
}

vectorized! {
    fn reparameterize_chunk(mu: &[f32], logvar: &[f32], eps: &[f32], z: &mut [f32]) {
        map!(z <- mu, logvar, eps: math::reparameterize(mu, logvar, eps))
    }
}

/// `index = floor(x * (levels - 1) + 1/2)`, at most `levels - 1`; 0 if x is negative or NaN.
pub(super) fn quantize(isa: Isa, levels: usize, x: &[f32], index: &mut [u32]) {
    let (len, top) = (x.len(), (levels - 1) as f32);
    spread(index.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)), len)
        .for_each(|(index, x)| quantize_chunk(isa, top, x, index));
}

vectorized! {
    pub(super) fn quantize_chunk(top: f32, x: &[f32], index: &mut [u32]) {
        map!(index <- x: {
            let level = x * top + 0.5;
            // The cast drops the fraction; it turns negative numbers and NaN into 0.
            (if level > top { top } else { level }) as u32
        })
    }
}

/// `y = index / (levels - 1)`
pub(super) fn dequantize(isa: Isa, levels: usize, index: &[u32], y: &mut [f32]) {
    let (len, top) = (y.len(), (levels - 1) as f32);
    spread(y.par_chunks_mut(CHUNK).zip(index.par_chunks(CHUNK)), len)
        .for_each(|(y, index)| dequantize_chunk(isa, top, index, y));
}

vectorized! {
    pub(super) fn dequantize_chunk(top: f32, index: &[u32], y: &mut [f32]) {
        map!(y <- index: index as f32 / top)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{numbers, same_bits};
    use super::*;

    #[test]
    fn instruction_sets_and_threads_agree_on_every_function() {
        for f in Unary::EACH {
            for len in [1, 3, 17, 33, 130, 3 * CHUNK + 5] {
                let (x, dy) = (numbers(1, len, -9.0, 9.0), numbers(2, len, -1.0, 1.0));
                let y = same_bits(len, 0, |isa, y, _| unary(isa, f, &x, y));
                assert!(y.iter().zip(&x).all(|(y, x)| y.to_bits() == unary::unary(f, *x).to_bits()), "{f}");
                let dx = same_bits(len, 0, |isa, dx, _| unary_bwd(isa, f, &dy, &x, dx));
                let want = |i: usize| unary::unary_bwd(f, dy[i], x[i]).to_bits();
                assert!(dx.iter().enumerate().all(|(i, dx)| dx.to_bits() == want(i)), "{f}'");
            }
        }
    }

    #[test]
    fn gates_of_any_width() {
        for c in [1, 3, 17, 33] {
            let (x, dy) = (numbers(1, 2 * c * 130, -4.0, 4.0), numbers(2, c * 130, -1.0, 1.0));
            let y = same_bits(c * 130, 0, |isa, y, _| gated(isa, c, &x, y));
            let dx = same_bits(2 * c * 130, 0, |isa, dx, _| gated_bwd(isa, c, &dy, &x, dx));
            for (i, y) in y.iter().enumerate() {
                let (a, b) = (2 * c * (i / c) + i % c, 2 * c * (i / c) + c + i % c);
                let (t, s) = (f64::from(x[a]).tanh(), 1.0 / (1.0 + (-f64::from(x[b])).exp()));
                assert!((f64::from(*y) - t * s).abs() < 1e-6);
                assert!((f64::from(dx[a]) - f64::from(dy[i]) * s * (1.0 - t * t)).abs() < 1e-6);
                assert!((f64::from(dx[b]) - f64::from(dy[i]) * t * s * (1.0 - s)).abs() < 1e-6);
            }
        }
    }
    #[test]
    fn every_level_comes_back_and_ends_hold() {
        for levels in [2, 3, 16, 256, 1000] {
            let index: Vec<u32> = (0..levels as u32).collect();
            let y = same_bits(levels, 0, |isa, y, _| dequantize(isa, levels, &index, y));
            let back = same_bits(levels, 0, |isa, back, _| quantize(isa, levels, &y, bytemuck::cast_slice_mut(back)));
            assert_eq!(bytemuck::cast_slice::<f32, u32>(&back), index);
            assert_eq!((y[0], y[levels - 1]), (0.0, 1.0));
        }
        let x = [-1.0, -0.1, 0.0, 0.249, 0.251, 0.74, 0.76, 1.0, 1e30, f32::INFINITY];
        let index = same_bits(x.len(), 0, |isa, y, _| quantize(isa, 3, &x, bytemuck::cast_slice_mut(y)));
        assert_eq!(bytemuck::cast_slice::<f32, u32>(&index), [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]);
    }
}
