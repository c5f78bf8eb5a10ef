//! Entries and their templates.

use std::ops::Range;

use crate::event_log::{Bank, Digest};

/// The template of an entry: which fields its data have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Template {
    /// `ima`: a SHA-1 or MD5 digest of 20 octets, and a path.
    Ima,
    /// `ima-ng`: a digest with its algorithm, and a path.
    ImaNg,
    /// `ima-sig`: and a signature, which may be empty.
    ImaSig,
    /// `ima-buf`: a digest of a buffer with its algorithm, the buffer's name, and the buffer.
    ImaBuf,
    /// `ima-ngv2`: a digest with its kind and algorithm, and a path.
    ImaNgV2,
    /// `ima-sigv2`: and a signature, which may be empty.
    ImaSigV2,
    /// `ima-modsig`: as `ima-sig`, then the digest that an appended signature is over, and that signature; both may be
    /// empty.
    ImaModsig,
}

/// What a file digest is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DigestKind {
    /// The contents of the file.
    File,
    /// The descriptor of fs-verity, which holds the root of the tree of digests over the contents.
    Verity,
}

impl Template {
    const ALL: [Self; 7] = [
        Self::Ima,
        Self::ImaNg,
        Self::ImaSig,
        Self::ImaBuf,
        Self::ImaNgV2,
        Self::ImaSigV2,
        Self::ImaModsig,
    ];

    pub(super) fn of_name(name: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|template| template.name().as_bytes() == name)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ima => "ima",
            Self::ImaNg => "ima-ng",
            Self::ImaSig => "ima-sig",
            Self::ImaBuf => "ima-buf",
            Self::ImaNgV2 => "ima-ngv2",
            Self::ImaSigV2 => "ima-sigv2",
            Self::ImaModsig => "ima-modsig",
        }
    }
}

/// Where an entry stands in the octets.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) template: Template,
    pub(super) template_digest: [u8; 20],
    /// The data with the lengths of their fields, over which the template digest is taken (but for `ima`).
    pub(super) data: Range<usize>,
    pub(super) kind: DigestKind,
    pub(super) algorithm: Range<usize>,
    pub(super) digest: Range<usize>,
    pub(super) path: Range<usize>,
    /// The signature, or the buffer.
    pub(super) last: Range<usize>,
}

/// A measured file.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'l> {
    octets: &'l [u8],
    record: &'l Record,
    number: usize,
}

/// The digest of a file, with the name that the kernel gives its algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileDigest<'l> {
    /// What it is over.
    pub kind: DigestKind,
    /// Such as `sha256`.
    pub algorithm: &'l [u8],
    /// The digest.
    pub octets: &'l [u8],
}

/// What `ima` hashes instead of a path: 255 octets at most, filled up with zeros.
const OLD_PATH_OCTETS: usize = 256;

impl<'l> Entry<'l> {
    pub(super) fn of(octets: &'l [u8], record: &'l Record, number: usize) -> Self {
        Self {
            octets,
            record,
            number,
        }
    }

    /// Its number in the log, from 0.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Its template.
    #[must_use]
    pub fn template(&self) -> Template {
        self.record.template
    }

    /// The digest of the file.
    #[must_use]
    pub fn file_digest(&self) -> FileDigest<'l> {
        let algorithm = match self.record.template {
            Template::Ima => b"sha1",
            _ => &self.octets[self.record.algorithm.clone()],
        };
        FileDigest {
            kind: self.record.kind,
            algorithm,
            octets: &self.octets[self.record.digest.clone()],
        }
    }

    /// The path under which it was opened; of a buffer, its name.
    #[must_use]
    pub fn path(&self) -> &'l [u8] {
        &self.octets[self.record.path.clone()]
    }

    /// The signature of the file, as its extended attribute has it; empty if it has none.
    #[must_use]
    pub fn signature(&self) -> &'l [u8] {
        self.last_of(&[Template::ImaSig, Template::ImaSigV2, Template::ImaModsig])
    }

    /// The buffer that was measured.
    #[must_use]
    pub fn buffer(&self) -> &'l [u8] {
        self.last_of(&[Template::ImaBuf])
    }

    /// The template digest that the log gives: zeros for a violation.
    #[must_use]
    pub fn template_digest(&self) -> [u8; 20] {
        self.record.template_digest
    }

    /// Whether the file changed while it was measured, so that its digest means nothing.
    #[must_use]
    pub fn is_violation(&self) -> bool {
        self.record.template_digest == [0; 20]
    }

    /// The template digest as the bank has it, from the data.
    #[must_use]
    pub fn computed_template_digest(&self, bank: Bank) -> Digest {
        match self.record.template {
            Template::Ima => {
                let zeros = [0; OLD_PATH_OCTETS];
                let path = self.path();
                bank.hash(&[self.file_digest().octets, path, &zeros[path.len()..]])
            }
            _ => bank.hash(&[&self.octets[self.record.data.clone()]]),
        }
    }

    /// What the PCR is extended with: ones for a violation.
    #[must_use]
    pub fn extension(&self, bank: Bank) -> Digest {
        if self.is_violation() {
            return bank.filled(0xff);
        }
        self.computed_template_digest(bank)
    }

    fn last_of(&self, templates: &[Template]) -> &'l [u8] {
        if templates.contains(&self.record.template) {
            &self.octets[self.record.last.clone()]
        } else {
            &[]
        }
    }
}
