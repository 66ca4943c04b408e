// matmul: the rows of a are pixels without neighbours, and each is multiplied by all of b. Read product.wgsl
// first.

/// Whether a is [k, m], transposed.
override ALONG_M: bool = false;

fn pixel_of(index: u32, end: u32) -> Pixel {
    return Pixel(index < end, index, 0, 0);
}

/// a[row, along]
fn source(p: Pixel, along: u32) -> u32 {
    return p.image * args.cin + along;
}

/// Where a is not transposed, b may be the masked weights of a convolution with one tap.
fn quad_of_b(k: u32, end: u32, column: u32) -> vec4f {
    if ALONG_M {
        return b_quad(k, end, column);
    }
    return open_quad(k, end, column);
}

fn row_of_y(tile: Tile, m: u32) -> u32 {
    return dense_row(tile.chunk, m);
}

/// y[m, n] = a[m, k] b[k, n], then the epilogue. Launch: a workgroup for each tile, tiles along n innermost.
@compute @workgroup_size(256)
fn matmul(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let index = group_index(group, groups);
    if index < args.tiles_m * args.tiles_n {
        product(open_tile_of(index), t);
    }
}

/// y[chunk][m, n] = a[k, m] b[k, n] over the rows k of each chunk. Launch: a workgroup for each tile of each
/// chunk.
@compute @workgroup_size(256)
fn matmul_ta(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let index = group_index(group, groups);
    if index < args.tiles_m * args.tiles_n * args.chunks {
        product(chunk_tile_of(index), t);
    }
}
