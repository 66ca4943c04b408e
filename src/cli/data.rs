//! `pixtape data`: lists data sets, shows their images, and downloads them.

use super::args::{count, split, text};
use super::out_file::{OutFile, picture};
use super::output::{self, note};
use super::progress::visible;
use crate::data::{self, Colours, FileFormat, Images, Levels, Prepared, Progress, SETS, Set, Split, short};
use crate::error::{Error, Result};
use crate::files::quoted;
use crate::pictures::grid::grid_png;
use crate::pictures::sequences::{self, OwnedPictures};
use crate::report::text::text_table;
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The largest side of a prepared image, far above what a model reads.
const MAX_PREPARED: usize = 1024;

/// List, show, download or prepare data sets
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape data fetch mnist")]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the known data sets and whether their files are present
    #[command(after_help = "Example: pixtape data list --data-dir data")]
    List(Common),
    /// Describe a data set and write a picture of some of its images
    #[command(after_help = "Example: pixtape data show glyphs -n 64 --out glyphs.png")]
    Show(Show),
    /// Download a data set from its publisher; an interrupted download is resumed
    #[command(after_help = "Example: pixtape data fetch binarized-mnist --data-dir data")]
    Fetch(Fetch),
    /// Crop, scale and convert a folder of pictures to images of one size, in a new folder
    #[command(after_help = "Examples:\n  pixtape data prepare photos photos-64 --size 64\n  \
                            pixtape data prepare scans digits --size 40x28 --grey\n\n\
                            Sub-folders stay as they are, so splits (train, valid, test) and classes are kept. The middle of a\n\
                            picture is cut out in the shape of the size and scaled by a Lanczos filter.")]
    Prepare(Prepare),
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Folder of the known data sets (default: the environment variable PIXTAPE_DATA, or else data)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print one JSON value on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// Name of a data set, or path of a folder of images or of a file
    #[arg(value_name = "NAME|PATH", value_parser = text())]
    name: String,
    /// How many images
    #[arg(short = 'n', value_name = "N", default_value_t = 64, value_parser = count(65536))]
    n: usize,
    /// Split: train, fit, valid or test
    #[arg(long, value_name = "SPLIT", default_value = "train", value_parser = split)]
    split: Split,
    /// Seed of the selection of images
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// The picture to write (default: NAME.png)
    #[arg(long, value_name = "FILE", value_parser = picture())]
    out: Option<OutFile>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Fetch {
    /// Data sets by name
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Server to use instead of the publishers': files are requested as URL/SET/FILE
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Prepare {
    /// Folder of pictures (PNG or JPEG)
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// The folder to make
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Height and width of the images: one number, or HEIGHTxWIDTH
    #[arg(long, value_name = "N|HxW", value_parser = size)]
    size: [usize; 2],
    /// Make all images grey (default: colour if any picture has colours)
    #[arg(long, conflicts_with = "colour")]
    grey: bool,
    /// Make all images RGB
    #[arg(long)]
    colour: bool,
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// Parses a size, `64` or `40x28` (height x width), for clap.
fn size(text: &str) -> Result<[usize; 2], String> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    let side = |text: &str| text.parse().ok().filter(|side| (1..=MAX_PREPARED).contains(side));
    let both = side(height).zip(side(width));
    both.map(|(height, width)| [height, width]).ok_or_else(|| {
        format!("it must be one number or HEIGHTxWIDTH, such as 64 or 40x28, of at most {MAX_PREPARED} pixels")
    })
}

pub(super) fn run(args: Args) -> Result<()> {
    match args.what {
        What::Prepare(args) => prepare(&args),
        What::List(args) => list(&args),
        What::Show(args) => show(&args),
        What::Fetch(args) => fetch(&args),
    }
}

fn list(args: &Common) -> Result<()> {
    let dir = data::data_dir(args.data_dir.as_deref());
    if args.json {
        let set = |set: &Set| {
            json!({
                "name": set.name,
                "size": set.size.axes(),
                "train": set.counts.train,
                "valid": set.counts.valid,
                "test": set.counts.test,
                "classes": set.classes,
                "missing": set.missing(&dir),
                "terms": set.terms,
            })
        };
        return output::json(&SETS.iter().map(set).collect());
    }
    let row = |set: &Set| {
        let state = match (set.format, set.missing(&dir).as_slice()) {
            (FileFormat::Drawn(_), _) => "built in".to_string(),
            (_, []) => set.folder(&dir).display().to_string(),
            (_, missing) if missing.len() == set.files.len() => format!("absent: pixtape data fetch {}", set.name),
            (_, missing) => format!("incomplete, {} missing: pixtape data fetch {}", missing.join(", "), set.name),
        };
        vec![
            set.name.to_string(),
            set.size.to_string(),
            set.counts.train.to_string(),
            set.counts.valid.to_string(),
            set.counts.test.to_string(),
            set.classes.to_string(),
            state,
        ]
    };
    let rows: Vec<Vec<String>> = SETS.iter().map(row).collect();
    output::print(&text_table(&["name", "image", "train", "valid", "test", "classes", "where"], &rows))
}

fn show(args: &Show) -> Result<()> {
    let out = args.out.clone().unwrap_or_else(|| OutFile::default_picture(&short_name(&args.name)));
    out.check(&[])?;
    if Set::named(&args.name).is_none() {
        out.check_outside(Path::new(&args.name))?;
    }
    let images = data::open(&args.name, args.split, args.common.data_dir.as_deref())?;
    images.notices().iter().for_each(|notice| note(notice));
    let chosen = images.sample(args.n, args.seed);
    let factor = 255 / chosen.levels().max();
    let pixels: Vec<u8> = chosen.pixels().iter().map(|level| level * factor).collect();
    let size = chosen.size();
    let series = Set::named(&args.name).is_some_and(Set::is_series);
    let pictures = if series { sequences::panels(&pixels, size) } else { OwnedPictures { pixels, size } };
    output::write(&out, &grid_png(pictures.view(), None)?)?;
    let levels = if images.levels() == Levels::Binary { "binary" } else { "grey or colour, 256 levels" };
    let per_class = per_class(&images);
    if args.common.json {
        return output::json(&json!({
            "name": images.name(),
            "split": args.split.name(),
            "images": images.len(),
            "sha256": images.sha256(),
            "class_names": images.class_names(),
            "size": size.axes(),
            "levels": images.levels().count(),
            "mean": images.mean(),
            "per_class": per_class,
            "notices": images.notices(),
            "shown": chosen.len(),
            "out": out,
        }));
    }
    let n = images.len();
    let mut text = format!("{} {}: {n} images of {size}, {levels}", images.name(), args.split);
    text += &format!(", content {}", short(&images.sha256()));
    text += &format!(", mean level {:.2}\n", images.mean());
    if !per_class.is_empty() {
        let counts: Vec<String> = per_class.iter().map(usize::to_string).collect();
        text += &format!("images of each class: {}\n", counts.join(" "));
    }
    output::print(&format!("{text}{} of them in {}\n", chosen.len(), out.display()))
}

/// The name of a data set, or the last part of its path.
fn short_name(name: &str) -> String {
    let path = Path::new(name);
    // A path like `..` has a last part only after it is resolved.
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let last = path.file_name().or(whole.file_name()).unwrap_or(path.as_os_str());
    last.to_string_lossy().into_owned()
}

/// The number of images of each class; empty without labels.
fn per_class(images: &Images) -> Vec<usize> {
    let mut counts = vec![0; images.classes()];
    images.labels().into_iter().flatten().for_each(|label| counts[usize::from(*label)] += 1);
    counts
}

fn prepare(args: &Prepare) -> Result<()> {
    let colours = match (args.grey, args.colour) {
        (true, _) => Colours::Grey,
        (_, true) => Colours::Rgb,
        _ => Colours::AsFound,
    };
    let spinner = visible(ProgressBar::no_length());
    let done = || {
        if let Some(spinner) = &spinner {
            spinner.inc(1);
        }
    };
    let prepared = data::prepare(&args.folder, &args.out, args.size, colours, &done);
    if let Some(spinner) = &spinner {
        spinner.finish_and_clear();
    }
    let Prepared { size, images, cropped, enlarged } = prepared?;
    if args.json {
        let axes = size.axes();
        return output::json(&json!({
            "out": output::path(&args.out), "size": axes, "images": images, "cropped": cropped, "enlarged": enlarged,
        }));
    }
    let mut text = format!("{images} images of {size} in {}", args.out.display());
    if cropped > 0 {
        text += &format!(", {cropped} of them cropped");
    }
    if enlarged > 0 {
        text += &format!(", {enlarged} enlarged");
    }
    output::print(&format!("{text}\ntrain with: pixtape train vae --data {}\n", quoted_folder(&args.out)))
}

/// A folder as `--data` takes it: with a slash, so that it is not taken for the name of a data set.
fn quoted_folder(folder: &Path) -> String {
    let is_bare = folder.components().count() == 1;
    quoted(&if is_bare { Path::new(".").join(folder) } else { folder.to_path_buf() })
}

fn fetch(args: &Fetch) -> Result<()> {
    let unknown = |name: &str| {
        let known: Vec<&str> = SETS.iter().map(|set| set.name).collect();
        Error::Usage(format!("there is no data set \"{name}\"; the known ones are {}", known.join(", ")))
    };
    // All names are checked before anything is downloaded.
    let sets: Vec<&Set> =
        args.names.iter().map(|name| Set::named(name).ok_or_else(|| unknown(name))).collect::<Result<_>>()?;
    let dir = data::data_dir(args.common.data_dir.as_deref());
    let mut done: Vec<Value> = vec![];
    for set in sets {
        let mut progress = Download::new();
        let fetched = data::fetch(set, &dir, args.from.as_deref(), &mut |at| progress.show(&at));
        progress.end();
        let fetched = fetched?;
        if !args.common.json {
            let (new, present) = (fetched.new.len(), fetched.present.len());
            output::line(&match set.format {
                FileFormat::Drawn(_) => format!("{} is built in, there is nothing to fetch", set.name),
                _ => format!(
                    "{}: {new} files fetched, {present} were present, all with the right checksum, in {} ({})",
                    set.name,
                    set.folder(&dir).display(),
                    set.terms
                ),
            })?;
        }
        done.push(json!({"name": set.name, "new": fetched.new, "present": fetched.present}));
    }
    if args.common.json { output::json(&Value::Array(done)) } else { Ok(()) }
}

/// The progress of the downloads, one file after the other.
struct Download {
    bar: Option<ProgressBar>,
    file: String,
}

impl Download {
    fn new() -> Self {
        Download { bar: None, file: String::new() }
    }

    fn show(&mut self, at: &Progress) {
        if self.file != at.file {
            self.end();
            self.file = at.file.to_string();
            self.bar = visible(ProgressBar::new(at.total.unwrap_or(0)));
            if let Some(bar) = &self.bar {
                let style =
                    ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left");
                bar.set_style(style.expect("the template is a constant"));
                bar.set_message(self.file.clone());
            } else {
                note(&format!("fetching {}", at.file));
            }
        }
        if let Some(bar) = &self.bar {
            at.total.iter().for_each(|total| bar.set_length(*total));
            bar.set_position(at.done);
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.abandon();
        }
    }
}
