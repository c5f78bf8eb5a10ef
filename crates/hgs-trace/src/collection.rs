//! Facts as a folder: collected on one machine, diagnosed on another.
//!
//! ```text
//!  manifest.json      format, role, version, time, and the other files with their lengths and SHA-256
//!  NAME.json          each field of the facts
//! ```
//!
//! Nothing in it is secret: it is what the types of facts can hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hgs_crypto::hash::sha256;
use hgs_crypto::hex;
use hgs_files::FileError;
use hgs_pki::Time;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::text;

/// Names this form of folder.
const FORMAT: &str = "openhgs-trace-1";
const MANIFEST: &str = "manifest.json";
/// Octets of the longest file that is read.
const MAX_LENGTH: usize = 16 * 1024 * 1024;
/// Files that a manifest may list.
const MAX_FILES: usize = 64;

/// What is in a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    /// `guardian` or `guarded-host`.
    pub role: String,
    /// The version of the program that collected.
    pub version: String,
    /// When, by the clock of the machine that collected.
    #[serde(with = "text::display")]
    pub time: Time,
    files: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    octets: usize,
    sha256: String,
}

/// A folder can't be written, or is no collection. The fault is the operator's.
#[derive(Debug, thiserror::Error)]
pub enum CollectionError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file holds something else.
    #[error("{}: {reason}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file is not the one that was collected.
    #[error("{} is not the file that was collected", .0.display())]
    Changed(PathBuf),
    /// It is about something else.
    #[error("the facts are about a {found}, not about a {expected}")]
    Role {
        /// What was asked for.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// Writes facts into a new folder at `path`, whole or not at all.
///
/// # Errors
/// See [`CollectionError`]; nothing that is there is overwritten.
pub fn write<F: Serialize>(
    path: &Path,
    role: &str,
    version: &str,
    time: Time,
    facts: &F,
) -> Result<(), CollectionError> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, value) in fields(path, facts)? {
        files.push((format!("{name}.json"), document(path, &value)?));
    }
    let entry = |octets: &Vec<u8>| Entry {
        octets: octets.len(),
        sha256: hex::encode(&sha256(octets)),
    };
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        role: role.to_owned(),
        version: version.to_owned(),
        time,
        files: files
            .iter()
            .map(|(name, octets)| (name.clone(), entry(octets)))
            .collect(),
    };
    files.push((MANIFEST.to_owned(), document(path, &manifest)?));
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, octets)| (&**name, &**octets))
        .collect();
    Ok(hgs_files::create_folder(path, &files)?)
}

/// Reads the facts in the folder at `path`.
pub fn read<F: DeserializeOwned>(
    path: &Path,
    role: &str,
) -> Result<(Manifest, F), CollectionError> {
    let file = path.join(MANIFEST);
    let octets = hgs_files::read(&file, MAX_LENGTH)?;
    let manifest: Manifest = serde_json::from_slice(&octets).map_err(|error| form(&file, error))?;
    if manifest.format != FORMAT || manifest.files.len() > MAX_FILES {
        return Err(form(&file, "not a collection that this version knows"));
    }
    if manifest.role != role {
        return Err(CollectionError::Role {
            expected: role.to_owned(),
            found: manifest.role,
        });
    }
    let mut fields = Map::new();
    for (name, entry) in &manifest.files {
        let (field, value) = read_field(path, &file, name, entry)?;
        fields.insert(field, value);
    }
    let facts = serde_json::from_value(Value::Object(fields));
    Ok((manifest, facts.map_err(|error| form(path, error))?))
}

fn read_field(
    folder: &Path,
    manifest: &Path,
    name: &str,
    entry: &Entry,
) -> Result<(String, Value), CollectionError> {
    // A manifest from elsewhere must not lead out of its folder.
    let plain = |field: &&str| {
        !field.is_empty()
            && field
                .bytes()
                .all(|octet| octet.is_ascii_lowercase() || octet == b'_')
    };
    let field = name
        .strip_suffix(".json")
        .filter(plain)
        .ok_or_else(|| form(manifest, "names a file that is none of a collection"))?;
    let file = folder.join(name);
    let octets = hgs_files::read(&file, MAX_LENGTH)?;
    if octets.len() != entry.octets || hex::encode(&sha256(&octets)) != entry.sha256 {
        return Err(CollectionError::Changed(file));
    }
    let value = serde_json::from_slice(&octets).map_err(|error| form(&file, error))?;
    Ok((field.to_owned(), value))
}

fn fields<F: Serialize>(path: &Path, facts: &F) -> Result<Map<String, Value>, CollectionError> {
    match serde_json::to_value(facts) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(form(path, "facts are a record")),
        Err(error) => Err(form(path, error)),
    }
}

fn document<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, CollectionError> {
    let mut octets = serde_json::to_vec_pretty(value).map_err(|error| form(path, error))?;
    octets.push(b'\n');
    Ok(octets)
}

fn form(path: &Path, reason: impl ToString) -> CollectionError {
    CollectionError::Form {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::guardian::{Facts, ROLE};

    fn facts() -> Facts {
        Facts {
            time: Time::from_unix(1_800_000_000),
            version: "1".to_owned(),
            configuration: Some(Ok(vec![])),
            service: None,
            local: None,
            synthetic_roll: None,
            public: vec![],
        }
    }

    fn written() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        let facts = facts();
        write(&path, ROLE, "1", facts.time, &facts).unwrap();
        (folder, path)
    }

    #[test]
    fn what_was_written_is_read() {
        let (_folder, path) = written();
        let (manifest, read): (_, Facts) = read(&path, ROLE).unwrap();
        assert_eq!(read, facts());
        assert_eq!((&*manifest.role, &*manifest.version), (ROLE, "1"));
        let again = write(&path, ROLE, "1", manifest.time, &facts());
        assert!(again.is_err(), "nothing is overwritten");
    }

    #[test]
    fn a_file_that_was_changed_is_named() {
        let (_folder, path) = written();
        fs::write(path.join("public.json"), "[ ]\n").unwrap();
        let error = read::<Facts>(&path, ROLE).unwrap_err();
        assert!(error.to_string().contains("public.json"), "{error}");
    }

    #[test]
    fn a_manifest_does_not_lead_out_of_its_folder() {
        let (_folder, path) = written();
        let file = path.join(MANIFEST);
        let manifest = fs::read_to_string(&file).unwrap();
        for name in ["../public.json", "/etc/public.json", "public", ".json"] {
            fs::write(&file, manifest.replace("public.json", name)).unwrap();
            let error = read::<Facts>(&path, ROLE).unwrap_err();
            assert!(matches!(error, CollectionError::Form { .. }), "{error}");
        }
    }

    #[test]
    fn facts_about_something_else_are_refused() {
        let (_folder, path) = written();
        let error = read::<Facts>(&path, "guarded-host").unwrap_err();
        let expected = "the facts are about a guardian, not about a guarded-host";
        assert_eq!(error.to_string(), expected);
    }
}
