//! The opened device: makes pipelines and buffers, reads buffers back, and turns errors into messages.

use super::adapter;
use super::dispatch::Dispatch;
use super::shaders::Shader;
use crate::error::{Error, Result};
use crate::panics;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use wgpu::{Adapter, BufferUsages, ComputePipeline, Device, Features, Limits, Queue, ShaderModule};

/// Alignment of the offset of a binding, in bytes.
pub(super) const ALIGNMENT: u64 = 256;
/// The size of a buffer is a multiple of this, because kernels read whole vec4s.
const QUAD_BYTES: u64 = 16;
/// The value of every guard word.
const GUARD: u32 = 0x5afe_c0de;

/// Words on the device. A clone refers to the same buffer.
#[derive(Clone)]
pub(super) struct GpuBuffer {
    pub(super) buffer: wgpu::Buffer,
    /// Number of elements, of four bytes each.
    pub(super) len: usize,
    /// Offset of the first element in bytes. If the device is guarded, a guard ends there, and a second
    /// guard begins after the last element, rounded up to a vec4.
    offset: u64,
}

/// A place in a buffer of the device.
#[derive(Clone, Copy)]
pub(super) struct Location<'a> {
    pub(super) buffer: &'a wgpu::Buffer,
    /// Bytes from the start of the buffer.
    pub(super) offset: u64,
}

impl GpuBuffer {
    /// Number of bytes that are bound to a kernel.
    pub(super) fn bound_bytes(&self) -> u64 {
        bound_bytes(self.len)
    }

    /// Offset of this part in its arena, in words.
    pub(super) fn start_in(&self, arena: &GpuBuffer) -> usize {
        (self.offset - arena.offset) as usize / 4
    }

    /// Where the first word is.
    pub(super) fn location(&self) -> Location<'_> {
        Location { buffer: &self.buffer, offset: self.offset }
    }

    /// The buffer as a binding.
    pub(super) fn binding(&self) -> wgpu::BindingResource<'_> {
        let size = std::num::NonZeroU64::new(self.bound_bytes());
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &self.buffer, offset: self.offset, size })
    }
}

/// Number of bytes that are bound to a kernel for `len` words.
fn bound_bytes(len: usize) -> u64 {
    (4 * len as u64).next_multiple_of(QUAD_BYTES).max(QUAD_BYTES)
}

/// The errors of the device that were not reported yet.
#[derive(Clone, Debug, Default)]
struct Faults {
    /// The first error since the last report. Later ones follow from it.
    first: Option<String>,
    /// The reason why the device is lost. It stays set, because a lost device does not come back.
    lost: Option<String>,
}

/// Advice for the user after a device is lost.
const LOST: &str = "go on from the last checkpoint by --resume";

/// A key of the pipeline cache: file, entry point, constants.
pub(super) type PipelineKey = (Shader, &'static str, Vec<(&'static str, u32)>);

/// An opened device.
pub(super) struct Gpu {
    pub(super) device: Device,
    pub(super) queue: Queue,
    /// Size of the largest buffer that can be bound, in bytes.
    pub(super) largest: u64,
    guarded: bool,
    faults: Arc<Mutex<Faults>>,
    modules: HashMap<Shader, ShaderModule>,
    pipelines: HashMap<PipelineKey, ComputePipeline>,
    staging: Option<wgpu::Buffer>,
}

impl Gpu {
    /// Opens an adapter. With `guarded`, every buffer has guard words around it, which
    /// [`Gpu::first_overrun`] checks.
    ///
    /// # Errors
    /// [`Error::Device`] if the driver refuses.
    pub(super) fn open(adapter: &Adapter, guarded: bool) -> Result<Gpu> {
        let name = adapter.get_info().name;
        let offered = adapter.limits();
        // The limits that every browser grants, except for the size of buffers.
        let limits = Limits {
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            max_buffer_size: offered.max_buffer_size,
            ..Limits::default()
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("pixtape"),
            required_features: adapter.features() & Features::TIMESTAMP_QUERY,
            required_limits: limits.clone(),
            ..Default::default()
        };
        let opened = pollster::block_on(adapter.request_device(&descriptor));
        let (device, queue) = opened.map_err(|e| {
            Error::Device(format!("{name} could not be opened ({e}); update its driver or use --device cpu")).because(e)
        })?;
        let faults = Arc::new(Mutex::new(Faults::default()));
        let (for_errors, for_loss) = (faults.clone(), faults.clone());
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let message = match &error {
                wgpu::Error::OutOfMemory { .. } => {
                    "the device is out of memory; choose a smaller batch or model, or use --device cpu".to_string()
                }
                other => {
                    let why = other.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
                    format!("the device refused a command ({why}); update its driver or use --device cpu")
                }
            };
            if let Ok(mut faults) = for_errors.lock() {
                faults.first.get_or_insert(message);
            }
        }));
        device.set_device_lost_callback(move |_, message| {
            if let Ok(mut faults) = for_loss.lock() {
                faults.lost = Some(format!("the device was lost ({message}); {LOST}"));
            }
        });
        Ok(Gpu {
            device,
            queue,
            largest: adapter::binding_limit(&limits),
            guarded,
            faults,
            modules: HashMap::new(),
            pipelines: HashMap::new(),
            staging: None,
        })
    }

    /// Returns the error that occurred since the last call, if there is one. `doing` says what the program
    /// was doing.
    pub(super) fn check(&self, doing: &str) -> Result<()> {
        let fault = self.faults.lock().ok().and_then(|mut faults| faults.lost.clone().or_else(|| faults.first.take()));
        match fault {
            Some(why) => Err(Error::Device(format!("{doing}: {why}"))),
            None => Ok(()),
        }
    }

    /// Makes a buffer of `len` words, which are zero at first.
    ///
    /// # Errors
    /// [`Error::Device`] if the buffer is larger than what can be bound to a kernel. `what` names the
    /// purpose of the buffer in the message.
    pub(super) fn buffer(&self, len: usize, what: &str) -> Result<GpuBuffer> {
        let guard = self.guard_bytes();
        let buffer = GpuBuffer { buffer: self.raw_buffer(0, BufferUsages::STORAGE), len, offset: guard };
        let bound = buffer.bound_bytes();
        if bound > self.largest {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            return Err(Error::Device(format!(
                "{what} takes {} MiB in one buffer and the device allows {}; choose a smaller batch or model, or use --device cpu",
                mib(bound),
                mib(self.largest)
            )));
        }
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let buffer = GpuBuffer { buffer: self.raw_buffer(bound + 2 * guard, usage), ..buffer };
        self.write_guards(&buffer);
        Ok(buffer)
    }

    /// Makes a buffer of several parts with `lens` words. A kernel can reach all parts through one binding,
    /// and each part can be bound alone. Returns the whole and the parts.
    ///
    /// # Errors
    /// As for [`Gpu::buffer`].
    pub(super) fn arena(&self, lens: &[usize], what: &str) -> Result<(GpuBuffer, Vec<GpuBuffer>)> {
        let whole = self.buffer(self.arena_words(lens), what)?;
        let mut offset = whole.offset;
        let parts = lens.iter().map(|len| {
            let part = GpuBuffer { buffer: whole.buffer.clone(), len: *len, offset: offset + self.guard_bytes() };
            offset += self.part_bytes(*len);
            self.write_guards(&part);
            part
        });
        let parts = parts.collect();
        Ok((whole, parts))
    }

    /// Number of words of an arena with parts of `lens` words.
    pub(super) fn arena_words(&self, lens: &[usize]) -> usize {
        lens.iter().map(|len| self.part_bytes(*len)).sum::<u64>() as usize / 4
    }

    /// Number of bytes of a part of an arena, with its guards and the padding before the next part.
    fn part_bytes(&self, len: usize) -> u64 {
        (bound_bytes(len) + 2 * self.guard_bytes()).next_multiple_of(ALIGNMENT)
    }

    /// Size of the guard before and after each buffer, in bytes. No kernel may write there.
    fn guard_bytes(&self) -> u64 {
        if self.guarded { ALIGNMENT } else { 0 }
    }

    fn write_guards(&self, buffer: &GpuBuffer) {
        if self.guarded {
            let words = vec![GUARD; ALIGNMENT as usize / 4];
            for at in [buffer.offset - ALIGNMENT, buffer.offset + buffer.bound_bytes()] {
                self.queue.write_buffer(&buffer.buffer, at, bytemuck::cast_slice(&words));
            }
        }
    }

    /// Makes a buffer for arguments, scalars or staging.
    pub(super) fn raw_buffer(&self, bytes: u64, usage: BufferUsages) -> wgpu::Buffer {
        let descriptor =
            wgpu::BufferDescriptor { label: None, size: bytes.max(QUAD_BYTES), usage, mapped_at_creation: false };
        self.device.create_buffer(&descriptor)
    }

    /// Writes words to the front of a buffer.
    pub(super) fn write(&self, buffer: &GpuBuffer, words: &[u32]) {
        if !words.is_empty() {
            self.queue.write_buffer(&buffer.buffer, buffer.offset, bytemuck::cast_slice(words));
        }
    }

    /// Waits until all earlier work is done, then reads words from the front of a buffer.
    pub(super) fn read(&mut self, buffer: &GpuBuffer, into: &mut [u32]) -> Result<()> {
        self.read_raw(&buffer.buffer, buffer.offset, into)
    }

    /// Reads words of a buffer from the byte `offset` on, like [`Gpu::read`].
    pub(super) fn read_raw(&mut self, buffer: &wgpu::Buffer, offset: u64, into: &mut [u32]) -> Result<()> {
        if into.is_empty() {
            return self.wait();
        }
        let bytes = 4 * into.len() as u64;
        let staging = match self.staging.take().filter(|s| s.size() >= bytes) {
            Some(staging) => staging,
            None => self.raw_buffer(bytes.next_power_of_two(), BufferUsages::MAP_READ | BufferUsages::COPY_DST),
        };
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
        self.queue.submit([encoder.finish()]);
        let outcome = Arc::new(Mutex::new(None));
        let mapped = outcome.clone();
        staging.map_async(wgpu::MapMode::Read, ..bytes, move |result| {
            if let Ok(mut slot) = mapped.lock() {
                *slot = Some(result);
            }
        });
        self.wait()?;
        let failed =
            |why: String| Error::Device(format!("reading from the device failed ({why}); run the command again"));
        match outcome.lock().ok().and_then(|mut slot| slot.take()) {
            Some(Ok(())) => {}
            Some(Err(why)) => return Err(failed(why.to_string())),
            None => return Err(failed("it never answered".to_string())),
        }
        {
            let view = staging.get_mapped_range(..bytes).map_err(|why| failed(why.to_string()))?;
            bytemuck::cast_slice_mut(into).copy_from_slice(&view);
        }
        staging.unmap();
        self.staging = Some(staging);
        self.check("reading from the device")
    }

    /// Waits until all submitted work is done.
    pub(super) fn wait(&self) -> Result<()> {
        // wgpu panics if the device is lost during the wait, and it has no other way to wait.
        let waited = panics::catch(|| self.device.poll(wgpu::PollType::wait_indefinitely()));
        self.check("waiting for the device")?;
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(why)) => Err(Error::Device(format!("the device does not answer ({why}); restart the program"))),
            Err(_) => Err(Error::Device(format!("the device was lost while it was waited for; {LOST}"))),
        }
    }

    /// Index of the first of these buffers whose guard words were changed.
    pub(super) fn first_overrun(&mut self, buffers: &[GpuBuffer]) -> Result<Option<usize>> {
        let all =
            self.raw_buffer(2 * ALIGNMENT * buffers.len() as u64, BufferUsages::COPY_SRC | BufferUsages::COPY_DST);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        for (at, buffer) in (0..).step_by(2 * ALIGNMENT as usize).zip(buffers) {
            encoder.copy_buffer_to_buffer(&buffer.buffer, buffer.offset - ALIGNMENT, &all, at, ALIGNMENT);
            let behind = buffer.offset + buffer.bound_bytes();
            encoder.copy_buffer_to_buffer(&buffer.buffer, behind, &all, at + ALIGNMENT, ALIGNMENT);
        }
        self.queue.submit([encoder.finish()]);
        let guard = ALIGNMENT as usize / 2;
        let mut words = vec![0; guard * buffers.len()];
        self.read_raw(&all, 0, &mut words)?;
        Ok(words.chunks(guard).position(|words| words.iter().any(|word| *word != GUARD)))
    }

    /// The keys of all pipelines that were made, in order.
    pub(super) fn pipeline_keys(&self) -> Vec<PipelineKey> {
        let mut keys: Vec<PipelineKey> = self.pipelines.keys().cloned().collect();
        keys.sort();
        keys
    }

    /// The pipeline of a dispatch. It is made on first use.
    pub(super) fn pipeline(&mut self, dispatch: &Dispatch) -> ComputePipeline {
        let key = (dispatch.shader, dispatch.entry, dispatch.constants.clone());
        if let Some(pipeline) = self.pipelines.get(&key) {
            return pipeline.clone();
        }
        let device = &self.device;
        let module = self.modules.entry(dispatch.shader).or_insert_with(|| module(device, dispatch.shader));
        let constants: Vec<(&str, f64)> = dispatch.constants.iter().map(|(name, v)| (*name, f64::from(*v))).collect();
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(dispatch.entry),
            layout: None,
            module,
            entry_point: Some(dispatch.entry),
            // Zeros would be wasted: kernels write workgroup memory before they read it.
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        self.pipelines.insert(key, pipeline.clone());
        pipeline
    }
}

/// Compiles a shader file.
fn module(device: &Device, shader: Shader) -> ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(shader.name()),
        source: wgpu::ShaderSource::Wgsl(shader.source().into()),
    };
    // SAFETY: without run-time checks, a shader must not access memory outside its bindings, loop forever or
    // use the quotient of a division by zero. The shaders are our own. Every index is kept below the extents
    // in the arguments. The launches take these extents from the operands whose buffers are bound, and no
    // operand is longer than its buffer (`Plan::check` and, for windows, `SamplingPlan::check`, called by
    // the gate). Every loop counts up to such an extent. No divisor is zero where its quotient is used.
    // Tests run every kernel on odd sizes between guard words.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No call panics, and every call reports the loss.
    #[test]
    fn a_lost_device_is_an_error_with_a_remedy() {
        let Ok(adapter) = adapter::choose(None) else {
            println!("SKIP: there is no Vulkan, Metal or DX12 driver");
            return;
        };
        let mut gpu = Gpu::open(&adapter, false).unwrap();
        let buffer = gpu.buffer(4, "a value").unwrap();
        gpu.write(&buffer, &[1, 2, 3, 4]);
        gpu.device.destroy();
        let mut words = [0; 4];
        for _ in 0..2 {
            let why = gpu.read(&buffer, &mut words).unwrap_err().to_string();
            assert!(why.contains("the device was lost") && why.contains("--resume"), "{why}");
        }
        gpu.write(&buffer, &[1]);
        assert!(gpu.check("writing").is_err());
        let fill = super::super::launch::fill(0, super::super::dispatch::Place::Unused, 4);
        gpu.pipeline(&fill).get_bind_group_layout(0);
        assert!(gpu.check("preparing").is_err());
    }
}
