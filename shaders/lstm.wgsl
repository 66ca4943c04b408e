// LSTM cells and whole sequences. The gates are in the order i f g o (Hochreiter & Schmidhuber 1997, Gers et
// al. 2000).
//
// One thread per unit and row of the batch. A sequence takes one dispatch per step; the states pass from
// step to step through y (forward pass) and dz (backward pass).
// FLOPs: 8 h per gate element for the recurrent product, 20 (backward: 40) per unit for the cell.
// Bytes: z, y and kept once; w_hh once per step, from the cache.
// Bound by the latency of a step, then by reading w_hh.

struct LstmArgs {
    steps: u32,
    /// Rows of the batch.
    rows: u32,
    /// Units.
    h: u32,
    /// The step of a sequence that this dispatch makes.
    step: u32,
}

@group(0) @binding(0) var<uniform> args: LstmArgs;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> c: array<f32>;
@group(0) @binding(4) var<storage, read> d: array<f32>;
@group(0) @binding(5) var<storage, read> e: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read_write> out1: array<f32>;
@group(0) @binding(8) var<storage, read_write> out2: array<f32>;

fn tanh_of(x: f32) -> f32 {
    return math_tanh(vec4f(x)).x;
}

/// The gradients of z, from those of the state and of the new cell; what is left of the latter is multiplied
/// by f outside.
fn gate_gradients(gates: vec4f, dh: f32, dc: f32, before: f32, t: f32) -> vec4f {
    return vec4f(
        dc * gates.z * (gates.x * (1f - gates.x)),
        dc * before * (gates.y * (1f - gates.y)),
        dc * gates.x * (1f - gates.z * gates.z),
        dh * t * (gates.w * (1f - gates.w)),
    );
}

/// a = z[rows, 4h], b = c[rows, h]: y = h', out1 = c', out2 = gates[rows, 4h]. Launch: 256 threads,
/// ceil(rows h / 256).
@compute @workgroup_size(256)
fn lstm_cell(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    let h = args.h;
    if i < args.rows * h {
        let at = i / h * 4u * h + i % h;
        let now = cell(vec4f(a[at], a[at + h], a[at + 2u * h], a[at + 3u * h]), b[i]);
        y[i] = now.h;
        out1[i] = now.c;
        out2[at] = now.gates.x;
        out2[at + h] = now.gates.y;
        out2[at + 2u * h] = now.gates.z;
        out2[at + 3u * h] = now.gates.w;
    }
}

/// a = dh', b = dc', c, d = c', e = gates: y = dz[rows, 4h], out1 = dc. Launch: as lstm_cell.
@compute @workgroup_size(256)
fn lstm_cell_bwd(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    let h = args.h;
    if i < args.rows * h {
        let at = i / h * 4u * h + i % h;
        let gates = vec4f(e[at], e[at + h], e[at + 2u * h], e[at + 3u * h]);
        let th = tanh_of(d[i]);
        let dc = b[i] + a[i] * gates.w * (1f - th * th);
        let dz = gate_gradients(gates, a[i], dc, c[i], th);
        y[at] = dz.x;
        y[at + h] = dz.y;
        y[at + 2u * h] = dz.z;
        y[at + 3u * h] = dz.w;
        out1[i] = dc * gates.y;
    }
}

/// Step args.step. a = z[steps, rows, 4h], b = h0, c = c0, d = w_hh[h, 4h]: y[steps, rows, h], out1 = the
/// cells so far, in the end c_n, out2 = kept[steps, rows, 5h]. Launch: as lstm_cell, once per step.
@compute @workgroup_size(256)
fn lstm(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    let h = args.h;
    let states = args.rows * h;
    if i >= states {
        return;
    }
    let is_first = args.step == 0u;
    let unit = i % h;
    let row_at = i - unit;
    let z_at = args.step * 4u * states + 4u * row_at + unit;
    var z = vec4f(a[z_at], a[z_at + h], a[z_at + 2u * h], a[z_at + 3u * h]);
    for (var k = 0u; k < h; k++) {
        var before = 0f;
        if is_first {
            before = b[row_at + k];
        } else {
            before = y[(args.step - 1u) * states + row_at + k];
        }
        let w_at = k * 4u * h + unit;
        z = fma(vec4f(before), vec4f(d[w_at], d[w_at + h], d[w_at + 2u * h], d[w_at + 3u * h]), z);
    }
    var before = 0f;
    if is_first {
        before = c[i];
    } else {
        before = out1[i];
    }
    let now = cell(z, before);
    out1[i] = now.c;
    y[args.step * states + i] = now.h;
    let kept = args.step * 5u * states + 5u * row_at + unit;
    out2[kept] = now.gates.x;
    out2[kept + h] = now.gates.y;
    out2[kept + 2u * h] = now.gates.z;
    out2[kept + 3u * h] = now.gates.w;
    out2[kept + 4u * h] = now.c;
}

/// Step args.step; steps run from the last to the first. args.step = args.steps is one more dispatch after
/// the first step. a = dy[steps, rows, h], b = dc_n, c = c0, d = w_hh, e = kept: y = dz[steps, rows, 4h],
/// out1 = dh0, out2 = the gradient of the cells so far, in the end dc0. dz w_hh^T is the gradient that a
/// step passes to the one before it. Launch: as lstm_cell, once per step and once more.
@compute @workgroup_size(256)
fn lstm_bwd(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    let h = args.h;
    let states = args.rows * h;
    if i >= states {
        return;
    }
    let is_end = args.step == args.steps;
    let unit = i % h;
    let row_at = i - unit;
    // Of the state, from the step behind.
    let behind = select(args.step + 1u, 0u, is_end);
    var dh = 0f;
    if behind < args.steps {
        let dz_at = behind * 4u * states + 4u * row_at;
        for (var k = 0u; k < 4u * h; k++) {
            dh = fma(y[dz_at + k], d[unit * 4u * h + k], dh);
        }
    }
    var dc = 0f;
    if behind < args.steps {
        dc = out2[i];
    } else {
        dc = b[i];
    }
    if is_end {
        out1[i] = dh;
        out2[i] = dc;
        return;
    }
    dh += a[args.step * states + i];
    let kept = args.step * 5u * states + 5u * row_at + unit;
    let gates = vec4f(e[kept], e[kept + h], e[kept + 2u * h], e[kept + 3u * h]);
    let th = tanh_of(e[kept + 4u * h]);
    dc += dh * gates.w * (1f - th * th);
    var before = c[i];
    if args.step > 0u {
        before = e[kept + 4u * h - 5u * states];
    }
    let dz = gate_gradients(gates, dh, dc, before, th);
    let at = args.step * 4u * states + 4u * row_at + unit;
    y[at] = dz.x;
    y[at + h] = dz.y;
    y[at + 2u * h] = dz.z;
    y[at + 3u * h] = dz.w;
    out2[i] = dc * gates.y;
}
