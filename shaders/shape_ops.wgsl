// Kernels that move elements: pad, slice, gather, scatter. A thread writes one element.
//
// Launch: 256 threads per workgroup, ceil(elements written / 256) workgroups. Only index arithmetic. Bytes:
// every operand once (scatter: dy once per row of y, through the cache). Bound by memory.

struct RegionArgs {
    /// Extents of the outer tensor, of the region inside it, and where the region begins.
    outer: vec4u,
    inner: vec4u,
    before: vec4u,
}

struct IndexArgs {
    /// Rows of the table, or of y.
    rows: u32,
    /// Number of indices.
    count: u32,
    /// Elements of a row.
    width: u32,
}

@group(0) @binding(0) var<uniform> region: RegionArgs;
@group(0) @binding(0) var<uniform> indexed: IndexArgs;
/// pad: the region. slice: the outer tensor. gather: table[rows, width]. scatter: dy[count, width].
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> index: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

fn elements(extents: vec4u) -> u32 {
    return extents.x * extents.y * extents.z * extents.w;
}

/// Position of element `i` of a dense tensor.
fn position(i: u32, extents: vec4u) -> vec4u {
    let rest = vec3u(i / extents.w, i / extents.w / extents.z, i / extents.w / extents.z / extents.y);
    return vec4u(rest.z, rest.y % extents.y, rest.x % extents.z, i % extents.w);
}

fn offset_of(at: vec4u, extents: vec4u) -> u32 {
    return ((at.x * extents.y + at.y) * extents.z + at.z) * extents.w + at.w;
}

/// Writes x into the region of y, and zeros around it.
@compute @workgroup_size(256)
fn pad(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < elements(region.outer) {
        // Left of the region the difference wraps around to a large number.
        let at = position(i, region.outer) - region.before;
        var value = 0f;
        if all(at < region.inner) {
            value = x[offset_of(at, region.inner)];
        }
        y[i] = value;
    }
}

/// Copies the region of x to y.
@compute @workgroup_size(256)
fn slice(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < elements(region.inner) {
        y[i] = x[offset_of(position(i, region.inner) + region.before, region.outer)];
    }
}

/// y[i] = x[index[i]], for rows of `width` elements; NaN if the index is out of range.
@compute @workgroup_size(256)
fn gather(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < indexed.count * indexed.width {
        let row = index[i / indexed.width];
        var value = number_of_bits(NAN).x;
        if row < indexed.rows {
            value = x[row * indexed.width + i % indexed.width];
        }
        y[i] = value;
    }
}

/// y[index[i]] += x[i] in order of i, for rows of `width` elements. If any index is out of range, all of y
/// becomes NaN, because there is no row that could show the error.
@compute @workgroup_size(256)
fn scatter(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < indexed.rows * indexed.width {
        let own = i / indexed.width;
        let column = i % indexed.width;
        var sum = 0f;
        for (var k = 0u; k < indexed.count; k++) {
            let row = index[k];
            if row == own {
                sum += x[k * indexed.width + column];
            } else if row >= indexed.rows {
                sum = number_of_bits(NAN).x;
            }
        }
        y[i] = sum;
    }
}
