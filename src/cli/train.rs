//! `pixtape train`: trains a model, evaluates it, and writes the report.

use super::accuracy::{self, SplitAccuracy};
use super::args::{DataArgs, DeviceArgs, FlagOfKey, Precision, check_given_once, configuration, is_file, text};
use super::held_out::Results;
use super::progress::Progress;
use super::signals::stop_on_signals;
use super::{held_out, output, restore, trace};
use crate::config::{Config, GivenKeys, NetworkKind, PRESETS, RECIPES, recipe};
use crate::error::{Error, Result};
use crate::files::quoted;
use crate::models::Model;
use crate::report::compare::{beside_published, to_json, to_text};
use crate::report::op_times::by_operation;
use crate::report::run::RunReport;
use crate::store::{Best, RunDir};
use crate::train::run::{self, Event, RunOptions, Summary};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Train a model, or continue a run
#[derive(Debug, clap::Args)]
#[command(after_help = more_help())]
pub(super) struct Args {
    /// Preset, network, recipe or configuration file; with --resume that of the run
    #[arg(value_name = "PRESET|NETWORK|RECIPE|CONFIG.toml", required_unless_present = "resume", value_parser = text())]
    what: Option<String>,
    /// Training steps in total
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    steps: Option<u32>,
    /// Passes over the training images in total
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Images per step
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    batch: Option<usize>,
    /// Seed of all random numbers
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    seed: Option<u32>,
    /// Precision of the operands of products while training: f32 or bf16
    #[arg(long, value_name = "PRECISION", conflicts_with = "resume")]
    precision: Option<Precision>,
    /// Change a key of the configuration; an unknown key prints those of its section
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "resume")]
    set: Vec<String>,
    /// Folder of the run (default: runs/ and the name of the preset, network or recipe)
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Continue the run in this folder
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Start from weights in PyTorch's layout, as `pixtape export` writes them
    #[arg(long, value_name = "WEIGHTS.safetensors", conflicts_with = "resume")]
    init: Option<PathBuf>,
    /// Do not measure the likelihood on held-out images at the end
    #[arg(long)]
    no_eval: bool,
    /// Stop at the first value that is not finite and name the op that computed it
    #[arg(long)]
    check_finite: bool,
    /// Print what each launch of the next step writes (range, mean, NaNs, source line) without training
    #[arg(long)]
    trace: bool,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object on stdout at the end
    #[arg(long)]
    json: bool,
}

/// The end of the help text.
fn more_help() -> String {
    let presets = PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>();
    let networks = NetworkKind::ALL.map(NetworkKind::name);
    let recipes = RECIPES.iter().map(|recipe| recipe.name).collect::<Vec<_>>();
    format!(
        "Examples:\n  \
         pixtape train pixelcnn-mnist --epochs 2 --seed 1\n  \
         pixtape train vae-mnist --data glyphs --set optimizer.lr=0.0005 --out runs/slow\n  \
         pixtape train dcgan --data fashion-mnist --epochs 5\n  \
         pixtape train --resume runs/pixelcnn-mnist --epochs 4\n\n\
         Presets:\n{}\n\n\
         Networks, each of which stands for the first preset with this network:\n{}\n\n\
         Recipes: longer trainings that aim at the figure of a paper, and keep what is best on validation images:\n{}\n\n\
         Ctrl-C, SIGTERM and SIGHUP save a checkpoint and stop; a second one stops at once. `pixtape plan PRESET`\n\
         prints the launches of a step.\n\n\
         Exit codes: 0 trained, 1 failed, 2 wrong usage, and after a signal 129 (SIGHUP), 130 (SIGINT, Ctrl-C) or\n\
         143 (SIGTERM).",
        in_lines(&presets),
        in_lines(&networks),
        in_lines(&recipes)
    )
}

/// The names, separated by commas, in indented lines of limited width.
fn in_lines(names: &[&str]) -> String {
    const WIDTH: usize = 100;
    let mut lines = vec![String::new()];
    for (i, name) in names.iter().enumerate() {
        let comma = if i + 1 < names.len() { "," } else { "" };
        if lines.last().is_some_and(|line| line.len() + name.len() > WIDTH) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            *line += &format!(" {name}{comma}");
        }
    }
    lines.iter().map(|line| format!(" {line}")).collect::<Vec<_>>().join("\n")
}

pub(super) fn run(args: Args) -> Result<()> {
    let (config, options) = prepare(&args)?;
    if args.trace {
        return output::print(&trace::next_step(&config, &options)?);
    }
    let mut progress = Progress::new();
    let (mut device, mut data, mut parameters) = (String::new(), None, 0);
    let stop = stop_on_signals()?;
    let summary = run::run(&config, &options, &stop, &mut |event| {
        if let Event::Start { device: name, data: identity, parameters: count, .. } = &event {
            (device, data, parameters) = (name.clone(), Some((*identity).clone()), *count);
        }
        progress.show(&event);
    });
    progress.end();
    // Everything is saved, so that from here on a first signal may end the process at once.
    stop.store(true, Ordering::Relaxed);
    let summary = summary?;
    let dir = &summary.dir;
    // Damaged held-out images do not undo the training: the report is written and the result is printed
    // first.
    let measured = if args.no_eval || summary.interrupted {
        Ok(Results::default())
    } else {
        let device = DeviceArgs { device: Some(config.device.clone()), threads: options.threads };
        held_out::measure(&options.out, &args.data, &device)
    };
    let found = measured.as_ref().map_or(Results::default(), Clone::clone);
    let trained_on = data.iter().map(|data| ("Trained on".to_string(), data.to_string()));
    let precision = config.precision.operands();
    let facts = [("Parameters".to_string(), parameters.to_string()), ("Precision".to_string(), precision.to_string())];
    let best = dir.best()?.map(|Best { step, name, value }| {
        ("Best checkpoint".to_string(), format!("step {step}, {name} {value:.3} nats per image"))
    });
    let report = RunReport {
        run: dir,
        device,
        facts: trained_on.chain(facts).chain(found.accuracy.as_ref().map(SplitAccuracy::fact)).chain(best).collect(),
        op_times: by_operation(&summary.profile),
        likelihoods: found.likelihoods.clone(),
    };
    // If no step was done, a report that is there has more than what is known here.
    if !summary.profile.is_empty() || !dir.report_path().exists() {
        dir.write_report(&report.page()?.to_html())?;
    }
    let provenance = json!({
        "trained_on": data,
        "precision": precision.to_string(),
        "program": env!("CARGO_PKG_VERSION"),
    });
    let model = Model::new(&config)?;
    finish(&args, &summary, &found, &next(&model, dir.path()), &provenance)?;
    measured.map(|_| ()).map_err(|error| {
        let sentence = format!("the run is saved, but its {} was not measured: {error}", held_out::what(&model));
        Error::Failed(sentence).because(error)
    })
}

/// The validated configuration that the arguments describe.
fn prepare(args: &Args) -> Result<(Config, RunOptions)> {
    check_given_once(
        &args.set,
        &[
            FlagOfKey { flag: "--data", key: "data", is_given: args.data.data.is_some() },
            FlagOfKey { flag: "--steps", key: "steps", is_given: args.steps.is_some() },
            FlagOfKey { flag: "--epochs", key: "epochs", is_given: args.epochs.is_some() },
            FlagOfKey { flag: "--batch", key: "batch", is_given: args.batch.is_some() },
            FlagOfKey { flag: "--seed", key: "seed", is_given: args.seed.is_some() },
            FlagOfKey { flag: "--precision", key: "precision", is_given: args.precision.is_some() },
            FlagOfKey { flag: "--device", key: "device", is_given: args.device.device.is_some() },
        ],
    )?;
    let mut config = match &args.resume {
        Some(folder) => resumed(folder, args.what.as_deref())?,
        None => configuration(args.what.as_deref().unwrap_or_default())?,
    };
    if let Some(data) = &args.data.data {
        config.set_data(data);
    }
    if let Some(length) = args.steps {
        (config.steps, config.epochs) = (Some(length), None);
    }
    if let Some(length) = args.epochs {
        (config.steps, config.epochs) = (None, Some(length));
    }
    config.batch = args.batch.unwrap_or(config.batch);
    config.seed = args.seed.unwrap_or(config.seed);
    config.precision = args.precision.map_or(config.precision, Precision::key);
    if args.device.device.is_some() {
        config.device = args.device.name()?.to_string();
    }
    config.validate()?;
    args.set.iter().try_for_each(|assignment| config.set(assignment))?;
    let options = RunOptions {
        out: args.resume.clone().or(args.out.clone()).unwrap_or_else(|| default_folder(args.what.as_deref(), &config)),
        resume: args.resume.is_some(),
        data: args.data.name(&config)?,
        data_dir: args.data.data_dir.clone(),
        threads: args.device.threads,
        check_finite: args.check_finite,
        init: args.init.clone(),
        // The sizes in a file hold; a preset's or network's sizes are those of its own data set.
        fit: args.what.as_deref().is_some_and(|what| !is_file(what)).then(|| GivenKeys::of(&args.set)),
    };
    Ok((config, options))
}

/// The folder of a run without `--out`: it has the name of the recipe, or else that of the configuration.
fn default_folder(what: Option<&str>, config: &Config) -> PathBuf {
    let named = what.filter(|what| !is_file(what) && recipe(what).is_some());
    PathBuf::from("runs").join(named.unwrap_or(config.name()))
}

/// The configuration of the run in `folder`. If `what` is given, it must name the same preset.
fn resumed(folder: &Path, what: Option<&str>) -> Result<Config> {
    let dir = RunDir::open(folder)?;
    let config = Config::from_toml(&dir.read_config()?, &dir.config_path())?;
    if let Some(what) = what {
        let named = configuration(what)?;
        // The name of a network alone says nothing about the preset.
        let is_meant = named.network == config.network && (named.preset.is_none() || named.preset == config.preset);
        if !is_meant {
            return Err(Error::Usage(format!(
                "the run in {} is a run of {}, not of {}; leave the name out",
                folder.display(),
                config.name(),
                named.name()
            )));
        }
    }
    Ok(config)
}

/// What to do with a finished run, as a line with a command.
fn next(model: &Model, run: &Path) -> String {
    let run = quoted(run);
    match (model.draws(), model.reduction()) {
        (false, _) => format!("judge samples with: pixtape judge SAMPLES --classifier {run}"),
        (true, reduction) => format!("sample with: pixtape {} {run}", reduction.map_or("sample", restore::command)),
    }
}

/// Prints how the run ended, where its files are, and what to do next.
fn finish(args: &Args, summary: &Summary, found: &Results, next: &str, provenance: &Value) -> Result<()> {
    let dir = &summary.dir;
    let rankings = beside_published(&found.likelihoods);
    let checkpoint = dir.checkpoints()?.pop().map(|file| file.path);
    let best = dir.best()?;
    if args.json {
        let losses = dir.metrics()?.pop().map(|row| row.losses).unwrap_or_default();
        let value = json!({
            "run": output::path(dir.path()),
            "step": summary.step,
            "interrupted": summary.interrupted,
            "images_per_s": summary.images_per_s,
            "losses": losses.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "likelihood": to_json(&rankings),
            "accuracy": found.accuracy.as_ref().map(SplitAccuracy::to_json),
            "checkpoint": checkpoint.as_deref().map(output::path),
            "best": best.map(|best| json!({
                "step": best.step,
                "checkpoint": output::path(&dir.checkpoint_path(best.step)),
                best.name: best.value,
            })),
            "report": output::path(&dir.report_path()),
        });
        return output::json(&output::merged(value, provenance));
    }
    if !found.likelihoods.is_empty() {
        output::print(&to_text(&rankings))?;
    }
    if let Some(accuracy) = &found.accuracy {
        output::print(&accuracy::table(std::slice::from_ref(accuracy)))?;
    }
    let (step, speed, pasted) = (summary.step, summary.images_per_s, quoted(dir.path()));
    let how = if summary.interrupted { "stopped" } else { "done" };
    let mut text = if summary.profile.is_empty() && !summary.interrupted {
        format!("nothing to do, the run already has {step} steps\n")
    } else {
        format!("{how} at step {step}, {speed:.0} images/s\n")
    };
    if let Some(checkpoint) = checkpoint {
        text += &format!("checkpoint: {}\n", checkpoint.display());
    }
    if let Some(Best { step, name, value }) = best {
        text += &format!("best: {} ({name} {value:.3})\n", dir.checkpoint_path(step).display());
    }
    text += &format!("report: {}\n", dir.report_path().display());
    if summary.interrupted {
        text += &format!("continue with: pixtape train --resume {pasted}\n");
    } else {
        text += &format!("{next}\n");
    }
    output::print(&text)
}
