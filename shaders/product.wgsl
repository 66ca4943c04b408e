// Products: matmul, conv, conv_dx, conv_dw, as one blocked matrix product with different ways of reading its operands.
//
// c[m, n] = sum over k of a[m, k] b[k, n]. A workgroup of 256 threads makes a tile of c: with COLUMNS = 16 threads side by
// side 64x64 outputs, with COLUMNS = 4 (few channels) 256x16; a thread has 4x4 of them in registers. A tile of a and one of
// b go through workgroup memory, DEPTH rows of k at a time.
//   conv     m = output pixel, n = output channel, k = (tap, input channel); rows of a are gathered from x
//   conv_dx  m = input pixel of one stride phase, n = input channel, k = (tap of the phase, output channel); b = w transposed
//   conv_dw  m = (tap, input channel), n = output channel, k = output pixel, in chunks that are added up in order afterwards
//   matmul   conv with one tap on pixels without neighbours; matmul_ta likewise conv_dw
// Closed taps of a mask are beyond the end of k (conv, conv_dx) or of m (conv_dw); closed channels of the centre tap shorten
// k for the tiles that need none of them. FLOPs: 2 m n k. Bytes: each operand once, a tile once for each tile across it.
// Bound by arithmetic where k and n are above about 64, by memory below.

struct ProductArgs {
    /// What was folded into the end: an operation each, its kind in the low byte, its function above.
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
    /// Colour groups (0: no mask with groups), output channels of a block, 1 for mask B, taps before the centre.
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

/// Threads side by side along n: 16 or 4.
override COLUMNS: u32 = 16u;
/// Rows of k in a tile: 16 with 16 columns, 8 with 4.
override DEPTH: u32 = 16u;
/// Whether the channels of a, and the columns of b, come in fours: then they are read as vec4s.
override ALIGNED_A: bool = true;
override ALIGNED_B: bool = true;

/// [row][k / 4] of 4 neighbours in k; conv_dw: [k][row / 4] of 4 neighbours in m.
var<workgroup> tile_a: array<vec4f, 512>;
/// [k][column / 4]
var<workgroup> tile_b: array<vec4f, 256>;

/// The outputs of this thread: 4 rows of 4 columns.
var<private> c0: vec4f;
var<private> c1: vec4f;
var<private> c2: vec4f;
var<private> c3: vec4f;

fn tile_m() -> u32 {
    return 1024u / COLUMNS;
}

fn tile_n() -> u32 {
    return 4u * COLUMNS;
}

/// c += tile_a tile_b; tile_a holds 4 neighbours in k.
fn multiply(t: u32) {
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
fn multiply_outer(t: u32) {
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

/// Four neighbours of a from `at` on.
fn a_quad(at: u32) -> vec4f {
    return a[at / 4u];
}

fn a_at(at: u32) -> f32 {
    return a[at / 4u][at % 4u];
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

const FUSED_BIAS: u32 = 1u;
const FUSED_ADD: u32 = 2u;
const FUSED_ACT: u32 = 3u;
const FUSED_ACT_BWD: u32 = 4u;

/// Element `j` of those from `at` on; the last one of c beyond its end.
fn neighbour(at: u32, j: u32) -> u32 {
    return min(at + j, args.len - 1u);
}

/// Applies what was folded into the product, to v = c[.., column..column + 4] at `at`.
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
            default: {}
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

/// An output pixel as its rows of a are gathered.
struct Pixel {
    /// Whether there is one.
    exists: bool,
    image: u32,
    /// Row and column of the source under the first tap; may lie in the padding.
    row: i32,
    column: i32,
}

/// Pixel `m` of a dense output of oh x ow.
fn forward_pixel(m: u32, pointwise: bool) -> Pixel {
    if pointwise {
        return Pixel(m < args.m, m, 0, 0);
    }
    let row = m / args.ow;
    let r = i32(row % args.oh * args.stride_h) - i32(args.pad_h);
    let c = i32(m % args.ow * args.stride_w) - i32(args.pad_w);
    return Pixel(m < args.m, row / args.oh, r, c);
}

/// One element of the row that a pixel multiplies.
fn forward_at(p: Pixel, k: u32, end: u32, pointwise: bool) -> f32 {
    if !p.exists || k >= end {
        return 0f;
    }
    if pointwise {
        return a_at(p.image * args.cin + k);
    }
    let tap = k / args.cin;
    let r = p.row + i32(tap / args.kw);
    let c = p.column + i32(tap % args.kw);
    if r < 0 || r >= i32(args.h) || c < 0 || c >= i32(args.w) {
        return 0f;
    }
    return a_at(((p.image * args.h + u32(r)) * args.w + u32(c)) * args.cin + k % args.cin);
}

fn forward_quad(p: Pixel, k: u32, end: u32, pointwise: bool) -> vec4f {
    if !ALIGNED_A {
        return vec4f(
            forward_at(p, k, end, pointwise),
            forward_at(p, k + 1u, end, pointwise),
            forward_at(p, k + 2u, end, pointwise),
            forward_at(p, k + 3u, end, pointwise),
        );
    }
    if !p.exists || k >= args.k {
        return vec4f(0f);
    }
    if pointwise {
        return a_quad(p.image * args.cin + k);
    }
    let tap = k / args.cin;
    let r = p.row + i32(tap / args.kw);
    let c = p.column + i32(tap % args.kw);
    if r < 0 || r >= i32(args.h) || c < 0 || c >= i32(args.w) {
        return vec4f(0f);
    }
    return a_quad(((p.image * args.h + u32(r)) * args.w + u32(c)) * args.cin + k % args.cin);
}

/// A row of four weights, those zero that the output channels do not see.
fn open_quad(row: u32, end: u32, column: u32) -> vec4f {
    let v = b_quad(row, end, column);
    if args.groups == 0u {
        return v;
    }
    let limits = vec4u(limit(column), limit(column + 1u), limit(column + 2u), limit(column + 3u));
    return select(vec4f(0f), v, vec4u(row) < limits);
}

/// conv and matmul: a tile of y[m, n].
fn forward(tile: u32, t: u32, pointwise: bool) {
    let n0 = tile % args.tiles_n * tile_n();
    let m0 = tile / args.tiles_n * tile_m();
    let end = min(args.k, largest_limit(n0, min(n0 + tile_n(), args.n)));
    let deep = DEPTH / 4u;
    // tile_a: a quad of k each of rows t / deep and, with few columns, of as many rows again.
    let row = t / deep;
    let quad = t % deep;
    let second = 256u / deep;
    let p0 = forward_pixel(m0 + row, pointwise);
    let p1 = forward_pixel(m0 + row + second, pointwise);
    c0 = vec4f(0f);
    c1 = vec4f(0f);
    c2 = vec4f(0f);
    c3 = vec4f(0f);
    for (var k0 = 0u; k0 < end; k0 += DEPTH) {
        tile_a[t] = forward_quad(p0, k0 + 4u * quad, end, pointwise);
        if tile_m() > second {
            tile_a[t + 256u] = forward_quad(p1, k0 + 4u * quad, end, pointwise);
        }
        if t < DEPTH * COLUMNS {
            tile_b[t] = open_quad(k0 + t / COLUMNS, end, n0 + t % COLUMNS * 4u);
        }
        workgroupBarrier();
        multiply(t);
        workgroupBarrier();
    }
    let m = m0 + t / COLUMNS * 4u;
    let column = n0 + t % COLUMNS * 4u;
    if column >= args.n {
        return;
    }
    finish(c0, m, column);
    finish(c1, m + 1u, column);
    finish(c2, m + 2u, column);
    finish(c3, m + 3u, column);
}

/// Writes a row of a dense c.
fn finish(v: vec4f, m: u32, column: u32) {
    if m < args.m {
        store(epilogue(v, m * args.n + column, column), m * args.n, column);
    }
}

/// y[m, n] = a[m, k] b[k, n], then the epilogue. Launch: a workgroup for each tile, tiles along n innermost.
@compute @workgroup_size(256)
fn matmul(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let tile = group_index(group, groups);
    if tile < args.tiles_m * args.tiles_n {
        forward(tile, t, true);
    }
}

/// y[images, oh, ow, cout] = conv(x, w), then the epilogue. Launch: as matmul.
@compute @workgroup_size(256)
fn conv(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let tile = group_index(group, groups);
    if tile < args.tiles_m * args.tiles_n {
        forward(tile, t, false);
    }
}

/// One axis of a stride phase of conv_dx: the outputs first, first + stride, ..
struct Phase {
    first: u32,
    count: u32,
    /// The first tap that meets them, and how many do, a stride apart.
    tap: u32,
    taps: u32,
    /// Row of dy under that tap for the first output.
    source: i32,
}

fn phase_of(first: u32, extent: u32, kernel: u32, stride: u32, pad: u32) -> Phase {
    let tap = (first + pad) % stride;
    return Phase(
        first,
        (extent - first + stride - 1u) / stride,
        tap,
        taps_below(kernel, tap, stride),
        i32((first + pad) / stride),
    );
}

/// How many of the taps tap, tap + stride, .. are below `end`.
fn taps_below(end: u32, tap: u32, stride: u32) -> u32 {
    if end <= tap {
        return 0u;
    }
    return (end - tap + stride - 1u) / stride;
}

/// Pixel `m` of a phase: row and column are those of dy under the phase's first tap.
fn backward_pixel(m: u32, rows: Phase, columns: Phase) -> Pixel {
    let line = m / columns.count;
    let exists = m < args.images * rows.count * columns.count;
    return Pixel(exists, line / rows.count, rows.source + i32(line % rows.count), columns.source + i32(m % columns.count));
}

/// One element of the row that a pixel multiplies; taps go up where rows of dy go down.
fn backward_at(p: Pixel, k: u32, end: u32, taps: u32) -> f32 {
    let tap = k / args.cout;
    let r = p.row - i32(tap / taps);
    let c = p.column - i32(tap % taps);
    if !p.exists || k >= end || r < 0 || r >= i32(args.oh) || c < 0 || c >= i32(args.ow) {
        return 0f;
    }
    return a_at(((p.image * args.oh + u32(r)) * args.ow + u32(c)) * args.cout + k % args.cout);
}

fn backward_quad(p: Pixel, k: u32, end: u32, taps: u32) -> vec4f {
    if !ALIGNED_A {
        return vec4f(
            backward_at(p, k, end, taps),
            backward_at(p, k + 1u, end, taps),
            backward_at(p, k + 2u, end, taps),
            backward_at(p, k + 3u, end, taps),
        );
    }
    let tap = k / args.cout;
    let r = p.row - i32(tap / taps);
    let c = p.column - i32(tap % taps);
    if !p.exists || k >= end || r < 0 || r >= i32(args.oh) || c < 0 || c >= i32(args.ow) {
        return vec4f(0f);
    }
    return a_quad(((p.image * args.oh + u32(r)) * args.ow + u32(c)) * args.cout + k % args.cout);
}

/// dx[images, h, w, cin] from dy and the transposed weights, then the epilogue. Launch: a workgroup for each tile of each
/// stride phase, tiles along n innermost.
@compute @workgroup_size(256)
fn conv_dx(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let index = group_index(group, groups);
    let phase = index / (args.tiles_m * args.tiles_n);
    let tile = index % (args.tiles_m * args.tiles_n);
    let phases_w = min(args.stride_w, args.w);
    if phase >= min(args.stride_h, args.h) * phases_w {
        return;
    }
    let rows = phase_of(phase / phases_w, args.h, args.kh, args.stride_h, args.pad_h);
    let columns = phase_of(phase % phases_w, args.w, args.kw, args.stride_w, args.pad_w);
    // Open taps of the phase, in order: whole rows of taps, then what is open of the row after them.
    var open = taps_below(args.open_rows, rows.tap, args.stride_h) * columns.taps;
    let has_last = args.open_rows >= rows.tap && (args.open_rows - rows.tap) % args.stride_h == 0u;
    if has_last {
        open += taps_below(args.open_columns, columns.tap, args.stride_w);
    }
    let end = open * args.cout;
    // Where the tap at the centre of a mask with groups begins: the last tap, if the phase has it.
    let last_column = args.kw / 2u;
    let at_centre = args.groups > 0u && has_last && args.open_columns > last_column
        && last_column >= columns.tap && (last_column - columns.tap) % args.stride_w == 0u;
    let centre = select(end, end - args.cout, at_centre);

    let n0 = tile % args.tiles_n * tile_n();
    let m0 = tile / args.tiles_n * tile_m();
    let deep = DEPTH / 4u;
    let quad = t % deep;
    let second = 256u / deep;
    let p0 = backward_pixel(m0 + t / deep, rows, columns);
    let p1 = backward_pixel(m0 + t / deep + second, rows, columns);
    c0 = vec4f(0f);
    c1 = vec4f(0f);
    c2 = vec4f(0f);
    c3 = vec4f(0f);
    for (var k0 = 0u; k0 < end; k0 += DEPTH) {
        if k0 >= centre {
            // Output channels that see none of this tile's input channels.
            let co = k0 - centre;
            if largest_limit(co, min(co + DEPTH, args.cout)) <= args.centre * args.cin + n0 {
                continue;
            }
        }
        tile_a[t] = backward_quad(p0, k0 + 4u * quad, end, columns.taps);
        if tile_m() > second {
            tile_a[t + 256u] = backward_quad(p1, k0 + 4u * quad, end, columns.taps);
        }
        if t < DEPTH * COLUMNS {
            let k = k0 + t / COLUMNS;
            var v = vec4f(0f);
            if k < end {
                let tap = k / args.cout;
                let i = rows.tap + tap / columns.taps * args.stride_h;
                let j = columns.tap + tap % columns.taps * args.stride_w;
                let all = args.kh * args.kw * args.cout;
                v = b_quad((i * args.kw + j) * args.cout + k % args.cout, all, n0 + t % COLUMNS * 4u);
            }
            tile_b[t] = v;
        }
        workgroupBarrier();
        multiply(t);
        workgroupBarrier();
    }
    let m = m0 + t / COLUMNS * 4u;
    let column = n0 + t % COLUMNS * 4u;
    if column >= args.n {
        return;
    }
    finish_phase(c0, m, column, rows, columns);
    finish_phase(c1, m + 1u, column, rows, columns);
    finish_phase(c2, m + 2u, column, rows, columns);
    finish_phase(c3, m + 3u, column, rows, columns);
}

/// Writes pixel `m` of a phase.
fn finish_phase(v: vec4f, m: u32, column: u32, rows: Phase, columns: Phase) {
    if m < args.images * rows.count * columns.count {
        let line = m / columns.count;
        let row = line / rows.count * args.h + rows.first + line % rows.count * args.stride_h;
        let at = (row * args.w + columns.first + m % columns.count * args.stride_w) * args.n;
        store(epilogue(v, at + column, column), at, column);
    }
}

/// Row (tap, input channel) of the patch of an output pixel.
fn outer_at(p: Pixel, m: u32, pointwise: bool) -> f32 {
    if !p.exists || m >= args.m {
        return 0f;
    }
    if pointwise {
        return a_at(p.image * args.m + m);
    }
    let tap = m / args.cin;
    let r = p.row + i32(tap / args.kw);
    let c = p.column + i32(tap % args.kw);
    if r < 0 || r >= i32(args.h) || c < 0 || c >= i32(args.w) {
        return 0f;
    }
    return a_at(((p.image * args.h + u32(r)) * args.w + u32(c)) * args.cin + m % args.cin);
}

fn outer_quad(p: Pixel, m: u32, pointwise: bool) -> vec4f {
    if !ALIGNED_A {
        return vec4f(
            outer_at(p, m, pointwise),
            outer_at(p, m + 1u, pointwise),
            outer_at(p, m + 2u, pointwise),
            outer_at(p, m + 3u, pointwise),
        );
    }
    if !p.exists || m >= args.m {
        return vec4f(0f);
    }
    if pointwise {
        return a_quad(p.image * args.m + m);
    }
    let tap = m / args.cin;
    let r = p.row + i32(tap / args.kw);
    let c = p.column + i32(tap % args.kw);
    if r < 0 || r >= i32(args.h) || c < 0 || c >= i32(args.w) {
        return vec4f(0f);
    }
    return a_quad(((p.image * args.h + u32(r)) * args.w + u32(c)) * args.cin + m % args.cin);
}

/// Output pixel `k`, if it belongs to the chunk that stops before `end`.
fn outer_pixel(k: u32, end: u32, pointwise: bool) -> Pixel {
    if pointwise {
        return Pixel(k < end, k, 0, 0);
    }
    let row = k / args.ow;
    let r = i32(row % args.oh * args.stride_h) - i32(args.pad_h);
    let c = i32(k % args.ow * args.stride_w) - i32(args.pad_w);
    return Pixel(k < end, row / args.oh, r, c);
}

/// conv_dw and matmul_ta: a tile of one partial sum [chunk][m, n].
fn outer(index: u32, t: u32, pointwise: bool) {
    let chunk = index / (args.tiles_m * args.tiles_n);
    let tile = index % (args.tiles_m * args.tiles_n);
    let n0 = tile % args.tiles_n * tile_n();
    let m0 = tile / args.tiles_n * tile_m();
    // A tile of closed weights has nothing to add up.
    let is_open = m0 < largest_limit(n0, min(n0 + tile_n(), args.n));
    let first = chunk * args.chunk;
    let end = select(first, min(first + args.chunk, args.k), is_open);
    // tile_a: quads of m.
    let quads = tile_m() / 4u;
    let m = m0 + t % quads * 4u;
    let row = t / quads;
    let second = 256u / quads;
    c0 = vec4f(0f);
    c1 = vec4f(0f);
    c2 = vec4f(0f);
    c3 = vec4f(0f);
    for (var k0 = first; k0 < end; k0 += DEPTH) {
        tile_a[t] = outer_quad(outer_pixel(k0 + row, end, pointwise), m, pointwise);
        if DEPTH > second {
            tile_a[t + 256u] = outer_quad(outer_pixel(k0 + row + second, end, pointwise), m, pointwise);
        }
        if t < DEPTH * COLUMNS {
            tile_b[t] = b_quad(k0 + t / COLUMNS, end, n0 + t % COLUMNS * 4u);
        }
        workgroupBarrier();
        multiply_outer(t);
        workgroupBarrier();
    }
    let out = m0 + t / COLUMNS * 4u;
    let column = n0 + t % COLUMNS * 4u;
    if column >= args.n {
        return;
    }
    finish_outer(c0, chunk, out, column);
    finish_outer(c1, chunk, out + 1u, column);
    finish_outer(c2, chunk, out + 2u, column);
    finish_outer(c3, chunk, out + 3u, column);
}

/// Writes a row of a partial sum: exact zeros where the weights are closed. Only a sum that is whole has an epilogue.
fn finish_outer(v: vec4f, chunk: u32, m: u32, column: u32) {
    if m >= args.m {
        return;
    }
    let limits = vec4u(limit(column), limit(column + 1u), limit(column + 2u), limit(column + 3u));
    let open = select(vec4f(0f), v, vec4u(m) < limits);
    let row_at = (chunk * args.m + m) * args.n;
    store(epilogue(open, row_at + column, column), row_at, column);
}

/// y[chunk][m, n] = a[k, m] b[k, n] over the rows k of each chunk. Launch: a workgroup for each tile of each chunk.
@compute @workgroup_size(256)
fn matmul_ta(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let index = group_index(group, groups);
    if index < args.tiles_m * args.tiles_n * args.chunks {
        outer(index, t, true);
    }
}

/// y[chunk][kh, kw, cin, cout] = dw of the output pixels of each chunk. Launch: as matmul_ta.
@compute @workgroup_size(256)
fn conv_dw(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let index = group_index(group, groups);
    if index < args.tiles_m * args.tiles_n * args.chunks {
        outer(index, t, false);
    }
}

/// y[tap][cout, cin] = a[tap][cin, cout], closed weights zero. Launch: 256 threads, ceil(weights / 256) workgroups.
@compute @workgroup_size(256)
fn transpose(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < args.kh * args.kw * args.cin * args.cout {
        let ci = i % args.cin;
        let co = i / args.cin % args.cout;
        let row = i / args.cin / args.cout * args.cin + ci;
        y[i] = select(0f, a_at(row * args.cout + co), row < limit(co));
    }
}
