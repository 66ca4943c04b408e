// Random draws: uniform and normal numbers per element, Gaussian samples, and categories and bits from given
// uniform numbers.
//
// Threefry-2x32 with 20 rounds (Salmon et al. 2011), as in src/rng.rs: the same words on every device.
// FLOPs: about 80 integer operations per draw. Bytes: operands once.
// Bound by integer arithmetic (random, gaussian_sample) or by memory (the others).

struct RandomArgs {
    len: u32,
    /// Elements of an image.
    per_image: u32,
    stream: u32,
    /// 1 if the counter is (image, element of the image); 0 if it is (replay, element).
    by_image: u32,
    /// Rows and classes of categorical; rows and dimensions of gaussian_sample.
    rows: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> args: RandomArgs;
/// random: the seed. categorical, bernoulli: logits.
@group(0) @binding(1) var<storage, read> seed: array<u32>;
@group(0) @binding(1) var<storage, read> logits: array<vec4f>;
/// random: the replay, or the index of the first image. The others: uniforms.
@group(0) @binding(2) var<storage, read> count: array<u32>;
@group(0) @binding(2) var<storage, read> u: array<vec4f>;
@group(0) @binding(3) var<storage, read> temperature: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> index: array<u32>;

/// gaussian_sample and its gradient.
@group(0) @binding(1) var<storage, read> mu: array<f32>;
@group(0) @binding(2) var<storage, read> logvar: array<f32>;
@group(0) @binding(3) var<storage, read> sample_seed: array<u32>;
@group(0) @binding(4) var<storage, read> replay: array<u32>;
@group(0) @binding(5) var<storage, read_write> z: array<f32>;
@group(0) @binding(6) var<storage, read_write> kl: array<f32>;
@group(0) @binding(3) var<storage, read> drawn: array<f32>;
@group(0) @binding(4) var<storage, read> dz: array<f32>;
@group(0) @binding(7) var<storage, read> dkl: array<f32>;
@group(0) @binding(5) var<storage, read_write> dmu: array<f32>;
@group(0) @binding(6) var<storage, read_write> dlogvar: array<f32>;

/// 0 for uniform draws, 1 for normal draws.
override FUNCTION: u32 = 0u;

fn rotate(x: vec4u, by: u32) -> vec4u {
    return (x << vec4u(by)) | (x >> vec4u(32u - by));
}

/// Two words for each of four counters.
struct Words {
    x: vec4u,
    y: vec4u,
}

fn four_rounds(words: Words, r0: u32, r1: u32, r2: u32, r3: u32) -> Words {
    var x = words.x + words.y;
    var y = rotate(words.y, r0) ^ x;
    x += y;
    y = rotate(y, r1) ^ x;
    x += y;
    y = rotate(y, r2) ^ x;
    x += y;
    y = rotate(y, r3) ^ x;
    return Words(x, y);
}

fn threefry2x32(k0: u32, k1: u32, counter0: vec4u, counter1: vec4u) -> Words {
    let k2 = 0x1bd11bdau ^ k0 ^ k1;
    var words = Words(counter0 + k0, counter1 + k1);
    words = four_rounds(words, 13u, 15u, 26u, 6u);
    words = Words(words.x + k1, words.y + k2 + 1u);
    words = four_rounds(words, 17u, 29u, 16u, 24u);
    words = Words(words.x + k2, words.y + k0 + 2u);
    words = four_rounds(words, 13u, 15u, 26u, 6u);
    words = Words(words.x + k0, words.y + k1 + 3u);
    words = four_rounds(words, 17u, 29u, 16u, 24u);
    words = Words(words.x + k1, words.y + k2 + 4u);
    words = four_rounds(words, 13u, 15u, 26u, 6u);
    return Words(words.x + k2, words.y + k0 + 5u);
}

/// A word as a uniform number in [0, 1): its top 24 bits times 2^-24.
fn unit(word: vec4u) -> vec4f {
    return vec4f(word >> vec4u(8u)) * 0x1p-24f;
}

/// Standard normal numbers: Box-Muller on (1 - u1, u2), the cosine branch.
fn normal(words: Words) -> vec4f {
    return sqrt(-2f * math_log(1f - unit(words.x))) * math_cos_turns(unit(words.y));
}

/// y[len] = draws. Launch: 256 threads, four neighbours each, ceil(len / 1024) workgroups.
@compute @workgroup_size(256)
fn random(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < (args.len + 3u) / 4u {
        let element = vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u);
        var words: Words;
        if args.by_image == 1u {
            let image = element / args.per_image;
            words = threefry2x32(seed[0], args.stream, count[0] + image, element - image * args.per_image);
        } else {
            words = threefry2x32(seed[0], args.stream, vec4u(count[0]), element);
        }
        if FUNCTION == 0u {
            y[i] = unit(words.x);
        } else {
            y[i] = normal(words);
        }
    }
}

/// z = mu + exp(logvar / 2) eps with a standard normal eps by (replay, element), [rows, width], and kl[rows]
/// = sum of (mu^2 + exp(logvar) - 1 - logvar) / 2 over each row (Kingma & Welling 2014, eq. 10 and appendix
/// B). eps is never stored.
/// Launch: 64 threads and a workgroup for each row, four neighbours a thread.
@compute @workgroup_size(64)
fn gaussian_sample(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let row = group_index(group, groups);
    if row >= args.rows {
        return;
    }
    var total = 0f;
    for (var k = 4u * t; k < args.width; k += 256u) {
        // Beyond the end of a row, the last element is used.
        let element = row * args.width + min(vec4u(k) + vec4u(0u, 1u, 2u, 3u), vec4u(args.width - 1u));
        var m: vec4f;
        var v: vec4f;
        for (var j = 0u; j < 4u; j++) {
            m[j] = mu[element[j]];
            v[j] = logvar[element[j]];
        }
        let eps = normal(threefry2x32(sample_seed[0], args.stream, vec4u(replay[0]), element));
        let sample = m + math_exp(0.5f * v) * eps;
        let terms = m * m + math_exp_minus_1_minus(v);
        for (var j = 0u; j < min(4u, args.width - k); j++) {
            z[element[j]] = sample[j];
            total += terms[j];
        }
    }
    let sum = sum_of_group(t, total);
    if t == 0u {
        kl[row] = 0.5f * sum;
    }
}

/// dmu = dz + dkl mu, dlogvar = (dz (z - mu) + dkl (exp(logvar) - 1)) / 2; dkl[rows], the others [rows,
/// width]. Launch: 256 threads, an element each.
@compute @workgroup_size(256)
fn gaussian_sample_bwd(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < args.len {
        let k = dkl[i / args.width];
        dmu[i] = k * mu[i] + dz[i];
        let variance = math_exp(vec4f(logvar[i])).x;
        dlogvar[i] = k * (0.5f * variance - 0.5f) + 0.5f * (dz[i] * (drawn[i] - mu[i]));
    }
}

fn logit(i: u32) -> f32 {
    return logits[i / 4u][i % 4u];
}

/// index = the smallest class whose cumulative softmax(logits / temperature) exceeds u, or the last class if
/// none does. At temperature 0 it is the first of the largest logits. Without classes it is an index out of
/// range.
/// Launch: 64 threads, one thread per row, so that the sum has the same order on every device.
@compute @workgroup_size(64)
fn categorical(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let row = group_index(group, groups) * 64u + t;
    if row < args.rows {
        let start = row * args.width;
        var largest = number_of_bits(MINUS_INFINITY).x;
        var first = args.width - 1u;
        for (var k = 0u; k < args.width; k++) {
            let l = logit(start + k);
            if l > largest {
                largest = l;
                first = k;
            }
        }
        if temperature[0] == 0f || args.width == 0u {
            index[row] = first;
        } else {
            // The same sum is computed twice in the same order: first to its end, then up to the draw.
            var total = 0f;
            for (var k = 0u; k < args.width; k++) {
                total += weight_of(logit(start + k), largest, temperature[0]);
            }
            let end = u[row / 4u][row % 4u] * total;
            var sum = 0f;
            var drawn = args.width - 1u;
            for (var k = 0u; k < args.width; k++) {
                sum += weight_of(logit(start + k), largest, temperature[0]);
                if sum > end {
                    drawn = k;
                    break;
                }
            }
            index[row] = drawn;
        }
    }
}

/// y = 1 if u < sigmoid(logit / temperature), else 0. At temperature 0 it is 1 if the logit is positive,
/// else 0. Launch: as random.
@compute @workgroup_size(256)
fn bernoulli(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < (args.len + 3u) / 4u {
        y[i] = bernoulli_of(logits[i], u[i], temperature[0]);
    }
}
