//! Why an image is refused.

/// Why a file is not an image whose measurements can be predicted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file is longer than [`super::MAX_IMAGE_LENGTH`].
    #[error("the image has {0} octets; the limit is {max}", max = super::MAX_IMAGE_LENGTH)]
    TooLong(usize),
    /// The file does not begin like an image.
    #[error("this is not a PE/COFF image: {0}")]
    NotAnImage(&'static str),
    /// The file ends within its headers.
    #[error("the image ends within its {0}")]
    Truncated(&'static str),
    /// The header announces more sections than any real image has.
    #[error("the image has {0} sections; the limit is {max}", max = super::pe::MAX_SECTIONS)]
    TooManySections(usize),
    /// There is no data directory entry for certificates, so that the image could not be signed.
    #[error("the image has no data directory entry for certificates")]
    NoCertificateEntry,
    /// SizeOfHeaders does not cover the headers that there are.
    #[error("the image's SizeOfHeaders ends before its {0}")]
    HeadersTooShort(&'static str),
    /// A section's name can't be read.
    #[error("the name of section {0} can't be read: {1}")]
    SectionName(usize, &'static str),
    /// A section's octets are not in the file.
    #[error("section {0} reaches past the end of the image")]
    SectionPastTheEnd(String),
    /// Two sections, or a section and the headers, share octets.
    #[error("section {0} overlaps what stands before it in the image")]
    OverlappingSections(String),
    /// There are octets before a section that belong to no section: programs disagree whether they are hashed.
    #[error("there are octets before section {0} that belong to no section")]
    GapBeforeSection(String),
    /// The certificate table is not the last thing in the file.
    #[error("the image's certificate table {0}")]
    CertificateTable(&'static str),
    /// Two sections have the name that was asked for.
    #[error("the image has more than one section {0}")]
    DuplicateSection(String),
    /// A section that is needed is missing.
    #[error("the image has no section {0}")]
    NoSection(&'static str),
    /// A section is larger in memory than in the file.
    #[error("section {0} is larger in memory than in the image")]
    SectionNotInFile(String),
    /// A section does not have the form that its program gives it.
    #[error("section {0} is malformed: {1}")]
    MalformedSection(&'static str, &'static str),
    /// What the image measures depends on the machine it runs on.
    #[error("what an image with a section {0} measures can't be predicted")]
    Unpredictable(&'static str),
}
