// conv_dx: the rows of a are patches of dy around the input pixels of one stride phase, which are the pixels
// that use the same taps. Read product.wgsl first.

const ALONG_M: bool = false;

/// One axis of a stride phase of conv_dx: the outputs first, first + stride, ..
struct Phase {
    first: u32,
    count: u32,
    /// The first tap that these outputs use, and the number of their taps, which are a stride apart.
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

/// Number of the taps tap, tap + stride, and so on, that are below `end`.
fn taps_below(end: u32, tap: u32, stride: u32) -> u32 {
    if end <= tap {
        return 0u;
    }
    return (end - tap + stride - 1u) / stride;
}

/// The phase of this tile. Browsers do not know that all threads of a workgroup store the same phase here,
/// so what decides whether threads meet at a barrier is not read from these variables.
var<private> rows: Phase;
var<private> columns: Phase;

/// Number of pixels of the phase.
fn phase_len() -> u32 {
    return args.images * rows.count * columns.count;
}

/// Pixel `index` of the phase: row and column are those of dy under the phase's first tap. `end` is that of
/// the largest phase.
fn pixel_of(index: u32, end: u32) -> Pixel {
    let line = index / columns.count;
    let exists = index < min(end, phase_len());
    return Pixel(exists, line / rows.count, rows.source + i32(line % rows.count), columns.source + i32(index % columns.count));
}

/// The place of element (tap of the phase, output channel) of the patch of dy. The row of dy decreases as
/// the tap increases.
fn source(p: Pixel, along: u32) -> u32 {
    let tap = along / args.cout;
    let r = p.row - i32(tap / columns.taps);
    let c = p.column - i32(tap % columns.taps);
    if r < 0 || r >= i32(args.oh) || c < 0 || c >= i32(args.ow) {
        return OUTSIDE;
    }
    return ((p.image * args.oh + u32(r)) * args.ow + u32(c)) * args.cout + along % args.cout;
}

/// Four weights of a row (tap of the phase, output channel).
fn quad_of_b(k: u32, end: u32, column: u32) -> vec4f {
    if k >= end {
        return vec4f(0f);
    }
    let tap = k / args.cout;
    let i = rows.tap + tap / columns.taps * args.stride_h;
    let j = columns.tap + tap % columns.taps * args.stride_w;
    return b_quad((i * args.kw + j) * args.cout + k % args.cout, args.kh * args.kw * args.cout, column);
}

/// The place of pixel `m` of the phase in y.
fn row_of_y(tile: Tile, m: u32) -> u32 {
    let line = m / columns.count;
    let row = line / rows.count * args.h + rows.first + line % rows.count * args.stride_h;
    let at = (row * args.w + columns.first + m % columns.count * args.stride_w) * args.n;
    return select(OUTSIDE, at, m < phase_len());
}

/// dx[images, h, w, cin] from dy and the transposed weights, then the epilogue. Launch: a workgroup for each
/// tile of each stride phase, tiles along n innermost.
@compute @workgroup_size(256)
fn conv_dx(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let index = group_index(group, groups);
    let phase = index / (args.tiles_m * args.tiles_n);
    let phases_w = min(args.stride_w, args.w);
    if phase >= min(args.stride_h, args.h) * phases_w {
        return;
    }
    let along_h = phase_of(phase / phases_w, args.h, args.kh, args.stride_h, args.pad_h);
    let along_w = phase_of(phase % phases_w, args.w, args.kw, args.stride_w, args.pad_w);
    rows = along_h;
    columns = along_w;
    // Open taps of the phase, in order: whole rows of taps, then what is open of the row after them.
    var open = taps_below(args.open_rows, along_h.tap, args.stride_h) * along_w.taps;
    let has_last = args.open_rows >= along_h.tap && (args.open_rows - along_h.tap) % args.stride_h == 0u;
    if has_last {
        open += taps_below(args.open_columns, along_w.tap, args.stride_w);
    }
    var tile = tile_of(index % (args.tiles_m * args.tiles_n));
    tile.end = open * args.cout;
    // Where the tap at the centre of a mask with groups begins: the last tap, if the phase has it.
    let last_column = args.kw / 2u;
    let at_centre = args.groups > 0u && has_last && args.open_columns > last_column
        && last_column >= along_w.tap && (last_column - along_w.tap) % args.stride_w == 0u;
    tile.centre = select(tile.end, tile.end - args.cout, at_centre);
    product(tile, t);
}

/// y[tap][cout, cin] = a[tap][cin, cout], closed weights zero. Launch: 256 threads, ceil(weights / 256)
/// workgroups.
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
