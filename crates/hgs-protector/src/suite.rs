//! The suite `openhgs-1`: every algorithm identifier that a document may name, and nothing else.
//!
//! [MS-KPS] leaves the identifiers open and Microsoft does not publish its own. A captured Windows suite would be one
//! more row here; an algorithm that is not here is refused by name.

use hgs_crypto::rsa::{OaepHash, SignatureScheme};

/// The namespace of `Protector`, `Metadata` and the types of [MS-KPS] 6.5.
pub const NAMESPACE: &str = "http://schemas.microsoft.com/kps/2014/07";
/// The namespace of XML Signature, for `DigestMethod` and the signature of metadata.
pub const XMLDSIG_NAMESPACE: &str = "http://www.w3.org/2000/09/xmldsig#";
/// The namespace of XML Encryption 1.1, for `MGF`.
pub const XMLENC11_NAMESPACE: &str = "http://www.w3.org/2009/xmlenc11#";
/// The namespace of the extension elements of metadata.
pub const EXTENSION_NAMESPACE: &str = "urn:openhgs:metadata:1";

/// The MAC of `TransportKeySignature`: HMAC-SHA-256, all 32 octets.
pub const HMAC_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256";
/// `KeyDerivationMethod`: HKDF with HMAC-SHA-256, empty salt and [`HKDF_INFO`], 32 octets.
pub const HKDF: &str = "http://www.w3.org/2021/04/xmldsig-more#hkdf";
/// The context that the MAC key is derived for.
pub const HKDF_INFO: &[u8] = b"OpenHGS TransportKeySignature";
/// Digests of XML Signature and of OAEP.
pub const SHA256: &str = "http://www.w3.org/2001/04/xmlenc#sha256";
/// The mask generation function of [`KeyEncryption::RsaOaep`].
pub const MGF1_SHA256: &str = "http://www.w3.org/2009/xmlenc11#mgf1sha256";
/// Exclusive XML Canonicalization 1.0 without comments.
pub const EXCLUSIVE_C14N: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
/// The enveloped-signature transform of XML Signature.
pub const ENVELOPED_SIGNATURE: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";

const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
const RSA_PSS_SHA256: &str = "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1";
const RSA_OAEP: &str = "http://www.w3.org/2009/xmlenc11#rsa-oaep";
const RSA_OAEP_MGF1P: &str = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p";
const AES256_GCM: &str = "http://www.w3.org/2009/xmlenc11#aes256-gcm";
const KW_AES256: &str = "http://www.w3.org/2001/04/xmlenc#kw-aes256";

/// The signature scheme that we make signatures with; the other one is only read.
pub const WRITTEN_SIGNATURE: SignatureScheme = SignatureScheme::Pkcs1Sha256;

/// The identifier of a signature scheme.
#[must_use]
pub fn signature_identifier(scheme: SignatureScheme) -> &'static str {
    match scheme {
        SignatureScheme::Pkcs1Sha256 => RSA_SHA256,
        SignatureScheme::PssSha256 => RSA_PSS_SHA256,
    }
}

/// The signature scheme that an identifier names.
#[must_use]
pub fn signature_scheme(identifier: &str) -> Option<SignatureScheme> {
    match identifier {
        RSA_SHA256 => Some(SignatureScheme::Pkcs1Sha256),
        RSA_PSS_SHA256 => Some(SignatureScheme::PssSha256),
        _ => None,
    }
}

/// How a transport key is encrypted to a guardian, and the transfer key to the health certificate: RSA-OAEP with an
/// empty label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeyEncryption {
    /// `http://www.w3.org/2009/xmlenc11#rsa-oaep` with SHA-256 and MGF1-SHA-256, which its parameters must say.
    #[default]
    RsaOaep,
    /// `http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p`: SHA-1 and MGF1-SHA-1, without parameters. Written only for
    /// guardians that ask for it, because their token can do nothing else.
    RsaOaepMgf1p,
}

impl KeyEncryption {
    /// The algorithm that an identifier names.
    #[must_use]
    pub fn from_identifier(identifier: &str) -> Option<Self> {
        match identifier {
            RSA_OAEP => Some(Self::RsaOaep),
            RSA_OAEP_MGF1P => Some(Self::RsaOaepMgf1p),
            _ => None,
        }
    }

    /// Its identifier.
    #[must_use]
    pub fn identifier(self) -> &'static str {
        match self {
            Self::RsaOaep => RSA_OAEP,
            Self::RsaOaepMgf1p => RSA_OAEP_MGF1P,
        }
    }

    /// The hash of label and mask.
    #[must_use]
    pub fn hash(self) -> OaepHash {
        match self {
            Self::RsaOaep => OaepHash::Sha256,
            Self::RsaOaepMgf1p => OaepHash::Sha1,
        }
    }
}

/// How the wrapping key is encrypted under the transfer key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WrappingKeyEncryption {
    /// AES-256-GCM: IV of 12 octets, ciphertext, tag of 16 octets; no additional data.
    #[default]
    Aes256Gcm,
    /// The key wrap of RFC 3394.
    KwAes256,
}

impl WrappingKeyEncryption {
    /// The algorithm that an identifier names.
    #[must_use]
    pub fn from_identifier(identifier: &str) -> Option<Self> {
        match identifier {
            AES256_GCM => Some(Self::Aes256Gcm),
            KW_AES256 => Some(Self::KwAes256),
            _ => None,
        }
    }

    /// Its identifier.
    #[must_use]
    pub fn identifier(self) -> &'static str {
        match self {
            Self::Aes256Gcm => AES256_GCM,
            Self::KwAes256 => KW_AES256,
        }
    }
}

/// How the transport keys are encrypted under the wrapping key; there is one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TransportKeysEncryption {
    /// As [`WrappingKeyEncryption::Aes256Gcm`].
    #[default]
    Aes256Gcm,
}

impl TransportKeysEncryption {
    /// The algorithm that an identifier names.
    #[must_use]
    pub fn from_identifier(identifier: &str) -> Option<Self> {
        (identifier == AES256_GCM).then_some(Self::Aes256Gcm)
    }

    /// Its identifier.
    #[must_use]
    pub fn identifier(self) -> &'static str {
        match self {
            Self::Aes256Gcm => AES256_GCM,
        }
    }
}
