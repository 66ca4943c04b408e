//! The CUDA driver behind owning types: every resource is freed in `drop`, and every error is a sentence.
//!
//! Thin wrappers around the driver API of CUDA 12.0, so that drivers from this version on work.
//! [`Device::open`] finds the driver's library. No other function here is called before it has succeeded.

use super::failure::{check_usable, failed};
use super::nvrtc::Version;
use crate::backend::Peaks;
use crate::error::{Error, Result};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{
    self, CUdevice_attribute as Attribute, CUevent_flags, CUfunction_attribute, CUgraphInstantiate_flags,
    CUstreamCaptureMode,
};
use std::ffi::{CString, c_void};

/// The oldest driver that has all functions that are called here: the driver of CUDA 12.0.
const OLDEST_DRIVER: i32 = 12_000;

/// The oldest architecture that the kernels support: Volta.
const OLDEST_ARCHITECTURE: Version = Version { major: 7, minor: 0 };

/// A device address.
pub type Address = sys::CUdeviceptr;

/// The memory of a card, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct CardMemory {
    /// Bytes that can be allocated.
    pub free: usize,
    /// All bytes.
    pub total: usize,
}

/// The threads of a kernel launch, and their shared memory.
#[derive(Clone, Copy, Debug)]
pub struct LaunchShape {
    /// Number of blocks along x, y and z.
    pub grid: [u32; 3],
    /// Number of threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory per block.
    pub shared_bytes: u32,
}

/// An open device with its primary context. [`Device::enter`] makes the context current for a thread.
#[derive(Debug)]
pub struct Device {
    device: sys::CUdevice,
    context: sys::CUcontext,
    /// Name of the card.
    pub name: String,
    /// Compute capability.
    pub architecture: Version,
    /// Version of CUDA that the driver supports, for example 12080 for 12.8.
    pub driver: i32,
    /// Streaming multiprocessors.
    pub processors: u32,
    /// Most bytes of shared memory of a block.
    pub shared_bytes: u32,
    /// Its peaks, from its clocks and widths.
    pub peaks: Peaks,
}

/// Number of f32 units of a multiprocessor of this compute capability.
fn cores(architecture: Version) -> i32 {
    match (architecture.major, architecture.minor) {
        (7, _) | (8, 0) => 64,
        _ => 128,
    }
}

impl Device {
    /// Opens the first device.
    ///
    /// # Errors
    /// [`Error::Device`] if the driver or the card is missing or too old; the message names what to install
    /// or update.
    pub fn open() -> Result<Device> {
        // SAFETY: the call opens NVIDIA's driver library by name and closes it again. That library may be
        // loaded at any time.
        if !unsafe { sys::is_culib_present() } {
            return Err(Error::Device(
                "there is no CUDA driver on this machine (libcuda.so.1, nvcuda.dll); install the NVIDIA driver 525 or \
                 newer, or use --device cpu"
                    .into(),
            ));
        }
        result::init().map_err(|e| failed("start", e))?;
        let mut driver = 0;
        // SAFETY: the driver's library was found above; the call writes one integer, and `driver` is a valid
        // place for it.
        unsafe { sys::cuDriverGetVersion(&mut driver) }.result().map_err(|e| failed("tell its version", e))?;
        if driver < OLDEST_DRIVER {
            return Err(Error::Device(format!(
                "the NVIDIA driver knows CUDA {}.{} and 12.0 is needed; update it to 525 or newer",
                driver / 1000,
                driver % 1000 / 10
            )));
        }
        let count = result::device::get_count().map_err(|e| failed("count the cards", e))?;
        if count == 0 {
            return Err(Error::Device("the CUDA driver finds no card; see nvidia-smi, or use --device cpu".into()));
        }
        let device = result::device::get(0).map_err(|e| failed("open the card", e))?;
        let name = result::device::get_name(device).map_err(|e| failed("name the card", e))?;
        let attribute = |which| {
            // SAFETY: `device` is valid: `result::device::get` returned it above.
            unsafe { result::device::get_attribute(device, which) }.map_err(|e| failed("describe the card", e))
        };
        let architecture = Version {
            major: attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            minor: attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        };
        if architecture < OLDEST_ARCHITECTURE {
            return Err(Error::Device(format!(
                "{name} has compute capability {architecture} and {OLDEST_ARCHITECTURE} is needed (Volta, 2017); use --device cpu"
            )));
        }
        let processors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32;
        let shared_bytes = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as u32;
        // Clocks are in kHz. A multiply-add counts as two operations, and the memory transfers twice per
        // clock.
        let clock = f64::from(attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?);
        let memory_clock = f64::from(attribute(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)?);
        let bits = f64::from(attribute(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH)?);
        let gflops = 2.0 * f64::from(processors) * f64::from(cores(architecture)) * clock / 1e6;
        let peaks = Peaks { gflops, gbs: 2.0 * memory_clock * bits / 8.0 / 1e6 };
        // SAFETY: `device` is valid: `result::device::get` returned it above. `Device::drop` releases the
        // context once.
        let context =
            unsafe { result::primary_ctx::retain(device) }.map_err(|e| failed("open a context on the card", e))?;
        let device = Device { device, context, name, architecture, driver, processors, shared_bytes, peaks };
        device.enter()?;
        Ok(device)
    }

    /// Makes the context current for this thread. Fails with the first error if a card has become unusable.
    pub fn enter(&self) -> Result<()> {
        check_usable()?;
        // SAFETY: the context is valid: `open` retained it, and only `drop` releases it.
        unsafe { result::ctx::set_current(self.context) }.map_err(|e| failed("enter the context", e))
    }

    /// The card's memory.
    pub fn memory(&self) -> Result<CardMemory> {
        let (free, total) = result::mem_get_info().map_err(|e| failed("tell how much memory is free", e))?;
        Ok(CardMemory { free, total })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: `open` retained the context, and `drop` runs once. The owner drops everything that needs
        // the context first (order of the fields of `CudaEngine`). An error at the end of the process is
        // ignored: nobody could act on it.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// Device memory.
#[derive(Debug)]
pub struct Memory {
    address: Address,
    words: usize,
}

impl Memory {
    /// Allocates `words` words, and at least one, so that every buffer has an address.
    pub fn new(words: usize) -> Result<Memory> {
        // SAFETY: the caller has made the context current (`Device::enter`), and `drop` frees the memory
        // once. The memory is not initialised: every word is written (by the host, by a kernel, or with NaN
        // under `Options::poison`) before anything reads it.
        let address =
            unsafe { result::malloc_sync(4 * words.max(1)) }.map_err(|e| failed("give memory to a plan", e))?;
        Ok(Memory { address, words })
    }

    /// The address of its first word, a multiple of 256.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Its length in words.
    pub fn words(&self) -> usize {
        self.words
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `new` made the resource, and `drop` runs once. No work uses it any more, because the
        // backend waits for the stream before it drops anything (`CudaEngine::release` and its `drop`).
        let _ = unsafe { result::free_sync(self.address) };
    }
}

/// Page-locked host memory, from which the card can copy while the host continues.
#[derive(Debug)]
pub struct Pinned {
    at: *mut u32,
    words: usize,
}

impl Pinned {
    /// Allocates `words` words.
    pub fn new(words: usize) -> Result<Pinned> {
        // SAFETY: the caller has made the context current (`Device::enter`), and `drop` frees the memory
        // once.
        let at = unsafe { result::malloc_host(4 * words.max(1), 0) }.map_err(|e| failed("give pinned memory", e))?;
        Ok(Pinned { at: at.cast(), words })
    }

    /// The whole memory.
    pub fn words_mut(&mut self) -> &mut [u32] {
        // SAFETY: `new` allocated `words` words, aligned to more than a word, and every bit pattern is a
        // word. `&mut self` excludes other borrows. The card does not read the memory meanwhile, because
        // `CudaEngine::feed` waits for the event of its last copy.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.words) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: `new` made the resource, and `drop` runs once. No work uses it any more, because the
        // backend waits for the stream before it drops anything (`CudaEngine::release` and its `drop`).
        let _ = unsafe { result::free_host(self.at.cast()) };
    }
}

/// A stream: its work runs in the order in which it was enqueued.
#[derive(Debug)]
pub struct Stream(sys::CUstream);

impl Stream {
    /// Makes a stream that does not synchronise with the legacy default stream.
    pub fn new() -> Result<Stream> {
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
        Ok(Stream(stream.map_err(|e| failed("open a stream", e))?))
    }

    /// Waits until all enqueued work is done.
    pub fn wait(&self) -> Result<(), DriverError> {
        // SAFETY: the stream is valid: `new` made it, and only `drop` destroys it.
        unsafe { result::stream::synchronize(self.0) }
    }

    /// Copies words from the host to memory and waits. The copy runs in order with the stream's other work;
    /// a copy outside of the stream would not.
    pub fn write(&self, to: &Memory, words: &[u32]) -> Result<()> {
        assert!(words.len() <= to.words(), "what is written fits");
        if words.is_empty() {
            return Ok(());
        }
        // SAFETY: `to` is borrowed, so its memory is allocated, and it is long enough (asserted above).
        // `words` outlives the copy, because the function returns only after it has waited.
        let copied = unsafe { result::memcpy_htod_async(to.address(), words, self.0) }.and_then(|()| self.wait());
        copied.map_err(|e| failed("copy to the card", e))
    }

    /// Waits until all enqueued work is done, and copies the first words of memory to the host.
    pub fn read(&self, from: &Memory, into: &mut [u32]) -> Result<()> {
        assert!(into.len() <= from.words(), "what is read is there");
        if into.is_empty() {
            return Ok(());
        }
        // SAFETY: `from` is borrowed, so its memory is allocated, and it is long enough (asserted above).
        // `into` outlives the copy, because the function returns only after it has waited.
        let copied = unsafe { result::memcpy_dtoh_async(into, from.address(), self.0) }.and_then(|()| self.wait());
        copied.map_err(|e| failed("copy from the card", e))
    }

    /// Enqueues a copy to the card.
    ///
    /// # Safety
    /// The target is device memory of at least `from.len()` words. Source and target stay allocated, and the
    /// source stays unchanged, until the copy is done.
    pub unsafe fn upload(&self, to: Address, from: &[u32]) -> Result<(), DriverError> {
        // SAFETY: the caller keeps the contract of this function, which is that of the call. The stream is
        // valid while `self` lives.
        unsafe { result::memcpy_htod_async(to, from, self.0) }
    }

    /// Enqueues a copy on the card.
    ///
    /// # Safety
    /// Both ranges are device memory that stays allocated until the copy is done.
    pub unsafe fn copy(&self, to: Address, from: Address, words: usize) -> Result<(), DriverError> {
        // SAFETY: the caller keeps the contract of this function, which is that of the call. The stream is
        // valid while `self` lives.
        unsafe { result::memcpy_dtod_async(to, from, 4 * words, self.0) }
    }

    /// Enqueues filling memory with NaN.
    ///
    /// # Safety
    /// The range is device memory that stays allocated until the work is done.
    pub unsafe fn poison(&self, at: Address, words: usize) -> Result<(), DriverError> {
        // SAFETY: the caller keeps the contract of this function, which is that of the call. The stream is
        // valid while `self` lives.
        unsafe { result::memset_d8_async(at, 0xff, 4 * words, self.0) }
    }

    /// Enqueues a kernel.
    ///
    /// # Safety
    /// `params` are the kernel's parameters in number, size and order. All memory that the kernel accesses
    /// stays allocated until it is done.
    pub unsafe fn launch(
        &self,
        function: &Function,
        shape: LaunchShape,
        params: &mut [*mut c_void],
    ) -> Result<(), DriverError> {
        let LaunchShape { grid: [gx, gy, gz], block: [bx, by, bz], shared_bytes } = shape;
        // SAFETY: the caller keeps the contract of this function, which is that of the call. The stream is
        // valid while `self` lives.
        unsafe { result::launch_kernel(function.0, (gx, gy, gz), (bx, by, bz), shared_bytes, self.0, params) }
    }

    /// Records the work that `enqueue` enqueues as a graph, instead of running it.
    pub fn capture(&self, enqueue: impl FnOnce() -> Result<()>) -> Result<Graph> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is valid: `new` made it, and only `drop` destroys it.
        unsafe { result::stream::begin_capture(self.0, mode) }.map_err(|e| failed("begin a capture", e))?;
        let enqueued = enqueue();
        // SAFETY: the stream is valid, and the capture was begun above. It is ended even if `enqueue`
        // failed.
        let graph = unsafe { result::stream::end_capture(self.0) };
        enqueued?;
        let graph = graph.map_err(|e| failed("end a capture", e))?;
        // SAFETY: `graph` is valid: `end_capture` returned it. It is destroyed once, after it was
        // instantiated, and not used afterwards.
        let made = unsafe {
            let made = result::graph::instantiate(graph, CUgraphInstantiate_flags(0));
            let _ = result::graph::destroy(graph);
            made.map_err(|e| failed("make a graph of a plan", e))?
        };
        let graph = Graph(made);
        // SAFETY: both objects are owned or borrowed here, and each is destroyed only in its own `drop`.
        unsafe { result::graph::upload(graph.0, self.0) }.map_err(|e| failed("upload a graph", e))?;
        Ok(graph)
    }

    /// Enqueues a graph.
    pub fn replay(&self, graph: &Graph) -> Result<(), DriverError> {
        // SAFETY: graph and stream are borrowed, so both are valid. The memory that the graph accesses
        // belongs to the compiled plan and the engine, which free it only after the stream is done.
        unsafe { result::graph::launch(graph.0, self.0) }
    }

    /// Enqueues an event.
    pub fn record(&self, event: &Event) -> Result<(), DriverError> {
        // SAFETY: both objects are owned or borrowed here, and each is destroyed only in its own `drop`.
        unsafe { result::event::record(event.0, self.0) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: `new` made it, `drop` runs once, and nothing uses it afterwards.
        let _ = unsafe { result::stream::destroy(self.0) };
    }
}

/// A captured graph, ready to be launched.
#[derive(Debug)]
pub struct Graph(sys::CUgraphExec);

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: `capture` made it, `drop` runs once, and the backend waits for the stream before it drops
        // a graph.
        let _ = unsafe { result::graph::exec_destroy(self.0) };
    }
}

/// A moment in a stream.
#[derive(Debug)]
pub struct Event(sys::CUevent);

impl Event {
    /// Makes an event that records the time.
    pub fn new() -> Result<Event> {
        let event = result::event::create(CUevent_flags::CU_EVENT_DEFAULT);
        Ok(Event(event.map_err(|e| failed("make an event", e))?))
    }

    /// Waits until the stream has passed the event.
    pub fn wait(&self) -> Result<(), DriverError> {
        // SAFETY: the event is valid: `new` made it, and only `drop` destroys it.
        unsafe { result::event::synchronize(self.0) }
    }

    /// Milliseconds from this event to a later one. Both must have been passed.
    pub fn ms_to(&self, later: &Event) -> Result<f64, DriverError> {
        // SAFETY: both events are borrowed, so both are valid. If one was not recorded, the call returns an
        // error.
        unsafe { result::event::elapsed(self.0, later.0) }.map(f64::from)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: `new` made it, `drop` runs once, and nothing uses it afterwards.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

/// Loaded machine code.
#[derive(Debug)]
pub struct Module(sys::CUmodule);

impl Module {
    /// Loads a cubin or PTX image.
    pub fn load(image: &[u8]) -> Result<Module> {
        // PTX must be text that ends with a zero. A zero after a cubin does no harm.
        let image: Vec<u8> = image.iter().copied().chain([0]).collect();
        // SAFETY: the pointer leads to a whole image that ends with a zero and lives until the call returns.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) };
        Ok(Module(module.map_err(|e| failed("load the kernels", e))?))
    }

    /// Returns a kernel of the module by name, and allows it `shared` bytes of dynamic shared memory.
    pub fn function(&self, name: &str, shared: u32) -> Result<Function> {
        let c_name = CString::new(name).map_err(|_| Error::Failed(format!("the kernel name {name:?} holds a zero")))?;
        // SAFETY: the module is valid while `self` lives. `Kernels` keeps all modules, so the function stays
        // valid as long as the backend.
        let function = unsafe { result::module::get_function(self.0, c_name) }
            .map_err(|e| failed(&format!("find the kernel {name}"), e))?;
        // SAFETY: the function is valid: the driver returned it above.
        unsafe {
            result::function::set_function_attribute(
                function,
                CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                shared as i32,
            )
        }
        .map_err(|e| failed(&format!("give the kernel {name} {shared} bytes of shared memory"), e))?;
        Ok(Function(function))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: `load` loaded it, and `drop` runs once. No kernel of it runs any more, because the backend
        // waits for the stream before it drops anything (`CudaEngine::drop`).
        let _ = unsafe { result::module::unload(self.0) };
    }
}

/// A kernel of a loaded module.
#[derive(Clone, Copy, Debug)]
pub struct Function(sys::CUfunction);
