// Optimisers and moving averages. They replace their state in place.
//
// Bindings: the state is read_write, gradients are read. All are dense, have `len` elements, and are padded
// to whole vec4s.
// Launch: 256 threads per workgroup, four neighbouring elements per thread, ceil(len / 1024) workgroups.
// FLOPs: 4 to 12 per element. Bytes: gradient once, state twice. Bound by memory.

struct OptimArgs {
    len: u32,
    /// adam: 1 - beta1, beta2, 1 - beta2, log beta1, log beta2, eps. rmsprop: -, alpha, 1 - alpha, -, -,
    /// eps. sgd: momentum as beta2. ema: decay as beta2, 1 - decay as to_v.
    to_m: f32,
    beta2: f32,
    to_v: f32,
    log_beta1: f32,
    log_beta2: f32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> args: OptimArgs;
@group(0) @binding(1) var<storage, read> grad: array<vec4f>;
@group(0) @binding(2) var<storage, read> learning_rate: array<f32>;
@group(0) @binding(3) var<storage, read> step: array<f32>;
@group(0) @binding(4) var<storage, read_write> param: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> m: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> v: array<vec4f>;

/// 1 - beta^t, from log beta: exact where beta^t is near 1.
fn correction(log_beta: f32) -> f32 {
    return -math_expm1_nonpositive(vec4f(step[0] * log_beta)).x;
}

/// m += (1 - beta1) (grad - m), v = beta2 v + (1 - beta2) grad^2,
/// param -= lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps) (Kingma & Ba 2015, algorithm 1)
@compute @workgroup_size(256)
fn adam(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < (args.len + 3u) / 4u {
        let step_size = learning_rate[0] / correction(args.log_beta1);
        let root_scale = 1f / sqrt(correction(args.log_beta2));
        m[i] += args.to_m * (grad[i] - m[i]);
        v[i] = args.beta2 * v[i] + args.to_v * (grad[i] * grad[i]);
        param[i] -= step_size * (m[i] / (sqrt(v[i]) * root_scale + args.eps));
    }
}

/// v = alpha v + (1 - alpha) grad^2, param -= lr grad / (sqrt(v) + eps)
@compute @workgroup_size(256)
fn rmsprop(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < (args.len + 3u) / 4u {
        v[i] = args.beta2 * v[i] + args.to_v * (grad[i] * grad[i]);
        param[i] -= learning_rate[0] * (grad[i] / (sqrt(v[i]) + args.eps));
    }
}

/// buf = momentum buf + grad, param -= lr buf; buf is v
@compute @workgroup_size(256)
fn sgd(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < (args.len + 3u) / 4u {
        v[i] = args.beta2 * v[i] + grad[i];
        param[i] -= learning_rate[0] * v[i];
    }
}

/// average = decay average + (1 - decay) value; the value is grad, the average param
@compute @workgroup_size(256)
fn ema(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < (args.len + 3u) / 4u {
        param[i] = args.beta2 * param[i] + args.to_v * grad[i];
    }
}
