//! NVRTC, NVIDIA's run-time compiler, opened by the names that its libraries really have.
//!
//! A dozen functions through a library handle of our own: nothing here can panic for want of a library or a symbol.

use crate::error::{Error, Result};
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

/// Folder (or file) of libnvrtc, where it is not among the system's libraries.
const FOLDER_VARIABLE: &str = "PIXTAPE_NVRTC";

type Program = *mut c_void;

/// An opened compiler.
#[derive(Debug)]
pub struct Nvrtc {
    library: Library,
    /// What the compiler needs beside it, kept open.
    _builtins: Vec<Library>,
    /// Version, major and minor.
    pub version: [i32; 2],
    /// Architectures that it makes machine code for, as 90 for 9.0.
    architectures: Vec<i32>,
}

/// A source text by the name that it is included by.
pub type Source = (&'static str, &'static str);

impl Nvrtc {
    /// Opens the compiler whose major version the driver is sure to understand, else another one.
    ///
    /// # Errors
    /// [`Error::Device`] with the package to install.
    pub fn open(driver_major: i32) -> Result<Nvrtc> {
        let mut tried = vec![];
        for path in candidates(driver_major) {
            match Self::load(&path) {
                Ok(nvrtc) => return Ok(nvrtc),
                Err(why) => tried.push(why),
            }
        }
        // A name that is not found is the common case; anything else is worth telling.
        let why = tried.into_iter().find(|why| !why.contains("No such file") && !why.contains("cannot open"));
        let why = why.map_or(String::new(), |why| format!(" ({why})"));
        Err(Error::Device(format!(
            "NVRTC, NVIDIA's run-time compiler (libnvrtc.so.12 or .13), could not be opened{why}; install the package \
             cuda-nvrtc of the CUDA toolkit, or the wheel nvidia-cuda-nvrtc-cu12 and name its lib folder by {FOLDER_VARIABLE}"
        )))
    }

    fn load(path: &Path) -> Result<Nvrtc, String> {
        let open = |path: &Path| {
            // SAFETY: NVIDIA's libraries run no code of their own when they are opened.
            unsafe { Library::new(path) }.map_err(|e| e.to_string())
        };
        let mut builtins = vec![];
        // In a folder of its own the compiler does not find its second half by itself.
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = file.file_name().to_string_lossy().into_owned();
                if name.starts_with("libnvrtc-builtins.so") || name.starts_with("nvrtc-builtins") {
                    builtins.extend(open(&file.path()));
                }
            }
        }
        let library = open(path)?;
        let mut nvrtc = Nvrtc { library, _builtins: builtins, version: [0; 2], architectures: vec![] };
        let [mut major, mut minor] = [0; 2];
        type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
        // SAFETY: the type is that of nvrtc.h; writes two integers.
        nvrtc.check(unsafe { nvrtc.symbol::<Version>("nvrtcVersion")?(&mut major, &mut minor) })?;
        nvrtc.version = [major, minor];
        type Count = unsafe extern "C" fn(*mut c_int) -> c_int;
        let mut count = 0;
        // SAFETY: as above; writes one integer, then as many as it said.
        unsafe {
            nvrtc.check(nvrtc.symbol::<Count>("nvrtcGetNumSupportedArchs")?(&mut count))?;
            nvrtc.architectures = vec![0; count.max(0) as usize];
            let list = nvrtc.architectures.as_mut_ptr();
            nvrtc.check(nvrtc.symbol::<Count>("nvrtcGetSupportedArchs")?(list))?;
        }
        Ok(nvrtc)
    }

    /// What to compile for: machine code of the card's own architecture, or PTX of the newest that both know.
    pub fn target(&self, [major, minor]: [i32; 2]) -> Option<Target> {
        let own = 10 * major + minor;
        if self.architectures.contains(&own) {
            return Some(Target { name: format!("sm_{own}"), is_ptx: false });
        }
        let below = self.architectures.iter().filter(|a| **a < own).max()?;
        Some(Target { name: format!("compute_{below}"), is_ptx: true })
    }

    /// Compiles a file, which includes `headers`, and returns image and log.
    ///
    /// # Errors
    /// The compiler's log.
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
        // SAFETY: the type is that of nvrtc.h; all strings outlive the call.
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
        // SAFETY: made above and not used again.
        self.check(unsafe { self.symbol::<Destroy>("nvrtcDestroyProgram")?(&mut program) })?;
        built
    }

    fn build(&self, program: Program, options: &[*const c_char], target: &Target) -> Result<(Vec<u8>, String), String> {
        type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
        // SAFETY: the type is that of nvrtc.h; program and options are alive.
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

    /// One of the results whose size is asked for first.
    fn bytes(&self, program: Program, size: &str, get: &str) -> Result<Vec<u8>, String> {
        type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
        type Get = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
        let mut len = 0;
        // SAFETY: the types are those of nvrtc.h; the buffer has the length that was said.
        unsafe {
            self.check(self.symbol::<Size>(size)?(program, &mut len))?;
            let mut bytes = vec![0u8; len];
            self.check(self.symbol::<Get>(get)?(program, bytes.as_mut_ptr().cast()))?;
            Ok(bytes)
        }
    }

    fn symbol<T>(&self, name: &str) -> Result<libloading::Symbol<'_, T>, String> {
        // SAFETY: every caller names the type that nvrtc.h gives the function.
        unsafe { self.library.get(name.as_bytes()) }.map_err(|e| e.to_string())
    }

    fn check(&self, code: c_int) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        type Text = unsafe extern "C" fn(c_int) -> *const c_char;
        // SAFETY: the type is that of nvrtc.h; the text is a constant of the library.
        let text = unsafe { CStr::from_ptr(self.symbol::<Text>("nvrtcGetErrorString")?(code)) };
        Err(text.to_string_lossy().into_owned())
    }
}

/// What is compiled for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `sm_90`, or `compute_90` for PTX.
    pub name: String,
    /// Whether the driver translates further.
    pub is_ptx: bool,
}

impl Target {
    /// Machine code of an architecture, named as in `sm_90a`.
    pub fn machine(name: &str) -> Target {
        Target { name: name.into(), is_ptx: false }
    }
}

/// Where the compiler may lie: where the variable says, by name, in the toolkit's folder.
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
