//! The platform identity file: who a host with a TPM is, as one JSON document that goes from the host to its administrator
//! (`docs/platform-identity.md`). It is what `Get-PlatformIdentifier` writes for the incumbent, in a form of our own.
//!
//! The file proves nothing: it is the administrator who vouches for it, or an EK certificate whose chain is checked.
//! Whether certificate and public area are of one key is for the reader's caller to check, who can read public areas.

use serde::Serialize;

use hgs_crypto::base64;
use hgs_pki::endorsement::{EndorsementCertificate, EndorsementCertificateError};

use crate::wire::{Json, JsonError, JsonLimits, quoted};

/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 1;
/// Octets of the largest TPMT_PUBLIC that is read. That of RSA-2048 has 314, that of RSA-4096 has 570.
pub const MAX_PUBLIC_AREA_OCTETS: usize = 1024;
/// Characters of the longest serial number of a machine.
pub const MAX_SERIAL_CHARACTERS: usize = 128;

/// The document: its longest part is a certificate in Base64. Members that later versions may add are counted too.
const LIMITS: JsonLimits = JsonLimits {
    octets: 64 * 1024,
    depth: 4,
    values: 64,
    members: 16,
};

const KIND: &str = "openhgs-platform-identity";

/// Who a host with a TPM is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformIdentity {
    /// The TPMT_PUBLIC of the endorsement key, as the TPM returned it. It is not empty.
    endorsement_public: Vec<u8>,
    /// The EK certificate, if the TPM has one.
    endorsement_certificate: Option<EndorsementCertificate>,
    /// What the firmware says about the machine, for people to recognise it by.
    smbios: SmbiosIdentifiers,
}

/// What SMBIOS says about a machine (DSP0134, System Information, type 1). Nothing is decided by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SmbiosIdentifiers {
    system_uuid: Option<String>,
    system_serial_number: Option<String>,
}

/// Why octets are no platform identity. Who made the file is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformIdentityError {
    /// Not JSON, or over a limit.
    #[error("platform identity: {0}")]
    Json(#[from] JsonError),
    /// JSON of something else.
    #[error("the document is no platform identity: `kind` is not `{KIND}`")]
    OtherKind,
    /// Of a version that is not known.
    #[error("platform identity has another version than {VERSION}")]
    UnsupportedVersion,
    /// A member that has no place in this version.
    #[error("platform identity has the member `{0}`, which version {VERSION} does not have")]
    UnknownMember(String),
    /// A member that has to be there is absent, or its value is of another kind.
    #[error("platform identity: the member `{member}` is absent, or is not {expected}")]
    Member {
        /// The name of the member.
        member: &'static str,
        /// What its value should be.
        expected: &'static str,
    },
    /// The EK certificate is not acceptable.
    #[error("platform identity: {0}")]
    Certificate(#[from] EndorsementCertificateError),
    /// Octets follow the EK certificate, which is written without the padding of its NV index.
    #[error("platform identity: `endorsement_certificate` is not one certificate in DER")]
    NotOneCertificate,
}

const PUBLIC_AREA: PlatformIdentityError = PlatformIdentityError::Member {
    member: "endorsement_public",
    expected: "Base64 of 1 to 1024 octets",
};
const SYSTEM_UUID: PlatformIdentityError = PlatformIdentityError::Member {
    member: "system_uuid",
    expected: "a UUID in lower case (RFC 9562), neither all zeros nor all ones",
};
const SERIAL_NUMBER: PlatformIdentityError = PlatformIdentityError::Member {
    member: "system_serial_number",
    expected: "1 to 128 printable characters of ASCII, without a space at either end",
};

impl SmbiosIdentifiers {
    /// Takes a UUID in the form of RFC 9562 in lower case, and a serial number of printable ASCII. A UUID of all zeros or all ones says that the machine
    /// has none (DSP0134 7.2.1), and is refused: who reads SMBIOS leaves it out.
    pub fn new(
        system_uuid: Option<String>,
        system_serial_number: Option<String>,
    ) -> Result<Self, PlatformIdentityError> {
        if !system_uuid.as_deref().is_none_or(is_uuid) {
            return Err(SYSTEM_UUID);
        }
        if !system_serial_number.as_deref().is_none_or(is_serial_number) {
            return Err(SERIAL_NUMBER);
        }
        Ok(Self {
            system_uuid,
            system_serial_number,
        })
    }

    /// The UUID of the system.
    #[must_use]
    pub fn system_uuid(&self) -> Option<&str> {
        self.system_uuid.as_deref()
    }

    /// The serial number of the system.
    #[must_use]
    pub fn system_serial_number(&self) -> Option<&str> {
        self.system_serial_number.as_deref()
    }
}

fn is_uuid(text: &str) -> bool {
    let digits: Vec<_> = text.split('-').collect();
    let has_form = digits.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]);
    let mut all = digits.iter().flat_map(|part| part.bytes());
    has_form
        && all.all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        && text.bytes().any(|digit| !b"0-".contains(&digit))
        && text.bytes().any(|digit| !b"f-".contains(&digit))
}

fn is_serial_number(text: &str) -> bool {
    (1..=MAX_SERIAL_CHARACTERS).contains(&text.len())
        && text.bytes().all(|octet| matches!(octet, b' '..=b'~'))
        && text.trim() == text
}

impl PlatformIdentity {
    /// Takes the TPMT_PUBLIC of the endorsement key, whose form is not looked at here.
    pub fn new(
        endorsement_public: Vec<u8>,
        endorsement_certificate: Option<EndorsementCertificate>,
        smbios: SmbiosIdentifiers,
    ) -> Result<Self, PlatformIdentityError> {
        match (1..=MAX_PUBLIC_AREA_OCTETS).contains(&endorsement_public.len()) {
            true => Ok(Self {
                endorsement_public,
                endorsement_certificate,
                smbios,
            }),
            false => Err(PUBLIC_AREA),
        }
    }

    /// The TPMT_PUBLIC of the endorsement key.
    #[must_use]
    pub fn endorsement_public(&self) -> &[u8] {
        &self.endorsement_public
    }

    /// The EK certificate, if the TPM has one.
    #[must_use]
    pub fn endorsement_certificate(&self) -> Option<&EndorsementCertificate> {
        self.endorsement_certificate.as_ref()
    }

    /// What SMBIOS says about the machine.
    #[must_use]
    pub fn smbios(&self) -> &SmbiosIdentifiers {
        &self.smbios
    }

    /// Reads a document, strictly: each member is known, stands there once, and has its one form.
    pub fn from_json(octets: &[u8]) -> Result<Self, PlatformIdentityError> {
        let json = Json::read(octets, &LIMITS)?;
        let text = |member| json.member(member).and_then(Json::text);
        if text("kind") != Some(KIND) {
            return Err(PlatformIdentityError::OtherKind);
        }
        if json.member("version").and_then(Json::unsigned_int) != Some(VERSION) {
            return Err(PlatformIdentityError::UnsupportedVersion);
        }
        let known = [
            "kind",
            "version",
            "endorsement_public",
            "endorsement_certificate",
            "smbios",
        ];
        refuse_unknown(&json, &known)?;
        let public = text("endorsement_public").and_then(|text| base64::decode(text).ok());
        let smbios = json.member("smbios").map(read_smbios).transpose()?;
        let certificate = json.member("endorsement_certificate").map(read_certificate);
        Self::new(
            public.ok_or(PUBLIC_AREA)?,
            certificate.transpose()?,
            smbios.unwrap_or_default(),
        )
    }

    /// Writes the document, for people to read as well.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let certificate = self.endorsement_certificate.as_ref();
        let document = Document {
            kind: KIND,
            version: VERSION,
            endorsement_public: base64::encode(&self.endorsement_public),
            endorsement_certificate: certificate.map(|one| base64::encode(one.der())),
            smbios: (self.smbios != SmbiosIdentifiers::default()).then(|| SmbiosDocument {
                system_uuid: self.smbios.system_uuid(),
                system_serial_number: self.smbios.system_serial_number(),
            }),
        };
        let mut octets = serde_json::to_vec_pretty(&document)
            .expect("the document has names for keys and is written to memory");
        octets.push(b'\n');
        octets
    }
}

fn read_certificate(json: &Json<'_>) -> Result<EndorsementCertificate, PlatformIdentityError> {
    let octets = json.text().and_then(|text| base64::decode(text).ok());
    let octets = octets.ok_or(PlatformIdentityError::Member {
        member: "endorsement_certificate",
        expected: "Base64 of a certificate",
    })?;
    let certificate = EndorsementCertificate::from_octets(&octets)?;
    match certificate.der() == octets {
        true => Ok(certificate),
        false => Err(PlatformIdentityError::NotOneCertificate),
    }
}

fn read_smbios(json: &Json<'_>) -> Result<SmbiosIdentifiers, PlatformIdentityError> {
    if !matches!(json, Json::Object(members) if !members.is_empty()) {
        return Err(PlatformIdentityError::Member {
            member: "smbios",
            expected: "an object that is not empty",
        });
    }
    refuse_unknown(json, &["system_uuid", "system_serial_number"])?;
    let text = |member, error: PlatformIdentityError| {
        let value = json.member(member);
        value
            .map(|value| value.text().map(str::to_owned).ok_or(error))
            .transpose()
    };
    SmbiosIdentifiers::new(
        text("system_uuid", SYSTEM_UUID)?,
        text("system_serial_number", SERIAL_NUMBER)?,
    )
}

fn refuse_unknown(json: &Json<'_>, known: &[&str]) -> Result<(), PlatformIdentityError> {
    let Json::Object(members) = json else {
        return Ok(());
    };
    let mut names = members.iter().map(|(name, _)| name.as_ref());
    match names.find(|name| !known.contains(name)) {
        Some(name) => Err(PlatformIdentityError::UnknownMember(quoted(name))),
        None => Ok(()),
    }
}

#[derive(Serialize)]
struct Document<'a> {
    kind: &'static str,
    version: u32,
    endorsement_public: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    endorsement_certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    smbios: Option<SmbiosDocument<'a>>,
}

#[derive(Serialize)]
struct SmbiosDocument<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_uuid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_serial_number: Option<&'a str>,
}
