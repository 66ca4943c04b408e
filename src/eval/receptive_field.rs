//! Draws the receptive field of an output of an autoregressive model: one cell per pixel, with one
//! vertical stripe per channel.

use super::causality::Support;
use crate::error::Result;
use crate::pictures::grid::{Pictures, grid_png};
use crate::shape::ImageSize;

/// Width and height of a cell in pixels, including its border. The inside is divisible by three, for
/// three stripes.
const CELL: usize = 13;

/// Width of the border.
const BORDER: usize = 1;

type Rgb = [u8; 3];

/// Seen inputs: grey for one channel, or one colour per channel.
const SEEN: [Rgb; 4] = [[225, 225, 225], [235, 90, 80], [95, 205, 95], [90, 130, 245]];
/// Earlier inputs that are not seen.
const UNSEEN: Rgb = [105, 105, 105];
/// Inputs in the blind spot: not seen, but within the rows and columns of the context.
const BLIND: Rgb = [255, 150, 0];
/// The dimension of the output itself.
const OWN: Rgb = [255, 225, 0];
/// Later inputs.
const LATER: Rgb = [30, 30, 30];
/// Leaks: inputs that are seen although they are the output itself or later.
const LEAK: Rgb = [255, 0, 255];
const LINE: Rgb = [0, 0, 0];

/// The meaning of the colours, for a caption.
pub const LEGEND: &str = "light or coloured: seen; grey: earlier but not seen; orange: blind spot; yellow: the output itself; \
    dark: later; magenta: a leak";

/// Draws a PNG file with one picture per output of `outputs`, next to each other. A picture has one cell
/// per pixel of the input, with one vertical stripe per channel. Inputs and outputs must have the same
/// number of channels.
///
/// # Errors
/// If the picture would be too large for a PNG file.
pub fn receptive_field_png(support: &Support, outputs: &[usize]) -> Result<Vec<u8>> {
    let ImageSize { height, width, .. } = support.input;
    let size = ImageSize { height: height * CELL + BORDER, width: width * CELL + BORDER, channels: 3 };
    let panels: Vec<u8> = outputs.iter().flat_map(|output| panel(support, *output)).collect();
    grid_png(Pictures::new(&panels, size), Some(outputs.len()))
}

fn panel(support: &Support, output: usize) -> Vec<u8> {
    let ImageSize { height, width, channels } = support.input;
    let blind = support.blind_spot(output);
    let row = width * CELL + BORDER;
    let mut canvas = LINE.repeat(row * (height * CELL + BORDER));
    for pixel in 0..height * width {
        let (top, left) = (pixel / width * CELL + BORDER, pixel % width * CELL + BORDER);
        let inside = CELL - BORDER;
        for (y, x) in (0..inside).flat_map(|y| (0..inside).map(move |x| (y, x))) {
            let channel = x * channels / inside;
            let colour = colour(support, output, pixel * channels + channel, blind.contains(&pixel));
            canvas[((top + y) * row + left + x) * 3..][..3].copy_from_slice(&colour);
        }
    }
    canvas
}

fn colour(support: &Support, output: usize, input: usize, is_blind: bool) -> Rgb {
    let channels = support.input.channels;
    let comes_before = input < output;
    if support.sees(output, input) {
        if !comes_before {
            LEAK
        } else if channels == 3 {
            SEEN[1 + input % channels]
        } else {
            SEEN[0]
        }
    } else if comes_before {
        if is_blind { BLIND } else { UNSEEN }
    } else if input == output {
        OWN
    } else {
        LATER
    }
}
