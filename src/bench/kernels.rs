//! Benchmarks of single kernels: those that the PyTorch reference times, under the same names, and the
//! hot sizes of the case table.
//!
//! `select` resolves names, `time` measures one kernel, and the rest of the file records the kernels
//! of the reference.

use super::Options;
use super::machine::Limits;
use super::report::Entry;
use super::timing::{Effort, measure};
use crate::backend::{self, Backend};
use crate::check::bench::{self, Prepared, prepare};
use crate::check::case::{Case, CaseInput, drawn, normal};
use crate::check::elements::Elements;
use crate::error::{Error, Result};
use crate::rng::Stream;
use crate::tape::geometry::{ConvGeom, Mask};
use crate::tape::op::{Dist, Op, Unary};
use crate::tape::record::ConvAttrs;
use crate::tape::{Tape, Var};

/// A run uses one of several copies of the operands in turn, unless [`Options::is_warm`]. There are enough
/// copies to fill this many bytes, so that no run finds its operands in a cache.
const ROTATED_BYTES: u64 = 128 << 20;

/// The largest number of copies. The operands of a small kernel stay in the caches, as they do in a real
/// network.
const MAX_COPIES: u64 = 16;

/// The names of all kernels that contain one of the filters, or of all kernels if there is no filter.
pub(super) fn select(filters: &[String]) -> Result<Vec<String>> {
    let all = cases();
    if let Some(unknown) = filters.iter().find(|f| !all.iter().any(|case| case.name.contains(f.as_str()))) {
        let names: Vec<&str> = all.iter().map(|case| case.name.as_str()).collect();
        return Err(Error::Usage(format!("no kernel has {unknown:?} in its name; there are {}", names.join(", "))));
    }
    Ok(all.into_iter().filter(|case| case.matches(filters)).map(|case| case.name).collect())
}

/// Times one kernel by its exact name.
pub(super) fn time(name: &str, options: &Options, limits: &Limits) -> Result<Entry> {
    let case = cases().into_iter().find(|case| case.name == name);
    let mut case = case.ok_or_else(|| Error::Usage(format!("there is no kernel called {name:?}")))?;
    // Parameters are already on the device. Inputs would be copied to it in each run, which would also
    // leave them in a cache.
    let is_float = |input: &CaseInput| !matches!(input.elements, Elements::Index(_));
    case.inputs = case.inputs.into_iter().map(|i| if is_float(&i) { i.param() } else { i }).collect();
    let mut device = backend::open(&options.device, options.threads)?;
    let first = prepare(&case, 0, options.precision(), &mut *device)?;
    let cost = first.cost;
    let most = if options.is_warm { 1 } else { MAX_COPIES };
    let copies = ROTATED_BYTES.div_ceil(cost.bytes.max(1)).clamp(1, most);
    let mut prepared = vec![first];
    for copy in 1..copies as u32 {
        prepared.push(prepare(&case, copy * case.inputs.len() as u32, options.precision(), &mut *device)?);
    }
    let times = measure(Effort::KERNEL, |run| {
        let Prepared { problem, compiled, .. } = &prepared[run % prepared.len()];
        let steps = device.profile(*compiled, &problem.feeds(), &problem.scalars)?;
        Ok(steps.iter().map(|step| step.ms).sum())
    })?;
    validate(name, &prepared[0], &mut *device)?;
    let shape = case.inputs.iter().map(|i| i.shape.to_string()).collect::<Vec<_>>().join(" ");
    let peak_bytes = device.memory_bytes() as u64 / copies;
    Ok(Entry {
        peak_bytes,
        ..Entry::new(name, if options.is_warm { "warm kernel" } else { "kernel" }, shape, &times, cost, limits)
    })
}

/// Checks that the kernel has computed something: every result is finite, and not all of its elements are
/// zero.
fn validate(name: &str, prepared: &Prepared, device: &mut dyn Backend) -> Result<()> {
    for (result, (label, _)) in prepared.problem.read(prepared.compiled, device)?.iter().zip(&prepared.problem.results)
    {
        let fail = |what| Err(Error::Failed(format!("{name}: its result {label} {what}; its times mean nothing")));
        if result.iter().any(|v| !v.is_finite()) {
            return fail("is not finite");
        }
        if result.iter().all(|v| *v == 0.0) {
            return fail("was not written");
        }
    }
    Ok(())
}

/// All kernels that can be timed.
fn cases() -> Vec<Case> {
    let mut all = reference();
    all.extend(bench::cases());
    all
}

/// A kernel of the reference under its name there, followed by its direction.
fn kernel(
    name: &str,
    direction: &str,
    inputs: Vec<CaseInput>,
    record: impl Fn(&Tape, &[Var]) -> Vec<Var> + Send + Sync + 'static,
) -> Case {
    Case { name: format!("{name}/{direction}"), ..Case::new("kernel", name, inputs, record) }
}

/// The kernels that `bench_torch.py` times, split into their directions.
fn reference() -> Vec<Case> {
    let geometry = |x: [usize; 4], kernel: usize, cout: usize, attrs: ConvAttrs| {
        attrs.geometry(x.into(), [kernel, kernel, x[3], cout].into()).unwrap_or_else(|why| panic!("{why}"))
    };
    let dense = geometry([64, 28, 28, 64], 3, 64, ConvAttrs::new(1, 1));
    let masked = geometry([16, 32, 32, 128], 3, 128, ConvAttrs::masked(Mask::B, 3, 1));
    // The transposed convolution from 8x8x128 to 16x16x64 is the gradient of this convolution.
    let transposed = geometry([64, 16, 16, 64], 4, 128, ConvAttrs::new(2, 1));
    let pointwise = geometry([64, 28, 28, 64], 1, 64, ConvAttrs::new(1, 0));
    let mut all = vec![];
    all.extend(convolution("conv3x3_64_64_on_64x28x28", dense, [Op::Conv, Op::ConvDx]));
    all.extend(convolution("conv3x3_128_128_maskB_on_16x32x32", masked, [Op::Conv, Op::ConvDx]));
    all.extend(convolution("convT4x4s2_128_64_on_64x8x8", transposed, [Op::ConvDx, Op::Conv]));
    all.extend(convolution("conv1x1_64_64_on_64x28x28", pointwise, [Op::Conv, Op::ConvDx]));
    all.extend([512, 1024, 2048].into_iter().flat_map(|n| matmul(&format!("matmul_{n}"), n, false)));
    all.extend(matmul("linear_1024_1024_batch1024", 1024, true));
    all.extend(lstm_cell());
    let (rows, classes) = (49_152, 256);
    let logits = || vec![normal("logits", [rows, classes]), drawn("target", [rows], Elements::Index(classes as u32))];
    all.push(kernel("softmax_xent_49152x256", "fwd", logits(), |t, v| vec![t.softmax_cross_entropy(v[0], v[1])]));
    let mut with_dy = vec![normal("dy", [rows])];
    with_dy.extend(logits());
    all.push(kernel("softmax_xent_49152x256", "bwd", with_dy, |t, v| vec![t.record(Op::SoftmaxCrossEntropyBwd, v)]));
    all.extend(reparameterized());
    for f in [Unary::Relu, Unary::Sigmoid, Unary::Tanh] {
        let x = vec![normal("x", [64, 28, 28, 64])];
        all.push(kernel(&format!("{f}_64x64x28x28"), "fwd", x, move |t, v| vec![t.unary(f, v[0])]));
    }
    all
}

/// A convolution with a bias, the gradient of its input, and the gradient of its weight and bias. `ops`
/// are the ops of the first two. A transposed convolution has them in the opposite order.
fn convolution(name: &str, g: ConvGeom, ops: [fn(ConvGeom) -> Op; 2]) -> [Case; 3] {
    let forward = ops[0](g);
    let (x, y) = if matches!(forward, Op::Conv(_)) { (g.x_shape(), g.y_shape()) } else { (g.y_shape(), g.x_shape()) };
    let (dx, channels) = (ops[1](g), y.last());
    let is_conv = matches!(forward, Op::Conv(_));
    let w = || normal("w", g.w_shape());
    let with_bias = vec![normal("x", x), w(), normal("bias", [channels])];
    [
        kernel(name, "fwd", with_bias, move |t, v| vec![t.add_bias(t.record(forward.clone(), &v[..2]), v[2])]),
        kernel(name, "dx", vec![normal("dy", y), w()], move |t, v| vec![t.record(dx.clone(), v)]),
        kernel(name, "dw", vec![normal("x", x), normal("dy", y)], move |t, v| {
            let (x, dy) = if is_conv { (v[0], v[1]) } else { (v[1], v[0]) };
            vec![t.record(Op::ConvDw(g), &[x, dy]), t.sum_to(v[1], [1, 1, 1, channels])]
        }),
    ]
}

/// A square matrix product and the gradients of its factors. With `bias` it is a linear layer, whose
/// weight PyTorch stores as `[out, in]` and this crate as `[in, out]`.
fn matmul(name: &str, n: usize, bias: bool) -> Vec<Case> {
    let pair = |a, b| vec![normal(a, [n, n]), normal(b, [n, n])];
    let forward = if bias {
        let mut inputs = pair("a", "b");
        inputs.push(normal("bias", [n]));
        kernel(name, "fwd", inputs, |t, v| vec![t.add_bias(t.matmul(v[0], v[1], false, false), v[2])])
    } else {
        kernel(name, "fwd", pair("a", "b"), |t, v| vec![t.matmul(v[0], v[1], false, false)])
    };
    vec![
        forward,
        kernel(name, "da", pair("dc", "b"), |t, v| vec![t.matmul(v[0], v[1], false, true)]),
        kernel(name, "db", pair("a", "dc"), move |t, v| {
            let db = t.matmul(v[0], v[1], true, false);
            if bias { vec![db, t.sum_to(v[1], [1, n])] } else { vec![db] }
        }),
    ]
}

/// One LSTM cell with its matrix products: 64 rows, 512 units, gates from input and state.
fn lstm_cell() -> [Case; 2] {
    let (n, h) = (64, 512);
    let small = |name, shape: [usize; 2]| drawn(name, shape, Elements::Uniform(-0.04, 0.04));
    let record = move |t: &Tape, v: &[Var]| {
        let z = t.add(t.matmul(v[0], v[3], false, false), t.matmul(v[1], v[4], false, false));
        t.lstm_cell(t.add_bias(z, v[5]), v[2])
    };
    let state = || {
        let weights = [small("w_ih", [h, 4 * h]), small("w_hh", [h, 4 * h]), drawn("bias", [4 * h], Elements::Normal)];
        [normal("x", [n, h]), normal("h", [n, h]), normal("c", [n, h])].into_iter().chain(weights)
    };
    let with_cotangents = state().chain([normal("dh", [n, h]), normal("dc", [n, h])]).collect();
    [
        kernel("lstm_cell_b64_h512", "fwd", state().collect(), move |t, v| record(t, v).to_vec()),
        kernel("lstm_cell_b64_h512", "fwd+bwd", with_cotangents, move |t, v| {
            let [next_h, next_c] = record(t, v);
            t.grad_from(&[(next_h, v[6]), (next_c, v[7])], &v[..6])
        }),
    ]
}

/// A reparameterised sample and the KL term, with noise that is drawn in the same plan: once as a single
/// op, and once as the three ops that it replaces.
fn reparameterized() -> Vec<Case> {
    const SIZE: [usize; 2] = [128, 32];
    let fused = |t: &Tape, v: &[Var]| t.gaussian_sample(v[0], v[1], Stream::Latent);
    let separate = |t: &Tape, v: &[Var]| {
        let eps = t.random(Dist::Normal, Stream::Latent, SIZE);
        [t.reparameterize(v[0], v[1], eps), t.gaussian_kl(v[0], v[1])]
    };
    let directions = |name: &str, record: fn(&Tape, &[Var]) -> [Var; 2]| {
        let loss = move |t: &Tape, v: &[Var]| {
            let [z, kl] = record(t, v);
            t.add(t.sum(z), t.sum(kl))
        };
        let inputs = || vec![normal("mu", SIZE), normal("logvar", SIZE)];
        [
            kernel(name, "fwd", inputs(), move |t, v| vec![loss(t, v)]),
            // The loss is an output too. Otherwise terms that only the loss needs would be removed from
            // the plan.
            kernel(name, "fwd+bwd", inputs(), move |t, v| {
                let loss = loss(t, v);
                [vec![loss], t.grad(loss, v)].concat()
            }),
        ]
    };
    directions("reparam_kl_128x32", fused)
        .into_iter()
        .chain(directions("reparam_kl_separate_128x32", separate))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{DType, Meta};
    use std::collections::HashSet;

    #[test]
    fn every_kernel_has_a_name_of_its_own_and_records() {
        let mut names = HashSet::new();
        for case in cases() {
            assert!(names.insert(case.name.clone()), "{} is there twice", case.name);
            let t = Tape::new();
            let inputs: Vec<Var> = case
                .inputs
                .iter()
                .map(|i| {
                    let dtype = if matches!(i.elements, Elements::Index(_)) { DType::U32 } else { DType::F32 };
                    t.input(i.name, Meta { shape: i.shape, dtype })
                })
                .collect();
            assert!(!(case.record)(&t, &inputs).is_empty(), "{}", case.name);
        }
    }

    #[test]
    fn a_filter_is_a_part_of_a_name() {
        assert_eq!(select(&["matmul_512/".into()]).unwrap(), ["matmul_512/fwd", "matmul_512/da", "matmul_512/db"]);
        assert_eq!(select(&["no such".into()]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_small_kernel_is_timed_and_its_results_are_checked() {
        let options = Options::on_cpu(1);
        let limits = Limits { peak_gflops: 100.0, peak_gbs: 10.0, l3: None };
        let entry = time("reparam_kl_128x32/fwd", &options, &limits).unwrap();
        assert!(entry.median_ms > 0.0 && entry.runs >= 9 && entry.bytes > 0);
    }
}
