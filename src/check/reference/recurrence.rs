//! What the recurrent words of the op table record.

use super::layout::MemoryLayout;
use super::ops::mask_attrs;
use super::recorder::Recorder;
use crate::tape::Var;
use crate::tape::geometry::Mask;
use crate::tape::record::ConvAttrs;

/// The weights of an LSTM on the tape. `bias` is the sum of PyTorch's two biases.
struct LstmWeights {
    w_ih: Var,
    w_hh: Var,
    bias: Var,
}

/// Declares both weights and both biases. The gates have the letter g = 4h.
fn lstm_weights(r: &mut Recorder) -> Result<LstmWeights, String> {
    let w_ih = r.input("w_ih", "gi", MemoryLayout::Linear)?;
    let w_hh = r.input("w_hh", "gh", MemoryLayout::Linear)?;
    let (b_ih, b_hh) = (r.input("b_ih", "g", MemoryLayout::Same)?, r.input("b_hh", "g", MemoryLayout::Same)?);
    if r.extent('g') != 4 * r.extent('h') {
        return Err(format!("its weights have {} gates for {} units, not four a unit", r.extent('g'), r.extent('h')));
    }
    Ok(LstmWeights { w_ih, w_hh, bias: r.tape.add(b_ih, b_hh) })
}

pub(super) fn lstm_cell(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "ni", MemoryLayout::Same)?;
    let (h, c) = (r.input("h", "nh", MemoryLayout::Same)?, r.input("c", "nh", MemoryLayout::Same)?);
    let LstmWeights { w_ih, w_hh, bias } = lstm_weights(r)?;
    let t = &r.tape;
    let z = t.add(t.matmul(x, w_ih, false, false), t.matmul(h, w_hh, false, false));
    let [h_next, c_next] = t.lstm_cell(t.add_bias(z, bias), c);
    r.output("h_next", h_next, MemoryLayout::Same)?;
    r.output("c_next", c_next, MemoryLayout::Same)
}

pub(super) fn lstm(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "tni", MemoryLayout::Same)?;
    let (h0, c0) = (r.input("h0", "nh", MemoryLayout::Same)?, r.input("c0", "nh", MemoryLayout::Same)?);
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
    r.output("y", y, MemoryLayout::Same)?;
    r.output("h_n", h_n, MemoryLayout::Same)?;
    r.output("c_n", c_n, MemoryLayout::Same)
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
    let w_is = r.input(scan.w_is, scan.w_is_shape, MemoryLayout::Conv)?;
    let w_ss = r.input(scan.w_ss, scan.w_ss_shape, MemoryLayout::Conv)?;
    let bias = r.input(scan.bias, "g", MemoryLayout::Same)?;
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

pub(super) fn row_lstm(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "nchw", MemoryLayout::Image)?;
    let scan = Scan { w_is: "w_is", w_is_shape: "gc1i", w_ss: "w_ss", w_ss_shape: "gd1k", bias: "b" };
    let ScanInputs { z, w_ss } = scan_inputs(r, x, scan)?;
    let y = r.tape.row_lstm(z, w_ss);
    r.output("y", y, MemoryLayout::Image)
}

impl Scan {
    /// One direction of a Diagonal LSTM.
    fn diagonal(w_is: &'static str, w_ss: &'static str, bias: &'static str) -> Self {
        Scan { w_is, w_is_shape: "gc11", w_ss, w_ss_shape: "gd21", bias }
    }
}

pub(super) fn diagonal_lstm(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "nchw", MemoryLayout::Image)?;
    let ScanInputs { z, w_ss } = scan_inputs(r, x, Scan::diagonal("w_is", "w_ss", "b"))?;
    let y = r.tape.diagonal_lstm(z, w_ss, false);
    r.output("y", y, MemoryLayout::Image)
}

/// The scan from the right is shifted down by one row. Otherwise a pixel would depend on the pixels to
/// its right.
pub(super) fn diagonal_bilstm(r: &mut Recorder) -> Result<(), String> {
    let x = r.input("x", "nchw", MemoryLayout::Image)?;
    let left = scan_inputs(r, x, Scan::diagonal("l_w_is", "l_w_ss", "l_b"))?;
    let right = scan_inputs(r, x, Scan::diagonal("r_w_is", "r_w_ss", "r_b"))?;
    let t = &r.tape;
    let from_left = t.diagonal_lstm(left.z, left.w_ss, false);
    let from_right = t.diagonal_lstm(right.z, right.w_ss, true);
    let y = t.add(from_left, t.shift_down(from_right));
    r.output("y", y, MemoryLayout::Image)
}
