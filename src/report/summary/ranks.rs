//! Which likelihoods of a data set may be ranked. Only equal protocols are; every other number says why it
//! has no rank.

use super::{SeedGroup, Spread};
use crate::likelihood::Protocol;

/// A likelihood of a group, or that it has none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standing {
    /// The index of the group.
    pub group: usize,
    /// How it was measured and the nats per image of the runs; `None` if the model has no likelihood.
    pub measured: Option<Measured>,
    pub rank: Rank,
}

/// A likelihood of the runs of a group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    pub protocol: Protocol,
    /// In nats per image.
    pub nats: Spread,
}

/// The place among numbers that were measured in the same way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rank {
    /// Place and number of places, at least 2; 1 is the best.
    Place { place: usize, of: usize },
    /// Why there is none.
    None(String),
}

/// The likelihoods of all groups, group by group. A group has one per protocol, or one that says that it has
/// none.
pub(crate) fn standings(groups: &[SeedGroup]) -> Vec<Standing> {
    let mut all: Vec<Standing> = vec![];
    for (index, group) in groups.iter().enumerate() {
        let measured = measured(group);
        if measured.is_empty() {
            let why = group.first().kind.without_likelihood().unwrap_or("it was not measured");
            all.push(Standing { group: index, measured: None, rank: Rank::None(format!("no likelihood: {why}")) });
        }
        let unranked = |measured| Standing { group: index, measured: Some(measured), rank: Rank::None(String::new()) };
        all.extend(measured.into_iter().map(unranked));
    }
    let known: Vec<Measured> = all.iter().filter_map(|standing| standing.measured.clone()).collect();
    for standing in &mut all {
        if let Some(own) = &standing.measured {
            standing.rank = rank(own, &known);
        }
    }
    all
}

/// The likelihoods of a group, one per protocol.
fn measured(group: &SeedGroup) -> Vec<Measured> {
    let mut found: Vec<(Protocol, Vec<f64>)> = vec![];
    for row in group.runs.iter().flat_map(|run| &run.likelihoods) {
        match found.iter_mut().find(|(protocol, _)| protocol.is_comparable(&row.protocol)) {
            Some((_, values)) => values.push(row.nats),
            None => found.push((row.protocol.clone(), vec![row.nats])),
        }
    }
    found.into_iter().map(|(protocol, values)| Measured { protocol, nats: Spread::of(values) }).collect()
}

/// The rank of one likelihood among all of the data set, of which it is one.
fn rank(own: &Measured, all: &[Measured]) -> Rank {
    if !own.nats.mean.is_finite() {
        return Rank::None("it is not finite".to_string());
    }
    let peers = all.iter().filter(|other| other.protocol.is_comparable(&own.protocol));
    let means: Vec<f64> = peers.map(|other| other.nats.mean).filter(|mean| mean.is_finite()).collect();
    if means.len() > 1 {
        let place = 1 + means.iter().filter(|mean| **mean < own.nats.mean).count();
        return Rank::Place { place, of: means.len() };
    }
    Rank::None(why_alone(&own.protocol, all.iter().map(|other| &other.protocol)))
}

/// Why a number has no rank whose protocol no other number shares.
fn why_alone<'a>(own: &Protocol, all: impl Iterator<Item = &'a Protocol> + Clone) -> String {
    let mut others = all.filter(|other| !other.is_comparable(own));
    let same_images = |other: &&Protocol| Protocol { estimate: own.estimate, ..(*other).clone() }.is_comparable(own);
    let estimate = own.estimate;
    let mut of_same_images = others.clone().filter(same_images);
    if of_same_images.clone().any(|other| other.estimate.is_exact() != estimate.is_exact()) {
        return match estimate.is_exact() {
            true => "exact, not comparable in rank with a bound".to_string(),
            false => "a bound, not comparable in rank with exact".to_string(),
        };
    }
    if let Some(other) = of_same_images.next() {
        return format!("{estimate} is not comparable in rank with {}", other.estimate);
    }
    match others.next() {
        Some(_) => "the others were measured on other images".to_string(),
        None => "the only likelihood here".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::run;
    use super::super::{Kind, by_seed};
    use super::*;
    use crate::data::Binarize;
    use crate::likelihood::{Condition, Estimate};

    type Change = fn(&mut Protocol);

    fn reason(standing: &Standing) -> &str {
        match &standing.rank {
            Rank::None(why) => why,
            Rank::Place { .. } => panic!("{standing:?} has a rank"),
        }
    }

    #[test]
    fn equal_protocols_are_ranked_by_the_mean_of_their_seeds() {
        let vae = |seed, nats| run("vae-mnist", Kind::Variational, seed, &[(Estimate::Elbo, nats)]);
        let dense = run("vae-mlp-mnist", Kind::Variational, 0, &[(Estimate::Elbo, 98.5)]);
        let groups = by_seed(vec![vae(0, 98.0), dense, vae(1, 100.0)]);
        let all = standings(&groups);
        let facts = all.iter().map(|standing| (standing.group, standing.measured.as_ref().unwrap().nats.mean));
        assert_eq!(facts.collect::<Vec<_>>(), [(0, 99.0), (1, 98.5)]);
        // One seed of the first group is better than the second group; its mean is not.
        assert_eq!(all[0].rank, Rank::Place { place: 2, of: 2 });
        assert_eq!(all[1].rank, Rank::Place { place: 1, of: 2 });
    }

    #[test]
    fn nothing_is_ranked_across_protocols() {
        let pixel = run("pixelcnn-mnist", Kind::Autoregressive, 0, &[(Estimate::Exact, 90.0)]);
        let vae = run("vae-mnist", Kind::Variational, 0, &[(Estimate::Elbo, 80.0), (Estimate::Iwae(50), 79.0)]);
        let gan = run("gan-mnist", Kind::Adversarial, 0, &[]);
        let plain = run("autoencoder-mnist", Kind::Autoencoder, 0, &[]);
        let all = standings(&by_seed(vec![pixel, vae, gan, plain]));
        let reasons: Vec<&str> = all.iter().map(reason).collect();
        assert_eq!(
            reasons,
            [
                "exact, not comparable in rank with a bound",
                "a bound, not comparable in rank with exact",
                "a bound, not comparable in rank with exact",
                "no likelihood: a generator has no density that could be computed",
                "no likelihood: a plain autoencoder has no density",
            ]
        );
    }

    #[test]
    fn every_difference_of_protocol_forbids_a_rank_and_is_named() {
        let base = || run("pixelcnn-mnist", Kind::Autoregressive, 0, &[(Estimate::Exact, 90.0)]);
        let changes: [(Change, &str); 6] = [
            (|p| p.estimate = Estimate::Elbo, "exact, not comparable in rank with a bound"),
            (
                |p| p.estimate = Estimate::ExactGiven(Condition::Class),
                "exact is not comparable in rank with exact given its class",
            ),
            (|p| p.binarisation = Binarize::Dynamic, "the others were measured on other images"),
            (|p| p.sha256 = "0".repeat(64), "the others were measured on other images"),
            (|p| p.images = 10, "the others were measured on other images"),
            (|p| p.dims = 1024, "the others were measured on other images"),
        ];
        for (change, expected) in changes {
            let mut other = run("row-lstm-mnist", Kind::Autoregressive, 0, &[(Estimate::Exact, 80.0)]);
            change(&mut other.likelihoods[0].protocol);
            let all = standings(&by_seed(vec![base(), other]));
            assert_eq!((all.len(), reason(&all[0])), (2, expected));
            assert!(!reason(&all[1]).is_empty());
        }
        let alone = standings(&by_seed(vec![base()]));
        assert_eq!(reason(&alone[0]), "the only likelihood here");
        let bounds = run("vae-mnist", Kind::Variational, 0, &[(Estimate::Elbo, 9.0), (Estimate::Iwae(5), 8.0)]);
        assert_eq!(reason(&standings(&by_seed(vec![bounds]))[0]), "ELBO is not comparable in rank with IWAE-5");
    }

    #[test]
    fn what_is_not_finite_has_no_place_and_takes_none() {
        let of = |name, nats| run(name, Kind::Autoregressive, 0, &[(Estimate::Exact, nats)]);
        let all = standings(&by_seed(vec![
            of("pixelcnn-mnist", f64::NAN),
            of("row-lstm-mnist", 80.0),
            of("diagonal-bilstm-mnist", 81.0),
        ]));
        assert_eq!(reason(&all[0]), "it is not finite");
        let places = all[1..].iter().map(|standing| standing.rank.clone()).collect::<Vec<_>>();
        assert_eq!(places, [1, 2].map(|place| Rank::Place { place, of: 2 }));
    }
}
