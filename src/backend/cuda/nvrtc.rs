//! NVRTC, NVIDIA's run-time compiler, opened by the names that its libraries have on each system.
//!
//! About a dozen functions are called through a library handle of our own. So a missing library or symbol is
//! an error and not a panic.

use crate::error::{Error, Result};
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::path::{Path, PathBuf};

/// The environment variable with the folder (or file) of libnvrtc, for the case that the system does not
/// find it.
const FOLDER_VARIABLE: &str = "PIXTAPE_NVRTC";

type Program = *mut c_void;

/// A version of the compiler, or a compute capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The number before the point.
    pub major: i32,
    /// The number after the point.
    pub minor: i32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// An opened compiler.
#[derive(Debug)]
pub struct Nvrtc {
    library: Library,
    /// The libraries that the compiler needs. They must stay open as long as it is used.
    _builtins: Vec<Library>,
    /// Its version.
    pub version: Version,
    /// Architectures that it can compile for, for example 90 for 9.0.
    architectures: Vec<i32>,
}

/// A source file: the name by which others include it, and its text.
pub type Source = (&'static str, &'static str);

impl Nvrtc {
    /// Opens the compiler whose major version the driver supports for certain, else another one.
    ///
    /// # Errors
    /// [`Error::Device`] if no compiler is found; the message names the package to install.
    pub fn open(driver_major: i32) -> Result<Nvrtc> {
        let mut tried = vec![];
        for path in candidates(driver_major) {
            match Self::load(&path) {
                Ok(nvrtc) => return Ok(nvrtc),
                Err(why) => tried.push(why),
            }
        }
        // Most names are simply not found. Any other failure is worth reporting.
        let why = tried.into_iter().find(|why| !why.contains("No such file") && !why.contains("cannot open"));
        let why = why.map_or(String::new(), |why| format!(" ({why})"));
        Err(Error::Device(format!(
            "NVRTC, NVIDIA's run-time compiler (libnvrtc.so.12 or .13), could not be opened{why}; install the package \
             cuda-nvrtc of the CUDA toolkit, or the wheel nvidia-cuda-nvrtc-cu12 and name its lib folder by {FOLDER_VARIABLE}"
        )))
    }

    fn load(path: &Path) -> Result<Nvrtc, String> {
        let open = |path: &Path| {
            // SAFETY: opening a library runs its initialisers. Those of NVIDIA's libraries have no
            // preconditions.
            unsafe { Library::new(path) }.map_err(|e| e.to_string())
        };
        let mut builtins = vec![];
        // If the compiler is outside the system's library folders, it does not find its builtins library.
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = file.file_name().to_string_lossy().into_owned();
                if name.starts_with("libnvrtc-builtins.so") || name.starts_with("nvrtc-builtins") {
                    builtins.extend(open(&file.path()));
                }
            }
        }
        let library = open(path)?;
        let mut nvrtc =
            Nvrtc { library, _builtins: builtins, version: Version { major: 0, minor: 0 }, architectures: vec![] };
        let Version { mut major, mut minor } = nvrtc.version;
        type GetVersion = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
        // SAFETY: `Version` is the function's type in nvrtc.h. The call writes two integers, for which both
        // pointers are valid.
        nvrtc.check(unsafe { nvrtc.symbol::<GetVersion>("nvrtcVersion")?(&mut major, &mut minor) })?;
        nvrtc.version = Version { major, minor };
        type Count = unsafe extern "C" fn(*mut c_int) -> c_int;
        let mut count = 0;
        // SAFETY: `Count` is the type of both functions in nvrtc.h. The first call writes one integer. The
        // second one writes as many integers as the first one reported, and the list has that length.
        unsafe {
            nvrtc.check(nvrtc.symbol::<Count>("nvrtcGetNumSupportedArchs")?(&mut count))?;
            nvrtc.architectures = vec![0; count.max(0) as usize];
            let list = nvrtc.architectures.as_mut_ptr();
            nvrtc.check(nvrtc.symbol::<Count>("nvrtcGetSupportedArchs")?(list))?;
        }
        Ok(nvrtc)
    }

    /// The target to compile for: machine code for the card's own architecture if the compiler supports it,
    /// else PTX for the newest older architecture that it supports. `None` if there is none.
    pub fn target(&self, architecture: Version) -> Option<Target> {
        let own = 10 * architecture.major + architecture.minor;
        if self.architectures.contains(&own) {
            return Some(Target { name: format!("sm_{own}"), is_ptx: false });
        }
        let below = self.architectures.iter().filter(|a| **a < own).max()?;
        Some(Target { name: format!("compute_{below}"), is_ptx: true })
    }

    /// Compiles a file, which may include `headers`. Returns the image and the log.
    ///
    /// # Errors
    /// The message and the log of the compiler.
    pub fn compile(
        &self,
        file: Source,
        headers: &[Source],
        target: &Target,
        options: &[&str],
    ) -> Result<(Vec<u8>, String), String> {
        let c = |text: &str| CString::new(text).map_err(|_| "a source text holds a zero".to_string());
        let (name, text) = (c(file.0)?, c(file.1)?);
        let names = headers.iter().map(|h| c(h.0)).collect::<Result<Vec<_>, _>>()?;
        let texts = headers.iter().map(|h| c(h.1)).collect::<Result<Vec<_>, _>>()?;
        let pointers = |all: &[CString]| all.iter().map(|c| c.as_ptr()).collect::<Vec<_>>();
        let mut all = vec![c(&format!("--gpu-architecture={}", target.name))?, c("--std=c++17")?];
        all.extend(options.iter().map(|o| c(o)).collect::<Result<Vec<_>, _>>()?);

        type Create = unsafe extern "C" fn(
            *mut Program,
            *const c_char,
            *const c_char,
            c_int,
            *const *const c_char,
            *const *const c_char,
        ) -> c_int;
        let mut program: Program = std::ptr::null_mut();
        // SAFETY: `Create` is the function's type in nvrtc.h. Both arrays have `headers.len()` pointers, all
        // strings end with a zero, and arrays and strings outlive the call.
        self.check(unsafe {
            self.symbol::<Create>("nvrtcCreateProgram")?(
                &mut program,
                text.as_ptr(),
                name.as_ptr(),
                headers.len() as c_int,
                pointers(&texts).as_ptr(),
                pointers(&names).as_ptr(),
            )
        })?;
        let built = self.build(program, &pointers(&all), target);
        type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;
        // SAFETY: `Destroy` is the function's type in nvrtc.h. The program was made above, is destroyed
        // once, and is not used again.
        self.check(unsafe { self.symbol::<Destroy>("nvrtcDestroyProgram")?(&mut program) })?;
        built
    }

    fn build(&self, program: Program, options: &[*const c_char], target: &Target) -> Result<(Vec<u8>, String), String> {
        type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
        // SAFETY: `Compile` is the function's type in nvrtc.h. The caller destroys the program only later.
        // The array has `options.len()` pointers to strings that the caller keeps.
        let code = unsafe {
            self.symbol::<Compile>("nvrtcCompileProgram")?(program, options.len() as c_int, options.as_ptr())
        };
        let log = self.bytes(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog")?;
        let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_string();
        self.check(code).map_err(|e| format!("{e}\n{log}"))?;
        let image = if target.is_ptx {
            self.bytes(program, "nvrtcGetPTXSize", "nvrtcGetPTX")?
        } else {
            self.bytes(program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN")?
        };
        Ok((image, log))
    }

    /// Reads a result of a program: its size by the function `size`, then its bytes by the function `get`.
    fn bytes(&self, program: Program, size: &str, get: &str) -> Result<Vec<u8>, String> {
        type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
        type Get = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
        let mut len = 0;
        // SAFETY: `Size` and `Get` are the types of all such functions in nvrtc.h. The program is valid,
        // because the caller destroys it later. The buffer has the length that the first call reported.
        unsafe {
            self.check(self.symbol::<Size>(size)?(program, &mut len))?;
            let mut bytes = vec![0u8; len];
            self.check(self.symbol::<Get>(get)?(program, bytes.as_mut_ptr().cast()))?;
            Ok(bytes)
        }
    }

    fn symbol<T>(&self, name: &str) -> Result<libloading::Symbol<'_, T>, String> {
        // SAFETY: `T` must be the type of the symbol. Every caller gives the type that the function has in
        // nvrtc.h.
        unsafe { self.library.get(name.as_bytes()) }.map_err(|e| e.to_string())
    }

    fn check(&self, code: c_int) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        type Text = unsafe extern "C" fn(c_int) -> *const c_char;
        // SAFETY: `Text` is the function's type in nvrtc.h. The text is a constant of the library, which
        // stays open as long as `self`, and it ends with a zero.
        let text = unsafe { CStr::from_ptr(self.symbol::<Text>("nvrtcGetErrorString")?(code)) };
        Err(text.to_string_lossy().into_owned())
    }
}

/// The target of a compilation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `sm_90`, or `compute_90` for PTX.
    pub name: String,
    /// Whether the result is PTX, which the driver translates to machine code.
    pub is_ptx: bool,
}

impl Target {
    /// The target for machine code of an architecture with a name such as `sm_90`.
    pub fn machine(name: &str) -> Target {
        Target { name: name.into(), is_ptx: false }
    }
}

/// Paths at which the compiler may be. If the variable is set, only the place that it names. Else the names
/// of the library, which the system looks up, and then the folders of the toolkit.
fn candidates(driver_major: i32) -> Vec<PathBuf> {
    let majors = if driver_major >= 13 { [13, 12] } else { [12, 13] };
    let names: Vec<String> = if cfg!(windows) {
        majors.iter().map(|m| format!("nvrtc64_{m}0_0.dll")).collect()
    } else {
        majors.iter().map(|m| format!("libnvrtc.so.{m}")).chain(["libnvrtc.so".into()]).collect()
    };
    if let Some(place) = std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from) {
        return if place.is_dir() { names.iter().map(|n| place.join(n)).collect() } else { vec![place] };
    }
    let toolkits = ["CUDA_PATH", "CUDA_HOME"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let folders = toolkits.chain(["/usr/local/cuda".into()]).flat_map(|t| ["lib64", "bin"].map(|sub| t.join(sub)));
    let in_folders = folders.flat_map(|f| names.iter().map(move |n| f.join(n)).collect::<Vec<_>>());
    names.iter().map(PathBuf::from).chain(in_folders).collect()
}
