//! `--precision bf16`: a run keeps it, and only training computes in it.

use super::{Place, tiny};
use pixtape::backend::cpu::Isa;
use serde_json::json;

/// A run in bf16 is resumed in bf16 to the same bits. Without instructions for bf16 it is refused, and
/// nothing is written.
#[test]
fn a_run_keeps_its_precision() {
    let place = Place::new();
    let train = |steps, out: &str| format!("{} --device cpu --precision bf16", tiny("vae-mlp-mnist", steps, out));
    if !Isa::detect().has_bf16() {
        place.refused(1, &train(4, "run"), &["no instructions for bf16", "--precision f32"]);
        assert!(!place.path("run/checkpoints").exists());
        return;
    }
    let whole = place.json(&train(4, "whole"));
    assert_eq!(whole["precision"], json!("bf16"));
    assert!(place.ok("plan whole/config.toml").contains("products in bf16"));
    assert!(String::from_utf8(place.bytes("whole/report.html")).unwrap().contains("bf16"));
    place.ok(&train(2, "parts"));
    place.ok("train --resume parts --steps 4 --no-eval");
    let last = "checkpoints/step-000004.safetensors";
    assert!(place.bytes(&format!("parts/{last}")) == place.bytes(&format!("whole/{last}")), "resumed to other bits");
    place.ok(&format!("{} --device cpu", tiny("vae-mlp-mnist", 4, "f32")));
    assert!(place.bytes(&format!("f32/{last}")) != place.bytes(&format!("whole/{last}")), "bf16 changes nothing");
    // Drawing works on any device, because it is in f32.
    place.ok("sample whole -n 4 --out drawn.png --device cpu");
}

#[test]
fn precision_is_given_once_and_only_where_it_is_used() {
    let place = Place::new();
    place.refused(2, "train vae-mlp-mnist --precision bf16 --set precision=f32", &["--precision", "the same thing"]);
    place.refused(2, "bench sampling --precision bf16", &["always drawn in f32"]);
    place.refused(2, "train vae-mlp-mnist --set precision=tf32", &["precision must be auto, f32 or bf16"]);
}
