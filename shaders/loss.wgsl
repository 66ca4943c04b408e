// Losses: elementwise ones, the softmax cross entropy, and the KL divergence of a diagonal Gaussian.
//
// Elementwise losses: dense vec4s; 256 threads per workgroup, ceil(len / 1024) workgroups.
// Losses by row: [rows, width]; one workgroup of 64 threads per row.
// FLOPs: 4 to 30 per element. Bytes: operands once (rows up to three times, from the cache). Bound by
// memory.

struct LossArgs {
    /// Rows, or elements of an elementwise loss.
    rows: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> args: LossArgs;
/// Logits; x; mu.
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
/// Target; log variance.
@group(0) @binding(2) var<storage, read> b: array<vec4f>;
@group(0) @binding(3) var<storage, read> target_class: array<u32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> by_row: array<f32>;

/// y = max(l, 0) - l t + log(1 + exp(-|l|))
@compute @workgroup_size(256)
fn bce_with_logits(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < (args.rows + 3u) / 4u {
        y[i] = (math_relu(a[i]) - a[i] * b[i]) + math_softplus_of_minus_abs(a[i]);
    }
}

/// y = (x - t)^2
@compute @workgroup_size(256)
fn mse(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < (args.rows + 3u) / 4u {
        y[i] = (a[i] - b[i]) * (a[i] - b[i]);
    }
}

/// The largest value of all 64 threads. All threads must call it.
fn largest_of_group(t: u32, value: f32) -> f32 {
    workgroupBarrier();
    of_lane[t] = value;
    for (var width = 32u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if t < width {
            of_lane[t] = max(of_lane[t], of_lane[t + width]);
        }
    }
    workgroupBarrier();
    return of_lane[0];
}

fn a_at(i: u32) -> f32 {
    return a[i / 4u][i % 4u];
}

/// The largest logit of a row, and the sum of exp(logit - largest) over the row.
fn softmax_of_row(t: u32, start: u32) -> vec2f {
    var most = number_of_bits(MINUS_INFINITY).x;
    for (var k = t; k < args.width; k += 64u) {
        most = max(most, a_at(start + k));
    }
    let largest = largest_of_group(t, most);
    var total = 0f;
    for (var k = t; k < args.width; k += 64u) {
        total += math_exp(vec4f(a_at(start + k) - largest)).x;
    }
    return vec2f(largest, sum_of_group(t, total));
}

/// by_row = -log softmax(a)[target]; NaN if the target is out of range.
@compute @workgroup_size(64)
fn softmax_cross_entropy(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let row = group_index(group, groups);
    if row >= args.rows {
        return;
    }
    let softmax = softmax_of_row(t, row * args.width);
    if t == 0u {
        let k = target_class[row];
        var loss = number_of_bits(NAN).x;
        if k < args.width {
            loss = (softmax.x - a_at(row * args.width + k)) + math_log(vec4f(softmax.y)).x;
        }
        by_row[row] = loss;
    }
}

/// by_row = dy (softmax(a) - onehot(target)), [rows, width]; NaN if the target is out of range.
@compute @workgroup_size(64)
fn softmax_cross_entropy_bwd(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let row = group_index(group, groups);
    if row >= args.rows {
        return;
    }
    let start = row * args.width;
    let softmax = softmax_of_row(t, start);
    let scale = dy[row] / softmax.y;
    let hot = target_class[row];
    for (var k = t; k < args.width; k += 64u) {
        let soft = math_exp(vec4f(a_at(start + k) - softmax.x)).x * scale;
        let gradient = select(soft, soft - dy[row], k == hot);
        by_row[start + k] = select(number_of_bits(NAN).x, gradient, hot < args.width);
    }
}

/// by_row = sum of (mu^2 + exp(logvar) - 1 - logvar) / 2
@compute @workgroup_size(64)
fn gaussian_kl(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let row = group_index(group, groups);
    if row >= args.rows {
        return;
    }
    let start = row * args.width;
    var total = 0f;
    for (var k = t; k < args.width; k += 64u) {
        let mu = a_at(start + k);
        let logvar = b[(start + k) / 4u][(start + k) % 4u];
        total += mu * mu + math_exp_minus_1_minus(vec4f(logvar)).x;
    }
    let sum = sum_of_group(t, total);
    if t == 0u {
        by_row[row] = 0.5f * sum;
    }
}
