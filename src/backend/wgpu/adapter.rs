//! Lists and chooses adapters: hardware before software, by number or by name.

use super::super::DeviceInfo;
use crate::error::{Error, Result};
use wgpu::{Adapter, DeviceType, Features, Limits};

/// What a user can do on this system if no adapter is found.
#[cfg(target_os = "linux")]
const REMEDY: &str =
    "install the Vulkan driver of your card, or mesa-vulkan-drivers and libvulkan1 for software, or use --device cpu";
#[cfg(not(target_os = "linux"))]
const REMEDY: &str = "install the driver of your graphics card, or use --device cpu";

/// All adapters of the machine, in this order: discrete cards, graphics inside the processor, others,
/// software.
pub(super) fn all() -> Vec<Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let mut adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    adapters.sort_by_key(|adapter| match adapter.get_info().device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu | DeviceType::Other => 2,
        DeviceType::Cpu => 3,
    });
    adapters
}

/// Whether an adapter computes on the processor.
pub(super) fn is_software(adapter: &Adapter) -> bool {
    adapter.get_info().device_type == DeviceType::Cpu
}

/// Chooses an adapter: the first one, one by its number, or the first one whose name contains a text.
///
/// # Errors
/// [`Error::Device`] if there is no such adapter.
pub(super) fn choose(which: Option<&str>) -> Result<Adapter> {
    let mut adapters = all();
    if adapters.is_empty() {
        return Err(none());
    }
    let chosen = match which {
        None => Some(0),
        Some(text) => match text.parse::<usize>() {
            Ok(number) => (number < adapters.len()).then_some(number),
            Err(_) => adapters.iter().position(|a| contains(&a.get_info().name, text)),
        },
    };
    match chosen {
        Some(index) => Ok(adapters.swap_remove(index)),
        None => {
            let names: Vec<String> =
                adapters.iter().enumerate().map(|(i, a)| format!("{i} is {}", a.get_info().name)).collect();
            let which = which.unwrap_or_default();
            Err(Error::Device(format!("there is no adapter \"{which}\"; choose among these: {}", names.join(", "))))
        }
    }
}

/// The error if the machine has no adapter at all.
pub(super) fn none() -> Error {
    Error::Device(format!("no Vulkan, Metal or DX12 driver was found for the device wgpu; {REMEDY}"))
}

fn contains(name: &str, text: &str) -> bool {
    name.to_lowercase().contains(&text.to_lowercase())
}

/// The description of an adapter.
pub(super) fn describe(adapter: &Adapter) -> DeviceInfo {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    let mut detail = format!("{}, {}", info.backend, format!("{} {}", info.driver, info.driver_info).trim());
    if is_software(adapter) {
        detail += ", software";
    }
    detail += &format!(", buffers up to {} MiB", binding_limit(&limits) >> 20);
    for (feature, name) in [(Features::TIMESTAMP_QUERY, "timestamps"), (Features::SUBGROUP, "subgroups")] {
        if adapter.features().contains(feature) {
            detail += &format!(", {name}");
        }
    }
    DeviceInfo { kind: "wgpu".into(), name: info.name, detail, threads: 0 }
}

/// Size of the largest buffer that can be bound to a kernel, in bytes.
pub(super) fn binding_limit(limits: &Limits) -> u64 {
    // Kernels count elements in 32 bits, and the drivers of some cards count bytes in 31 bits.
    limits.max_storage_buffer_binding_size.min(limits.max_buffer_size).min(1 << 31)
}
