//! Lowers matrix products and convolutions to dispatches of `matmul.wgsl`, `conv.wgsl`, `conv_dx.wgsl` and
//! `conv_dw.wgsl`, and chooses their tiles.

use super::args::{ProductArgs, ReduceArgs};
use super::dispatch::{Dispatch, Launch, Place, out};
use super::reduce::sum;
use super::shaders::Shader;
use crate::backend::args::{Epilogue, fused, fused_operands};
use crate::shape::Shape;
use crate::tape::geometry::ConvGeom;
use crate::tape::plan::Step;

/// Most columns of c for which the narrow tile is used.
const NARROW: usize = 16;
/// A partial sum has `CHUNK` rows of k for every `CHUNK_OUTPUTS` elements of c. If c is large, its partial
/// sums are large too, so there are fewer of them.
const CHUNK: usize = 512;
const CHUNK_OUTPUTS: usize = 16 * 1024;

/// The extents of a product `[m, k] [k, n]`.
#[derive(Clone, Copy)]
struct Extents {
    m: usize,
    k: usize,
    n: usize,
}

/// A kernel of the family with its arguments.
struct Tiled {
    args: ProductArgs,
    shader: Shader,
    entry: &'static str,
    /// Channels of the tensor that a is read from.
    channels: usize,
}

impl Tiled {
    /// The dispatch of `phases` products `[m, k] [k, n]`, one per stride phase or per partial sum.
    fn dispatch(mut self, extents: Extents, phases: usize) -> Dispatch {
        let Extents { m, k, n } = extents;
        let columns = if n <= NARROW { 4 } else { 16 };
        let depth = if n <= NARROW { 8 } else { 16 };
        let (tile_m, tile_n) = (1024 / columns, 4 * columns);
        let (tiles_m, tiles_n) = (m.div_ceil(tile_m), n.div_ceil(tile_n));
        let args = &mut self.args;
        (args.m, args.n, args.k) = (m as u32, n as u32, k as u32);
        (args.tiles_m, args.tiles_n) = (tiles_m as u32, tiles_n as u32);
        Dispatch::new(self.shader, self.entry, args)
            .constant("COLUMNS", columns as u32)
            .constant("DEPTH", depth)
            .constant("ALIGNED_A", u32::from(self.channels.is_multiple_of(4)))
            .constant("ALIGNED_B", u32::from(n.is_multiple_of(4)))
            .groups(tiles_m * tiles_n * phases)
    }
}

/// Binds the epilogue and the output.
fn finish(dispatch: Dispatch, step: &Step, y: Place) -> Dispatch {
    let [bias, added, saved] = fused_operands(&step.epilogue).map(|o| o.map_or(Place::Unused, Place::from));
    dispatch.bind(3, bias).bind(4, added).bind(5, saved).bind(6, y)
}

/// Writes the epilogue of a step into its arguments.
fn set_epilogue(args: &mut ProductArgs, step: &Step) {
    let Epilogue { kinds, act, act_slope, act_bwd, act_bwd_slope } = Epilogue::new(&step.epilogue);
    args.len = step.outputs[0].meta.shape.len() as u32;
    (args.act_slope, args.bwd_slope) = (act_slope, act_bwd_slope);
    args.fused = kinds.map(|kind| match kind {
        fused::ACT => kind | act << 8,
        fused::ACT_BWD => kind | act_bwd << 8,
        other => other,
    });
}

/// A matrix product of `rows` rows as a convolution: each row is an image of one pixel.
fn matrix(rows: usize, cin: usize, cout: usize) -> ConvGeom {
    ConvGeom::product(rows, [1, 1], cin, cout)
}

/// `c[m, n] = op(a) op(b)`, then the epilogue.
pub(super) fn matmul(run: &mut Launch, step: &Step, ta: bool, tb: bool) {
    let (a, c) = (step.inputs[0].meta.shape, step.outputs[0].meta.shape);
    let (m, n, k) = (c.rows(), c.last(), if ta { a.rows() } else { a.last() });
    let b = if tb { transposed(run, &matrix(1, n, k), (&step.inputs[1]).into()) } else { (&step.inputs[1]).into() };
    if ta {
        return outer(run, step, &matrix(k, m, n), b);
    }
    let mut args = ProductArgs::of_geometry(&matrix(m, k, n));
    set_epilogue(&mut args, step);
    let dispatch =
        Tiled { args, shader: Shader::Matmul, entry: "matmul", channels: k }.dispatch(Extents { m, k, n }, 1);
    run.push(finish(dispatch.bind(1, &step.inputs[0]).bind(2, b), step, out(step, 0)));
}

/// `y = conv(x, w)`, then the epilogue.
pub(super) fn conv(run: &mut Launch, step: &Step, g: &ConvGeom) {
    let mut args = ProductArgs::of_geometry(g);
    set_epilogue(&mut args, step);
    let extents = Extents { m: g.n * g.oh * g.ow, k: args.open_taps() as usize * g.cin, n: g.cout };
    let (shader, entry) = if g.is_product() { (Shader::Matmul, "matmul") } else { (Shader::Conv, "conv") };
    let dispatch = Tiled { args, shader, entry, channels: g.cin }.dispatch(extents, 1);
    run.push(finish(dispatch.bind(1, &step.inputs[0]).bind(2, &step.inputs[1]), step, out(step, 0)));
}

/// `dx` of a convolution from `dy`, or the transposed convolution of `dy`, then the epilogue.
pub(super) fn conv_dx(run: &mut Launch, step: &Step, g: &ConvGeom) {
    let w = transposed(run, g, (&step.inputs[1]).into());
    let full = ProductArgs::of_geometry(g);
    let open = full.open_taps() as usize;
    if g.is_product() && open == 1 && full.groups == 0 {
        let pixels = g.n * g.h * g.w;
        let mut args = ProductArgs::of_geometry(&matrix(pixels, g.cout, g.cin));
        set_epilogue(&mut args, step);
        let extents = Extents { m: pixels, k: g.cout, n: g.cin };
        let dispatch = Tiled { args, shader: Shader::Matmul, entry: "matmul", channels: g.cout }.dispatch(extents, 1);
        run.push(finish(dispatch.bind(1, &step.inputs[0]).bind(2, w), step, out(step, 0)));
        return;
    }
    let mut args = full;
    set_epilogue(&mut args, step);
    let pixels = g.n * g.h.div_ceil(g.stride[0]) * g.w.div_ceil(g.stride[1]);
    let phases = g.stride[0].min(g.h) * g.stride[1].min(g.w);
    let extents = Extents { m: pixels, k: open * g.cout, n: g.cin };
    let dispatch = Tiled { args, shader: Shader::ConvDx, entry: "conv_dx", channels: g.cout }.dispatch(extents, phases);
    run.push(finish(dispatch.bind(1, &step.inputs[0]).bind(2, w), step, out(step, 0)));
}

/// `dw` of a convolution from `x` and `dy`; exactly zero for closed weights.
pub(super) fn conv_dw(run: &mut Launch, step: &Step, g: &ConvGeom) {
    outer(run, step, g, (&step.inputs[1]).into());
}

/// Sums over output pixels in chunks whose size depends on the extents of the weights alone, then adds the
/// chunks in order. With an epilogue there is a single chunk, because the epilogue needs the whole sum.
fn outer(run: &mut Launch, step: &Step, g: &ConvGeom, dy: Place) {
    let (m, n, k) = (g.kh * g.kw * g.cin, g.cout, g.n * g.oh * g.ow);
    let chunk = if step.epilogue.is_empty() { CHUNK * (m * n).div_ceil(CHUNK_OUTPUTS).max(1) } else { k.max(1) };
    let chunks = k.div_ceil(chunk).max(1);
    let mut args = ProductArgs::of_geometry(g);
    set_epilogue(&mut args, step);
    (args.chunk, args.chunks) = (chunk as u32, chunks as u32);
    let dispatch = if g.is_product() {
        let tiled = Tiled { args, shader: Shader::Matmul, entry: "matmul_ta", channels: g.cin };
        tiled.dispatch(Extents { m, k, n }, chunks).constant("ALONG_M", 1)
    } else {
        Tiled { args, shader: Shader::ConvDw, entry: "conv_dw", channels: g.cin }.dispatch(Extents { m, k, n }, chunks)
    };
    let dispatch = dispatch.bind(1, &step.inputs[0]).bind(2, dy);
    if chunks == 1 {
        run.push(finish(dispatch, step, out(step, 0)));
        return;
    }
    let partial = run.take_scratch(chunks * m * n);
    run.push(finish(dispatch, step, partial));
    sum(run, ReduceArgs::new(Shape::from([chunks, m * n]), Shape::from([1, m * n])), partial, out(step, 0));
}

/// Transposes the weights to `[kh, kw, cout, cin]`, with zeros for closed weights.
fn transposed(run: &mut Launch, g: &ConvGeom, w: Place) -> Place {
    let len = g.w_shape().len();
    let to = run.take_scratch(len);
    let dispatch = Dispatch::new(Shader::ConvDx, "transpose", &ProductArgs::of_geometry(g));
    run.push(dispatch.bind(1, w).bind(6, to).each(len));
    to
}
