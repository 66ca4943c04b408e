//! Records the ops of the file format. [`OPS`] lists their names, and each has one function here.

use super::file::Case;
use super::layout::Layout;
use super::recorder::{Recorded, Recorder};
use crate::tape::Var;
use crate::tape::geometry::Mask;
use crate::tape::op::{Op, Scalar, Unary};
use crate::tape::record::ConvAttrs;

/// Records one case. The error is a sentence.
type Rule = fn(&mut Recorder) -> Result<(), String>;

/// The op table of the format.
const TABLE: &[(&str, Rule)] = &[
    ("conv2d", conv2d),
    ("conv_transpose2d", conv_transpose2d),
    ("linear", linear),
    ("matmul", matmul),
    ("lstm_cell", lstm_cell),
    ("lstm", lstm),
    ("row_lstm", row_lstm),
    ("diagonal_lstm", diagonal_lstm),
    ("diagonal_bilstm", diagonal_bilstm),
    ("batch_norm", batch_norm),
    ("layer_norm", layer_norm),
    ("unary", unary),
    ("gated", gated),
    ("reparameterize", reparameterize),
    ("gaussian_kl", gaussian_kl),
    ("bce_with_logits", bce_with_logits),
    ("mse", mse),
    ("softmax_cross_entropy", softmax_cross_entropy),
    ("adam", adam),
    ("rmsprop", rmsprop),
    ("sgd", sgd),
    ("categorical", categorical),
    ("gradient_penalty", gradient_penalty),
];

/// The names of all ops of the format.
pub const OPS: [&str; TABLE.len()] = {
    let mut words = [""; TABLE.len()];
    let mut i = 0;
    while i < words.len() {
        (words[i], _) = TABLE[i];
        i += 1;
    }
    words
};

/// Records a case, including its gradients if it has cotangents. The error is a sentence.
pub fn record(case: &Case) -> Result<Recorded, String> {
    let mut recorder = Recorder::new(case);
    match TABLE.iter().find(|(word, _)| *word == case.op) {
        Some((_, rule)) => rule(&mut recorder)?,
        None => return Err(format!("its op {:?} is unknown; known are {}", case.op, OPS.join(", "))),
    }
    recorder.finish()
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
fn mask_attrs(r: &Recorder, attrs: ConvAttrs) -> Result<ConvAttrs, String> {
    let mask = match r.word("mask", "none")? {
        "none" => return Ok(attrs),
        "A" => Mask::A,
        "B" => Mask::B,
        other => return Err(format!("its attribute mask is {other:?}, not none, A or B")),
    };
    Ok(ConvAttrs { mask, groups: r.whole("groups_c", 1)?, blocks: r.whole("blocks", 1)?, ..attrs })
}

fn conv2d(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "nchw", Layout::Image)?;
    let weight = r.input("weight", "ocij", Layout::Conv)?;
    let bias = r.optional("bias", "o", Layout::Same)?;
    let attrs = mask_attrs(r, conv_attrs(r)?)?;
    attrs.geometry(r.tape.shape(x), r.tape.shape(weight))?;
    let y = r.tape.conv(x, weight, attrs);
    let y = biased(r, y, bias);
    r.output("y", y, Layout::Image)
}

fn biased(r: &Recorder, y: Var, bias: Option<Var>) -> Var {
    match bias {
        Some(bias) => r.tape.add_bias(y, bias),
        None => y,
    }
}

fn conv_transpose2d(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "nchw", Layout::Image)?;
    // `[in, out, kh, kw]`: the weight of the convolution whose gradient this is.
    let weight = r.input("weight", "coij", Layout::Conv)?;
    let bias = r.optional("bias", "o", Layout::Same)?;
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
    r.output("y", y, Layout::Image)
}

fn linear(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "ni", Layout::Same)?;
    let weight = r.input("weight", "oi", Layout::Linear)?;
    let bias = r.optional("bias", "o", Layout::Same)?;
    let y = r.tape.matmul(x, weight, false, false);
    let y = biased(r, y, bias);
    r.output("y", y, Layout::Same)
}

fn matmul(r: &mut Recorder) -> Result<(), String> {
    let (ta, tb) = (r.flag("transpose_a")?, r.flag("transpose_b")?);
    let a = r.input("a", if ta { "km" } else { "mk" }, Layout::Same)?;
    let b = r.input("b", if tb { "nk" } else { "kn" }, Layout::Same)?;
    let y = r.tape.matmul(a, b, ta, tb);
    r.output("y", y, Layout::Same)
}

/// The weights of an LSTM on the tape. `bias` is the sum of PyTorch's two biases.
struct LstmWeights {
    w_ih: Var,
    w_hh: Var,
    bias: Var,
}

/// Declares both weights and both biases. The gates have the letter g = 4h.
fn lstm_weights(r: &mut Recorder) -> Result<LstmWeights, String> {
    let w_ih = r.input("w_ih", "gi", Layout::Linear)?;
    let w_hh = r.input("w_hh", "gh", Layout::Linear)?;
    let (b_ih, b_hh) = (r.input("b_ih", "g", Layout::Same)?, r.input("b_hh", "g", Layout::Same)?);
    if r.extent('g') != 4 * r.extent('h') {
        return Err(format!("its weights have {} gates for {} units, not four a unit", r.extent('g'), r.extent('h')));
    }
    Ok(LstmWeights { w_ih, w_hh, bias: r.tape.add(b_ih, b_hh) })
}

fn lstm_cell(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "ni", Layout::Same)?;
    let (h, c) = (r.input("h", "nh", Layout::Same)?, r.input("c", "nh", Layout::Same)?);
    let LstmWeights { w_ih, w_hh, bias } = lstm_weights(r)?;
    let t = &r.tape;
    let z = t.add(t.matmul(x, w_ih, false, false), t.matmul(h, w_hh, false, false));
    let [h_next, c_next] = t.lstm_cell(t.add_bias(z, bias), c);
    r.output("h_next", h_next, Layout::Same)?;
    r.output("c_next", c_next, Layout::Same)
}

fn lstm(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "tni", Layout::Same)?;
    let (h0, c0) = (r.input("h0", "nh", Layout::Same)?, r.input("c0", "nh", Layout::Same)?);
    let LstmWeights { w_ih, w_hh, bias } = lstm_weights(r)?;
    let [steps, n, inputs, h] = ['t', 'n', 'i', 'h'].map(|letter| r.extent(letter));
    if steps == 0 {
        return Err("its sequence has no step".to_string());
    }
    let t = &r.tape;
    let z = t.matmul(t.reshape(x, [steps * n, inputs]), w_ih, false, false);
    let z = t.reshape(t.add_bias(z, bias), [steps, n, 4 * h]);
    let [y, c_n] = t.lstm(z, h0, c0, w_hh);
    let h_n = t.reshape(t.slice(y, [0, steps - 1, 0, 0], [0; 4]), [n, h]);
    r.output("y", y, Layout::Same)?;
    r.output("h_n", h_n, Layout::Same)?;
    r.output("c_n", c_n, Layout::Same)
}

/// The names and shapes of the weights of a scan over images. The gates have the letter g = 4d.
struct Scan {
    /// Input to state, `[4d, c, 1, k]`: its name, and the letters of its shape.
    w_is: &'static str,
    w_is_shape: &'static str,
    /// State to state: its name, and the letters of its shape.
    w_ss: &'static str,
    w_ss_shape: &'static str,
    /// `[4d]`
    bias: &'static str,
}

/// The inputs of a scan on the tape.
struct ScanInputs {
    /// The part of the gates of every pixel that depends on the input.
    z: Var,
    w_ss: Var,
}

fn scan_inputs(r: &mut Recorder, x: Var, scan: Scan) -> Result<ScanInputs, String> {
    let w_is = r.input(scan.w_is, scan.w_is_shape, Layout::Conv)?;
    let w_ss = r.input(scan.w_ss, scan.w_ss_shape, Layout::Conv)?;
    let bias = r.input(scan.bias, "g", Layout::Same)?;
    if r.extent('g') != 4 * r.extent('d') {
        return Err(format!("its weights have {} gates for {} units, not four a unit", r.extent('g'), r.extent('d')));
    }
    let taps = r.tape.shape(w_is).dims()[1];
    if taps.is_multiple_of(2) {
        return Err(format!("its weights have {taps} taps, an even number"));
    }
    let (pad, pad_end) = ([0, taps / 2], [0, (taps / 2) as isize]);
    let attrs = mask_attrs(r, ConvAttrs { pad, pad_end, ..ConvAttrs::default() })?;
    // Every gate has all colour groups, so the channels are divided into four blocks.
    let blocks = if attrs.mask == Mask::None { 1 } else { 4 };
    let attrs = ConvAttrs { blocks, ..attrs };
    attrs.geometry(r.tape.shape(x), r.tape.shape(w_is))?;
    Ok(ScanInputs { z: r.tape.add_bias(r.tape.conv(x, w_is, attrs), bias), w_ss })
}

fn row_lstm(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "nchw", Layout::Image)?;
    let scan = Scan { w_is: "w_is", w_is_shape: "gc1i", w_ss: "w_ss", w_ss_shape: "gd1k", bias: "b" };
    let ScanInputs { z, w_ss } = scan_inputs(r, x, scan)?;
    let y = r.tape.row_lstm(z, w_ss);
    r.output("y", y, Layout::Image)
}

impl Scan {
    /// One direction of a Diagonal LSTM.
    fn diagonal(w_is: &'static str, w_ss: &'static str, bias: &'static str) -> Self {
        Scan { w_is, w_is_shape: "gc11", w_ss, w_ss_shape: "gd21", bias }
    }
}

fn diagonal_lstm(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "nchw", Layout::Image)?;
    let ScanInputs { z, w_ss } = scan_inputs(r, x, Scan::diagonal("w_is", "w_ss", "b"))?;
    let y = r.tape.diagonal_lstm(z, w_ss, false);
    r.output("y", y, Layout::Image)
}

/// The scan from the right is shifted down by one row. Otherwise a pixel would depend on the pixels to
/// its right.
fn diagonal_bilstm(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "nchw", Layout::Image)?;
    let left = scan_inputs(r, x, Scan::diagonal("l_w_is", "l_w_ss", "l_b"))?;
    let right = scan_inputs(r, x, Scan::diagonal("r_w_is", "r_w_ss", "r_b"))?;
    let t = &r.tape;
    let from_left = t.diagonal_lstm(left.z, left.w_ss, false);
    let from_right = t.diagonal_lstm(right.z, right.w_ss, true);
    let y = t.add(from_left, t.shift_down(from_right));
    r.output("y", y, Layout::Image)
}

/// The letters and the layout of x, which is `[n, c, h, w]` or `[n, c]`.
fn map_or_rows(r: &Recorder) -> Result<(&'static str, Layout), String> {
    Ok(if r.shape("x")?.len() == 4 { ("nchw", Layout::Image) } else { ("nc", Layout::Same) })
}

fn batch_norm(r: &mut Recorder) -> Result<(), String> {
    let (letters, layout) = map_or_rows(r)?;
    let x = r.input("x", letters, layout)?;
    let (weight, bias) = (r.input("weight", "c", Layout::Same)?, r.input("bias", "c", Layout::Same)?);
    let [y, ..] = r.tape.batch_norm(x, weight, bias, r.number("eps")?);
    r.output("y", y, layout)
}

fn layer_norm(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "nd", Layout::Same)?;
    let (weight, bias) = (r.input("weight", "d", Layout::Same)?, r.input("bias", "d", Layout::Same)?);
    let y = r.tape.layer_norm(x, weight, bias, r.number("eps")?);
    r.output("y", y, Layout::Same)
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
    r.output("y", y, Layout::Same)
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
    r.output("z", z, Layout::Same)
}

fn gaussian_kl(r: &mut Recorder) -> Result<(), String> {
    let (mu, logvar) = (r.input("mu", "nd", Layout::Same)?, r.input("logvar", "nd", Layout::Same)?);
    let kl = r.tape.gaussian_kl(mu, logvar);
    r.output("kl", kl, Layout::Same)
}

/// Reduces an elementwise loss as the attribute `reduction` says.
fn reduced(r: &mut Recorder, loss: Var) -> Result<(), String> {
    let y = match r.word("reduction", "none")? {
        "none" => loss,
        "sum" => r.tape.sum(loss),
        "mean" => r.tape.mean(loss),
        other => return Err(format!("its attribute reduction is {other:?}, not none, sum or mean")),
    };
    r.output("y", y, Layout::Same)
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
    let logits = r.input("logits", "mk", Layout::Same)?;
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
        r.output(name, v, Layout::Same)?;
    }
    Ok(())
}

fn adam(r: &mut Recorder) -> Result<(), String> {
    let mut inputs = state(r, ["param", "grad", "m", "v"])?;
    inputs.extend([r.scalar("lr", Scalar::LearningRate)?, r.scalar("step", Scalar::Step)?]);
    let op = Op::Adam { beta1: r.number("beta1")?, beta2: r.number("beta2")?, eps: r.number("eps")? };
    let param = r.tape.record(op, &inputs);
    new_state(r, param, ["param", "m", "v"])
}

fn rmsprop(r: &mut Recorder) -> Result<(), String> {
    let mut inputs = state(r, ["param", "grad", "v"])?;
    inputs.push(r.scalar("lr", Scalar::LearningRate)?);
    let param = r.tape.record(Op::RmsProp { alpha: r.number("alpha")?, eps: r.number("eps")? }, &inputs);
    new_state(r, param, ["param", "v"])
}

fn sgd(r: &mut Recorder) -> Result<(), String> {
    let mut inputs = state(r, ["param", "grad", "buf"])?;
    inputs.push(r.scalar("lr", Scalar::LearningRate)?);
    let param = r.tape.record(Op::Sgd { momentum: r.number("momentum")? }, &inputs);
    new_state(r, param, ["param", "buf"])
}

fn categorical(r: &mut Recorder) -> Result<(), String> {
    let logits = r.constant("logits", "mk", Layout::Same)?;
    let u = r.constant("u", "m", Layout::Same)?;
    if r.extent('k') == 0 {
        return Err("its logits have no class to draw".to_string());
    }
    let index = r.tape.categorical(logits, u, r.tape.scalar(Scalar::Temperature));
    r.output("index", index, Layout::Same)
}

/// penalty = mean((|dD/dx| - 1)^2) of a critic with two 4x4 convolutions of stride 2, leaky relu, and a
/// linear layer (Gulrajani et al. 2017, eq. 3). Its gradients are second derivatives.
fn gradient_penalty(r: &mut Recorder) -> Result<(), String> {
    let x_hat = r.constant("x_hat", "nchw", Layout::Image)?;
    let conv1 = r.input("conv1", "oc44", Layout::Conv)?;
    let conv2 = r.input("conv2", "po44", Layout::Conv)?;
    let (attrs, slope) = (ConvAttrs::new(2, 1), r.number("slope")?);
    let first = attrs.geometry(r.tape.shape(x_hat), r.tape.shape(conv1))?;
    let second = attrs.geometry(first.y_shape(), r.tape.shape(conv2))?;
    let map = [second.cout, second.oh, second.ow];
    let features = map.iter().product::<usize>();
    let weight = r.shape("fc")?;
    if weight != [1, features] {
        return Err(format!("its tensor in/fc has the shape {weight:?}, not [1, {features}]"));
    }
    let fc = r.input("fc", "1f", Layout::LinearFromMap(map))?;
    let t = &r.tape;
    let hidden = t.leaky_relu(t.conv(x_hat, conv1, attrs), slope);
    let hidden = t.leaky_relu(t.conv(hidden, conv2, attrs), slope);
    let score = t.matmul(t.reshape(hidden, [second.n, features]), fc, false, false);
    let dx = t.grad(t.sum(score), &[x_hat])[0];
    let norm = t.sqrt(t.sum_rows(t.square(dx)));
    let penalty = t.mean(t.square(t.affine(norm, 1.0, -1.0)));
    r.output("penalty", penalty, Layout::Same)
}
