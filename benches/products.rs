//! The CPU products on the shapes of the workloads: `cargo bench --bench products [-- FILTER...]`.
//!
//! Every case uses several sets of buffers in turn (at most 16, about 64 MiB together), so that the caches
//! do not keep data that a training step would have evicted. Only useful FLOPs count, so closed taps of
//! masks do not. On a busy machine, set `PIXTAPE_CPU_TIME=1`: one thread runs, and its CPU time is measured
//! (Linux). Environment: `PIXTAPE_THREADS` (default: all cores), `PIXTAPE_ISA` (`avx512`, `avx2`,
//! `portable`; default: the best).

use pixtape::backend::cpu::product::{self, Gemm, Isa, Weights};
use pixtape::tape::geometry::{ConvGeom, Mask};
use pixtape::tape::plan::Precision;
use std::time::Instant;

/// Runs a product on a set of operands: inputs, output, scratch.
type Launch = dyn Fn(&Set, &mut [f32], &mut [f32]) + Sync + Send;

/// Buffers of one turn.
struct Set {
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

/// A kernel and its three operands' lengths.
struct Case {
    name: String,
    flops: u64,
    lengths: [usize; 3],
    scratch: usize,
    run: Box<Launch>,
}

fn conv_cases(cases: &mut Vec<Case>, isa: Isa, threads: usize, name: &str, g: ConvGeom) {
    let lengths = [g.n * g.h * g.w * g.cin, g.kh * g.kw * g.cin * g.cout, g.n * g.oh * g.ow * g.cout];
    let [x, w, y] = lengths;
    let mut add = |op: &str, lengths, scratch, run| {
        cases.push(Case { name: format!("{name}/{op}"), flops: g.flops(), lengths, scratch, run });
    };
    let run = Box::new(move |s: &Set, c: &mut [f32], t: &mut [f32]| {
        product::conv(isa, &g, &s.a, Weights::Plain(&s.b), c, &[], t)
    });
    add("conv", [x, w, y], product::conv_scratch_len(&g, Precision::F32, threads), run);
    let run = Box::new(move |s: &Set, c: &mut [f32], t: &mut [f32]| {
        product::conv_dx(isa, &g, &s.a, Weights::Plain(&s.b), c, &[], t)
    });
    add("conv_dx", [y, w, x], product::conv_dx_scratch_len(&g, Precision::F32, threads), run);
    let run =
        Box::new(move |s: &Set, c: &mut [f32], t: &mut [f32]| product::conv_dw(isa, &g, &s.a, &s.b, (c, false), t));
    add("conv_dw", [x, y, w], product::conv_dw_scratch_len(&g, Precision::F32, threads), run);
}

/// A linear layer of a batch: forward, gradient of its input, gradient of its weights.
fn linear_cases(cases: &mut Vec<Case>, isa: Isa, threads: usize, m: usize, k: usize, n: usize) {
    for (op, s) in [
        ("gemm", Gemm { m, n, k, ta: false, tb: false }),
        ("gemm_dx", Gemm { m, n: k, k: n, ta: false, tb: true }),
        ("gemm_dw", Gemm { m: k, n, k: m, ta: true, tb: false }),
    ] {
        cases.push(Case {
            name: format!("linear {m}x{k}x{n}/{op}"),
            flops: s.flops(),
            lengths: [s.m * s.k, s.k * s.n, s.m * s.n],
            scratch: product::gemm_scratch_len(s, Precision::F32, threads),
            run: Box::new(move |set, c, t| product::gemm(isa, s, &set.a, Weights::Plain(&set.b), c, &[], t)),
        });
    }
}

fn geom(n: usize, [h, oh]: [usize; 2], [cin, cout]: [usize; 2], kernel: usize, stride: usize, pad: usize) -> ConvGeom {
    let (w, ow, kh, kw, stride, pad) = (h, oh, kernel, kernel, [stride; 2], [pad; 2]);
    ConvGeom { n, h, w, cin, oh, ow, cout, kh, kw, stride, pad, mask: Mask::None, groups: 1, blocks: 1 }
}

fn cases(isa: Isa, threads: usize) -> Vec<Case> {
    let mut cases = vec![];
    let mut conv = |name: &str, g| conv_cases(&mut cases, isa, threads, name, g);
    conv("3x3 64->64 28x28 b64", geom(64, [28, 28], [64, 64], 3, 1, 1));
    let pixel =
        |cin, cout, kernel: usize, mask| ConvGeom { mask, ..geom(64, [28, 28], [cin, cout], kernel, 1, kernel / 2) };
    conv("pixelcnn 7x7A 1->64", pixel(1, 64, 7, Mask::A));
    conv("pixelcnn 1x1 64->32", pixel(64, 32, 1, Mask::B));
    conv("pixelcnn 3x3B 32->32", pixel(32, 32, 3, Mask::B));
    conv("pixelcnn 1x1 32->64", pixel(32, 64, 1, Mask::B));
    conv("pixelcnn 1x1 64->64", pixel(64, 64, 1, Mask::B));
    conv("pixelcnn 1x1 64->1", pixel(64, 1, 1, Mask::B));
    // A transposed convolution is the conv_dx of these; a generator's layers are named by it.
    conv("dcgan T 100->256 1->4", geom(64, [4, 1], [256, 100], 4, 1, 0));
    conv("dcgan T 256->128 4->8", geom(64, [8, 4], [128, 256], 4, 2, 1));
    conv("dcgan T 128->64 8->16", geom(64, [16, 8], [64, 128], 4, 2, 1));
    conv("dcgan T 64->3 16->32", geom(64, [32, 16], [3, 64], 4, 2, 1));
    conv("dcgan 256->1 4->1", geom(64, [4, 1], [256, 1], 4, 1, 0));
    conv("vae 1->32 28->14", geom(128, [28, 14], [1, 32], 4, 2, 1));
    conv("vae 32->64 14->7", geom(128, [14, 7], [32, 64], 4, 2, 1));
    let rgb = |cin, cout, kernel: usize| ConvGeom {
        mask: Mask::B,
        groups: 3,
        ..geom(16, [32, 32], [cin, cout], kernel, 1, kernel / 2)
    };
    conv("pixelcnn-cifar 3x3B 64->64 rgb", rgb(64, 64, 3));
    conv("pixelcnn-cifar 1x1 128->1024 rgb", rgb(128, 1024, 1));
    conv("pixelcnn-cifar 1x1 1024->768 rgb", rgb(1024, 768, 1));
    // One image, as in a stretch of a divided plan.
    conv("pixelcnn-cifar 1x1 1024->768 rgb b1", ConvGeom { n: 1, ..rgb(1024, 768, 1) });
    conv("3x3B 128->128 b16", ConvGeom { mask: Mask::B, ..geom(16, [32, 32], [128, 128], 3, 1, 1) });
    linear_cases(&mut cases, isa, threads, 128, 3136, 256);
    linear_cases(&mut cases, isa, threads, 128, 256, 3136);
    linear_cases(&mut cases, isa, threads, 128, 784, 400);
    linear_cases(&mut cases, isa, threads, 128, 400, 20);
    // The recurrent weights of lstm-784: 784 steps of 64 rows.
    linear_cases(&mut cases, isa, threads, 784 * 64, 128, 512);
    linear_cases(&mut cases, isa, threads, 512, 512, 512);
    linear_cases(&mut cases, isa, threads, 1024, 1024, 1024);
    linear_cases(&mut cases, isa, threads, 2048, 2048, 2048);
    cases
}

/// The time of each run in seconds. There are at least five runs, and they last at least half a second.
fn time(case: &Case, pool: &rayon::ThreadPool, clock: fn() -> f64) -> Vec<f64> {
    let fill = |len: usize| (0..len).map(|i| (i % 97) as f32 * 0.01 - 0.48).collect::<Vec<f32>>();
    let bytes = 4 * case.lengths.iter().sum::<usize>();
    let count = ((64 << 20) / bytes.max(1)).clamp(1, 16);
    let [a, b, c] = case.lengths;
    let mut sets: Vec<Set> = (0..count).map(|_| Set { a: fill(a), b: fill(b), c: fill(c) }).collect();
    let mut scratch = vec![0.0; case.scratch];
    let mut times = vec![];
    let begin = Instant::now();
    for i in 0.. {
        let set = &mut sets[i % count];
        let mut c = std::mem::take(&mut set.c);
        times.push(pool.install(|| {
            let start = clock();
            (case.run)(set, &mut c, &mut scratch);
            clock() - start
        }));
        set.c = c;
        if times.len() >= 5 + count && begin.elapsed().as_secs_f64() > 0.5 {
            break;
        }
    }
    // The first run of each set is dropped, because it maps the memory.
    times.split_off(count)
}

/// CPU time of this thread in seconds.
#[cfg(target_os = "linux")]
fn cpu_clock() -> f64 {
    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanoseconds: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
    }
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: this is the signature of the C library on 64-bit Linux, and the pointer leads to a local
    // variable of the type that the function writes.
    unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.seconds as f64 + time.nanoseconds as f64 * 1e-9
}

/// Other systems have no such clock, so this is the wall time.
#[cfg(not(target_os = "linux"))]
fn cpu_clock() -> f64 {
    wall_clock()
}

/// Seconds since the first call.
fn wall_clock() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

fn main() {
    let filters: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let variable = |name| std::env::var(name).ok();
    let clock = if variable("PIXTAPE_CPU_TIME").is_some() { cpu_clock } else { wall_clock };
    let threads = variable("PIXTAPE_THREADS")
        .or_else(|| variable("PIXTAPE_CPU_TIME").map(|_| "1".into()))
        .and_then(|t| t.parse().ok())
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let isa = variable("PIXTAPE_ISA")
        .and_then(|name| Isa::available().into_iter().find(|isa| isa.to_string() == name))
        .unwrap_or_else(Isa::detect);
    let pool = match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool,
        Err(e) => return eprintln!("no thread pool: {e}"),
    };
    let peak = product::peak_gflops(isa, threads);
    println!("{isa}, {threads} threads, peak {peak:.0} GFLOP/s (register-only FMA)");
    println!("{:<44} {:>9} {:>9} {:>8} {:>6}", "case", "min ms", "median", "GFLOP/s", "peak");
    for case in cases(isa, threads) {
        if !filters.is_empty() && !filters.iter().any(|f| case.name.contains(f.as_str())) {
            continue;
        }
        let mut times = time(&case, &pool, clock);
        times.sort_by(f64::total_cmp);
        let (min, median) = (times[0], times[times.len() / 2]);
        let rate = case.flops as f64 / median / 1e9;
        println!(
            "{:<44} {:>9.3} {:>9.3} {:>8.1} {:>5.0}%",
            case.name,
            min * 1e3,
            median * 1e3,
            rate,
            100.0 * rate / peak
        );
    }
}
