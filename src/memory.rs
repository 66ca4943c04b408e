//! How much memory the machine has. [`check`] refuses a plan that does not fit with an error, before the
//! system kills the process. The numbers are from `/proc/meminfo`; on systems without this file nothing is
//! refused.

use crate::error::{Error, Result};

/// The machine's memory in bytes; `None` if the system does not report it.
#[cfg(feature = "cli")]
pub fn total_bytes() -> Option<u64> {
    meminfo("MemTotal:")
}

/// The bytes that can be allocated without swapping; `None` if the system does not report them.
pub fn available_bytes() -> Option<u64> {
    meminfo("MemAvailable:")
}

/// Checks that this number of bytes can be allocated for `what`.
///
/// # Errors
/// [`Error::Device`] if the bytes exceed the available memory.
pub fn check(bytes: u64, what: &str) -> Result<()> {
    match available_bytes() {
        Some(available) if bytes > available => {
            let gibibytes = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            Err(Error::Device(format!(
                "{what} needs {:.1} GiB of memory and {:.1} GiB are free; choose a smaller batch or model",
                gibibytes(bytes),
                gibibytes(available)
            )))
        }
        _ => Ok(()),
    }
}

fn meminfo(field: &str) -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_fit_is_refused_and_a_byte_is_not() {
        check(1, "a byte").unwrap();
        if available_bytes().is_some() {
            #[cfg(feature = "cli")]
            assert!(available_bytes() <= total_bytes());
            let refused = check(u64::MAX, "everything").unwrap_err().to_string();
            assert!(refused.starts_with("everything needs"), "{refused}");
        }
    }
}
