// Sums over any set of axes, and the expansion, which is their counterpart.
//
// The large tensor is [kept0, folded0, kept1, folded1, width], the small one [kept0, kept1, width]. A sum of
// more than 32 rows is split into parts of `part_rows` rows, and a second launch of the same kernel adds the
// parts. `part_rows` depends on the width alone, so the order of a sum depends on its geometry alone.
// FLOPs: one per element. Bytes: both tensors once. Bound by memory.

struct ReduceArgs {
    kept0: u32,
    folded0: u32,
    kept1: u32,
    folded1: u32,
    width: u32,
    /// Rows of one part, and parts of one sum.
    part_rows: u32,
    parts: u32,
    /// Threads side by side along the width: a power of two; the others of a workgroup share the rows of its
    /// part.
    columns: u32,
    /// Where row 0 begins in x, and how far apart rows are if they are not dense (one sum only); 0 where
    /// they are.
    offset: u32,
    row_stride: u32,
}

@group(0) @binding(0) var<uniform> args: ReduceArgs;
/// sum: the large tensor. expand: the small one.
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> lanes: array<f32, 256>;

/// Where `row` of sum `s` begins in the large tensor.
fn row_offset(s: u32, row: u32) -> u32 {
    if args.row_stride > 0u {
        return args.offset + row * args.row_stride;
    }
    let outer = row / args.folded1;
    let inner = row % args.folded1;
    return ((((s / args.kept1) * args.folded0 + outer) * args.kept1 + s % args.kept1) * args.folded1 + inner) * args.width;
}

/// y[s, part, j] = sum over the rows of the part. Launch: 256 threads; ceil(width / columns) workgroups for
/// each part of each sum, parts innermost but for the columns.
@compute @workgroup_size(256)
fn sum(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let index = group_index(group, groups);
    let blocks = (args.width + args.columns - 1u) / args.columns;
    let part = index / blocks;
    if part >= args.kept0 * args.kept1 * args.parts {
        return;
    }
    let s = part / args.parts;
    let first = part % args.parts * args.part_rows;
    let end = min(first + args.part_rows, args.folded0 * args.folded1);
    let column = index % blocks * args.columns + t % args.columns;
    var total = 0f;
    if column < args.width {
        for (var row = first + t / args.columns; row < end; row += 256u / args.columns) {
            total += x[row_offset(s, row) + column];
        }
    }
    lanes[t] = total;
    for (var half = 128u; half >= args.columns; half /= 2u) {
        workgroupBarrier();
        if t < half {
            lanes[t] += lanes[t + half];
        }
    }
    if t < args.columns && column < args.width {
        y[part * args.width + column] = lanes[t];
    }
}

/// The same for sums of at most 32 rows: a thread each. Launch: 256 threads, ceil(sums * width / 256)
/// workgroups.
@compute @workgroup_size(256)
fn sum_short(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < args.kept0 * args.kept1 * args.width {
        let s = i / args.width;
        let column = i % args.width;
        let rows = args.folded0 * args.folded1;
        var total = 0f;
        for (var row = 0u; row < rows; row++) {
            total += x[row_offset(s, row) + column];
        }
        y[i] = total;
    }
}

/// y = x repeated along the folded axes. Launch: 256 threads, ceil(elements of the large tensor / 256)
/// workgroups.
@compute @workgroup_size(256)
fn expand(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < args.kept0 * args.folded0 * args.kept1 * args.folded1 * args.width {
        let row = i / args.width;
        let outer = row / args.folded1;
        let small = outer / (args.kept1 * args.folded0) * args.kept1 + outer % args.kept1;
        y[i] = x[small * args.width + i % args.width];
    }
}
