//! The kernels: their sources, which are embedded in the binary, and their compilation to machine code for
//! the card.
//!
//! A file is compiled when a plan first needs one of its kernels. The result is cached on disk. Its name
//! contains a hash of the file, the headers and the options, the architecture, and the compiler's version. A
//! damaged cached file is detected by a checksum and made again.

use super::driver::{Function, Module};
use super::nvrtc::{Nvrtc, Source, Target, Version};
use crate::error::{Error, Result};
use crate::files::read_regular;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../kernels/", $name)))),*]
    };
}

/// The headers that the files include.
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

/// Options of the compiler. Multiplications and additions become a fused multiply-add only where the source
/// says so. So an expression gives the same bits in every kernel, and the same bits as on the CPU.
pub const OPTIONS: [&str; 1] = ["--fmad=false"];

/// A kernel: its file, without the extension, and its name in that file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// File.
    pub file: &'static str,
    /// Function.
    pub name: &'static str,
}

/// The compiler, and the modules that were loaded so far.
#[derive(Debug)]
pub struct Kernels {
    nvrtc: Nvrtc,
    target: Target,
    cache: Option<PathBuf>,
    modules: HashMap<&'static str, Module>,
    /// The most dynamic shared memory that was requested for each kernel. The driver keeps one limit per
    /// function. A smaller limit would break the launches that requested more before and are replayed later.
    most_shared: HashMap<Kernel, u32>,
}

impl Kernels {
    /// Prepares to compile kernels for a card of this architecture.
    ///
    /// # Errors
    /// [`Error::Device`] if the compiler supports no architecture that the card can run.
    pub fn new(nvrtc: Nvrtc, architecture: Version) -> Result<Kernels> {
        let target = nvrtc.target(architecture).ok_or_else(|| {
            Error::Device(format!(
                "NVRTC {} no longer compiles for compute capability {architecture}; install that of CUDA 12",
                nvrtc.version
            ))
        })?;
        Ok(Kernels { nvrtc, target, cache: cache_folder(), modules: HashMap::new(), most_shared: HashMap::new() })
    }

    /// Version of the compiler, and the target that it compiles for.
    pub fn describe(&self) -> String {
        format!("NVRTC {} for {}", self.nvrtc.version, self.target.name)
    }

    /// Returns a kernel, with at least `shared` bytes of dynamic shared memory allowed.
    pub fn function(&mut self, kernel: Kernel, shared: u32) -> Result<Function> {
        if !self.modules.contains_key(kernel.file) {
            let image = self.image(kernel.file)?;
            self.modules.insert(kernel.file, Module::load(&image)?);
        }
        let most = self.most_shared.entry(kernel).or_default();
        *most = shared.max(*most);
        self.modules[kernel.file].function(kernel.name, *most)
    }

    /// The machine code of a file, from the cache or from the compiler.
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
        // If the cache cannot be written, the next run compiles again.
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
        let (key, version) = (hex(&hash.finalize()[..16]), self.nvrtc.version);
        format!("{}-{}-nvrtc{version}-{key}", name.trim_end_matches(".cu"), self.target.name)
    }
}

/// The folder of the cache: named by `PIXTAPE_CACHE`, else in the user's cache folder.
fn cache_folder() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let system = || from("XDG_CACHE_HOME").or_else(|| from("LOCALAPPDATA")).or(from("HOME").map(|h| h.join(".cache")));
    from("PIXTAPE_CACHE").or_else(|| system().map(|folder| folder.join("pixtape"))).map(|folder| folder.join("kernels"))
}

/// The largest cached file that is read, in bytes.
const MAX_CACHED: u64 = 64 << 20;

/// The image in a cached file, which holds a hash and then the image. `None` if the hash does not match.
fn read_cached(path: &Path) -> Option<Vec<u8>> {
    cached_image(&read_regular(path, MAX_CACHED).ok()?).map(<[u8]>::to_vec)
}

/// The image in the bytes of a cached file.
fn cached_image(bytes: &[u8]) -> Option<&[u8]> {
    let (hash, image) = bytes.split_at_checked(32)?;
    (!image.is_empty() && Sha256::digest(image)[..] == *hash).then_some(image)
}

/// The body of the fuzz target: whatever is accepted is all bytes behind their hash. The error is the
/// message of a refusal.
pub fn fuzz_cached(bytes: &[u8]) -> Result<(), String> {
    let image = cached_image(bytes).ok_or("its hash does not match")?;
    assert!(!image.is_empty() && image.len() + 32 == bytes.len());
    Ok(())
}

/// Writes a temporary file in the same folder, then renames it, so that no other process sees half a file.
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
