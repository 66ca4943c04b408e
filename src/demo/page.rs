//! The tables and the page of the demo.

use super::judge::{SURE, Verdict};
use super::{ActResult, COLUMNS, SAMPLES};
use crate::backend::DeviceInfo;
use crate::data::Images;
use crate::error::Result;
use crate::pictures::grid::{Pictures, grid_png};
use crate::report::html::{Element, Picture, Report, Section};
use serde_json::{Value, json};

/// A table for the page, the terminal and JSON.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    /// Names of the columns.
    pub head: Vec<String>,
    /// The cells, row by row.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// One object per row.
    pub fn to_json(&self) -> Value {
        let object = |row: &Vec<String>| -> serde_json::Map<String, Value> {
            self.head.iter().zip(row).map(|(name, cell)| (name.clone(), json!(cell))).collect()
        };
        self.rows.iter().map(object).collect::<Vec<_>>().into()
    }

    fn element(&self) -> Element {
        Element::Table { head: self.head.clone(), rows: self.rows.clone() }
    }
}

/// What the judge says: of the samples of each family, then of images of which the answer is known.
pub(super) fn judged(results: &[ActResult], anchors: &[Verdict]) -> Table {
    let head = ["judged", "images", "recognised", "as the right digit", "digits"].map(String::from).to_vec();
    let verdicts = results.iter().map(|result| &result.verdict).chain(anchors);
    let row = |verdict: &Verdict| {
        let (images, right) = (verdict.digits.len().to_string(), verdict.right_share().map_or(String::new(), percent));
        vec![verdict.name.clone(), images, percent(verdict.share()), right, format!("{} of 10", verdict.covered())]
    };
    Table { head, rows: verdicts.map(row).collect() }
}

/// Likelihoods and speeds: one row per likelihood. A model without a likelihood has one row too.
pub(super) fn measured(results: &[ActResult]) -> Table {
    let head = ["model", "likelihood", "protocol", "training images/s", "sampling images/s"].map(String::from).to_vec();
    let row = |r: &ActResult, value: String, protocol: String| {
        let [train, sample] = [r.train_images_per_s, r.sample_images_per_s].map(|speed| format!("{speed:.1}"));
        vec![r.family.to_string(), value, protocol, train, sample]
    };
    let of = |r: &ActResult| match &r.likelihoods[..] {
        [] => vec![row(r, "none".into(), "implicit: it has no density".into())],
        all => {
            all.iter().map(|l| row(r, format!("{} {}", l.value(), l.protocol.unit()), l.protocol.to_string())).collect()
        }
    };
    Table { head, rows: results.iter().flat_map(of).collect() }
}

/// The samples that the judge does not recognise, if there are any.
pub(super) fn rejected(verdict: &Verdict, samples: &Images) -> Result<Option<Picture>> {
    let rejected: Vec<usize> = (0..samples.len()).filter(|i| verdict.digits[*i].is_none()).collect();
    if rejected.is_empty() {
        return Ok(None);
    }
    let pixels = rejected.iter().flat_map(|&i| samples.image(i)).copied().collect::<Vec<_>>();
    let png = grid_png(Pictures::new(&pixels, samples.size()), Some(COLUMNS))?;
    let caption = format!("the {} of {} samples that the judge does not recognise", rejected.len(), samples.len());
    Ok(Some(Picture { caption, png, large: false }))
}

/// The page: what was computed where and in which time, the tables, and the `sections` of the families.
pub(super) fn report(
    device: &DeviceInfo,
    seconds: f64,
    judged: &Table,
    measured: &Table,
    picture: Picture,
    sections: Vec<Section>,
) -> Report {
    let mut report = Report::new("pixtape demo", "Three families of generative models learn the built-in digits.");
    let name = if device.kind == "cpu" { "Processor" } else { "Device" };
    report.summary = vec![(name.into(), device.name.clone())];
    if device.threads > 0 {
        report.summary.push(("Threads".into(), device.threads.to_string()));
    }
    report.summary.push(("Time of the demo".into(), format!("{seconds:.0} s")));
    let about = format!(
        "A classifier has learnt the ten digits from the training glyphs and an eleventh class, \"no digit\", from \
         images that are none. It recognises an image if one of the digits has more than {SURE} of the probability. Every \
         image is thresholded at half white before. The rows below the {SAMPLES} samples of each family show how far \
         it can be trusted: it should recognise glyphs that no model has learnt from, and none of the others. The right \
         digit of a sample is the one that its model was told to draw. The last column counts the digits that have at \
         least a quarter of an equal share."
    );
    report.sections.push(Section {
        heading: "Are these digits?".into(),
        elements: vec![Element::Text(about), judged.element(), Element::Pictures(vec![picture])],
    });
    report.sections.push(Section { heading: "Side by side".into(), elements: vec![measured.element()] });
    report.sections.extend(sections);
    report
}

/// A fraction in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
