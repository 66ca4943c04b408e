//! Builds the stand-in driver and the library of kernels, and runs programs with them.
//!
//! The stand-in driver (`tests/cuda_on_cpu/`) implements the functions of the CUDA driver on the CPU. g++
//! compiles the unmodified kernels. A build is kept and used again while its sources are the same.

use pixtape::backend::cuda::{Cuda, Options, nvrtc::Nvrtc};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock};

/// How the kernels are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    Plain,
    /// AddressSanitizer and UndefinedBehaviorSanitizer.
    Asan,
    /// ThreadSanitizer.
    Tsan,
}

impl Build {
    /// Compiler options for the kernels and for the driver.
    fn options(self) -> [&'static [&'static str]; 2] {
        const ASAN: [&str; 4] = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"];
        const ASAN_BELOW: [&str; 5] = [ASAN[0], ASAN[1], ASAN[2], ASAN[3], "-DWITH_ASAN"];
        match self {
            Build::Plain => [&["-O2"], &["-O2"]],
            Build::Asan => [&ASAN, &ASAN_BELOW],
            Build::Tsan => [&["-O1", "-g", "-fsanitize=thread"], &["-O2", "-DWITH_TSAN"]],
        }
    }
}

/// Folder of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Reports a missing tool. Panics if the tool is required, otherwise prints SKIP.
pub fn missing(tool: &str, why: &str) {
    let required = std::env::var("PIXTAPE_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|r| r == tool), "PIXTAPE_REQUIRE asks for {tool}: {why}");
    println!("SKIP: {why}");
}

/// The compiler; `None` if it is missing.
pub fn nvrtc() -> Option<Nvrtc> {
    Nvrtc::open(12).inspect_err(|why| missing("nvrtc", &why.to_string())).ok()
}

/// A built driver with its kernels.
#[derive(Clone, Debug)]
pub struct StandIn {
    folder: PathBuf,
    build: Build,
}

/// A change to a kernel file: its name, the old text, the new text.
pub type Change<'a> = (&'a str, &'a str, &'a str);

impl StandIn {
    /// Builds the stand-in, or uses an earlier build of the same sources. `None` if there is no compiler.
    pub fn get(build: Build) -> Option<StandIn> {
        StandIn::changed(build, &[], &[])
    }

    /// The same with mistakes: builds only `files` (all files if the list is empty), with `changes`.
    pub fn changed(build: Build, files: &[&str], changes: &[Change]) -> Option<StandIn> {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            missing("cuda-emu", "the stand-in driver runs on x86-64 Linux only");
            return None;
        }
        if Command::new("g++").arg("--version").output().is_err() {
            missing("cuda-emu", "there is no g++ to build the stand-in driver; install it");
            return None;
        }
        // The CUDA backend needs NVRTC, although the stand-in driver ignores its machine code.
        nvrtc()?;
        let sources = Sources::read(files, changes);
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cuda-on-cpu-{}", sources.key(build)));
        static BUILDING: Mutex<()> = Mutex::new(());
        let guard = BUILDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !folder.exists() {
            let temporary = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            sources.build(build, temporary.path()).unwrap_or_else(|why| panic!("{build:?}: {why}"));
            // If another process has created the folder first, its build is used.
            let _ = std::fs::rename(temporary.keep(), &folder);
        }
        drop(guard);
        Some(StandIn { folder, build })
    }

    /// `pixtape` with these arguments on the stand-in driver.
    pub fn pixtape(&self, arguments: &str) -> Command {
        // ThreadSanitizer needs a process without address space randomisation.
        let mut command = match self.build {
            Build::Tsan => {
                let mut command = Command::new("setarch");
                command.args(["-R", env!("CARGO_BIN_EXE_pixtape")]);
                command
            }
            _ => Command::new(env!("CARGO_BIN_EXE_pixtape")),
        };
        command.args(arguments.split_whitespace());
        command.env("LD_LIBRARY_PATH", &self.folder).env("CUDA_ON_CPU_KERNELS", self.kernels());
        command.env("PIXTAPE_CACHE", cache());
        let library = match self.build {
            Build::Plain => return command,
            Build::Asan => "libasan.so",
            Build::Tsan => "libtsan.so",
        };
        let path = Command::new("g++").arg(format!("-print-file-name={library}")).output().unwrap();
        command.env("LD_PRELOAD", String::from_utf8(path.stdout).unwrap().trim());
        command.env("ASAN_OPTIONS", "detect_leaks=0,detect_stack_use_after_return=0");
        // The Rust code is not instrumented, so ThreadSanitizer does not see how its threads are
        // synchronised.
        command
            .env("TSAN_OPTIONS", "halt_on_error=1,ignore_noninstrumented_modules=1")
            .env("CUDA_ON_CPU_ORDER", "forward");
        command
    }

    fn kernels(&self) -> PathBuf {
        self.folder.join("libkernels.so")
    }

    /// A backend in this process with poisoned memory, so that elements that a kernel does not write are
    /// noticed. `None` if a tool is missing.
    pub fn backend() -> Option<Cuda> {
        static LOADED: OnceLock<bool> = OnceLock::new();
        let loaded = LOADED.get_or_init(|| {
            let Some(stand_in) = StandIn::get(Build::Plain) else { return false };
            // SAFETY: no other thread may read the environment outside of the lock of the standard library
            // while it is set. Rust code reads it under that lock. The stand-in driver reads it without the
            // lock, but it is loaded only after this block, which `LOADED` runs once.
            unsafe {
                std::env::set_var("CUDA_ON_CPU_KERNELS", stand_in.kernels());
                std::env::set_var("PIXTAPE_CACHE", cache());
            }
            // The library stays loaded, so that the backend finds it by its name.
            // SAFETY: opening a library runs its initialisers. Those of the stand-in driver only initialise
            // its own static variables.
            let library = unsafe { libloading::Library::new(stand_in.folder.join("libcuda.so.1")) };
            std::mem::forget(library.expect("the stand-in driver loads"));
            true
        });
        loaded.then(|| Cuda::new(Options { poison: true }).expect("the stand-in driver is there"))
    }
}

fn cache() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cuda-cache")
}

/// What a program printed, for messages.
pub fn text(output: &Output) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}", part(&output.stdout), part(&output.stderr))
}

/// The sources by file name: those of the kernels and those of the stand-in driver.
struct Sources {
    files: Vec<(String, String)>,
}

impl Sources {
    fn read(only: &[&str], changes: &[Change]) -> Sources {
        let mut files = vec![];
        for folder in ["kernels", "tests/cuda_on_cpu"] {
            for entry in std::fs::read_dir(root().join(folder)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if name.ends_with(".cu") && !only.is_empty() && !only.contains(&name.as_str()) {
                    continue;
                }
                let mut text = std::fs::read_to_string(&path).unwrap();
                for (_, from, to) in changes.iter().filter(|(file, ..)| *file == name) {
                    assert!(text.contains(from), "{name} does not have {from:?}: adapt this test");
                    text = text.replacen(from, to, 1);
                }
                files.push((name, text));
            }
        }
        files.sort();
        Sources { files }
    }

    fn key(&self, build: Build) -> String {
        let mut hash = Sha256::new();
        for (name, text) in &self.files {
            hash.update(format!("{name} {} ", text.len()));
            hash.update(text);
        }
        let hex: String = hash.finalize()[..8].iter().map(|b| format!("{b:02x}")).collect();
        format!("{build:?}-{hex}")
    }

    fn build(&self, build: Build, folder: &Path) -> Result<(), String> {
        for (name, text) in &self.files {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let [kernels, below] = build.options();
        let compile = |options: &[&str], rest: &[&str]| {
            let mut command = Command::new("g++");
            command.current_dir(folder).args(["-std=c++17", "-march=x86-64-v3", "-ffp-contract=off", "-fPIC"]);
            command.args([
                "-fno-extern-tls-init",
                "-pthread",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-Wno-unknown-pragmas",
                "-I.",
            ]);
            let output = command.args(options).args(rest).output().unwrap();
            if output.status.success() { Ok(()) } else { Err(text(&output)) }
        };
        let soname = ["-shared", "-Wl,-soname,libcuda.so.1", "driver.cpp", "threads.cpp", "-o", "libcuda.so.1", "-ldl"];
        compile(below, &soname)?;
        // Compiles each file on its own, with one line per kernel, then links all objects.
        let files: Vec<&str> = self.files.iter().filter_map(|(name, _)| name.strip_suffix(".cu")).collect();
        for file in &files {
            let lines: Vec<String> =
                self.kernels_of(file).map(|(threads, name)| format!("EXPORT_KERNEL({name}, {threads})")).collect();
            let glue = format!("#include \"cuda_on_cpu.h\"\n#include \"{file}.cu\"\n{}\n", lines.join("\n"));
            std::fs::write(folder.join(format!("{file}.cpp")), glue).unwrap();
        }
        let next = Mutex::new(files.iter());
        let work = || -> Result<(), String> {
            loop {
                let Some(file) = next.lock().unwrap().next() else { return Ok(()) };
                compile(kernels, &["-c", &format!("{file}.cpp"), "-o", &format!("{file}.o")])?;
            }
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(work);
            work().and(other.join().unwrap())
        })?;
        let anchor = "extern \"C\" void* cuda_on_cpu_anchor() { static thread_local char here; return &here; }\n";
        std::fs::write(folder.join("anchor.cpp"), anchor).unwrap();
        let objects: Vec<String> = files.iter().map(|f| format!("{f}.o")).collect();
        // The library is named after the objects that need it; otherwise the linker drops it.
        let mut rest = vec!["-shared", "anchor.cpp"];
        rest.extend(objects.iter().map(String::as_str));
        rest.extend(["-o", "libkernels.so", "-L.", "-l:libcuda.so.1"]);
        compile(kernels, &rest)
    }

    /// The number of threads and the name of every kernel of a file.
    fn kernels_of(&self, file: &str) -> impl Iterator<Item = (&str, &str)> {
        let (_, text) = self.files.iter().find(|(name, _)| name.strip_suffix(".cu") == Some(file)).unwrap();
        text.lines().filter_map(|line| {
            line.trim_start_matches("TILE_").strip_prefix("KERNEL(")?.split_once(')')?.0.split_once(", ")
        })
    }
}
