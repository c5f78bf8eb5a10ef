//! What shim measures on its own account, from the sections in which its vendor's keys and its SBAT levels are.

use super::sbat::text;
use super::signature_list::SignatureListError;
use super::{
    Guid, ImageError, PeImage, PredictedEvent, SbatEntry, SignatureData, SignatureList,
    VariableData,
};
use crate::little_endian::{size_at, slice};

const SBAT_LEVEL: &str = ".sbatlevel";
const VENDOR_CERT: &str = ".vendor_cert";
/// In both sections, places count from behind a version or from the beginning.
const SBAT_LEVEL_PLACES: usize = 4;

/// The SbatLevel that shim applies while Secure Boot is off: nothing is revoked.
pub const ORIGINAL_SBAT_LEVEL: &str = "sbat,1,2021030218\n";

/// What a shim has in it: its vendor's keys and SBAT levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shim<'a> {
    previous_sbat_level: &'a str,
    latest_sbat_level: &'a str,
    vendor_authorized: VendorAuthorized<'a>,
    vendor_deauthorized: &'a [u8],
}

/// The keys of shim's vendor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VendorAuthorized<'a> {
    /// None.
    None,
    /// One certificate (VENDOR_CERT_FILE), in DER.
    Certificate(&'a [u8]),
    /// A signature database (VENDOR_DB_FILE).
    Database(&'a [u8]),
}

/// The variables of the same names that a host has of its own, in which `mokutil` enrols keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnMokVariables<'a> {
    /// The data of MokList.
    pub mok_list: &'a [u8],
    /// The data of MokListX.
    pub mok_list_x: &'a [u8],
}

impl<'a> Shim<'a> {
    /// Reads the sections `.sbatlevel` and `.vendor_cert`, which shims have from version 15.7 on.
    ///
    /// # Errors
    /// When one of them is missing, there twice or malformed.
    pub fn of_image(image: &PeImage<'a>) -> Result<Self, ImageError> {
        let contents = |name| {
            let section = image.section(name)?.ok_or(ImageError::NoSection(name))?;
            section.contents()
        };
        let levels = contents(SBAT_LEVEL)?;
        let (authorized, deauthorized) = vendor_keys(contents(VENDOR_CERT)?)?;
        Ok(Self {
            previous_sbat_level: sbat_level(levels, 4)?,
            latest_sbat_level: sbat_level(levels, 8)?,
            vendor_authorized: vendor_authorized(authorized)?,
            vendor_deauthorized: {
                database(deauthorized)?;
                deauthorized
            },
        })
    }

    /// The SbatLevel that this shim applies by default, while the host's own is not newer.
    #[must_use]
    pub fn previous_sbat_level(&self) -> &'a str {
        self.previous_sbat_level
    }

    /// The SbatLevel that this shim applies once the host's SBAT policy is `latest`.
    #[must_use]
    pub fn latest_sbat_level(&self) -> &'a str {
        self.latest_sbat_level
    }

    /// The vendor's keys.
    #[must_use]
    pub fn vendor_authorized(&self) -> &VendorAuthorized<'a> {
        &self.vendor_authorized
    }

    /// The vendor's signature database of what may not run, which may be empty.
    #[must_use]
    pub fn vendor_deauthorized(&self) -> &'a [u8] {
        self.vendor_deauthorized
    }

    /// MokList as shim measures it: the vendor's keys, then the host's own.
    #[must_use]
    pub fn mok_list(&self, own: &OwnMokVariables<'_>) -> Vec<u8> {
        let vendor = match self.vendor_authorized {
            VendorAuthorized::None => Vec::new(),
            VendorAuthorized::Certificate(certificate) => {
                list_with_one(Guid::CERT_X509, certificate)
            }
            VendorAuthorized::Database(database) => database.to_vec(),
        };
        never_empty([&vendor, own.mok_list].concat())
    }

    /// MokListX as shim measures it: what the vendor revoked, then what the host revoked.
    #[must_use]
    pub fn mok_list_x(&self, own: &OwnMokVariables<'_>) -> Vec<u8> {
        never_empty([self.vendor_deauthorized, own.mok_list_x].concat())
    }

    /// What shim measures before it starts the next image, on a host with this SbatLevel and these keys. A host whose
    /// own SbatLevel is newer keeps it; one with MokSBState, which turns shim's checks off, has further events.
    ///
    /// # Errors
    /// When `sbat_level` is not the text of a SbatLevel.
    pub fn events(
        &self,
        sbat_level: &str,
        own: &OwnMokVariables<'_>,
    ) -> Result<Vec<PredictedEvent>, ImageError> {
        check_sbat_level(sbat_level)?;
        let level = VariableData::new(Guid::SHIM_LOCK, "SbatLevel", sbat_level.as_bytes())
            .map_err(|_| ImageError::MalformedSection(SBAT_LEVEL, "its text is too long"))?;
        Ok(vec![
            PredictedEvent::of(14, "MokList", &self.mok_list(own)),
            PredictedEvent::of(14, "MokListX", &self.mok_list_x(own)),
            level.event(),
            PredictedEvent::of(14, "MokListTrusted", &[1]),
        ])
    }

    /// For each certificate of the vendor, the event in PCR 7 that follows when shim first verifies an image with it
    /// while Secure Boot is on. A boot has at most one event for each.
    #[must_use]
    pub fn authorities(&self) -> Vec<PredictedEvent> {
        let certificates = match self.vendor_authorized {
            VendorAuthorized::None => Vec::new(),
            VendorAuthorized::Certificate(data) => vec![SignatureData {
                owner: Guid::SHIM_LOCK,
                data,
            }],
            VendorAuthorized::Database(octets) => SignatureList::parse_database(octets)
                .unwrap_or_default()
                .iter()
                .filter(|list| list.signature_type == Guid::CERT_X509)
                .flat_map(SignatureList::signatures)
                .collect(),
        };
        certificates
            .iter()
            .filter_map(|entry| VariableData::authority(Guid::SHIM_LOCK, "MokListRT", entry).ok())
            .map(|variable| variable.event())
            .collect()
    }
}

/// shim's sections are bounded by the image; a database by [`SignatureList::parse_database`].
fn database(octets: &[u8]) -> Result<(), ImageError> {
    let reason = match SignatureList::parse_database(octets) {
        Ok(_) => return Ok(()),
        Err(SignatureListError::TooLong(_)) => "its signature database is too long",
        Err(_) => "it has a malformed signature database",
    };
    Err(ImageError::MalformedSection(VENDOR_CERT, reason))
}

/// shim tells a certificate from a database by its first octets.
fn vendor_authorized(octets: &[u8]) -> Result<VendorAuthorized<'_>, ImageError> {
    let refused = |reason| ImageError::MalformedSection(VENDOR_CERT, reason);
    match octets {
        [] => Ok(VendorAuthorized::None),
        [0x30, 0x82, high, low, rest @ ..] => {
            if rest.len() != usize::from(u16::from_be_bytes([*high, *low])) {
                return Err(refused(
                    "its certificate has another length than the section says",
                ));
            }
            Ok(VendorAuthorized::Certificate(octets))
        }
        _ => database(octets).map(|()| VendorAuthorized::Database(octets)),
    }
}

/// The authorised and the deauthorised keys of a `cert_table`.
fn vendor_keys(table: &[u8]) -> Result<(&[u8], &[u8]), ImageError> {
    let refused =
        ImageError::MalformedSection(VENDOR_CERT, "its lengths and places reach past its end");
    let part = |length, place| slice(table, size_at(table, place)?, size_at(table, length)?);
    part(0, 8).zip(part(4, 12)).ok_or(refused)
}

/// The text whose place stands at `place`.
fn sbat_level(section: &[u8], place: usize) -> Result<&str, ImageError> {
    let refused = |reason| ImageError::MalformedSection(SBAT_LEVEL, reason);
    if size_at(section, 0) != Some(0) {
        return Err(refused("its version is not 0"));
    }
    let octets = size_at(section, place)
        .and_then(|place| section.get(place.checked_add(SBAT_LEVEL_PLACES)?..))
        .ok_or_else(|| refused("a text is past its end"))?;
    if !octets.contains(&0) {
        return Err(refused("a text has no end"));
    }
    let level = text(SBAT_LEVEL, octets)?;
    check_sbat_level(level).map(|()| level)
}

fn check_sbat_level(level: &str) -> Result<(), ImageError> {
    let entries = SbatEntry::parse_all(SBAT_LEVEL, level)?;
    if entries
        .first()
        .is_none_or(|entry| entry.component != "sbat")
    {
        let reason = "a text does not begin with the component sbat";
        return Err(ImageError::MalformedSection(SBAT_LEVEL, reason));
    }
    Ok(())
}

fn list_with_one(signature_type: Guid, data: &[u8]) -> Vec<u8> {
    let entry = SignatureData {
        owner: Guid::SHIM_LOCK,
        data,
    };
    SignatureList::encode(signature_type, &[entry])
        .expect("one entry has one length, and a certificate of shim at most 65,539 octets")
}

/// shim never leaves a key database empty: it then has one digest that no image has.
fn never_empty(database: Vec<u8>) -> Vec<u8> {
    if database.is_empty() {
        return list_with_one(Guid::CERT_SHA256, &[0; 32]);
    }
    database
}
