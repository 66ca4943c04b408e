//! Errors of the CUDA driver as sentences, and the memory of an error after which no card can be used.

use crate::error::{Error, Result};
use cudarc::driver::result::DriverError;
use cudarc::driver::sys::CUresult;
use std::sync::OnceLock;

/// The first error after which no card can be used any more. It belongs to the process, not to a device
/// that is open, because a later context of this process fails too.
static BROKEN: OnceLock<String> = OnceLock::new();

/// Turns an error of the driver into a sentence with a remedy, and remembers an error after which the card
/// is unusable. `doing` says what was tried. Every error of the driver passes through here.
pub fn failed(doing: &str, error: DriverError) -> Error {
    let text = |name: Result<&std::ffi::CStr, DriverError>| name.map(|n| n.to_string_lossy().into_owned());
    let name = text(error.error_name()).unwrap_or_else(|_| format!("{:?}", error.0));
    let remedy = match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => "choose a smaller batch or model, or end other programs on the card",
        CUresult::CUDA_ERROR_STUB_LIBRARY => {
            "a stub of the CUDA toolkit was loaded in its place; take the toolkit's folder stubs out of LD_LIBRARY_PATH"
        }
        CUresult::CUDA_ERROR_UNKNOWN | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED => {
            "the card cannot be used any more in this process; see whether nvidia-smi shows it in order, and run the \
             command again"
        }
        _ if is_sticky(error) => {
            "the card cannot be used any more in this process; run the command again, under compute-sanitizer to see where"
        }
        CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
        | CUresult::CUDA_ERROR_INVALID_IMAGE
        | CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            "NVRTC is newer than the driver; update the driver, or install the NVRTC of an older CUDA"
        }
        _ => "see whether nvidia-smi shows the card in order",
    };
    let sentence = format!("the CUDA driver could not {doing} ({name}); {remedy}");
    if is_sticky(error) {
        BROKEN.get_or_init(|| sentence.clone());
    }
    Error::Device(sentence).because(error)
}

/// Fails with the first error after which no card can be used any more, if there was one.
pub fn check_usable() -> Result<()> {
    match BROKEN.get() {
        Some(why) => Err(Error::Device(why.clone())),
        None => Ok(()),
    }
}

/// Whether every later call in this process will fail too.
fn is_sticky(error: DriverError) -> bool {
    use CUresult::*;
    matches!(
        error.0,
        CUDA_ERROR_ILLEGAL_ADDRESS
            | CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUDA_ERROR_MISALIGNED_ADDRESS
            | CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUDA_ERROR_INVALID_PC
            | CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUDA_ERROR_LAUNCH_FAILED
            | CUDA_ERROR_LAUNCH_TIMEOUT
            | CUDA_ERROR_ASSERT
            | CUDA_ERROR_ECC_UNCORRECTABLE
            | CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUDA_ERROR_MPS_CLIENT_TERMINATED
            | CUDA_ERROR_EXTERNAL_DEVICE
            | CUDA_ERROR_UNKNOWN
    )
}
