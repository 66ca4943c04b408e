// LSTMs that scan images: Row LSTM and Diagonal LSTM (van den Oord et al. 2016, sections 3.1 and 3.2).
//
// An image is processed line by line, one dispatch per line. A line is a row, or a diagonal: the pixels
// whose row and column, counted along the scan, have the same sum, in place. The pixels of a line are
// independent; a thread computes one unit of one pixel. A loop over lines in the kernel would need one
// workgroup per image, and could run into a watchdog.
// Shapes: y[n, h, w, d], kept[n, h, w, 5d] (activated gates i f g o, cell), w_ss[taps, d, 4d].
// FLOPs: 8 taps d per unit for the recurrent product, 20 (backward: 40) for the cell.
// Bytes: z, y and kept once; w_ss once per line, from the cache.
// Bound by the latency of a line, then by reading w_ss.
// Launch: 256 threads per workgroup; per line ceil(images pixels_of_the_longest_line d / 256) workgroups.

struct ScanArgs {
    images: u32,
    h: u32,
    w: u32,
    /// Hidden units.
    d: u32,
    /// Columns of the row above that a pixel sees (row).
    taps: u32,
    /// 1 if columns run from right to left (diagonal).
    reverse: u32,
    /// The line of this dispatch.
    line: u32,
}

@group(0) @binding(0) var<uniform> args: ScanArgs;
/// z forwards, dy backwards.
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> kept: array<f32>;
/// y forwards, dz backwards.
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
/// kept forwards; backwards the gradient of the cell that a pixel hands on, [n, columns or rows, d].
@group(0) @binding(5) var<storage, read_write> cells: array<f32>;

/// A pixel of a line, or outside the image.
struct Pixel {
    inside: bool,
    row: i32,
    column: i32,
}

fn inside(row: i32, column: i32) -> bool {
    return row >= 0 && row < i32(args.h) && column >= 0 && column < i32(args.w);
}

fn pixel_of(line: u32, position: u32, diagonal: bool) -> Pixel {
    if !diagonal {
        return Pixel(true, i32(line), i32(position));
    }
    let s = i32(line) - i32(position);
    let column = select(s, i32(args.w) - 1 - s, args.reverse == 1u);
    return Pixel(s >= 0 && s < i32(args.w), i32(position), column);
}

/// Pixels of the longest line.
fn positions(diagonal: bool) -> u32 {
    return select(args.w, args.h, diagonal);
}

/// One column on, against the scan.
fn back() -> i32 {
    return select(-1, 1, args.reverse == 1u);
}

/// The pixel that `p` reads by a tap; with `sign` -1 the one that reads `p` by it.
fn neighbour(p: Pixel, tap: u32, sign: i32, diagonal: bool) -> Pixel {
    var row = p.row - sign;
    var column = p.column + sign * (i32(tap) - i32(args.taps / 2u));
    if diagonal {
        row = p.row - select(0, sign, tap == 0u);
        column = p.column + select(sign * back(), 0, tap == 0u);
    }
    return Pixel(inside(row, column), row, column);
}

/// The pixel whose cell `p` takes; with `sign` -1 the one that takes the cell of `p`.
fn cell_neighbour(p: Pixel, sign: i32, diagonal: bool) -> Pixel {
    let row = p.row - select(sign, 0, diagonal);
    let column = p.column + select(0, sign * back(), diagonal);
    return Pixel(inside(row, column), row, column);
}

fn index_of(image: u32, p: Pixel) -> u32 {
    return (image * args.h + u32(p.row)) * args.w + u32(p.column);
}

fn tap_count(diagonal: bool) -> u32 {
    return select(args.taps, 2u, diagonal);
}

/// Element `i` of a line: image, pixel, unit.
fn forward(i: u32, diagonal: bool) {
    let d = args.d;
    let image = i / d / positions(diagonal);
    let p = pixel_of(args.line, i / d % positions(diagonal), diagonal);
    if image < args.images && p.inside {
        let unit = i % d;
        let at = index_of(image, p);
        let z_at = at * 4u * d + unit;
        var z = vec4f(a[z_at], a[z_at + d], a[z_at + 2u * d], a[z_at + 3u * d]);
        for (var tap = 0u; tap < tap_count(diagonal); tap++) {
            let q = neighbour(p, tap, 1, diagonal);
            if q.inside {
                let state = index_of(image, q) * d;
                for (var k = 0u; k < d; k++) {
                    let w_at = (tap * d + k) * 4u * d + unit;
                    let w = vec4f(weights[w_at], weights[w_at + d], weights[w_at + 2u * d], weights[w_at + 3u * d]);
                    z = fma(vec4f(y[state + k]), w, z);
                }
            }
        }
        let q = cell_neighbour(p, 1, diagonal);
        var before = 0f;
        if q.inside {
            before = cells[index_of(image, q) * 5u * d + 4u * d + unit];
        }
        let now = cell(z, before);
        y[at * d + unit] = now.h;
        let to = at * 5u * d + unit;
        cells[to] = now.gates.x;
        cells[to + d] = now.gates.y;
        cells[to + 2u * d] = now.gates.z;
        cells[to + 3u * d] = now.gates.w;
        cells[to + 4u * d] = now.c;
    }
}

/// Element `i` of a line, of which the later ones are done.
fn backward(i: u32, diagonal: bool) {
    let d = args.d;
    let image = i / d / positions(diagonal);
    let p = pixel_of(args.line, i / d % positions(diagonal), diagonal);
    if image < args.images && p.inside {
        let unit = i % d;
        let at = index_of(image, p);
        var dh = a[at * d + unit];
        for (var tap = 0u; tap < tap_count(diagonal); tap++) {
            let q = neighbour(p, tap, -1, diagonal);
            if q.inside {
                let later = index_of(image, q) * 4u * d;
                let w_at = (tap * d + unit) * 4u * d;
                for (var k = 0u; k < 4u * d; k++) {
                    dh = fma(y[later + k], weights[w_at + k], dh);
                }
            }
        }
        let from_kept = at * 5u * d + unit;
        let gates = vec4f(
            kept[from_kept],
            kept[from_kept + d],
            kept[from_kept + 2u * d],
            kept[from_kept + 3u * d],
        );
        let th = math_tanh(vec4f(kept[from_kept + 4u * d])).x;
        let handed_on = i;
        var dc = dh * gates.w * (1f - th * th);
        if cell_neighbour(p, -1, diagonal).inside {
            dc += cells[handed_on];
        }
        let q = cell_neighbour(p, 1, diagonal);
        var before = 0f;
        if q.inside {
            before = kept[index_of(image, q) * 5u * d + 4u * d + unit];
        }
        let to = at * 4u * d + unit;
        y[to] = dc * gates.z * (gates.x * (1f - gates.x));
        y[to + d] = dc * before * (gates.y * (1f - gates.y));
        y[to + 2u * d] = dc * gates.x * (1f - gates.z * gates.z);
        y[to + 3u * d] = dh * th * (gates.w * (1f - gates.w));
        cells[handed_on] = dc * gates.y;
    }
}

@compute @workgroup_size(256)
fn row_lstm(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    forward(group_index(group, groups) * 256u + t, false);
}

@compute @workgroup_size(256)
fn diagonal_lstm(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    forward(group_index(group, groups) * 256u + t, true);
}

@compute @workgroup_size(256)
fn row_lstm_bwd(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    backward(group_index(group, groups) * 256u + t, false);
}

@compute @workgroup_size(256)
fn diagonal_lstm_bwd(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    backward(group_index(group, groups) * 256u + t, true);
}
