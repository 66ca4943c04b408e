//! Products on the CPU: `gemm`, `conv`, `conv_dx`, `conv_dw`, as pure functions on slices.
//!
//! All data are f32; a product may round its operands to bf16 (`bf16/`). Images are NHWC, weights are `[kh,
//! kw, cin, cout]`. The functions run in the rayon pool from which they are called. They allocate nothing:
//! the caller gives scratch memory, and [`gemm_scratch_len`] and similar functions say how much.
//!
//! Order of reading: `gather` defines what a convolution multiplies, and `patches` and `frame` how it is
//! read. `rows`, `scatter` (few output channels) and `outer` (weight gradients) divide the work. `tile` is
//! the innermost loop, over the parts of k that `runs` lists. `simd` and `isa` compile one source for three
//! instruction sets, and `bf16` for pairs of bf16 numbers. `window` computes a few pixels of a convolution
//! at a time.
//!
//! Contract: the order in which an output element is summed depends on the op's geometry alone, never on the
//! number of threads or the tile. If the sum is not over the batch, it does not depend on the number of
//! images either. A sum over the batch uses chunks that the geometry fixes. Closed taps are skipped in all
//! directions. Every output element is written. Scratch may have any contents.

#[cfg(target_arch = "x86_64")]
mod avx512_steps;
mod bf16;
mod frame;
mod gather;
mod isa;
mod outer;
mod pack;
mod packing;
mod panels;
mod patches;
mod pool;
mod rows;
mod runs;
mod scatter;
mod simd;
mod tile;
mod window;

pub use isa::{Isa, peak_gflops};
pub use packing::{Packing, Weights};
pub(super) use panels::{Addend, Panels};
pub(super) use window::{Part, WindowConv};

use super::epilogue::EpilogueOp;
use crate::tape::geometry::ConvGeom;
use crate::tape::plan::Precision;
use bf16::WeightWords;
use gather::{Direction, Gather};
use isa::Target;
use rows::Source;
use scatter::Scatter;

/// How a product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arithmetic {
    /// The instruction set.
    pub isa: Isa,
    /// Precision of the operands. Sums are f32.
    pub precision: Precision,
}

impl Arithmetic {
    /// Whether a product rounds its operands to bf16, if one of its kind can do so.
    fn rounds(self, takes: bool) -> bool {
        rounds(self.precision, takes)
    }
}

impl From<Isa> for Arithmetic {
    /// Operands are f32.
    fn from(isa: Isa) -> Arithmetic {
        Arithmetic { isa, precision: Precision::F32 }
    }
}

fn rounds(precision: Precision, takes: bool) -> bool {
    match precision {
        Precision::F32 => false,
        Precision::Bf16 => takes,
    }
}

/// A matrix product `c[m, n] = op(a) op(b)`, row-major and dense; `op(a)` is `[m, k]`, `op(b)` is `[k, n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemm {
    /// Rows of c.
    pub m: usize,
    /// Columns of c.
    pub n: usize,
    /// Length of each sum.
    pub k: usize,
    /// Whether a is stored `[k, m]`.
    pub ta: bool,
    /// Whether b is stored `[n, k]`.
    pub tb: bool,
}

impl Gemm {
    /// Floating point operations.
    pub fn flops(&self) -> u64 {
        2 * (self.m * self.n * self.k) as u64
    }

    /// Whether blocks of a left side that is stored `[k, m]` are transposed. Otherwise the product is a sum
    /// over rows (`outer.rs`), which reads and writes all of c for every hundred of them. That costs more if
    /// c is larger than the L2 cache; but then the right side is read once for each block, so k must not be
    /// too long. The choice depends on the extents alone.
    fn transposes(&self) -> bool {
        let is_large = self.m * self.n >= 1 << 18 && self.m >= 64 && self.n >= 64;
        self.ta && !self.tb && is_large && (256..=4096).contains(&self.k)
    }

    /// This product as one direction of a 1x1 convolution, with one image per row.
    fn gather(&self) -> Gather {
        let Gemm { m, n, k, ta, tb } = *self;
        let (images, cin, cout, direction) = match (ta, tb) {
            (false, false) => (m, k, n, Direction::Forward),
            (false, true) => (m, n, k, Direction::Backward),
            (true, _) => (k, m, n, Direction::Forward),
        };
        Gather::new(&ConvGeom::product(images, [1, 1], cin, cout), direction, false)
    }
}

/// `c[m, n] = op(a) op(b)`, then the epilogue (channels are columns).
///
/// # Panics
/// Panics if a slice does not have the length that `s` says, or the scratch is shorter than
/// [`gemm_scratch_len`].
#[track_caller]
pub fn gemm(
    by: impl Into<Arithmetic>,
    s: Gemm,
    a: &[f32],
    b: Weights,
    c: &mut [f32],
    epi: &[EpilogueOp],
    scratch: &mut [f32],
) {
    let (by, Gemm { m, n, k, .. }) = (by.into(), s);
    check("gemm", [("a", a.len(), m * k), ("c", c.len(), m * n)]);
    check_weights("gemm", b, k * n);
    check_epilogue("gemm", epi, c.len(), n);
    if by.rounds(bf16::takes_gemm(&s)) {
        return bf16::gemm(by.isa, s, a, b, c, epi, scratch);
    }
    multiply(by.isa.into(), s, a, b, c, epi, scratch);
}

/// Floats of scratch that [`gemm`] needs in a pool of `threads` threads.
pub fn gemm_scratch_len(s: Gemm, precision: Precision, threads: usize) -> usize {
    if rounds(precision, bf16::takes_gemm(&s)) {
        return bf16::gemm_scratch_len(s, threads);
    }
    multiply_scratch_len(s, threads)
}

/// [`gemm`] on floats or on words, whose extents have been checked.
#[track_caller]
fn multiply(target: Target, s: Gemm, a: &[f32], b: Weights, c: &mut [f32], epi: &[EpilogueOp], scratch: &mut [f32]) {
    let Gemm { n, k, ta, tb, .. } = s;
    let gather = s.gather();
    match (ta, b) {
        (false, b) => rows::run(target, &gather, Source::Pixels(a), b, c, epi, scratch),
        (true, Weights::Plain(_)) if s.transposes() => {
            let gather = Gemm { ta: false, ..s }.gather();
            rows::run(target, &gather, Source::Transposed(a), b, c, epi, scratch);
        }
        (true, Weights::Plain(b)) if !tb => outer::run(target, &gather, a, b, (c, false), epi, scratch),
        (true, Weights::Plain(b)) => {
            // b is transposed to [k, n] first, because a sum over rows reads both sides row by row.
            let (bt, scratch) = scratch.split_at_mut((k * n).min(scratch.len()));
            pack::transpose_all(target, b, [n, k], bt);
            outer::run(target, &gather, a, bt, (c, false), epi, scratch);
        }
        (true, Weights::Packed(_)) => panic!("gemm: the right side is packed only if the left side is not transposed"),
    }
}

fn multiply_scratch_len(s: Gemm, threads: usize) -> usize {
    match (s.ta, s.tb) {
        (false, _) => rows::scratch_len(&s.gather(), threads),
        (true, false) if s.transposes() => rows::scratch_len(&Gemm { ta: false, ..s }.gather(), threads),
        (true, false) => outer::scratch_len(&s.gather(), threads),
        (true, true) => outer::scratch_len(&s.gather(), threads) + s.k * s.n,
    }
}

/// `y = conv(x, w)`, then the epilogue.
///
/// # Panics
/// Panics if a slice does not have the length that `g` says, or the scratch is shorter than
/// [`conv_scratch_len`].
#[track_caller]
pub fn conv(
    by: impl Into<Arithmetic>,
    g: &ConvGeom,
    x: &[f32],
    w: Weights,
    y: &mut [f32],
    epi: &[EpilogueOp],
    scratch: &mut [f32],
) {
    let by = by.into();
    check_conv("conv", g, x.len(), y.len());
    check_weights("conv", w, g.w_shape().len());
    check_epilogue("conv", epi, y.len(), g.cout);
    if by.rounds(bf16::takes_conv(g)) {
        return bf16::conv(by.isa, (WeightWords::Conv(*g), g.cin), x, w, y, epi, scratch);
    }
    convolve(by.isa.into(), Gather::new(g, Direction::Forward, true), x, w, y, epi, scratch);
}

/// Floats of scratch that [`conv`] needs in a pool of `threads` threads.
pub fn conv_scratch_len(g: &ConvGeom, precision: Precision, threads: usize) -> usize {
    if rounds(precision, bf16::takes_conv(g)) {
        return bf16::conv_scratch_len(WeightWords::Conv(*g), threads);
    }
    convolve_scratch_len(Gather::new(g, Direction::Forward, true), threads)
}

/// `dx` of a convolution from `dy`, or the transposed convolution of `dy`, then the epilogue.
///
/// # Panics
/// Panics if a slice does not have the length that `g` says, or the scratch is shorter than
/// [`conv_dx_scratch_len`].
#[track_caller]
pub fn conv_dx(
    by: impl Into<Arithmetic>,
    g: &ConvGeom,
    dy: &[f32],
    w: Weights,
    dx: &mut [f32],
    epi: &[EpilogueOp],
    scratch: &mut [f32],
) {
    let by = by.into();
    check_conv("conv_dx", g, dx.len(), dy.len());
    check_weights("conv_dx", w, g.w_shape().len());
    check_epilogue("conv_dx", epi, dx.len(), g.cin);
    if by.rounds(bf16::takes_conv_dx(g)) {
        return bf16::conv(by.isa, (WeightWords::ConvDx(*g), g.cout), dy, w, dx, epi, scratch);
    }
    convolve(by.isa.into(), Gather::new(g, Direction::Backward, true), dy, w, dx, epi, scratch);
}

/// Floats of scratch that [`conv_dx`] needs in a pool of `threads` threads.
pub fn conv_dx_scratch_len(g: &ConvGeom, precision: Precision, threads: usize) -> usize {
    if rounds(precision, bf16::takes_conv_dx(g)) {
        return bf16::conv_scratch_len(WeightWords::ConvDx(*g), threads);
    }
    convolve_scratch_len(Gather::new(g, Direction::Backward, true), threads)
}

/// `dw` of a convolution from `x` and `dy`; exactly zero for closed weights. With `add`, `dw` holds
/// gradients from earlier calls, to which these are added.
///
/// # Panics
/// Panics if a slice does not have the length that `g` says, or the scratch is shorter than
/// [`conv_dw_scratch_len`].
#[track_caller]
pub fn conv_dw(
    by: impl Into<Arithmetic>,
    g: &ConvGeom,
    x: &[f32],
    dy: &[f32],
    (dw, add): (&mut [f32], bool),
    scratch: &mut [f32],
) {
    let by = by.into();
    check_conv("conv_dw", g, x.len(), dy.len());
    check("conv_dw", [("dw", dw.len(), g.w_shape().len())]);
    if by.rounds(bf16::takes_conv_dw(g)) {
        return bf16::conv_dw(by.isa, g, x, dy, (dw, add), scratch);
    }
    outer::run(by.isa.into(), &Gather::new(g, Direction::Forward, false), x, dy, (dw, add), &[], scratch);
}

/// Floats of scratch that [`conv_dw`] needs in a pool of `threads` threads.
pub fn conv_dw_scratch_len(g: &ConvGeom, precision: Precision, threads: usize) -> usize {
    if rounds(precision, bf16::takes_conv_dw(g)) {
        return bf16::conv_dw_scratch_len(g, threads);
    }
    outer::scratch_len(&Gather::new(g, Direction::Forward, false), threads)
}

/// Computes `conv` or `conv_dx` by the faster of two methods. The choice depends only on the geometry of one
/// image.
#[track_caller]
fn convolve(
    target: Target,
    gather: Gather,
    source: &[f32],
    w: Weights,
    out: &mut [f32],
    epi: &[EpilogueOp],
    scratch: &mut [f32],
) {
    match Scatter::choose(&gather) {
        Some(plan) => scatter::run(target, plan, source, w, out, epi, scratch),
        None => rows::run(target, &gather, Source::Pixels(source), w, out, epi, scratch),
    }
}

fn convolve_scratch_len(gather: Gather, threads: usize) -> usize {
    match Scatter::choose(&gather) {
        Some(plan) => plan.scratch_len(threads),
        None => rows::scratch_len(&gather, threads),
    }
}

#[track_caller]
fn check<const N: usize>(op: &str, lengths: [(&str, usize, usize); N]) {
    for (name, has, wants) in lengths {
        assert!(has == wants, "{op}: {name} has {has} elements instead of {wants}");
    }
}

/// Packed weights are checked where they are read.
#[track_caller]
fn check_weights(op: &str, w: Weights, len: usize) {
    if let Weights::Plain(w) = w {
        check(op, [("w", w.len(), len)]);
    }
}

#[track_caller]
fn check_conv(op: &str, g: &ConvGeom, x: usize, y: usize) {
    check(op, [("x", x, g.x_shape().len()), ("y", y, g.y_shape().len())]);
    assert!(g.stride.iter().all(|&s| s > 0), "{op}: a stride is zero in {g}");
    assert!(g.groups > 0 && g.blocks > 0 && g.blocks <= g.cout.max(1), "{op}: impossible groups or blocks in {g}");
}

#[track_caller]
fn check_epilogue(op: &str, epi: &[EpilogueOp], len: usize, channels: usize) {
    for e in epi {
        let (has, wants) = match e {
            EpilogueOp::Bias(b) => (b.len(), channels),
            EpilogueOp::Add(other) | EpilogueOp::ActBwd(_, other) => (other.len(), len),
            EpilogueOp::Act(_) => continue,
        };
        assert!(has == wants, "{op}: an epilogue reads {has} elements instead of {wants}");
    }
}
