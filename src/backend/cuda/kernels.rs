//! The kernels: their sources, which the binary carries, and how they become machine code for the card at
//! hand.
//!
//! A file is compiled when a plan first needs one of its kernels. The result is kept on disk under a name
//! made of the hash of all sources, the architecture and the compiler's version; a file that does not hold
//! what it should is made anew.

use super::driver::{Function, Module};
use super::nvrtc::{Nvrtc, Source, Target};
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../kernels/", $name)))),*]
    };
}

/// What the files include.
pub const HEADERS: [Source; 9] = sources![
    "args.cuh",
    "cell.cuh",
    "common.cuh",
    "functions.cuh",
    "math.cuh",
    "product.cuh",
    "ptx.cuh",
    "rng.cuh",
    "windows.cuh",
];

/// Every file with kernels.
pub const FILES: [Source; 14] = sources![
    "conv.cu",
    "conv_dw.cu",
    "conv_dx.cu",
    "elementwise.cu",
    "loss.cu",
    "lstm.cu",
    "matmul.cu",
    "norm.cu",
    "optim.cu",
    "random.cu",
    "reduce.cu",
    "sample.cu",
    "scan.cu",
    "shape_ops.cu",
];

/// How they are compiled. Nothing is contracted to a fused multiply-add but where the source says so: an
/// expression then has the same bits in every kernel that holds it, and those of the CPU.
pub const OPTIONS: [&str; 1] = ["--fmad=false"];

/// A kernel: its file, without the ending, and its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// File.
    pub file: &'static str,
    /// Function.
    pub name: &'static str,
}

/// The kernels that were loaded so far.
#[derive(Debug)]
pub struct Kernels {
    nvrtc: Nvrtc,
    target: Target,
    cache: Option<PathBuf>,
    modules: HashMap<&'static str, Module>,
    /// The most shared memory that was asked for of each kernel. The driver keeps one number a function: a
    /// smaller one would take back what a step that was enqueued before, or is enqueued again, needs.
    most_shared: HashMap<Kernel, u32>,
}

impl Kernels {
    /// Kernels for a card of this architecture.
    ///
    /// # Errors
    /// [`Error::Device`] where the compiler knows no architecture that the card runs.
    pub fn new(nvrtc: Nvrtc, architecture: [i32; 2]) -> Result<Kernels> {
        let [major, minor] = architecture;
        let target = nvrtc.target(architecture).ok_or_else(|| {
            let [v, w] = nvrtc.version;
            Error::Device(format!(
                "NVRTC {v}.{w} no longer compiles for compute capability {major}.{minor}; install that of CUDA 12"
            ))
        })?;
        Ok(Kernels { nvrtc, target, cache: cache_folder(), modules: HashMap::new(), most_shared: HashMap::new() })
    }

    /// Version of the compiler, and what it compiles for.
    pub fn describe(&self) -> String {
        let [major, minor] = self.nvrtc.version;
        format!("NVRTC {major}.{minor} for {}", self.target.name)
    }

    /// A kernel that may ask for `shared` bytes of dynamic shared memory.
    pub fn function(&mut self, kernel: Kernel, shared: u32) -> Result<Function> {
        if !self.modules.contains_key(kernel.file) {
            let image = self.image(kernel.file)?;
            self.modules.insert(kernel.file, Module::load(&image)?);
        }
        let most = self.most_shared.entry(kernel).or_default();
        *most = shared.max(*most);
        self.modules[kernel.file].function(kernel.name, *most)
    }

    /// Machine code of a file, from the disk or from the compiler.
    fn image(&self, file: &str) -> Result<Vec<u8>> {
        let source = FILES.iter().find(|(name, _)| name.strip_suffix(".cu") == Some(file));
        let source = *source.ok_or_else(|| Error::Failed(format!("there is no kernel file {file}")))?;
        let path = self.cache.as_ref().map(|folder| folder.join(self.cached_name(source)));
        if let Some(image) = path.as_deref().and_then(read_cached) {
            return Ok(image);
        }
        let compiled = self.nvrtc.compile(source, &HEADERS, &self.target, &OPTIONS);
        let (image, _) = compiled.map_err(|log| {
            Error::Device(format!("NVRTC could not compile {file}.cu for {} ({log}); report it", self.target.name))
        })?;
        // Without room on the disk the next run compiles again.
        if let Some(path) = path {
            let _ = write_cached(&path, &image);
        }
        Ok(image)
    }

    fn cached_name(&self, (name, text): Source) -> String {
        let mut hash = Sha256::new();
        hash.update(OPTIONS.join(" "));
        for (name, text) in HEADERS.into_iter().chain([(name, text)]) {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        let (key, [major, minor]) = (hex(&hash.finalize()[..16]), self.nvrtc.version);
        format!("{}-{}-nvrtc{major}.{minor}-{key}", name.trim_end_matches(".cu"), self.target.name)
    }
}

/// Where machine code is kept between runs, where the system says.
fn cache_folder() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let system = || from("XDG_CACHE_HOME").or_else(|| from("LOCALAPPDATA")).or(from("HOME").map(|h| h.join(".cache")));
    from("PIXTAPE_CACHE").or_else(|| system().map(|folder| folder.join("pixtape"))).map(|folder| folder.join("kernels"))
}

/// What a cached file holds, if that is what was written: its hash, then the image.
fn read_cached(path: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::read(path).ok()?;
    let (hash, image) = bytes.split_at_checked(32)?;
    (!image.is_empty() && Sha256::digest(image)[..] == *hash).then(|| image.to_vec())
}

/// Writes beside the place, then renames: another process never sees half a file.
fn write_cached(path: &Path, image: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&Sha256::digest(image))?;
    file.write_all(image)?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_cached_file_is_no_image() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper/conv");
        write_cached(&path, b"machine code").unwrap();
        assert_eq!(read_cached(&path).unwrap(), b"machine code");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read_cached(&path), None);
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(read_cached(&path), None);
    }

    #[test]
    fn every_file_of_the_folder_is_carried() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|f| f.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".cu") || name.ends_with(".cuh"))
            .collect();
        let mut carried: Vec<String> = HEADERS.iter().chain(&FILES).map(|(name, _)| name.to_string()).collect();
        there.sort();
        carried.sort();
        assert_eq!(there, carried);
    }
}
