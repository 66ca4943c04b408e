//! Cases of LSTM cells and scans.

use crate::check::case::{Case, CaseInput, drawn, normal};
use crate::check::elements::Elements;
use crate::tape::op::Op;

/// Rows, units.
const CELLS: [[usize; 2]; 5] = [[5, 7], [1, 1], [3, 17], [0, 3], [17, 33]];

pub fn lstm_cell() -> Vec<Case> {
    let one = |[n, h]: [usize; 2], elements: Elements, detail: &str| {
        let inputs = vec![drawn("z", [n, 4 * h], elements), normal("c", [n, h])];
        let case = Case::new("lstm_cell", format!("[{n}x{h}]{detail}"), inputs, |t, v| {
            let [h, c] = t.lstm_cell(v[0], v[1]);
            vec![h, c, t.output_of(h, 2)]
        });
        case.once().graded_outputs(2)
    };
    let mut all: Vec<Case> = CELLS.map(|size| one(size, Elements::Normal, "")).into();
    all.push(one([9, 5], Elements::Saturated, " saturated"));
    all
}

/// Values in the range of activated gates.
fn gates(name: &'static str, shape: impl Into<crate::shape::Shape>) -> CaseInput {
    drawn(name, shape, Elements::Uniform(0.05, 0.95))
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

/// Recurrent weights as small as those of a trained network, so that the state does not grow.
fn w_hh(h: usize) -> CaseInput {
    let bound = 1.0 / (h as f32).sqrt();
    drawn("w_hh", [h, 4 * h], Elements::Uniform(-bound, bound))
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

/// Images `[n, h, w]`, units and taps of a Row LSTM: one row, one column, and a window wider than the
/// row.
const ROWS: [([usize; 3], usize, usize); 8] = [
    ([2, 3, 17], 5, 3),
    ([1, 1, 1], 1, 1),
    ([1, 1, 17], 3, 3),
    ([3, 17, 1], 4, 3),
    ([2, 5, 3], 33, 5),
    ([1, 33, 3], 2, 1),
    ([17, 2, 2], 16, 5),
    ([0, 3, 3], 4, 3),
];

/// Recurrent weights of a scan over images.
fn w_ss(taps: [usize; 2], d: usize) -> CaseInput {
    let bound = 1.0 / ((taps[0] * taps[1] * d) as f32).sqrt();
    drawn("w_ss", [taps[0], taps[1], d, 4 * d], Elements::Uniform(-bound, bound))
}

/// Gate inputs of a scan and its weights.
fn scan_inputs([n, h, w]: [usize; 3], d: usize, taps: [usize; 2]) -> Vec<CaseInput> {
    vec![normal("z", [n, h, w, 4 * d]), w_ss(taps, d)]
}

/// The inputs of the backward pass of a scan.
fn scan_bwd_inputs([n, h, w]: [usize; 3], d: usize, taps: [usize; 2]) -> Vec<CaseInput> {
    vec![normal("dy", [n, h, w, d]), w_ss(taps, d), gates("kept", [n, h, w, 5 * d])]
}

pub fn row_lstm() -> Vec<Case> {
    let one = |(image, d, k): ([usize; 3], usize, usize)| {
        let [n, h, w] = image;
        let case = Case::new("row_lstm", format!("[{n}x{h}x{w}x{d}] k={k}"), scan_inputs(image, d, [1, k]), |t, v| {
            let y = t.row_lstm(v[0], v[1]);
            vec![y, t.output_of(y, 1)]
        });
        case.once().graded_outputs(1)
    };
    ROWS.map(one).into()
}

pub fn row_lstm_bwd() -> Vec<Case> {
    let one = |(image, d, k): ([usize; 3], usize, usize)| {
        let [n, h, w] = image;
        let inputs = scan_bwd_inputs(image, d, [1, k]);
        Case::new("row_lstm_bwd", format!("[{n}x{h}x{w}x{d}] k={k}"), inputs, |t, v| vec![t.record(Op::RowLstmBwd, v)])
    };
    ROWS.map(one).into()
}

/// Images `[n, h, w]` and units of a Diagonal LSTM: one row, one column, higher than wide, and wider than
/// high.
const DIAGONALS: [([usize; 3], usize); 8] = [
    ([2, 3, 17], 5),
    ([1, 1, 1], 1),
    ([1, 1, 17], 3),
    ([3, 17, 1], 4),
    ([2, 5, 3], 33),
    ([1, 33, 3], 2),
    ([17, 2, 2], 16),
    ([0, 3, 3], 4),
];

/// Every size in both directions.
fn diagonals(one: impl Fn([usize; 3], usize, bool, String) -> Case) -> Vec<Case> {
    let directions = [(false, ""), (true, " reverse")];
    let named = |([n, h, w], d): ([usize; 3], usize)| {
        directions.map(|(reverse, word)| one([n, h, w], d, reverse, format!("[{n}x{h}x{w}x{d}]{word}")))
    };
    DIAGONALS.into_iter().flat_map(named).collect()
}

pub fn diagonal_lstm() -> Vec<Case> {
    diagonals(|image, d, reverse, detail| {
        let case = Case::new("diagonal_lstm", detail, scan_inputs(image, d, [2, 1]), move |t, v| {
            let y = t.diagonal_lstm(v[0], v[1], reverse);
            vec![y, t.output_of(y, 1)]
        });
        case.once().graded_outputs(1)
    })
}

pub fn diagonal_lstm_bwd() -> Vec<Case> {
    diagonals(|image, d, reverse, detail| {
        Case::new("diagonal_lstm_bwd", detail, scan_bwd_inputs(image, d, [2, 1]), move |t, v| {
            vec![t.record(Op::DiagonalLstmBwd { reverse }, v)]
        })
    })
}
