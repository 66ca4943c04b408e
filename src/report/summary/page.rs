//! The summary as one self-contained HTML page: the tables, samples of each run, and where they come from.

use super::tables::{Table, tables};
use super::training::charts;
use super::{Anchor, RunEvidence, SeedGroup, SetSummary, Summary};
use crate::report::html::{Element, Picture, Report, Section};

/// What each number means, and its source. `docs/judging.md` says more.
const MEANINGS: [(&str, &str); 7] = [
    (
        "likelihood",
        "-log p(x) per test image. An autoregressive model gives it exactly. A variational autoencoder gives bounds: the \
         ELBO (Kingma & Welling 2014), or IWAE-K with K samples, which is tighter (Burda et al. 2016).",
    ),
    (
        "Frechet distance",
        "Between the features of the samples and of all training images, by the named classifier (Heusel et al. 2017, \
         eq. 6). It falls with the number of samples; n = inf is its limit (Chong & Forsyth 2020).",
    ),
    (
        "precision, recall",
        "The fraction of samples among the training images, and of training images among the samples (Kynkäänniemi et \
         al. 2019).",
    ),
    ("classes", "How many classes the classifier sees in the samples at least a quarter as often as in the data."),
    (
        "sharpness",
        "The variance of the Laplacian, values in 0 to 1 (Pech-Pacheco et al. 2000). Less than that of the data is \
         blurred, more is noisy.",
    ),
    ("images/s", "Training: the median of the run's metrics. Sampling: measured for this page."),
    (
        "reconstruction error",
        "Mean squared error per value in 0 to 1. A latent vector without information has that of the mean image.",
    ),
];

/// The page of a summary.
pub(crate) fn to_page(summary: &Summary) -> Report {
    let runs: usize = summary.sets.iter().flat_map(|set| &set.groups).map(|group| group.runs.len()).sum();
    let sets = summary.sets.len();
    let mut page = Report::new(
        "Models compared",
        format!("{runs} runs on {sets} {}", if sets == 1 { "data set" } else { "data sets, which are not compared" }),
    );
    page.summary = vec![
        ("Samples per run".to_string(), format!("{}, seed {}", summary.samples, summary.seed)),
        ("Sampled on".to_string(), summary.device.clone()),
    ];
    page.summary.extend(summary.classifier.iter().map(|title| ("Classifier".to_string(), title.clone())));
    page.sections.extend(summary.sets.iter().map(|set| section(summary, set)));
    if !summary.rankings.is_empty() {
        page.sections.push(Section {
            heading: "Next to published results".to_string(),
            elements: vec![Element::Likelihoods(summary.rankings.clone())],
        });
    }
    let rows = MEANINGS.iter().map(|(name, meaning)| vec![name.to_string(), meaning.to_string()]).collect();
    let head = ["number", "meaning"].map(String::from).to_vec();
    page.sections
        .push(Section { heading: "What the numbers mean".to_string(), elements: vec![Element::Table { head, rows }] });
    page.sections.push(Section { heading: "Runs".to_string(), elements: vec![provenance(summary)] });
    page
}

/// The part of a data set: pictures, then the tables, then the curves of training.
fn section(summary: &Summary, set: &SetSummary) -> Section {
    let mut elements = vec![Element::Pictures(pictures(set))];
    for Table { heading, head, rows, note } in tables(summary, set) {
        elements.extend([Element::Heading(heading), Element::Table { head, rows }, Element::Text(note)]);
    }
    elements.extend(charts(set));
    Section { heading: set.title.clone(), elements }
}

/// Images of the data, the same blurred, and samples of one run per group.
fn pictures(set: &SetSummary) -> Vec<Picture> {
    let of_anchor = |anchor: &Anchor| {
        let png = anchor.png.clone()?;
        Some(Picture { caption: anchor.name.clone(), png, large: false })
    };
    let of_group = |group: &SeedGroup| {
        let RunEvidence { model, seed, kind, png, .. } = group.first();
        let caption = format!("{model}, trained with seed {seed}: {}", kind.samples());
        Picture { caption, png: png.clone(), large: false }
    };
    set.anchors.iter().filter_map(of_anchor).chain(set.groups.iter().map(of_group)).collect()
}

/// Where the weights of every run come from.
fn provenance(summary: &Summary) -> Element {
    let row = |run: &RunEvidence| {
        let trained_on = run.setting.trained_on.as_deref().map_or("unknown", crate::data::short);
        let facts = [&run.model, &run.run, &run.seed.to_string(), &run.step.to_string(), &run.setting.weights];
        facts.into_iter().cloned().chain([trained_on.to_string()]).collect()
    };
    let head = ["model", "run", "seed", "step", "weights", "content of the training images"].map(String::from);
    let rows = summary.sets.iter().flat_map(|set| &set.groups).flat_map(|group| &group.runs).map(row).collect();
    Element::Table { head: head.to_vec(), rows }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::made_up::{run, summary};
    use super::*;
    use crate::likelihood::Estimate;

    #[test]
    fn the_page_shows_samples_of_each_group_and_names_every_run() {
        let vae = |seed| run("vae-mnist", Kind::Variational, seed, &[(Estimate::Elbo, 97.0)]);
        let html = to_page(&summary(vec![vae(0), vae(1), run("gan-mnist", Kind::Adversarial, 0, &[])])).to_html();
        assert_eq!(html.matches("data:image/png;base64,").count(), 2);
        for part in ["runs/vae-mnist-0", "runs/vae-mnist-1", "runs/gan-mnist-0", "vae-mnist (2 seeds)", "Laplacian"] {
            assert!(html.contains(part), "{part}: {html}");
        }
        assert!(html.contains("3 runs on 1 data set<"), "{html}");
    }
}
