//! `pixtape data fetch`: downloads the publishers' files of a data set.
//!
//! `download` fetches one file and resumes it after an interruption. This file chooses the server,
//! verifies the SHA-256 checksum of the unpacked bytes, and moves a file to its destination only after it
//! is verified.

mod download;

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};
use ureq::Agent;

use self::download::{Failure, Partial};
pub use self::download::{OnProgress, Progress};
use super::names::find;
use super::sets::{Served, Set, SetFile};
use super::source::Source;
use crate::files::open_regular;
use crate::{Error, Result};

/// The files of a data set after [`fetch`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Files that were downloaded.
    pub new: Vec<PathBuf>,
    /// Files that were present already, with the right checksum.
    pub present: Vec<PathBuf>,
}

/// Downloads the missing files of `set` to its folder in `data_dir`. If `base_url` is given, it replaces
/// the publishers' servers: a file is requested as `base_url/SET/FILE`, where FILE is the name that the
/// publisher serves.
///
/// # Errors
/// If an existing file has a wrong checksum (it is not changed), if the folder cannot be written to, or
/// if no server has the right file. Files that were downloaded before the error are kept for the next
/// call.
pub fn fetch(set: &Set, data_dir: &Path, base_url: Option<&str>, progress: OnProgress<'_>) -> Result<Fetched> {
    let folder = set.folder(data_dir);
    let mut fetched = Fetched::default();
    let mut missing = Vec::new();
    for file in set.files {
        match find(&folder, file.name) {
            None => missing.push(file),
            Some(path) => match fault(&path, file)? {
                None => fetched.present.push(path),
                Some(fault) => return Err(Error::file(&path, fault, "delete or rename it and fetch again")),
            },
        }
    }
    if missing.is_empty() {
        return Ok(fetched);
    }
    std::fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, "create", error))?;
    let servers: Vec<String> = match base_url {
        Some(base) => vec![format!("{}/{}/", base.trim_end_matches('/'), set.name)],
        None => set.mirrors.iter().map(|&mirror| mirror.into()).collect(),
    };
    let mut job = Job { client: download::client(), folder, servers, progress };
    match set.served {
        Served::As(ending) => {
            for file in missing {
                fetched.new.push(job.file(file, &format!("{}{ending}", file.name))?);
            }
        }
        Served::Tar(name) => fetched.new = job.archive(name, &missing)?,
    }
    Ok(fetched)
}

struct Job<'a> {
    client: Agent,
    folder: PathBuf,
    servers: Vec<String>,
    progress: OnProgress<'a>,
}

impl Job<'_> {
    /// Fetches one file, which the server stores under the name `served`.
    fn file(&mut self, file: &SetFile, served: &str) -> Result<PathBuf> {
        let target = self.folder.join(served);
        let partial = self.verified(served, file.bytes, |path| fault(path, file))?;
        partial.finish(&target)?;
        Ok(target)
    }

    /// Fetches an archive and extracts the missing files from it.
    fn archive(&mut self, served: &str, missing: &[&SetFile]) -> Result<Vec<PathBuf>> {
        let folder = self.folder.clone();
        let bytes = missing.iter().map(|file| file.bytes).sum();
        let mut unpacked = Vec::new();
        let archive = self.verified(served, bytes, |path| {
            unpacked.clear();
            unpack(path, &folder, missing, &mut unpacked)
        })?;
        archive.delete()?;
        Ok(unpacked)
    }

    /// Downloads `served` from the first server whose file passes `check`.
    fn verified(
        &mut self,
        served: &str,
        unpacked: u64,
        mut check: impl FnMut(&Path) -> Result<Option<String>>,
    ) -> Result<Partial> {
        let target = self.folder.join(served);
        let mut partial = Partial::open(&target)?;
        // A compressed file is longer than the unpacked one by at most this much.
        let limit = unpacked + unpacked / 100 + (1 << 20);
        let mut said = Vec::new();
        for server in &self.servers {
            let url = format!("{server}{served}");
            loop {
                let resumed = partial.length() > 0;
                match download::download(&self.client, &url, &mut partial, limit, self.progress) {
                    Err(Failure::Local(error)) => return Err(error),
                    Err(Failure::Address(reason)) => said.push(format!("{url}: {reason}")),
                    Ok(()) => match check(partial.path())? {
                        None => return Ok(partial),
                        Some(fault) => {
                            partial.clear()?;
                            // An earlier attempt may have left the beginning of another file. Try once
                            // more from the start.
                            if resumed {
                                continue;
                            }
                            said.push(format!("{url}: {fault}"));
                        }
                    },
                }
                break;
            }
        }
        if partial.length() == 0 {
            partial.delete()?;
        }
        Err(Error::file(
            &target,
            format!("no server had it ({})", said.join("; ")),
            "check the network and run the command again (it resumes where it stopped), or copy the file there by hand",
        ))
    }
}

/// Returns what is wrong with the file at `path`, if anything: its unpacked length, its checksum, or that
/// it cannot be unpacked.
fn fault(path: &Path, file: &SetFile) -> Result<Option<String>> {
    let mut source = Source::open(path)?;
    let mut sum = Sum::default();
    let mut buffer = vec![0; 1 << 16];
    while sum.bytes <= file.bytes {
        match source.fill(&mut buffer) {
            Ok(0) => break,
            Ok(count) => sum.add(&buffer[..count]),
            Err(Error::File { reason, .. }) => return Ok(Some(reason)),
            Err(error) => return Err(error),
        }
    }
    Ok(sum.fault(file))
}

#[derive(Default)]
struct Sum {
    hash: Sha256,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn fault(self, file: &SetFile) -> Option<String> {
        let sum: String = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if self.bytes != file.bytes {
            let more = if self.bytes > file.bytes { "more than " } else { "" };
            let bytes = self.bytes.min(file.bytes);
            return Some(format!("it unpacks to {more}{bytes} bytes, not the publisher's {}", file.bytes));
        }
        (sum != file.sha256).then(|| format!("its checksum is wrong (sha256 {sum}, not {})", file.sha256))
    }
}

/// Extracts the files `wanted` from a gzipped tar archive to `folder`. Each file is verified before it is
/// moved to its destination. Other entries of the archive are never written. Returns what is wrong with
/// the archive, if anything.
fn unpack(archive: &Path, folder: &Path, wanted: &[&SetFile], unpacked: &mut Vec<PathBuf>) -> Result<Option<String>> {
    let file = open_regular(archive)?.file;
    let mut tar = tar::Archive::new(GzDecoder::new(file));
    let damaged = |error: std::io::Error| Ok(Some(format!("the archive is damaged ({error})")));
    let entries = match tar.entries() {
        Ok(entries) => entries,
        Err(error) => return damaged(error),
    };
    for entry in entries {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(error) => return damaged(error),
        };
        let name = entry.path().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_string()));
        let Some(file) = wanted.iter().find(|file| name.as_deref() == Some(file.name)) else { continue };
        let target = folder.join(file.name);
        let mut partial = Partial::open(&target)?;
        partial.clear()?;
        let (mut sum, mut buffer) = (Sum::default(), vec![0; 1 << 16]);
        while sum.bytes <= file.bytes {
            match entry.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    sum.add(&buffer[..count]);
                    partial.append(&buffer[..count])?;
                }
                Err(error) => {
                    partial.delete()?;
                    return damaged(error);
                }
            }
        }
        if let Some(fault) = sum.fault(file) {
            partial.delete()?;
            return Ok(Some(format!("{} in it: {fault}", file.name)));
        }
        partial.finish(&target)?;
        unpacked.push(target);
    }
    let lacks = wanted.iter().find(|file| !folder.join(file.name).is_file());
    Ok(lacks.map(|file| format!("{} is not in the archive", file.name)))
}
