// conv: the rows of a are patches of x under the output pixels. Read product.wgsl first.

const ALONG_M: bool = false;

fn pixel_of(index: u32, end: u32) -> Pixel {
    return output_pixel(index, end);
}

fn source(p: Pixel, along: u32) -> u32 {
    return patch_source(p, along);
}

fn quad_of_b(k: u32, end: u32, column: u32) -> vec4f {
    return open_quad(k, end, column);
}

fn row_of_y(tile: Tile, m: u32) -> u32 {
    return dense_row(0u, m);
}

/// y[images, oh, ow, cout] = conv(x, w), then the epilogue. Launch: a workgroup for each tile, tiles along n
/// innermost.
@compute @workgroup_size(256)
fn conv(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let index = group_index(group, groups);
    if index < args.tiles_m * args.tiles_n {
        product(open_tile_of(index), t);
    }
}
