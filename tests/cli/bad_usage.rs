//! Mistakes that the arguments alone show: exit code 2.

use super::{Place, tiny};

#[test]
fn unknown_names_are_refused_with_the_known_ones() {
    let place = Place::new();
    place.refused(2, "train pixelcn-mnist", &["pixelcn-mnist", "did you mean pixelcnn-mnist?", "train --help"]);
    place.refused(2, "train pixelcn", &["did you mean pixelcnn?", "networks: pixelcnn, gated-pixelcnn"]);
    place.refused(2, "plan nothing", &["no preset or network", "networks: pixelcnn"]);
    place.refused(2, "train vae-mnist --device gpu0", &["no device \"gpu0\"", "cuda"]);
    place.refused(2, "sample nowhere --device gpu0", &["no device \"gpu0\""]);
    place.refused(2, "train vae-mnist --data mnits", &["mnits", "did you mean `mnist`?"]);
    place.refused(2, "train vae-mnist --set optimizer.rl=1", &["optimizer.rl", "did you mean optimizer.lr?"]);
    place.refused(2, "train vae-mnist --set critic_steps=1", &["vae-mnist has no key \"critic_steps\""]);
    place.refused(2, "data fetch mnits", &["mnits", "binarized-mnist"]);
}

#[test]
fn values_out_of_range_are_refused() {
    let place = Place::new();
    place.refused(2, "train vae-mnist --data glyphs --batch 0", &["batch must be at least 1"]);
    place.refused(2, "train vae-mnist --set batch=0", &["batch must be at least 1"]);
    place.refused(2, "plan vae-mnist --batch 0", &["batch must be at least 1"]);
    place.refused(2, "train vae-mnist --steps 0", &["steps must be at least 1"]);
    place.refused(2, "train vae-mnist --set model.hidden=0", &["model.hidden must be at least 1"]);
    place.refused(2, "train vae-mnist --set batch=many", &["batch takes a whole number"]);
    place.refused(2, "train vae-mnist --set optimizer.lr=-1", &["optimizer.lr must be above 0"]);
    place.refused(2, "train vae-mnist --set batch", &["key=value"]);
    place.refused(1, "train vae-mnist --data glyphs --batch 20000", &["10000 images", "smaller batch"]);
    for wrong in
        ["sample run -n 0", "sample run --temperature 0", "sample run --temperature nan", "eval run --split tset"]
    {
        assert_eq!(place.run(wrong).status.code(), Some(2), "{wrong}");
    }
    assert!(!place.path("runs").exists(), "nothing was trained");
}

#[test]
fn what_does_not_fit_into_memory_is_a_sentence() {
    let place = Place::new();
    let huge = "train pixelcnn-mnist --data glyphs --batch 10000 --set model.hidden=8192";
    place.refused(1, huge, &["GiB of memory", "choose a smaller model"]);
}

#[test]
fn arguments_that_exclude_each_other_are_refused() {
    let place = Place::new();
    place.ok(&tiny("vae-mlp-mnist", 1, "run"));
    for wrong in [
        "train",
        "train vae-mnist --steps 1 --epochs 1",
        "train --resume run --batch 3",
        "train --resume run --seed 3",
        "train --resume run --set batch=3",
        "train --resume run --out other",
        "train vae-mnist --unknown",
        "unknown",
        "data",
    ] {
        let output = place.run(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(output.stdout.is_empty(), "{wrong}");
    }
    place.refused(2, "train gan-mnist --resume run --steps 2", &["a run of vae-mlp-mnist, not of gan-mnist"]);
    place.ok("train vae-mlp-mnist --resume run --steps 2 --no-eval");
}

#[test]
fn help_and_version_are_no_errors() {
    let place = Place::new();
    for asked in ["--help", "--version", "train --help", "data show --help"] {
        assert!(!place.ok(asked).is_empty(), "{asked}");
    }
}
