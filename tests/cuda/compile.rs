//! Every kernel file is compiled to machine code for every architecture. Registers, spills and shared memory
//! must agree with a committed table.

use crate::stand_in::{nvrtc, root};
use pixtape::backend::cuda::kernels::{FILES, HEADERS, OPTIONS};
use pixtape::backend::cuda::nvrtc::{Nvrtc, Target, Version};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;

const ARCHITECTURES: [&str; 7] = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"];

/// The version of the compiler that produced the table. Other versions allocate registers differently.
const VERSION: Version = Version { major: 12, minor: 8 };

/// The kernels that take most of the time. The test fails if one of them spills registers.
const HEADLINE: [&str; 3] = ["conv", "matmul", "lstm"];

/// Registers, bytes of spill stores, bytes of static shared memory.
type Resources = (u32, u32, u32);

/// The number before `unit`.
fn before(line: &str, unit: &str) -> u32 {
    let number = line.split(unit).next().and_then(|part| part.split_whitespace().next_back());
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The resources that ptxas reports for each kernel.
fn resources(log: &str) -> BTreeMap<String, Resources> {
    let mut all = BTreeMap::new();
    let mut name = String::new();
    let mut spills = 0;
    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            name = rest.split('\'').next().unwrap_or_default().to_string();
        } else if line.contains("bytes spill stores") {
            spills = before(line, " bytes spill stores");
        } else if line.contains("Used ") && line.contains(" registers") {
            let shared = if line.contains("bytes smem") { before(line, " bytes smem") } else { 0 };
            all.insert(name.clone(), (before(line, " registers"), spills, shared));
        }
    }
    all
}

/// Whether two entries agree. Spills and shared memory must be equal. Registers may differ by a factor of
/// two, because the compiler chooses among schedules at random (one kernel took 72 and 95 registers in one
/// process).
fn agrees(now: &str, then: &str) -> bool {
    let Some(((now, rest), (then, rest_then))) = now.split_once('/').zip(then.split_once('/')) else {
        return now == then;
    };
    let parts = |entry: &str| entry.split_once(':').and_then(|(a, r)| Some((a.to_string(), r.parse::<u32>().ok()?)));
    let Some(((architecture, now), (of, then))) = parts(now).zip(parts(then)) else { return false };
    rest == rest_then && architecture == of && now <= 2 * then && then <= 2 * now
}

fn compile_all(nvrtc: &Nvrtc) -> BTreeMap<String, BTreeMap<&'static str, Resources>> {
    let jobs: Vec<_> = FILES.iter().flat_map(|file| ARCHITECTURES.map(|a| (*file, a))).collect();
    let (next, table) = (Mutex::new(jobs.iter()), Mutex::new(BTreeMap::<String, BTreeMap<_, _>>::new()));
    let work = || {
        loop {
            let Some((file, architecture)) = next.lock().unwrap().next() else { return };
            let options = [&OPTIONS[..], &["--ptxas-options=-v"]].concat();
            let compiled = nvrtc.compile(*file, &HEADERS, &Target::machine(architecture), &options);
            let (image, log) = compiled.unwrap_or_else(|log| panic!("{} for {architecture}: {log}", file.0));
            assert!(!image.is_empty() && !log.contains("warning"), "{} for {architecture}: {log}", file.0);
            for (kernel, resources) in resources(&log) {
                table.lock().unwrap().entry(kernel).or_default().insert(*architecture, resources);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    table.into_inner().unwrap()
}

#[test]
fn every_kernel_compiles_for_every_architecture_as_recorded() {
    let Some(nvrtc) = nvrtc() else { return };
    let table = compile_all(&nvrtc);
    let mut text = String::from(
        "# Registers, bytes of spill stores and bytes of static shared memory of each kernel, by NVRTC 12.8.\n\
         # Written by `PIXTAPE_BLESS=1 cargo test --test cuda recorded`.\n",
    );
    for (kernel, by_architecture) in &table {
        assert_eq!(by_architecture.len(), ARCHITECTURES.len(), "{kernel}");
        write!(text, "{kernel}").unwrap();
        for architecture in ARCHITECTURES {
            let (registers, spills, shared) = by_architecture[architecture];
            let is_headline = HEADLINE.iter().any(|h| kernel.starts_with(h));
            assert!(spills == 0 || !is_headline, "{kernel} spills {spills} bytes on {architecture}");
            write!(text, " {architecture}:{registers}/{spills}/{shared}").unwrap();
        }
        text.push('\n');
    }
    let path = root().join("tests/cuda/resources.txt");
    if std::env::var_os("PIXTAPE_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    if nvrtc.version != VERSION {
        println!("SKIP: the table is that of NVRTC {VERSION}, this is {}", nvrtc.version);
        return;
    }
    let recorded = std::fs::read_to_string(&path).unwrap();
    for (now, then) in text.lines().zip(recorded.lines()) {
        let words = now.split(' ').zip(then.split(' '));
        let same = now.split(' ').count() == then.split(' ').count() && words.clone().all(|(a, b)| agrees(a, b));
        assert!(same, "PIXTAPE_BLESS=1 writes the table anew, if the change is wanted\n now: {now}\nthen: {then}");
    }
    assert_eq!(text.lines().count(), recorded.lines().count());
}
