//! The sizes of the caches, and the arrays with which the L3 cache is measured.

use std::path::Path;

/// Where Linux describes the caches of the first processor.
const FIRST_CPU: &str = "/sys/devices/system/cpu/cpu0/cache";

/// One level of cache of the first processor.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Level {
    bytes: usize,
    /// Hardware threads that share it.
    sharers: usize,
}

/// The caches beyond L1 of the first processor. The others are assumed to be like it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Caches {
    l2: Level,
    l3: Level,
}

impl Caches {
    /// The caches of this machine; `None` if the system does not describe an L2 and an L3 cache.
    pub fn detect() -> Option<Caches> {
        Caches::described_in(Path::new(FIRST_CPU))
    }

    /// Reads the folders `index0`, `index1`, ..., one per cache.
    fn described_in(folder: &Path) -> Option<Caches> {
        let text = |cache: usize, file: &str| {
            let text = std::fs::read_to_string(folder.join(format!("index{cache}/{file}"))).ok()?;
            Some(text.trim().to_string())
        };
        let level = |wanted: &str| {
            let cache = (0..8).find(|cache| text(*cache, "level").as_deref() == Some(wanted))?;
            let kib: usize = text(cache, "size")?.strip_suffix('K')?.parse().ok()?;
            Some(Level { bytes: kib << 10, sharers: count(&text(cache, "shared_cpu_list")?)? })
        };
        Some(Caches { l2: level("2")?, l3: level("3")? })
    }

    /// Bytes of the three arrays of each of `threads` threads, which fit into the thread's share of L3 but
    /// not of L2. They are four times as large as the share of L2, so that little of them is found there,
    /// but leave a quarter of the share of L3 to everything else. `None` if they would be less than twice
    /// the share of L2.
    pub fn l3_triad_bytes(&self, threads: usize) -> Option<usize> {
        let share = |level: Level| level.bytes / level.sharers.min(threads).max(1);
        let l2 = self.l2.bytes / self.l2.sharers.max(1);
        let bytes = (4 * l2).min(share(self.l3) / 4 * 3);
        (bytes >= 2 * l2 && l2 > 0).then_some(bytes)
    }
}

/// Number of processors in a list such as `0-3,8`.
fn count(list: &str) -> Option<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some((last + 1).saturating_sub(first))
    };
    list.split(',').map(range).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn caches(l2: (usize, usize), l3: (usize, usize)) -> Caches {
        let level = |(bytes, sharers)| Level { bytes, sharers };
        Caches { l2: level(l2), l3: level(l3) }
    }

    #[test]
    fn arrays_fit_into_the_share_of_l3_but_not_of_l2() {
        // Two cores of their own L2: 4 MiB per thread.
        assert_eq!(caches((MIB, 1), (32 * MIB, 2)).l3_triad_bytes(2), Some(4 * MIB));
        // 16 hardware threads on 8 cores: each has 0.5 MiB of L2 and 2 MiB of L3, or 32 MiB if it is alone.
        assert_eq!(caches((MIB, 2), (32 * MIB, 16)).l3_triad_bytes(16), Some(3 * MIB / 2));
        assert_eq!(caches((MIB, 2), (32 * MIB, 16)).l3_triad_bytes(1), Some(2 * MIB));
        // More threads than share one L3: there are several of it.
        assert_eq!(caches((MIB, 2), (32 * MIB, 16)).l3_triad_bytes(64), Some(3 * MIB / 2));
        // The share of L3 is hardly larger than L2.
        assert_eq!(caches((2 * MIB, 1), (60 * MIB, 32)).l3_triad_bytes(32), None);
    }

    #[test]
    fn the_description_of_linux_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let write = |cache: usize, texts: [&str; 3]| {
            let folder = dir.path().join(format!("index{cache}"));
            std::fs::create_dir(&folder).unwrap();
            for (file, text) in ["level", "size", "shared_cpu_list"].into_iter().zip(texts) {
                std::fs::write(folder.join(file), format!("{text}\n")).unwrap();
            }
        };
        write(0, ["1", "32K", "0"]);
        write(1, ["1", "32K", "0"]);
        write(2, ["2", "1024K", "0,8"]);
        assert_eq!(Caches::described_in(dir.path()), None);
        write(3, ["3", "32768K", "0-7,8-15"]);
        assert_eq!(Caches::described_in(dir.path()), Some(caches((MIB, 2), (32 * MIB, 16))));
    }
}
