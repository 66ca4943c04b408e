//! Downloads one file over HTTP to a `.partial` file next to its destination. An interrupted download is
//! resumed by an HTTP range request.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use crate::files::check_regular;
use crate::{Error, Result};

/// An address is given up after this many attempts in a row that bring no new bytes.
const ATTEMPTS: u32 = 3;

/// The progress of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file's name.
    pub file: &'a str,
    /// Bytes downloaded so far, including those of earlier attempts.
    pub done: u64,
    /// Bytes of the whole file, if the server reports them.
    pub total: Option<u64>,
}

/// Callback that receives every [`Progress`].
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress<'_>);

/// Why a download from one address failed.
pub(super) enum Failure {
    /// The address does not have the file; another one may. Holds the reason.
    Address(String),
    /// A local problem that no other address can solve: the folder cannot be written to.
    Local(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Local(error)
    }
}

/// An open `.partial` file, locked so that no second process downloads the same file.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Partial {
    /// Opens the `.partial` file of `target` and keeps what an earlier attempt left in it.
    pub(super) fn open(target: &Path) -> Result<Partial> {
        let mut path = target.to_path_buf().into_os_string();
        path.push(".partial");
        let path = PathBuf::from(path);
        let failed = |error: std::io::Error| Error::io(&path, "write", error);
        check_regular(&path)?;
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed)?;
        if file.try_lock().is_err() {
            return Err(Error::file(&path, "another fetch is writing it", "wait until that one has ended"));
        }
        let length = file.metadata().map_err(failed)?.len();
        Ok(Partial { path, file, length })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Discards what has been downloaded.
    pub(super) fn clear(&mut self) -> Result<()> {
        // The file is opened for appending, so the next write goes to the new end.
        self.file.set_len(0).map_err(|error| self.failed(error))?;
        self.length = 0;
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| self.failed(error))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Moves the finished file to its destination in one step.
    pub(super) fn finish(self, target: &Path) -> Result<()> {
        self.file.sync_all().map_err(|error| self.failed(error))?;
        std::fs::rename(&self.path, target).map_err(|error| Error::io(target, "write", error))
    }

    pub(super) fn delete(self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(&self.path, "write", error)
    }
}

/// The HTTP client. Its timeouts end a connection to a server that has stopped sending.
pub(super) fn client() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("pixtape/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .build()
        .into()
}

/// Downloads `url` and appends it to `partial`. Refuses more than `limit` bytes.
pub(super) fn download(
    client: &Agent,
    url: &str,
    partial: &mut Partial,
    limit: u64,
    progress: OnProgress<'_>,
) -> Result<(), Failure> {
    let mut fruitless = 0;
    loop {
        let before = partial.length;
        let said = match attempt(client, url, partial, limit, progress)? {
            Outcome::Complete => return Ok(()),
            Outcome::Cut(said) => said,
        };
        fruitless = if partial.length > before { 0 } else { fruitless + 1 };
        if fruitless == ATTEMPTS {
            return Err(Failure::Address(said));
        }
        // Waits half a second, then one second, for servers that ask for a pause.
        std::thread::sleep(Duration::from_millis(500) * fruitless);
    }
}

enum Outcome {
    Complete,
    /// The attempt failed but another one may succeed. Holds the reason.
    Cut(String),
}

fn attempt(
    client: &Agent,
    url: &str,
    partial: &mut Partial,
    limit: u64,
    progress: OnProgress<'_>,
) -> Result<Outcome, Failure> {
    let mut request = client.get(url);
    if partial.length > 0 {
        request = request.header("Range", format!("bytes={}-", partial.length));
    }
    let mut response = match request.call() {
        Ok(response) => response,
        Err(ureq::Error::BadUri(said)) => return Err(Failure::Address(format!("it is not a valid address ({said})"))),
        Err(ureq::Error::HostNotFound) => return Err(Failure::Address("its host was not found".into())),
        Err(error) => return Ok(Outcome::Cut(error.to_string())),
    };
    match response.status() {
        // A server that ignores the range sends the whole file.
        StatusCode::OK => partial.clear()?,
        StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(partial.length) => {}
        StatusCode::PARTIAL_CONTENT => {
            partial.clear()?;
            return Ok(Outcome::Cut("the server sent another range than the one requested".into()));
        }
        // Nothing is left to send. The checksum decides whether that is true.
        StatusCode::RANGE_NOT_SATISFIABLE if partial.length > 0 => return Ok(Outcome::Complete),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Ok(Outcome::Cut(format!("the server answered {status}")));
        }
        status => return Err(Failure::Address(format!("the server answered {status}"))),
    }
    let total = response.body().content_length().map(|rest| partial.length + rest);
    let name = url.rsplit('/').next().unwrap_or(url);
    let mut reader = response.body_mut().as_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        progress(Progress { file: name, done: partial.length, total });
        match reader.read(&mut buffer) {
            Ok(0) if total.is_some_and(|total| partial.length < total) => {
                return Ok(Outcome::Cut(format!("the connection was cut after {} bytes", partial.length)));
            }
            Ok(0) => return Ok(Outcome::Complete),
            Ok(count) if partial.length + count as u64 > limit => {
                partial.clear()?;
                return Err(Failure::Address(format!(
                    "the server sent more than the {limit} bytes that the file can have"
                )));
            }
            Ok(count) => partial.append(&buffer[..count])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                return Ok(Outcome::Cut(format!("the connection was cut after {} bytes ({error})", partial.length)));
            }
        }
    }
}

/// The first byte of a 206 response, from `Content-Range: bytes 100-199/200`.
fn range_start(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}
