//! The form of the document: one JSON object a line, the name of its kind first.
//!
//! The header says how many lines of each kind follow, in this order: configuration (may be absent), records, protectors
//! (parents before their children), audit records.

use std::fmt;
use std::io::{self, BufRead, Read as _, Write};
use std::mem;

use hgs_crypto::SecretBytes;
use hgs_pki::Time;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::level::{Format, Level, Levels, UnreadableLevel};
use crate::lineage::CarriedProtector;
use crate::model::{
    AttestationSigner, CertificateRecord, DeniedHost, Digest, EndorsementRoot, Host, HostGroup,
    HostIdentity, HostMeasurementsRecord, PolicyDocument, RemovedHost, Settings, text,
};
use hgs_kps::Label;

/// Octets of the longest line that is written or read.
pub const MAX_LINE_LENGTH: usize = 16 * 1024 * 1024;
/// Records of a document.
pub const MAX_RECORDS: u64 = 4_000_000;
/// Protectors of a document.
pub const MAX_PROTECTORS: u64 = 50_000_000;

const FORMAT: &str = "openhgs-state";
/// Version 2 has removed and denied hosts; version 3 has hosts with TPMs, and what TPMs are judged by; version 4 says at which level
/// of the format its records are. What is at the first level is written as version 3, which earlier programs read.
const VERSION: u32 = 4;
const VERSION_WITHOUT_LEVEL: u32 = 3;

/// What the document is, its first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    pub(super) format: String,
    pub(super) version: u32,
    /// The level of the format, and the version that introduced it; absent at the first level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) level: Option<Format>,
    /// When it was written.
    #[serde(with = "text::display")]
    pub exported: Time,
    /// The version of the program that wrote it.
    pub program: String,
    /// What the guardian was called.
    #[serde(with = "text::display")]
    pub name: Label,
    /// The node of it that wrote the document.
    pub node: String,
    /// The generation of the state.
    pub generation: u64,
    /// How many records follow.
    pub records: u64,
    /// How many protectors of the tree follow.
    pub protectors: u64,
    /// How many audit records follow.
    pub audit_records: u64,
}

/// The text of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Where it lay.
    pub file: String,
    /// What stood in it.
    pub text: String,
}

/// Why something is not a document of the state.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It does not begin as one does.
    #[error("not the state of a guardian")]
    Foreign,
    /// A newer program wrote it.
    #[error("the document has version {0}; this program knows {VERSION}")]
    Newer(u32),
    /// It is at a level of the format that this program can't read.
    #[error("the document can't be read: {0}")]
    Level(#[from] UnreadableLevel),
    /// A line is not one of the document's. What stands there is not repeated: it may be a private key.
    #[error("the document is malformed at line {line}, column {column}")]
    Malformed {
        /// Which line, from 1.
        line: u64,
        /// Where in it, from 1.
        column: usize,
    },
    /// A line stands where it does not belong.
    #[error("line {line} of the document stands in the wrong place")]
    Order {
        /// Which line, from 1.
        line: u64,
    },
    /// A line is too long.
    #[error("line {line} of the document has more than {MAX_LINE_LENGTH} octets")]
    LineTooLong {
        /// Which line, from 1.
        line: u64,
    },
    /// It says that there are more records than are read.
    #[error("a document has at most {MAX_RECORDS} records, not {0}")]
    TooManyRecords(u64),
    /// It says that there are more protectors than are read.
    #[error("a document has at most {MAX_PROTECTORS} protectors, not {0}")]
    TooManyProtectors(u64),
    /// It has other numbers of lines than its header says.
    #[error("the document does not have as many lines as its header says")]
    Count,
    /// It can't be read: the file is at fault, or was changed or cut off.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
}

impl Header {
    pub(crate) fn new(
        level: Level,
        exported: Time,
        program: &str,
        node: &str,
        name: Label,
    ) -> Self {
        let level = Some(level).filter(|level| *level > Level::FIRST);
        Self {
            format: FORMAT.to_owned(),
            version: match level {
                Some(_) => VERSION,
                None => VERSION_WITHOUT_LEVEL,
            },
            level: level.map(Format::of),
            exported,
            program: program.to_owned(),
            name,
            node: node.to_owned(),
            generation: 0,
            records: 0,
            protectors: 0,
            audit_records: 0,
        }
    }

    /// The level that what follows needs.
    pub(crate) fn level(&self) -> Level {
        let format = self.level.as_ref();
        format.map_or(Level::FIRST, |format| format.level)
    }

    fn checked(self) -> Result<Self, DocumentError> {
        if self.level.is_some() != (self.version == VERSION) {
            return Err(DocumentError::Malformed { line: 1, column: 0 });
        }
        if self.records > MAX_RECORDS {
            return Err(DocumentError::TooManyRecords(self.records));
        }
        if self.protectors > MAX_PROTECTORS {
            return Err(DocumentError::TooManyProtectors(self.protectors));
        }
        Ok(self)
    }
}

/// A line after the header.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Item {
    Configuration(Configuration),
    Settings(Settings),
    Certificate(CertificateRecord),
    PrivateKey(KeyText),
    Host(Host),
    HostIdentity(HostIdentity),
    AttestationSigner(AttestationSigner),
    RemovedHost(RemovedHost),
    DeniedHost(DeniedHost),
    EndorsementRoot(EndorsementRoot),
    HostGroup(HostGroup),
    PolicyDocument(PolicyDocument),
    HostMeasurements(HostMeasurementsRecord),
    Protector(CarriedProtector),
    Audit(AuditText),
}

/// A private key in clear.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyText {
    pub(crate) public_key: Digest,
    pub(crate) pkcs8: SecretText,
}

/// Text that is wiped.
#[derive(Debug)]
pub(crate) struct SecretText(pub(crate) SecretBytes);

/// An audit record, which an import passes over.
#[derive(Debug, Deserialize)]
pub(crate) struct AuditText {}

/// Where in the document a line belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Configuration,
    Records,
    Protectors,
    Audit,
}

impl Item {
    fn part(&self) -> Part {
        match self {
            Self::Configuration(_) => Part::Configuration,
            Self::Protector(_) => Part::Protectors,
            Self::Audit(_) => Part::Audit,
            _ => Part::Records,
        }
    }
}

/// Writes one line.
pub(crate) fn write_line(
    out: &mut impl Write,
    kind: &str,
    value: &impl Serialize,
) -> io::Result<()> {
    let mut line = Counted { out, octets: 0 };
    write!(line, "{{\"{kind}\":")?;
    serde_json::to_writer(&mut line, value)?;
    line.write_all(b"}\n")?;
    if line.octets > MAX_LINE_LENGTH {
        return Err(io::Error::other(format!(
            "a {kind} is too long for a document of the state"
        )));
    }
    Ok(())
}

struct Counted<'w, W> {
    out: &'w mut W,
    octets: usize,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let count = self.out.write(octets)?;
        self.octets += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A document that is being read.
#[derive(Debug)]
pub struct Document<R> {
    lines: Lines<R>,
    header: Header,
    part: Part,
    left: [u64; 3],
}

impl<R: BufRead> Document<R> {
    /// Reads the header.
    pub fn open(file: R) -> Result<Self, DocumentError> {
        let mut lines = Lines {
            file,
            buffer: Vec::with_capacity(ROOM),
            number: 0,
        };
        let line = match lines.next() {
            Err(DocumentError::Unreadable(error)) => return Err(error.into()),
            Ok(Some(line)) => line,
            _ => return Err(DocumentError::Foreign),
        };
        // The version is read by itself: what else stands there is that version's business.
        let first: FirstLine<FirstWords> =
            serde_json::from_slice(line).map_err(|_| DocumentError::Foreign)?;
        match first.header {
            FirstWords { format, .. } if format != FORMAT => return Err(DocumentError::Foreign),
            FirstWords {
                level: Some(level), ..
            } => Levels::of_this_program().check(&level)?,
            FirstWords { version, .. } if !(1..=VERSION).contains(&version) => {
                return Err(DocumentError::Newer(version));
            }
            _ => {}
        }
        let first: FirstLine<Header> =
            serde_json::from_slice(line).map_err(|error| malformed(1, &error))?;
        let header = first.header.checked()?;
        Ok(Self {
            lines,
            part: Part::Configuration,
            left: [header.records, header.protectors, header.audit_records],
            header,
        })
    }

    /// What the document says of itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads to the end and returns the configuration, if there is one.
    ///
    /// # Errors
    /// See [`DocumentError`]; whatever is wrong with the document is found.
    pub fn configuration(mut self) -> Result<Option<Configuration>, DocumentError> {
        let mut configuration = None;
        while let Some(item) = self.next()? {
            if let Item::Configuration(found) = item {
                configuration = Some(found);
            }
        }
        Ok(configuration)
    }

    /// The next line; `None` when all have come that were announced, and nothing else.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, DocumentError> {
        let Some(line) = self.lines.next()? else {
            let complete = self.left == [0; 3];
            return complete.then_some(None).ok_or(DocumentError::Count);
        };
        let item = serde_json::from_slice::<Item>(line);
        let number = self.lines.number;
        let item = item.map_err(|error| malformed(number, &error))?;
        let part = item.part();
        let again = part == Part::Configuration && number != 2;
        if part < self.part || again {
            return Err(DocumentError::Order { line: number });
        }
        self.part = part;
        let left = match part {
            Part::Configuration => return Ok(Some(item)),
            Part::Records => &mut self.left[0],
            Part::Protectors => &mut self.left[1],
            Part::Audit => &mut self.left[2],
        };
        *left = left.checked_sub(1).ok_or(DocumentError::Count)?;
        Ok(Some(item))
    }
}

#[derive(Deserialize)]
struct FirstLine<T> {
    header: T,
}

#[derive(Deserialize)]
struct FirstWords {
    format: String,
    version: u32,
    #[serde(default)]
    level: Option<Format>,
}

fn malformed(line: u64, error: &serde_json::Error) -> DocumentError {
    let column = error.column();
    DocumentError::Malformed { line, column }
}

/// Room for a line with the largest private key, so that no reallocation leaves a copy of one behind.
const ROOM: usize = 64 * 1024;

struct Lines<R> {
    file: R,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Result<Option<&[u8]>, DocumentError> {
        self.buffer.clear();
        self.number += 1;
        let mut file = self.file.by_ref().take(MAX_LINE_LENGTH as u64);
        file.read_until(b'\n', &mut self.buffer)?;
        match self.buffer.split_last() {
            None => Ok(None),
            Some((b'\n', line)) => Ok(Some(line)),
            Some(_) if self.buffer.len() == MAX_LINE_LENGTH => {
                let line = self.number;
                Err(DocumentError::LineTooLong { line })
            }
            Some(_) => Err(DocumentError::Count),
        }
    }
}

/// The line may be a private key.
impl<R> fmt::Debug for Lines<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Lines(at {})", self.number)
    }
}

impl<R> Drop for Lines<R> {
    fn drop(&mut self) {
        drop(SecretBytes::new(mem::take(&mut self.buffer)));
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = std::str::from_utf8(self.0.expose()).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(text)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = SecretText;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SecretText, E> {
                if text.len() > ROOM {
                    return Err(E::custom("a private key is too long"));
                }
                Ok(SecretText(SecretBytes::from(text.as_bytes())))
            }
        }

        deserializer.deserialize_str(Text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(level: Level) -> Header {
        let name = "hgs".parse().unwrap();
        Header::new(level, Time::from_unix(0), "9.9.9", "node", name)
    }

    fn open(header: &Header) -> Result<Header, DocumentError> {
        let mut line = Vec::new();
        write_line(&mut line, "header", header).unwrap();
        Document::open(&line[..]).map(|document| document.header)
    }

    /// Programs from before there were levels read it.
    #[test]
    fn a_document_of_the_first_level_says_nothing_of_levels() {
        let header = header(Level::FIRST);
        assert_eq!((header.version, &header.level), (3, &None));
        assert_eq!(open(&header).unwrap(), header);
    }

    #[test]
    fn a_document_of_a_level_that_is_not_known_names_the_version_that_is_needed() {
        let level = Some(Format {
            level: Levels::of_this_program().newest.next(),
            version: "9.9.8".to_owned(),
        });
        let header = Header {
            level,
            ..header(Level::FIRST.next())
        };
        assert_eq!(
            header.version, 4,
            "programs from before there were levels refuse it"
        );
        let error = open(&header).unwrap_err();
        assert!(matches!(error, DocumentError::Level(_)), "{error}");
        assert!(
            error.to_string().contains("hgs 9.9.8 introduced"),
            "{error}"
        );
    }
}
