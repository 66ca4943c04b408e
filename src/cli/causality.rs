//! `pixtape causality`: computes which inputs each output of an autoregressive model depends on, draws a
//! picture, and fails if an output depends on itself or on later inputs.

use super::args::{self, DeviceArgs, check_given_once, configuration};
use super::out_file::{OutFile, picture};
use super::output;
use super::progress::Busy;
use super::trained::{CheckpointArgs, Stored};
use crate::error::{Error, Result};
use crate::eval::causality::{Dependency, Support, Supports, supports};
use crate::eval::{LEGEND, receptive_field_png};
use crate::models::{Family, Model};
use crate::shape::ImageSize;
use serde_json::json;
use std::path::Path;

/// Check that no output of an autoregressive model depends on itself or on later pixels, and draw what it
/// sees
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape causality gated-pixelcnn-mnist --pixel 14,14 --out context.png\n\n\
    The network is run with positive weights, so that no dependency cancels. Dependencies are measured by the gradient of\n\
    every output and by a change of every input. The exit code is 1 if an output sees itself or a later pixel. Earlier\n\
    pixels that an output does not see, although they are within the rows and columns of its context, are its blind spot.")]
pub(super) struct Args {
    /// Preset, network, configuration file, checkpoint file or run folder
    #[arg(value_name = "CKPT|PRESET|NETWORK|CONFIG.toml", value_parser = args::text())]
    what: String,
    /// Change a key of the configuration, such as model.height, before the model is built
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The pixel whose context is drawn: row,column from 0 (default: one in the lower half)
    #[arg(long, value_name = "ROW,COLUMN", value_parser = pixel)]
    pixel: Option<Pixel>,
    /// Draw only the context of this colour of the pixel, from 0 (default: all colours)
    #[arg(long, value_name = "K")]
    colour: Option<usize>,
    /// The picture to write
    #[arg(long, value_name = "FILE", default_value = "causality.png", value_parser = picture())]
    out: OutFile,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// A position in an image, counted from 0.
#[derive(Clone, Copy, Debug)]
struct Pixel {
    row: usize,
    column: usize,
}

/// Parses `3,4` for clap.
fn pixel(text: &str) -> Result<Pixel, String> {
    let number = |text: &str| text.trim().parse().ok();
    let parsed =
        text.split_once(',').and_then(|(row, column)| Some(Pixel { row: number(row)?, column: number(column)? }));
    parsed.ok_or("it must be a row and a column, like 3,4".to_string())
}

pub(super) fn run(args: Args) -> Result<()> {
    args.device.name()?;
    check_given_once(&args.set, &[])?;
    args.out.check(&[Path::new(&args.what)])?;
    let model = model(&args)?;
    let title = model.config.name();
    let Family::Autoregressive(net) = &model.family else {
        return Err(Error::Usage(format!(
            "{title} does not draw images pixel by pixel; give an autoregressive preset like \
             pixelcnn-mnist"
        )));
    };
    let ImageSize { height, width, channels: colours } = model.image;
    let Pixel { row, column } = args.pixel.unwrap_or(Pixel { row: height * 2 / 3, column: width / 2 });
    if row >= height || column >= width {
        return Err(Error::Usage(format!(
            "--pixel {row},{column} is outside the images, which have {height} rows and {width} columns, counted from 0"
        )));
    }
    if let Some(colour) = args.colour.filter(|colour| *colour >= colours) {
        return Err(Error::Usage(format!(
            "--colour {colour} is outside the images, which have {colours} colours, counted from 0"
        )));
    }
    let mut device = args.device.open()?;
    let busy = Busy::new(&format!("examining {} outputs of {title}", net.pixels().dims()));
    let Supports { by_gradient, by_perturbation } =
        supports(&mut *device, &model.set, net, &mut |done, of| busy.at(done, of))?;
    drop(busy);
    let differences = by_gradient.differences(&by_perturbation);
    let support = by_gradient.union(&by_perturbation);
    let first = (row * width + column) * colours;
    let outputs: Vec<usize> = match args.colour {
        Some(colour) => vec![first + colour],
        None => (first..first + colours).collect(),
    };
    output::write(&args.out, &receptive_field_png(&support, &outputs)?)?;
    let leaks = support.leaks();
    if args.json {
        let blind = |output: &usize| support.blind_spot(*output).into_iter().map(|p| [p / width, p % width]);
        output::json(&json!({
            "model": title,
            "outputs": net.pixels().dims(),
            "leaks": leaks.len(),
            "first_leak": leaks.first().map(|pair| [name(&support, pair.output), name(&support, pair.input)]),
            "ways_differ": differences.len(),
            "blind_outputs": support.blind_outputs(),
            "pixel": [row, column],
            "seen": outputs.iter().map(|output| (0..*output).filter(|input| support.sees(*output, *input)).count())
                .collect::<Vec<_>>(),
            "blind_spot": outputs.iter().flat_map(blind).collect::<Vec<_>>(),
            "out": args.out,
        }))?;
    } else {
        output::print(&text(&args, title, &support, &outputs))?;
    }
    if let Some(Dependency { output, input }) = leaks.first() {
        return Err(Error::Failed(format!(
            "{title} leaks: the output for {} sees {}, one of {} such pairs; add the missing mask to the layer",
            name(&support, *output),
            name(&support, *input),
            leaks.len()
        )));
    }
    match differences.first() {
        None => Ok(()),
        Some(Dependency { output, input }) => Err(Error::Failed(format!(
            "{title}: its gradients and its outputs disagree about {} pairs, the first of them {} and {}; the forward and \
             backward kernels of this device do not compute the same function, run `pixtape check`",
            differences.len(),
            name(&support, *output),
            name(&support, *input)
        ))),
    }
}

/// The model of a checkpoint, or of a preset, a network or a configuration file.
fn model(args: &Args) -> Result<Model> {
    let path = Path::new(&args.what);
    let is_checkpoint = path.is_dir() || path.extension().is_some_and(|extension| extension == "safetensors");
    let mut config = if is_checkpoint {
        let checkpoint = CheckpointArgs { checkpoint: path.to_path_buf(), weights: None };
        Stored::read(&checkpoint)?.model.config
    } else {
        configuration(&args.what)?
    };
    args.set.iter().try_for_each(|assignment| config.set(assignment))?;
    Model::new(&config)
}

/// The name of a dimension in messages.
fn name(support: &Support, at: usize) -> String {
    let ImageSize { width, channels: colours, .. } = support.input;
    let pixel = format!("pixel {},{}", at / colours / width, at / colours % width);
    if colours == 1 { pixel } else { format!("colour {} of {pixel}", at % colours) }
}

fn text(args: &Args, title: &str, support: &Support, outputs: &[usize]) -> String {
    let (leaks, blind) = (support.leaks().len(), support.blind_outputs());
    let total = support.input.dims();
    let mut text = format!("{title}: {leaks} leaks among all {total} outputs\n");
    text += &match blind {
        0 => "no output has a blind spot\n".to_string(),
        1 => "1 output has a blind spot\n".to_string(),
        blind => format!("{blind} outputs have a blind spot\n"),
    };
    for output in outputs {
        let seen = (0..*output).filter(|input| support.sees(*output, *input)).count();
        let blind = support.blind_spot(*output).len();
        text += &format!("the output for {} sees {seen} of the {output} dimensions before it", name(support, *output));
        text += &match blind {
            0 => "\n".to_string(),
            1 => "; 1 pixel is in its blind spot\n".to_string(),
            _ => format!("; {blind} pixels are in its blind spot\n"),
        };
    }
    text + &format!("{}: {LEGEND}\n", args.out.display())
}
