//! Finds, opens and lists the devices of this machine by name.

use super::{Backend, DeviceInfo, cpu};
use crate::error::{Error, Result};
use std::sync::{Once, OnceLock};

/// The names of devices that a user can give.
pub const DEVICES: [&str; 4] = ["auto", "cpu", "cuda", "wgpu"];

/// Whether `name` is a valid name of a device: one of [`DEVICES`], or an adapter by number or by a part of
/// its name, as in `wgpu:1` or `wgpu:radeon`.
pub fn is_device(name: &str) -> bool {
    DEVICES.contains(&name) || name.strip_prefix("wgpu:").is_some_and(|adapter| !adapter.is_empty())
}

/// The error for a name that no device has.
pub fn unknown_device(name: &str) -> Error {
    Error::Usage(format!("there is no device \"{name}\"; name one of {} by --device", DEVICES.join(", ")))
}

/// The function that is told about the choice of a device.
static LISTENER: OnceLock<fn(&str)> = OnceLock::new();

/// Sets the function that receives messages: which device `auto` has chosen and why, and a warning about a
/// slow device. Each message is sent once per process. Without a listener the messages are dropped. Only the
/// first call has an effect.
pub fn listen(listener: fn(&str)) {
    LISTENER.get_or_init(|| listener);
}

fn say_once(said: &Once, sentence: &str) {
    if let Some(listener) = LISTENER.get() {
        said.call_once(|| listener(sentence));
    }
}

/// Opens the device called `name`. `auto` takes an NVIDIA card, else a hardware adapter of wgpu, else the
/// CPU, and tells the listener its choice and the reason (see [`listen`]). A software adapter is used only
/// if `name` asks for wgpu; the listener then gets a warning. `threads` is for the CPU; 0 takes every core.
///
/// # Errors
/// [`Error::Usage`] for a name that no device has; [`Error::Device`] for a device that this build or this
/// machine lacks.
pub fn open(name: &str, threads: usize) -> Result<Box<dyn Backend>> {
    match name {
        "cpu" => open_cpu(threads),
        "cuda" => open_cuda(),
        "wgpu" => open_wgpu(None),
        "auto" => open_auto(threads),
        other => match other.strip_prefix("wgpu:") {
            Some(adapter) if !adapter.is_empty() => open_wgpu(Some(adapter)),
            _ => Err(unknown_device(other)),
        },
    }
}

/// Opens the first of these that works: cuda, a hardware adapter of wgpu, cpu.
fn open_auto(threads: usize) -> Result<Box<dyn Backend>> {
    let (device, why) = match open_cuda() {
        Ok(card) => (card, String::new()),
        Err(no_cuda) => match open_hardware() {
            Ok(card) => (card, format!(" (no cuda: {no_cuda})")),
            Err(no_wgpu) => (open_cpu(threads)?, format!(" (no cuda: {no_cuda}; no wgpu: {no_wgpu})")),
        },
    };
    static SAY: Once = Once::new();
    let info = device.describe();
    say_once(&SAY, &format!("device: {}, {}{why}", info.kind, info.name));
    Ok(device)
}

fn open_cpu(threads: usize) -> Result<Box<dyn Backend>> {
    Ok(Box::new(cpu::Cpu::new(cpu::Options { threads, ..Default::default() })?))
}

#[cfg(feature = "cuda")]
fn open_cuda() -> Result<Box<dyn Backend>> {
    Ok(Box::new(super::cuda::Cuda::new(super::cuda::Options::default())?))
}

#[cfg(not(feature = "cuda"))]
fn open_cuda() -> Result<Box<dyn Backend>> {
    Err(absent("cuda"))
}

/// Opens the first hardware adapter of wgpu.
#[cfg(feature = "wgpu")]
fn open_hardware() -> Result<Box<dyn Backend>> {
    match super::wgpu::first_hardware() {
        Some(number) => open_wgpu(Some(&number.to_string())),
        None => Err(Error::Device("no driver of a graphics card was found".into())),
    }
}

#[cfg(not(feature = "wgpu"))]
fn open_hardware() -> Result<Box<dyn Backend>> {
    Err(absent("wgpu"))
}

#[cfg(feature = "wgpu")]
fn open_wgpu(adapter: Option<&str>) -> Result<Box<dyn Backend>> {
    let options = super::wgpu::Options { adapter: adapter.map(String::from), ..Default::default() };
    let device = super::wgpu::Wgpu::new(options)?;
    if device.is_software() {
        static WARN: Once = Once::new();
        let name = device.describe().name;
        say_once(&WARN, &format!("warning: {name} computes on the processor; --device cpu is faster"));
    }
    Ok(Box::new(device))
}

#[cfg(not(feature = "wgpu"))]
fn open_wgpu(_adapter: Option<&str>) -> Result<Box<dyn Backend>> {
    Err(absent("wgpu"))
}

/// The error for a backend that this build lacks because its cargo feature is off.
#[cfg(not(all(feature = "cuda", feature = "wgpu")))]
fn absent(device: &str) -> Error {
    Error::Device(format!("this build has no {device} backend; use --device cpu"))
}

/// Every device of this machine that can be opened, with its name.
///
/// # Errors
/// Fails if not even the CPU backend can be opened.
pub fn devices() -> Result<Vec<(String, DeviceInfo)>> {
    let mut all = vec![("cpu".to_string(), open_cpu(0)?.describe())];
    all.extend(open_cuda().ok().map(|card| ("cuda".to_string(), card.describe())));
    #[cfg(feature = "wgpu")]
    all.extend(super::wgpu::adapters().into_iter().enumerate().map(|(i, info)| (format!("wgpu:{i}"), info)));
    Ok(all)
}

/// The kinds of devices that this build supports but this machine does not: (name, reason).
pub fn unusable() -> Vec<(&'static str, String)> {
    let tried = [("cuda", cfg!(feature = "cuda"), open_cuda().err()), ("wgpu", cfg!(feature = "wgpu"), no_adapter())];
    tried
        .into_iter()
        .filter(|(_, built, _)| *built)
        .filter_map(|(name, _, why)| Some((name, why?.to_string())))
        .collect()
}

#[cfg(feature = "wgpu")]
fn no_adapter() -> Option<Error> {
    super::wgpu::adapters().is_empty().then(super::wgpu::no_adapter)
}

#[cfg(not(feature = "wgpu"))]
fn no_adapter() -> Option<Error> {
    None
}

/// The names of the devices that this build does not support.
pub fn not_in_this_build() -> Vec<&'static str> {
    let left_out = |name: &str| name == "cuda" && !cfg!(feature = "cuda") || name == "wgpu" && !cfg!(feature = "wgpu");
    DEVICES.into_iter().filter(|name| left_out(name)).collect()
}
