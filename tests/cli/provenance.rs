//! Results say where they come from: the training images, the weights, the version and the kind of device.

use super::identity::write_pngs;
use super::{Place, tiny};
use flate2::Crc;
use safetensors::SafeTensors;
use serde_json::Value;

/// The text that a picture holds, as JSON. Checks the lengths and checksums of all chunks.
fn text_of(png: &[u8]) -> Value {
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    let (mut at, mut found) = (8, None);
    while at < png.len() {
        let word = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        let length = word(at) as usize;
        let (kind, body) = (&png[at + 4..at + 8], &png[at + 8..at + 8 + length]);
        let mut crc = Crc::new();
        crc.update(&png[at + 4..at + 8 + length]);
        assert_eq!(crc.sum(), word(at + 8 + length), "the checksum of a chunk is wrong");
        if kind == b"iTXt" {
            found = Some(body.strip_prefix(b"pixtape\0\0\0\0\0").expect("the keyword is pixtape").to_vec());
        }
        at += 12 + length;
    }
    serde_json::from_slice(&found.expect("the picture has no text")).unwrap()
}

/// Checks where a result comes from.
#[track_caller]
fn assert_provenance(what: &str, value: &Value, model: &str, trained_on: &Value) {
    assert_eq!(value["model"], model, "{what}: {value}");
    assert_eq!(value["weights"], "raw", "{what}: {value}");
    assert_eq!((&value["step"], &value["device"]), (&2.into(), &"cpu".into()), "{what}: {value}");
    assert_eq!(value["program"], env!("CARGO_PKG_VERSION"), "{what}: {value}");
    assert_eq!(&value["trained_on"], trained_on, "{what}: {value}");
}

/// The metadata of a safetensors file.
fn metadata(place: &Place, file: &str, key: &str) -> Value {
    let bytes = place.bytes(file);
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    serde_json::from_str(&header.metadata().as_ref().unwrap()[key]).unwrap()
}

#[test]
fn every_result_says_where_it_comes_from() {
    let place = Place::new();
    for preset in ["vae-mlp-mnist", "pixelcnn-mnist", "superres-mnist", "lstm-oscillator"] {
        let set = if preset == "lstm-oscillator" { "oscillator" } else { "glyphs" };
        place.ok(&tiny(preset, 2, preset).replace("sample_every=0", "sample_every=2"));
        let shown = place.json(&format!("data show {set} --split train --out shown.png"));
        let trained_on = serde_json::json!({
            "name": set, "split": "train", "count": shown["images"], "sha256": shown["sha256"],
        });
        let check = |what: &str, value: &Value| assert_provenance(what, value, preset, &trained_on);
        check("samples", &text_of(&place.bytes(&format!("{preset}/samples/step-000002.png"))));
        let commands: &[&str] = match preset {
            "vae-mlp-mnist" => &["sample", "reconstruct", "interpolate", "traverse"],
            "pixelcnn-mnist" => &["complete"],
            "superres-mnist" => &["superres"],
            _ => &["simulate"],
        };
        for command in commands {
            check(command, &place.json(&format!("{command} {preset} --out out.png --device cpu")));
            check(command, &text_of(&place.bytes("out.png")));
        }
        check("eval", &place.json(&format!("eval {preset} --images 20 --device cpu")));
        check("export", &place.json(&format!("export {preset} out.safetensors")));
        check("export", &metadata(&place, "out.safetensors", "pixtape"));
        assert_eq!(metadata_text(&place, "out.safetensors", "format"), "pt");
        if preset == "vae-mlp-mnist" {
            for command in ["sample -n 4", "encode --labels 10 --draws 1"] {
                check(command, &place.json(&format!("{command} {preset} --out out.safetensors --device cpu")));
                check(command, &metadata(&place, "out.safetensors", "protocol"));
            }
            let shown = text_of(&{
                place.ok(&format!("reconstruct {preset} -n 3 --out out.png"));
                place.bytes("out.png")
            })["shown"]
                .clone();
            assert_eq!(
                (&shown["name"], &shown["split"], &shown["count"]),
                (&"glyphs".into(), &"test".into(), &3.into())
            );
        }
    }
}

fn metadata_text(place: &Place, file: &str, key: &str) -> String {
    let bytes = place.bytes(file);
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    header.metadata().as_ref().unwrap()[key].clone()
}

#[test]
fn equal_trainings_give_equal_files_wherever_the_images_are() {
    let place = Place::new();
    write_pngs(&place, "here/pets/cat", 20, 0);
    write_pngs(&place, "here/pets/dog", 20, 90);
    write_pngs(&place, "over/there/pets/cat", 20, 0);
    write_pngs(&place, "over/there/pets/dog", 20, 90);
    let arguments = |data: &str, out: &str, threads: u32| {
        let data = format!("--device cpu --threads {threads} --data {data}");
        tiny("vae-mlp-mnist", 2, out).replace("--data glyphs", &data)
    };
    place.ok(&arguments("here/pets", "a", 1));
    place.ok(&arguments(&place.path("over/there/pets").display().to_string(), "b", 2));
    let file = |run: &str| place.bytes(&format!("{run}/checkpoints/step-000002.safetensors"));
    assert!(file("a") == file("b"), "the checkpoints differ");
    let metadata = |key: &str| metadata_text(&place, "b/checkpoints/step-000002.safetensors", key);
    assert_eq!(metadata("classes"), "[\"cat\",\"dog\"]");
    assert_eq!((metadata("device"), metadata("program")), ("cpu".into(), env!("CARGO_PKG_VERSION").into()));
    let data: Value = serde_json::from_str(&metadata("data")).unwrap();
    assert_eq!((&data["name"], &data["split"]), (&"pets".into(), &"train".into()));
    let config = metadata("config");
    assert!(!config.contains("there") && !config.contains("threads"), "{config}");
}

#[test]
fn the_number_of_a_device_and_a_path_stay_out_of_checkpoints() {
    let mut config = pixtape::config::preset("vae-mnist").unwrap();
    config.set("device=wgpu:1").unwrap();
    config.set_data("/home/me/mnist");
    let portable = config.portable();
    assert_eq!((portable.device.as_str(), portable.data.as_str()), ("wgpu", "path:mnist"));
    config.set_data("mnist");
    assert_eq!((config.data.as_str(), config.portable().data.as_str()), ("mnist", "mnist"));
    config.set_data("pictures");
    assert_eq!((config.data.as_str(), config.portable().data.as_str()), ("./pictures", "path:pictures"));
    // Nor does it change any further.
    assert_eq!(config.portable().portable(), config.portable());
}
