// Products: matmul, conv, conv_dx and conv_dw as one blocked matrix product with different ways to read its
// operands.
//
// c[m, n] = sum over k of a[m, k] b[k, n]. A workgroup of 256 threads computes a tile of c: 64x64 outputs if
// COLUMNS (threads next to each other along n) is 16, and 256x16 if COLUMNS is 4 (few channels). A thread
// holds 4x4 outputs in registers. A tile of a and a tile of b go through workgroup memory, DEPTH rows of k
// at a time.
//   conv     m = output pixel, n = output channel, k = (tap, input channel); rows of a are gathered from x
//   conv_dx  m = input pixel of one stride phase, n = input channel, k = (tap of the phase, output channel);
//            b = w transposed
//   conv_dw  m = (tap, input channel), n = output channel, k = output pixel, in chunks that are added in
//            order
//   matmul   conv with one tap on pixels without neighbours; matmul_ta is conv_dw in the same way
// Closed taps of a mask are beyond the end of k (conv, conv_dx) or of m (conv_dw). Closed channels of the
// centre tap shorten k for the tiles that need none of them.
// FLOPs: 2 m n k. Bytes: each operand once, and each tile once for each tile that it meets.
// Bound by arithmetic if k and n are above about 64, by memory below.
//
// This file is put in front of matmul.wgsl, conv.wgsl, conv_dx.wgsl and conv_dw.wgsl. Each of them defines
// where its operands are:
//   ALONG_M                    whether a is read along m (as weight gradients need it) rather than along k
//   pixel_of(index, end)       the pixel of row `index` of c (ALONG_M: of k), among those before `end`
//   source(pixel, along)       the place in a of element `along` of what that pixel multiplies, or OUTSIDE
//   quad_of_b(k, end, column)  b[k, column..column + 4], zero from `end` on
//   row_of_y(tile, m)          the place in y where row m of c begins, or OUTSIDE

struct ProductArgs {
    /// The operations of the epilogue: the kind in the low byte, the code of the function above it.
    fused: vec4u,
    /// Extents of c and of the sum. conv_dx: m is the number of pixels of the largest phase.
    m: u32,
    n: u32,
    k: u32,
    /// Elements of c.
    len: u32,
    tiles_m: u32,
    tiles_n: u32,
    /// Rows of k that one partial sum of conv_dw takes, and how many partial sums there are.
    chunk: u32,
    chunks: u32,
    /// The geometry as in src/tape/geometry.rs.
    images: u32,
    h: u32,
    w: u32,
    cin: u32,
    oh: u32,
    ow: u32,
    cout: u32,
    kh: u32,
    kw: u32,
    stride_h: u32,
    stride_w: u32,
    pad_h: u32,
    pad_w: u32,
    /// Open taps: all of the rows before `open_rows`, and `open_columns` of that row.
    open_rows: u32,
    open_columns: u32,
    /// Colour groups (0: no mask with groups), output channels of a block, 1 for mask B, taps before the
    /// centre.
    groups: u32,
    block: u32,
    sees_own: u32,
    centre: u32,
    act_slope: f32,
    bwd_slope: f32,
}

@group(0) @binding(0) var<uniform> args: ProductArgs;
/// conv: x[images, h, w, cin]. conv_dx: dy[images, oh, ow, cout]. conv_dw: x. transpose: w[taps, cin, cout].
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
/// conv: w[kh, kw, cin, cout]. conv_dx: w[kh, kw, cout, cin]. conv_dw: dy.
@group(0) @binding(2) var<storage, read> b: array<vec4f>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> added: array<f32>;
@group(0) @binding(5) var<storage, read> saved: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

/// Threads along n: 16 or 4.
override COLUMNS: u32 = 16u;
/// Rows of k in a tile: 16 with 16 columns, 8 with 4.
override DEPTH: u32 = 16u;
/// Whether what a is read along, and the columns of b, come in fours: then they are read as vec4s.
override ALIGNED_A: bool = true;
override ALIGNED_B: bool = true;

/// [row][k / 4] of 4 neighbours in k; ALONG_M: [k][row / 4] of 4 neighbours in m.
var<workgroup> tile_a: array<vec4f, 512>;
/// [k][column / 4]
var<workgroup> tile_b: array<vec4f, 256>;

/// The outputs of this thread: 4 rows of 4 columns.
var<private> c0: vec4f;
var<private> c1: vec4f;
var<private> c2: vec4f;
var<private> c3: vec4f;

/// A tile of c.
struct Tile {
    /// Its first row and column.
    m0: u32,
    n0: u32,
    /// The sum runs over k from `first` up to `end`.
    first: u32,
    end: u32,
    /// From here on k counts output channels at the centre of a mask with groups, which see only some
    /// columns of the tile; `end` where none is like that.
    centre: u32,
    /// Which partial sum it belongs to.
    chunk: u32,
}

/// Tile `index` of [tiles_m][tiles_n], its sum over all of k.
fn tile_of(index: u32) -> Tile {
    return Tile(index / args.tiles_n * tile_m(), index % args.tiles_n * tile_n(), 0u, args.k, args.k, 0u);
}

/// The same for weights that may be masked: the sum ends where no column of the tile sees any more channels.
fn open_tile_of(index: u32) -> Tile {
    var tile = tile_of(index);
    tile.end = min(args.k, seen_by_tile(tile.n0));
    return tile;
}

/// Tile `index` of [chunks][tiles_m][tiles_n], its sum over the k of its chunk. Closed weights have nothing
/// to add up.
fn chunk_tile_of(index: u32) -> Tile {
    let tiles = args.tiles_m * args.tiles_n;
    var tile = tile_of(index % tiles);
    tile.chunk = index / tiles;
    tile.first = tile.chunk * args.chunk;
    let is_open = tile.m0 < seen_by_tile(tile.n0);
    tile.end = select(tile.first, min(tile.first + args.chunk, args.k), is_open);
    tile.centre = tile.end;
    return tile;
}

fn tile_m() -> u32 {
    return 1024u / COLUMNS;
}

fn tile_n() -> u32 {
    return 4u * COLUMNS;
}

/// c += tile_a tile_b; tile_a holds 4 neighbours in k.
fn multiply_along_k(t: u32) {
    let deep = DEPTH / 4u;
    let row = t / COLUMNS * 4u * deep;
    let column = t % COLUMNS;
    for (var k = 0u; k < deep; k++) {
        let a0 = tile_a[row + k];
        let a1 = tile_a[row + deep + k];
        let a2 = tile_a[row + 2u * deep + k];
        let a3 = tile_a[row + 3u * deep + k];
        let b0 = tile_b[4u * k * COLUMNS + column];
        let b1 = tile_b[(4u * k + 1u) * COLUMNS + column];
        let b2 = tile_b[(4u * k + 2u) * COLUMNS + column];
        let b3 = tile_b[(4u * k + 3u) * COLUMNS + column];
        c0 = fma(vec4f(a0.w), b3, fma(vec4f(a0.z), b2, fma(vec4f(a0.y), b1, fma(vec4f(a0.x), b0, c0))));
        c1 = fma(vec4f(a1.w), b3, fma(vec4f(a1.z), b2, fma(vec4f(a1.y), b1, fma(vec4f(a1.x), b0, c1))));
        c2 = fma(vec4f(a2.w), b3, fma(vec4f(a2.z), b2, fma(vec4f(a2.y), b1, fma(vec4f(a2.x), b0, c2))));
        c3 = fma(vec4f(a3.w), b3, fma(vec4f(a3.z), b2, fma(vec4f(a3.y), b1, fma(vec4f(a3.x), b0, c3))));
    }
}

/// c += tile_a tile_b; tile_a holds 4 neighbours in m.
fn multiply_along_m(t: u32) {
    let rows = 256u / COLUMNS;
    let row = t / COLUMNS;
    let column = t % COLUMNS;
    for (var k = 0u; k < DEPTH; k++) {
        let left = tile_a[k * rows + row];
        let right = tile_b[k * COLUMNS + column];
        c0 = fma(vec4f(left.x), right, c0);
        c1 = fma(vec4f(left.y), right, c1);
        c2 = fma(vec4f(left.z), right, c2);
        c3 = fma(vec4f(left.w), right, c3);
    }
}

/// How many rows (tap, input channel) of the weights output channel `co` sees: they are the first ones.
fn limit(co: u32) -> u32 {
    if args.groups == 0u {
        return (args.open_rows * args.kw + args.open_columns) * args.cin;
    }
    let seen = co % args.block * args.groups / args.block + args.sees_own;
    return args.centre * args.cin + min((seen * args.cin + args.groups - 1u) / args.groups, args.cin);
}

/// The largest limit of the output channels from `first` up to `end`: it grows within each block.
fn largest_limit(first: u32, end: u32) -> u32 {
    if args.groups == 0u || first / args.block == (end - 1u) / args.block {
        return limit(end - 1u);
    }
    return limit(args.block - 1u);
}

/// The limits of four neighbouring output channels.
fn limits(column: u32) -> vec4u {
    return vec4u(limit(column), limit(column + 1u), limit(column + 2u), limit(column + 3u));
}

/// How much of the weights some output channel of a tile sees.
fn seen_by_tile(n0: u32) -> u32 {
    return largest_limit(n0, min(n0 + tile_n(), args.n));
}

/// An output pixel as its rows of a are gathered.
struct Pixel {
    /// Whether there is one.
    exists: bool,
    image: u32,
    /// Row and column of the source under the first tap; may lie in the padding.
    row: i32,
    column: i32,
}

/// No element of a, no row of y.
const OUTSIDE: u32 = 0xffffffffu;

/// Pixel `index` of a dense output of oh x ow.
fn output_pixel(index: u32, end: u32) -> Pixel {
    let row = index / args.ow;
    let r = i32(row % args.oh * args.stride_h) - i32(args.pad_h);
    let c = i32(index % args.ow * args.stride_w) - i32(args.pad_w);
    return Pixel(index < end, row / args.oh, r, c);
}

/// The place of element (tap, input channel) of the patch of x under an output pixel.
fn patch_source(p: Pixel, along: u32) -> u32 {
    let tap = along / args.cin;
    let r = p.row + i32(tap / args.kw);
    let c = p.column + i32(tap % args.kw);
    if r < 0 || r >= i32(args.h) || c < 0 || c >= i32(args.w) {
        return OUTSIDE;
    }
    return ((p.image * args.h + u32(r)) * args.w + u32(c)) * args.cin + along % args.cin;
}

fn a_at(at: u32) -> f32 {
    return a[at / 4u][at % 4u];
}

/// Element `along` of what a pixel multiplies, zero from `end` on and in the padding.
fn element_of_a(p: Pixel, along: u32, end: u32) -> f32 {
    if along >= end {
        return 0f;
    }
    let at = source(p, along);
    if at == OUTSIDE {
        return 0f;
    }
    return a_at(at);
}

/// Four neighbours of what a pixel multiplies.
fn quad_of_a(p: Pixel, along: u32, end: u32) -> vec4f {
    if !p.exists || along >= end {
        return vec4f(0f);
    }
    if !ALIGNED_A {
        return vec4f(
            element_of_a(p, along, end),
            element_of_a(p, along + 1u, end),
            element_of_a(p, along + 2u, end),
            element_of_a(p, along + 3u, end),
        );
    }
    let at = source(p, along);
    if at == OUTSIDE {
        return vec4f(0f);
    }
    return a[at / 4u];
}

/// b[row, column..column + 4] of [rows, n], zero outside.
fn b_quad(row: u32, rows: u32, column: u32) -> vec4f {
    if row >= rows || column >= args.n {
        return vec4f(0f);
    }
    let at = row * args.n + column;
    if ALIGNED_B {
        return b[at / 4u];
    }
    var v = vec4f(b[at / 4u][at % 4u], 0f, 0f, 0f);
    if column + 1u < args.n {
        v.y = b[(at + 1u) / 4u][(at + 1u) % 4u];
    }
    if column + 2u < args.n {
        v.z = b[(at + 2u) / 4u][(at + 2u) % 4u];
    }
    if column + 3u < args.n {
        v.w = b[(at + 3u) / 4u][(at + 3u) % 4u];
    }
    return v;
}

/// b[k, column..column + 4] of weights, those zero that the output channels do not see.
fn open_quad(k: u32, end: u32, column: u32) -> vec4f {
    let v = b_quad(k, end, column);
    if args.groups == 0u {
        return v;
    }
    return select(vec4f(0f), v, vec4u(k) < limits(column));
}

const FUSED_NOTHING: u32 = 0u;
const FUSED_BIAS: u32 = 1u;
const FUSED_ADD: u32 = 2u;
const FUSED_ACT: u32 = 3u;
const FUSED_ACT_BWD: u32 = 4u;

/// Element `j` of those from `at` on; the last one of c beyond its end.
fn neighbour(at: u32, j: u32) -> u32 {
    return min(at + j, args.len - 1u);
}

/// Applies the epilogue to v = c[.., column..column + 4], whose place in c is `at`.
fn epilogue(value: vec4f, at: u32, column: u32) -> vec4f {
    var v = value;
    for (var i = 0u; i < 4u; i++) {
        let op = args.fused[i];
        switch op & 255u {
            case FUSED_BIAS: {
                let last = args.n - 1u;
                v += vec4f(bias[column], bias[min(column + 1u, last)], bias[min(column + 2u, last)], bias[min(column + 3u, last)]);
            }
            case FUSED_ADD: {
                v += vec4f(added[at], added[neighbour(at, 1u)], added[neighbour(at, 2u)], added[neighbour(at, 3u)]);
            }
            case FUSED_ACT: {
                v = apply_unary(op >> 8u, args.act_slope, v);
            }
            case FUSED_ACT_BWD: {
                let kept = vec4f(saved[at], saved[neighbour(at, 1u)], saved[neighbour(at, 2u)], saved[neighbour(at, 3u)]);
                v = apply_unary_bwd(op >> 8u, args.bwd_slope, v, kept);
            }
            case FUSED_NOTHING: {}
            default: { v = number_of_bits(NAN); }
        }
    }
    return v;
}

/// Writes 4 neighbours of a row of c that begins at `row_at`.
fn store(v: vec4f, row_at: u32, column: u32) {
    let at = row_at + column;
    y[at] = v.x;
    if column + 1u < args.n {
        y[at + 1u] = v.y;
    }
    if column + 2u < args.n {
        y[at + 2u] = v.z;
    }
    if column + 3u < args.n {
        y[at + 3u] = v.w;
    }
}

/// Where row m of c[chunk][m, n] begins.
fn dense_row(chunk: u32, m: u32) -> u32 {
    return select(OUTSIDE, (chunk * args.m + m) * args.n, m < args.m);
}

/// Writes 4 neighbours of row m of c, the epilogue applied; weights that a mask closes are exactly zero.
fn finish(tile: Tile, v: vec4f, m: u32, column: u32) {
    let row_at = row_of_y(tile, m);
    if row_at == OUTSIDE {
        return;
    }
    var open = v;
    if ALONG_M {
        open = select(vec4f(0f), v, vec4u(m) < limits(column));
    }
    store(epilogue(open, row_at + column, column), row_at, column);
}

/// Whether output channels `co..co + DEPTH` see none of a tile's input channels at the centre tap.
fn is_closed(co: u32, n0: u32) -> bool {
    return largest_limit(co, min(co + DEPTH, args.cout)) <= args.centre * args.cin + n0;
}

/// The place `slot` of tile_a at step k0. `pixel` is that of its row, which stays; ALONG_M pixels go by with
/// k.
fn fill_slot(tile: Tile, slot: u32, k0: u32, pixel: Pixel) {
    if ALONG_M {
        let quads = tile_m() / 4u;
        let passing = pixel_of(k0 + slot / quads, tile.end);
        tile_a[slot] = quad_of_a(passing, tile.m0 + slot % quads * 4u, args.m);
    } else {
        tile_a[slot] = quad_of_a(pixel, k0 + slot % (DEPTH / 4u) * 4u, tile.end);
    }
}

/// A tile of y. Called by all threads of a workgroup.
fn product(tile: Tile, t: u32) {
    // Places of tile_a in the second half are there with few columns only.
    let has_second = tile_m() * DEPTH > 1024u;
    let p0 = pixel_of(tile.m0 + t / (DEPTH / 4u), args.m);
    let p1 = pixel_of(tile.m0 + (t + 256u) / (DEPTH / 4u), args.m);
    let column = tile.n0 + t % COLUMNS * 4u;
    c0 = vec4f(0f);
    c1 = vec4f(0f);
    c2 = vec4f(0f);
    c3 = vec4f(0f);
    for (var k0 = tile.first; k0 < tile.end; k0 += DEPTH) {
        if k0 >= tile.centre && is_closed(k0 - tile.centre, tile.n0) {
            continue;
        }
        fill_slot(tile, t, k0, p0);
        if has_second {
            fill_slot(tile, t + 256u, k0, p1);
        }
        if t < DEPTH * COLUMNS {
            tile_b[t] = quad_of_b(k0 + t / COLUMNS, tile.end, column);
        }
        workgroupBarrier();
        if ALONG_M {
            multiply_along_m(t);
        } else {
            multiply_along_k(t);
        }
        workgroupBarrier();
    }
    if column >= args.n {
        return;
    }
    let m = tile.m0 + t / COLUMNS * 4u;
    finish(tile, c0, m, column);
    finish(tile, c1, m + 1u, column);
    finish(tile, c2, m + 2u, column);
    finish(tile, c3, m + 3u, column);
}
