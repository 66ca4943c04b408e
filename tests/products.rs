//! Compares the CPU products with a definition in f64: plain nested loops over pixels, taps and channels. In
//! bf16 the definition multiplies rounded operands.
//!
//! All memory that a kernel writes, including scratch memory, is filled with NaN first.

#[path = "common/truth/functions.rs"]
mod functions;

use half::bf16;
use pixtape::backend::cpu::epilogue::EpilogueOp;
use pixtape::backend::cpu::product::{self, Arithmetic, Gemm, Isa, Weights};
use pixtape::rng::{Stream, uniform};
use pixtape::tape::geometry::{ConvGeom, Mask};
use pixtape::tape::op::Unary;
use pixtape::tape::plan::Precision;

/// A pool with this number of threads.
fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

/// Numbers in [-1, 1).
fn noise(len: usize, seed: u32) -> Vec<f32> {
    (0..len as u32).map(|i| 2.0 * uniform(seed, Stream::Test, [0, i]) - 1.0).collect()
}

/// `len + 1` NaNs. The first element is skipped in use, so that the rest is not aligned by chance.
fn poisoned(len: usize) -> Vec<f32> {
    vec![f32::NAN; len + 1]
}

/// The `i`-th integer of a seed, in `low..=high`.
fn pick(seed: u32, i: u32, low: usize, high: usize) -> usize {
    low + (uniform(seed, Stream::Test, [1, i]) * (high - low + 1) as f32) as usize
}

fn conv_geom(
    n: usize,
    [h, w]: [usize; 2],
    [cin, cout]: [usize; 2],
    [kh, kw]: [usize; 2],
    stride: usize,
    pad: usize,
) -> ConvGeom {
    let out = |x: usize, k: usize| (x + 2 * pad).checked_sub(k).map_or(0, |room| room / stride + 1);
    let (oh, ow) = (out(h, kh), out(w, kw));
    let (stride, pad) = ([stride; 2], [pad; 2]);
    ConvGeom { n, h, w, cin, oh, ow, cout, kh, kw, stride, pad, mask: Mask::None, groups: 1, blocks: 1 }
}

/// Calls `f(x, w, y)` for every product of a convolution whose weight is open, with the flat indices of its
/// operands and of its sum.
fn products(g: &ConvGeom, mut f: impl FnMut(usize, usize, usize)) {
    for (n, r, c) in (0..g.n).flat_map(|n| (0..g.oh).flat_map(move |r| (0..g.ow).map(move |c| (n, r, c)))) {
        for (i, j) in (0..g.kh).flat_map(|i| (0..g.kw).map(move |j| (i, j))) {
            let (y, x) = ((r * g.stride[0] + i).wrapping_sub(g.pad[0]), (c * g.stride[1] + j).wrapping_sub(g.pad[1]));
            if y >= g.h || x >= g.w {
                continue;
            }
            for co in 0..g.cout {
                for ci in 0..g.open_channels(i, j, co) {
                    let pixel = (n * g.h + y) * g.w + x;
                    let tap = i * g.kw + j;
                    f(pixel * g.cin + ci, (tap * g.cin + ci) * g.cout + co, ((n * g.oh + r) * g.ow + c) * g.cout + co);
                }
            }
        }
    }
}

fn epilogue(ops: &[EpilogueOp], v: &mut [f64], channels: usize) {
    for (i, v) in v.iter_mut().enumerate() {
        for op in ops {
            *v = match op {
                EpilogueOp::Bias(b) => *v + f64::from(b[i % channels]),
                EpilogueOp::Add(other) => *v + f64::from(other[i]),
                EpilogueOp::Act(u) => functions::unary(*u, *v)[0],
                EpilogueOp::ActBwd(u, saved) => *v * functions::unary(*u, f64::from(saved[i]))[1],
            };
        }
    }
}

#[track_caller]
fn assert_close(what: &str, got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    let difference: f64 = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).powi(2)).sum();
    let norm: f64 = want.iter().map(|w| w * w).sum();
    let error = if norm > 0.0 { (difference / norm).sqrt() } else { difference.sqrt() };
    assert!(error <= 1e-5, "{what}: relative error {error:.2e}");
}

/// Fewest channels of a sum whose operands are rounded.
const FEWEST: usize = 16;

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

/// An operand as a product in this precision reads it.
fn round(v: f32, precision: Precision) -> f64 {
    match precision {
        Precision::F32 => v.into(),
        Precision::Bf16 => bf16::from_f32(v).into(),
    }
}

/// Every instruction set in every precision.
fn arithmetics() -> impl Iterator<Item = Arithmetic> {
    PRECISIONS
        .into_iter()
        .flat_map(|precision| Isa::available().into_iter().map(move |isa| Arithmetic { isa, precision }))
}

/// The operands of one convolution in its three directions: conv (x, w), conv_dx (dy, w) and conv_dw (x,
/// dy).
struct ProductCase {
    g: ConvGeom,
    x: Vec<f32>,
    w: Vec<f32>,
    dy: Vec<f32>,
}

impl ProductCase {
    fn new(g: ConvGeom, seed: u32) -> ProductCase {
        let (x, w, y) = (g.n * g.h * g.w * g.cin, g.kh * g.kw * g.cin * g.cout, g.n * g.oh * g.ow * g.cout);
        ProductCase { g, x: noise(x, seed), w: noise(w, seed + 1), dy: noise(y, seed + 2) }
    }

    fn truth(&self, precision: Precision) -> [Vec<f64>; 3] {
        let mut y = vec![0.0; self.dy.len()];
        let mut dx = vec![0.0; self.x.len()];
        let mut dw = vec![0.0; self.w.len()];
        // What each of the three products rounds.
        let (many_in, many_out) = (self.g.cin >= FEWEST, self.g.cout >= FEWEST);
        let rounds = [many_in, many_out, many_in && many_out];
        let rounded = rounds.map(|rounds| if rounds { precision } else { Precision::F32 });
        products(&self.g, |xi, wi, yi| {
            let (x, w, dy) = (self.x[xi], self.w[wi], self.dy[yi]);
            y[yi] += round(x, rounded[0]) * round(w, rounded[0]);
            dx[xi] += round(dy, rounded[1]) * round(w, rounded[1]);
            dw[wi] += round(x, rounded[2]) * round(dy, rounded[2]);
        });
        [y, dx, dw]
    }

    /// y, dx, dw on NaN-filled memory.
    fn run(&self, by: Arithmetic, pool: &rayon::ThreadPool, epi: [&[EpilogueOp]; 2]) -> [Vec<f32>; 3] {
        let (g, precision, threads) = (&self.g, by.precision, pool.current_num_threads());
        let (mut y, mut dx, mut dw) = (poisoned(self.dy.len()), poisoned(self.x.len()), poisoned(self.w.len()));
        let mut scratch = [
            poisoned(product::conv_scratch_len(g, precision, threads)),
            poisoned(product::conv_dx_scratch_len(g, precision, threads)),
            poisoned(product::conv_dw_scratch_len(g, precision, threads)),
        ];
        pool.install(|| {
            product::conv(by, g, &self.x, Weights::Plain(&self.w), &mut y[1..], epi[0], &mut scratch[0][1..]);
            product::conv_dx(by, g, &self.dy, Weights::Plain(&self.w), &mut dx[1..], epi[1], &mut scratch[1][1..]);
            product::conv_dw(by, g, &self.x, &self.dy, (&mut dw[1..], false), &mut scratch[2][1..]);
        });
        [y, dx, dw].map(|v| v[1..].to_vec())
    }

    #[track_caller]
    fn check(&self) {
        let (one, two) = (pool(1), pool(2));
        for precision in PRECISIONS {
            let truth = self.truth(precision);
            for isa in Isa::available() {
                let by = Arithmetic { isa, precision };
                let got = self.run(by, &two, [&[], &[]]);
                let alone = self.run(by, &one, [&[], &[]]);
                for (name, i) in [("conv", 0), ("conv_dx", 1), ("conv_dw", 2)] {
                    let what = format!("{name} {isa} {precision} {} of {}", self.g, self.g.n);
                    assert_close(&what, &got[i], &truth[i]);
                    assert_eq!(bits(&got[i]), bits(&alone[i]), "{what}: bits depend on the number of threads");
                }
                for (got, truth) in got[2].iter().zip(&truth[2]) {
                    assert!(*truth != 0.0 || *got == 0.0, "closed weight with gradient {got} in {}", self.g);
                }
            }
        }
        self.check_pairs_of_every_instruction_set();
    }

    /// Products of bf16 numbers are exact in f32, so sums that are rounded have the same bits everywhere.
    #[track_caller]
    fn check_pairs_of_every_instruction_set(&self) {
        let run = |isa| self.run(Arithmetic { isa, precision: Precision::Bf16 }, &pool(2), [&[], &[]]);
        let g = &self.g;
        let rounds = [g.cin >= FEWEST, g.cout >= FEWEST, g.cin >= FEWEST && g.cout >= FEWEST];
        let portable = run(Isa::Portable);
        for isa in Isa::available() {
            for (i, (got, portable)) in run(isa).iter().zip(&portable).enumerate().filter(|(i, _)| rounds[*i]) {
                assert_eq!(bits(got), bits(portable), "product {i} of {g} in bf16 by {isa}");
            }
        }
    }
}

fn bits(v: &[f32]) -> Vec<u32> {
    v.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn convolutions_of_every_stride_and_padding() {
    for stride in 1..=3 {
        for pad in 0..=2 {
            for kernel in [[1, 1], [2, 3], [3, 3], [4, 4], [5, 2]] {
                for channels in [[1, 1], [3, 17], [17, 3], [33, 40]] {
                    ProductCase::new(conv_geom(2, [7, 9], channels, kernel, stride, pad), 3).check();
                }
            }
        }
    }
}

#[test]
fn padding_below_and_right_follows_from_the_extents() {
    // PyTorch's output_padding: x is larger than the smallest image that gives y.
    for (h, w) in [(8, 8), (9, 10), (10, 9), (7, 12)] {
        let g = ConvGeom { oh: 4, ow: 4, stride: [2, 3], pad: [1, 1], ..conv_geom(3, [h, w], [5, 6], [4, 3], 1, 0) };
        ProductCase::new(g, 5).check();
    }
    // Outputs whose window is entirely outside x, before its beginning or after its end.
    let g = ConvGeom { oh: 5, ow: 2, stride: [3, 4], pad: [0, 2], ..conv_geom(2, [6, 11], [4, 20], [2, 2], 1, 0) };
    ProductCase::new(g, 6).check();
}

#[test]
fn small_images_and_large_kernels() {
    ProductCase::new(conv_geom(5, [4, 4], [33, 10], [4, 4], 1, 0), 1).check();
    ProductCase::new(conv_geom(2, [1, 1], [6, 8], [3, 3], 1, 1), 2).check();
    ProductCase::new(conv_geom(2, [3, 2], [6, 8], [7, 7], 1, 3), 3).check();
    ProductCase::new(conv_geom(2, [5, 5], [2, 3], [5, 5], 1, 4), 4).check();
    ProductCase::new(conv_geom(1, [1, 1], [130, 1], [1, 1], 1, 0), 5).check();
    ProductCase::new(conv_geom(2, [4, 4], [8, 7], [4, 4], 2, 3), 6).check();
}

#[test]
fn empty_batches_and_channels() {
    for g in [
        conv_geom(0, [5, 5], [3, 4], [3, 3], 1, 1),
        conv_geom(2, [2, 2], [3, 4], [3, 3], 1, 0),
        conv_geom(2, [5, 5], [0, 4], [3, 3], 1, 1),
        conv_geom(2, [5, 5], [3, 0], [3, 3], 1, 1),
        conv_geom(2, [0, 5], [3, 4], [1, 1], 2, 0),
    ] {
        ProductCase::new(g, 9).check();
    }
}

#[test]
fn masks_with_colour_groups_and_blocks() {
    for mask in [Mask::A, Mask::B] {
        for (groups, blocks, channels) in [
            (1, 1, [1, 64]),
            (1, 1, [17, 33]),
            (3, 1, [3, 130]),
            (3, 1, [130, 33]),
            (3, 2, [40, 66]),
            (3, 4, [36, 144]),
            (2, 8, [9, 80]),
            (3, 1, [2, 2]),
        ] {
            for (kernel, stride) in [([1, 1], 1), ([3, 3], 1), ([7, 7], 1), ([1, 3], 1), ([2, 1], 1), ([3, 3], 2)] {
                let pad = kernel[0] / 2;
                let mut g = conv_geom(2, [6, 5], channels, kernel, stride, pad);
                (g.mask, g.groups, g.blocks) = (mask, groups, blocks);
                ProductCase::new(g, 11).check();
            }
        }
    }
}

#[test]
fn random_geometries() {
    for seed in 0..150 {
        let p = |i, low, high| pick(seed, i, low, high);
        let odd = |i| [1, 2, 3, 16, 17, 33, 64][p(i, 0, 6)];
        let (kh, kw) = (p(0, 1, 5), p(1, 1, 5));
        let g = ConvGeom {
            n: p(2, 1, 3),
            h: p(3, 1, 12),
            w: p(4, 1, 12),
            cin: odd(5),
            oh: p(6, 1, 12),
            ow: p(7, 1, 12),
            cout: 2 * odd(8),
            kh,
            kw,
            stride: [p(9, 1, 3), p(10, 1, 3)],
            pad: [p(11, 0, kh), p(12, 0, kw)],
            mask: [Mask::None, Mask::A, Mask::B][p(13, 0, 2)],
            groups: 1,
            blocks: 1,
        };
        let g = if g.mask == Mask::None { g } else { ConvGeom { groups: p(14, 1, 3), blocks: p(15, 1, 2), ..g } };
        ProductCase::new(g, seed).check();
    }
}

#[test]
fn larger_images_in_chunks_and_blocks() {
    ProductCase::new(conv_geom(5, [28, 28], [16, 33], [3, 3], 1, 1), 1).check();
    ProductCase::new(conv_geom(8, [28, 28], [1, 32], [4, 4], 2, 1), 2).check();
    ProductCase::new(conv_geom(6, [28, 28], [64, 1], [1, 1], 1, 0), 3).check();
    ProductCase::new(conv_geom(3, [8, 8], [130, 130], [4, 4], 2, 1), 4).check();
    let g = conv_geom(4, [28, 28], [1, 64], [7, 7], 1, 3);
    ProductCase::new(ConvGeom { mask: Mask::A, ..g }, 5).check();
}

#[test]
fn an_image_in_a_batch_has_the_bits_it_has_alone() {
    let mut geoms = vec![
        conv_geom(5, [9, 7], [17, 33], [3, 3], 1, 1),
        conv_geom(5, [8, 8], [3, 64], [4, 4], 2, 1),
        conv_geom(5, [4, 4], [40, 20], [4, 4], 1, 0),
        conv_geom(70, [4, 4], [64, 1], [1, 1], 1, 0),
        conv_geom(5, [12, 12], [1, 32], [4, 4], 2, 1),
    ];
    geoms.push(ConvGeom { mask: Mask::B, groups: 3, ..conv_geom(5, [9, 9], [18, 96], [3, 3], 1, 1) });
    for g in geoms {
        let batch = ProductCase::new(g, 21);
        for by in arithmetics() {
            let all = batch.run(by, &pool(2), [&[], &[]]);
            for image in [0, 3] {
                let part = |v: &[f32]| v[image * v.len() / g.n..(image + 1) * v.len() / g.n].to_vec();
                let one = ProductCase {
                    g: ConvGeom { n: 1, ..g },
                    x: part(&batch.x),
                    w: batch.w.clone(),
                    dy: part(&batch.dy),
                };
                let [y, dx, _] = one.run(by, &pool(1), [&[], &[]]);
                assert_eq!(bits(&y), bits(&part(&all[0])), "conv {by:?} {g}");
                assert_eq!(bits(&dx), bits(&part(&all[1])), "conv_dx {by:?} {g}");
            }
        }
    }
}

#[test]
fn epilogues_apply_in_order() {
    // Functions that need positive inputs are tested after a square.
    let on_positive = |u: &Unary| matches!(u, Unary::Log | Unary::Sqrt | Unary::Recip);
    let all: Vec<Unary> = Unary::EACH.into_iter().filter(|u| !on_positive(u)).collect();
    for g in [
        conv_geom(2, [6, 7], [5, 33], [3, 3], 1, 1),
        conv_geom(2, [6, 8], [33, 5], [4, 4], 2, 1),
        conv_geom(2, [6, 8], [1, 40], [4, 4], 2, 1),
        conv_geom(3, [6, 8], [40, 1], [1, 1], 1, 0),
        ConvGeom { oh: 2, ow: 2, ..conv_geom(2, [9, 9], [4, 6], [2, 2], 3, 0) },
    ] {
        let case = ProductCase::new(g, 31);
        let truths = PRECISIONS.map(|precision| case.truth(precision));
        for (i, (len, channels)) in [(case.dy.len(), g.cout), (case.x.len(), g.cin)].into_iter().enumerate() {
            let (bias, other) = (noise(channels, 41), noise(len, 42));
            let positive: Vec<f32> = noise(len, 43).iter().map(|v| v.abs() + 0.1).collect();
            let check = |ops: &[EpilogueOp]| {
                for by in arithmetics() {
                    let mut want = truths[by.precision as usize][i].clone();
                    epilogue(ops, &mut want, channels);
                    let got = case.run(by, &pool(2), if i == 0 { [ops, &[]] } else { [&[], ops] });
                    assert_close(&format!("{ops:.40?} {by:?} {g}"), &got[i], &want);
                }
            };
            for u in all.iter().copied() {
                check(&[EpilogueOp::Act(u)]);
                check(&[EpilogueOp::ActBwd(u, if u.saves_output() { &positive } else { &other })]);
            }
            check(&[EpilogueOp::Bias(&bias)]);
            check(&[EpilogueOp::Bias(&bias), EpilogueOp::Bias(&bias), EpilogueOp::Add(&other)]);
            check(&[EpilogueOp::Bias(&bias), EpilogueOp::Act(Unary::Relu), EpilogueOp::Add(&other)]);
            check(&[EpilogueOp::Add(&other), EpilogueOp::Bias(&bias), EpilogueOp::ActBwd(Unary::Relu, &other)]);
            check(&[EpilogueOp::Act(Unary::Square), EpilogueOp::Add(&positive), EpilogueOp::Act(Unary::Log)]);
            check(&[EpilogueOp::Act(Unary::Square), EpilogueOp::Add(&positive), EpilogueOp::Act(Unary::Recip)]);
            check(&[EpilogueOp::Act(Unary::Square), EpilogueOp::Act(Unary::Sqrt)]);
            for u in [Unary::Log, Unary::Sqrt, Unary::Recip] {
                check(&[EpilogueOp::ActBwd(u, &positive)]);
            }
        }
    }
}

#[track_caller]
fn check_gemm(s: Gemm, epi: &[EpilogueOp]) {
    let Gemm { m, n, k, ta, tb } = s;
    let (a, b) = (noise(m * k, 1), noise(k * n, 2));
    for precision in PRECISIONS {
        let read = |v: f32| round(v, if k >= FEWEST { precision } else { Precision::F32 });
        let a_at = |i: usize, l: usize| read(a[if ta { l * m + i } else { i * k + l }]);
        let b_at = |l: usize, j: usize| read(b[if tb { j * k + l } else { l * n + j }]);
        let element = |i: usize| (0..k).map(|l| a_at(i / n, l) * b_at(l, i % n)).sum();
        let mut want: Vec<f64> = (0..m * n).map(element).collect();
        epilogue(epi, &mut want, n);
        for isa in Isa::available() {
            let by = Arithmetic { isa, precision };
            let run = |threads| {
                let scratch = product::gemm_scratch_len(s, precision, threads);
                let (mut c, mut scratch) = (poisoned(m * n), poisoned(scratch));
                pool(threads)
                    .install(|| product::gemm(by, s, &a, Weights::Plain(&b), &mut c[1..], epi, &mut scratch[1..]));
                c[1..].to_vec()
            };
            let c = run(2);
            assert_close(&format!("gemm {by:?} {s:?}"), &c, &want);
            assert_eq!(bits(&c), bits(&run(1)), "gemm {by:?} {s:?}: bits depend on the number of threads");
        }
    }
}

#[test]
fn matrix_products_of_odd_sizes() {
    for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
        for m in [1, 3, 17, 33, 130] {
            for n in [1, 3, 17, 33, 130] {
                for k in [1, 3, 17, 130] {
                    check_gemm(Gemm { m, n, k, ta, tb }, &[]);
                }
            }
        }
        for (m, n, k) in
            [(128, 10, 784), (65, 400, 1024), (64, 64, 5000), (600, 450, 300), (40, 33, 0), (0, 5, 4), (5, 0, 4)]
        {
            check_gemm(Gemm { m, n, k, ta, tb }, &[]);
        }
        let (bias, other) = (noise(33, 3), noise(33 * 17, 4));
        let epi = [EpilogueOp::Bias(&bias), EpilogueOp::Act(Unary::Tanh), EpilogueOp::Add(&other)];
        for k in [0, 1, 700] {
            check_gemm(Gemm { m: 17, n: 33, k, ta, tb }, &epi);
        }
    }
}

#[test]
fn a_row_of_a_product_has_the_bits_it_has_alone() {
    for tb in [false, true] {
        for n in [1, 10, 64, 100] {
            let (m, k) = (150, 300);
            let (a, b) = (noise(m * k, 1), noise(k * n, 2));
            for by in arithmetics() {
                let run = |a: &[f32], m: usize| {
                    let s = Gemm { m, n, k, ta: false, tb };
                    let scratch = product::gemm_scratch_len(s, by.precision, 2);
                    let (mut c, mut scratch) = (vec![f32::NAN; m * n], poisoned(scratch));
                    pool(2).install(|| product::gemm(by, s, a, Weights::Plain(&b), &mut c, &[], &mut scratch));
                    c
                };
                let all = run(&a, m);
                for row in [0, 77, 149] {
                    assert_eq!(bits(&run(&a[row * k..(row + 1) * k], 1)), bits(&all[row * n..(row + 1) * n]));
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "scratch_len")]
fn too_little_scratch_is_refused() {
    let g = conv_geom(1, [4, 4], [2, 2], [3, 3], 1, 1);
    let case = ProductCase::new(g, 1);
    let mut y = vec![0.0; case.dy.len()];
    product::conv(Isa::Portable, &g, &case.x, Weights::Plain(&case.w), &mut y, &[], &mut []);
}
