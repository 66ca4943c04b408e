// Kernels that treat every element in the same way. A thread computes four neighbouring elements.
//
// Bindings: a, b, c and y are dense and have `len` elements (gated: a[rows, 2 width] -> y[rows, width]).
// They are padded to whole vec4s; what is written into the padding has no meaning.
// Launch: 256 threads per workgroup, ceil(len / 1024) workgroups.
// FLOPs: 1 to 30 per element. Bytes: every operand once. Bound by memory.

struct ElementArgs {
    /// Elements written.
    len: u32,
    /// Channels after gating.
    width: u32,
    /// Attributes of the op: slope, (scale, shift), (lo, hi).
    p: f32,
    q: f32,
}

@group(0) @binding(0) var<uniform> args: ElementArgs;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<vec4f>;
@group(0) @binding(3) var<storage, read> c: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>;
/// Levels read and written.
@group(0) @binding(5) var<storage, read> level: array<vec4u>;
@group(0) @binding(6) var<storage, read_write> index: array<vec4u>;

/// Which function: a pipeline is made for each.
override FUNCTION: u32 = 0u;

fn quad(group: vec3u, groups: vec3u, thread: u32) -> u32 {
    return group_index(group, groups) * 256u + thread;
}

fn quads() -> u32 {
    return (args.len + 3u) / 4u;
}

/// y = the number whose bits are `width`
@compute @workgroup_size(256)
fn fill(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = quad(group, groups, t);
    if i < quads() {
        y[i] = number_of_bits(args.width);
    }
}

/// y = a
@compute @workgroup_size(256)
fn copy(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = quad(group, groups, t);
    if i < quads() {
        y[i] = a[i];
    }
}

/// y = f(a)
@compute @workgroup_size(256)
fn unary(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = quad(group, groups, t);
    if i < quads() {
        y[i] = apply_unary(FUNCTION, args.p, a[i]);
    }
}

/// y = a f'(b), a is dy and b what was saved
@compute @workgroup_size(256)
fn unary_bwd(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = quad(group, groups, t);
    if i < quads() {
        y[i] = apply_unary_bwd(FUNCTION, args.p, a[i], b[i]);
    }
}

/// y = a op b
@compute @workgroup_size(256)
fn binary(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = quad(group, groups, t);
    if i < quads() {
        y[i] = binary_of(FUNCTION, a[i], b[i]);
    }
}

/// y = scale a + shift
@compute @workgroup_size(256)
fn affine(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = quad(group, groups, t);
    if i < quads() {
        y[i] = args.p * a[i] + args.q;
    }
}

/// y = min(max(a, lo), hi); NaN passes
@compute @workgroup_size(256)
fn clamp(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = quad(group, groups, t);
    if i < quads() {
        y[i] = clamp_of(a[i], args.p, args.q);
    }
}

/// index = floor(a top + 1/2), at most `top`; 0 if a is negative or NaN. `top` is the number of levels minus
/// one.
@compute @workgroup_size(256)
fn quantize(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = quad(group, groups, t);
    if i < quads() {
        index[i] = quantize_of(a[i], args.p);
    }
}

/// y = level / top
@compute @workgroup_size(256)
fn dequantize(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = quad(group, groups, t);
    if i < quads() {
        y[i] = vec4f(level[i]) / args.p;
    }
}

/// Element `i` of a, or of b; the last one beyond its end.
fn a_at(i: u32, len: u32) -> f32 {
    let at = min(i, len - 1u);
    return a[at / 4u][at % 4u];
}

fn b_at(i: u32, len: u32) -> f32 {
    let at = min(i, len - 1u);
    return b[at / 4u][at % 4u];
}

/// y[.., j] = tanh(a[.., j]) sigmoid(a[.., width + j])
@compute @workgroup_size(256)
fn gated(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = quad(group, groups, t);
    if i < quads() {
        let c = args.width;
        let element = vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u);
        let at = element / c * c + element;
        let len = 2u * args.len;
        let left = vec4f(a_at(at.x, len), a_at(at.y, len), a_at(at.z, len), a_at(at.w, len));
        let right = vec4f(a_at(at.x + c, len), a_at(at.y + c, len), a_at(at.z + c, len), a_at(at.w + c, len));
        y[i] = gated_of(left, right);
    }
}

/// a is dy[.., width], b is x[.., 2 width], y is dx. With t = tanh(left), s = sigmoid(right):
/// dleft = dy s (1 - t^2), dright = dy t s (1 - s).
@compute @workgroup_size(256)
fn gated_bwd(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = quad(group, groups, t);
    if i < quads() {
        let c = args.width;
        let element = vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u);
        let row = element / (2u * c);
        let column = element - row * 2u * c;
        let is_right = column >= vec4u(c);
        let left = row * 2u * c + select(column, column - c, is_right);
        let source = row * c + select(column, column - c, is_right);
        let len = args.len;
        let dy = vec4f(a_at(source.x, len / 2u), a_at(source.y, len / 2u), a_at(source.z, len / 2u), a_at(source.w, len / 2u));
        let th = math_tanh(vec4f(b_at(left.x, len), b_at(left.y, len), b_at(left.z, len), b_at(left.w, len)));
        let right = left + c;
        let s = math_sigmoid(vec4f(b_at(right.x, len), b_at(right.y, len), b_at(right.z, len), b_at(right.w, len)));
        y[i] = select(dy * s * (1f - th * th), dy * th * (s * (1f - s)), is_right);
    }
}

/// y = a + exp(b / 2) c: mu, logvar, eps
@compute @workgroup_size(256)
fn reparameterize(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = quad(group, groups, t);
    if i < quads() {
        y[i] = a[i] + math_exp(0.5f * b[i]) * c[i];
    }
}
