//! Rankings of measured and published likelihoods, as text and as JSON. Only numbers with comparable
//! protocols are ranked together: the same images by their content, measured in the same way.

use crate::data::{Binarize, Split, publishers_sha256};
use crate::likelihood::{Estimate, Likelihood, Measurement, Protocol, Source};
use crate::report::text::text_table;

/// Published results on the test sets of binarized MNIST (in nats) and CIFAR-10 (in bits per dimension).
pub fn published() -> Vec<Likelihood> {
    const PIXEL_RNN: &str = "van den Oord et al. 2016a";
    const PIXEL_VAE: &str = "Gulrajani et al. 2016";
    const IWAE: &str = "Burda et al. 2016";
    use Estimate::{Elbo, Exact, Iwae};
    // Burda et al. train with k samples and evaluate all models with 5000.
    let mnist = [
        ("PixelCNN", 81.30, Exact, PIXEL_RNN),
        ("Row LSTM", 80.54, Exact, PIXEL_RNN),
        ("Diagonal BiLSTM, 1 layer", 80.75, Exact, PIXEL_RNN),
        ("Diagonal BiLSTM, 7 layers", 79.20, Exact, PIXEL_RNN),
        ("convolutional VAE", 87.41, Elbo, PIXEL_VAE),
        ("IWAE-1, 1 layer (trained with 1 sample)", 88.71, Iwae(5000), IWAE),
        ("IWAE-5, 1 layer (trained with 5 samples)", 87.63, Iwae(5000), IWAE),
        ("IWAE-50, 1 layer (trained with 50 samples)", 87.10, Iwae(5000), IWAE),
    ];
    // In hundredths of a bit.
    let cifar = [
        ("PixelCNN", 314, PIXEL_RNN),
        ("Row LSTM", 307, PIXEL_RNN),
        ("Diagonal BiLSTM", 300, PIXEL_RNN),
        ("Gated PixelCNN", 303, "van den Oord et al. 2016b"),
        ("PixelCNN++", 292, "Salimans et al. 2017"),
    ];
    let mut rows = Vec::new();
    for (model, nats, estimate, paper) in mnist {
        let protocol = Protocol {
            dataset: "binarized-mnist".to_string(),
            sha256: published_test("binarized-mnist"),
            split: Split::Test,
            binarisation: Binarize::Static,
            estimate,
            dims: 784,
            images: 10_000,
        };
        rows.push(Likelihood { model: model.to_string(), nats, protocol, source: Source::Published(paper) });
    }
    for (model, hundredths, paper) in cifar {
        let protocol = Protocol {
            dataset: "cifar-10".to_string(),
            sha256: published_test("cifar-10"),
            split: Split::Test,
            binarisation: Binarize::None,
            estimate: Exact,
            dims: 3072,
            images: 10_000,
        };
        let nats = f64::from(hundredths) / 100.0 * 3072.0 * std::f64::consts::LN_2;
        rows.push(Likelihood { model: model.to_string(), nats, protocol, source: Source::Published(paper) });
    }
    rows
}

/// The hash of the published test images.
fn published_test(name: &str) -> String {
    publishers_sha256(name, Split::Test).expect("the hashes of these sets are known").to_string()
}

/// Likelihoods of comparable protocols, best first.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// The protocol of the first one. Those of the others are comparable.
    pub protocol: Protocol,
    /// The likelihoods in ascending order; values that are not finite come last.
    pub rows: Vec<Likelihood>,
}

/// Groups likelihoods by protocol, in the order in which the protocols first appear, and sorts each
/// group.
pub fn rank(rows: impl IntoIterator<Item = Likelihood>) -> Vec<Ranking> {
    let mut rankings: Vec<Ranking> = Vec::new();
    for row in rows {
        match rankings.iter_mut().find(|ranking| ranking.protocol.is_comparable(&row.protocol)) {
            Some(ranking) => ranking.rows.push(row),
            None => rankings.push(Ranking { protocol: row.protocol.clone(), rows: vec![row] }),
        }
    }
    for ranking in &mut rankings {
        // A NaN can be negative, and `total_cmp` would put it first.
        let key = |row: &Likelihood| if row.nats.is_finite() { row.nats } else { f64::INFINITY };
        ranking.rows.sort_by(|a, b| key(a).total_cmp(&key(b)));
    }
    rankings
}

/// Ranks measured likelihoods together with the published ones on the same images, which are known by their
/// content. If a measured protocol is comparable to a published one, they share a ranking. Rankings of
/// other protocols on those images follow.
pub fn beside_published(ours: &[Likelihood]) -> Vec<Ranking> {
    let of_interest = |row: &Likelihood| ours.iter().any(|our| our.protocol.sha256 == row.protocol.sha256);
    rank(ours.iter().cloned().chain(published().into_iter().filter(of_interest)))
}

/// Formats rankings as text for the terminal. If there are several, a sentence says that they cannot be
/// compared.
pub fn to_text(rankings: &[Ranking]) -> String {
    let mut text = String::new();
    for ranking in rankings {
        let rows: Vec<Vec<String>> = ranking
            .rows
            .iter()
            .map(|row| {
                let mark = if row.is_ours() { "*" } else { "" };
                vec![row.model.clone(), row.value(), mark.to_string(), row.origin()]
            })
            .collect();
        text += &format!("{}\n\n", ranking.protocol);
        text += &text_table(&["model", ranking.protocol.unit(), "", "source"], &rows);
        text.push('\n');
    }
    if rankings.len() > 1 {
        text += "Numbers in different tables were measured differently and cannot be ranked.\n";
    }
    text
}

/// Rankings as JSON: an array of `{protocol: {...}, unit, rows: [{model, value, nats, ours, source}]}`. Our
/// own rows also have `weights`, `program` and `device`. A number that is not finite is null.
pub fn to_json(rankings: &[Ranking]) -> serde_json::Value {
    let row = |row: &Likelihood| {
        let mut value = serde_json::json!({
            "model": row.model,
            "value": row.protocol.in_unit(row.nats),
            "nats": row.nats,
            "ours": row.is_ours(),
        });
        match &row.source {
            Source::Published(paper) => value["source"] = (*paper).into(),
            Source::Run(Measurement { run, weights, program, device }) => {
                for (key, text) in [("source", run), ("weights", weights), ("program", program), ("device", device)] {
                    value[key] = text.as_str().into();
                }
            }
        }
        value
    };
    let ranking = |ranking: &Ranking| {
        let protocol = &ranking.protocol;
        serde_json::json!({
            "protocol": {
                "dataset": protocol.dataset,
                "sha256": protocol.sha256,
                "split": protocol.split.name(),
                "binarisation": protocol.binarisation.name(),
                "estimate": protocol.estimate.to_string(),
                "dims": protocol.dims,
                "images": protocol.images,
            },
            "unit": protocol.unit(),
            "rows": ranking.rows.iter().map(row).collect::<Vec<_>>(),
        })
    };
    rankings.iter().map(ranking).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::likelihood::Condition;

    fn ours(nats: f64, change: impl FnOnce(&mut Protocol)) -> Likelihood {
        let mut protocol = published()[0].protocol.clone();
        change(&mut protocol);
        Likelihood { model: "pixelcnn-mnist".into(), nats, protocol, source: Source::Run(measurement()) }
    }

    fn measurement() -> Measurement {
        let [run, weights, program, device] = ["runs/a", "raw", "0.1.0", "cpu"].map(String::from);
        Measurement { run, weights, program, device }
    }

    #[test]
    fn the_published_numbers_are_printed_as_published() {
        let values: Vec<String> = published().iter().map(Likelihood::value).collect();
        assert_eq!(
            values,
            [
                "81.30", "80.54", "80.75", "79.20", "<= 87.41", "<= 88.71", "<= 87.63", "<= 87.10", "3.14", "3.07",
                "3.00", "3.03", "2.92"
            ]
        );
    }

    #[test]
    fn equal_protocols_are_ranked_together() {
        let rankings = beside_published(&[ours(80.60, |_| ())]);
        let models: Vec<&str> = rankings[0].rows.iter().map(|row| row.model.as_str()).collect();
        assert_eq!(
            models,
            ["Diagonal BiLSTM, 7 layers", "Row LSTM", "pixelcnn-mnist", "Diagonal BiLSTM, 1 layer", "PixelCNN"]
        );
        assert!(rankings.iter().all(|ranking| ranking.protocol.dataset == "binarized-mnist"));
    }

    #[test]
    fn any_difference_of_protocol_forbids_ranking() {
        let changes: [fn(&mut Protocol); 9] = [
            |p| p.sha256 = "0".repeat(64),
            |p| p.split = Split::Valid,
            |p| p.binarisation = Binarize::Dynamic,
            |p| p.estimate = Estimate::Elbo,
            |p| p.estimate = Estimate::ExactGiven(Condition::Class),
            |p| p.estimate = Estimate::ElboGiven(Condition::Class),
            |p| p.estimate = Estimate::IwaeGiven(50, Condition::Class),
            |p| p.dims = 1024,
            |p| p.images = 1000,
        ];
        for change in changes {
            let rankings = rank([ours(80.0, |_| ()), ours(79.0, change)]);
            assert_eq!(rankings.len(), 2, "{}", rankings[0].protocol);
            assert!(to_text(&rankings).contains("cannot be ranked"));
        }
        assert_ne!(Estimate::Iwae(5), Estimate::Iwae(50));
        // The same images under another name are the same images.
        assert_eq!(rank([ours(80.0, |_| ()), ours(79.0, |p| p.dataset = "copy".into())]).len(), 1);
    }

    #[test]
    fn a_name_alone_does_not_rank_among_published_numbers() {
        let rankings = beside_published(&[ours(1.0, |p| p.sha256 = "0".repeat(64))]);
        assert!(rankings.len() == 1 && rankings[0].rows.len() == 1, "{}", to_text(&rankings));
    }

    #[test]
    fn what_is_not_finite_comes_last_and_is_null() {
        let rankings = rank([ours(-f64::NAN, |_| ()), ours(90.0, |_| ()), ours(f64::NEG_INFINITY, |_| ())]);
        assert_eq!(rankings[0].rows[0].nats, 90.0);
        let json = to_json(&rankings);
        assert!(json[0]["rows"][1]["value"].is_null() && json[0]["rows"][0]["value"] == 90.0);
        assert!(to_text(&rankings).contains("not finite"));
    }

    #[test]
    fn text_and_json_say_the_protocol_and_the_source() {
        let rankings = beside_published(&[ours(85.0, |_| ())]);
        let text = to_text(&rankings);
        assert!(
            text.starts_with(
                "binarized-mnist test, static binarisation, exact, 10000 images of 784 dimensions, content "
            )
        );
        assert!(
            text.contains("pixelcnn-mnist             85.00  *  runs/a (raw weights, pixtape 0.1.0, cpu)\n"),
            "{text}"
        );
        let json = to_json(&rankings);
        assert_eq!((&json[0]["unit"], &json[0]["protocol"]["estimate"]), (&"nats".into(), &"exact".into()));
        assert_eq!(json[0]["rows"][4]["ours"], true);
        assert_eq!(json[0]["rows"][4]["source"], "runs/a");
    }
}
