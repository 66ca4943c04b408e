//! Windows of LSTM scans. A window is a pixel of every image of a share. It is computed from the states and
//! cells that earlier windows left in y and in `kept`.
//!
//! The contribution of the earlier states to a pixel is a convolution of y: over `k` taps of the row above,
//! or over the pixel above and the previous one. It is added to the gates in one chain of sums, as in the
//! scan of whole images.

use crate::backend::cpu::lstm;
use crate::backend::cpu::product::{Isa, Part, WindowConv};
use crate::shape::ImageSize;
use crate::tape::geometry::{ConvGeom, Mask};
use crate::tape::op::Op;
use crate::tape::plan::Step;
use crate::tape::window::Window;
use std::ops::Range;

/// The size of the states. Their channels are the units.
fn size(step: &Step) -> ImageSize {
    let [_, height, width, channels] = step.outputs[0].meta.shape.padded();
    ImageSize { height, width, channels }
}

/// The convolution of the states y `[n, h, w, d]` whose sums are added to the gates in `kept`
/// `[n, h, w, 5d]`.
///
/// # Errors
/// A clause of a sentence, if the weights have too many rows.
pub(super) fn states(step: &Step, isa: Isa) -> Result<WindowConv, String> {
    let ImageSize { height: h, width: w, channels: d } = size(step);
    let [kh, kw, ..] = step.inputs[1].meta.shape.padded();
    let (n, pad, stride, mask) = (step.outputs[0].meta.shape.padded()[0], [1, kw / 2], [1, 1], Mask::None);
    let geom = ConvGeom { n, h, w, cin: d, oh: h, ow: w, cout: 4 * d, kh, kw, stride, pad, mask, groups: 1, blocks: 1 };
    let first: &[isize] = match step.op {
        Op::DiagonalLstm { reverse: false } => &[0, -1],
        Op::DiagonalLstm { reverse: true } => &[0, 1],
        _ => &[-(geom.pad[1] as isize)],
    };
    Ok(WindowConv::new(isa, geom, false)?.added_to(5 * d, first))
}

/// Gates from z and the states, through the cell, for the units of a window.
pub(super) fn run(
    step: &Step,
    isa: Isa,
    (conv, packed): (&WindowConv, &[f32]),
    window: &Window,
    images: usize,
    z: &[f32],
    [y, kept]: [&mut [f32]; 2],
) {
    let ImageSize { height: h, width: w, channels: d } = size(step);
    // A window of a scan is one pixel. Windows come in the order in which pixels read each other.
    let [Range { start: row, .. }, Range { start: column, .. }, units] = window.ranges();
    let pixel = |image: usize, row: usize, column: usize| (image * h + row) * w + column;
    for image in 0..images {
        let at = pixel(image, row, column);
        for gate in (0..4).map(|gate| gate * d) {
            let units = gate + units.start..gate + units.end;
            kept[at * 5 * d..][units.clone()].copy_from_slice(&z[at * 4 * d..][units]);
        }
    }
    // If all units are computed, all gates of a pixel are contiguous.
    let parts = if units == (0..d) { 1 } else { 4 };
    for gate in (0..parts).map(|gate| gate * d) {
        let channels = gate + units.start..gate + units.start + 4 / parts * units.len();
        let part = Part { rows: row..row + 1, columns: column..column + 1, channels };
        conv.run(packed, &part, images, y, kept, &[]);
    }
    let before = match step.op {
        Op::DiagonalLstm { reverse: false } => column.checked_sub(1).map(|column| (row, column)),
        Op::DiagonalLstm { reverse: true } => Some((row, column + 1)).filter(|(_, column)| *column < w),
        _ => row.checked_sub(1).map(|row| (row, column)),
    };
    for image in 0..images {
        let at = pixel(image, row, column);
        let cells = at * 5 * d + 4 * d + units.start..at * 5 * d + 4 * d + units.end;
        match before {
            Some((row, column)) => {
                let from = pixel(image, row, column) * 5 * d + 4 * d;
                kept.copy_within(from + units.start..from + units.end, cells.start);
            }
            None => kept[cells].fill(0.0),
        }
        let (gates, c) = kept[at * 5 * d..][..5 * d].split_at_mut(4 * d);
        lstm::cell_of_units(isa, gates, units.clone(), c, &mut y[at * d..][..d]);
    }
}
