//! What an output of an autoregressive model sees, as a picture: a cell a pixel, a stripe of it a colour.

use super::causality::Support;
use crate::error::Result;
use crate::pictures::grid::{Pictures, grid_png};

/// Width and height of a cell in pixels of the picture, its border included; what three stripes divide, and one.
const CELL: usize = 13;

/// Width of the border.
const BORDER: usize = 1;

type Rgb = [u8; 3];

/// Stripes that are seen: grey, or by colour.
const SEEN: [Rgb; 4] = [[225, 225, 225], [235, 90, 80], [95, 205, 95], [90, 130, 245]];
/// Before the output, but not seen.
const UNSEEN: Rgb = [105, 105, 105];
/// The same within the rows and columns of the context: the blind spot.
const BLIND: Rgb = [255, 150, 0];
/// The output's own dimension.
const OWN: Rgb = [255, 225, 0];
/// Behind the output.
const LATER: Rgb = [30, 30, 30];
/// Seen, although it is the output's own dimension or behind it.
const LEAK: Rgb = [255, 0, 255];
const LINE: Rgb = [0, 0, 0];

/// The colours of the picture in words, for a caption.
pub const LEGEND: &str = "light or coloured: seen; grey: before it, not seen; orange: blind spot; yellow: the output itself; \
    dark: behind it; magenta: a leak";

/// A PNG file with a picture for each of `outputs`, side by side: a cell for each pixel of the input, with a vertical stripe
/// for each of its channels. Inputs and outputs must have equally many channels.
///
/// # Errors
/// Where the picture would be too large for a PNG file.
pub fn receptive_field_png(support: &Support, outputs: &[usize]) -> Result<Vec<u8>> {
    let [height, width, _] = support.input;
    let size = [height * CELL + BORDER, width * CELL + BORDER, 3];
    let panels: Vec<u8> = outputs.iter().flat_map(|output| panel(support, *output)).collect();
    grid_png(Pictures::new(&panels, size), Some(outputs.len()))
}

fn panel(support: &Support, output: usize) -> Vec<u8> {
    let [height, width, channels] = support.input;
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
    let channels = support.input[2];
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
