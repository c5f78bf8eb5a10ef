//! EFI_SIGNATURE_LIST (UEFI 2.10, 32.4.1): the form of db, dbx, MokList and MokListX.

use super::Guid;
use crate::little_endian::{size_at, slice};

/// The longest database that is read; the longest dbx so far have some ten thousand octets.
const MAX_DATABASE: usize = 1 << 20;

const HEADER: usize = 16 + 4 + 4 + 4;
const OWNER: usize = 16;

/// Why octets are not a signature database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureListError {
    /// Longer than any real one.
    #[error("the signature database has {0} octets; the limit is {MAX_DATABASE}")]
    TooLong(usize),
    /// It ends within a list.
    #[error("the signature database ends within a list")]
    Truncated,
    /// A list's sizes contradict each other.
    #[error("the sizes in a signature list contradict each other")]
    Sizes,
    /// One list can't hold signatures of different lengths.
    #[error("the signatures of one list differ in length")]
    UnequalSignatures,
}

/// A list of signatures that have one type and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureList<'a> {
    /// SignatureType.
    pub signature_type: Guid,
    header: &'a [u8],
    signature_size: usize,
    signatures: &'a [u8],
}

/// A member of a list (EFI_SIGNATURE_DATA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureData<'a> {
    /// SignatureOwner.
    pub owner: Guid,
    /// The certificate or digest.
    pub data: &'a [u8],
}

impl SignatureData<'_> {
    /// The EFI_SIGNATURE_DATA.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        [self.owner.octets(), self.data].concat()
    }
}

impl<'a> SignatureList<'a> {
    /// Reads a database: lists one after the other to the end.
    ///
    /// # Errors
    /// When it is too long, ends early, or its sizes contradict each other.
    pub fn parse_database(database: &'a [u8]) -> Result<Vec<Self>, SignatureListError> {
        if database.len() > MAX_DATABASE {
            return Err(SignatureListError::TooLong(database.len()));
        }
        let mut lists = Vec::new();
        let mut rest = database;
        while !rest.is_empty() {
            let length = size_at(rest, 16).ok_or(SignatureListError::Truncated)?;
            let list = slice(rest, 0, length).ok_or(SignatureListError::Truncated)?;
            lists.push(Self::parse(list)?);
            rest = &rest[length..];
        }
        Ok(lists)
    }

    fn parse(list: &'a [u8]) -> Result<Self, SignatureListError> {
        let sizes = SignatureListError::Sizes;
        let signature_type = list.first_chunk().ok_or(sizes)?;
        let header_size = size_at(list, 20).ok_or(sizes)?;
        let signature_size = size_at(list, 24).ok_or(sizes)?;
        let header = slice(list, HEADER, header_size).ok_or(sizes)?;
        let signatures = &list[HEADER + header_size..];
        if signature_size < OWNER || !signatures.len().is_multiple_of(signature_size) {
            return Err(sizes);
        }
        Ok(Self {
            signature_type: Guid::from_octets(*signature_type),
            header,
            signature_size,
            signatures,
        })
    }

    /// The members in their order.
    pub fn signatures(&self) -> impl ExactSizeIterator<Item = SignatureData<'a>> + use<'a> {
        self.signatures
            .chunks_exact(self.signature_size)
            .map(|signature| {
                let (owner, data) = signature
                    .split_first_chunk()
                    .expect("parse wants an owner's length");
                SignatureData {
                    owner: Guid::from_octets(*owner),
                    data,
                }
            })
    }

    /// The EFI_SIGNATURE_LIST.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        encode(
            self.signature_type,
            self.header,
            self.signature_size,
            self.signatures,
        )
    }

    /// The EFI_SIGNATURE_LIST with these members.
    ///
    /// # Errors
    /// When their lengths differ.
    pub fn encode(
        signature_type: Guid,
        signatures: &[SignatureData<'_>],
    ) -> Result<Vec<u8>, SignatureListError> {
        let length = signatures.first().map_or(0, |first| first.data.len());
        if signatures
            .iter()
            .any(|signature| signature.data.len() != length)
        {
            return Err(SignatureListError::UnequalSignatures);
        }
        let members: Vec<_> = signatures.iter().flat_map(SignatureData::octets).collect();
        if members.len() > MAX_DATABASE {
            return Err(SignatureListError::TooLong(members.len()));
        }
        Ok(encode(signature_type, &[], OWNER + length, &members))
    }
}

/// The EFI_SIGNATURE_LIST of parts that stay below [`MAX_DATABASE`], so that their lengths fit.
fn encode(
    signature_type: Guid,
    header: &[u8],
    signature_size: usize,
    signatures: &[u8],
) -> Vec<u8> {
    let size = |size: usize| (size as u32).to_le_bytes();
    [
        signature_type.octets().as_slice(),
        &size(HEADER + header.len() + signatures.len()),
        &size(header.len()),
        &size(signature_size),
        header,
        signatures,
    ]
    .concat()
}
