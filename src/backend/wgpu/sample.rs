//! Windowed sampling: builds the tables that `sample.wgsl` interprets, and the dispatches of that kernel.
//!
//! The images and all values that windows write are in one arena, so that one kernel can reach them. The
//! other values that windows read (parameters, the temperature, values of the steps that run whole) are
//! copied into a second arena at the beginning of each batch.

use super::args::SampleArgs;
use super::dispatch::{Dispatch, grid};
use super::gpu::{ALIGNMENT, Gpu, GpuBuffer, Location};
use super::shaders::Shader;
use crate::backend::args::{NO_FUNCTION, fused, word};
use crate::backend::sample::{self, Does, SampleStep};
use crate::error::{Error, Result};
use crate::shape::ImageSize;
use crate::tape::geometry::centre_of;
use crate::tape::plan::{Buffer, Fused, Plan};
use crate::tape::window::{SamplingPlan, Window};
use crate::tape::window_op::code;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use wgpu::{BindGroup, BufferUsages, CommandEncoder, ComputePipeline};

/// Most loop iterations of a thread in one dispatch, over all its loops. Mesa's software Vulkan silently
/// ends the loops of a thread after 65 535 iterations. On a card, the limit keeps a dispatch short enough
/// for the driver's watchdog.
const LOOPS: usize = 60_000;
/// Addresses from this one on are in the arena of the values that no window writes.
const FIXED: u32 = 1 << 31;
/// Code of the step that writes the draw of a position into the image. It is a step of its own, because a
/// dispatch may end before it.
const FEED: u32 = 30;
/// The bit of the constant `OPS` that says whether the plan has an activation gradient in an epilogue.
const ACT_BWD: u32 = 31;
const _: () = assert!(code::EACH.len() < FEED as usize);

/// The parts of a sampled plan in addition to its buffers.
pub(super) struct Sampling {
    images: u32,
    positions_of_a_row: usize,
    /// The dispatches of each row of an image.
    rows: Vec<Vec<Piece>>,
    pipeline: ComputePipeline,
    grid: [u32; 2],
    /// The arguments of all dispatches in order. Each begins at an offset where a binding may begin.
    args: wgpu::Buffer,
    fixed: Vec<Fixed>,
    tables: Tables,
}

/// The tables that the kernel interprets.
struct Tables {
    steps: GpuBuffer,
    windows: GpuBuffer,
}

/// One dispatch, which computes a range of windows.
struct Piece {
    windows: Range<usize>,
    group: BindGroup,
}

/// A value that no window writes, and the place that it is copied from.
struct Fixed {
    to: GpuBuffer,
    from: wgpu::Buffer,
    offset: u64,
}

/// The two arenas, and the address of every value in them.
pub(super) struct Arenas {
    /// The arena of the values that windows only read.
    fixed_values: GpuBuffer,
    /// The arena of the values that windows write.
    written_values: GpuBuffer,
    /// The parts of `fixed_values`.
    fixed: Vec<(Buffer, GpuBuffer)>,
    /// The parts of `written_values`.
    pub(super) written: HashMap<Buffer, GpuBuffer>,
    addresses: HashMap<Buffer, u32>,
}

impl Arenas {
    /// Allocates the arenas. Returns `None` if a batch of a single image does not fit into the largest
    /// buffer.
    ///
    /// # Errors
    /// [`Error::Device`] if the batch is too large.
    pub(super) fn new(gpu: &mut Gpu, plan: &SamplingPlan) -> Result<Option<Arenas>> {
        let written = written(plan);
        let fixed: Vec<Buffer> = read(plan).into_iter().filter(|buffer| !written.contains(buffer)).collect();
        let [written_lens, fixed_lens] = [&written, &fixed].map(|all| lens(&plan.plan, all));
        let fits = |lens: &[usize]| 4 * gpu.arena_words(lens) as u64 <= gpu.largest;
        if plan.images == 1 && !(fits(&written_lens) && fits(&fixed_lens)) {
            return Ok(None);
        }
        let name = &plan.plan.name;
        let (written_values, written_parts) = gpu.arena(&written_lens, &format!("all values of the plan {name}"))?;
        let (fixed_values, fixed_parts) = gpu.arena(&fixed_lens, &format!("all parameters of the plan {name}"))?;
        let mut addresses = HashMap::new();
        for (buffer, part) in written.iter().zip(&written_parts) {
            addresses.insert(*buffer, word(part.start_in(&written_values))?);
        }
        for (buffer, part) in fixed.iter().zip(&fixed_parts) {
            addresses.insert(*buffer, FIXED + word(part.start_in(&fixed_values))?);
        }
        let fixed = fixed.into_iter().zip(fixed_parts).collect();
        let written = written.into_iter().zip(written_parts).collect();
        Ok(Some(Arenas { fixed_values, written_values, fixed, written, addresses }))
    }
}

/// The buffers that the sampling kernel writes: the images, and the outputs of the steps with windows.
fn written(plan: &SamplingPlan) -> Vec<Buffer> {
    let steps = plan.plan.steps.iter().zip(&plan.sizes).filter(|(_, size)| size.is_some());
    let outputs = steps.flat_map(|(step, _)| step.outputs.iter().map(|output| output.buffer));
    [Buffer::Input(plan.x)].into_iter().chain(outputs).collect()
}

/// The buffers that the steps with windows read.
fn read(plan: &SamplingPlan) -> BTreeSet<Buffer> {
    let steps = plan.plan.steps.iter().zip(&plan.sizes).filter(|(_, size)| size.is_some());
    let operands =
        steps.flat_map(|(step, _)| step.inputs.iter().chain(step.epilogue.iter().filter_map(Fused::operand)));
    operands.map(|operand| operand.buffer).collect()
}

/// Number of elements of each of these buffers.
fn lens(plan: &Plan, buffers: &[Buffer]) -> Vec<usize> {
    let len = |buffer: &Buffer| match buffer {
        Buffer::Slot(s) => plan.slots[*s as usize].len,
        Buffer::Input(i) => plan.inputs[i.0 as usize].meta.shape.len(),
        Buffer::Param(p) => plan.params.iter().find(|param| param.id == *p).map_or(0, |param| param.meta.shape.len()),
        Buffer::Scalar(_) => 1,
    };
    buffers.iter().map(len).collect()
}

impl Sampling {
    /// Makes the tables of a plan and its dispatches. For a value that no window writes, `location` returns
    /// where it is.
    ///
    /// # Errors
    /// [`Error::Device`] if a step has no windows, or if the batch is too large; the error names the cause.
    pub(super) fn new<'a>(
        gpu: &mut Gpu,
        plan: &SamplingPlan,
        arenas: Arenas,
        location: impl Fn(Buffer) -> Location<'a>,
    ) -> Result<Sampling> {
        let Arenas { fixed_values, written_values, fixed, addresses, .. } = arenas;
        let copied = |(buffer, to)| {
            let Location { buffer: from, offset } = location(buffer);
            Fixed { to, from: from.clone(), offset }
        };
        let fixed = fixed.into_iter().map(copied).collect();
        let mut steps = sample::steps(plan, |buffer| addresses[&buffer])?;
        let feed = steps.len();
        steps.push(feed_step(plan, &addresses)?);
        let (threads, ops, function) = (threads(plan), ops(&steps), function(&steps));
        let Dispatches { windows, rows } = dispatches(plan, &steps, word(feed)?, threads);
        let name = &plan.plan.name;
        let table = |words: &[u32], what: &str| {
            let buffer = gpu.buffer(words.len(), &format!("the table of {what} of the plan {name}"))?;
            gpu.write(&buffer, words);
            Ok::<GpuBuffer, Error>(buffer)
        };
        let tables = Tables {
            steps: table(&sample::words(&steps), "steps")?,
            windows: table(bytemuck::cast_slice(&windows), "windows")?,
        };
        let grid = grid(plan.images).ok_or_else(|| {
            Error::Device(format!(
                "a batch of {} images is more than a device starts; choose a smaller one",
                plan.images
            ))
        })?;
        let pieces = rows.iter().map(Vec::len).sum::<usize>() as u64;
        let args = gpu.raw_buffer(pieces * ALIGNMENT, BufferUsages::UNIFORM | BufferUsages::COPY_DST);
        let dispatch = Dispatch::new(Shader::Sample, "sample", &SampleArgs::default());
        let dispatch = dispatch.constant("THREADS", word(threads)?).constant("OPS", ops);
        let pipeline = gpu.pipeline(&dispatch.constant("FUNCTION", function));
        let layout = pipeline.get_bind_group_layout(0);
        let mut offset = 0;
        let mut piece = |windows: Range<usize>| {
            let size = std::num::NonZeroU64::new(ALIGNMENT);
            let own = wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &args, offset, size });
            offset += ALIGNMENT;
            let storage = [&tables.steps, &tables.windows, &fixed_values, &written_values].map(GpuBuffer::binding);
            let resources = (0..).zip([own].into_iter().chain(storage));
            let entries: Vec<_> =
                resources.map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
            let descriptor = wgpu::BindGroupDescriptor { label: Some("sample"), layout: &layout, entries: &entries };
            Piece { windows, group: gpu.device.create_bind_group(&descriptor) }
        };
        let rows = rows.into_iter().map(|row| row.into_iter().map(&mut piece).collect()).collect();
        let (images, positions) = (word(plan.images)?, plan.images * plan.image.width * plan.image.channels);
        Ok(Sampling { images, positions_of_a_row: positions, rows, pipeline, grid, args, fixed, tables })
    }

    /// The buffers that this struct owns, with names for messages.
    pub(super) fn buffers(&self) -> impl Iterator<Item = (String, &GpuBuffer)> {
        let Tables { steps, windows } = &self.tables;
        let tables = [("the table of steps".to_string(), steps), ("the table of windows".to_string(), windows)];
        let fixed = self.fixed.iter().enumerate().map(|(i, fixed)| (format!("copy {i}"), &fixed.to));
        tables.into_iter().chain(fixed)
    }

    /// Number of rows of an image.
    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Number of positions in one row, over all images.
    pub(super) fn positions_of_a_row(&self) -> usize {
        self.positions_of_a_row
    }

    /// Copies the values that no window writes into their arena. They may have changed since the last batch.
    pub(super) fn copy_fixed(&self, encoder: &mut CommandEncoder) {
        for Fixed { to, from, offset } in &self.fixed {
            let target = to.location();
            encoder.copy_buffer_to_buffer(from, *offset, target.buffer, target.offset, 4 * to.len as u64);
        }
    }

    /// Writes the arguments of a batch. The positions before `given` are given and not drawn.
    pub(super) fn begin(&self, gpu: &Gpu, given: usize) {
        let given = u32::try_from(given).unwrap_or(u32::MAX);
        let mut words = vec![];
        for Piece { windows, .. } in self.rows.iter().flatten() {
            let args = SampleArgs { first: windows.start as u32, end: windows.end as u32, given, images: self.images };
            words.extend_from_slice(bytemuck::bytes_of(&args));
            words.resize(words.len().next_multiple_of(ALIGNMENT as usize), 0);
        }
        gpu.queue.write_buffer(&self.args, 0, &words);
    }

    /// Encodes the rounds of one row of all images as one pass, and submits it.
    pub(super) fn submit_row(&self, gpu: &Gpu, row: usize) {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&self.pipeline);
            for piece in &self.rows[row] {
                pass.set_bind_group(0, &piece.group, &[]);
                pass.dispatch_workgroups(self.grid[0], self.grid[1], 1);
            }
        }
        gpu.queue.submit([encoder.finish()]);
    }
}

/// Threads of a workgroup: one per channel of the widest window, within the limits of every device.
fn threads(plan: &SamplingPlan) -> usize {
    let widest = plan.windows.iter().map(|window| window.channels[1] - window.channels[0]).max().unwrap_or(0);
    (widest as usize).next_power_of_two().clamp(64, 256)
}

/// One bit per op that occurs in the steps.
fn ops(steps: &[SampleStep<u32>]) -> u32 {
    let gradient = |does: &Does| u32::from(does.epilogue.kinds.contains(&fused::ACT_BWD)) << ACT_BWD;
    steps.iter().fold(0, |ops, SampleStep { does, .. }| ops | 1 << does.op | gradient(does))
}

/// The elementwise function of all steps, or [`NO_FUNCTION`] if there is not exactly one.
fn function(steps: &[SampleStep<u32>]) -> u32 {
    let unary = steps.iter().filter(|step| step.does.op == code::UNARY).map(|step| step.does.f);
    let folded = steps.iter().map(|step| &step.does.epilogue).filter(|e| e.kinds.contains(&fused::ACT)).map(|e| e.act);
    let functions: BTreeSet<u32> = unary.chain(folded).collect();
    if functions.len() > 1 { NO_FUNCTION } else { functions.first().copied().unwrap_or(NO_FUNCTION) }
}

/// The step that writes draws `[n, h, w, c]` into the images.
fn feed_step(plan: &SamplingPlan, addresses: &HashMap<Buffer, u32>) -> Result<SampleStep<u32>> {
    let of = |output: usize| addresses[&plan.plan.outputs[output].1.buffer];
    let positions = word(plan.rounds())?;
    let (input_stride, output_stride) = ([positions, 0, 0], [positions, 0]);
    let does =
        Does { op: FEED, size: plan.image.axes().map(|e| e as u32), input_stride, output_stride, ..Does::default() };
    let (inputs, outputs) = ([of(SamplingPlan::DRAWS), 0, 0], [of(SamplingPlan::IMAGES), 0]);
    Ok(SampleStep { inputs, outputs, does, ..SampleStep::default() })
}

/// The windows of a plan, and how they are dispatched.
struct Dispatches {
    /// All windows in order.
    windows: Vec<Window>,
    /// For each row of an image, the range of windows of each dispatch.
    rows: Vec<Vec<Range<usize>>>,
}

/// Cuts the windows of a plan into dispatches. The windows of a round are followed by a window of the step
/// `feed`.
fn dispatches(plan: &SamplingPlan, steps: &[SampleStep<u32>], feed: u32, threads: usize) -> Dispatches {
    let ImageSize { height, width: w, channels: c } = plan.image;
    let (mut windows, mut rows) = (vec![], vec![]);
    for row in 0..height {
        let (mut pieces, mut first, mut loops) = (vec![], windows.len(), 0);
        for round in row * w * c..(row + 1) * w * c {
            let one = |at: usize| [at as u32, at as u32 + 1];
            let (rows, columns, channels) = (one(row), one(round / c % w), one(round % c));
            let fed = Window { step: feed, rows, columns, channels, padding: 0 };
            for window in plan.in_round(round).iter().chain([&fed]) {
                let does = &steps[window.step as usize].does;
                for part in parts(*window, does, threads) {
                    let more = loops_of(&part, does, threads);
                    if loops + more > LOOPS && windows.len() > first {
                        pieces.push(first..windows.len());
                        (first, loops) = (windows.len(), 0);
                    }
                    loops += more;
                    windows.push(part);
                }
            }
        }
        pieces.push(first..windows.len());
        rows.push(pieces);
    }
    Dispatches { windows, rows }
}

/// Cuts a window into parts of at most [`LOOPS`] loop iterations. A window of a single element is not cut.
fn parts(window: Window, does: &Does, threads: usize) -> Vec<Window> {
    let lengths = [window.rows, window.columns, window.channels].map(|[start, end]| end - start);
    let longest = lengths.into_iter().max().unwrap_or(0);
    if longest < 2 || loops_of(&window, does, threads) <= LOOPS {
        return vec![window];
    }
    let mut halves = [window; 2];
    let axis = lengths.iter().position(|length| *length == longest);
    for (i, half) in halves.iter_mut().enumerate() {
        let range = match axis {
            Some(0) => &mut half.rows,
            Some(1) => &mut half.columns,
            _ => &mut half.channels,
        };
        range[1 - i] = range[0] + longest / 2;
    }
    halves.into_iter().flat_map(|half| parts(half, does, threads)).collect()
}

/// Most loop iterations of a thread for a window.
fn loops_of(window: &Window, does: &Does, threads: usize) -> usize {
    let lengths = [window.rows, window.columns, window.channels].map(|[start, end]| (end - start) as usize);
    let conv = &does.conv;
    let [kh, kw] = [conv.kh, conv.kw].map(|taps| taps as usize);
    let each = match does.op {
        code::CONV => {
            let open = if conv.mask == 0 { kh * kw } else { centre_of(kh) * kw + centre_of(kw) + 1 };
            let channels = conv.cin as usize;
            // Taps; groups of four channels and single channels; the operations of the epilogue.
            open * (1 + channels / 4 + channels % 4) + 4
        }
        code::CATEGORICAL => 3 * does.f as usize,
        code::ROW_LSTM => conv.kw as usize * (1 + does.size[2] as usize),
        code::DIAGONAL_LSTM => 2 * (1 + does.size[2] as usize),
        code::UNARY | code::BINARY | code::AFFINE | code::CLAMP | code::QUANTIZE | code::DEQUANTIZE => 0,
        code::GATED | code::PAD | code::SLICE | code::BERNOULLI | FEED => 0,
        other => unreachable!("no step has the code {other}"),
    };
    1 + lengths.iter().product::<usize>().div_ceil(threads) * (1 + each)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::args::Conv;

    fn window(rows: u32, columns: u32, channels: u32) -> Window {
        Window { step: 0, rows: [3, 3 + rows], columns: [0, columns], channels: [2, 2 + channels], padding: 0 }
    }

    #[test]
    fn loops_are_counted_as_the_kernel_goes_through_them() {
        let conv = Conv { kh: 3, kw: 3, cin: 18, mask: 1, ..Conv::default() };
        let does = Does { op: code::CONV, conv, ..Does::default() };
        // Five open taps, each of four quads and two single channels; two elements per thread.
        assert_eq!(loops_of(&window(1, 5, 64), &does, 256), 1 + 2 * (1 + 5 * (1 + 4 + 2) + 4));
        let draw = Does { op: code::CATEGORICAL, f: 256, ..Does::default() };
        assert_eq!(loops_of(&window(1, 1, 3), &draw, 64), 1 + 1 + 768);
    }

    #[test]
    fn a_window_that_takes_too_long_is_cut_into_parts_that_make_it_up() {
        let conv = Conv { kh: 7, kw: 7, cin: 512, ..Conv::default() };
        let does = Does { op: code::CONV, conv, ..Does::default() };
        let whole = window(7, 32, 512);
        let parts = parts(whole, &does, 256);
        assert!(parts.len() > 1 && parts.iter().all(|part| loops_of(part, &does, 256) <= LOOPS));
        let mut seen = vec![0; 10 * 32 * 514];
        for part in &parts {
            let range = |[start, end]: [u32; 2]| start as usize..end as usize;
            for (row, column) in range(part.rows).flat_map(|r| range(part.columns).map(move |c| (r, c))) {
                range(part.channels).for_each(|k| seen[(row * 32 + column) * 514 + k] += 1);
            }
        }
        assert!(seen.iter().all(|n| *n <= 1));
        assert_eq!(seen.iter().sum::<usize>(), 7 * 32 * 512);
    }
}
