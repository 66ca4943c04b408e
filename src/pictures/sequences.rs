//! Draws time series as curves over time. Values range from 0 at the lower edge to 1 at the upper edge.

use super::grid::{Pictures, grid_png};
use crate::config::Distribution;
use crate::error::Result;
use crate::models::{Family, Model, Observations};
use crate::shape::ImageSize;

/// The size of a panel.
const PANEL: ImageSize = ImageSize { height: 120, width: 320, channels: 3 };

/// Pixels between the edge and the extremes of a curve.
const MARGIN: f32 = 6.0;

const WHITE: u8 = 255;

/// The colour of lines that divide a panel.
const GREY: [u8; 3] = [0xC8, 0xCC, 0xD2];

/// The colour of the given part, or of a sequence as it is.
const INK: [u8; 3] = [0x1F, 0x24, 0x2E];

/// The colour of sampled continuations.
const DRAWN: [u8; 3] = [0x3B, 0x82, 0xF6];

/// The colour of the true continuation.
const TRUE: [u8; 3] = [0xF0, 0x6A, 0x1E];

/// The colours of the values of one sequence.
const PALETTE: [[u8; 3]; 4] = [[0x3B, 0x82, 0xF6], TRUE, [0x2F, 0xA8, 0x66], [0xB9, 0xBE, 0xC8]];

/// A curve over time.
#[derive(Clone, Debug)]
struct Curve {
    /// The step of its first value.
    from: usize,
    /// Values in 0 to 1, one per step.
    values: Vec<f32>,
    /// Red, green and blue.
    colour: [u8; 3],
    /// Half its width in pixels.
    radius: f32,
}

/// Draws one panel of `steps` steps as RGB bytes. Later curves cover earlier ones. `mark` is a step that
/// is marked by a vertical line.
fn panel(curves: &[Curve], steps: usize, mark: Option<usize>) -> Vec<u8> {
    let ImageSize { height, width, .. } = PANEL;
    let mut canvas = vec![WHITE; PANEL.dims()];
    let x = |step: usize| MARGIN + (width as f32 - 2.0 * MARGIN) * step as f32 / steps.saturating_sub(1).max(1) as f32;
    let y = |value: f32| MARGIN + (height as f32 - 2.0 * MARGIN) * (1.0 - value.clamp(0.0, 1.0));
    let (right, bottom) = (width as f32, height as f32);
    segment(&mut canvas, [[0.0, y(0.5)], [right, y(0.5)]], 0.5, GREY);
    if let Some(step) = mark {
        segment(&mut canvas, [[x(step), 0.0], [x(step), bottom]], 0.7, GREY);
    }
    for curve in curves {
        let point = |i: usize| [x(curve.from + i), y(curve.values[i])];
        for i in 1..curve.values.len() {
            segment(&mut canvas, [point(i - 1), point(i)], curve.radius, curve.colour);
        }
    }
    canvas
}

/// Blends a straight line into the canvas. Its edge is one pixel wide.
fn segment(canvas: &mut [u8], [from, to]: [[f32; 2]; 2], radius: f32, colour: [u8; 3]) {
    let reach = radius + 0.5;
    let span = |axis: usize, size: usize| {
        let low = (from[axis].min(to[axis]) - reach).max(0.0) as usize;
        let high = (from[axis].max(to[axis]) + reach).clamp(0.0, size as f32 - 1.0) as usize;
        low..=high
    };
    let way = [to[0] - from[0], to[1] - from[1]];
    let square = (way[0] * way[0] + way[1] * way[1]).max(1e-12);
    for row in span(1, PANEL.height) {
        for column in span(0, PANEL.width) {
            let [dx, dy] = [column as f32 + 0.5 - from[0], row as f32 + 0.5 - from[1]];
            let along = ((dx * way[0] + dy * way[1]) / square).clamp(0.0, 1.0);
            let distance = (dx - along * way[0]).hypot(dy - along * way[1]);
            let cover = (reach - distance).clamp(0.0, 1.0);
            let pixel = &mut canvas[(row * PANEL.width + column) * PANEL.channels..][..PANEL.channels];
            for (byte, ink) in pixel.iter_mut().zip(colour) {
                *byte = (f32::from(*byte) * (1.0 - cover) + f32::from(ink) * cover + 0.5) as u8;
            }
        }
    }
}

/// Pictures of one size that own their bytes, `[n, height, width, channels]`.
pub struct OwnedPictures {
    /// The bytes of all pictures.
    pub pixels: Vec<u8>,
    /// The size of one picture.
    pub size: ImageSize,
}

impl OwnedPictures {
    /// The same pictures as a view.
    pub fn view(&self) -> Pictures<'_> {
        Pictures::new(&self.pixels, self.size)
    }
}

/// Draws a panel for each sequence, with one curve per value. A sequence is an image `[steps, width, 1]` of
/// bytes.
pub fn panels(bytes: &[u8], sequence: ImageSize) -> OwnedPictures {
    let ImageSize { height: steps, width, .. } = sequence;
    let curve = |sequence: &[u8], value: usize| Curve {
        from: 0,
        values: sequence.iter().skip(value).step_by(width).map(|byte| f32::from(*byte) / 255.0).collect(),
        colour: if width == 1 { INK } else { PALETTE[value % PALETTE.len()] },
        radius: 1.0,
    };
    // The first value of an observation is drawn last, over the others.
    let curves = |sequence: &[u8]| (0..width).rev().map(|value| curve(sequence, value)).collect::<Vec<_>>();
    let panels = bytes.chunks(steps * width).flat_map(|sequence| panel(&curves(sequence), steps, None));
    OwnedPictures { pixels: panels.collect(), size: PANEL }
}

/// Draws continuations of sequences as a PNG file, with one panel per sequence and predicted value. If there
/// is one value per step, the panels are in two columns. `truth` are the sequences `[n, t, w]`, of which the
/// model was given the first `given` steps. `drawn` has all continuations of the first sequence, then all of
/// the second, and so on.
///
/// # Errors
/// If there is no sequence, or the picture is too large.
pub fn futures_png(observations: Observations, truth: &[f32], drawn: &[f32], given: usize) -> Result<Vec<u8>> {
    let Observations { steps, width, .. } = observations;
    let predicted = observations.predicted();
    let len = steps * width;
    let mut panels = vec![];
    for (truth, drawn) in truth.chunks(len).zip(drawn.chunks(drawn.len() * len / truth.len())) {
        for value in 0..predicted {
            let curve = |sequence: &[f32], from: usize, to: usize, colour: [u8; 3], radius: f32| Curve {
                from,
                values: sequence[from * width..to * width].iter().skip(value).step_by(width).copied().collect(),
                colour,
                radius,
            };
            // The curves start at the last step that was given, so that they meet.
            let start = given.saturating_sub(1);
            let mut curves: Vec<Curve> =
                drawn.chunks(len).map(|future| curve(future, start, steps, DRAWN, 0.4)).collect();
            curves.push(curve(truth, start, steps, TRUE, 1.0));
            curves.push(curve(truth, 0, given, INK, 1.0));
            panels.extend(panel(&curves, steps, Some(start)));
        }
    }
    let columns = if predicted == 1 { 2 } else { predicted };
    grid_png(Pictures::new(&panels, PANEL), Some(columns))
}

/// The images `[n, height, width, channels]` of a model as they are shown: sequences of normal values become
/// curves, all other images stay as they are.
pub fn as_pictures(model: &Model, images: Vec<u8>) -> OwnedPictures {
    match &model.family {
        Family::Sequence(net) if net.observations().distribution == Distribution::Normal => {
            panels(&images, model.image)
        }
        _ => OwnedPictures { pixels: images, size: model.image },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(panel: &[u8], row: usize, column: usize) -> [u8; 3] {
        std::array::from_fn(|c| panel[(row * PANEL.width + column) * PANEL.channels + c])
    }

    #[test]
    fn a_curve_goes_from_the_lower_left_to_the_upper_right_over_earlier_ones() {
        let curve = |values: &[f32], colour| Curve { from: 0, values: values.to_vec(), colour, radius: 2.0 };
        let shown = panel(&[curve(&[0.5, 0.5], INK), curve(&[0.0, 1.0], DRAWN)], 2, Some(1));
        assert_eq!((at(&shown, 113, 7), at(&shown, 6, 312)), (DRAWN, DRAWN));
        assert_eq!((at(&shown, 60, 160), at(&shown, 60, 60)), (DRAWN, INK));
        assert_eq!((at(&shown, 20, 20), at(&shown, 100, 300)), ([255; 3], [255; 3]));
        assert_ne!(at(&shown, 100, 314), [255; 3], "the mark");
    }

    #[test]
    fn every_sequence_has_a_panel_and_every_value_a_curve() {
        let panels = panels(&[0, 255, 0, 255, 128, 128, 128, 128], [2, 2, 1].into());
        let shown = &panels.pixels;
        assert_eq!((panels.size, shown.len()), (PANEL, 2 * PANEL.dims()));
        assert_eq!((at(shown, 113, 160), at(shown, 6, 160)), (PALETTE[0], PALETTE[1]));
        let second = &shown[shown.len() / 2..];
        assert_eq!((at(second, 59, 160), at(second, 113, 160)), (PALETTE[0], [255; 3]));
    }
}
