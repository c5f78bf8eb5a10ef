//! Header fields that a collector asks for. They are secrets, so they stand in a file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hgs_files::FileError;
use hyper::header::{HeaderName, HeaderValue};

/// Octets of the longest file.
const MAX_FILE: usize = 64 * 1024;

/// The header fields can't be used.
#[derive(Debug, thiserror::Error)]
pub enum HeadersError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line is no header field. It is not shown: it may hold a secret.
    #[error("{}: line {line} is not of the form `Name: value`", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, counted from 1.
        line: usize,
    },
}

/// Reads lines `Name: value`; empty ones and those that begin with `#` are left out.
pub(super) fn read(path: &Path) -> Result<HashMap<String, String>, HeadersError> {
    let octets = hgs_files::read_named_secret(path, MAX_FILE)?;
    let mut fields = HashMap::new();
    for (line, octets) in (1..).zip(octets.expose().split(|octet| *octet == b'\n')) {
        let octets = octets.trim_ascii();
        if octets.is_empty() || octets.starts_with(b"#") {
            continue;
        }
        let (name, value) = field(octets).ok_or_else(|| HeadersError::Line {
            path: path.to_owned(),
            line,
        })?;
        fields.insert(name, value);
    }
    Ok(fields)
}

fn field(line: &[u8]) -> Option<(String, String)> {
    let colon = line.iter().position(|octet| *octet == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let name = HeaderName::from_bytes(name).ok()?;
    let value = HeaderValue::from_bytes(value).ok()?;
    Some((name.to_string(), value.to_str().ok()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn fields_are_read_from_a_private_file_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("headers");
        let write = |text: &str, mode| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        };
        write(
            "# for the collector\nAuthorization: Bearer a:b\n\nX-Scope: one\r\n",
            0o600,
        );
        let fields = read(&file).unwrap();
        assert_eq!(fields.len(), 2);
        assert_eq!(fields["authorization"], "Bearer a:b");
        assert_eq!(fields["x-scope"], "one");

        for wrong in [
            "A: b\nhunter2",
            "not a name: hunter2",
            "A: hunter2\u{e9}",
            ": hunter2",
        ] {
            write(wrong, 0o600);
            let refused = read(&file).unwrap_err();
            assert!(matches!(refused, HeadersError::Line { .. }), "{wrong}");
            assert!(!format!("{refused} {refused:?}").contains("hunter2"));
        }
        write("A: b", 0o644);
        assert!(matches!(read(&file), Err(HeadersError::File(_))));
    }
}
