//! The encrypted file: what opens it, and what it is.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};

use hgs_crypto::hash::Sha256;
use hgs_custody::age::{self, AgeError, Content, Decrypted, Locked, OpenedBy};
use hgs_files::FileError;
use hgs_store::Digest;
use hgs_store::backup::Document;
use hgs_terminal::{AtFault, Failure, PassphraseSource, passphrase};

use crate::failures::{IntoFailure, OrFail as _};

/// Octets of the largest file of identities.
const MAX_IDENTITIES: usize = 64 * 1024;

/// What opens a backup.
#[derive(Debug, clap::Args)]
pub(super) struct Opener {
    /// File of the age identity (private key) that the backup is encrypted to
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_from")]
    identity: Option<PathBuf>,
    /// Where its passphrase is: file:PATH, env:NAME or credential:NAME [default: asked for]
    #[arg(long, value_name = "SOURCE")]
    passphrase_from: Option<PassphraseSource>,
}

/// A backup that is about to be opened.
pub(super) struct Backup {
    locked: Locked<BufReader<Unchanged>>,
    /// SHA-256 of the whole file.
    pub(super) digest: Digest,
    path: PathBuf,
}

/// A backup that is read.
pub(super) type Opened = Document<BufReader<Decrypted<Content<BufReader<Unchanged>>>>>;

impl Backup {
    /// Reads the file once, for its digest, and then its header.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let at = |error: io::Error| Failure::from(FileError::at(path, error));
        let mut file = File::open(path).map_err(at)?;
        let digest = digest_of(&mut file).map_err(at)?;
        file.rewind().map_err(at)?;
        let file = Unchanged {
            file,
            expected: digest,
            seen: Sha256::new(),
        };
        let locked = age::open(BufReader::new(file))
            .or_fail()
            .map_err(|failure| failure.while_doing(path.display()))?;
        Ok(Self {
            locked,
            digest: Digest::from_bytes(digest),
            path: path.to_owned(),
        })
    }

    /// Whether only its reader can have made it, as with a passphrase.
    pub(super) fn is_authenticated(&self) -> bool {
        self.locked.needs_passphrase()
    }

    pub(super) fn unlock(self, opener: &Opener) -> Result<Opened, Failure> {
        let key = match (self.locked.needs_passphrase(), &opener.identity) {
            (true, Some(_)) => return Err(AgeError::NeedsPassphrase).or_fail(),
            (true, None) => {
                let what = self.path.display().to_string();
                OpenedBy::Passphrase(passphrase(opener.passphrase_from.as_ref(), &what)?)
            }
            (false, Some(path)) => {
                let file = hgs_files::read_named_secret(path, MAX_IDENTITIES)?;
                OpenedBy::Identities(age::identities(&file).or_fail()?)
            }
            (false, None) => return Err(AgeError::NeedsIdentity).or_fail(),
        };
        let decrypted = self.locked.unlock(&key).or_fail()?;
        Document::open(BufReader::new(decrypted)).or_fail()
    }
}

/// A file that has to be the one that was looked at before: its end is not reached otherwise.
pub(super) struct Unchanged {
    file: File,
    expected: [u8; 32],
    seen: Sha256,
}

impl Read for Unchanged {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(octets)?;
        self.seen.update(octets.get(..count).unwrap_or_default());
        if count == 0 && !octets.is_empty() && self.seen.clone().finish() != self.expected {
            return Err(io::Error::other("the file was changed while it was read"));
        }
        Ok(count)
    }
}

fn digest_of(file: &mut File) -> io::Result<[u8; 32]> {
    let mut digest = Sha256::new();
    let mut octets = vec![0; 64 * 1024];
    loop {
        match file.read(&mut octets)? {
            0 => return Ok(digest.finish()),
            count => digest.update(octets.get(..count).unwrap_or_default()),
        }
    }
}

impl IntoFailure for AgeError {
    fn into_failure(self) -> Failure {
        let failure = Failure::refused(&self).at_fault(AtFault::Operator);
        match self {
            Self::File(_) => Failure::of(&self).at_fault(AtFault::Operator),
            Self::Random(_) => Failure::of(&self).at_fault(AtFault::Ourselves),
            Self::Foreign => failure.remedy("name a file that `hgs state export` wrote"),
            Self::Recipient => {
                failure.remedy("make a key with `age-keygen`, and give its public half")
            }
            Self::NeedsPassphrase => failure.remedy("leave `--identity` out"),
            Self::NeedsIdentity => {
                failure.remedy("name the file of the identity with `--identity FILE`")
            }
            Self::NoMatch => {
                failure.remedy("give the identity whose public half was the recipient")
            }
            Self::NotRandom(_) => failure.remedy(
                "everybody can open what is encrypted to it: make a key with `age-keygen`, and take another backup",
            ),
            _ => failure,
        }
    }
}
