//! LSTM cells and scans.

use crate::check::case::{Case, CaseInput, drawn, normal};
use crate::check::draw::Draw;
use crate::tape::op::Op;

/// Rows, units.
const CELLS: [[usize; 2]; 5] = [[5, 7], [1, 1], [3, 17], [0, 3], [17, 33]];

pub fn lstm_cell() -> Vec<Case> {
    let one = |[n, h]: [usize; 2], draw: Draw, detail: &str| {
        let inputs = vec![drawn("z", [n, 4 * h], draw), normal("c", [n, h])];
        let case = Case::new("lstm_cell", format!("[{n}x{h}]{detail}"), inputs, |t, v| {
            let [h, c] = t.lstm_cell(v[0], v[1]);
            vec![h, c, t.output_of(h, 2)]
        });
        case.once().graded_outputs(2)
    };
    let mut all: Vec<Case> = CELLS.map(|size| one(size, Draw::Normal, "")).into();
    all.push(one([9, 5], Draw::Saturated, " saturated"));
    all
}

/// Activated gates: near enough to what they can be.
fn gates(name: &'static str, shape: impl Into<crate::shape::Shape>) -> CaseInput {
    drawn(name, shape, Draw::Uniform(0.05, 0.95))
}

pub fn lstm_cell_bwd() -> Vec<Case> {
    let one = |[n, h]: [usize; 2]| {
        let mut inputs = ["dh", "dc_next", "c", "c_next"].map(|name| normal(name, [n, h])).to_vec();
        inputs.push(gates("gates", [n, 4 * h]));
        Case::new("lstm_cell_bwd", format!("[{n}x{h}]"), inputs, |t, v| {
            let dz = t.record(Op::LstmCellBwd, v);
            vec![dz, t.output_of(dz, 1)]
        })
    };
    CELLS.map(one).into()
}

/// Steps, rows, units.
const SCANS: [[usize; 3]; 7] = [[9, 3, 8], [1, 1, 1], [1, 3, 5], [17, 2, 33], [3, 0, 4], [2, 33, 3], [33, 1, 16]];

/// Recurrent weights as small as a trained network has them, so that nothing explodes.
fn w_hh(h: usize) -> CaseInput {
    let bound = 1.0 / (h as f32).sqrt();
    drawn("w_hh", [h, 4 * h], Draw::Uniform(-bound, bound))
}

pub fn lstm() -> Vec<Case> {
    let one = |[t, n, h]: [usize; 3]| {
        let inputs = vec![normal("z", [t, n, 4 * h]), normal("h0", [n, h]), normal("c0", [n, h]), w_hh(h)];
        let case = Case::new("lstm", format!("[{t}x{n}x{h}]"), inputs, |t, v| {
            let [y, c_n] = t.lstm(v[0], v[1], v[2], v[3]);
            vec![y, c_n, t.output_of(y, 2)]
        });
        case.once().graded_outputs(2)
    };
    SCANS.map(one).into()
}

pub fn lstm_bwd() -> Vec<Case> {
    let one = |[t, n, h]: [usize; 3]| {
        let inputs = vec![
            normal("dy", [t, n, h]),
            normal("dc_n", [n, h]),
            normal("c0", [n, h]),
            w_hh(h),
            gates("kept", [t, n, 5 * h]),
        ];
        Case::new("lstm_bwd", format!("[{t}x{n}x{h}]"), inputs, |t, v| {
            let dz = t.record(Op::LstmBwd, v);
            vec![dz, t.output_of(dz, 1), t.output_of(dz, 2)]
        })
    };
    SCANS.map(one).into()
}
