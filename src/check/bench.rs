//! The hot sizes of the reference workloads as cases, in the form of the case table. `pixtape bench
//! kernels` times them.

use super::case::{Case, Order, drawn, normal};
use super::elements::Elements;
use super::problem::Problem;
use crate::backend::{Backend, Compiled};
use crate::error::Result;
use crate::optim::{LEARNING_RATE, STEP};
use crate::tape::cost::{self, Cost};
use crate::tape::geometry::{ConvGeom, Mask};
use crate::tape::op::{Op, Unary};
use crate::tape::plan::{Plan, Precision};
use crate::tape::record::ConvAttrs;

/// A case that is compiled on a device.
pub struct Prepared {
    /// Its inputs and outputs.
    pub problem: Problem,
    /// The lowered plan.
    pub plan: Plan,
    /// The plan on the device.
    pub compiled: Compiled,
    /// The minimal cost of all steps of the plan.
    pub cost: Cost,
}

/// Draws the inputs of a case, lowers it and compiles it, with operands of products in this precision. Its
/// parameters are numbered from `first_param`.
///
/// # Errors
/// Whatever the device reports.
pub fn prepare(case: &Case, first_param: u32, precision: Precision, backend: &mut dyn Backend) -> Result<Prepared> {
    let problem = case.problem(Order::Zero, 1, first_param).in_precision(precision);
    let plan = problem.plan(&case.name);
    let compiled = problem.compile(&case.name, backend)?;
    let total = plan
        .steps
        .iter()
        .map(cost::cost)
        .fold(Cost::default(), |a, b| Cost { flops: a.flops + b.flops, bytes: a.bytes + b.bytes });
    Ok(Prepared { problem, plan, compiled, cost: total })
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut all = vec![];
    all.extend(pixelcnn());
    all.extend(dcgan());
    all.extend(linears());
    all.extend(pointwise());
    all.extend(losses());
    all.extend(rest());
    all
}

fn geometry(x: [usize; 4], kernel: usize, cout: usize, attrs: ConvAttrs) -> ConvGeom {
    let weight = [kernel, kernel, x[3], cout];
    attrs.geometry(x.into(), weight.into()).unwrap_or_else(|why| panic!("a case of the table: {why}"))
}

/// The three directions of a convolution. The first layer of a network does not need the gradient of its
/// input.
fn triple(workload: &str, g: ConvGeom, first_layer: bool) -> Vec<Case> {
    let of = |op: &'static str, make: fn(ConvGeom) -> Op, a, b| {
        let record = move |t: &crate::tape::Tape, v: &[crate::tape::Var]| vec![t.record(make(g), &[v[0], v[1]])];
        Case::new(op, format!("{workload} {g}"), vec![normal("a", a), normal("b", b)], record)
    };
    let mut all = vec![of("conv", Op::Conv, g.x_shape(), g.w_shape())];
    if !first_layer {
        all.push(of("conv_dx", Op::ConvDx, g.y_shape(), g.w_shape()));
    }
    all.push(of("conv_dw", Op::ConvDw, g.x_shape(), g.y_shape()));
    all
}

fn pixelcnn() -> Vec<Case> {
    let masked = |x: [usize; 4], kernel: usize, cout: usize, mask: Mask, groups: usize| {
        geometry(x, kernel, cout, ConvAttrs::masked(mask, kernel, groups))
    };
    let mnist = |cin: usize, kernel: usize, cout: usize, mask: Mask| masked([64, 28, 28, cin], kernel, cout, mask, 1);
    let cifar = |cin: usize, kernel: usize, cout: usize, mask: Mask| masked([16, 32, 32, cin], kernel, cout, mask, 3);
    let (name, rgb) = ("pixelcnn-mnist", "pixelcnn-cifar");
    let mut all = triple(name, mnist(1, 7, 64, Mask::A), true);
    all.extend(triple(name, mnist(64, 1, 32, Mask::B), false));
    all.extend(triple(name, mnist(32, 3, 32, Mask::B), false));
    all.extend(triple(name, mnist(32, 1, 64, Mask::B), false));
    all.extend(triple(name, mnist(64, 1, 1, Mask::B), false));
    all.extend(triple(rgb, cifar(3, 7, 128, Mask::A), true));
    all.extend(triple(rgb, cifar(64, 3, 64, Mask::B), false));
    all.extend(triple(rgb, cifar(128, 1, 1024, Mask::B), false));
    let fused = mnist(32, 3, 32, Mask::B);
    let inputs = vec![normal("x", fused.x_shape()), normal("w", fused.w_shape()), normal("bias", [32])];
    all.push(Case::new("conv", format!("{name} {fused} +bias relu"), inputs, move |t, v| {
        vec![t.relu(t.add_bias(t.record(Op::Conv(fused), &[v[0], v[1]]), v[2]))]
    }));
    all
}

/// The convolutions of the critic. The transposed convolutions of the generator are their `conv_dx`.
fn dcgan() -> Vec<Case> {
    let name = "dcgan-cifar";
    let mut all = triple(name, geometry([64, 32, 32, 3], 4, 64, ConvAttrs::new(2, 1)), false);
    all.extend(triple(name, geometry([64, 16, 16, 64], 4, 128, ConvAttrs::new(2, 1)), false));
    all.extend(triple(name, geometry([64, 8, 8, 128], 4, 256, ConvAttrs::new(2, 1)), false));
    all.extend(triple(name, geometry([64, 4, 4, 256], 4, 100, ConvAttrs::new(1, 0)), false));
    all
}

fn linears() -> Vec<Case> {
    let of = |name: &str, [m, k, n]: [usize; 3]| {
        let one = |letters: &str, a: [usize; 2], b: [usize; 2], ta: bool, tb: bool| {
            Case::new(
                "matmul",
                format!("{name} {letters} {m}x{k}x{n}"),
                vec![normal("a", a), normal("b", b)],
                move |t, v| vec![t.matmul(v[0], v[1], ta, tb)],
            )
        };
        // The layer, the gradient of its input, the gradient of its weight.
        [
            one("nn", [m, k], [k, n], false, false),
            one("nt", [m, n], [k, n], false, true),
            one("tn", [m, k], [m, n], true, false),
        ]
    };
    let mut all: Vec<Case> = of("vae-mnist", [128, 3136, 256]).into();
    all.extend(of("vae-mlp-mnist", [128, 784, 400]));
    all.extend(of("square", [1024, 1024, 1024]));
    all
}

fn pointwise() -> Vec<Case> {
    let size = [64, 28, 28, 64];
    let mut all = vec![];
    for f in [Unary::Relu, Unary::Tanh, Unary::Sigmoid] {
        let label = format!("{f} 64x28x28x64");
        all.push(Case::new("unary", &label, vec![normal("x", size)], move |t, v| vec![t.unary(f, v[0])]));
        let inputs = vec![normal("dy", size), drawn("y", size, Elements::Uniform(0.0, 1.0))];
        all.push(Case::new("unary_bwd", &label, inputs, move |t, v| vec![t.unary_bwd(f, v[0], v[1])]));
    }
    let inputs = vec![normal("a", size), normal("b", size)];
    all.push(Case::new("binary", "add 64x28x28x64", inputs, |t, v| vec![t.add(v[0], v[1])]));
    all.push(Case::new("gated", "gated-pixelcnn-mnist 64x28x28x128", vec![normal("x", [64, 28, 28, 128])], |t, v| {
        vec![t.gated(v[0])]
    }));
    let inputs = vec![normal("dy", size), normal("x", [64, 28, 28, 128])];
    all.push(Case::new("gated_bwd", "gated-pixelcnn-mnist 64x28x28x128", inputs, |t, v| {
        vec![t.record(Op::GatedBwd, v)]
    }));
    all
}

fn losses() -> Vec<Case> {
    let (pixels, levels) = (49_152, 256);
    let logits = || normal("logits", [pixels, levels]);
    let target = || drawn("target", [pixels], Elements::Index(levels as u32));
    let name = format!("pixelcnn-cifar {pixels}x{levels}");
    let forward = Case::new("softmax_cross_entropy", &name, vec![logits(), target()], |t, v| {
        vec![t.softmax_cross_entropy(v[0], v[1])]
    });
    let backward = vec![normal("dy", [pixels]), logits(), target()];
    let backward =
        Case::new("softmax_cross_entropy_bwd", &name, backward, |t, v| vec![t.record(Op::SoftmaxCrossEntropyBwd, v)]);
    let bce = vec![normal("logits", [50_176]), drawn("target", [50_176], Elements::Bit)];
    let bce = Case::new("bce_with_logits", "pixelcnn-mnist 50176", bce, |t, v| vec![t.bce_with_logits(v[0], v[1])]);
    let latent = [128, 32];
    let vae = vec![normal("mu", latent), normal("logvar", latent), normal("eps", latent)];
    let vae = Case::new("reparameterize", "vae-mnist with gaussian_kl 128x32", vae, |t, v| {
        vec![t.reparameterize(v[0], v[1], v[2]), t.gaussian_kl(v[0], v[1])]
    });
    vec![forward, backward, bce, vae]
}

fn rest() -> Vec<Case> {
    let size = [64, 16, 16, 64];
    let channel = |name| drawn(name, [64], Elements::POSITIVE);
    let norm = vec![normal("x", size), channel("gamma"), channel("beta")];
    let norm =
        Case::new("batch_norm", "dcgan-cifar 64x16x16x64", norm, |t, v| t.batch_norm(v[0], v[1], v[2], 1e-5).to_vec());
    let norm_bwd = vec![normal("dy", size), normal("x", size), channel("gamma"), channel("mean"), channel("inv_std")];
    let norm_bwd = Case::new("batch_norm_bwd", "dcgan-cifar 64x16x16x64", norm_bwd, |t, v| {
        let dx = t.record(Op::BatchNormBwd, v);
        vec![dx, t.output_of(dx, 1), t.output_of(dx, 2)]
    });
    let n = 1 << 20;
    let moments = drawn("v", [n], Elements::Uniform(0.0, 1.0)).param();
    let adam = vec![normal("param", [n]).param(), normal("grad", [n]), normal("m", [n]).param(), moments];
    let adam = Case::new("adam", "1M in place", adam, |t, v| {
        let op = Op::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
        let (lr, step) = (t.scalar(LEARNING_RATE), t.scalar(STEP));
        let param = t.record(op, &[v[0], v[1], v[2], v[3], lr, step]);
        vec![param, t.output_of(param, 1), t.output_of(param, 2)]
    });
    let adam = adam.store(0, 0).store(1, 2).store(2, 3).scalars(|s| _ = s.set(LEARNING_RATE, 1e-3));
    let (steps, rows, h) = (784, 64, 128);
    let small = |name, shape: [usize; 2]| drawn(name, shape, Elements::Uniform(-0.08, 0.08));
    let state = || [normal("h0", [rows, h]), normal("c0", [rows, h]), small("w_hh", [h, 4 * h])];
    let [h0, c0, w_hh] = state();
    let lstm =
        Case::new("lstm", "lstm-784 784x64x128", vec![normal("z", [steps, rows, 4 * h]), h0, c0, w_hh], |t, v| {
            t.lstm(v[0], v[1], v[2], v[3]).to_vec()
        });
    let [dc_n, c0, w_hh] = state();
    let kept = drawn("kept", [steps, rows, 5 * h], Elements::Uniform(0.05, 0.95));
    let lstm_bwd = Case::new(
        "lstm_bwd",
        "lstm-784 784x64x128",
        vec![normal("dy", [steps, rows, h]), dc_n, c0, w_hh, kept],
        |t, v| vec![t.record(Op::LstmBwd, v)],
    );
    let sum = |detail: &str, to: [usize; 2]| {
        let x = drawn("x", [50_176, 64], Elements::Uniform(0.0, 1.0));
        Case::new("sum", format!("50176x64 {detail}"), vec![x], move |t, v| vec![t.sum_to(v[0], to)])
    };
    vec![
        norm,
        norm_bwd,
        adam,
        lstm,
        lstm_bwd,
        sum("to columns", [1, 64]),
        sum("to rows", [50_176, 1]),
        sum("to one", [1, 1]),
    ]
}
