//! Validates every shader with naga and translates it to SPIR-V, Metal and HLSL, without a graphics card.
//!
//! The tests also run `spirv-val` if it is installed, check the limits that a browser guarantees, and
//! compare the sizes of argument structures with those in Rust.

use naga::back::{PipelineConstants, hlsl, msl, pipeline_constants, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ShaderStage};
use pixtape::backend::wgpu::shaders::Shader;
use std::collections::BTreeSet;
use std::process::Command;

fn parse(shader: Shader) -> Module {
    let source = shader.source();
    naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(&source, shader.name())))
}

/// Validated with no capability beyond core WebGPU.
fn validate(shader: Shader, module: &Module) -> ModuleInfo {
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
    validator.validate(module).unwrap_or_else(|e| panic!("{}: {}", shader.name(), e.emit_to_string(&shader.source())))
}

#[test]
fn shaders_translate_for_vulkan_metal_and_dx12() {
    let mut kernels = 0;
    for shader in Shader::ALL {
        let module = parse(shader);
        let info = validate(shader, &module);
        for entry in &module.entry_points {
            let name = format!("{}::{}", shader.name(), entry.name);
            let stage = (ShaderStage::Compute, entry.name.as_str());
            let (module, info) =
                pipeline_constants::process_overrides(&module, &info, Some(stage), &PipelineConstants::default())
                    .unwrap_or_else(|e| panic!("{name}: {e}"));
            let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: entry.name.clone() };
            let words = spv::write_vec(&module, &info, &spv::Options::default(), Some(&pipeline));
            assert!(!words.unwrap_or_else(|e| panic!("{name}: {e}")).is_empty(), "{name}");
            let metal = msl::Options { fake_missing_bindings: true, ..Default::default() };
            let (text, _) = msl::write_string(&module, &info, &metal, &msl::PipelineOptions::default())
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(!text.is_empty(), "{name}");
            let (options, mut text) = (hlsl::Options::default(), String::new());
            let pipeline = hlsl::PipelineOptions { entry_point: Some(stage_owned(&entry.name)) };
            hlsl::Writer::new(&mut text, &options, &pipeline)
                .write(&module, &info, None)
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(!text.is_empty(), "{name}");
            kernels += 1;
        }
    }
    assert!(kernels > 40, "{kernels} kernels");
}

fn stage_owned(name: &str) -> (ShaderStage, String) {
    (ShaderStage::Compute, name.to_string())
}

/// `spirv-val` verifies the SPIR-V that naga generates.
#[test]
fn spirv_is_valid_to_the_validator_of_khronos() {
    let required = std::env::var("PIXTAPE_REQUIRE").unwrap_or_default().split(',').any(|r| r == "spirv-val");
    if Command::new("spirv-val").arg("--version").output().is_err() {
        assert!(
            !required,
            "PIXTAPE_REQUIRE asks for `spirv-val`, which the package spirv-tools has, but it is not installed"
        );
        println!("SKIP: spirv-val (package spirv-tools) is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // SPIR-V 1.3 is the version that wgpu uses on a driver with Vulkan 1.1. The tools of older systems do
    // not know a later version.
    let options = spv::Options { lang_version: (1, 3), ..Default::default() };
    for shader in Shader::ALL {
        let module = parse(shader);
        let info = validate(shader, &module);
        for entry in &module.entry_points {
            let stage = (ShaderStage::Compute, entry.name.as_str());
            let (module, info) =
                pipeline_constants::process_overrides(&module, &info, Some(stage), &PipelineConstants::default())
                    .unwrap();
            let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: entry.name.clone() };
            let words = spv::write_vec(&module, &info, &options, Some(&pipeline)).unwrap();
            let path = folder.path().join(format!("{}-{}.spv", shader.name(), entry.name));
            std::fs::write(&path, words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
            let checked = Command::new("spirv-val").args(["--target-env", "vulkan1.1"]).arg(&path).output().unwrap();
            let said = String::from_utf8_lossy(&checked.stderr);
            assert!(checked.status.success(), "{}::{}: {said}", shader.name(), entry.name);
        }
    }
}

/// The limits that a browser guarantees: 8 storage buffers per kernel, 256 invocations and 16 KiB of memory
/// per workgroup.
#[test]
fn shaders_keep_to_the_default_limits() {
    for shader in Shader::ALL {
        let module = parse(shader);
        let info = validate(shader, &module);
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        for (index, entry) in module.entry_points.iter().enumerate() {
            let name = format!("{}::{}", shader.name(), entry.name);
            let used = |space: fn(naga::AddressSpace) -> bool| {
                let info = info.get_entry_point(index);
                let used =
                    module.global_variables.iter().filter(|(handle, v)| !info[*handle].is_empty() && space(v.space));
                used.map(|(_, v)| layouter[v.ty].size).collect::<Vec<u32>>()
            };
            let storage = used(|space| matches!(space, naga::AddressSpace::Storage { .. }));
            assert!(storage.len() <= 8, "{name} binds {} storage buffers", storage.len());
            let shared: u32 = used(|space| space == naga::AddressSpace::WorkGroup).iter().sum();
            assert!(shared <= 16 * 1024, "{name} takes {shared} bytes of workgroup memory");
            assert!(entry.workgroup_size.iter().product::<u32>() <= 256, "{name}");
        }
    }
}

/// The argument structures have the same size in WGSL as in Rust, apart from the padding that alignment adds
/// at the end.
#[test]
fn argument_structures_have_one_size() {
    use pixtape::backend::args::{Conv, Epilogue, Region};
    use pixtape::backend::wgpu::args::*;
    use pixtape::tape::window::Window;
    let sizes = [
        ("ElementArgs", size_of::<ElementArgs>()),
        ("RegionArgs", size_of::<Region>()),
        ("IndexArgs", size_of::<IndexArgs>()),
        ("ReduceArgs", size_of::<ReduceArgs>()),
        ("ProductArgs", size_of::<ProductArgs>()),
        ("NormArgs", size_of::<NormArgs>()),
        ("LossArgs", size_of::<LossArgs>()),
        ("LstmArgs", size_of::<LstmArgs>()),
        ("PeakArgs", size_of::<PeakArgs>()),
        ("ScanArgs", size_of::<ScanArgs>()),
        ("RandomArgs", size_of::<RandomArgs>()),
        ("OptimArgs", size_of::<OptimArgs>()),
        ("SampleArgs", size_of::<SampleArgs>()),
        ("Conv", size_of::<Conv>()),
        ("Epilogue", size_of::<Epilogue>()),
        ("Window", size_of::<Window>()),
        // Eight addresses of one word, then 192 bytes, which `backend::sample` asserts.
        ("SampleStep", 32 + 192),
    ];
    let mut seen = BTreeSet::new();
    for shader in Shader::ALL {
        let module = parse(shader);
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        for (handle, ty) in module.types.iter() {
            let name = ty.name.as_deref().unwrap_or_default();
            if let Some((_, size)) = sizes.iter().find(|(known, _)| *known == name) {
                let layout = layouter[handle];
                let aligned = layout.alignment.round_up(*size as u32);
                assert_eq!(layout.size, aligned, "{name} of {}", shader.name());
                seen.insert(name.to_string());
            }
        }
    }
    assert_eq!(seen.len(), sizes.len(), "{seen:?}");
}
