// Batch and layer normalisation of x[rows, width], group normalisation of x[images, rows, width].
//
// Statistics are two-pass within a chunk of rows. The chunks are joined relative to the mean of the first
// chunk (Chan et al. 1979), so a large mean does not swallow a small variance. In f32 the mean itself may be
// coarse compared with such a deviation, so its rounding error is carried along, in the forward and the
// backward pass.
// FLOPs: 7 per element forward, 10 backward. Bytes: x is read two or three times, y is written once. Bound
// by memory.

struct NormArgs {
    rows: u32,
    width: u32,
    /// Rows of a chunk, number of chunks, and threads along the width (a power of two).
    chunk_rows: u32,
    chunks: u32,
    columns: u32,
    eps: f32,
    /// Code and slope of the activation after batch norm; the code is NO_FUNCTION if there is none.
    act: u32,
    slope: f32,
    /// Number of images, each of `rows` rows with statistics of its own, and number of neighbouring columns
    /// that share their statistics.
    images: u32,
    share: u32,
}

@group(0) @binding(0) var<uniform> args: NormArgs;
/// x in the forward passes, dy in the backward passes; the statistics or sums of the chunks in the joins.
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
@group(0) @binding(4) var<storage, read> p: array<f32>;
@group(0) @binding(5) var<storage, read> q: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read_write> out1: array<f32>;
@group(0) @binding(8) var<storage, read_write> out2: array<f32>;

var<workgroup> lanes: array<vec4f, 256>;

/// The sum over all threads of a column of the workgroup; each of them gets it. All threads must call it.
fn sum_of_column(t: u32, columns: u32, value: vec4f) -> vec4f {
    workgroupBarrier();
    lanes[t] = value;
    for (var width = 128u; width >= columns; width /= 2u) {
        workgroupBarrier();
        if t < width {
            lanes[t] += lanes[t + width];
        }
    }
    workgroupBarrier();
    return lanes[t % columns];
}

/// The elements of a that a thread visits: at, at + step, and so on, before `end`.
struct Lane {
    at: u32,
    step: u32,
    end: u32,
}

/// Statistics of the n elements of a that the threads of a column of the workgroup visit: their mean, the
/// sum of the deviations from this mean, and the sum of the squared deviations. All threads must call it.
fn statistics(t: u32, columns: u32, lane: Lane, n: u32) -> vec3f {
    var total = 0f;
    for (var i = lane.at; i < lane.end; i += lane.step) {
        total += a[i];
    }
    let mean = sum_of_column(t, columns, vec4f(total, 0f, 0f, 0f)).x / f32(max(n, 1u));
    var sums = vec4f(0f);
    for (var i = lane.at; i < lane.end; i += lane.step) {
        let d = a[i] - mean;
        sums += vec4f(d, d * d, 0f, 0f);
    }
    return vec3f(mean, sum_of_column(t, columns, sums).xy);
}

/// The part of a row that thread t of a workgroup visits.
fn lane_of_row(row: u32, t: u32) -> Lane {
    return Lane(row * args.width + t, 256u, (row + 1u) * args.width);
}

/// A column of a chunk of rows, and the part of it that a thread visits.
struct ChunkColumn {
    /// Index over the chunks of all images. It is the same for all threads, and may be beyond the last
    /// chunk.
    chunk: u32,
    image: u32,
    /// If it is not below the width, there is no such column, and the lane is empty.
    column: u32,
    /// Number of rows of the chunk.
    rows: u32,
    lane: Lane,
}

/// Workgroups of a chunk.
fn blocks_of_chunk() -> u32 {
    return (args.width + args.columns - 1u) / args.columns;
}

/// Whether a workgroup with this index has a chunk. All its threads agree, and a browser can see that they
/// do, because nothing here depends on the thread.
fn has_chunk(index: u32) -> bool {
    return index / blocks_of_chunk() < args.images * args.chunks;
}

fn chunk_column(index: u32, t: u32) -> ChunkColumn {
    let blocks = blocks_of_chunk();
    let chunk = index / blocks;
    let column = index % blocks * args.columns + t % args.columns;
    let image = chunk / args.chunks;
    let begin = min(chunk % args.chunks * args.chunk_rows, args.rows);
    let start = image * args.rows + begin;
    let stop = image * args.rows + min(begin + args.chunk_rows, args.rows);
    let first = (start + t / args.columns) * args.width + column;
    let end = stop * args.width;
    return ChunkColumn(chunk, image, column, stop - start, Lane(select(end, first, column < args.width), 256u / args.columns * args.width, end));
}

/// y[chunk, count, column] = the first `count` of these values. All threads call it; the first thread of
/// each column writes.
fn store_of_chunk(t: u32, c: ChunkColumn, count: u32, values: vec3f) {
    if t < args.columns && c.column < args.width {
        for (var i = 0u; i < count; i++) {
            y[(c.chunk * count + i) * args.width + c.column] = values[i];
        }
    }
}

/// With a = x: y[chunk, 3, width], where chunks are counted over all images: for each column of a chunk, the
/// mean, then the sum and the sum of squares of the deviations from this mean. Launch: 256 threads,
/// ceil(width / columns) workgroups per chunk.
@compute @workgroup_size(256)
fn batch_norm_statistics(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let index = group_index(group, groups);
    if !has_chunk(index) {
        return;
    }
    let c = chunk_column(index, t);
    store_of_chunk(t, c, 3u, statistics(t, args.columns, c.lane, c.rows));
}

/// Input: a = the statistics of all chunks, b = beta, gamma. Output: y = factors[2, width] (scale, shift),
/// out1 = mean, out2 = inv_std. Launch: 256 threads, ceil(width / 256) workgroups.
@compute @workgroup_size(256)
fn batch_norm_join(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let j = group_index(group, groups) * 256u + t;
    if j < args.width {
        let all = f32(max(args.rows, 1u));
        // All means are taken relative to the mean of the first chunk, so that small differences stay exact.
        let base = a[j];
        var weighted = 0f;
        for (var chunk = 0u; chunk < args.chunks; chunk++) {
            let at = chunk * 3u * args.width + j;
            let n = f32(min(args.rows - chunk * args.chunk_rows, args.chunk_rows));
            weighted += n * (a[at] - base) + a[at + args.width];
        }
        let shift = weighted / all;
        var squares = 0f;
        for (var chunk = 0u; chunk < args.chunks; chunk++) {
            let at = chunk * 3u * args.width + j;
            let n = f32(min(args.rows - chunk * args.chunk_rows, args.chunk_rows));
            let sum = a[at + args.width];
            let mean_off = sum / max(n, 1f);
            let off = (a[at] - base) + mean_off - shift;
            squares += (a[at + 2u * args.width] - sum * mean_off) + n * off * off;
        }
        let mean = base + shift;
        // Rounding may give a negative variance, which becomes 0. NaN stays NaN.
        let variance = squares / all;
        let inv_std = 1f / sqrt(select(variance, 0f, variance < 0f) + args.eps);
        let scale = gamma[j] * inv_std;
        out1[j] = mean;
        out2[j] = inv_std;
        y[j] = scale;
        y[args.width + j] = b[j] - (shift - (mean - base)) * scale;
    }
}

/// y = act((a - p) scale + shift) with a = x, p = mean, q = the factors. Launch: 256 threads, ceil(elements
/// / 256) workgroups.
@compute @workgroup_size(256)
fn batch_norm(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < args.rows * args.width {
        let j = i % args.width;
        let v = (a[i] - p[j]) * q[j] + q[args.width + j];
        if args.act == NO_FUNCTION {
            y[i] = v;
        } else {
            y[i] = apply_unary(args.act, args.slope, vec4f(v)).x;
        }
    }
}

/// With a = dy, b = x, p = mean: y[chunk, 3, width] = for each column of a chunk, the sums of dy, of dy (x -
/// mean) and of x - mean. `share` neighbouring columns of an image have the same mean. Launch: as
/// batch_norm_statistics.
@compute @workgroup_size(256)
fn batch_norm_bwd_sums(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let index = group_index(group, groups);
    if !has_chunk(index) {
        return;
    }
    let c = chunk_column(index, t);
    var sums = vec4f(0f);
    let mean = p[(c.image * args.width + min(c.column, args.width - 1u)) / args.share];
    for (var i = c.lane.at; i < c.lane.end; i += c.lane.step) {
        let d = b[i] - mean;
        sums += vec4f(a[i], a[i] * d, d, 0f);
    }
    store_of_chunk(t, c, 3u, sum_of_column(t, args.columns, sums).xyz);
}

/// Input: a = the sums of all chunks, gamma, q = inv_std. Output: out1 = dgamma, out2 = dbeta, and y =
/// factors[3, width]: the factor of dy, the factor of x - mean, and the shift. Launch: as batch_norm_join.
@compute @workgroup_size(256)
fn batch_norm_bwd_join(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let j = group_index(group, groups) * 256u + t;
    if j < args.width {
        let n = f32(max(args.rows, 1u));
        var sums = vec3f(0f);
        for (var chunk = 0u; chunk < args.chunks; chunk++) {
            let at = chunk * 3u * args.width + j;
            sums += vec3f(a[at], a[at + args.width], a[at + 2u * args.width]);
        }
        // The exact mean minus the rounded mean.
        let off = sums.z / n;
        let product = sums.y - sums.x * off;
        let scale = gamma[j] * q[j];
        let by_x = -scale * q[j] * q[j] * product / n;
        out1[j] = product * q[j];
        out2[j] = sums.x;
        y[j] = scale;
        y[args.width + j] = by_x;
        y[2u * args.width + j] = -scale * sums.x / n - by_x * off;
    }
}

/// y = dx = q[0] dy + (q[1] (x - mean) + q[2]) with a = dy, b = x, p = mean, q = the factors. Launch: as
/// batch_norm.
@compute @workgroup_size(256)
fn batch_norm_bwd(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < args.rows * args.width {
        let j = i % args.width;
        y[i] = q[j] * a[i] + (q[args.width + j] * (b[i] - p[j]) + q[2u * args.width + j]);
    }
}

/// y = (a - p) / sqrt(q + eps) gamma + b with a = x, b = beta, p = mean, q = variance. Launch: as
/// batch_norm.
@compute @workgroup_size(256)
fn batch_norm_infer(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < args.rows * args.width {
        let j = i % args.width;
        y[i] = (a[i] - p[j]) * (gamma[j] / sqrt(q[j] + args.eps)) + b[j];
    }
}

/// y = (a - mean) inv_std gamma + b with a = x, b = beta and the statistics of each row; out1 = mean, out2 =
/// inv_std.
/// Launch: 256 threads, one workgroup per row.
@compute @workgroup_size(256)
fn layer_norm(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let row = group_index(group, groups);
    if row >= args.rows {
        return;
    }
    let lane = lane_of_row(row, t);
    let found = statistics(t, 1u, lane, args.width);
    let means = found.yz / f32(max(args.width, 1u));
    let variance = means.y - means.x * means.x;
    let inv_std = 1f / sqrt(select(variance, 0f, variance < 0f) + args.eps);
    for (var i = lane.at; i < lane.end; i += lane.step) {
        let j = i - row * args.width;
        y[i] = ((a[i] - found.x) - means.x) * inv_std * gamma[j] + b[j];
    }
    if t == 0u {
        out1[row] = found.x + means.x;
        out2[row] = inv_std;
    }
}

/// With a = dy, b = x, p = mean, q = inv_std: y = dx of each row, out1[row] = the exact mean minus the
/// rounded mean. Launch: as layer_norm.
@compute @workgroup_size(256)
fn layer_norm_bwd(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let row = group_index(group, groups);
    if row >= args.rows {
        return;
    }
    let start = row * args.width;
    let n = f32(max(args.width, 1u));
    let mean = p[row];
    let inv_std = q[row];
    var sums = vec4f(0f);
    for (var j = t; j < args.width; j += 256u) {
        sums += vec4f(b[start + j] - mean, a[start + j] * gamma[j], 0f, 0f);
    }
    let means = sum_of_column(t, 1u, sums) / n;
    var total = 0f;
    for (var j = t; j < args.width; j += 256u) {
        total += a[start + j] * gamma[j] * ((b[start + j] - mean) - means.x);
    }
    let product = sum_of_column(t, 1u, vec4f(total, 0f, 0f, 0f)).x / n;
    let k = inv_std * inv_std * product;
    for (var j = t; j < args.width; j += 256u) {
        y[start + j] = inv_std * ((a[start + j] * gamma[j] - means.y) - ((b[start + j] - mean) - means.x) * k);
    }
    if t == 0u {
        out1[row] = means.x;
    }
}

/// With a = dy, b = x, p = mean, q = inv_std, gamma = out1 of layer_norm_bwd: y[chunk, 2, width] = for each
/// column of a chunk, the sums of dy xhat and of dy. Launch: as batch_norm_statistics.
@compute @workgroup_size(256)
fn layer_norm_bwd_sums(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let index = group_index(group, groups);
    if !has_chunk(index) {
        return;
    }
    let c = chunk_column(index, t);
    var sums = vec4f(0f);
    for (var i = c.lane.at; i < c.lane.end; i += c.lane.step) {
        let row = i / args.width;
        let xhat = ((b[i] - p[row]) - gamma[row]) * q[row];
        sums += vec4f(a[i] * xhat, a[i], 0f, 0f);
    }
    store_of_chunk(t, c, 2u, sum_of_column(t, args.columns, sums).xyz);
}

// Group norm: mean and inv_std are [images, width / share]; `share` neighbouring columns of an image share
// them. The passes over x and dy are the chunk kernels of batch norm.

/// Input: a = the statistics of all chunks, b = beta, gamma. Output: y = factors[2, images, width] (scale,
/// shift), out1 = mean, out2 = inv_std. Launch: 256 threads, ceil(groups of all images / 256) workgroups.
@compute @workgroup_size(256)
fn group_norm_join(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let g = group_index(group, groups) * 256u + t;
    let groups_of_image = args.width / args.share;
    if g < args.images * groups_of_image {
        let image = g / groups_of_image;
        let first = g % groups_of_image * args.share;
        let part = image * args.chunks * 3u * args.width;
        let all = f32(max(args.rows * args.share, 1u));
        // All means are taken relative to the mean of the group's first column in the first chunk, so that
        // small differences stay exact.
        let base = a[part + first];
        var weighted = 0f;
        for (var chunk = 0u; chunk < args.chunks; chunk++) {
            let n = f32(min(args.rows - chunk * args.chunk_rows, args.chunk_rows));
            for (var j = first; j < first + args.share; j++) {
                let at = part + chunk * 3u * args.width + j;
                weighted += n * (a[at] - base) + a[at + args.width];
            }
        }
        let shift = weighted / all;
        var squares = 0f;
        for (var chunk = 0u; chunk < args.chunks; chunk++) {
            let n = f32(min(args.rows - chunk * args.chunk_rows, args.chunk_rows));
            for (var j = first; j < first + args.share; j++) {
                let at = part + chunk * 3u * args.width + j;
                let sum = a[at + args.width];
                let mean_off = sum / max(n, 1f);
                let off = (a[at] - base) + mean_off - shift;
                squares += (a[at + 2u * args.width] - sum * mean_off) + n * off * off;
            }
        }
        let mean = base + shift;
        // Rounding may give a negative variance, which becomes 0. NaN stays NaN.
        let variance = squares / all;
        let inv_std = 1f / sqrt(select(variance, 0f, variance < 0f) + args.eps);
        out1[g] = mean;
        out2[g] = inv_std;
        for (var j = first; j < first + args.share; j++) {
            let scale = gamma[j] * inv_std;
            y[image * args.width + j] = scale;
            y[(args.images + image) * args.width + j] = b[j] - (shift - (mean - base)) * scale;
        }
    }
}

/// y = (a - p) scale + shift with a = x, p = mean, q = the factors. Launch: 256 threads, ceil(elements /
/// 256) workgroups.
@compute @workgroup_size(256)
fn group_norm(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < args.images * args.rows * args.width {
        let at = i / (args.rows * args.width) * args.width + i % args.width;
        y[i] = (a[i] - p[at / args.share]) * q[at] + q[args.images * args.width + at];
    }
}

/// Input: a = the sums of all chunks, gamma, q = inv_std. Output: y = by_dy[images, width], by_x[images,
/// width / share] and shift[images, width / share], one after another; out1[images, 2, width] = the sums of
/// dy xhat and of dy over an image. Launch: as group_norm_join.
@compute @workgroup_size(256)
fn group_norm_bwd_join(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let g = group_index(group, groups) * 256u + t;
    let groups_of_image = args.width / args.share;
    if g < args.images * groups_of_image {
        let image = g / groups_of_image;
        let first = g % groups_of_image * args.share;
        let part = image * args.chunks * 3u * args.width;
        let n = f32(max(args.rows * args.share, 1u));
        let inv_std = q[g];
        var deviations = 0f;
        for (var chunk = 0u; chunk < args.chunks; chunk++) {
            for (var j = first; j < first + args.share; j++) {
                deviations += a[part + (chunk * 3u + 2u) * args.width + j];
            }
        }
        // The exact mean minus the rounded mean.
        let off = deviations / n;
        var sum = 0f;
        var product = 0f;
        for (var j = first; j < first + args.share; j++) {
            var of_dy = 0f;
            var with_x = 0f;
            for (var chunk = 0u; chunk < args.chunks; chunk++) {
                of_dy += a[part + chunk * 3u * args.width + j];
                with_x += a[part + (chunk * 3u + 1u) * args.width + j];
            }
            with_x -= of_dy * off;
            out1[image * 2u * args.width + j] = with_x * inv_std;
            out1[(image * 2u + 1u) * args.width + j] = of_dy;
            sum += gamma[j] * of_dy;
            product += gamma[j] * with_x;
            y[image * args.width + j] = gamma[j] * inv_std;
        }
        let by_x = -inv_std * inv_std * inv_std * product / n;
        y[args.images * args.width + g] = by_x;
        y[args.images * (args.width + groups_of_image) + g] = -inv_std * sum / n - by_x * off;
    }
}

/// y = dx = by_dy dy + (by_x (x - mean) + shift) with a = dy, b = x, p = mean, q = the factors. Launch: as
/// group_norm.
@compute @workgroup_size(256)
fn group_norm_bwd(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < args.images * args.rows * args.width {
        let at = i / (args.rows * args.width) * args.width + i % args.width;
        let g = at / args.share;
        let by_x = args.images * args.width + g;
        let shift = by_x + args.images * (args.width / args.share);
        y[i] = q[at] * a[i] + (q[by_x] * (b[i] - p[g]) + q[shift]);
    }
}
