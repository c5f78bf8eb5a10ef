//! Reading the binary form.

use std::ops::Range;

use super::entry::{DigestKind, Record, Template};
use super::{IMA_PCR, ImaLog};
use crate::little_endian::Reader;

/// `ima`: the longest path, without NUL.
const LONGEST_OLD_PATH: usize = 255;
/// No template has a longer name.
const LONGEST_TEMPLATE_NAME: usize = 15;

/// The budget for one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of the whole log.
    pub octets: usize,
    /// Entries.
    pub entries: usize,
    /// Octets of the data of one entry.
    pub entry_octets: usize,
}

impl Limits {
    /// A host that measures every program for a year of updates has some ten thousand entries of 150 octets.
    pub const LOG: Self = Self {
        octets: 8 * 1024 * 1024,
        entries: 65536,
        entry_octets: 64 * 1024,
    };
}

/// Why octets are not an IMA log. The sender is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImaLogError {
    /// Over [`Limits::octets`].
    #[error("the IMA log has {found} octets, more than {limit}")]
    TooLarge {
        /// How many it has.
        found: usize,
        /// How many it may have.
        limit: usize,
    },
    /// Over [`Limits::entries`].
    #[error("the IMA log has more than {limit} entries")]
    TooManyEntries {
        /// How many it may have.
        limit: usize,
    },
    /// Over [`Limits::entry_octets`].
    #[error("IMA entry {entry}: {found} octets of data, more than {limit}")]
    EntryTooLarge {
        /// The number of the entry, from 0.
        entry: usize,
        /// How many octets it says that it has.
        found: u32,
        /// How many it may have.
        limit: usize,
    },
    /// The log ends within an entry.
    #[error("IMA entry {entry}: the log ends at octet {position}, within the entry's {what}")]
    Truncated {
        /// The number of the entry.
        entry: usize,
        /// Where reading stopped.
        position: usize,
        /// What was read.
        what: &'static str,
    },
    /// The entry extends another PCR than 10.
    #[error("IMA entry {entry}: PCR {found}; only PCR {IMA_PCR} is supported")]
    Pcr {
        /// The number of the entry.
        entry: usize,
        /// The PCR it names.
        found: u32,
    },
    /// A template that is not read here.
    #[error(
        "IMA entry {entry}: the template `{found}` is not supported; set ima_template=ima-sig or ima-ng"
    )]
    Template {
        /// The number of the entry.
        entry: usize,
        /// The name of the template, escaped and cut short.
        found: String,
    },
    /// The fields don't fill the data, or are not what the template has.
    #[error("IMA entry {entry}: the data are not those of the template `{template}`: {what}")]
    Data {
        /// The number of the entry.
        entry: usize,
        /// The name of the template.
        template: &'static str,
        /// What is wrong.
        what: &'static str,
    },
}

impl ImaLogError {
    /// Whether the log went over a limit, rather than being no log at all.
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. } | Self::TooManyEntries { .. } | Self::EntryTooLarge { .. }
        )
    }
}

pub(super) fn read(octets: Vec<u8>, limits: &Limits) -> Result<ImaLog, ImaLogError> {
    let (found, limit) = (octets.len(), limits.octets);
    if found > limit {
        return Err(ImaLogError::TooLarge { found, limit });
    }
    let mut reader = Reader::new(&octets);
    let mut records = Vec::new();
    while !reader.rest().is_empty() {
        if records.len() == limits.entries {
            let limit = limits.entries;
            return Err(ImaLogError::TooManyEntries { limit });
        }
        let entry = records.len();
        let mut entries = Entries {
            reader: &mut reader,
            limits,
            entry,
        };
        records.push(entries.record()?);
    }
    Ok(ImaLog { octets, records })
}

struct Entries<'r, 'o> {
    reader: &'r mut Reader<'o>,
    limits: &'r Limits,
    entry: usize,
}

impl<'o> Entries<'_, 'o> {
    fn record(&mut self) -> Result<Record, ImaLogError> {
        let entry = self.entry;
        let found = self.u32("PCR")?;
        if found as usize != IMA_PCR {
            return Err(ImaLogError::Pcr { entry, found });
        }
        let template_digest = self.take(20, "template digest")?;
        let template_digest = template_digest.try_into().expect("20 octets were taken");
        let template = self.template()?;
        if template == Template::Ima {
            return self.old_record(template_digest);
        }
        let length = self.length("data")?;
        let start = self.reader.position();
        let data = self.take(length, "data")?;
        let fields = Fields::read(data, template).map_err(|what| ImaLogError::Data {
            entry,
            template: template.name(),
            what,
        })?;
        let at = |range: Range<usize>| start + range.start..start + range.end;
        Ok(Record {
            template,
            template_digest,
            data: start..start + length,
            kind: fields.kind,
            algorithm: at(fields.algorithm),
            digest: at(fields.digest),
            path: at(fields.path),
            last: at(fields.last),
        })
    }

    /// The data of `ima` have no length of their own, nor has their digest.
    fn old_record(&mut self, template_digest: [u8; 20]) -> Result<Record, ImaLogError> {
        let start = self.reader.position();
        self.take(20, "digest")?;
        let length = self.length("path")?;
        let path = self.take(length, "path")?;
        if path.len() > LONGEST_OLD_PATH || path.contains(&0) {
            return Err(ImaLogError::Data {
                entry: self.entry,
                template: Template::Ima.name(),
                what: "the path has more than 255 octets, or a NUL",
            });
        }
        let end = self.reader.position();
        Ok(Record {
            template: Template::Ima,
            template_digest,
            data: start..end,
            kind: DigestKind::File,
            algorithm: start..start,
            digest: start..start + 20,
            path: start + 24..end,
            last: end..end,
        })
    }

    fn template(&mut self) -> Result<Template, ImaLogError> {
        let entry = self.entry;
        let length = self.u32("template name")? as usize;
        let name = self.take(length.min(LONGEST_TEMPLATE_NAME + 1), "template name")?;
        let template = Template::of_name(name);
        template.ok_or_else(|| ImaLogError::Template {
            entry,
            found: name.escape_ascii().to_string(),
        })
    }

    fn length(&mut self, what: &'static str) -> Result<usize, ImaLogError> {
        let found = self.u32(what)?;
        let (entry, limit) = (self.entry, self.limits.entry_octets);
        if found as usize > limit {
            return Err(ImaLogError::EntryTooLarge {
                entry,
                found,
                limit,
            });
        }
        Ok(found as usize)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, ImaLogError> {
        let number = self.reader.u32();
        number.ok_or_else(|| self.truncated(what))
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<&'o [u8], ImaLogError> {
        let taken = self.reader.take(length);
        taken.ok_or_else(|| self.truncated(what))
    }

    fn truncated(&self, what: &'static str) -> ImaLogError {
        ImaLogError::Truncated {
            entry: self.entry,
            position: self.reader.position(),
            what,
        }
    }
}

/// Where the fields stand in the data.
struct Fields {
    kind: DigestKind,
    algorithm: Range<usize>,
    digest: Range<usize>,
    path: Range<usize>,
    last: Range<usize>,
}

impl Fields {
    fn read(data: &[u8], template: Template) -> Result<Self, &'static str> {
        let mut reader = Reader::new(data);
        let mut field = || {
            let length = reader.u32()?;
            let start = reader.position();
            reader.take(length as usize)?;
            Some(start..reader.position())
        };
        let cut_short = "they are cut short";
        let digest_field = field().ok_or(cut_short)?;
        let path_field = field().ok_or(cut_short)?;
        let last = match template {
            Template::Ima | Template::ImaNg | Template::ImaNgV2 => data.len()..data.len(),
            Template::ImaSig | Template::ImaSigV2 | Template::ImaBuf | Template::ImaModsig => {
                field().ok_or(cut_short)?
            }
        };
        if template == Template::ImaModsig {
            // The digest for the appended signature, and the signature: they allow nothing here.
            field().ok_or(cut_short)?;
            field().ok_or(cut_short)?;
        }
        if !reader.rest().is_empty() {
            return Err("something follows the last field");
        }
        // In the templates of version 2 the kind and `:`; the algorithm, `:` and NUL; then the digest.
        let octets = &data[digest_field.clone()];
        let (kind, start) = match template {
            Template::ImaNgV2 | Template::ImaSigV2 => {
                let kinds = [
                    (&b"ima:"[..], DigestKind::File),
                    (b"verity:", DigestKind::Verity),
                ];
                let kind = kinds.into_iter().find(|(name, _)| octets.starts_with(name));
                let (name, kind) = kind.ok_or("the digest is of an unknown kind")?;
                (kind, name.len())
            }
            _ => (DigestKind::File, 0),
        };
        let colon = octets[start..].iter().position(|octet| *octet == b':');
        let colon = colon.map(|colon| start + colon);
        let colon = colon.filter(|colon| octets.get(colon + 1) == Some(&0));
        let colon = colon.ok_or("the digest has no algorithm")?;
        let algorithm = digest_field.start + start..digest_field.start + colon;
        let digest = algorithm.end + 2..digest_field.end;
        let path = &data[path_field.clone()];
        let nul = path.iter().position(|octet| *octet == 0);
        if nul.is_none_or(|nul| nul + 1 != path.len()) {
            return Err("the path does not end with its only NUL");
        }
        Ok(Self {
            kind,
            algorithm,
            digest,
            path: path_field.start..path_field.end - 1,
            last,
        })
    }
}
