//! Every preset and every network trains. A resumed preset gives the same bits, and so does any number of
//! threads.

use super::{Place, TINY, data_of, draw_colour_folder, is_png, tiny};
use pixtape::config::{NetworkKind, preset};
use pixtape::store::Checkpoint;

#[test]
fn every_preset_trains_resumes_exactly_and_samples() {
    let place = Place::new();
    draw_colour_folder(&place);
    for (preset, _) in TINY {
        let whole = place.json(&tiny(preset, 4, "whole"));
        assert_eq!((&whole["step"], &whole["interrupted"]), (&4.into(), &false.into()), "{preset}");
        place.ok(&tiny(preset, 2, "parts"));
        assert!(place.path("parts/checkpoints/step-000002.safetensors").is_file());
        let data = if preset.ends_with("-cifar") { format!("--data {}", data_of(preset)) } else { String::new() };
        place.ok(&format!("train --resume parts --steps 4 --no-eval {data}"));
        let last = |run: &str| place.bytes(&format!("{run}/checkpoints/step-000004.safetensors"));
        assert!(last("whole") == last("parts"), "{preset}: resumed training differs");
        assert_eq!(place.bytes("whole/config.toml"), place.bytes("parts/config.toml"), "{preset}");

        let draw = match preset.split_once('-') {
            Some((command @ ("colorize" | "superres"), _)) => format!("{command} whole {data} --split train --draws 1"),
            _ => "sample whole".to_string(),
        };
        if preset.starts_with("classifier") {
            place.refused(1, &draw, &[preset, "draws no images"]);
        } else {
            let drawn = place.json(&format!("{draw} -n 4 --seed 5 --out samples.png"));
            assert_eq!((&drawn["images"], &drawn["step"]), (&4.into(), &4.into()), "{preset}");
            assert!(is_png(&place.bytes("samples.png")), "{preset}");
        }
        for run in ["whole", "parts"] {
            std::fs::remove_dir_all(place.path(run)).unwrap();
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_checkpoint_with_any_number_of_threads() {
    let place = Place::new();
    draw_colour_folder(&place);
    for (preset, _) in TINY {
        let train = |out: &str, seed: u32, more: &str| {
            let arguments = tiny(preset, 3, &format!("{preset}-{out}")).replace("--seed 3", &format!("--seed {seed}"));
            place.ok(&format!("{arguments} {more}"));
            place.bytes(&format!("{preset}-{out}/checkpoints/step-000003.safetensors"))
        };
        let one = train("one", 3, "--threads 1");
        for threads in ["2", "3", "16"] {
            let same = one == train(threads, 3, &format!("--threads {threads}"));
            assert!(same, "{preset}: {threads} threads give other bits than one");
        }
        assert!(one != train("other", 4, ""), "{preset}: the seed changes nothing");
    }
}

#[test]
fn every_network_trains_by_its_name_and_gives_the_bits_of_its_first_preset() {
    let place = Place::new();
    for network in NetworkKind::ALL {
        let is_first = |(name, _): &(&str, &str)| preset(name).unwrap().network == network;
        let (first, _) = TINY.into_iter().find(is_first).unwrap();
        let by_preset = tiny(first, 2, "preset");
        place.ok(&by_preset);
        place.ok(&by_preset.replace(first, network.name()).replace("--out preset", "--out network"));
        let [one, other] = ["preset", "network"].map(|run| {
            let last = place.path(&format!("{run}/checkpoints/step-000002.safetensors"));
            Checkpoint::load(&last).unwrap()
        });
        assert_eq!(one.tensors, other.tensors, "{network}");
        assert!(one.config.contains(&format!("preset = \"{first}\"")) && !other.config.contains("preset"), "{network}");
        assert!(other.config.starts_with(&format!("network = \"{network}\"")), "{}", other.config);
        for run in ["preset", "network"] {
            std::fs::remove_dir_all(place.path(run)).unwrap();
        }
    }
}

#[test]
fn a_configuration_without_a_preset_trains() {
    let place = Place::new();
    let text = "network = \"vae-mlp\"\ndata = \"glyphs\"\nsteps = 2\nbatch = 8\n[model]\nhidden = 8\nlatent = 3\n";
    place.write("my.toml", text.as_bytes());
    place.ok("train my.toml --no-eval");
    assert!(place.path("runs/vae-mlp/checkpoints/step-000002.safetensors").is_file());
    let told = place.json("eval runs/vae-mlp --images 20");
    assert_eq!((&told["model"], &told["step"]), (&"vae-mlp".into(), &2.into()));
    let again = String::from_utf8(place.bytes("runs/vae-mlp/config.toml")).unwrap();
    assert!(again.starts_with("network = \"vae-mlp\"\ndata = \"glyphs\"\n"), "{again}");
    place.ok("train vae-mlp --resume runs/vae-mlp --steps 3 --no-eval");
    let refused = ["is a run of vae-mlp, not of vae-mlp-mnist"];
    place.refused(2, "train vae-mlp-mnist --resume runs/vae-mlp --steps 4", &refused);
    place.refused(2, "train vae --resume runs/vae-mlp --steps 4", &["is a run of vae-mlp, not of vae;"]);
}
