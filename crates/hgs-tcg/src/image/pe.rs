//! PE/COFF images (Microsoft PE Format), as far as their measurement goes.

use std::fmt;

use super::ImageError;
use crate::little_endian::{size_at, slice, u16_at, u32_at};

/// The longest image that is read: a unified kernel image with a large initrd has some hundred million octets.
pub const MAX_IMAGE_LENGTH: usize = 1 << 30;

/// The most sections. Windows loads 96; real unified kernel images have about 20.
pub(super) const MAX_SECTIONS: usize = 256;

/// The most entries of a certificate table.
const MAX_CERTIFICATES: usize = 32;

/// The longest section name in the string table.
const MAX_NAME: usize = 255;

const FILE_HEADER: usize = 20;
const SECTION_HEADER: usize = 40;
const SYMBOL: usize = 18;
/// CheckSum within the optional header, in both of its forms.
const CHECK_SUM: usize = 64;
/// Data directory entry 4 among the data directory entries.
const CERTIFICATE_ENTRY: usize = 4 * 8;

/// An image whose headers, sections and certificate table lie in the file side by side, in this order, so that every
/// program that hashes it hashes the same octets.
#[derive(Clone)]
pub struct PeImage<'a> {
    pub(super) file: &'a [u8],
    /// The place of CheckSum.
    pub(super) check_sum: usize,
    /// The place of the data directory entry of the certificate table.
    pub(super) certificate_entry: usize,
    /// The place of the certificate table, or the length of the file if it is not signed.
    pub(super) certificate_table: usize,
    sections: Vec<Section<'a>>,
    certificates: Vec<WinCertificate<'a>>,
}

/// A section.
#[derive(Clone, PartialEq, Eq)]
pub struct Section<'a> {
    name: &'a str,
    virtual_size: usize,
    raw: &'a [u8],
    place: usize,
}

/// An entry of a certificate table (WIN_CERTIFICATE).
#[derive(Clone, PartialEq, Eq)]
pub struct WinCertificate<'a> {
    /// wRevision.
    pub revision: u16,
    /// wCertificateType; 2 is a PKCS#7 SignedData.
    pub certificate_type: u16,
    /// bCertificate: for PKCS#7 the DER, perhaps with padding after it.
    pub certificate: &'a [u8],
}

impl<'a> PeImage<'a> {
    /// Reads the headers of a whole file.
    ///
    /// # Errors
    /// When it is not an image, is longer than [`MAX_IMAGE_LENGTH`], or when its parts overlap, leave gaps, are not in
    /// the file, or stand in an order in which programs would disagree about what is hashed.
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        if file.len() > MAX_IMAGE_LENGTH {
            return Err(ImageError::TooLong(file.len()));
        }
        if !file.starts_with(b"MZ") {
            return Err(ImageError::NotAnImage("it does not begin with MZ"));
        }
        let signature = size_at(file, 0x3c).ok_or(ImageError::Truncated("DOS header"))?;
        // A PE header within the DOS header could mean one thing here and another to a loader.
        if signature < 0x40 || slice(file, signature, 4) != Some(b"PE\0\0") {
            return Err(ImageError::NotAnImage(
                "there is no PE header where e_lfanew points",
            ));
        }
        let header = signature + 4;
        let coff = slice(file, header, FILE_HEADER).ok_or(ImageError::Truncated("file header"))?;
        let optional = header + FILE_HEADER;
        let optional_length = usize::from(u16_at(coff, 16).unwrap_or_default());
        let optional_header = slice(file, optional, optional_length)
            .ok_or(ImageError::Truncated("optional header"))?;
        let directories = match u16_at(optional_header, 0) {
            Some(0x10b) => 96,
            Some(0x20b) => 112,
            _ => return Err(ImageError::NotAnImage("it is neither PE32 nor PE32+")),
        };
        let entries = u32_at(optional_header, directories - 4)
            .ok_or(ImageError::Truncated("optional header"))?;
        let entry = directories + CERTIFICATE_ENTRY;
        if entries <= 4 {
            return Err(ImageError::NoCertificateEntry);
        }
        let (Some(table_place), Some(table_length)) = (
            size_at(optional_header, entry),
            size_at(optional_header, entry + 4),
        ) else {
            return Err(ImageError::NoCertificateEntry);
        };

        let headers =
            size_at(optional_header, 60).ok_or(ImageError::Truncated("optional header"))?;
        if headers < optional + entry + 8 {
            return Err(ImageError::HeadersTooShort(
                "data directory entry for certificates",
            ));
        }
        let count = usize::from(u16_at(coff, 2).unwrap_or_default());
        if count > MAX_SECTIONS {
            return Err(ImageError::TooManySections(count));
        }
        let section_table = optional + optional_length;
        if headers < section_table + count * SECTION_HEADER {
            return Err(ImageError::HeadersTooShort("section table"));
        }
        if headers > file.len() {
            return Err(ImageError::Truncated("headers"));
        }
        let names = string_table(file, coff);
        let sections = file[section_table..]
            .chunks_exact(SECTION_HEADER)
            .take(count)
            .enumerate()
            .map(|(number, header)| section(file, number, header, names))
            .collect::<Result<Vec<_>, _>>()?;
        let end = end_of_sections(headers, &sections)?;
        let certificate_table = certificate_table(file, end, table_place, table_length)?;
        Ok(Self {
            file,
            check_sum: optional + CHECK_SUM,
            certificate_entry: optional + entry,
            certificate_table,
            sections,
            certificates: certificates(&file[certificate_table..])?,
        })
    }

    /// All sections in the order of the section table.
    #[must_use]
    pub fn sections(&self) -> &[Section<'a>] {
        &self.sections
    }

    /// The section with this name.
    ///
    /// # Errors
    /// When there are several: programs differ in which they take.
    pub fn section(&self, name: &str) -> Result<Option<&Section<'a>>, ImageError> {
        let mut found = self.sections.iter().filter(|section| section.name == name);
        let first = found.next();
        match found.next() {
            Some(_) => Err(ImageError::DuplicateSection(name.to_owned())),
            None => Ok(first),
        }
    }

    /// The signatures, which nothing here has verified. There are none if the image is not signed.
    #[must_use]
    pub fn certificates(&self) -> &[WinCertificate<'a>] {
        &self.certificates
    }

    /// The whole file.
    #[must_use]
    pub fn file(&self) -> &'a [u8] {
        self.file
    }
}

/// The string table of COFF, with the length at its beginning. `None` if there is none.
fn string_table<'a>(file: &'a [u8], coff: &[u8]) -> Option<&'a [u8]> {
    let symbols = size_at(coff, 8).filter(|place| *place != 0)?;
    let start = size_at(coff, 12)?
        .checked_mul(SYMBOL)?
        .checked_add(symbols)?;
    slice(file, start, size_at(file, start)?)
}

fn section<'a>(
    file: &'a [u8],
    number: usize,
    header: &'a [u8],
    names: Option<&'a [u8]>,
) -> Result<Section<'a>, ImageError> {
    let refused = |reason| ImageError::SectionName(number, reason);
    let short = header[..8]
        .split(|octet| *octet == 0)
        .next()
        .unwrap_or_default();
    let name = match short.strip_prefix(b"/") {
        None => short,
        Some(offset) => {
            let offset = std::str::from_utf8(offset)
                .ok()
                .and_then(|text| text.parse().ok());
            let offset: usize =
                offset.ok_or_else(|| refused("its place is not a decimal number"))?;
            let long = names
                // The first four octets are the table's length.
                .filter(|_| offset >= 4)
                .and_then(|names| names.get(offset..))
                .ok_or_else(|| refused("it is not in the string table"))?;
            let end = long.iter().take(MAX_NAME + 1).position(|octet| *octet == 0);
            &long[..end.ok_or_else(|| refused("it has no end in the string table"))?]
        }
    };
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|name| name.chars().all(|letter| letter.is_ascii_graphic()))
        .ok_or_else(|| refused("it is not printable"))?;
    let field = |place| size_at(header, place).ok_or(ImageError::Truncated("section table"));
    let (length, place) = (field(16)?, field(20)?);
    // The place of what has no octets means nothing.
    let place = if length == 0 { 0 } else { place };
    let raw =
        slice(file, place, length).ok_or_else(|| ImageError::SectionPastTheEnd(name.to_owned()))?;
    Ok(Section {
        name,
        virtual_size: field(8)?,
        raw,
        place,
    })
}

/// Where the octets of the last section end.
fn end_of_sections(headers: usize, sections: &[Section<'_>]) -> Result<usize, ImageError> {
    let mut by_place: Vec<_> = sections
        .iter()
        .filter(|section| !section.raw.is_empty())
        .collect();
    by_place.sort_by_key(|section| section.place);
    by_place.into_iter().try_fold(headers, |end, section| {
        // The firmware adds up lengths to find the end of what it has hashed, other programs hash from end to end:
        // the two agree only where there are no gaps.
        match section.place.cmp(&end) {
            std::cmp::Ordering::Less => {
                Err(ImageError::OverlappingSections(section.name.to_owned()))
            }
            std::cmp::Ordering::Greater => {
                Err(ImageError::GapBeforeSection(section.name.to_owned()))
            }
            std::cmp::Ordering::Equal => Ok(end + section.raw.len()),
        }
    })
}

/// The checked place of the certificate table, or the length of the file if there is none.
fn certificate_table(
    file: &[u8],
    end_of_sections: usize,
    place: usize,
    length: usize,
) -> Result<usize, ImageError> {
    let reason = match (place, length) {
        (0, 0) => return Ok(file.len()),
        (0, _) | (_, 0) => "has only one of place and length",
        _ if place < end_of_sections => "overlaps a section",
        _ if place.checked_add(length) != Some(file.len()) => {
            "does not end at the end of the image"
        }
        _ if !place.is_multiple_of(8) => "does not begin at a multiple of 8 octets",
        _ => return Ok(place),
    };
    Err(ImageError::CertificateTable(reason))
}

fn certificates(mut table: &[u8]) -> Result<Vec<WinCertificate<'_>>, ImageError> {
    let refused = || ImageError::CertificateTable("has an entry of a wrong length");
    let mut certificates = Vec::new();
    while !table.is_empty() {
        if certificates.len() == MAX_CERTIFICATES {
            return Err(ImageError::CertificateTable("has too many entries"));
        }
        let length = size_at(table, 0)
            .filter(|length| *length > 8)
            .ok_or_else(refused)?;
        let entry = slice(table, 0, length).ok_or_else(refused)?;
        certificates.push(WinCertificate {
            revision: u16_at(entry, 4).ok_or_else(refused)?,
            certificate_type: u16_at(entry, 6).ok_or_else(refused)?,
            certificate: &entry[8..],
        });
        // Entries begin at multiples of 8; the last may be padded or not.
        table = table.get(length.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(certificates)
}

impl<'a> Section<'a> {
    /// The name, also if it is longer than 8 octets and therefore in the string table.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The octets in the file, with the padding to the file's alignment.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The first VirtualSize octets: what programs measure and read.
    ///
    /// # Errors
    /// When the section is larger in memory than in the file.
    pub fn contents(&self) -> Result<&'a [u8], ImageError> {
        self.raw
            .get(..self.virtual_size)
            .ok_or_else(|| ImageError::SectionNotInFile(self.name.to_owned()))
    }
}

impl fmt::Debug for PeImage<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PeImage")
            .field("length", &self.file.len())
            .field("sections", &self.sections)
            .field("certificates", &self.certificates.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Section<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({} octets)", self.name, self.virtual_size)
    }
}

impl fmt::Debug for WinCertificate<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, length) = (self.certificate_type, self.certificate.len());
        write!(formatter, "WinCertificate(type {kind}, {length} octets)")
    }
}
