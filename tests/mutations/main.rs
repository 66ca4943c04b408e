//! Every parser under fire: mutated files, under a limit of memory and of time for each.
//!
//! A test builds a few small, sound files, and mutates them thousands of times. Whatever comes out must be
//! accepted with the properties that `parsers` asserts, or refused with one short message. It must not
//! panic, use much memory or take long. The mutations are a function of the seed and of the number of the
//! input.
//!
//! - `parsers`: one body per parser, which the fuzz target of the folder `fuzz` uses, too.
//! - `bytes`, `text`: mutations; `subjects`: the sound files of each parser and how they are mutated.
//! - `limits`: memory, counted per thread.
//!
//! `cargo test` gives each parser 20,000 inputs, and
//! `cargo test --release --test mutations -- --ignored million` gives each one 10^6. An input that fails is
//! saved in `corpus/`, which is replayed first, and the message names its seed and number:
//! `PIXTAPE_MUTATION=SEED:NUMBER cargo test --test mutations PARSER` repeats it.
//! `PIXTAPE_MUTATION=SEED` uses another seed.

mod bytes;
mod limits;
mod parsers;
mod subjects;
mod text;

use bytes::Random;
use limits::{Measured, measure};
use parsers::Verdict;
use std::panic::{catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A parser with sound files and a way to mutate them.
struct Subject {
    name: &'static str,
    parse: fn(&[u8]) -> Verdict,
    /// Sound files, each of which is accepted.
    seeds: Vec<Vec<u8>>,
    /// One mutated file.
    mutate: fn(&mut Random, &[Vec<u8>]) -> Vec<u8>,
    /// The most memory that one input may use, in MiB.
    most_mib: usize,
}

/// The longest time for one input. It is long, because tests share the processor with others.
const MOST_TIME: Duration = Duration::from_secs(5);

/// After this time an input is taken for one that never ends.
const ENDLESS: Duration = Duration::from_secs(120);

/// The longest message, in characters: a reason of 600 (the list of all keys of a configuration takes 550),
/// and the remedy.
const LONGEST_MESSAGE: usize = 800;

/// The seed, and the one number that is to be repeated, if one is.
fn wanted() -> (u64, Option<u64>) {
    let Ok(text) = std::env::var("PIXTAPE_MUTATION") else { return (1, None) };
    let number = |text: &str| text.parse().expect("PIXTAPE_MUTATION is SEED or SEED:NUMBER");
    match text.split_once(':') {
        Some((seed, index)) => (number(seed), Some(number(index))),
        None => (number(&text), None),
    }
}

fn corpus(subject: &Subject) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/mutations/corpus").join(subject.name)
}

/// Parses one input. An error says what is wrong with the parser.
fn try_input(subject: &Subject, input: &[u8]) -> Result<Measured<Verdict>, String> {
    let measured =
        measure(|| catch_unwind(|| (subject.parse)(input))).transpose().map_err(|_| "it panics".to_string())?;
    if measured.peak > subject.most_mib << 20 {
        return Err(format!("it uses {} MiB of memory, more than {}", measured.peak >> 20, subject.most_mib));
    }
    if measured.time > MOST_TIME {
        return Err(format!("it takes {:.1} s", measured.time.as_secs_f64()));
    }
    if let Err(message) = &measured.value {
        let is_odd = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        if message.chars().count() > LONGEST_MESSAGE || message.lines().count() > 3 || message.contains(is_odd) {
            return Err(format!("its message is long or has control characters: {message:?}"));
        }
    }
    Ok(measured)
}

/// Replays the corpus, then tries `count` mutations.
fn fire(subject: Subject, count: u64) {
    let mut replayed: Vec<PathBuf> =
        corpus(&subject).read_dir().into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    replayed.sort();
    for path in &replayed {
        let input = std::fs::read(path).unwrap();
        try_input(&subject, &input).unwrap_or_else(|why| panic!("{}: {} {why}", path.display(), subject.name));
    }
    for (at, seed) in subject.seeds.iter().enumerate() {
        let verdict = try_input(&subject, seed).unwrap().value;
        assert_eq!(verdict, Ok(()), "{}: its sound file {at} is refused", subject.name);
    }
    let (seed, only) = wanted();
    let (first, last) = only.map_or((0, count), |index| (index, index + 1));
    let now = AtomicU64::new(first);
    std::thread::scope(|scope| {
        let guard = scope.spawn(|| watch(subject.name, seed, &now, last));
        let done = catch_unwind(|| fire_range(&subject, seed, first..last, &now));
        now.store(last, Ordering::Relaxed);
        guard.thread().unpark();
        println!("{}", done.unwrap_or_else(|panic| resume_unwind(panic)));
    });
}

fn fire_range(subject: &Subject, seed: u64, range: std::ops::Range<u64>, now: &AtomicU64) -> String {
    let (mut accepted, mut peak, mut slowest) = (0, 0, Duration::ZERO);
    let (start, count) = (Instant::now(), range.end - range.start);
    for index in range {
        now.store(index, Ordering::Relaxed);
        let input = (subject.mutate)(&mut Random::new(subject.name, seed, index), &subject.seeds);
        match try_input(subject, &input) {
            Ok(measured) => {
                accepted += u64::from(measured.value.is_ok());
                peak = peak.max(measured.peak);
                slowest = slowest.max(measured.time);
            }
            Err(why) => {
                let folder = corpus(subject);
                let path = folder.join(format!("seed-{seed}-input-{index}"));
                std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, &input)).unwrap();
                panic!("{}: input {seed}:{index} ({}): {why}", subject.name, path.display());
            }
        }
    }
    if count > 1 {
        assert!(accepted > 0, "{}: no input is accepted, so the mutations are too coarse", subject.name);
        assert!(accepted < count, "{}: every input is accepted, so nothing is tested", subject.name);
    }
    format!(
        "{}: {count} inputs of seed {seed}, {accepted} accepted, {:.0} inputs/s, at most {:.1} MiB and {:.1} ms",
        subject.name,
        count as f64 / start.elapsed().as_secs_f64(),
        peak as f64 / f64::from(1 << 20),
        slowest.as_secs_f64() * 1e3
    )
}

/// Ends the program if one input takes far too long. A thread cannot be stopped from outside.
fn watch(name: &str, seed: u64, now: &AtomicU64, end: u64) {
    let (mut last, mut since) = (u64::MAX, Instant::now());
    loop {
        let index = now.load(Ordering::Relaxed);
        if index == end {
            return;
        }
        if index != last {
            (last, since) = (index, Instant::now());
        } else if since.elapsed() > ENDLESS {
            eprintln!("{name}: input {seed}:{index} does not end");
            std::process::abort();
        }
        std::thread::park_timeout(Duration::from_secs(1));
    }
}

/// Two tests per parser: a short one, and one of 10^6 inputs that is run on request.
macro_rules! parsers {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                fire(subjects::$name(), 20_000);
            }
        )*

        mod million {
            use super::{fire, limits, subjects};
            $(
                #[test]
                #[ignore = "takes minutes; run it in a release build"]
                fn $name() {
                    limits::limit_the_process();
                    fire(subjects::$name(), 1_000_000);
                }
            )*
        }
    };
}

parsers! { idx cifar amat gz xz png jpeg checkpoint cases config metrics kernel_cache }
