//! The register tile: the innermost loop of every product.
//!
//! Computes `c[i, j] (+)= sum over k of a(i, k) * b[k, j]` for up to `MR` rows and `2 * LANES` columns, with
//! all sums in registers. A is read through pointers, one float at a time, and broadcast. B is read as
//! vectors. There are two forms. In a convolution, k runs [`Along`] the floats that a pointer of A leads to
//! (the channels of a pixel). In a weight gradient, k runs [`Across`] the pointers (the pixels). The
//! pointers make patches of an image the rows of a matrix without a copy; for padding, a pointer leads to
//! zeros.
//!
//! Bound by the FMA units: a 14x32 step of AVX-512 does 28 FMAs (14 cycles on two units) and 16 loads. With
//! A and B in the L2 cache it reaches at least 95 % of the peak.
//!
//! Every element of C is one chain of FMAs in the order of k, whatever the tile. So the choice of tile,
//! block or thread cannot change a bit of the result.

#[cfg(target_arch = "x86_64")]
use super::bf16::Avx512Pairs;
use super::bf16::PortablePairs;
pub(super) use super::runs::{Piece, Run, Segments};
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{Portable, Simd, prefetch};
use crate::backend::cpu::epilogue::EpilogueOp;
use crate::tape::op::Unary;

/// The place of a tile in C.
#[derive(Clone, Copy)]
pub(super) struct Out<'a> {
    /// Row `i` of the tile begins at `c + rows[i]`.
    pub(super) c: *mut f32,
    /// Offset of each row.
    pub(super) rows: &'a [usize],
    /// Number of columns to write.
    pub(super) cols: usize,
    /// Whether the sums are added to C, instead of replacing it.
    pub(super) add: bool,
}

/// Operations on the sums while they are in registers: first the gate, then the bias, the addend and the
/// relu, each only if it is present. They replace a separate pass that would read and write C once more.
#[derive(Clone, Copy)]
pub(super) struct SumEpilogue {
    /// The saved output of a relu, with the layout of C. Where it is not positive, the sum becomes zero.
    /// Null if absent.
    gate: *const f32,
    /// One float per column. Null if absent.
    bias: *const f32,
    /// A tensor that is added, with the layout of C. Null if absent.
    addend: *const f32,
    /// Whether to take the maximum with zero.
    relu: bool,
}

impl SumEpilogue {
    /// Nothing is applied.
    pub(super) const NONE: SumEpilogue =
        SumEpilogue { gate: std::ptr::null(), bias: std::ptr::null(), addend: std::ptr::null(), relu: false };

    /// Adds a tensor with the layout of C.
    pub(super) fn adding(addend: *const f32) -> SumEpilogue {
        SumEpilogue { addend, ..SumEpilogue::NONE }
    }

    /// Splits `ops` into the leading operations that tiles can apply, and the rest, which need a pass over
    /// C. The slices of `ops` must have the length of the output (a bias: one float per column), because
    /// tiles read them through pointers.
    pub(super) fn split<'a, 'b>(mut ops: &'a [EpilogueOp<'b>]) -> (SumEpilogue, &'a [EpilogueOp<'b>]) {
        let mut epilogue = SumEpilogue::NONE;
        if let [EpilogueOp::ActBwd(Unary::Relu, saved), rest @ ..] = ops {
            (epilogue.gate, ops) = (saved.as_ptr(), rest);
        }
        if let [EpilogueOp::Bias(bias), rest @ ..] = ops {
            (epilogue.bias, ops) = (bias.as_ptr(), rest);
        }
        if let [EpilogueOp::Add(other), rest @ ..] = ops {
            (epilogue.addend, ops) = (other.as_ptr(), rest);
        }
        if let [EpilogueOp::Act(Unary::Relu), rest @ ..] = ops {
            (epilogue.relu, ops) = (true, rest);
        }
        (epilogue, ops)
    }

    /// The same for a tile whose first column is `column`.
    pub(super) fn at_column(self, column: usize) -> SumEpilogue {
        let from = |p: *const f32| if p.is_null() { p } else { p.wrapping_add(column) };
        SumEpilogue { gate: from(self.gate), bias: from(self.bias), addend: from(self.addend), relu: self.relu }
    }
}

/// Fewest steps of a tile that hide the prefetches of its output.
const MIN_PREFETCHED: usize = 64;

/// B as `[k, columns]`.
#[derive(Clone, Copy)]
pub(super) struct Right {
    /// `b[0, 0]`.
    pub(super) b: *const f32,
    /// Floats from one row to the next. Whole vectors are read from each row.
    pub(super) ldb: usize,
}

/// Tiles for which k runs along the floats that the pointers of A lead to, tap after tap. There are as many
/// tiles as C has rows for. All have the same size, and the rows of a tile follow those of the one before in
/// the tables of pointers and offsets. One call for many tiles saves the time to enter them.
pub(super) struct Along<'a> {
    /// Float `f` behind pointer `t` of row `i` is `a[t * stride + i][f]`.
    pub(super) a: *const *const f32,
    pub(super) stride: usize,
    /// The ranges of k to sum over, in order.
    pub(super) runs: &'a [Run],
    pub(super) b: Right,
    pub(super) out: Out<'a>,
    /// Operations on the sums. Their tensors have the layout of C.
    pub(super) epilogue: SumEpilogue,
}

/// A tile for which k runs across the pointers of A.
pub(super) struct Across<'a> {
    /// `a(i, k) = a[k][first + i]`.
    pub(super) a: *const *const f32,
    pub(super) first: usize,
    /// Number of k.
    pub(super) steps: usize,
    pub(super) b: Right,
    pub(super) out: Out<'a>,
}

/// Register tiles compiled for one instruction set and size.
pub(super) type AlongFn = unsafe fn(&Along<'_>);
/// Register tiles compiled for one instruction set and size.
pub(super) type AcrossFn = unsafe fn(&Across<'_>);

/// A [`Simd`] with its register tiles, which have `mr` rows (1 to `MR`) and `nv` vectors (1 or 2) per row.
pub(super) trait Tiles: Simd {
    /// The tile with k along the pointers.
    fn along(mr: usize, nv: usize) -> AlongFn;
    /// The tile with k across the pointers.
    fn across(mr: usize, nv: usize) -> AcrossFn;
}

/// Repeats a block for each row of the tile with a constant index. So the sums stay in registers and are
/// never an array in memory.
macro_rules! each_row {
    ($mr:expr, $i:ident, $body:block) => { each_row!(@ $mr, $i, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13) };
    (@ $mr:expr, $i:ident, $body:block, $($n:literal)*) => {
        $({
            let $i: usize = $n;
            if $i < $mr $body
        })*
    };
}

/// One step of k: `$acc[i][j] += $a(i) * b[j]`. Steps are not unrolled. A step is long enough to hide the
/// loop, and the compiler would move the broadcasts of later steps forward and push sums out of the
/// registers.
macro_rules! step {
    ($s:ty, $mr:ident, $nv:ident, $acc:ident, $b:expr, |$i:ident| $a:expr) => {{
        let b: [<$s>::V; $nv] = std::array::from_fn(|j| <$s>::load($b.add(j * <$s>::LANES)));
        each_row!($mr, $i, {
            let a = <$s>::splat($a);
            for j in 0..$nv {
                $acc[$i][j] = <$s>::fma(a, b[j], $acc[$i][j]);
            }
        });
    }};
}

#[inline(always)]
unsafe fn along<S: Simd, const MR: usize, const NV: usize>(t: &Along<'_>) {
    // SAFETY: the caller vouches for the features of `S` and for what the fields say: the pointers of A lead
    // to the floats that the steps read, B has whole vectors in each row, and C and the tensors of the
    // epilogue have the rows and columns of the tile.
    unsafe {
        assert!(t.out.rows.len().is_multiple_of(MR), "tiles have whole rows of {MR}");
        let steps: usize = t.runs.iter().map(|run| run.to - run.from).sum();
        for (tile, rows) in t.out.rows.chunks_exact(MR).enumerate() {
            if steps >= MIN_PREFETCHED {
                prefetch_rows::<MR>(t.out.c, rows, t.out.cols);
                if !t.epilogue.gate.is_null() {
                    prefetch_rows::<MR>(t.epilogue.gate, rows, t.out.cols);
                }
                if !t.epilogue.addend.is_null() {
                    prefetch_rows::<MR>(t.epilogue.addend, rows, t.out.cols);
                }
            }
            let mut acc = [[S::zero(); NV]; MR];
            for run in t.runs {
                let table = t.a.add(run.tap * t.stride + tile * MR);
                let mut b = t.b.b.add(run.row * t.b.ldb);
                if S::steps_along(&mut acc, table, Right { b, ..t.b }, run.from..run.to) {
                    continue;
                }
                let mut a = [std::ptr::null(); MR];
                each_row!(MR, i, {
                    a[i] = *table.add(i);
                });
                for k in run.from..run.to {
                    step!(S, MR, NV, acc, b, |i| a[i].add(k));
                    b = b.add(t.b.ldb);
                }
            }
            finish::<S, MR, NV>(acc, &Out { rows, ..t.out }, &t.epilogue);
        }
    }
}

#[inline(always)]
unsafe fn across<S: Simd, const MR: usize, const NV: usize>(t: &Across<'_>) {
    // SAFETY: the caller vouches for the features of `S` and for what the fields say: the pointers of A lead
    // to the floats that the steps read, B has whole vectors in each row, and C and the tensors of the
    // epilogue have the rows and columns of the tile.
    unsafe {
        let mut acc = [[S::zero(); NV]; MR];
        if !S::steps_across(&mut acc, t.a, t.first, t.b, t.steps) {
            let mut b = t.b.b;
            for k in 0..t.steps {
                let a = (*t.a.add(k)).wrapping_add(t.first);
                step!(S, MR, NV, acc, b, |i| a.add(i));
                b = b.add(t.b.ldb);
            }
        }
        finish::<S, MR, NV>(acc, &t.out, &SumEpilogue::NONE);
    }
}

/// Prefetches what a tile reads or writes after its steps: the columns of each of its rows.
#[inline(always)]
fn prefetch_rows<const MR: usize>(base: *const f32, rows: &[usize], cols: usize) {
    each_row!(MR, i, {
        prefetch(base.wrapping_add(rows[i]), cols);
    });
}

/// Applies the epilogue to the sums, and writes them to C or adds them to C.
///
/// # Safety
/// The processor has the features of `S`. `out` and `epilogue` are as [`Along`] or [`Across`] asks.
#[inline(always)]
unsafe fn finish<S: Simd, const MR: usize, const NV: usize>(
    sums: [[S::V; NV]; MR],
    out: &Out<'_>,
    epilogue: &SumEpilogue,
) {
    assert!(out.rows.len() == MR && out.cols <= NV * S::LANES && out.cols > (NV - 1) * S::LANES);
    // SAFETY: the caller vouches for the features and for C. `rows` has `MR` offsets, and the last vector
    // has at least one column, as asserted above.
    unsafe {
        if out.cols == NV * S::LANES {
            write::<S, MR, NV, true>(sums, out, epilogue);
        } else {
            write::<S, MR, NV, false>(sums, out, epilogue);
        }
    }
}

/// [`finish`] for tiles whose last vector is whole (`WHOLE`), or for the others, which need masked loads and
/// stores. These are slower.
///
/// # Safety
/// As for [`finish`]. `out.rows` has `MR` offsets and `out.cols` ends inside the last of the `NV` vectors.
#[inline(always)]
unsafe fn write<S: Simd, const MR: usize, const NV: usize, const WHOLE: bool>(
    mut sums: [[S::V; NV]; MR],
    out: &Out<'_>,
    epilogue: &SumEpilogue,
) {
    let last = out.cols - (NV - 1) * S::LANES;
    let columns = |j: usize| if WHOLE || j + 1 < NV { None } else { Some(last) };
    // SAFETY: the caller vouches for the features and for C. Each row of C, of the gate and of the addend
    // has `out.cols` floats from its offset on, and the bias has `out.cols` floats. Of the last vector, only
    // the `last` floats that exist are accessed.
    unsafe {
        // One pass over the registers for each operation, so that a tile and not a row decides which apply.
        macro_rules! each_sum {
            (|$sum:ident, $at:ident, $j:ident| $new:expr) => {
                each_row!(MR, i, {
                    for ($j, sum) in sums[i].iter_mut().enumerate() {
                        let ($sum, $at) = (*sum, out.rows[i] + $j * S::LANES);
                        *sum = $new;
                    }
                })
            };
        }
        if out.add {
            each_sum!(|sum, at, j| S::add(load_columns::<S>(out.c.add(at), columns(j)), sum));
        }
        if !epilogue.gate.is_null() {
            each_sum!(|sum, at, j| S::where_positive(load_columns::<S>(epilogue.gate.add(at), columns(j)), sum));
        }
        if !epilogue.bias.is_null() {
            let bias: [S::V; NV] =
                std::array::from_fn(|j| load_columns::<S>(epilogue.bias.add(j * S::LANES), columns(j)));
            each_row!(MR, i, {
                for (j, sum) in sums[i].iter_mut().enumerate() {
                    *sum = S::add(*sum, bias[j]);
                }
            });
        }
        if !epilogue.addend.is_null() {
            each_sum!(|sum, at, j| S::add(sum, load_columns::<S>(epilogue.addend.add(at), columns(j))));
        }
        if epilogue.relu {
            each_row!(MR, i, {
                for sum in &mut sums[i] {
                    *sum = S::relu(*sum);
                }
            });
        }
        each_row!(MR, i, {
            for (j, sum) in sums[i].into_iter().enumerate() {
                let to = out.c.add(out.rows[i] + j * S::LANES);
                match columns(j) {
                    None => S::store(to, sum),
                    Some(last) => S::store_first(to, sum, last),
                }
            }
        });
    }
}

/// Loads a whole vector, or its first `columns` floats and zeros.
///
/// # Safety
/// The processor has the features of `S` and the floats are readable.
#[inline(always)]
unsafe fn load_columns<S: Simd>(p: *const f32, columns: Option<usize>) -> S::V {
    // SAFETY: the caller vouches for the features of `S` and for the floats that are read.
    unsafe {
        match columns {
            None => S::load(p),
            Some(columns) => S::load_first(p, columns),
        }
    }
}

/// Implements [`Tiles`]: one function per number of rows up to `MR` and vectors, compiled with the features.
macro_rules! tiles {
    ($isa:ident, $feature:meta, $($mr:literal)*) => {
        impl Tiles for $isa {
            #[inline(always)]
            fn along(mr: usize, nv: usize) -> AlongFn {
                #[$feature]
                unsafe fn run<const MR: usize, const NV: usize>(t: &Along<'_>) {
                    // SAFETY: this function enables the features, and its caller vouches that the processor
                    // has them, and for A, B and C.
                    unsafe { along::<$isa, MR, NV>(t) }
                }
                static TABLE: [[AlongFn; $isa::MR]; 2] = [[$(run::<$mr, 1>),*], [$(run::<$mr, 2>),*]];
                TABLE[nv - 1][mr - 1]
            }

            #[inline(always)]
            fn across(mr: usize, nv: usize) -> AcrossFn {
                #[$feature]
                unsafe fn run<const MR: usize, const NV: usize>(t: &Across<'_>) {
                    // SAFETY: this function enables the features, and its caller vouches that the processor
                    // has them, and for A, B and C.
                    unsafe { across::<$isa, MR, NV>(t) }
                }
                static TABLE: [[AcrossFn; $isa::MR]; 2] = [[$(run::<$mr, 1>),*], [$(run::<$mr, 2>),*]];
                TABLE[nv - 1][mr - 1]
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tiles!(Avx512, target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"), 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
#[cfg(target_arch = "x86_64")]
tiles!(Avx2, target_feature(enable = "avx2,fma"), 1 2 3 4 5 6);
tiles!(Portable, inline, 1 2 3 4);
#[cfg(target_arch = "x86_64")]
tiles!(Avx512Pairs, target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma"), 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
tiles!(PortablePairs, inline, 1 2 3 4);

#[cfg(test)]
mod tests {
    use super::super::isa::{Isa, Job, dispatch};
    use super::super::simd::{MAX_MR, MAX_WIDTH};
    use super::*;

    /// Steps of k in the test: whole groups of four, and every remainder.
    const STEPS: usize = 23;

    /// Multiplies with every size of tile, both with k along the pointers (in two runs) and across them.
    struct EverySize {
        isa: Isa,
    }

    impl EverySize {
        /// `sum over k of a[k] * b[k]` as one chain of FMAs.
        fn chain(&self, terms: impl Iterator<Item = (f32, f32)>) -> f32 {
            let fused = self.isa != Isa::Portable;
            terms.fold(0.0, |sum, (a, b)| if fused { a.mul_add(b, sum) } else { a * b + sum })
        }

        fn compare(&self, what: &str, c: &[f32], cols: usize, expected: impl Fn(usize, usize) -> f32) {
            for (i, row) in c.chunks_exact(MAX_WIDTH).enumerate() {
                for (j, sum) in row[..cols].iter().enumerate() {
                    assert_eq!(sum.to_bits(), expected(i, j).to_bits(), "{} {what}, row {i}, column {j}", self.isa);
                }
                assert!(row[cols..].iter().all(|v| v.is_nan()), "{} {what} writes beyond its columns", self.isa);
            }
        }
    }

    impl Job for EverySize {
        type Out = ();

        #[inline(always)]
        unsafe fn run<S: Tiles>(self) {
            let number = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 505.0 - 1.0;
            let a: Vec<f32> = (0..STEPS * MAX_MR).map(number).collect();
            let b: Vec<f32> = (0..STEPS * MAX_WIDTH).map(|i| number(i + 17)).collect();
            let offsets: [usize; MAX_MR] = std::array::from_fn(|i| i * MAX_WIDTH);
            // The same floats are rows of A for k along the pointers, and rows of k for k across them.
            let along: Vec<*const f32> = a.chunks_exact(STEPS).map(<[f32]>::as_ptr).collect();
            let across: Vec<*const f32> = a.chunks_exact(MAX_MR).map(<[f32]>::as_ptr).collect();
            for (mr, nv, steps) in (1..=S::MR)
                .flat_map(|mr| [1, 2].map(|nv| (mr, nv)))
                .flat_map(|(mr, nv)| [0, 1, 3, 4, 9, STEPS].map(|steps| (mr, nv, steps)))
            {
                let what = format!("{mr} rows, {nv} vectors, {steps} steps");
                let (ldb, first) = (2 * S::LANES, MAX_MR - mr);
                let right = Right { b: b.as_ptr(), ldb };
                for cols in [nv * S::LANES, nv * S::LANES - 1] {
                    let mut c = vec![f32::NAN; mr * MAX_WIDTH];
                    let half = steps / 2;
                    let run = |from, to| Run { tap: 0, from, to, row: from };
                    let runs = [run(0, half), run(half, steps)];
                    let (epilogue, rows) = (SumEpilogue::NONE, &offsets[..mr]);
                    let out = Out { c: c.as_mut_ptr(), rows, cols, add: false };
                    let (table, stride) = (along.as_ptr(), 0);
                    // SAFETY: the processor has the features of `S` (contract of `Job::run`). The pointers
                    // lead to `mr` rows of `STEPS` floats, B has `steps` rows of whole vectors, and C has
                    // `mr` rows.
                    unsafe {
                        let tile = Along { a: table, stride, runs: &runs, b: right, out, epilogue };
                        S::along(mr, nv)(&tile);
                    }
                    self.compare(&what, &c, cols, |i, j| {
                        self.chain((0..steps).map(|k| (a[i * STEPS + k], b[k * ldb + j])))
                    });

                    let mut c = vec![f32::NAN; mr * MAX_WIDTH];
                    let out = Out { c: c.as_mut_ptr(), rows, cols, add: false };
                    // SAFETY: the processor has the features of `S` (contract of `Job::run`). The pointers
                    // lead to `steps` rows of `MAX_MR` floats, B has `steps` rows of whole vectors, and C
                    // has `mr` rows.
                    unsafe { S::across(mr, nv)(&Across { a: across.as_ptr(), first, steps, b: right, out }) };
                    self.compare(&what, &c, cols, |i, j| {
                        self.chain((0..steps).map(|k| (a[k * MAX_MR + first + i], b[k * ldb + j])))
                    });
                }
            }
        }
    }

    #[test]
    fn every_size_of_tile_sums_one_chain_in_the_order_of_k() {
        for isa in Isa::available() {
            // SAFETY: the job has no preconditions except the features, which `dispatch` checks.
            unsafe { dispatch(isa, EverySize { isa }) };
        }
    }
}
