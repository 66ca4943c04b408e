//! Measures the peaks of a device, because WebGPU reports neither clocks nor numbers of units.

use super::args::PeakArgs;
use super::dispatch::Dispatch;
use super::gpu::{Gpu, GpuBuffer};
use super::shaders::Shader;
use crate::backend::Peaks;
use crate::error::Result;
use std::time::Instant;
use wgpu::{BindGroup, BindGroupEntry, BufferUsages, ComputePipeline};

/// Workgroups of the multiply-adds, and rounds of each thread: 8.6 GFLOP in all.
const GROUPS: u32 = 1024;
const ROUNDS: u32 = 512;
/// FLOPs of a thread per round, and threads of a workgroup.
const FLOPS: u32 = 64;
const THREADS: u32 = 256;
/// Floats in each array of the triad: more than the caches hold.
const TRIAD_LEN: usize = 12 << 20;
/// Shortest time of a run in seconds, so that the time to start it is negligible, and most dispatches of a
/// run.
const LONG: f64 = 0.03;
const MOST_REPEATS: u32 = 1 << 12;
/// Number of runs; the fastest one counts.
const RUNS: usize = 5;

/// Measures f32 multiply-adds on registers in GFLOP/s, and the bandwidth of memory in GB/s, where each array
/// of the triad counts once. Takes about a second.
///
/// # Errors
/// Fails if the device reports an error.
pub(super) fn measure(gpu: &mut Gpu) -> Result<Peaks> {
    let gflops = {
        let y = gpu.buffer(4, "the measure of arithmetic")?;
        let args = PeakArgs { rounds: ROUNDS, never: -1.0, ..PeakArgs::default() };
        let dispatch = Dispatch::new(Shader::Peak, "multiply_adds", &args);
        let flops = f64::from(GROUPS * THREADS) * f64::from(ROUNDS * FLOPS);
        flops / seconds(gpu, &dispatch, &[(3, &y)], GROUPS)? / 1e9
    };
    let [a, b, y] = ["a", "b", "y"].map(|name| gpu.buffer(TRIAD_LEN, &format!("{name} of the measure of memory")));
    let (a, b, y) = (a?, b?, y?);
    let quads = (TRIAD_LEN / 4) as u32;
    let dispatch = Dispatch::new(Shader::Peak, "triad", &PeakArgs { len: quads, ..PeakArgs::default() });
    let bytes = (3 * 4 * TRIAD_LEN) as f64;
    let gbs = bytes / seconds(gpu, &dispatch, &[(1, &a), (2, &b), (3, &y)], quads.div_ceil(THREADS))? / 1e9;
    Ok(Peaks { gflops, gbs })
}

/// Shortest time of one dispatch in seconds.
fn seconds(gpu: &mut Gpu, dispatch: &Dispatch, buffers: &[(u32, &GpuBuffer)], groups: u32) -> Result<f64> {
    let pipeline = gpu.pipeline(dispatch);
    let args = gpu.raw_buffer(dispatch.args.len() as u64, BufferUsages::UNIFORM | BufferUsages::COPY_DST);
    gpu.queue.write_buffer(&args, 0, &dispatch.args);
    let mut entries = vec![BindGroupEntry { binding: 0, resource: args.as_entire_binding() }];
    entries.extend(buffers.iter().map(|(binding, b)| BindGroupEntry { binding: *binding, resource: b.binding() }));
    let layout = pipeline.get_bind_group_layout(0);
    let descriptor = wgpu::BindGroupDescriptor { label: Some(dispatch.entry), layout: &layout, entries: &entries };
    let bound = gpu.device.create_bind_group(&descriptor);
    // The first run compiles the kernel and maps the memory.
    timed(gpu, &pipeline, &bound, groups, 1)?;
    let mut repeats = 1;
    while repeats < MOST_REPEATS && timed(gpu, &pipeline, &bound, groups, repeats)? < LONG {
        repeats *= 2;
    }
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        best = best.min(timed(gpu, &pipeline, &bound, groups, repeats)?);
    }
    Ok(best / f64::from(repeats))
}

/// Time of `repeats` dispatches in seconds, from the submission until they are done.
fn timed(gpu: &Gpu, pipeline: &ComputePipeline, bound: &BindGroup, groups: u32, repeats: u32) -> Result<f64> {
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, bound, &[]);
        (0..repeats).for_each(|_| pass.dispatch_workgroups(groups, 1, 1));
    }
    let commands = encoder.finish();
    let start = Instant::now();
    gpu.queue.submit([commands]);
    gpu.wait()?;
    Ok(start.elapsed().as_secs_f64())
}
