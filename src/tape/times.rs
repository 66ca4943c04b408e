//! Computes when each position of a value becomes computable while an image is drawn position by position.
//!
//! A *position* is one channel of one pixel. The positions of the image x are drawn in the order of rows,
//! columns and colours. The *time* of a position is the number of positions of x that have to be drawn
//! before it can be computed: 0 if it depends on none, `i + 1` if `i` is the last position that it depends
//! on.
//!
//! Times are propagated through the steps of a plan exactly, tap by tap and colour group by colour group,
//! with one rule per op ([`propagate`]). All images of a batch have the same times. `window.rs` makes a
//! schedule from them.

use super::geometry::ConvGeom;
use super::plan::Step;
use super::window_op::WindowOp;
use crate::shape::ImageSize;
use std::ops::Range;

/// Times of all positions of one image of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Times {
    /// The size as the convolutions see it. A value that is reshaped to rows of channels keeps it.
    pub size: ImageSize,
    /// The first channel of each run, then the number of channels. A *run* is a range of channels with equal
    /// times in every pixel.
    bounds: Vec<usize>,
    /// The times, `[height, width, runs]`.
    at: Vec<u32>,
}

impl Times {
    /// Times of the image itself: each position is known once it is drawn.
    pub fn of_image(size: ImageSize) -> Times {
        let ImageSize { width, channels, .. } = size;
        Times::build(size, (0..channels).collect(), |r, c, k| ((r * width + c) * channels + k.start + 1) as u32)
    }

    /// Evaluates `at(row, column, run of channels)` for every pixel and run. `cuts` are the channels where a
    /// run may begin. Adjacent runs with equal times in every pixel are joined.
    fn build(size: ImageSize, mut cuts: Vec<usize>, at: impl Fn(usize, usize, Range<usize>) -> u32) -> Times {
        let ImageSize { height, width, channels } = size;
        cuts.extend([0, channels]);
        cuts.retain(|cut| *cut <= channels);
        cuts.sort_unstable();
        cuts.dedup();
        let runs = cuts.len() - 1;
        let pixels = (0..height).flat_map(|r| (0..width).map(move |c| (r, c)));
        let all: Vec<u32> = pixels
            .flat_map(|(r, c)| cuts.windows(2).map(move |k| (r, c, k[0]..k[1])))
            .map(|(r, c, run)| at(r, c, run))
            .collect();
        let differs = |run: usize| all.chunks(runs.max(1)).any(|pixel| pixel[run] != pixel[run - 1]);
        let kept: Vec<usize> = (0..runs).filter(|run| *run == 0 || differs(*run)).collect();
        let bounds = kept.iter().map(|run| cuts[*run]).chain([channels]).collect();
        let at = all.chunks(runs.max(1)).flat_map(|pixel| kept.iter().map(|run| pixel[*run])).collect();
        Times { size, bounds, at }
    }

    /// The runs of channels.
    pub fn runs(&self) -> impl ExactSizeIterator<Item = Range<usize>> {
        self.bounds.windows(2).map(|b| b[0]..b[1])
    }

    /// Times of a pixel, one per run.
    pub fn pixel(&self, row: usize, column: usize) -> &[u32] {
        let runs = self.bounds.len() - 1;
        &self.at[(row * self.size.width + column) * runs..][..runs]
    }

    /// The time at which all `channels` of a pixel are computable; 0 if the range is empty.
    pub fn of(&self, row: usize, column: usize, channels: Range<usize>) -> u32 {
        let overlap = |run: &Range<usize>| run.start < channels.end && channels.start < run.end;
        let times = self.runs().zip(self.pixel(row, column)).filter(|(run, _)| overlap(run));
        times.map(|(_, at)| *at).max().unwrap_or(0)
    }

    /// The times of the first `rows` rows.
    pub fn rows(&self, rows: usize) -> Times {
        Times::build(ImageSize { height: rows, ..self.size }, self.bounds.clone(), |r, c, run| self.of(r, c, run))
    }
}

/// The times of a value that a step reads; `None` if the value does not depend on the image.
pub type Read<'a> = Option<&'a Times>;

/// The times of the first output of `step`, from those of its inputs and of the operands of its epilogue. At
/// least one of these has to depend on the image.
///
/// # Errors
/// A clause that says why windows cannot be propagated through this step.
pub fn propagate(step: &Step, inputs: &[Read], fused: &[Read]) -> Result<Times, String> {
    let only = |i: usize| inputs[i].ok_or(format!("its input {i} does not depend on the image but another one does"));
    let last = |i: usize| step.inputs[i].meta.shape.last();
    let op = WindowOp::of(&step.op)?;
    let times = match op {
        WindowOp::Unary(_)
        | WindowOp::Binary(_)
        | WindowOp::Affine { .. }
        | WindowOp::Clamp { .. }
        | WindowOp::Quantize { .. }
        | WindowOp::Dequantize { .. }
        | WindowOp::Bernoulli => elementwise(inputs)?,
        WindowOp::Gated => gated(only(0)?),
        WindowOp::Pad { before, after } => pad(image(step, only(0)?)?, before, after)?,
        WindowOp::Slice { before, after } => slice(image(step, only(0)?)?, before, after)?,
        WindowOp::Conv(g) => conv(g, only(0)?)?,
        WindowOp::Matmul { .. } => {
            let (a, columns) = (only(0)?, step.outputs[0].meta.shape.last());
            let channels = a.size.channels;
            if channels != last(0) {
                return Err(format!("its rows have {} of the {channels} channels of a pixel", last(0)));
            }
            Times::build(ImageSize { channels: columns, ..a.size }, vec![], |r, c, _| a.of(r, c, 0..channels))
        }
        WindowOp::RowLstm => {
            let taps = step.inputs[1].meta.shape.dims()[1];
            scan(only(0)?, Sweep { before: [-1, 0], taps, reverse: false })
        }
        WindowOp::DiagonalLstm { reverse } => {
            let before = [0, if reverse { 1 } else { -1 }];
            scan(only(0)?, Sweep { before, taps: 1, reverse })
        }
        WindowOp::Categorical => categorical(only(0)?, inputs[1], last(0)),
    };
    // Weights are read whole, so they must not depend on the image.
    let is_product =
        matches!(op, WindowOp::Conv(_) | WindowOp::Matmul { .. } | WindowOp::RowLstm | WindowOp::DiagonalLstm { .. });
    let weights = if is_product { &inputs[1..] } else { &[] };
    if weights.iter().any(Option::is_some) {
        return Err("its weights depend on the image".into());
    }
    let mut all = vec![Some(&times)];
    all.extend(fused);
    elementwise(&all)
}

/// The latest time of all inputs, position by position.
fn elementwise(inputs: &[Read]) -> Result<Times, String> {
    let all: Vec<&Times> = inputs.iter().copied().flatten().collect();
    let first = all.first().ok_or("nothing that it reads depends on the image")?;
    if let Some(other) = all.iter().find(|t| t.size != first.size) {
        return Err(format!("it reads images of {} and of {}", first.size, other.size));
    }
    let cuts = all.iter().flat_map(|t| t.bounds.iter().copied()).collect();
    let latest = |r, c, run: Range<usize>| all.iter().map(|t| t.of(r, c, run.clone())).max().unwrap_or(0);
    Ok(Times::build(first.size, cuts, latest))
}

/// Output channel `j` of `c` reads the input channels `j` and `c + j`.
fn gated(x: &Times) -> Times {
    let half = x.size.channels / 2;
    let cuts = x.bounds.iter().flat_map(|b| [*b, b.saturating_sub(half)]).collect();
    Times::build(ImageSize { channels: half, ..x.size }, cuts, |r, c, run| {
        x.of(r, c, run.clone()).max(x.of(r, c, run.start + half..run.end + half))
    })
}

/// The latest time of all open taps inside the image. Every output channel reads a prefix of the channels
/// under the centre tap.
fn conv(g: &ConvGeom, x: &Times) -> Result<Times, String> {
    let read = ImageSize { height: g.h, width: g.w, channels: g.cin };
    if x.size != read {
        return Err(format!("it reads {read} of an image that has {}", x.size));
    }
    let cuts = (1..g.cout).filter(|co| g.open_prefix(*co) != g.open_prefix(co - 1)).collect();
    let whole: Vec<u32> =
        x.at.chunks(x.bounds.len() - 1).map(|pixel| pixel.iter().copied().max().unwrap_or(0)).collect();
    let written = ImageSize { height: g.oh, width: g.ow, channels: g.cout };
    Ok(Times::build(written, cuts, |r, c, run| {
        let mut latest = 0;
        for (i, j) in (0..g.kh).flat_map(|i| (0..g.kw).map(move |j| (i, j))) {
            let channels = g.open_channels(i, j, run.start);
            let y = (r * g.stride[0] + i).checked_sub(g.pad[0]).filter(|y| *y < g.h);
            let x_at = (c * g.stride[1] + j).checked_sub(g.pad[1]).filter(|x| *x < g.w);
            let (Some(y), Some(x_at), true) = (y, x_at, channels > 0) else { continue };
            let time = if channels == g.cin { whole[y * g.w + x_at] } else { x.of(y, x_at, 0..channels) };
            latest = latest.max(time);
        }
        latest
    }))
}

/// The times of the first input, if its shape is that of the images.
fn image<'a>(step: &Step, x: &'a Times) -> Result<&'a Times, String> {
    match step.inputs[0].meta.shape.dims() {
        [_, dims @ ..] if dims == x.size.axes() => Ok(x),
        _ => Err(format!("its input {} does not have the shape of the images, {}", step.inputs[0].meta.shape, x.size)),
    }
}

/// Padding is known from the start, so its time is 0.
fn pad(x: &Times, before: [usize; 4], after: [usize; 4]) -> Result<Times, String> {
    if before[0] + after[0] > 0 {
        return Err("it pads the batch".into());
    }
    let extents = x.size.axes();
    let size: [usize; 3] = std::array::from_fn(|i| before[i + 1] + extents[i] + after[i + 1]);
    let cuts = x.bounds.iter().map(|b| b + before[3]).collect();
    Ok(Times::build(size.into(), cuts, |r, c, run| {
        let inside = |at: usize, axis: usize| at.checked_sub(before[axis]).filter(|at| *at < extents[axis - 1]);
        match (inside(r, 1), inside(c, 2), inside(run.start, 3)) {
            (Some(r), Some(c), Some(k)) => x.of(r, c, k..k + run.len()),
            _ => 0,
        }
    }))
}

fn slice(x: &Times, before: [usize; 4], after: [usize; 4]) -> Result<Times, String> {
    if before[0] + after[0] > 0 {
        return Err("it slices the batch".into());
    }
    let extents = x.size.axes();
    let size: [usize; 3] = std::array::from_fn(|i| extents[i] - before[i + 1] - after[i + 1]);
    let cuts = x.bounds.iter().map(|b| b.saturating_sub(before[3])).collect();
    Ok(Times::build(size.into(), cuts, |r, c, run| {
        x.of(r + before[1], c + before[2], run.start + before[3]..run.end + before[3])
    }))
}

/// How a scan moves over an image.
#[derive(Clone, Copy)]
struct Sweep {
    /// Offset, in rows and columns, from a pixel to the pixel whose cell it reads.
    before: [isize; 2],
    /// Number of states of the row above that a pixel reads, centred on its column.
    taps: usize,
    /// Whether rows are walked from right to left.
    reverse: bool,
}

/// Unit `j` of `d` reads the gates `j`, `d + j`, `2d + j` and `3d + j` and all units of the states that its
/// pixel reads. It also reads unit `j` of the previous cell, which has the time of the state.
fn scan(z: &Times, sweep: Sweep) -> Times {
    let ImageSize { height: h, width: w, channels: gates } = z.size;
    let d = gates / 4;
    let mut cuts: Vec<usize> = z.bounds.iter().map(|b| b % d).chain([0, d]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let runs = cuts.len() - 1;
    let mut at = vec![0; h * w * runs];
    for (r, i) in (0..h).flat_map(|r| (0..w).map(move |i| (r, i))) {
        let c = if sweep.reverse { w - 1 - i } else { i };
        let half = (sweep.taps / 2) as isize;
        let above = (-half..=half).map(|j| [-1, j]);
        let read = above.chain([sweep.before]).filter_map(|[dr, dc]| {
            let (r, c) = (r.checked_add_signed(dr)?, c.checked_add_signed(dc).filter(|c| *c < w)?);
            at[(r * w + c) * runs..][..runs].iter().copied().max()
        });
        let read = read.max().unwrap_or(0);
        for run in 0..runs {
            let of = |gate: usize| z.of(r, c, gate * d + cuts[run]..gate * d + cuts[run + 1]);
            at[(r * w + c) * runs + run] = (0..4).map(of).max().unwrap_or(0).max(read);
        }
    }
    let position = cuts.clone();
    Times::build(ImageSize { channels: d, ..z.size }, cuts, |r, c, run| {
        at[(r * w + c) * runs + position.partition_point(|cut| *cut <= run.start) - 1]
    })
}

/// A draw reads the `k` logits of its position and the uniform number `u`.
fn categorical(logits: &Times, u: Read, k: usize) -> Times {
    let cuts = logits.bounds.iter().flat_map(|b| [b / k, b.div_ceil(k)]);
    let cuts = cuts.chain(u.iter().flat_map(|u| u.bounds.iter().copied())).collect();
    let size = ImageSize { channels: logits.size.channels / k, ..logits.size };
    Times::build(size, cuts, |r, c, run| {
        let uniform = u.map_or(0, |u| u.of(r, c, run.clone()));
        logits.of(r, c, run.start * k..run.end * k).max(uniform)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::geometry::Mask;

    const W: usize = 5;

    fn geom(mask: Mask, groups: usize, blocks: usize, cin: usize, cout: usize) -> ConvGeom {
        let (n, h, w, oh, ow, kh, kw, stride, pad) = (2, W, W, W, W, 3, 3, [1, 1], [1, 1]);
        ConvGeom { n, h, w, cin, oh, ow, cout, kh, kw, stride, pad, mask, groups, blocks }
    }

    #[test]
    fn masks_see_what_is_drawn_before() {
        let x = Times::of_image([W, W, 1].into());
        let (a, b) = (conv(&geom(Mask::A, 1, 1, 1, 4), &x).unwrap(), conv(&geom(Mask::B, 1, 1, 1, 4), &x).unwrap());
        for (r, c) in (0..W).flat_map(|r| (0..W).map(move |c| (r, c))) {
            // At the left edge the last pixel that the mask leaves open is the one to the upper right.
            let above = if r > 0 { (r - 1) * W + (c + 1).min(W - 1) + 1 } else { 0 };
            let left = if c > 0 { r * W + c } else { 0 };
            assert_eq!(a.pixel(r, c), [above.max(left) as u32]);
            assert_eq!(b.pixel(r, c), [(r * W + c + 1) as u32]);
        }
        assert_eq!((a.runs().len(), a.runs().next()), (1, Some(0..4)));
    }

    #[test]
    fn colours_and_blocks_have_times_of_their_own() {
        let x = Times::of_image([W, W, 3].into());
        let a = conv(&geom(Mask::A, 3, 2, 3, 12), &x).unwrap();
        assert_eq!(a.runs().collect::<Vec<_>>(), [0..2, 2..4, 4..6, 6..8, 8..10, 10..12]);
        let first = 3 * (2 * W + 2) as u32;
        assert_eq!(a.pixel(2, 2), [first, first + 1, first + 2, first, first + 1, first + 2]);
        let gate = gated(&a);
        assert_eq!(gate.pixel(2, 2), [first, first + 1, first + 2]);
        let b = conv(&geom(Mask::B, 3, 1, 6, 6), &gate).unwrap();
        assert_eq!(b.pixel(2, 2), gate.pixel(2, 2));
        // Ten logits per colour, then one draw per colour.
        let logits = Times::build([W, W, 30].into(), vec![10, 20], |r, c, k| ((r * W + c) * 3 + k.start / 10) as u32);
        let draw = categorical(&logits, None, 10);
        assert_eq!((draw.size, draw.pixel(2, 2)), ([W, W, 3].into(), &[first, first + 1, first + 2][..]));
        // Without a mask the last colour of the whole 3x3 window determines the time.
        let all = conv(&geom(Mask::None, 1, 1, 3, 4), &x).unwrap();
        assert_eq!(all.pixel(2, 2), [3 * (3 * W + 3 + 1) as u32]);
    }

    #[test]
    fn shifts_move_times_and_padding_is_there_at_once() {
        let x = Times::of_image([W, W, 2].into());
        let padded = pad(&x, [0, 1, 2, 3], [0, 0, 1, 1]).unwrap();
        assert_eq!(padded.size, [W + 1, W + 3, 6].into());
        assert_eq!((padded.of(0, 3, 0..6), padded.of(1, 1, 0..6), padded.of(1, 2, 0..3)), (0, 0, 0));
        assert_eq!((padded.of(1, 2, 3..4), padded.of(1, 2, 0..6)), (1, 2));
        assert_eq!(slice(&padded, [0, 1, 2, 3], [0, 0, 1, 1]).unwrap(), x);
        assert!(pad(&x, [1, 0, 0, 0], [0; 4]).is_err());
    }

    #[test]
    fn states_are_there_with_the_last_gate_and_state_they_read() {
        // The gates of two units, with the times of two colours.
        let at = |r: usize, c: usize, unit: usize| (2 * (r * W + c) + unit) as u32;
        let z = Times::build([W, W, 8].into(), (0..8).collect(), |r, c, k| at(r, c, k.start % 2));
        let row = scan(&z, Sweep { before: [-1, 0], taps: 3, reverse: false });
        assert_eq!(row.pixel(2, 2), [at(2, 2, 0), at(2, 2, 1)]);
        let forward = scan(&z, Sweep { before: [0, -1], taps: 1, reverse: false });
        assert_eq!(forward, row);
        // From right to left, every pixel waits for all units of the last pixel of its row.
        let reverse = scan(&z, Sweep { before: [0, 1], taps: 1, reverse: true });
        assert_eq!(reverse.pixel(2, W - 1), [at(2, W - 1, 0), at(2, W - 1, 1)]);
        assert!((0..W - 1).all(|c| reverse.pixel(2, c) == [at(2, W - 1, 1); 2]));
    }
}
