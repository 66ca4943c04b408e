//! Every preset trains, resumes bit for bit, and gives the same bits on any number of threads.

use super::{Place, TINY, draw_colour_folder, is_png, tiny};

#[test]
fn every_preset_trains_resumes_exactly_and_samples() {
    let place = Place::new();
    draw_colour_folder(&place);
    for (preset, _) in TINY {
        let whole = place.json(&tiny(preset, 4, "whole"));
        assert_eq!((&whole["step"], &whole["interrupted"]), (&4.into(), &false.into()), "{preset}");
        place.ok(&tiny(preset, 2, "parts"));
        assert!(place.path("parts/checkpoints/step-000002.safetensors").is_file());
        let data = if preset.ends_with("-cifar") { "--data colour" } else { "" };
        place.ok(&format!("train --resume parts --steps 4 --no-eval {data}"));
        let last = |run: &str| place.bytes(&format!("{run}/checkpoints/step-000004.safetensors"));
        assert!(last("whole") == last("parts"), "{preset}: resumed training differs");
        assert_eq!(place.bytes("whole/config.toml"), place.bytes("parts/config.toml"), "{preset}");

        let draw = match preset.split_once('-') {
            Some((command @ ("colorize" | "superres"), _)) => format!("{command} whole {data} --split train --draws 1"),
            _ => "sample whole".to_string(),
        };
        let drawn = place.json(&format!("{draw} -n 4 --seed 5 --out samples.png"));
        assert_eq!((&drawn["images"], &drawn["step"]), (&4.into(), &4.into()), "{preset}");
        assert!(is_png(&place.bytes("samples.png")), "{preset}");
        for run in ["whole", "parts"] {
            std::fs::remove_dir_all(place.path(run)).unwrap();
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_checkpoint_with_one_and_two_threads() {
    let place = Place::new();
    draw_colour_folder(&place);
    for (preset, _) in TINY {
        let train = |out: &str, more: &str| {
            place.ok(&format!("{} {more}", tiny(preset, 3, &format!("{preset}-{out}"))));
            place.bytes(&format!("{preset}-{out}/checkpoints/step-000003.safetensors"))
        };
        let one = train("one", "--threads 1");
        assert!(one == train("two", "--threads 2"), "{preset}: the number of threads changes the bits");
        assert!(one == train("three", "--threads 3"), "{preset}: the number of threads changes the bits");
        assert!(one != train("other", "--set seed=4"), "{preset}: the seed changes nothing");
    }
}
