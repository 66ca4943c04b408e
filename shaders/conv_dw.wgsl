// conv_dw: the columns of a are patches of x under the output pixels; the sum is over the output pixels.
// Read product.wgsl first.

const ALONG_M: bool = true;

fn pixel_of(index: u32, end: u32) -> Pixel {
    return output_pixel(index, end);
}

fn source(p: Pixel, along: u32) -> u32 {
    return patch_source(p, along);
}

/// Four channels of dy.
fn quad_of_b(k: u32, end: u32, column: u32) -> vec4f {
    return b_quad(k, end, column);
}

fn row_of_y(tile: Tile, m: u32) -> u32 {
    return dense_row(tile.chunk, m);
}

/// y[chunk][kh, kw, cin, cout] = dw of the output pixels of each chunk. Launch: a workgroup for each tile of
/// each chunk.
@compute @workgroup_size(256)
fn conv_dw(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let index = group_index(group, groups);
    if index < args.tiles_m * args.tiles_n * args.chunks {
        product(chunk_tile_of(index), t);
    }
}
