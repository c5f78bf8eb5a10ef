//! Reading a PIN from where its source says.

use std::env;
use std::path::Path;

use cryptoki::types::AuthPin;
use hgs_crypto::SecretBytes;
use hgs_custody::PinSource;
use hgs_files::{FileError, FileProblem, typed_line};

use crate::PinError;

/// Octets of the longest PIN that is read; tokens allow far fewer.
const MAX_PIN_LENGTH: usize = 1024;

/// A PIN and where it came from. `Debug` shows the latter only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) source: PinSource,
    pin: SecretBytes,
}

impl Pin {
    /// Reads the PIN anew. A file must be readable by its owner only; a line end is not part of
    /// the PIN.
    pub(crate) fn read(source: &PinSource) -> Result<Self, PinError> {
        let octets = match source {
            PinSource::File(path) => {
                hgs_files::read_named_secret(path, MAX_PIN_LENGTH).map_err(blame)?
            }
            PinSource::Credential(name) => {
                let folder = env::var_os("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| PinError::NoCredentials(name.clone()))?;
                read_credential(&Path::new(&folder).join(name))?
            }
            PinSource::Environment(name) => {
                let value = env::var_os(name).ok_or_else(|| PinError::NoVariable(name.clone()))?;
                SecretBytes::new(value.into_encoded_bytes())
            }
        };
        match typed_line(&octets) {
            Ok(pin) => Ok(Self {
                source: source.clone(),
                pin,
            }),
            Err(problem) => Err(PinError::NotTyped {
                source_of_pin: source.clone(),
                problem,
            }),
        }
    }

    /// In the form that the module takes, which wipes itself too.
    pub(crate) fn for_login(&self) -> AuthPin {
        let text = std::str::from_utf8(self.pin.expose());
        AuthPin::from(text.expect("only UTF-8 becomes a PIN").to_owned())
    }
}

/// systemd opens its folder to the service alone, and may do so by an access list, which shows as
/// permission bits of a group: they say nothing here.
fn read_credential(path: &Path) -> Result<SecretBytes, PinError> {
    match hgs_files::read_named_secret(path, MAX_PIN_LENGTH) {
        Err(error) if matches!(error.problem, FileProblem::Permissions { .. }) => {
            let octets = hgs_files::read(path, MAX_PIN_LENGTH);
            octets.map(SecretBytes::new).map_err(blame)
        }
        outcome => outcome.map_err(blame),
    }
}

fn blame(error: FileError) -> PinError {
    PinError::File {
        remedy: error.remedy(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file(octets: &[u8], mode: u32) -> (tempfile::TempDir, PinSource) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pin");
        fs::write(&path, octets).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, PinSource::File(path))
    }

    #[test]
    fn one_line_end_is_not_part_of_the_pin() {
        let (_folder, source) = file(b" 1234\r\n", 0o600);
        let pin = Pin::read(&source).unwrap().pin;
        assert_eq!(pin, SecretBytes::from(b" 1234".as_slice()));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_a_remedy() {
        for mode in [0o640, 0o604] {
            let (_folder, source) = file(b"1234", mode);
            let error = Pin::read(&source).unwrap_err();
            assert!(error.remedy().unwrap().starts_with("run `chmod go= "));
            assert!(!error.to_string().contains("1234"));
        }
    }

    #[test]
    fn what_is_no_pin_is_named() {
        let (_folder, source) = file(b"\n", 0o600);
        let error = Pin::read(&source).unwrap_err().to_string();
        assert!(error.ends_with("is empty"), "{error}");
        // A token would count it as a wrong PIN, and lock itself after a few.
        let (_folder, source) = file("12\u{200b}34".as_bytes(), 0o600);
        let error = Pin::read(&source).unwrap_err().to_string();
        assert!(error.contains("U+200B") && !error.contains("34"), "{error}");
        let absent = PinSource::Environment("HGS_NO_SUCH_PIN".to_owned());
        let error = PinError::NoVariable("HGS_NO_SUCH_PIN".to_owned());
        assert_eq!(Pin::read(&absent), Err(error));
        let absent = PinSource::File("/no/such/pin".into());
        assert!(matches!(Pin::read(&absent), Err(PinError::File { .. })));
    }

    /// attacks.md K9.
    #[test]
    fn k9_debug_shows_where_the_pin_is_and_not_what() {
        let (_folder, source) = file(b"1234", 0o600);
        let shown = format!("{:?}", Pin::read(&source).unwrap());
        assert!(shown.contains("SecretBytes(..)"), "{shown}");
        assert!(!shown.contains("1234"), "{shown}");
    }
}
