// Code that all families share: the grid, elementary functions, activations. It is put in front of each
// kernel file of this folder.
//
// The elementary functions follow src/math.rs line by line, on four numbers at a time. The built-in exp and
// cos are not used, because WGSL leaves their accuracy open and draws must agree between devices.

/// Index of this workgroup. The host folds a grid of more than 65535 workgroups into two dimensions.
fn group_index(group: vec3u, groups: vec3u) -> u32 {
    return group.y * groups.x + group.x;
}

/// The number with these bits, such as NaN or infinity, for which WGSL has no literals. The bits go through
/// a variable, because a constant expression must be finite.
fn number_of_bits(word: u32) -> vec4f {
    var bits = vec4u(word);
    return bitcast<vec4f>(bits);
}

/// The value of each thread of a workgroup of 64.
var<workgroup> of_lane: array<f32, 64>;

/// The sum over a workgroup of 64 threads, added by halves. All threads must call it, and all get it.
fn sum_of_group(t: u32, value: f32) -> f32 {
    workgroupBarrier();
    of_lane[t] = value;
    for (var width = 32u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if t < width {
            of_lane[t] += of_lane[t + width];
        }
    }
    workgroupBarrier();
    return of_lane[0];
}

const NAN: u32 = 0x7fc00000u;
const MINUS_INFINITY: u32 = 0xff800000u;
const LARGEST: f32 = 0x1.fffffep+127f;

/// 2^k for -126 <= k <= 127.
fn pow2(k: vec4i) -> vec4f {
    return bitcast<vec4f>((k + 127) << vec4u(23u));
}

/// x = k log 2 + r with |r| <= log(2) / 2, and rest = exp(r) - 1 - r.
struct Reduced {
    k: vec4i,
    r: vec4f,
    rest: vec4f,
}

fn reduced_exp(x: vec4f) -> Reduced {
    let n = round(x * 1.44269502f);
    let r = (x - n * 0.693359375f) - n * -2.12194442e-4f;
    let q = ((1.3950492e-3f * r + 8.36889e-3f) * r + 4.1666206e-2f) * r + 0.16666518f;
    return Reduced(vec4i(n), r, r * r * (q * r + 0.5f));
}

/// exp(x). It overflows to infinity above 88.72, and underflows to 0 at -104. The comparisons are false for
/// NaN, so NaN passes unchanged.
fn math_exp(x: vec4f) -> vec4f {
    let above = select(x, vec4f(-104f), x < vec4f(-104f));
    let within = select(above, vec4f(89f), above > vec4f(89f));
    let e = reduced_exp(within);
    // Two factors, because 2^k alone leaves the range of normal numbers at both ends.
    let half = e.k >> vec4u(1u);
    return (1f + (e.r + e.rest)) * pow2(half) * pow2(e.k - half);
}

/// exp(x) - 1 for x <= 0, accurate near 0.
fn math_expm1_nonpositive(x: vec4f) -> vec4f {
    let e = reduced_exp(select(x, vec4f(-30f), x < vec4f(-30f)));
    let scale = pow2(e.k);
    return scale * (e.r + e.rest) + (scale - 1f);
}

/// k log 2 + log(1 + f) for sqrt(1/2) <= 1 + f <= sqrt(2).
fn log_of_reduced(k: vec4f, f: vec4f) -> vec4f {
    let p = ((-7.6345146e-2f * f + 0.12761594f) * f - 0.13160184f) * f + 0.14201756f;
    let q = (((p * f - 0.16623357f) * f + 0.20001227f) * f - 0.2500082f) * f + 0.3333333f;
    let square = f * f;
    let tail = f * square * q + k * -2.12194442e-4f - 0.5f * square;
    return (f + tail) + k * 0.693359375f;
}

/// Natural logarithm; -infinity at 0, NaN below 0.
fn math_log(x: vec4f) -> vec4f {
    let subnormal = x < vec4f(0x1p-126f);
    let scaled = select(x, x * 8388608f, subnormal);
    let bits = bitcast<vec4u>(scaled);
    // The exponent that leaves the fraction in [sqrt(1/2), sqrt(2)).
    let k = bitcast<vec4i>(bits - 0x3f3504f3u) >> vec4u(23u);
    let fraction = bitcast<vec4f>(bits - (bitcast<vec4u>(k) << vec4u(23u)));
    let y = log_of_reduced(vec4f(k - select(vec4i(0), vec4i(23), subnormal)), fraction - 1f);
    let finite = select(y, x, x > vec4f(LARGEST));
    let below = select(number_of_bits(NAN), number_of_bits(MINUS_INFINITY), x == vec4f(0f));
    return select(below, finite, x > vec4f(0f));
}

/// log(1 + u) for 0 <= u <= 1, accurate near 0.
fn log1p_unit(u: vec4f) -> vec4f {
    let upper = u > vec4f(0.4142135f);
    return log_of_reduced(select(vec4f(0f), vec4f(1f), upper), select(u, 0.5f * u - 0.5f, upper));
}

/// exp(x) - 1 - x, accurate near 0: the term that the KL divergence sums for a log variance x.
fn math_exp_minus_1_minus(x: vec4f) -> vec4f {
    let e = reduced_exp(x);
    // If k = 0, nothing was reduced and r is x.
    return select((math_exp(x) - 1f) - x, e.rest, e.k == vec4i(0));
}

/// tanh(x), accurate near 0.
fn math_tanh(x: vec4f) -> vec4f {
    let e = math_expm1_nonpositive(-2f * abs(x));
    let size = bitcast<vec4u>(-e / (2f + e));
    return bitcast<vec4f>((size & vec4u(0x7fffffffu)) | (bitcast<vec4u>(x) & vec4u(0x80000000u)));
}

/// 1 / (1 + exp(-x)), accurate down to where it underflows.
fn math_sigmoid(x: vec4f) -> vec4f {
    let e = math_exp(-abs(x));
    return select(vec4f(1f), e, x < vec4f(0f)) / (1f + e);
}

/// log(1 + exp(-|x|)), a term of softplus and of the binary cross entropy.
fn math_softplus_of_minus_abs(x: vec4f) -> vec4f {
    return log1p_unit(math_exp(-abs(x)));
}

/// max(x, 0); NaN passes.
fn math_relu(x: vec4f) -> vec4f {
    return select(x, vec4f(0f), x < vec4f(0f));
}

/// log(1 + exp(x)) without overflow.
fn math_softplus(x: vec4f) -> vec4f {
    return math_relu(x) + math_softplus_of_minus_abs(x);
}

/// cos(2 pi u), for |u| < 2^20. The argument is reduced in turns, which is exact.
fn math_cos_turns(u: vec4f) -> vec4f {
    let turns = round(4f * u);
    let quarter = bitcast<vec4u>(vec4i(turns));
    let f = u - 0.25f * turns;
    let z = f * f;
    let sine = f * 6.2831855f + f * (-1.7484555e-7f + z * ((-75.45327f * z + 81.59393f) * z - 41.341675f));
    let cosine = 1f + z * (((59.245865f * z - 85.44374f) * z + 64.93932f) * z - 19.739208f);
    let y = select(sine, cosine, (quarter & vec4u(1u)) == vec4u(0u));
    return select(-y, y, ((quarter + 1u) & vec4u(2u)) == vec4u(0u));
}

// The elementwise functions of the list in src/tape/functions.rs. Each has a pair here: f(x), and dy f'(x),
// which is computed from the output y or the input x. If f is an elementary function, it is defined above.
// functions.wgsl selects them by their codes.

fn math_relu_bwd(dy: vec4f, y: vec4f) -> vec4f {
    return select(vec4f(0f), dy, y > vec4f(0f));
}

fn math_leaky_relu(x: vec4f, slope: f32) -> vec4f {
    return select(vec4f(slope), vec4f(1f), x > vec4f(0f)) * x;
}

fn math_leaky_relu_bwd(dy: vec4f, y: vec4f, slope: f32) -> vec4f {
    return dy * select(vec4f(slope), vec4f(1f), y > vec4f(0f));
}

fn math_elu(x: vec4f) -> vec4f {
    let positive = x > vec4f(0f);
    return select(math_expm1_nonpositive(select(x, vec4f(0f), positive)), x, positive);
}

fn math_elu_bwd(dy: vec4f, y: vec4f) -> vec4f {
    return dy * select(y + 1f, vec4f(1f), y > vec4f(0f));
}

fn math_tanh_bwd(dy: vec4f, y: vec4f) -> vec4f {
    return dy * (1f - y * y);
}

fn math_sigmoid_bwd(dy: vec4f, y: vec4f) -> vec4f {
    return dy * (y * (1f - y));
}

fn math_softplus_bwd(dy: vec4f, x: vec4f) -> vec4f {
    return dy * math_sigmoid(x);
}

fn math_silu(x: vec4f) -> vec4f {
    return x * math_sigmoid(x);
}

fn math_silu_bwd(dy: vec4f, x: vec4f) -> vec4f {
    let p = math_sigmoid(x);
    return dy * (p * (1f + x * (1f - p)));
}

fn math_exp_bwd(dy: vec4f, y: vec4f) -> vec4f {
    return dy * y;
}

fn math_log_bwd(dy: vec4f, x: vec4f) -> vec4f {
    return dy / x;
}

fn math_sqrt(x: vec4f) -> vec4f {
    return sqrt(x);
}

fn math_sqrt_bwd(dy: vec4f, y: vec4f) -> vec4f {
    return 0.5f * dy / y;
}

fn math_square(x: vec4f) -> vec4f {
    return x * x;
}

fn math_square_bwd(dy: vec4f, x: vec4f) -> vec4f {
    return 2f * dy * x;
}

fn math_recip(x: vec4f) -> vec4f {
    return 1f / x;
}

fn math_recip_bwd(dy: vec4f, y: vec4f) -> vec4f {
    return -dy * (y * y);
}

/// x sigmoid(u) with u = x (2 c + 2 c 0.044715 x^2) and c = sqrt(2 / pi): (1 + tanh(u / 2)) / 2 is
/// sigmoid(u).
fn math_gelu(x: vec4f) -> vec4f {
    return x * math_sigmoid(x * (7.1354814e-2f * (x * x) + 1.5957692f));
}

/// dy (p + x p (1 - p) u') with p = sigmoid(u). Beyond +-12, p (1 - p) is 0; x is clamped there, so that u'
/// stays finite.
fn math_gelu_bwd(dy: vec4f, x: vec4f) -> vec4f {
    let below = select(x, vec4f(12f), x > vec4f(12f));
    let near = select(below, vec4f(-12f), below < vec4f(-12f));
    let square = near * near;
    let p = math_sigmoid(near * (7.1354814e-2f * square + 1.5957692f));
    return dy * (p + near * (p * (1f - p)) * (0.21406445f * square + 1.5957692f));
}

fn math_add(a: vec4f, b: vec4f) -> vec4f {
    return a + b;
}

fn math_sub(a: vec4f, b: vec4f) -> vec4f {
    return a - b;
}

fn math_mul(a: vec4f, b: vec4f) -> vec4f {
    return a * b;
}

fn math_div(a: vec4f, b: vec4f) -> vec4f {
    return a / b;
}

/// min(max(x, low), high); NaN passes.
fn clamp_of(x: vec4f, low: f32, high: f32) -> vec4f {
    let above = select(x, vec4f(low), x < vec4f(low));
    return select(above, vec4f(high), above > vec4f(high));
}

/// floor(x top + 1/2), at most `top`; 0 if x is negative or NaN. `top` is the number of levels minus one.
fn quantize_of(x: vec4f, top: f32) -> vec4u {
    let nearest = x * top + 0.5f;
    let above = select(nearest, vec4f(top), nearest > vec4f(top));
    return vec4u(select(vec4f(0f), above, above > vec4f(0f)));
}

/// tanh(a) sigmoid(b)
fn gated_of(a: vec4f, b: vec4f) -> vec4f {
    return math_tanh(a) * math_sigmoid(b);
}

/// 1 if u < sigmoid(logit / temperature), else 0. At temperature 0 it is 1 if the logit is positive, else 0.
fn bernoulli_of(logit: vec4f, u: vec4f, temperature: f32) -> vec4f {
    let cold = logit > vec4f(0f);
    let warm = u < math_sigmoid(logit / temperature);
    return select(vec4f(0f), vec4f(1f), select(warm, cold, vec4<bool>(temperature == 0f)));
}

/// The weight of a class in a categorical draw: exp((logit - largest) / temperature).
fn weight_of(logit: f32, largest: f32, temperature: f32) -> f32 {
    return math_exp(vec4f((logit - largest) / temperature)).x;
}

/// The activated gates i, f, g, o, the new cell and the new state of one unit.
struct Cell {
    gates: vec4f,
    c: f32,
    h: f32,
}

/// One step of an LSTM cell, from the gates before activation and the old cell: c' = f c + i g, h' = o
/// tanh(c').
fn cell(z: vec4f, c: f32) -> Cell {
    let s = math_sigmoid(z);
    let gates = vec4f(s.xy, math_tanh(z).z, s.w);
    let next = gates.y * c + gates.x * gates.z;
    return Cell(gates, next, gates.w * math_tanh(vec4f(next)).x);
}
