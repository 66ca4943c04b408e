//! How much memory this process may use. [`check`] refuses a plan that does not fit with an error, before an
//! allocation fails or the system kills the process.
//!
//! The free memory is the least of what the machine has (`/proc/meminfo`), what the limits of the process
//! leave (`ulimit -v` and `ulimit -d`, from `/proc/self/limits`, which reports what `getrlimit` returns),
//! and what the control groups of a container leave (versions 1 and 2). On systems without these files
//! nothing is refused.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Memory that can still be allocated, and what limits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Free {
    bytes: u64,
    /// What the user can change, if it is not the machine itself.
    limit: Option<&'static str>,
}

/// The memory of the machine or of its container in bytes; `None` if the system does not report it.
#[cfg(feature = "cli")]
pub fn total_bytes() -> Option<u64> {
    let container = control_groups().iter().filter_map(|group| group.limit()).min();
    [meminfo("MemTotal:"), container].into_iter().flatten().min()
}

/// Checks that this number of bytes can be allocated for `what`. `remedy` says what the user can do if not.
///
/// # Errors
/// [`Error::Device`] if the bytes exceed the free memory.
pub fn check(bytes: u64, what: &str, remedy: &str) -> Result<()> {
    // Small requests are frequent, and looking at the limits takes longer than they do.
    if bytes < 1 << 20 {
        return Ok(());
    }
    match free() {
        Some(Free { bytes: free, limit }) if bytes > free => {
            let limit = limit.map_or(String::new(), |limit| format!(" ({limit} allows no more)"));
            let (bytes, free) = (in_words(bytes), in_words(free));
            Err(Error::Device(format!("{what} needs {bytes} of memory and {free} are free{limit}; {remedy}")))
        }
        _ => Ok(()),
    }
}

fn free() -> Option<Free> {
    let machine = meminfo("MemAvailable:").map(|bytes| Free { bytes, limit: None });
    let address_space = left_of("Max address space", "VmSize:");
    let data = left_of("Max data size", "VmData:");
    let container = control_groups().iter().filter_map(ControlGroup::free).min();
    let limited = [
        address_space.map(|bytes| Free { bytes, limit: Some("ulimit -v") }),
        data.map(|bytes| Free { bytes, limit: Some("ulimit -d") }),
        container.map(|bytes| Free { bytes, limit: Some("the control group of the container") }),
    ];
    limited.into_iter().chain([machine]).flatten().min_by_key(|free| free.bytes)
}

fn in_words(bytes: u64) -> String {
    let (mebibyte, gibibyte) = (f64::from(1 << 20), f64::from(1 << 30));
    let bytes = bytes as f64;
    if bytes < gibibyte { format!("{:.0} MiB", bytes / mebibyte) } else { format!("{:.1} GiB", bytes / gibibyte) }
}

fn meminfo(field: &str) -> Option<u64> {
    kibibytes(&std::fs::read_to_string("/proc/meminfo").ok()?, field)
}

/// What the process may still use of one of its limits.
fn left_of(limit: &str, used: &str) -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let limit = soft_limit(&limits, limit)?;
    let used = kibibytes(&std::fs::read_to_string("/proc/self/status").ok()?, used)?;
    Some(limit.saturating_sub(used))
}

/// The soft limit in bytes in the text of `/proc/self/limits`; `None` if there is none.
fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The number after `field` in a text whose lines are like `MemTotal:  1024 kB`, in bytes.
fn kibibytes(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// A control group that counts the memory of this process.
struct ControlGroup {
    folder: PathBuf,
    names: GroupNames,
}

/// The names of a control group's files.
#[derive(Clone, Copy)]
struct GroupNames {
    limit: &'static str,
    usage: &'static str,
    /// The field of `memory.stat` with the file cache that the system gives back on demand.
    cache: &'static str,
}

const VERSION_1: GroupNames =
    GroupNames { limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes", cache: "total_inactive_file " };
const VERSION_2: GroupNames = GroupNames { limit: "memory.max", usage: "memory.current", cache: "inactive_file " };

impl ControlGroup {
    /// The limit in bytes; `None` if the group has none.
    fn limit(&self) -> Option<u64> {
        let number = |name: &str| std::fs::read_to_string(self.folder.join(name)).ok()?.trim().parse::<u64>().ok();
        // Version 1 writes "no limit" as a number near 2^63.
        number(self.names.limit).filter(|&limit| limit < 1 << 60)
    }

    /// The bytes that may still be allocated; `None` if there is no limit.
    fn free(&self) -> Option<u64> {
        let limit = self.limit()?;
        let text = |name: &str| std::fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        let used = text(self.names.usage).trim().parse::<u64>().unwrap_or(0);
        let stat = text("memory.stat");
        let cache = stat.lines().find_map(|line| line.strip_prefix(self.names.cache)?.trim().parse::<u64>().ok());
        Some(limit.saturating_sub(used.saturating_sub(cache.unwrap_or(0))))
    }
}

fn control_groups() -> Vec<ControlGroup> {
    let membership = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups_of(&membership, Path::new("/sys/fs/cgroup"))
}

/// The groups of a process, whose membership is the text of `/proc/self/cgroup`, and all groups above them:
/// the strictest limit counts. A container may not see its own path below `root`, but then its limit is at
/// `root`.
fn groups_of(membership: &str, root: &Path) -> Vec<ControlGroup> {
    let mut groups = Vec::new();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, names) = if controllers.is_empty() {
            (root.to_path_buf(), VERSION_2)
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (root.join("memory"), VERSION_1)
        } else {
            continue;
        };
        let group = root.join(path.trim_start_matches('/'));
        let within = group.ancestors().take_while(|folder| folder.starts_with(&root));
        groups.extend(within.map(|folder| ControlGroup { folder: folder.to_path_buf(), names }));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_fit_is_refused_and_a_byte_is_not() {
        check(1, "a byte", "choose less").unwrap();
        if free().is_some() {
            #[cfg(feature = "cli")]
            assert!(free().map(|free| free.bytes) <= total_bytes());
            let refused = check(u64::MAX, "everything", "choose less").unwrap_err().to_string();
            assert!(refused.starts_with("everything needs") && refused.ends_with("; choose less"), "{refused}");
        }
    }

    #[test]
    fn limits_of_the_process_are_read() {
        let limits = "Limit       Soft Limit  Hard Limit  Units\nMax data size   unlimited  unlimited  bytes\n\
                      Max address space   512000000   unlimited   bytes\n";
        assert_eq!(soft_limit(limits, "Max address space"), Some(512_000_000));
        assert_eq!(soft_limit(limits, "Max data size"), None);
        assert_eq!(kibibytes("VmPeak:\t  9 kB\nVmSize:\t    7 kB\n", "VmSize:"), Some(7 << 10));
    }

    fn least(membership: &str, files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        groups_of(membership, root.path()).iter().filter_map(ControlGroup::free).min()
    }

    #[test]
    fn the_strictest_control_group_counts() {
        let version_2 = [
            ("a/b/memory.max", "max\n"),
            ("a/memory.max", "1000\n"),
            ("a/memory.current", "700\n"),
            ("a/memory.stat", "anon 100\ninactive_file 200\n"),
        ];
        assert_eq!(least("0::/a/b\n", &version_2), Some(500));
        assert_eq!(least("0::/c\n", &version_2), None);
        let version_1 = [
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/docker/memory.limit_in_bytes", "4000\n"),
            ("memory/docker/memory.usage_in_bytes", "1500\n"),
            ("memory/docker/memory.stat", "total_inactive_file 500\n"),
        ];
        assert_eq!(least("3:cpu:/docker\n2:memory,hugetlb:/docker/id\n", &version_1), Some(3000));
        assert_eq!(least("3:cpu:/docker\n", &version_1), None);
        // Within a container, the path of the host does not exist, and the root is the container's group.
        assert_eq!(least("0::/../host\n", &[("memory.max", "100"), ("memory.current", "30")]), Some(70));
    }
}
