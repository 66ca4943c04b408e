//! The summary of `pixtape compare` as a JSON object. A number that is not finite is null.

use super::super::judge::print::{of_accuracy, of_quality};
use super::super::output;
use super::summary::{Found, JudgeFacts};
use crate::data::short;
use crate::report::summary::{
    Anchor, LEAST_SHARE, Measure, Rank, RunEvidence, SeedGroup, SetSummary, Spread, Standing, Summary, standings,
};
use serde_json::{Map, Value, json};

/// The key `summary` of the output.
pub(super) fn of_summary(found: &Found) -> Value {
    let Summary { samples, seed, device, sets, .. } = &found.summary;
    let set = |(index, set): (usize, &SetSummary)| of_set(set, found.judges.get(index));
    json!({
        "samples": samples,
        "seed": seed,
        "device": device,
        "program": env!("CARGO_PKG_VERSION"),
        "sets": sets.iter().enumerate().map(set).collect::<Vec<_>>(),
    })
}

fn of_set(set: &SetSummary, judge: Option<&JudgeFacts>) -> Value {
    let standings = standings(&set.groups);
    let groups = set.groups.iter().enumerate().map(|(index, group)| {
        let own: Vec<Value> = standings.iter().filter(|standing| standing.group == index).map(of_standing).collect();
        output::merged(of_group(group, set), &json!({"likelihoods": own}))
    });
    json!({
        "title": set.title,
        "judge": judge.map(of_judge),
        "groups": groups.collect::<Vec<_>>(),
        "anchors": set.anchors.iter().map(|anchor| of_anchor(anchor, set)).collect::<Vec<_>>(),
    })
}

fn of_judge(judge: &JudgeFacts) -> Value {
    let JudgeFacts { provenance, sha256, accuracy, binarisation, train, test } = judge;
    let facts = json!({
        "sha256": sha256,
        "accuracy": of_accuracy(accuracy),
        "binarisation": binarisation.name(),
        "data": {"train": train, "test": test},
        "least_percent": 100.0 * LEAST_SHARE,
    });
    output::merged(provenance.clone(), &facts)
}

fn of_group(group: &SeedGroup, set: &SetSummary) -> Value {
    let kind = group.first().kind;
    let spreads: Map<String, Value> = Measure::all()
        .filter_map(|measure| Some((measure.key.to_string(), of_spread(&measure.of_group(group, set)?))))
        .collect();
    json!({
        "model": group.first().model,
        "family": kind.name(),
        "seeds": group.runs.iter().map(|run| run.seed).collect::<Vec<_>>(),
        "samples_are": kind.samples(),
        "latents_inferred": kind.without_latents().is_none(),
        "latent_dims": group.first().latents.as_ref().map(|latents| latents.dims),
        "measures": spreads,
        "runs": group.runs.iter().map(|run| of_run(run, set)).collect::<Vec<_>>(),
    })
}

/// A likelihood of a group in nats per image and in its unit, with its rank or the reason why it has none.
fn of_standing(standing: &Standing) -> Value {
    let (rank, why) = match &standing.rank {
        Rank::Place { place, of } => (json!({"place": place, "of": of}), Value::Null),
        Rank::None(why) => (Value::Null, json!(why)),
    };
    let mut value = json!({"rank": rank, "not_ranked_because": why, "estimate": Value::Null});
    if let Some(measured) = &standing.measured {
        let protocol = &measured.protocol;
        let in_unit = measured.nats.values.iter().map(|nats| protocol.in_unit(*nats)).collect();
        value["estimate"] = protocol.estimate.to_string().into();
        value["is_exact"] = protocol.estimate.is_exact().into();
        value["unit"] = protocol.unit().into();
        value["content"] = short(&protocol.sha256).into();
        value["nats"] = of_spread(&measured.nats);
        value["value"] = of_spread(&Spread::of(in_unit));
    }
    value
}

fn of_run(run: &RunEvidence, set: &SetSummary) -> Value {
    let RunEvidence { setting, training, .. } = run;
    json!({
        "run": run.run,
        "seed": run.seed,
        "step": run.step,
        "weights": setting.weights,
        "trained_on_sha256": setting.trained_on,
        "trained_on_device": training.as_ref().and_then(|training| training.device.clone()),
        "quality": quality_of(&run.quality, set),
    })
}

fn of_anchor(anchor: &Anchor, set: &SetSummary) -> Value {
    let measures: Map<String, Value> = Measure::all()
        .filter_map(|measure| Some((measure.key.to_string(), json!(measure.of_anchor(anchor, set)?))))
        .collect();
    json!({"name": anchor.name, "measures": measures, "quality": quality_of(&anchor.quality, set)})
}

/// As `pixtape judge` prints it.
fn quality_of(quality: &Option<crate::eval::Quality>, set: &SetSummary) -> Value {
    let known = quality.as_ref().zip(set.classes.as_ref());
    known.map_or(Value::Null, |(quality, classes)| of_quality(quality, classes, LEAST_SHARE))
}

fn of_spread(spread: &Spread) -> Value {
    json!({"mean": spread.mean, "deviation": spread.deviation, "values": spread.values})
}
