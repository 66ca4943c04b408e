//! Launches of matrix products and convolutions: chooses the tile, the number of blocks, and the chunks of
//! the sum.
//!
//! The tile changes the speed of a product but never its bits, because each element is summed in ascending
//! order of k. The chunks of a sum depend on the extents of the weights and on the length of the sum, and
//! not on the card.

use super::driver::LaunchShape;
use super::kernels::Kernel;
use super::lowering::{Lowering, Ptr, epilogue_pointers, kernel};
use crate::backend::args::{Conv, ConvDw, Epilogue, Matmul, Product, word};
use crate::error::Result;
use crate::tape::geometry::ConvGeom;

/// Steps of k per stage: `BK` of `product.cuh`.
const BK: usize = 16;

/// A tile of outputs, as the kernels with this tile compute it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    rows: usize,
    columns: usize,
    threads: u32,
}

const WIDE: Tile = Tile { rows: 128, columns: 128, threads: 256 };
const MIDDLE: Tile = Tile { rows: 128, columns: 64, threads: 128 };
const NARROW: Tile = Tile { rows: 128, columns: 32, threads: 128 };
const THIN: Tile = Tile { rows: 128, columns: 8, threads: 128 };
const SMALL: Tile = Tile { rows: 32, columns: 32, threads: 64 };

impl Tile {
    /// The grid for a product.
    fn grid(&self, m: usize, n: usize, z: usize) -> Result<[u32; 3]> {
        Ok([word(m.div_ceil(self.rows))?.max(1), word(n.div_ceil(self.columns))?.max(1), word(z)?])
    }

    /// Bytes of shared memory: two stages of A and B, or half of the outputs, whichever is more. If A is
    /// read by rows (`places`), a place per row is added.
    fn shared_bytes(&self, places: bool) -> u32 {
        let Tile { rows, columns, .. } = *self;
        let b = (columns * (BK + 4)).max(BK * (columns + 4));
        let stages = (2 * (rows * (BK + 4) + b)).max(rows / 2 * (columns + 4));
        4 * (stages + if places { 4 * rows } else { 0 }) as u32
    }

    /// The launch of a product. `places` is as for [`Tile::shared_bytes`].
    fn launch_shape(&self, m: usize, n: usize, z: usize, places: bool) -> Result<LaunchShape> {
        let (grid, block) = (self.grid(m, n, z)?, [self.threads, 1, 1]);
        Ok(LaunchShape { grid, block, shared_bytes: self.shared_bytes(places) })
    }

    /// Chooses a tile: the first candidate whose width fits and whose blocks keep all processors busy, else
    /// the last one whose width fits. Large tiles come first, because they read less.
    fn choose(candidates: &[Tile], m: usize, n: usize, z: usize, processors: u32) -> Tile {
        let fits = |t: &&Tile| t.columns <= n.next_power_of_two().max(SMALL.columns);
        let busy = |t: &&Tile| m.div_ceil(t.rows) * n.div_ceil(t.columns) * z >= processors as usize;
        let mut fitting = candidates.iter().filter(fits);
        fitting.clone().find(busy).or(fitting.next_back()).copied().unwrap_or(SMALL)
    }
}

/// The kernels of a convolution with one tile.
#[derive(Clone, Copy)]
struct ConvKernels {
    tile: Tile,
    y: &'static str,
    dx: &'static str,
    dw: &'static str,
}

const CONV: [ConvKernels; 4] = [
    ConvKernels { tile: MIDDLE, y: "conv_128x64", dx: "conv_dx_128x64", dw: "conv_dw_128x64" },
    ConvKernels { tile: NARROW, y: "conv_128x32", dx: "conv_dx_128x32", dw: "conv_dw_128x32" },
    ConvKernels { tile: SMALL, y: "conv_32x32", dx: "conv_dx_32x32", dw: "conv_dw_32x32" },
    ConvKernels { tile: THIN, y: "conv_128x8", dx: "conv_dx_128x8", dw: "conv_dw_128x8" },
];

/// The kernels for a convolution of `m` rows, `n` columns and `z` independent parts.
fn conv_kernels(m: usize, n: usize, z: usize, processors: u32) -> ConvKernels {
    let candidates: &[Tile] = if n <= THIN.columns { &[THIN] } else { &[MIDDLE, NARROW, SMALL] };
    let tile = Tile::choose(candidates, m, n, z, processors);
    CONV.into_iter().find(|kernels| kernels.tile == tile).expect("every candidate has its kernels")
}

/// `y = conv(x, w)`
pub(super) fn conv(l: &mut Lowering, g: &ConvGeom) -> Result<()> {
    let args = Product { conv: Conv::new(g)?, epilogue: Epilogue::new(&l.step.epilogue) };
    let m = g.n * g.oh * g.ow;
    let ConvKernels { tile, y: name, .. } = conv_kernels(m, g.cout, 1, l.card.processors);
    let pointers = operands(l);
    let shape = tile.launch_shape(m, g.cout, 1, true)?;
    l.launch(kernel("conv", name), shape, args, &pointers)
}

/// `dx` from `dy`, one stride phase at a time.
pub(super) fn conv_dx(l: &mut Lowering, g: &ConvGeom) -> Result<()> {
    let args = Product { conv: Conv::new(g)?, epilogue: Epilogue::new(&l.step.epilogue) };
    let phases = g.stride[0] * g.stride[1];
    let m = g.n * g.h.div_ceil(g.stride[0]) * g.w.div_ceil(g.stride[1]);
    let ConvKernels { tile, dx: name, .. } = conv_kernels(m, g.cin, phases, l.card.processors);
    let pointers = operands(l);
    let shape = tile.launch_shape(m, g.cin, phases, true)?;
    l.launch(kernel("conv_dx", name), shape, args, &pointers)
}

/// Bounds of the length of a chunk, in elements of k.
const SHORTEST_CHUNK: usize = 256;
const LONGEST_CHUNK: usize = 4096;

/// How a sum over k is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chunks {
    /// Elements of k per chunk; 0 if k is not cut.
    len: usize,
    /// Number of chunks.
    count: usize,
}

/// The chunks of a product with `m` rows and `n` columns. A product with few outputs has many chunks,
/// because its tiles alone would not keep the card busy.
fn chunks(m: usize, n: usize, k: usize) -> Chunks {
    let tiles = m.div_ceil(128) * n.div_ceil(64);
    let len = (SHORTEST_CHUNK * tiles).clamp(SHORTEST_CHUNK, LONGEST_CHUNK);
    Chunks { len, count: k.div_ceil(len).max(1) }
}

/// `dw` from `x` and `dy`: sums over chunks of pixels, then the sum of the chunks in order.
pub(super) fn conv_dw(l: &mut Lowering, g: &ConvGeom) -> Result<()> {
    let m = g.kh * g.kw * g.cin;
    let Chunks { len: chunk, count: chunks } = chunks(m, g.cout, g.n * g.oh * g.ow);
    let args = ConvDw { conv: Conv::new(g)?, chunk: word(chunk)?, chunks: word(chunks)?, unused: [0; 2] };
    let ConvKernels { tile, dw: name, .. } = conv_kernels(m, g.cout, chunks, l.card.processors);
    let (x, dy, dw) = (l.x(0), l.x(1), l.y(0));
    let out = if chunks == 1 { dw } else { l.scratch(chunks * m * g.cout)? };
    let shape = tile.launch_shape(m, g.cout, chunks, false)?;
    l.launch(kernel("conv_dw", name), shape, args, &[x, dy, out])?;
    if chunks > 1 {
        l.each(kernel("conv_dw", "conv_dw_join"), m * g.cout, args, &[out, dw])?;
    }
    Ok(())
}

/// `c = op(a) op(b)`
pub(super) fn matmul(l: &mut Lowering, ta: bool, tb: bool) -> Result<()> {
    let (a, c) = (l.shape(0), l.written());
    let (m, n, k) = (c.rows(), c.last(), if ta { a.rows() } else { a.last() });
    // Only a product with a transposed a has long sums, over the batch. An epilogue needs the whole sum, so
    // a product with an epilogue is not cut.
    let whole = Chunks { len: 0, count: 1 };
    let cut = if ta && l.step.epilogue.is_empty() { chunks(m, n, k) } else { whole };
    let Chunks { len, count } = if cut.count == 1 { whole } else { cut };
    let args =
        Matmul { m: word(m)?, n: word(n)?, k: word(k)?, chunk: word(len)?, epilogue: Epilogue::new(&l.step.epilogue) };
    let MatmulKernel { tile, kernel: name } =
        matmul_kernel(Transposed { a: ta, b: tb }, m, n, count, l.card.processors);
    let mut pointers = operands(l);
    let out = if count == 1 { pointers[2] } else { l.scratch(count * m * n)? };
    let c = std::mem::replace(&mut pointers[2], out);
    let shape = tile.launch_shape(m, n, count, !ta)?;
    l.launch(name, shape, args, &pointers)?;
    if count > 1 {
        l.each(kernel("matmul", "matmul_join"), m * n, args, &[out, c])?;
    }
    Ok(())
}

/// Which operands of a matrix product are transposed.
#[derive(Clone, Copy)]
struct Transposed {
    a: bool,
    b: bool,
}

/// A kernel of a matrix product with its tile.
struct MatmulKernel {
    tile: Tile,
    kernel: Kernel,
}

/// The kernel for a matrix product of `m` rows, `n` columns and `z` independent parts.
fn matmul_kernel(transposed: Transposed, m: usize, n: usize, z: usize, processors: u32) -> MatmulKernel {
    let Transposed { a: ta, b: tb } = transposed;
    let candidates: &[Tile] = if ta && tb { &[NARROW, SMALL] } else { &[WIDE, NARROW, SMALL] };
    let tile = Tile::choose(candidates, m, n, z, processors);
    let name = match (tile, ta, tb) {
        (WIDE, false, false) => "matmul_nn_128x128",
        (WIDE, false, true) => "matmul_nt_128x128",
        (WIDE, true, _) => "matmul_tn_128x128",
        (NARROW, false, false) => "matmul_nn_128x32",
        (NARROW, false, true) => "matmul_nt_128x32",
        (NARROW, true, false) => "matmul_tn_128x32",
        (NARROW, true, true) => "matmul_tt_128x32",
        (_, false, false) => "matmul_nn_32x32",
        (_, false, true) => "matmul_nt_32x32",
        (_, true, false) => "matmul_tn_32x32",
        (_, true, true) => "matmul_tt_32x32",
    };
    MatmulKernel { tile, kernel: kernel("matmul", name) }
}

/// The pointers of a product with an epilogue: both operands, the output, then the operands of the epilogue.
fn operands(l: &Lowering) -> Vec<Ptr> {
    [vec![l.x(0), l.x(1), l.y(0)], epilogue_pointers(&l.step.epilogue).to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_tiles_for_large_products_and_no_tile_twice_as_wide_as_needed() {
        let tile = |m, n| conv_kernels(m, n, 1, 100).tile;
        assert_eq!([tile(50_176, 64), tile(50_176, 32), tile(50_176, 16)], [MIDDLE, NARROW, NARROW]);
        assert_eq!([tile(50_176, 1), tile(100, 64), tile(2, 9)], [THIN, SMALL, SMALL]);
        assert_eq!(matmul_kernel(Transposed { a: false, b: false }, 2048, 2048, 1, 100).tile, WIDE);
        assert_eq!(matmul_kernel(Transposed { a: true, b: true }, 2048, 2048, 1, 100).tile, NARROW);
    }

    #[test]
    fn sums_are_cut_by_the_weights_alone() {
        assert_eq!(chunks(576, 64, 50_176), Chunks { len: 1280, count: 40 });
        assert_eq!(chunks(576, 64, 100), Chunks { len: 1280, count: 1 });
        assert_eq!(chunks(10, 10, 0), Chunks { len: 256, count: 1 });
    }
}
