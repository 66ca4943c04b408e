// Sampling by windows: a workgroup computes the windows of one image that the dispatch covers, position by
// position.
//
// The dispatch interprets two tables: steps (what is computed from what) and windows (which positions of
// which step, in order). The windows of a round are followed by a window of the step FEED, which writes the
// draw of a position into the image. Values are in one arena, where the next windows find them. A barrier
// after every window lets the whole workgroup see them.
//
// Every element is computed by the same expression, summed in the same order, as in the kernel for whole
// tensors, so both give the same numbers. Loops over a binding are repeated here, because WGSL cannot pass
// an array of a binding to a function. Bindings: steps[..], windows[..]; fixed[..] what no window writes:
// parameters, temperature, and values [images, h, w, c] that do not depend on the image; values[..] the
// arena: the images [images, h, w, colours] and what every step writes, [images, h, w, c] each (kept of a
// scan: [images, h, w, 5d]). Words, because levels are integers.
// Launch: THREADS threads, one workgroup per image; several dispatches per row (src/backend/wgpu/sample.rs
// says why).
// FLOPs: about one forward pass per image. Bytes: the weights of all windows once per pixel, from the cache.
// Bound by the latency of the windows of a round, which depend on each other. Images run in parallel.

struct SampleArgs {
    /// The first window of this dispatch and the one after its last.
    first: u32,
    end: u32,
    /// Positions of an image before this one are given and not drawn.
    given: u32,
    images: u32,
}

/// Extents and mask of a convolution: src/backend/args.rs.
struct Conv {
    n: u32,
    h: u32,
    w: u32,
    cin: u32,
    oh: u32,
    ow: u32,
    cout: u32,
    kh: u32,
    kw: u32,
    sh: u32,
    sw: u32,
    ph: u32,
    pw: u32,
    /// 0 for no mask, 1 for mask A, 2 for mask B.
    mask: u32,
    groups: u32,
    blocks: u32,
}

/// Up to four operations in order. Kinds: 0 ends the list, 1 bias, 2 add, 3 activation, 4 activation
/// gradient; src/backend/args.rs.
struct Epilogue {
    kinds: array<u32, 4>,
    act: u32,
    act_slope: f32,
    act_bwd: u32,
    act_bwd_slope: f32,
}

/// A step: src/backend/sample.rs. Addresses are words of `values`, or, from FIXED on, of `fixed`.
struct SampleStep {
    inputs: array<u32, 3>,
    outputs: array<u32, 2>,
    /// Bias, addend, saved value of an activation gradient.
    fused: array<u32, 3>,
    /// Words from one image to the next; 0 if all images share the value.
    input_stride: array<u32, 3>,
    output_stride: array<u32, 2>,
    fused_stride: array<u32, 3>,
    conv: Conv,
    epilogue: Epilogue,
    op: u32,
    /// Code of a function, or number of classes of a categorical draw.
    f: u32,
    a: f32,
    b: f32,
    /// Height, width, channels of the first output, and of the first input.
    size: array<u32, 3>,
    inner: array<u32, 3>,
    /// Position of the first element of a region.
    before: array<u32, 3>,
    transposed: u32,
    reverse: u32,
    unused: u32,
}

/// Positions of one step that are computed together: half-open ranges; src/tape/window.rs.
struct Window {
    step: u32,
    rows: array<u32, 2>,
    columns: array<u32, 2>,
    channels: array<u32, 2>,
    padding: u32,
}

@group(0) @binding(0) var<uniform> args: SampleArgs;
@group(0) @binding(1) var<storage, read> steps: array<SampleStep>;
@group(0) @binding(2) var<storage, read> windows: array<Window>;
@group(0) @binding(3) var<storage, read> fixed: array<f32>;
@group(0) @binding(4) var<storage, read_write> values: array<u32>;

/// Addresses from this one on are in `fixed`.
const FIXED: u32 = 0x80000000u;

/// Code of the step that writes a draw into the image. The codes of the other steps are in windows.wgsl.
const FEED: u32 = 30u;
/// The gradient of an activation, in an epilogue.
const ACT_BWD: u32 = 31u;

/// Threads of a workgroup.
override THREADS: u32 = 256u;
/// The ops of the plan, one bit per op. The code of the others is removed: a card runs more workgroups of a
/// small kernel at once, and software Vulkan takes every thread through every branch.
override OPS: u32 = 0xffffffffu;
/// The only elementwise function of the plan; NO_FUNCTION if it has several.
override FUNCTION: u32 = NO_FUNCTION;

fn has(op: u32) -> bool {
    return ((OPS >> op) & 1u) == 1u;
}

/// f(x)
fn unary_of(f: u32, slope: f32, x: vec4f) -> vec4f {
    if FUNCTION == NO_FUNCTION {
        return apply_unary(f, slope, x);
    }
    return apply_unary(FUNCTION, slope, x);
}

/// The addresses of a step's operands for one image.
fn input(s: u32, i: u32, image: u32) -> u32 {
    return steps[s].inputs[i] + image * steps[s].input_stride[i];
}

fn output(s: u32, i: u32, image: u32) -> u32 {
    return steps[s].outputs[i] + image * steps[s].output_stride[i];
}

fn fused(s: u32, i: u32, image: u32) -> u32 {
    return steps[s].fused[i] + image * steps[s].fused_stride[i];
}

/// The number at an address of the arena.
fn value(at: u32) -> f32 {
    return bitcast<f32>(values[at]);
}

/// The number at any address.
fn load(at: u32) -> f32 {
    if at >= FIXED {
        return fixed[at - FIXED];
    }
    return value(at);
}

fn store(at: u32, v: f32) {
    values[at] = bitcast<u32>(v);
}

/// Input channels that output channel `co` sees at the centre tap: `ConvGeom::open_channels`.
fn open_channels(s: u32, co: u32) -> u32 {
    let cin = steps[s].conv.cin;
    let groups = steps[s].conv.groups;
    let block = steps[s].conv.cout / steps[s].conv.blocks;
    let seen = co % block * groups / block + select(0u, 1u, steps[s].conv.mask == 2u);
    return min((seen * cin + groups - 1u) / groups, cin);
}

/// An element of a convolution of x[h, w, cin] and w[kh, kw, cin, cout] (transposed: w[cout, cin]), with
/// taps in raster order, as the product sums them. Taps outside the image are left out.
fn conv(s: u32, image: u32, row: u32, column: u32, co: u32) -> f32 {
    let x = input(s, 0u, image);
    let weights = input(s, 1u, image) - FIXED;
    let h = steps[s].conv.h;
    let w = steps[s].conv.w;
    let cin = steps[s].conv.cin;
    let cout = steps[s].conv.cout;
    let kw = steps[s].conv.kw;
    let is_masked = steps[s].conv.mask != 0u;
    // All taps of a mask after the centre are closed.
    let centre = steps[s].conv.kh / 2u * kw + kw / 2u;
    let taps = select(steps[s].conv.kh * kw, centre + 1u, is_masked);
    let top = row * steps[s].conv.sh - steps[s].conv.ph;
    let left = column * steps[s].conv.sw - steps[s].conv.pw;
    let is_transposed = steps[s].transposed == 1u;
    let stride = select(cout, 1u, is_transposed);
    let at_centre = open_channels(s, co);
    var sum = 0f;
    for (var tap = 0u; tap < taps; tap++) {
        // A position before the first one wraps around to a large number.
        let r = top + tap / kw;
        let c = left + tap % kw;
        if r < h && c < w {
            let open = select(cin, at_centre, is_masked && tap == centre);
            var from_x = x + (r * w + c) * cin;
            var from_w = weights + select(tap * cin * cout + co, co * cin, is_transposed);
            for (var quads = open / 4u; quads > 0u; quads--) {
                sum = fma(value(from_x), fixed[from_w], sum);
                sum = fma(value(from_x + 1u), fixed[from_w + stride], sum);
                sum = fma(value(from_x + 2u), fixed[from_w + 2u * stride], sum);
                sum = fma(value(from_x + 3u), fixed[from_w + 3u * stride], sum);
                from_x += 4u;
                from_w += 4u * stride;
            }
            for (var rest = open % 4u; rest > 0u; rest--) {
                sum = fma(value(from_x), fixed[from_w], sum);
                from_x++;
                from_w += stride;
            }
        }
    }
    return sum;
}

const FUSED_BIAS: u32 = 1u;
const FUSED_ADD: u32 = 2u;
const FUSED_ACT: u32 = 3u;
const FUSED_ACT_BWD: u32 = 4u;

/// Applies the epilogue of a product to v, which is element `at` of the output and in channel `channel`.
fn epilogue(s: u32, image: u32, at: u32, channel: u32, v: f32) -> f32 {
    var y = vec4f(v);
    for (var i = 0u; i < 4u && steps[s].epilogue.kinds[i] != 0u; i++) {
        switch steps[s].epilogue.kinds[i] {
            case FUSED_BIAS: { y += load(fused(s, 0u, image) + channel); }
            case FUSED_ADD: { y += load(fused(s, 1u, image) + at); }
            case FUSED_ACT: { y = unary_of(steps[s].epilogue.act, steps[s].epilogue.act_slope, y); }
            case FUSED_ACT_BWD: {
                if has(ACT_BWD) {
                    let saved = vec4f(load(fused(s, 2u, image) + at));
                    y = apply_unary_bwd(steps[s].epilogue.act_bwd, steps[s].epilogue.act_bwd_slope, y, saved);
                }
            }
            default: { y = number_of_bits(NAN); }
        }
    }
    return y.x;
}

/// A unit of a pixel of a scan, z[h, w, 4d], w_ss[taps, d, 4d] -> y[h, w, d], kept[h, w, 5d], with states in
/// the order of the taps, as the scan of whole images sums them.
fn scan(s: u32, image: u32, row: u32, column: u32, unit: u32, diagonal: bool) {
    let y = output(s, 0u, image);
    let kept = output(s, 1u, image);
    let weights = input(s, 1u, image) - FIXED + unit;
    let h = steps[s].size[0];
    let w = steps[s].size[1];
    let d = steps[s].size[2];
    let pixel = row * w + column;
    // The pixels above and before in the same row. A position before the first one wraps around to a large
    // number.
    let beside = select(column - 1u, column + 1u, steps[s].reverse == 1u);
    let taps = select(steps[s].conv.kw, 2u, diagonal);
    let z_at = input(s, 0u, image) + pixel * 4u * d + unit;
    var z = vec4f(value(z_at), value(z_at + d), value(z_at + 2u * d), value(z_at + 3u * d));
    for (var tap = 0u; tap < taps; tap++) {
        var r = row - 1u;
        var c = column + tap - taps / 2u;
        if diagonal {
            r = select(row - 1u, row, tap == 1u);
            c = select(column, beside, tap == 1u);
        }
        if r < h && c < w {
            let state = y + (r * w + c) * d;
            for (var k = 0u; k < d; k++) {
                let w_at = weights + (tap * d + k) * 4u * d;
                let w_ss = vec4f(fixed[w_at], fixed[w_at + d], fixed[w_at + 2u * d], fixed[w_at + 3u * d]);
                z = fma(vec4f(value(state + k)), w_ss, z);
            }
        }
    }
    let r = select(row - 1u, row, diagonal);
    let c = select(column, beside, diagonal);
    var before = 0f;
    if r < h && c < w {
        before = value(kept + ((r * w + c) * 5u + 4u) * d + unit);
    }
    let now = cell(z, before);
    store(y + pixel * d + unit, now.h);
    let keep = kept + pixel * 5u * d + unit;
    store(keep, now.gates.x);
    store(keep + d, now.gates.y);
    store(keep + 2u * d, now.gates.z);
    store(keep + 3u * d, now.gates.w);
    store(keep + 4u * d, now.c);
}

/// The draw from the k logits at `logits`, see categorical of random.wgsl.
fn categorical(logits: u32, k: u32, u: f32, temperature: f32) -> u32 {
    var largest = number_of_bits(MINUS_INFINITY).x;
    var drawn = k - 1u;
    for (var i = 0u; i < k; i++) {
        let l = value(logits + i);
        if l > largest {
            largest = l;
            drawn = i;
        }
    }
    if temperature == 0f {
        return drawn;
    }
    var total = 0f;
    for (var i = 0u; i < k; i++) {
        total += weight_of(value(logits + i), largest, temperature);
    }
    let end = u * total;
    var sum = 0f;
    for (var i = 0u; i < k; i++) {
        sum += weight_of(value(logits + i), largest, temperature);
        if sum > end {
            return i;
        }
    }
    return k - 1u;
}

/// Computes the element of the first output at row, column and channel.
fn run(s: u32, image: u32, row: u32, column: u32, channel: u32) {
    let pixel = row * steps[s].size[1] + column;
    let at = pixel * steps[s].size[2] + channel;
    let x = input(s, 0u, image);
    let y = output(s, 0u, image) + at;
    let a = steps[s].a;
    let b = steps[s].b;
    switch steps[s].op {
        case UNARY: {
            if has(UNARY) {
                store(y, unary_of(steps[s].f, a, vec4f(load(x + at))).x);
            }
        }
        case BINARY: {
            if has(BINARY) {
                store(y, binary_of(steps[s].f, vec4f(load(x + at)), vec4f(load(input(s, 1u, image) + at))).x);
            }
        }
        case AFFINE: {
            if has(AFFINE) {
                store(y, a * load(x + at) + b);
            }
        }
        case CLAMP: {
            if has(CLAMP) {
                store(y, clamp_of(vec4f(load(x + at)), a, b).x);
            }
        }
        case QUANTIZE: {
            if has(QUANTIZE) {
                values[y] = quantize_of(vec4f(load(x + at)), a).x;
            }
        }
        case DEQUANTIZE: {
            if has(DEQUANTIZE) {
                store(y, f32(values[x + at]) / a);
            }
        }
        case GATED: {
            if has(GATED) {
                let left = x + 2u * pixel * steps[s].size[2] + channel;
                store(y, gated_of(vec4f(load(left)), vec4f(load(left + steps[s].size[2]))).x);
            }
        }
        case PAD: {
            if has(PAD) {
                let r = row - steps[s].before[0];
                let c = column - steps[s].before[1];
                let k = channel - steps[s].before[2];
                var v = 0f;
                if r < steps[s].inner[0] && c < steps[s].inner[1] && k < steps[s].inner[2] {
                    v = load(x + (r * steps[s].inner[1] + c) * steps[s].inner[2] + k);
                }
                store(y, v);
            }
        }
        case SLICE: {
            if has(SLICE) {
                let r = row + steps[s].before[0];
                let c = column + steps[s].before[1];
                let k = channel + steps[s].before[2];
                store(y, load(x + (r * steps[s].inner[1] + c) * steps[s].inner[2] + k));
            }
        }
        case CONV: {
            if has(CONV) {
                store(y, epilogue(s, image, at, channel, conv(s, image, row, column, channel)));
            }
        }
        case CATEGORICAL: {
            if has(CATEGORICAL) {
                let k = steps[s].f;
                values[y] = categorical(x + at * k, k, load(input(s, 1u, image) + at), load(input(s, 2u, image)));
            }
        }
        case BERNOULLI: {
            if has(BERNOULLI) {
                let u = vec4f(load(input(s, 1u, image) + at));
                store(y, bernoulli_of(vec4f(load(x + at)), u, load(input(s, 2u, image))).x);
            }
        }
        case ROW_LSTM: {
            if has(ROW_LSTM) {
                scan(s, image, row, column, channel, false);
            }
        }
        case DIAGONAL_LSTM: {
            if has(DIAGONAL_LSTM) {
                scan(s, image, row, column, channel, true);
            }
        }
        case FEED: {
            if at >= args.given {
                values[y] = values[x + at];
            }
        }
        default: { values[y] = NAN; }
    }
}

@compute @workgroup_size(THREADS)
fn sample(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let image = group_index(group, groups);
    if image >= args.images {
        return;
    }
    for (var i = args.first; i < args.end; i++) {
        let columns = windows[i].columns[1] - windows[i].columns[0];
        let channels = windows[i].channels[1] - windows[i].channels[0];
        let len = (windows[i].rows[1] - windows[i].rows[0]) * columns * channels;
        for (var e = t; e < len; e += THREADS) {
            let row = windows[i].rows[0] + e / channels / columns;
            let column = windows[i].columns[0] + e / channels % columns;
            run(windows[i].step, image, row, column, windows[i].channels[0] + e % channels);
        }
        storageBarrier();
    }
}
