// Batch and layer normalisation of x[rows, width].
//
// Statistics are two-pass within a chunk of rows, and the chunks are joined relative to the first one's mean (Chan et al.
// 1979): a large mean does not swallow a small variance. The mean as a float may be a coarse number against such a
// deviation, so its rounding error travels along, forwards and backwards. FLOPs: 7 an element forwards, 10 backwards. Bytes:
// x two or three times, y once. Bound by memory.

struct NormArgs {
    rows: u32,
    width: u32,
    /// Rows of a chunk, number of chunks, threads side by side along the width (a power of two).
    chunk_rows: u32,
    chunks: u32,
    columns: u32,
    eps: f32,
    /// Activation folded into batch norm.
    act: u32,
    slope: f32,
}

@group(0) @binding(0) var<uniform> args: NormArgs;
/// dy in the backward passes, x forwards.
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
@group(0) @binding(4) var<storage, read> p: array<f32>;
@group(0) @binding(5) var<storage, read> q: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read_write> out1: array<f32>;
@group(0) @binding(8) var<storage, read_write> out2: array<f32>;

var<workgroup> lanes: array<vec4f, 256>;

/// The sum over all threads of a column of the workgroup, known to each of them. Called by all threads.
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

/// out y[chunk, 3, width]: the mean of each column of a chunk of a = x, the sum and the sum of squares of the deviations
/// from it. Launch: 256 threads; ceil(width / columns) workgroups a chunk.
@compute @workgroup_size(256)
fn batch_norm_statistics(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let index = group_index(group, groups);
    let blocks = (args.width + args.columns - 1u) / args.columns;
    let chunk = index / blocks;
    if chunk >= args.chunks {
        return;
    }
    let column = index % blocks * args.columns + t % args.columns;
    let start = chunk * args.chunk_rows;
    let stop = min(start + args.chunk_rows, args.rows);
    let first = select(stop, start + t / args.columns, column < args.width);
    let step = 256u / args.columns;
    var total = 0f;
    for (var row = first; row < stop; row += step) {
        total += a[row * args.width + column];
    }
    let mean = sum_of_column(t, args.columns, vec4f(total, 0f, 0f, 0f)).x / f32(max(stop - start, 1u));
    var sums = vec4f(0f);
    for (var row = first; row < stop; row += step) {
        let d = a[row * args.width + column] - mean;
        sums += vec4f(d, d * d, 0f, 0f);
    }
    let joined = sum_of_column(t, args.columns, sums);
    if t < args.columns && column < args.width {
        let at = chunk * 3u * args.width + column;
        y[at] = mean;
        y[at + args.width] = joined.x;
        y[at + 2u * args.width] = joined.y;
    }
}

/// From a = the statistics of all chunks, b = beta and gamma: y = factors[2, width] (scale, shift), out1 = mean,
/// out2 = inverse deviation. Launch: 256 threads, ceil(width / 256) workgroups.
@compute @workgroup_size(256)
fn batch_norm_join(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let j = group_index(group, groups) * 256u + t;
    if j < args.width {
        let all = f32(max(args.rows, 1u));
        // Everything relative to the mean of the first chunk, so that small differences stay exact.
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
        // A variance is never negative, whatever rounding says; NaN stays.
        let variance = squares / all;
        let inv_std = 1f / sqrt(select(variance, 0f, variance < 0f) + args.eps);
        let scale = gamma[j] * inv_std;
        out1[j] = mean;
        out2[j] = inv_std;
        y[j] = scale;
        y[args.width + j] = b[j] - (shift - (mean - base)) * scale;
    }
}

/// y = act((a - p) scale + shift) with a = x, p = mean, q = the factors. Launch: 256 threads, ceil(elements / 256) workgroups.
@compute @workgroup_size(256)
fn batch_norm(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < args.rows * args.width {
        let j = i % args.width;
        let v = (a[i] - p[j]) * q[j] + q[args.width + j];
        y[i] = apply_unary(args.act, args.slope, vec4f(v)).x;
    }
}

/// y[chunk, 3, width]: the sums over each column of a chunk of a = dy, of dy (x - mean) and of x - mean, with b = x,
/// p = mean. Launch: as batch_norm_statistics.
@compute @workgroup_size(256)
fn batch_norm_bwd_sums(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let index = group_index(group, groups);
    let blocks = (args.width + args.columns - 1u) / args.columns;
    let chunk = index / blocks;
    if chunk >= args.chunks {
        return;
    }
    let column = index % blocks * args.columns + t % args.columns;
    let start = chunk * args.chunk_rows;
    let stop = min(start + args.chunk_rows, args.rows);
    var sums = vec4f(0f);
    if column < args.width {
        for (var row = start + t / args.columns; row < stop; row += 256u / args.columns) {
            let dy = a[row * args.width + column];
            let d = b[row * args.width + column] - p[column];
            sums += vec4f(dy, dy * d, d, 0f);
        }
    }
    let joined = sum_of_column(t, args.columns, sums);
    if t < args.columns && column < args.width {
        let at = chunk * 3u * args.width + column;
        y[at] = joined.x;
        y[at + args.width] = joined.y;
        y[at + 2u * args.width] = joined.z;
    }
}

/// From a = the sums of all chunks, gamma and q = inv_std: out1 = dgamma, out2 = dbeta, y = factors[3, width] of dy, of
/// x - mean, and what is added. Launch: as batch_norm_join.
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
        // How far the rounded mean lies from the exact one.
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

/// y = dx = factor dy + (factor (x - mean) + shift) with a = dy, b = x, p = mean, q = the factors. Launch: as batch_norm.
@compute @workgroup_size(256)
fn batch_norm_bwd(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < args.rows * args.width {
        let j = i % args.width;
        y[i] = q[j] * a[i] + (q[args.width + j] * (b[i] - p[j]) + q[2u * args.width + j]);
    }
}

/// y = (a - p) / sqrt(q + eps) gamma + b with a = x, b = beta, p = mean, q = variance. Launch: as batch_norm.
@compute @workgroup_size(256)
fn batch_norm_infer(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < args.rows * args.width {
        let j = i % args.width;
        y[i] = (a[i] - p[j]) * (gamma[j] / sqrt(q[j] + args.eps)) + b[j];
    }
}

/// y = (a - mean) inv_std gamma + b within each row of a = x, with b = beta; out1 = mean, out2 = inv_std. Launch: 256
/// threads, a workgroup a row.
@compute @workgroup_size(256)
fn layer_norm(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let row = group_index(group, groups);
    if row >= args.rows {
        return;
    }
    let start = row * args.width;
    let n = f32(max(args.width, 1u));
    var total = 0f;
    for (var j = t; j < args.width; j += 256u) {
        total += a[start + j];
    }
    let rough = sum_of_column(t, 1u, vec4f(total, 0f, 0f, 0f)).x / n;
    var sums = vec4f(0f);
    for (var j = t; j < args.width; j += 256u) {
        let d = a[start + j] - rough;
        sums += vec4f(d, d * d, 0f, 0f);
    }
    let joined = sum_of_column(t, 1u, sums) / n;
    let variance = joined.y - joined.x * joined.x;
    let inv_std = 1f / sqrt(select(variance, 0f, variance < 0f) + args.eps);
    for (var j = t; j < args.width; j += 256u) {
        y[start + j] = ((a[start + j] - rough) - joined.x) * inv_std * gamma[j] + b[j];
    }
    if t == 0u {
        out1[row] = rough + joined.x;
        out2[row] = inv_std;
    }
}

/// y = dx within each row, out1[row] = how far the rounded mean lies from the exact one; a = dy, b = x, p = mean,
/// q = inv_std. Launch: as layer_norm.
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

/// y[chunk, 2, width]: the sums over each column of a chunk of dy xhat and of dy; a = dy, b = x, p = mean, q = inv_std,
/// gamma = the offsets that layer_norm_bwd has left. Launch: as batch_norm_statistics.
@compute @workgroup_size(256)
fn layer_norm_bwd_sums(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let index = group_index(group, groups);
    let blocks = (args.width + args.columns - 1u) / args.columns;
    let chunk = index / blocks;
    if chunk >= args.chunks {
        return;
    }
    let column = index % blocks * args.columns + t % args.columns;
    let start = chunk * args.chunk_rows;
    let stop = min(start + args.chunk_rows, args.rows);
    var sums = vec4f(0f);
    if column < args.width {
        for (var row = start + t / args.columns; row < stop; row += 256u / args.columns) {
            let dy = a[row * args.width + column];
            let xhat = ((b[row * args.width + column] - p[row]) - gamma[row]) * q[row];
            sums += vec4f(dy * xhat, dy, 0f, 0f);
        }
    }
    let joined = sum_of_column(t, args.columns, sums);
    if t < args.columns && column < args.width {
        let at = chunk * 2u * args.width + column;
        y[at] = joined.x;
        y[at + args.width] = joined.y;
    }
}
