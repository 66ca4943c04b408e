//! Changing a configuration key by key: `--set key=value` and TOML files.

use super::size::SIDES;
use super::{Config, presets};
use crate::error::{Cause, Error, Result};
use std::collections::BTreeMap;
use std::path::Path;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// The two ways to say how long to train. Setting one removes the other.
const LENGTHS: [(&str, &str); 2] = [("steps", "epochs"), ("epochs", "steps")];

/// What is wrong with a configuration.
struct Wrong {
    /// The line of the text.
    line: Option<usize>,
    reason: String,
    /// The key, if it is one that does not exist.
    unknown_key: Option<String>,
    cause: Option<Cause>,
}

impl Config {
    /// Reads a configuration from TOML: `preset` or `network`, and whatever differs from it. `path` is where
    /// the text came from, for the message.
    ///
    /// # Errors
    /// [`Error::File`] with the line, if the text is not TOML, or has an unknown preset, network or key, or
    /// a wrong type or value.
    pub fn from_toml(text: &str, path: &Path) -> Result<Self> {
        Config::parse(text).map_err(|wrong| {
            let place = wrong.line.map_or(String::new(), |line| format!("line {line}: "));
            let error = Error::file(path, place + &wrong.reason, "correct the file and run the command again");
            match wrong.cause {
                Some(cause) => error.because(cause),
                None => error,
            }
        })
    }

    /// Reads the configuration in the checkpoint whose file is `path`. Nobody edits it, so a key that is not
    /// known is that of a newer version.
    ///
    /// # Errors
    /// [`Error::File`] for the reasons of [`from_toml`](Config::from_toml).
    pub(crate) fn of_checkpoint(text: &str, path: &Path) -> Result<Self> {
        Config::parse(text).map_err(|wrong| match wrong.unknown_key {
            Some(key) => {
                let reason =
                    format!("its configuration has the key {key}, which this version of pixtape does not know");
                Error::file(path, reason, "update pixtape: a newer version wrote the file")
            }
            None => {
                let reason = format!("its configuration cannot be used: {}", wrong.reason);
                Error::file(path, reason, "use another checkpoint of the run")
            }
        })
    }

    /// The complete text of the configuration in `text`; `None` if it is not one.
    pub(crate) fn complete(text: &str) -> Option<String> {
        Config::parse(text).ok().map(|config| config.to_toml())
    }

    /// Whether a configuration has the key `keep_checkpoints`. Those of earlier versions do not.
    pub(crate) fn says_what_to_keep(text: &str) -> bool {
        text.parse::<Table>().is_ok_and(|table| table.contains_key("keep_checkpoints"))
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let not_toml = |error: toml::de::Error| Wrong {
            line: error.span().map(|span| line_of(text, span.start)),
            reason: format!("it is not valid TOML ({})", error.message().replace('\n', ", ")),
            unknown_key: None,
            cause: Some(error.into()),
        };
        let refuse = |line: Option<usize>, reason: String| Wrong { line, reason, unknown_key: None, cause: None };
        let table: Table = text.parse().map_err(not_toml)?;
        // The same text once more, for the places of its keys.
        let parsed = DeTable::parse(text).map_err(not_toml)?;
        let mut lines = BTreeMap::new();
        collect_lines(text, "", parsed.get_ref(), &mut lines);
        let line = |key: &str| lines.get(key).copied();
        let text_of = |key: &'static str| match table.get(key) {
            Some(Value::String(name)) => Ok(Some(name.as_str())),
            Some(_) => Err(refuse(line(key), format!("{key} must be a text"))),
            None => Ok(None),
        };
        let start = presets::start(text_of("preset")?, text_of("network")?);
        let mut config = start.map_err(|(key, reason)| refuse(line(key), reason))?;
        if table.contains_key("steps") && table.contains_key("epochs") {
            return Err(refuse(line("epochs"), "only one of steps and epochs can be there".to_string()));
        }
        let mut leaves = Vec::new();
        collect_leaves("", table.clone(), &mut leaves);
        let known = config.known_keys();
        for (key, value) in leaves {
            let unknown_key = (!known.contains_key(&key)).then(|| key.clone());
            config.assign(&key, value).map_err(|reason| Wrong {
                line: line(&key),
                reason,
                unknown_key,
                cause: None,
            })?;
        }
        config.check().map_err(|reason| refuse(None, reason))?;
        Ok(config)
    }

    /// Applies `key=value` of `--set`; nested keys are dotted (`optimizer.lr=0.001`). `size=N` stands for
    /// `model.height=N` and `model.width=N`.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown key, naming the nearest one and those next to it, a wrong type or
    /// value.
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let usage = |reason: String| Error::Usage(format!("--set {assignment}: {reason}"));
        let Some((key, text)) = assignment.split_once('=') else {
            return Err(usage("it must be key=value".to_string()));
        };
        let (key, text) = (key.trim(), text.trim());
        if key == "size" && self.known_keys().contains_key(SIDES[0]) {
            return SIDES.iter().try_for_each(|side| self.set(&format!("{side}={text}")));
        }
        let value = match self.known_keys().get(key) {
            Some(Value::Integer(_)) => text.parse().ok().map(Value::Integer),
            Some(Value::Float(_)) => text.parse().ok().map(Value::Float),
            Some(Value::Boolean(_)) => text.parse().ok().map(Value::Boolean),
            _ => None,
        };
        // A value that does not parse stays a text, which `assign` refuses with the type that it needs.
        let value = value.unwrap_or_else(|| Value::String(text.to_string()));
        let mut changed = self.clone();
        changed.assign(key, value).map_err(usage)?;
        changed.check().map_err(usage)?;
        *self = changed;
        Ok(())
    }

    /// Checks every value against its range, after fields were set directly.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key and what it must be.
    pub fn validate(&self) -> Result<()> {
        self.check().map_err(|reason| Error::Usage(format!("{reason}; correct it and run the command again")))
    }

    /// Every key that this configuration's network has, dotted and sorted, with its current value. The one
    /// of `steps` and `epochs` that is not set is listed as 0.
    pub fn known_keys(&self) -> BTreeMap<String, Value> {
        let mut leaves = Vec::new();
        collect_leaves("", self.to_table(), &mut leaves);
        let mut keys: BTreeMap<String, Value> = leaves.into_iter().collect();
        for (key, _) in LENGTHS {
            keys.entry(key.to_string()).or_insert(Value::Integer(0));
        }
        keys
    }

    fn to_table(&self) -> Table {
        Table::try_from(self).expect("every field is a TOML value")
    }

    /// Sets one key without checking its range.
    fn assign(&mut self, key: &str, value: Value) -> Result<(), String> {
        let known = self.known_keys();
        if matches!(key, "preset" | "network") {
            let same = known.get(key) == Some(&value);
            let reason = || format!("the {key} is chosen by the first argument, not by a key");
            return if same { Ok(()) } else { Err(reason()) };
        }
        let Some(present) = known.get(key) else {
            return Err(unknown_key(key, self.name(), known.keys()));
        };
        let value = fitting(key, present, value)?;
        let mut table = self.to_table();
        for (length, other) in LENGTHS {
            if key == length {
                table.remove(other);
            }
        }
        let (section, leaf) = key.rsplit_once('.').map_or((None, key), |(section, leaf)| (Some(section), leaf));
        let target = match section.and_then(|section| table.get_mut(section)) {
            Some(Value::Table(inner)) => inner,
            _ => &mut table,
        };
        target.insert(leaf.to_string(), value);
        let averaging = self.averaging;
        *self = table.try_into().map_err(|error: toml::de::Error| {
            // The library's message ends with the key in a second line, which is said here already.
            format!("{key}: {}", error.message().lines().next().unwrap_or_default())
        })?;
        self.averaging = averaging;
        Ok(())
    }
}

/// The value, if its type fits that of the current one. A whole number is accepted as a number.
fn fitting(key: &str, present: &Value, value: Value) -> Result<Value, String> {
    let wanted = match (present, &value) {
        (Value::Integer(_), Value::Integer(number)) if *number < 0 => "a whole number of at least 0",
        (Value::Float(_), Value::Integer(number)) => return Ok(Value::Float(*number as f64)),
        (present, value) if present.same_type(value) => return Ok(value.clone()),
        (Value::Integer(_), _) => "a whole number",
        (Value::Float(_), _) => "a number",
        (Value::Boolean(_), _) => "true or false",
        _ => "a text",
    };
    Err(format!("{key} takes {wanted}, not {value}"))
}

/// The clause about a key that the configuration called `name` does not have.
fn unknown_key<'a>(key: &str, name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let known: Vec<&str> = known.map(String::as_str).collect();
    // `lr` probably means `optimizer.lr`.
    let likeness = |candidate: &str| {
        let leaf = candidate.rsplit('.').next().unwrap_or(candidate);
        strsim::jaro_winkler(candidate, key).max(strsim::jaro_winkler(leaf, key))
    };
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).copied().unwrap_or_default();
    // All keys together would be too long to read.
    let section = nearest.rsplit_once('.').map(|(section, _)| section);
    let of_section = |key: &&str| key.rsplit_once('.').map(|(section, _)| section) == section;
    let keys = known.iter().copied().filter(of_section).collect::<Vec<_>>().join(", ");
    format!("{name} has no key \"{key}\", did you mean {nearest}? (keys: {keys})")
}

/// The values of a table and its nested tables by dotted key.
fn collect_leaves(prefix: &str, table: Table, leaves: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            Value::Table(inner) => collect_leaves(&format!("{key}."), inner, leaves),
            value => leaves.push((key, value)),
        }
    }
}

/// The line of each dotted key.
fn collect_lines(text: &str, prefix: &str, table: &DeTable, lines: &mut BTreeMap<String, usize>) {
    for (name, value) in table.iter() {
        let key = format!("{prefix}{}", name.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            collect_lines(text, &format!("{key}."), inner, lines);
        }
        lines.insert(key, line_of(text, name.span().start));
    }
}

/// The line of a byte position, from 1.
fn line_of(text: &str, position: usize) -> usize {
    1 + text.bytes().take(position).filter(|byte| *byte == b'\n').count()
}
