//! Records the ops of the file format. [`OPS`] lists their names, and each has one function here.

use super::file::ReferenceCase;
use super::layout::MemoryLayout;
use super::recorder::{Recorded, Recorder};
use super::recurrence::{diagonal_bilstm, diagonal_lstm, lstm, lstm_cell, row_lstm};
use crate::error::printable;
use crate::models::TEMPERATURE;
use crate::optim::{LEARNING_RATE, STEP};
use crate::shape::ImageSize;
use crate::tape::Var;
use crate::tape::geometry::Mask;
use crate::tape::op::{Op, Unary};
use crate::tape::record::ConvAttrs;

/// Records one case. The error is a sentence.
type Rule = fn(&mut Recorder) -> Result<(), String>;

/// A word of the op table of the format.
struct Word {
    op: &'static str,
    rule: Rule,
    /// Inputs and outputs, and attributes, as the page about the format has them.
    inputs: &'static str,
    attributes: &'static str,
}

/// The op table of the format; docs/reference-cases.md has it too, which a test compares.
const TABLE: &[Word] = &[
    Word {
        op: "conv2d",
        rule: conv2d,
        inputs: "x, weight, [bias] -> y",
        attributes: "stride, padding (an int or [h, w]), mask (none, A, B), groups_c, blocks",
    },
    Word {
        op: "conv_transpose2d",
        rule: conv_transpose2d,
        inputs: "x, weight, [bias] -> y",
        attributes: "stride, padding, output_padding",
    },
    Word { op: "linear", rule: linear, inputs: "x[N,I], weight[O,I], [bias] -> y", attributes: "" },
    Word { op: "matmul", rule: matmul, inputs: "a, b -> y", attributes: "transpose_a, transpose_b" },
    Word {
        op: "lstm_cell",
        rule: lstm_cell,
        inputs: "x, h, c, w_ih[4H,I], w_hh[4H,H], b_ih, b_hh -> h_next, c_next",
        attributes: "gates in the order i f g o",
    },
    Word {
        op: "lstm",
        rule: lstm,
        inputs: "x[T,N,I], h0, c0, w_ih, w_hh, b_ih, b_hh -> y[T,N,H], h_n, c_n",
        attributes: "",
    },
    Word {
        op: "row_lstm",
        rule: row_lstm,
        inputs: "x[N,C,H,W], w_is[4h,C,1,k], w_ss[4h,h,1,k], b[4h] -> y[N,h,H,W]",
        attributes: "mask, groups_c",
    },
    Word {
        op: "diagonal_lstm",
        rule: diagonal_lstm,
        inputs: "x[N,C,H,W], w_is[4h,C,1,1], w_ss[4h,h,2,1], b[4h] -> y[N,h,H,W]",
        attributes: "mask, groups_c",
    },
    Word {
        op: "diagonal_bilstm",
        rule: diagonal_bilstm,
        inputs: "x and the weights of both directions, `l_w_is` to `r_b` -> y",
        attributes: "mask, groups_c",
    },
    Word {
        op: "batch_norm",
        rule: batch_norm,
        inputs: "x, weight, bias -> y",
        attributes: "eps (batch statistics, biased variance)",
    },
    Word { op: "layer_norm", rule: layer_norm, inputs: "x[N,D], weight, bias -> y", attributes: "eps" },
    Word {
        op: "group_norm",
        rule: group_norm,
        inputs: "x, weight, bias -> y",
        attributes: "groups, eps (biased variance of each image and group of channels)",
    },
    Word {
        op: "unary",
        rule: unary,
        inputs: "x -> y",
        attributes: "kind: the name of a function in `src/tape/functions.rs`; slope for leaky_relu",
    },
    Word { op: "gated", rule: gated, inputs: "x[N,2C,H,W] -> y = tanh(first C) sigmoid(last C)", attributes: "" },
    Word {
        op: "reparameterize",
        rule: reparameterize,
        inputs: "mu, logvar, eps* -> z = mu + exp(logvar / 2) eps",
        attributes: "",
    },
    Word { op: "gaussian_kl", rule: gaussian_kl, inputs: "mu, logvar -> kl[N] against N(0, I)", attributes: "" },
    Word {
        op: "bce_with_logits",
        rule: bce_with_logits,
        inputs: "logits, target* -> y",
        attributes: "reduction: none sum mean",
    },
    Word { op: "mse", rule: mse, inputs: "x, target* -> y", attributes: "reduction: none sum mean" },
    Word {
        op: "softmax_cross_entropy",
        rule: softmax_cross_entropy,
        inputs: "logits[M,K], target[M] -> y",
        attributes: "reduction",
    },
    Word {
        op: "adam",
        rule: adam,
        inputs: "param, grad, m, v -> param, m, v",
        attributes: "lr, beta1, beta2, eps, step (from 1)",
    },
    Word {
        op: "rmsprop",
        rule: rmsprop,
        inputs: "param, grad, v -> param, v",
        attributes: "lr, alpha, eps (outside the root)",
    },
    Word {
        op: "sgd",
        rule: sgd,
        inputs: "param, grad, buf -> param, buf = momentum buf + grad",
        attributes: "lr, momentum",
    },
    Word {
        op: "categorical",
        rule: categorical,
        inputs: "logits[M,K], u[M] -> index: the smallest k whose cumulative softmax exceeds u",
        attributes: "",
    },
    Word {
        op: "gradient_penalty",
        rule: gradient_penalty,
        inputs: "x_hat*, conv1, conv2, fc -> penalty = mean((‖dD/dx‖ - 1)²)",
        attributes: "slope",
    },
];

/// The rows of the table in docs/reference-cases.md.
#[doc(hidden)]
pub fn page_rows() -> String {
    let row =
        |word: &Word| format!("| `{}` | {} | {} |\n", word.op, word.inputs, word.attributes).replace("|  |", "| |");
    TABLE.iter().map(row).collect()
}

/// The names of all ops of the format.
pub const OPS: [&str; TABLE.len()] = {
    let mut words = [""; TABLE.len()];
    let mut i = 0;
    while i < words.len() {
        words[i] = TABLE[i].op;
        i += 1;
    }
    words
};

/// Records a case, including its gradients if it has cotangents. The error is a sentence.
pub fn record(case: &ReferenceCase) -> Result<Recorded, String> {
    let mut recorder = Recorder::new(case);
    let recorded = match TABLE.iter().find(|word| word.op == case.op) {
        Some(word) => (word.rule)(&mut recorder).and_then(|()| recorder.finish()),
        None => Err(format!("its op {:?} is unknown; known are {}", case.op, OPS.join(", "))),
    };
    // The sentence may quote much of the file.
    recorded.map_err(printable)
}

/// Reads stride and padding.
fn conv_attrs(r: &Recorder) -> Result<ConvAttrs, String> {
    let (stride, pad) = (r.pair("stride", 1)?, r.pair("padding", 0)?);
    if stride.contains(&0) {
        return Err("its attribute stride must be at least 1".to_string());
    }
    Ok(ConvAttrs { stride, pad, pad_end: pad.map(|p| p as isize), ..ConvAttrs::default() })
}

/// Reads the mask. Colour groups and blocks are only read if there is a mask.
pub(super) fn mask_attrs(r: &Recorder, attrs: ConvAttrs) -> Result<ConvAttrs, String> {
    let mask = match r.word("mask", "none")? {
        "none" => return Ok(attrs),
        "A" => Mask::A,
        "B" => Mask::B,
        other => return Err(format!("its attribute mask is {other:?}, not none, A or B")),
    };
    Ok(ConvAttrs { mask, groups: r.whole("groups_c", 1)?, blocks: r.whole("blocks", 1)?, ..attrs })
}

fn conv2d(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "nchw", MemoryLayout::Image)?;
    let weight = r.input("weight", "ocij", MemoryLayout::Conv)?;
    let bias = r.optional("bias", "o", MemoryLayout::Same)?;
    let attrs = mask_attrs(r, conv_attrs(r)?)?;
    attrs.geometry(r.tape.shape(x), r.tape.shape(weight))?;
    let y = r.tape.conv(x, weight, attrs);
    let y = biased(r, y, bias);
    r.output("y", y, MemoryLayout::Image)
}

fn biased(r: &Recorder, y: Var, bias: Option<Var>) -> Var {
    match bias {
        Some(bias) => r.tape.add_bias(y, bias),
        None => y,
    }
}

fn conv_transpose2d(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "nchw", MemoryLayout::Image)?;
    // `[in, out, kh, kw]`: the weight of the convolution whose gradient this is.
    let weight = r.input("weight", "coij", MemoryLayout::Conv)?;
    let bias = r.optional("bias", "o", MemoryLayout::Same)?;
    let (attrs, extra) = (conv_attrs(r)?, r.pair("output_padding", 0)?);
    let size = |axis: usize, from: char, taps: char| {
        let (from, taps, stride) = (r.extent(from), r.extent(taps), attrs.stride[axis]);
        let reach = from.checked_sub(1)? * stride + taps + extra[axis];
        reach.checked_sub(2 * attrs.pad[axis]).filter(|size| *size > 0 && taps > 0 && extra[axis] < stride)
    };
    let (Some(h), Some(w)) = (size(0, 'h', 'i'), size(1, 'w', 'j')) else {
        return Err("its padding or output_padding leaves no output".to_string());
    };
    let y = r.tape.conv_transpose(x, weight, attrs, [h, w]);
    let y = biased(r, y, bias);
    r.output("y", y, MemoryLayout::Image)
}

fn linear(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "ni", MemoryLayout::Same)?;
    let weight = r.input("weight", "oi", MemoryLayout::Linear)?;
    let bias = r.optional("bias", "o", MemoryLayout::Same)?;
    let y = r.tape.matmul(x, weight, false, false);
    let y = biased(r, y, bias);
    r.output("y", y, MemoryLayout::Same)
}

fn matmul(r: &mut Recorder) -> Result<(), String> {
    let (ta, tb) = (r.flag("transpose_a")?, r.flag("transpose_b")?);
    let a = r.input("a", if ta { "km" } else { "mk" }, MemoryLayout::Same)?;
    let b = r.input("b", if tb { "nk" } else { "kn" }, MemoryLayout::Same)?;
    let y = r.tape.matmul(a, b, ta, tb);
    r.output("y", y, MemoryLayout::Same)
}

/// The letters and the layout of x, which is `[n, c, h, w]` or `[n, c]`.
fn map_or_rows(r: &Recorder) -> Result<(&'static str, MemoryLayout), String> {
    Ok(if r.shape("x")?.len() == 4 { ("nchw", MemoryLayout::Image) } else { ("nc", MemoryLayout::Same) })
}

fn batch_norm(r: &mut Recorder) -> Result<(), String> {
    let (letters, layout) = map_or_rows(r)?;
    let x = r.input("x", letters, layout)?;
    let (weight, bias) = (r.input("weight", "c", MemoryLayout::Same)?, r.input("bias", "c", MemoryLayout::Same)?);
    let [y, ..] = r.tape.batch_norm(x, weight, bias, r.number("eps")?);
    r.output("y", y, layout)
}

fn layer_norm(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "nd", MemoryLayout::Same)?;
    let (weight, bias) = (r.input("weight", "d", MemoryLayout::Same)?, r.input("bias", "d", MemoryLayout::Same)?);
    let y = r.tape.layer_norm(x, weight, bias, r.number("eps")?);
    r.output("y", y, MemoryLayout::Same)
}

fn group_norm(r: &mut Recorder) -> Result<(), String> {
    let (letters, layout) = map_or_rows(r)?;
    let x = r.input("x", letters, layout)?;
    let (weight, bias) = (r.input("weight", "c", MemoryLayout::Same)?, r.input("bias", "c", MemoryLayout::Same)?);
    let (c, groups) = (r.extent('c'), r.whole("groups", 1)?);
    if groups == 0 || !c.is_multiple_of(groups) {
        return Err(format!("its {c} channels cannot be cut into {groups} equal groups"));
    }
    let y = r.tape.group_norm(x, weight, bias, groups, r.number("eps")?);
    r.output("y", y, layout)
}

fn unary(r: &mut Recorder) -> Result<(), String> {
    let kind = r.word("kind", "")?;
    let f = match Unary::EACH.into_iter().find(|f| f.name() == kind) {
        Some(Unary::LeakyRelu(_)) => Unary::LeakyRelu(r.number("slope")?),
        Some(f) => f,
        None => return Err(format!("its attribute kind is {kind:?}, no function that is known")),
    };
    let x = r.any("x", true)?;
    let y = r.tape.unary(f, x);
    r.output("y", y, MemoryLayout::Same)
}

fn gated(r: &mut Recorder) -> Result<(), String> {
    let (letters, layout) = map_or_rows(r)?;
    let x = r.input("x", letters, layout)?;
    if !r.extent('c').is_multiple_of(2) {
        return Err(format!("its {} channels have no two halves", r.extent('c')));
    }
    let y = r.tape.gated(x);
    r.output("y", y, layout)
}

fn reparameterize(r: &mut Recorder) -> Result<(), String> {
    let (mu, logvar) = (r.any("mu", true)?, r.any("logvar", true)?);
    let eps = r.any("eps", false)?;
    let z = r.tape.reparameterize(mu, logvar, eps);
    r.output("z", z, MemoryLayout::Same)
}

fn gaussian_kl(r: &mut Recorder) -> Result<(), String> {
    let (mu, logvar) = (r.input("mu", "nd", MemoryLayout::Same)?, r.input("logvar", "nd", MemoryLayout::Same)?);
    let kl = r.tape.gaussian_kl(mu, logvar);
    r.output("kl", kl, MemoryLayout::Same)
}

/// Reduces an elementwise loss as the attribute `reduction` says.
fn reduced(r: &mut Recorder, loss: Var) -> Result<(), String> {
    let y = match r.word("reduction", "none")? {
        "none" => loss,
        "sum" => r.tape.sum(loss),
        "mean" => r.tape.mean(loss),
        other => return Err(format!("its attribute reduction is {other:?}, not none, sum or mean")),
    };
    r.output("y", y, MemoryLayout::Same)
}

fn bce_with_logits(r: &mut Recorder) -> Result<(), String> {
    let (logits, target) = (r.any("logits", true)?, r.any("target", false)?);
    let loss = r.tape.bce_with_logits(logits, target);
    reduced(r, loss)
}

fn mse(r: &mut Recorder) -> Result<(), String> {
    let (x, target) = (r.any("x", true)?, r.any("target", false)?);
    let loss = r.tape.mse(x, target);
    reduced(r, loss)
}

fn softmax_cross_entropy(r: &mut Recorder) -> Result<(), String> {
    let logits = r.input("logits", "mk", MemoryLayout::Same)?;
    let target = r.index("target", "m", 'k')?;
    let loss = r.tape.softmax_cross_entropy(logits, target);
    reduced(r, loss)
}

/// The inputs of an optimiser, which all have the same shape.
fn state<const N: usize>(r: &mut Recorder, names: [&'static str; N]) -> Result<Vec<Var>, String> {
    names.into_iter().map(|name| r.any(name, false)).collect()
}

/// The outputs of an optimiser, in the order of the op.
fn new_state<const N: usize>(r: &mut Recorder, first: Var, names: [&'static str; N]) -> Result<(), String> {
    for (out, name) in names.into_iter().enumerate() {
        let v = r.tape.output_of(first, out);
        r.output(name, v, MemoryLayout::Same)?;
    }
    Ok(())
}

fn adam(r: &mut Recorder) -> Result<(), String> {
    let mut inputs = state(r, ["param", "grad", "m", "v"])?;
    inputs.extend([r.scalar("lr", LEARNING_RATE)?, r.scalar("step", STEP)?]);
    let op = Op::Adam { beta1: r.number("beta1")?, beta2: r.number("beta2")?, eps: r.number("eps")? };
    let param = r.tape.record(op, &inputs);
    new_state(r, param, ["param", "m", "v"])
}

fn rmsprop(r: &mut Recorder) -> Result<(), String> {
    let mut inputs = state(r, ["param", "grad", "v"])?;
    inputs.push(r.scalar("lr", LEARNING_RATE)?);
    let param = r.tape.record(Op::RmsProp { alpha: r.number("alpha")?, eps: r.number("eps")? }, &inputs);
    new_state(r, param, ["param", "v"])
}

fn sgd(r: &mut Recorder) -> Result<(), String> {
    let mut inputs = state(r, ["param", "grad", "buf"])?;
    inputs.push(r.scalar("lr", LEARNING_RATE)?);
    let param = r.tape.record(Op::Sgd { momentum: r.number("momentum")? }, &inputs);
    new_state(r, param, ["param", "buf"])
}

fn categorical(r: &mut Recorder) -> Result<(), String> {
    let logits = r.constant("logits", "mk", MemoryLayout::Same)?;
    let u = r.constant("u", "m", MemoryLayout::Same)?;
    if r.extent('k') == 0 {
        return Err("its logits have no class to draw".to_string());
    }
    let index = r.tape.categorical(logits, u, r.tape.scalar(TEMPERATURE));
    r.output("index", index, MemoryLayout::Same)
}

/// penalty = mean((|dD/dx| - 1)^2) of a critic with two 4x4 convolutions of stride 2, leaky relu, and a
/// linear layer (Gulrajani et al. 2017, eq. 3). Its gradients are second derivatives.
fn gradient_penalty(r: &mut Recorder) -> Result<(), String> {
    let x_hat = r.constant("x_hat", "nchw", MemoryLayout::Image)?;
    let conv1 = r.input("conv1", "oc44", MemoryLayout::Conv)?;
    let conv2 = r.input("conv2", "po44", MemoryLayout::Conv)?;
    let (attrs, slope) = (ConvAttrs::new(2, 1), r.number("slope")?);
    let first = attrs.geometry(r.tape.shape(x_hat), r.tape.shape(conv1))?;
    let second = attrs.geometry(first.y_shape(), r.tape.shape(conv2))?;
    let map = ImageSize { height: second.oh, width: second.ow, channels: second.cout };
    let features = map.dims();
    let weight = r.shape("fc")?;
    if weight != [1, features] {
        return Err(format!("its tensor in/fc has the shape {weight:?}, not [1, {features}]"));
    }
    let fc = r.input("fc", "1f", MemoryLayout::LinearFromMap(map))?;
    let t = &r.tape;
    let hidden = t.leaky_relu(t.conv(x_hat, conv1, attrs), slope);
    let hidden = t.leaky_relu(t.conv(hidden, conv2, attrs), slope);
    let score = t.matmul(t.reshape(hidden, [second.n, features]), fc, false, false);
    let dx = t.grad(t.sum(score), &[x_hat])[0];
    let norm = t.sqrt(t.sum_rows(t.square(dx)));
    let penalty = t.mean(t.square(t.affine(norm, 1.0, -1.0)));
    r.output("penalty", penalty, MemoryLayout::Same)
}
