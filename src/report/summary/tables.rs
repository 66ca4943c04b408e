//! The tables of a summary: one per claim for the terminal and the page, and all columns in one for
//! Markdown.

use super::{
    Anchor, LEAST_SHARE, Measured, Rank, RunEvidence, SeedGroup, SetSummary, Spread, Standing, Summary, standings,
};
use crate::eval::{ClassCounts, NEIGHBOUR, Quality};
use crate::report::text::{short, text_table};

/// A table with its heading, and what has to be known to read it.
pub(super) struct Table {
    pub heading: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
    pub note: String,
}

/// A number of a run or an anchor.
pub(crate) struct Measure {
    /// Its name in JSON.
    pub key: &'static str,
    /// The head of its column.
    head: &'static str,
    of: fn(&Facts) -> Option<f64>,
    digits: fn(f64) -> String,
}

/// The numbers of a run or of an anchor, and of their data set.
#[derive(Default)]
struct Facts<'a> {
    quality: Option<&'a Quality>,
    classes: Option<&'a ClassCounts>,
    sharpness: Option<f64>,
    /// Of the images of the data set.
    data_sharpness: Option<f64>,
    run: Option<&'a RunEvidence>,
    error: Option<f64>,
}

const fn measure(
    key: &'static str,
    head: &'static str,
    of: fn(&Facts) -> Option<f64>,
    digits: fn(f64) -> String,
) -> Measure {
    Measure { key, head, of, digits }
}

/// The quality of samples, by the features of a classifier.
const QUALITY: [Measure; 6] = [
    measure("frechet", "Frechet distance", |facts| facts.quality.map(|q| q.frechet.points[2].1), short),
    measure("frechet_limit", "n = inf", |facts| facts.quality.map(|q| q.frechet.limit), short),
    measure("precision", "precision", |facts| facts.quality.map(|q| q.coverage.precision), three_decimals),
    measure("recall", "recall", |facts| facts.quality.map(|q| q.coverage.recall), three_decimals),
    measure("classes", "classes", covered, short),
    measure("copies", "copies", |facts| facts.quality.map(|q| q.copies as f64), short),
];

/// The sharpness of samples, which needs no classifier.
const SHARPNESS: [Measure; 2] = [
    measure("sharpness", "sharpness", |facts| facts.sharpness, short),
    measure("sharpness_of_data", "of the data's", share_of_sharpness, two_decimals),
];

/// Images per second.
const SPEED: [Measure; 3] = [
    measure("training_images_per_s", "training images/s", |facts| Some(training(facts)?.images_per_s), short),
    measure("training_seconds", "training seconds", |facts| Some(training(facts)?.seconds), short),
    measure("sampling_images_per_s", "sampling images/s", |facts| facts.run.map(|run| run.sampling), short),
];

/// Latent vectors.
const LATENTS: [Measure; 1] = [measure("reconstruction_error", "reconstruction error", reconstruction_error, short)];

fn covered(facts: &Facts) -> Option<f64> {
    Some(facts.quality?.counts.covered(facts.classes?, LEAST_SHARE) as f64)
}

fn share_of_sharpness(facts: &Facts) -> Option<f64> {
    Some(facts.sharpness? / facts.data_sharpness.filter(|sharpness| *sharpness > 0.0)?)
}

fn training<'a>(facts: &Facts<'a>) -> Option<&'a super::Training> {
    facts.run?.training.as_ref()
}

fn reconstruction_error(facts: &Facts) -> Option<f64> {
    facts.error.or_else(|| Some(facts.run?.latents.as_ref()?.error))
}

fn two_decimals(value: f64) -> String {
    format!("{value:.2}")
}

fn three_decimals(value: f64) -> String {
    format!("{value:.3}")
}

impl Measure {
    /// Every number that is measured of a run.
    pub fn all() -> impl Iterator<Item = &'static Measure> {
        QUALITY.iter().chain(&SHARPNESS).chain(&SPEED).chain(&LATENTS)
    }

    /// The spread over the runs of a group; `None` if it has no such number.
    pub fn of_group(&self, group: &SeedGroup, set: &SetSummary) -> Option<Spread> {
        group.spread(|run| (self.of)(&Facts::of_run(run, set)))
    }

    /// The number of an anchor, if it was measured.
    pub fn of_anchor(&self, anchor: &Anchor, set: &SetSummary) -> Option<f64> {
        (self.of)(&Facts::of_anchor(anchor, set))
    }

    fn cell(&self, group: &SeedGroup, set: &SetSummary) -> String {
        self.of_group(group, set).map_or(String::new(), |spread| spread.text(self.digits))
    }

    fn anchor_cell(&self, anchor: &Anchor, set: &SetSummary) -> String {
        self.of_anchor(anchor, set).map_or(String::new(), self.digits)
    }
}

impl<'a> Facts<'a> {
    fn of_run(run: &'a RunEvidence, set: &'a SetSummary) -> Self {
        let (quality, sharpness) = (run.quality.as_ref(), Some(run.sharpness));
        Facts { quality, sharpness, run: Some(run), ..Facts::of_set(set) }
    }

    fn of_anchor(anchor: &'a Anchor, set: &'a SetSummary) -> Self {
        let Anchor { quality, sharpness, error, .. } = anchor;
        Facts { quality: quality.as_ref(), sharpness: *sharpness, error: *error, ..Facts::of_set(set) }
    }

    fn of_set(set: &'a SetSummary) -> Self {
        let data_sharpness = set.anchors.first().and_then(|anchor| anchor.sharpness);
        Facts { classes: set.classes.as_ref(), data_sharpness, ..Facts::default() }
    }
}

/// The tables of a data set, one per claim.
pub(super) fn tables(summary: &Summary, set: &SetSummary) -> Vec<Table> {
    vec![likelihoods(set), samples(summary, set), speed(summary, set), latents(set)]
}

fn likelihoods(set: &SetSummary) -> Table {
    let row = |standing: &Standing| {
        let group = &set.groups[standing.group];
        let [estimate, value] = match &standing.measured {
            Some(measured) => [estimate_of(measured), value_of(measured)],
            None => ["none".to_string(), String::new()],
        };
        vec![group.title(), group.first().kind.name().to_string(), estimate, value, rank_of(standing)]
    };
    let unit = standings(&set.groups).iter().find_map(|standing| Some(standing.measured.as_ref()?.protocol.unit()));
    let value = unit.map_or("-log p(x)".to_string(), |unit| format!("-log p(x), {unit}"));
    let head = ["model", "family", "likelihood"].map(String::from).into_iter().chain([value, "rank".to_string()]);
    Table {
        heading: "Likelihood".to_string(),
        head: head.collect(),
        rows: standings(&set.groups).iter().map(row).collect(),
        note: "Lower is better. \"exact\" is the likelihood itself; a bound is at least as large. Only numbers of one \
               protocol are ranked."
            .to_string(),
    }
}

fn samples(summary: &Summary, set: &SetSummary) -> Table {
    let judged = summary.classifier.is_some();
    let measures: Vec<&Measure> = QUALITY.iter().filter(|_| judged).chain(&SHARPNESS).collect();
    let mut rows: Vec<Vec<String>> = rows(set, &measures);
    for anchor in set.anchors.iter().filter(|anchor| anchor.sharpness.is_some() || anchor.quality.is_some()) {
        let cells = measures.iter().map(|measure| measure.anchor_cell(anchor, set));
        rows.push([anchor.name.clone()].into_iter().chain(cells).collect());
    }
    let Summary { samples, seed, .. } = summary;
    let mut note = format!("{samples} samples per run, seed {seed}: {}.", what_samples_are(set));
    if let Some(judged_by) = &set.judged_by {
        let percent = 100.0 * LEAST_SHARE;
        note += &format!(
            " {judged_by} The Frechet distance is that of all {samples} samples, and its limit for more of them. \
             Precision and recall are by the neighbour {NEIGHBOUR}. A class counts if it has {percent:.0} % of its share \
             in the data."
        );
    }
    note += " Sharpness is the variance of the Laplacian, which falls with blur and rises with noise; the blurred images \
             are the same images after a 3x3 binomial kernel.";
    Table { heading: "Samples".to_string(), head: head(&measures), rows, note }
}

/// What the samples of each family are, in words.
fn what_samples_are(set: &SetSummary) -> String {
    let mut kinds = vec![];
    for group in &set.groups {
        let kind = group.first().kind;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds.iter().map(|kind| format!("{} ({})", kind.samples(), kind.name())).collect::<Vec<_>>().join("; ")
}

fn speed(summary: &Summary, set: &SetSummary) -> Table {
    let measures: Vec<&Measure> = SPEED.iter().collect();
    let mut rows = rows(set, &measures);
    for (row, group) in rows.iter_mut().zip(&set.groups) {
        row.push(devices(group));
    }
    let note = format!(
        "Training: the median of the run's metrics, on the device that the checkpoint names; a run does not record its \
         processor. Sampling: measured for this summary on {}, without compiling.",
        summary.device
    );
    let head = head(&measures).into_iter().chain(["trained on".to_string()]).collect();
    Table { heading: "Speed".to_string(), head, rows, note }
}

/// The kinds of devices that trained the runs of a group.
fn devices(group: &SeedGroup) -> String {
    let mut kinds: Vec<&str> = vec![];
    for run in &group.runs {
        let kind = run.training.as_ref().and_then(|training| training.device.as_deref()).unwrap_or("unknown");
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds.join(", ")
}

fn latents(set: &SetSummary) -> Table {
    let measures: Vec<&Measure> = LATENTS.iter().collect();
    let mut rows = rows(set, &measures);
    for (row, group) in rows.iter_mut().zip(&set.groups) {
        row.insert(1, can_infer(group));
    }
    let of_anchor = |anchor: &Anchor| anchor.error.map(|error| vec![anchor.name.clone(), String::new(), short(error)]);
    rows.extend(set.anchors.iter().filter_map(of_anchor));
    let mut head = head(&measures);
    head.insert(1, "latents inferred".to_string());
    let note = "The error is the mean squared error of reconstructions from the latent means, per value in 0 to 1.";
    Table { heading: "Latent vectors".to_string(), head, rows, note: note.to_string() }
}

fn can_infer(group: &SeedGroup) -> String {
    let dims =
        group.first().latents.as_ref().map(|latents| format!("yes: {} dimensions, by its encoder", latents.dims));
    dims.unwrap_or_else(|| group.first().kind.without_latents().unwrap_or("not measured").to_string())
}

fn head(measures: &[&Measure]) -> Vec<String> {
    ["model"].into_iter().chain(measures.iter().map(|measure| measure.head)).map(String::from).collect()
}

/// One row per group with these numbers.
fn rows(set: &SetSummary, measures: &[&Measure]) -> Vec<Vec<String>> {
    let row = |group: &SeedGroup| {
        [group.title()].into_iter().chain(measures.iter().map(|measure| measure.cell(group, set))).collect()
    };
    set.groups.iter().map(row).collect()
}

/// The estimate, with the number of seeds if not all runs of the group were measured so.
fn estimate_of(measured: &Measured) -> String {
    let estimate = measured.protocol.estimate;
    if estimate.is_exact() { estimate.to_string() } else { format!("bound, {estimate}") }
}

/// The number in the unit of its protocol, with the sign of a bound.
fn value_of(measured: &Measured) -> String {
    let Measured { protocol, nats } = measured;
    let value = Spread::of(nats.values.iter().map(|nats| protocol.in_unit(*nats)).collect()).text(two_decimals);
    let bound = if protocol.estimate.is_exact() || !nats.mean.is_finite() { "" } else { "<= " };
    format!("{bound}{value}")
}

fn rank_of(standing: &Standing) -> String {
    match &standing.rank {
        Rank::Place { place, of } => format!("{place} of {of}"),
        Rank::None(why) => why.clone(),
    }
}

/// All columns of a data set in one table: one row per group, then the anchors.
pub(super) fn whole(summary: &Summary, set: &SetSummary) -> Table {
    let judged = summary.classifier.is_some();
    let samples: Vec<&Measure> = QUALITY.iter().filter(|_| judged).chain(&SHARPNESS).collect();
    let rest: Vec<&Measure> = SPEED.iter().chain(&LATENTS).collect();
    let all = standings(&set.groups);
    let likelihood = |index: usize| {
        let own = all.iter().filter(move |standing| standing.group == index);
        let texts = own.clone().map(|standing| match &standing.measured {
            Some(measured) => {
                format!("{} {} ({})", value_of(measured), measured.protocol.unit(), estimate_of(measured))
            }
            None => "none".to_string(),
        });
        let mut ranks: Vec<String> = own.map(rank_of).collect();
        ranks.dedup();
        [texts.collect::<Vec<_>>().join(", "), ranks.join(", ")]
    };
    let mut rows: Vec<Vec<String>> = vec![];
    for (index, group) in set.groups.iter().enumerate() {
        let cells = samples.iter().chain(&rest).map(|measure| measure.cell(group, set));
        let row = [group.title()].into_iter().chain(likelihood(index)).chain(cells).chain([can_infer(group)]);
        rows.push(row.collect());
    }
    for anchor in &set.anchors {
        let cells = samples.iter().chain(&rest).map(|measure| measure.anchor_cell(anchor, set));
        let row = [anchor.name.clone(), String::new(), String::new()].into_iter().chain(cells).chain([String::new()]);
        rows.push(row.collect());
    }
    let first = ["model", "-log p(x)", "rank"].into_iter();
    let head = first.chain(samples.iter().chain(&rest).map(|measure| measure.head)).chain(["latents inferred"]);
    Table { heading: set.title.clone(), head: head.map(String::from).collect(), rows, note: String::new() }
}

/// The summary as text for the terminal: four tables per data set.
pub(crate) fn to_text(summary: &Summary) -> String {
    let mut text = String::new();
    for set in &summary.sets {
        text += &format!("{}\n", set.title);
        for Table { heading, head, rows, note } in tables(summary, set) {
            let head: Vec<&str> = head.iter().map(String::as_str).collect();
            text += &format!("\n{heading}\n\n{}\n{}\n", text_table(&head, &rows), wrapped(&note));
        }
        text.push('\n');
    }
    if summary.sets.len() > 1 {
        text += "Nothing is compared between data sets or binarisations.\n";
    }
    text
}

/// The words in lines of at most 108 columns.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 108;
    let mut lines: Vec<String> = vec![];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => *line += &format!(" {word}"),
            _ => lines.push(word.to_string()),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{run, summary};
    use super::super::{Kind, LatentFacts, Training};
    use super::*;
    use crate::likelihood::Estimate;

    fn three_families() -> Summary {
        let vae = |seed, nats, sharpness| RunEvidence {
            sharpness,
            latents: Some(LatentFacts { dims: 20, error: 0.0125 }),
            training: Some(Training { images_per_s: 2000.0, seconds: 60.0, device: Some("cpu".into()) }),
            ..run("vae-mnist", Kind::Variational, seed, &[(Estimate::Elbo, nats)])
        };
        let pixel = RunEvidence {
            sharpness: 2.1,
            ..run("pixelcnn-mnist", Kind::Autoregressive, 0, &[(Estimate::Exact, 90.25)])
        };
        summary(vec![vae(0, 97.0, 0.5), pixel, run("gan-mnist", Kind::Adversarial, 0, &[]), vae(1, 98.0, 0.75)])
    }

    #[test]
    fn every_claim_has_its_table() {
        let text = to_text(&three_families());
        assert!(!text.contains("Frechet") && text.lines().all(|line| line.chars().count() <= 150), "{text}");
        // The widths of the columns do not matter here.
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = text.lines().map(words).collect::<Vec<_>>().join("\n");
        for part in [
            "vae-mnist (2 seeds) variational autoencoder bound, ELBO <= 97.50 ± 0.71 a bound, not comparable in rank",
            "pixelcnn-mnist autoregressive exact 90.25 exact, not comparable in rank with a bound",
            "gan-mnist adversarial none no likelihood: a generator has no density",
            "vae-mnist (2 seeds) 0.62 ± 0.18 0.312 ± 0.088",
            "test images 2 1.00",
            "test images, blurred 0.25 0.12",
            "vae-mnist (2 seeds) yes: 20 dimensions, by its encoder 0.0125 ± 0",
            "gan-mnist no: it has latent vectors, but no encoder",
            "pixelcnn-mnist no: it has no latent vectors",
            "vae-mnist (2 seeds) 2000 ± 0 60 ± 0 100 ± 0 cpu",
            "decoded means of latent vectors from the prior",
            "on cpu, one thread",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn the_whole_table_has_one_row_per_group_and_anchor() {
        let all = three_families();
        let Table { head, rows, .. } = whole(&all, &all.sets[0]);
        let names: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(
            names,
            ["vae-mnist (2 seeds)", "pixelcnn-mnist", "gan-mnist", "test images", "test images, blurred"]
        );
        assert!(rows.iter().all(|row| row.len() == head.len()), "{rows:?}");
        assert_eq!(rows[0][1], "<= 97.50 ± 0.71 nats (bound, ELBO)");
    }
}
