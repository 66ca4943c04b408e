//! The report of a training run, made from its run folder.

use crate::config::Config;
use crate::error::Result;
use crate::files::read_regular;
use crate::likelihood::Likelihood;
use crate::report::compare::beside_published;
use crate::report::curves::{Chart, Series};
use crate::report::html::{Element, OpTime, Picture, Report, Section};
use crate::report::text::short;
use crate::store::{Row, RunDir, StepFile};

/// The largest number of sample pictures in a report: the last one large, the others evenly spaced over
/// training.
const MAX_PICTURES: usize = 9;

/// The largest sample picture that is read, in bytes.
const MAX_SAMPLE: u64 = 256 << 20;

/// Width of the running means of the curves, as a fraction of the training.
const SMOOTHING: f64 = 0.015;

/// The term of a classifier's metrics that is no loss.
const ACCURACY: &str = "accuracy";

/// A run, with the facts that its folder does not contain.
#[derive(Clone, Debug)]
pub struct RunReport<'a> {
    /// The run folder.
    pub run: &'a RunDir,
    /// The device, in words.
    pub device: String,
    /// Further facts for the summary, such as the number of parameters.
    pub facts: Vec<(String, String)>,
    /// Time per operation. If it is empty, the table is left out.
    pub op_times: Vec<OpTime>,
    /// Measured likelihoods. If there are none, the tables are left out.
    pub likelihoods: Vec<Likelihood>,
}

impl RunReport<'_> {
    /// The page of this run.
    ///
    /// # Errors
    /// [`crate::Error::File`] if a file of the run folder cannot be read.
    pub fn page(&self) -> Result<Report> {
        let (text, config, rows) = self.read()?;
        let mut report = Report::new(config.name(), subtitle(&config));
        report.summary = self.summary(&config, &rows);
        report.sections.push(Section { heading: "Samples".to_string(), elements: self.samples()? });
        report.sections.push(Section { heading: "Training".to_string(), elements: charts(&rows) });
        if !self.likelihoods.is_empty() {
            report.sections.push(Section { heading: "Likelihood".to_string(), elements: self.likelihood_elements() });
        }
        if !self.op_times.is_empty() {
            report.sections.push(Section { heading: "Time per operation".to_string(), elements: self.op_elements() });
        }
        report.sections.push(Section { heading: "Configuration".to_string(), elements: vec![config_element(text)] });
        report.sections.retain(|section| !section.elements.is_empty());
        Ok(report)
    }

    /// This run as one section of a page with several runs.
    ///
    /// # Errors
    /// [`crate::Error::File`] if a file of the run folder cannot be read.
    pub fn section(&self, heading: &str) -> Result<Section> {
        let (text, config, rows) = self.read()?;
        let mut elements = vec![Element::Text(format!("{}: {}", config.name(), subtitle(&config)))];
        elements.push(Element::Facts(self.summary(&config, &rows)));
        let titled = |title: &str, inner: Vec<Element>| {
            let heading = (!inner.is_empty()).then(|| Element::Heading(title.to_string()));
            heading.into_iter().chain(inner).collect::<Vec<_>>()
        };
        elements.extend(titled("Samples", self.samples()?));
        elements.extend(titled("Training", charts(&rows)));
        elements.extend(titled("Likelihood", self.likelihood_elements()));
        elements.extend(titled("Time per operation", self.op_elements()));
        elements.push(config_element(text));
        Ok(Section { heading: heading.to_string(), elements })
    }

    fn read(&self) -> Result<(String, Config, Vec<Row>)> {
        let text = self.run.read_config()?;
        let config = Config::from_toml(&text, &self.run.config_path())?;
        Ok((text, config, self.run.metrics()?))
    }

    fn summary(&self, config: &Config, rows: &[Row]) -> Vec<(String, String)> {
        let mut facts = vec![("Device".to_string(), self.device.clone())];
        if let Some(last) = rows.last() {
            facts.push(("Steps".to_string(), last.step.to_string()));
            facts.push(("Training time".to_string(), duration(last.seconds)));
            if let Some(median) = median_speed(rows) {
                facts.push(("Images per second".to_string(), short(median)));
            }
            facts.extend(last.losses.iter().map(|(name, value)| (format!("Last {name}"), short(*value))));
        }
        facts.push(("Seed".to_string(), config.seed.to_string()));
        facts.extend(self.facts.iter().cloned());
        facts
    }

    fn samples(&self) -> Result<Vec<Element>> {
        let samples = spread(self.run.samples()?);
        let mut pictures = Vec::new();
        for StepFile { step, path } in &samples {
            let png = read_regular(path, MAX_SAMPLE)?;
            pictures.push(Picture { caption: format!("step {step}"), png, large: false });
        }
        // The newest comes first and is large. The others follow in the order of training.
        if let Some(mut newest) = pictures.pop() {
            newest.large = true;
            pictures.insert(0, newest);
        }
        Ok(if pictures.is_empty() { vec![] } else { vec![Element::Pictures(pictures)] })
    }

    fn likelihood_elements(&self) -> Vec<Element> {
        let rankings = beside_published(&self.likelihoods);
        if self.likelihoods.is_empty() { vec![] } else { vec![Element::Likelihoods(rankings)] }
    }

    fn op_elements(&self) -> Vec<Element> {
        if self.op_times.is_empty() { vec![] } else { vec![Element::OpTimes(self.op_times.clone())] }
    }
}

/// The training images per second of a run: the median of its rows, because the first rows include the start
/// of the device and the loading of data.
pub(crate) fn median_speed(rows: &[Row]) -> Option<f64> {
    let mut speeds: Vec<f64> = rows.iter().map(|row| row.images_per_s).filter(|speed| speed.is_finite()).collect();
    speeds.sort_by(f64::total_cmp);
    speeds.get(speeds.len() / 2).copied()
}

fn config_element(text: String) -> Element {
    Element::Code { summary: "config.toml, which runs this training again".to_string(), text }
}

fn subtitle(config: &Config) -> String {
    let binarised = match config.binarize {
        crate::data::Binarize::None => String::new(),
        how => format!(" ({} binarisation)", how.name()),
    };
    let optimizer = &config.optimizer;
    let kind = match optimizer.kind {
        crate::config::OptimizerKind::Adam => "Adam",
        crate::config::OptimizerKind::Rmsprop => "RMSProp",
        crate::config::OptimizerKind::Sgd => "SGD",
    };
    format!("{}{binarised}, batches of {}, {kind} at {}", config.data_name(), config.batch, optimizer.lr)
}

/// Charts of all loss terms, of the accuracy, and of the speed.
fn charts(rows: &[Row]) -> Vec<Element> {
    if rows.is_empty() {
        return vec![];
    }
    // Loss terms in the order of their first appearance.
    let mut losses: Vec<Series> = Vec::new();
    for row in rows {
        for (name, value) in &row.losses {
            let index = losses.iter().position(|series| series.name == *name).unwrap_or_else(|| {
                losses.push(Series { name: name.clone(), points: Vec::new() });
                losses.len() - 1
            });
            losses[index].points.push((row.step as f64, *value));
        }
    }
    // An accuracy rises where losses fall, and is a fraction.
    let accuracies: Vec<Series> = losses.extract_if(.., |series| series.name == ACCURACY).collect();
    let values = || losses.iter().flat_map(|series| &series.points).map(|(_, y)| *y).filter(|y| y.is_finite());
    let (low, high) = values().fold((f64::INFINITY, 0.0), |(low, high), y| (y.min(low), y.max(high)));
    let log_y = low > 0.0 && high > 10.0 * low;
    let mut charts = Vec::new();
    if !losses.is_empty() {
        charts.push(Chart {
            title: "Loss".to_string(),
            x_label: "training step".to_string(),
            y_label: if log_y { "loss (logarithmic)".to_string() } else { "loss".to_string() },
            log_y,
            smoothing: SMOOTHING,
            from_zero: false,
            series: losses,
        });
    }
    if !accuracies.is_empty() {
        charts.push(Chart {
            title: "Accuracy".to_string(),
            x_label: "training step".to_string(),
            y_label: "fraction of the batch that is right".to_string(),
            log_y: false,
            smoothing: SMOOTHING,
            from_zero: false,
            series: accuracies,
        });
    }
    let points = rows.iter().map(|row| (row.step as f64, row.images_per_s)).collect();
    charts.push(Chart {
        title: "Speed".to_string(),
        x_label: "training step".to_string(),
        y_label: "images per second".to_string(),
        log_y: false,
        smoothing: SMOOTHING,
        from_zero: true,
        series: vec![Series { name: "images per second".to_string(), points }],
    });
    charts.into_iter().map(Element::Chart).collect()
}

/// At most [`MAX_PICTURES`] samples, evenly spaced, including the first and the last.
fn spread(samples: Vec<StepFile>) -> Vec<StepFile> {
    let count = samples.len();
    if count <= MAX_PICTURES {
        return samples;
    }
    (0..MAX_PICTURES).map(|i| samples[i * (count - 1) / (MAX_PICTURES - 1)].clone()).collect()
}

/// Formats a duration: `42.5 s`, `12 min 30 s`, `3 h 5 min`.
fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".to_string();
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn times_are_in_words() {
        let cases = [(0.25, "0.2 s"), (59.4, "59.4 s"), (61.0, "1 min 1 s"), (7380.0, "2 h 3 min")];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!((duration(f64::NAN), duration(-1.0)), ("unknown".to_string(), "unknown".to_string()));
    }

    #[test]
    fn pictures_are_spread_with_the_first_and_the_last() {
        let samples = (0..100).map(|step| StepFile { step, path: PathBuf::new() }).collect();
        let steps: Vec<u64> = spread(samples).iter().map(|file| file.step).collect();
        assert_eq!((steps.len(), steps[0], steps[8]), (MAX_PICTURES, 0, 99));
    }

    #[test]
    fn terms_that_begin_later_keep_their_steps() {
        let row = |step, losses: &[(&str, f64)]| Row {
            step,
            seconds: 0.0,
            images_per_s: 1.0,
            learning_rate: None,
            losses: losses.iter().map(|(name, value)| (name.to_string(), *value)).collect(),
        };
        let elements = charts(&[row(1, &[("loss", 500.0)]), row(2, &[("loss", 90.0), ("kl", 10.0)])]);
        let Element::Chart(chart) = &elements[0] else { panic!("a chart comes first") };
        assert_eq!(chart.series[1].points, [(2.0, 10.0)]);
        assert!(chart.log_y);
        assert!(charts(&[]).is_empty());
    }

    #[test]
    fn an_accuracy_has_a_chart_of_its_own() {
        let losses = vec![("cross_entropy".to_string(), 2.3), (ACCURACY.to_string(), 0.1)];
        let row = Row { step: 1, seconds: 0.0, images_per_s: 1.0, learning_rate: None, losses };
        let elements = charts(&[row]);
        let [Element::Chart(loss), Element::Chart(accuracy), Element::Chart(_)] = &elements[..] else {
            panic!("three charts, not {}", elements.len())
        };
        assert_eq!((loss.series.len(), &*loss.series[0].name), (1, "cross_entropy"));
        assert_eq!((accuracy.series.len(), &accuracy.series[0].points[..]), (1, &[(1.0, 0.1)][..]));
    }
}
