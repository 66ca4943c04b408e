//! Every kernel file is compiled to machine code for every architecture. Registers, spills and shared memory
//! must agree with a committed table if the compiler is the one that produced it. With any other compiler, a
//! multiprocessor must hold at least half as many blocks of each kernel as with that one: NVRTC 13.5 gives
//! fewer blocks for 39 of the 567 entries and more for 24, and never fewer than half.

use crate::stand_in::{nvrtc, root};
use pixtape::backend::cuda::kernels::{FILES, HEADERS, OPTIONS};
use pixtape::backend::cuda::nvrtc::{Nvrtc, Target, Version};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Mutex;

/// What limits the blocks of a multiprocessor, by its architecture. The table "Technical Specifications per
/// Compute Capability" of NVIDIA's CUDA programming guide has these numbers; NVIDIA's header
/// `cuda_occupancy.h` has the units of allocation.
struct Multiprocessor {
    architecture: &'static str,
    warps: u32,
    blocks: u32,
    /// Bytes of shared memory, those of them that the system uses in each block, and the unit of allocation.
    shared: u32,
    reserved: u32,
    shared_unit: u32,
}

const fn multiprocessor(architecture: &'static str, warps: u32, blocks: u32, shared_kib: u32) -> Multiprocessor {
    Multiprocessor { architecture, warps, blocks, shared: shared_kib << 10, reserved: 1 << 10, shared_unit: 128 }
}

const ARCHITECTURES: [Multiprocessor; 7] = [
    Multiprocessor { reserved: 0, shared_unit: 256, ..multiprocessor("sm_75", 32, 16, 64) },
    multiprocessor("sm_80", 64, 32, 164),
    multiprocessor("sm_86", 48, 16, 100),
    multiprocessor("sm_89", 48, 24, 100),
    multiprocessor("sm_90", 64, 32, 228),
    multiprocessor("sm_100", 64, 32, 228),
    multiprocessor("sm_120", 48, 24, 100),
];

impl Multiprocessor {
    /// The blocks of `threads` threads that are resident at the same time, without dynamic shared memory.
    ///
    /// Each of the four parts of a multiprocessor has a quarter of the 65,536 registers. A warp gets its
    /// registers from one part, in units of 256.
    fn resident_blocks(&self, threads: u32, Resources { registers, shared, .. }: Resources) -> u32 {
        let warps = threads.div_ceil(32);
        let warps_of_a_part = 65_536 / 4 / (32 * registers).next_multiple_of(256);
        let by_shared = self.shared / (shared + self.reserved).next_multiple_of(self.shared_unit).max(1);
        [self.blocks, self.warps / warps, 4 * warps_of_a_part / warps, by_shared].into_iter().min().unwrap_or(0)
    }
}

/// The version of the compiler that produced the table. Other versions allocate registers differently.
const VERSION: Version = Version { major: 12, minor: 8 };

/// The kernels that take most of the time. With the compiler of the table, none of them spills registers.
const HEADLINE: [&str; 3] = ["conv", "matmul", "lstm"];

/// Registers of a thread, bytes of spill stores, and bytes of static shared memory of a block.
#[derive(Clone, Copy)]
struct Resources {
    registers: u32,
    spills: u32,
    shared: u32,
}

/// The resources of each kernel by architecture.
type Table = BTreeMap<String, BTreeMap<&'static str, Resources>>;

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
            all.insert(name.clone(), Resources { registers: before(line, " registers"), spills, shared });
        }
    }
    all
}

/// Whether two entries agree. Spills and shared memory must be equal. Registers may differ by a factor of
/// two, because the compiler chooses among schedules at random (one kernel took 72 and 95 registers in one
/// process).
fn agrees(now: Resources, then: Resources) -> bool {
    let is_near = now.registers <= 2 * then.registers && then.registers <= 2 * now.registers;
    is_near && (now.spills, now.shared) == (then.spills, then.shared)
}

/// The threads of a block of each kernel, from the lines `KERNEL(threads, name)`.
fn threads() -> HashMap<&'static str, u32> {
    let lines = || FILES.iter().chain(&HEADERS).flat_map(|(_, text)| text.lines());
    let constant = |line: &'static str| {
        let (name, value) = line.strip_prefix("#define ")?.split_once(' ')?;
        Some((name, value.parse::<u32>().ok()?))
    };
    let constants: HashMap<&str, u32> = lines().filter_map(constant).collect();
    let declared = lines().filter_map(|line| {
        let declaration = line.strip_prefix("TILE_").unwrap_or(line).strip_prefix("KERNEL(")?;
        let (threads, name) = declaration.split_once(')')?.0.split_once(", ")?;
        Some((name, threads.parse().unwrap_or_else(|_| constants[threads])))
    });
    declared.collect()
}

/// Reads the committed table.
fn recorded() -> Table {
    let text = std::fs::read_to_string(path()).unwrap();
    let entry = |word: &str| {
        let (architecture, resources) = word.split_once(':').unwrap();
        let numbers: Vec<u32> = resources.split('/').map(|number| number.parse().unwrap()).collect();
        let [registers, spills, shared] = numbers[..] else { panic!("three numbers: {word}") };
        let known = ARCHITECTURES.iter().find(|known| known.architecture == architecture);
        (known.expect("a known architecture").architecture, Resources { registers, spills, shared })
    };
    let row = |line: &str| {
        let (kernel, words) = line.split_once(' ').unwrap();
        (kernel.to_string(), words.split(' ').map(entry).collect())
    };
    text.lines().filter(|line| !line.starts_with('#')).map(row).collect()
}

fn path() -> PathBuf {
    root().join("tests/cuda/resources.txt")
}

fn compile_all(nvrtc: &Nvrtc) -> Table {
    let architectures = || ARCHITECTURES.iter().map(|known| known.architecture);
    let jobs: Vec<_> = FILES.iter().flat_map(|file| architectures().map(|a| (*file, a))).collect();
    let (next, table) = (Mutex::new(jobs.iter()), Mutex::new(Table::new()));
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

/// Writes the table that is compared from then on.
fn record(table: &Table) {
    let mut text = String::from(
        "# Registers, bytes of spill stores and bytes of static shared memory of each kernel, by NVRTC 12.8.\n\
         # Written by `PIXTAPE_BLESS=1 cargo test --test cuda recorded`.\n",
    );
    for (kernel, by_architecture) in table {
        write!(text, "{kernel}").unwrap();
        for Multiprocessor { architecture, .. } in &ARCHITECTURES {
            let Resources { registers, spills, shared } = by_architecture[architecture];
            write!(text, " {architecture}:{registers}/{spills}/{shared}").unwrap();
        }
        text.push('\n');
    }
    std::fs::write(path(), text).unwrap();
}

#[test]
fn every_kernel_compiles_for_every_architecture_as_recorded() {
    let Some(nvrtc) = nvrtc() else { return };
    let is_recorded_version = nvrtc.version == VERSION;
    let table = compile_all(&nvrtc);
    if std::env::var_os("PIXTAPE_BLESS").is_some() {
        assert!(is_recorded_version, "the table is that of NVRTC {VERSION}, this is {}", nvrtc.version);
        record(&table);
    }
    let (recorded, threads) = (recorded(), threads());
    assert!(table.keys().eq(recorded.keys()), "PIXTAPE_BLESS=1 writes the table anew");
    let mut complaints = vec![];
    for (kernel, by_architecture) in &table {
        assert_eq!(by_architecture.len(), ARCHITECTURES.len(), "{kernel}");
        for processor in &ARCHITECTURES {
            let architecture = processor.architecture;
            let (now, then) = (by_architecture[architecture], recorded[kernel][architecture]);
            let [blocks, before] = [now, then].map(|of| processor.resident_blocks(threads[kernel.as_str()], of));
            let Resources { registers, spills, shared } = now;
            let has = format!(
                "{kernel} on {architecture}: {registers} registers, {spills} bytes of spills, {shared} bytes of shared \
                 memory, {blocks} blocks"
            );
            if is_recorded_version {
                let is_headline = HEADLINE.iter().any(|h| kernel.starts_with(h));
                assert!(spills == 0 || !is_headline, "a kernel that takes much time spills: {has}");
                assert!(agrees(now, then), "not as recorded: {has}; PIXTAPE_BLESS=1 writes the table anew");
            } else if 2 * blocks < before {
                complaints.push(format!("{has}, and {before} as recorded"));
            }
        }
    }
    assert!(complaints.is_empty(), "with NVRTC {}:\n{}", nvrtc.version, complaints.join("\n"));
}

/// The expected numbers are those of `cudaOccMaxActiveBlocksPerMultiprocessor` in `cuda_occupancy.h` 12.8.
#[test]
fn resident_blocks_are_those_of_nvidia() {
    for (architecture, threads, registers, shared, expected) in [
        ("sm_75", 256, 38, 8, 4),
        ("sm_75", 64, 16, 9000, 7),
        ("sm_80", 128, 127, 0, 4),
        ("sm_86", 64, 40, 0, 16),
        ("sm_89", 256, 80, 33_000, 3),
        ("sm_90", 512, 72, 0, 1),
        ("sm_100", 128, 168, 0, 3),
        ("sm_120", 96, 83, 1024, 6),
    ] {
        let processor = ARCHITECTURES.iter().find(|known| known.architecture == architecture).unwrap();
        let blocks = processor.resident_blocks(threads, Resources { registers, spills: 0, shared });
        assert_eq!(blocks, expected, "{architecture}, {threads} threads, {registers} registers, {shared} bytes");
    }
}
