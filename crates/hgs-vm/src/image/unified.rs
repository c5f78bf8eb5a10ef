//! Unified kernel images: systemd's stub with the kernel, its first file system and its command line as further sections,
//! signed as one image (Windows Authenticode Portable Executable Signature Format).

mod authenticode;

use hgs_tcg::image::{ImageError as PeError, PeImage, SystemdStub};

pub use authenticode::{Signer, SigningError, sign};

/// What goes into the image.
#[derive(Debug, Clone, Copy)]
pub struct UnifiedParts<'a> {
    /// systemd's stub: `linuxx64.efi.stub`.
    pub stub: &'a [u8],
    /// The kernel.
    pub kernel: &'a [u8],
    /// Its first file system.
    pub initrd: &'a [u8],
    /// What the kernel is told.
    pub command_line: &'a str,
    /// What it is, in the form of os-release(5).
    pub os_release: &'a str,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnifiedError {
    /// The stub, or the result, is not such an image.
    #[error("the stub of systemd can't be used: {0}")]
    Stub(#[from] PeError),
    /// The section table can't grow.
    #[error("the stub of systemd has no room for {0} more sections in its headers")]
    NoRoom(usize),
    /// The stub has what is to be added.
    #[error("the stub of systemd has a section {0} already: it is a whole image")]
    Occupied(&'static str),
    /// PE images count in 32 bits.
    #[error("the parts are too long for one image")]
    TooLong,
}

const FILE_HEADER: usize = 20;
const SECTION_HEADER: usize = 40;
/// Initialised data that is read.
const CHARACTERISTICS: u32 = 0x4000_0040;

/// Makes the unsigned image. It is read again by the reader that predicts measurements.
///
/// # Errors
/// When the stub is no stub, or the parts are too long.
pub fn make(parts: &UnifiedParts<'_>) -> Result<Vec<u8>, UnifiedError> {
    // In this order the stub finds the kernel last, with room to unpack behind it.
    let sections = [
        (".osrel", parts.os_release.as_bytes()),
        (".cmdline", parts.command_line.as_bytes()),
        (".initrd", parts.initrd),
        (".linux", parts.kernel),
    ];
    let stub = PeImage::parse(parts.stub)?;
    for (name, _) in sections {
        if stub.section(name)?.is_some() {
            return Err(UnifiedError::Occupied(name));
        }
    }
    let image = with_sections(parts.stub, &sections)?;
    SystemdStub::of_image(&PeImage::parse(&image)?)?;
    Ok(image)
}

fn with_sections(stub: &[u8], sections: &[(&str, &[u8])]) -> Result<Vec<u8>, UnifiedError> {
    // The reader has checked that these are in the file.
    let header = number(stub, 0x3c)? + 4;
    let optional = header + FILE_HEADER;
    let count = short(stub, header + 2)?;
    let table = optional + short(stub, header + 16)?;
    let section_alignment = number(stub, optional + 32)?.max(1);
    let file_alignment = number(stub, optional + 36)?.max(1);
    let headers = number(stub, optional + 60)?;
    let (mut address, mut end, mut first) = (headers, headers, headers);
    for place in (0..count).map(|one| table + one * SECTION_HEADER) {
        let (size, at) = (number(stub, place + 8)?, number(stub, place + 12)?);
        let (raw_size, raw_at) = (number(stub, place + 16)?, number(stub, place + 20)?);
        address = address.max(at.saturating_add(size));
        if raw_size > 0 {
            end = end.max(raw_at.saturating_add(raw_size));
            first = first.min(raw_at);
        }
    }
    if table + (count + sections.len()) * SECTION_HEADER > first {
        return Err(UnifiedError::NoRoom(sections.len()));
    }
    // What follows the last section is a symbol table for debuggers, or a signature that is no longer true.
    let mut image = stub.get(..end).ok_or(UnifiedError::TooLong)?.to_vec();
    for (place, (name, contents)) in sections.iter().enumerate() {
        image.resize(image.len().next_multiple_of(file_alignment), 0);
        address = address.next_multiple_of(section_alignment);
        let mut entry = name.as_bytes().to_vec();
        entry.resize(8, 0);
        let raw_size = contents.len().next_multiple_of(file_alignment);
        for field in [contents.len(), address, raw_size, image.len(), 0, 0, 0] {
            entry.extend(fitting(field)?);
        }
        entry.extend(CHARACTERISTICS.to_le_bytes());
        let at = table + (count + place) * SECTION_HEADER;
        image[at..at + SECTION_HEADER].copy_from_slice(&entry);
        image.extend_from_slice(contents);
        image.resize(image.len().next_multiple_of(file_alignment), 0);
        address += contents.len();
    }
    let mut set =
        |place: usize, value: &[u8]| image[place..place + value.len()].copy_from_slice(value);
    let sections = u16::try_from(count + sections.len()).map_err(|_| UnifiedError::TooLong)?;
    set(header + 2, &sections.to_le_bytes());
    // No symbol table, checksum or signature.
    set(header + 8, &[0; 8]);
    set(optional + 64, &[0; 4]);
    set(optional + 112 + 32, &[0; 8]);
    set(
        optional + 56,
        &fitting(address.next_multiple_of(section_alignment))?,
    );
    Ok(image)
}

fn fitting(number: usize) -> Result<[u8; 4], UnifiedError> {
    let number = i32::try_from(number).map_err(|_| UnifiedError::TooLong)?;
    Ok(number.to_le_bytes())
}

fn number(octets: &[u8], place: usize) -> Result<usize, UnifiedError> {
    let octets = octets.get(place..).and_then(<[u8]>::first_chunk).copied();
    let number = octets
        .map(u32::from_le_bytes)
        .ok_or(UnifiedError::TooLong)?;
    usize::try_from(number).map_err(|_| UnifiedError::TooLong)
}

fn short(octets: &[u8], place: usize) -> Result<usize, UnifiedError> {
    let octets = octets.get(place..).and_then(<[u8]>::first_chunk).copied();
    octets
        .map(u16::from_le_bytes)
        .map(usize::from)
        .ok_or(UnifiedError::TooLong)
}
