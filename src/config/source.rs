//! The key `data` of a configuration, and what a checkpoint keeps of a configuration.
//!
//! The key is the name of a known data set or a path. A path contains a slash (or a backslash), so it can
//! never be taken for a name. A checkpoint stores no path: there the key is [`UNSTORED`] and the last part
//! of the path.

use std::path::Path;

use super::Config;
use crate::data::Set;

/// Begins the key `data` in a checkpoint whose images came from a path.
const UNSTORED: &str = "path:";

/// What the key `data` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataSource<'a> {
    /// The name of a known data set.
    Set(&'a str),
    /// A path.
    Path(&'a str),
    /// The last part of a path that is not stored.
    Unstored(&'a str),
    /// Neither a known name nor a path. Earlier versions wrote the last part of a path in this way.
    Unknown(&'a str),
}

impl Config {
    /// What the key `data` says.
    pub(crate) fn data_source(&self) -> DataSource<'_> {
        let data = self.data.as_str();
        if Set::named(data).is_some() {
            DataSource::Set(data)
        } else if let Some(name) = data.strip_prefix(UNSTORED) {
            DataSource::Unstored(name)
        } else if data.contains(['/', '\\']) {
            DataSource::Path(data)
        } else {
            DataSource::Unknown(data)
        }
    }

    /// Sets the key `data` to the name of a known data set or to a path. A path without a slash gets `./` in
    /// front.
    #[doc(hidden)]
    pub fn set_data(&mut self, name_or_path: &str) {
        let is_clear = Set::named(name_or_path).is_some() || name_or_path.contains(['/', '\\']);
        self.data = if is_clear { name_or_path.to_string() } else { format!("./{name_or_path}") };
    }

    /// The name of the data set: a known name, or the last part of the path.
    #[cfg(feature = "cli")]
    pub(crate) fn data_name(&self) -> String {
        match self.data_source() {
            DataSource::Set(name) | DataSource::Unstored(name) | DataSource::Unknown(name) => name.to_string(),
            DataSource::Path(path) => last_part(path),
        }
    }

    /// This configuration without what differs between machines: paths and numbers of devices. Checkpoints
    /// store it, so that equal trainings give equal files.
    #[doc(hidden)]
    pub fn portable(&self) -> Config {
        let mut config = self.clone();
        if let DataSource::Path(path) = self.data_source() {
            config.data = format!("{UNSTORED}{}", last_part(path));
        }
        let kind = self.device.split(':').next().unwrap_or_default();
        config.device = kind.to_string();
        config
    }
}

/// The last part of a path. A path like `..` has a last part only after it is resolved.
pub(crate) fn last_part(path: &str) -> String {
    let path = Path::new(path);
    let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    last(path).or_else(|| last(&path.canonicalize().ok()?)).unwrap_or_else(|| "/".to_string())
}
