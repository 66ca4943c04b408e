// The peak of the device: multiply-adds on registers, and a triad in memory. No op runs these kernels;
// `bench` compares ops with them.

struct PeakArgs {
    /// Rounds of 8 multiply-adds of vec4s.
    rounds: u32,
    /// vec4s in each array of the triad.
    len: u32,
    /// A value that no sum has, which the compiler cannot know.
    never: f32,
}

@group(0) @binding(0) var<uniform> args: PeakArgs;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4f>;

/// 64 FLOPs per round and thread, in 8 chains that do not wait for each other. Launch: 256 threads, any
/// number of workgroups.
@compute @workgroup_size(256)
fn multiply_adds(@builtin(local_invocation_index) t: u32) {
    let by = vec4f(0.5f);
    let start = vec4f(f32(t));
    var s0 = start;
    var s1 = start + 1f;
    var s2 = start + 2f;
    var s3 = start + 3f;
    var s4 = start + 4f;
    var s5 = start + 5f;
    var s6 = start + 6f;
    var s7 = start + 7f;
    for (var round = 0u; round < args.rounds; round++) {
        s0 = fma(s0, by, start);
        s1 = fma(s1, by, start);
        s2 = fma(s2, by, start);
        s3 = fma(s3, by, start);
        s4 = fma(s4, by, start);
        s5 = fma(s5, by, start);
        s6 = fma(s6, by, start);
        s7 = fma(s7, by, start);
    }
    let sum = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7));
    if sum.x == args.never {
        y[0] = sum;
    }
}

/// y = a + 3 b: 48 bytes per thread. Launch: 256 threads, ceil(len / 256) workgroups.
@compute @workgroup_size(256)
fn triad(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = group_index(group, groups) * 256u + t;
    if i < args.len {
        y[i] = a[i] + 3f * b[i];
    }
}
