//! `train --init`: weights as PyTorch saves them, in other float types and with the additions of its
//! wrappers.

use super::{Place, tiny};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;

/// Numbers that floats of 16 bits have exactly.
fn number(i: usize) -> f32 {
    (i % 64) as f32 / 64.0 - 0.5
}

/// The bytes of a number in a float type.
fn encode(value: f32, dtype: Dtype) -> Vec<u8> {
    let bits = value.to_bits();
    match dtype {
        Dtype::F32 => bits.to_le_bytes().to_vec(),
        Dtype::F64 => f64::from(value).to_le_bytes().to_vec(),
        Dtype::BF16 => ((bits >> 16) as u16).to_le_bytes().to_vec(),
        Dtype::F16 => {
            // The exponent's bias is 15 and not 127; the numbers of this test are normal or zero.
            let exponent = ((bits >> 23 & 255) as i32 - 112).max(0) as u32;
            let mantissa = if exponent == 0 { 0 } else { bits >> 13 & 1023 };
            ((bits >> 16 & 0x8000 | exponent << 10 | mantissa) as u16).to_le_bytes().to_vec()
        }
        other => panic!("{other} is no float type of this test"),
    }
}

/// The tensors of `file` with other values in another type, under names with a prefix, and a counter.
fn rewritten(file: &[u8], dtype: Dtype, prefix: &str) -> Vec<u8> {
    let file = SafeTensors::deserialize(file).unwrap();
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let data: Vec<u8> = (0..view.shape().iter().product()).flat_map(|i| encode(number(i), dtype)).collect();
        tensors.insert(format!("{prefix}{name}"), (dtype, view.shape().to_vec(), data));
    }
    if !prefix.is_empty() {
        let counter = (Dtype::I64, vec![], 7_i64.to_le_bytes().to_vec());
        tensors.insert(format!("{prefix}g.n1.num_batches_tracked"), counter);
    }
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn weights_in_other_float_types_and_of_wrapped_models_are_read() {
    let place = Place::new();
    place.ok(&tiny("gan-mnist", 1, "run"));
    place.ok("export run weights.safetensors --weights raw");
    let exported = place.bytes("weights.safetensors");
    let last = |out: &str| place.bytes(&format!("{out}/checkpoints/step-000001.safetensors"));
    let cases = [
        ("f32", Dtype::F32, ""),
        ("f64", Dtype::F64, "module."),
        ("f16", Dtype::F16, "module."),
        ("bf16", Dtype::BF16, "_orig_mod."),
    ];
    for (out, dtype, prefix) in cases {
        place.write("init.safetensors", &rewritten(&exported, dtype, prefix));
        place.ok(&format!("{} --init init.safetensors", tiny("gan-mnist", 1, out)));
        assert!(last(out) == last("f32"), "{out}");
    }
    assert!(last("f32") != last("run"));
}

#[test]
fn what_a_file_of_weights_lacks_is_said_with_a_remedy_that_helps() {
    let place = Place::new();
    place.ok(&tiny("gan-mnist", 1, "run"));
    place.ok("export run weights.safetensors --weights raw");
    let exported = place.bytes("weights.safetensors");
    place.write("init.safetensors", &rewritten(&exported, Dtype::F32, "net."));
    let start = format!("{} --init init.safetensors", tiny("gan-mnist", 1, "new"));
    place.refused(1, &start, &["its tensor net.", "is not one of this model", "pixtape export", "docs/models.md"]);
    place.write("init.safetensors", &exported[..exported.len() - 1]);
    place.refused(1, &start, &["not a sound safetensors file"]);
    assert!(!place.path("new").exists());
}
