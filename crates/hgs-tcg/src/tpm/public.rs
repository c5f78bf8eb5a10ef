//! Public areas of RSA keys (TPMT_PUBLIC), their names, and the templates that the profile has.

use std::fmt;

use hgs_crypto::hash::{Sha256Digest, sha256};
use hgs_crypto::hex;
use hgs_crypto::rsa::{PublicKey, PublicKeyError};

use super::policy::SHA256;
use super::wire::{Reader, StructureError, sized};

const RSA: u16 = 0x0001;
pub(super) const AES: u16 = 0x0006;
const NULL: u16 = 0x0010;
pub(super) const RSASSA: u16 = 0x0014;
const RSAPSS: u16 = 0x0016;
const OAEP: u16 = 0x0017;
pub(super) const ECC: u16 = 0x0023;
pub(super) const CFB: u16 = 0x0043;

/// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
const EK_ATTRIBUTES: u32 = 0x0003_00b2;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt.
const SRK_ATTRIBUTES: u32 = 0x0003_0472;
/// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, noDA, decrypt. Without userWithAuth, which would let an empty
/// password use the key, whatever its policy demands.
const ENCRYPTION_ATTRIBUTES: u32 = 0x0002_04b2;
/// The same with sign in place of decrypt.
const SIGNING_ATTRIBUTES: u32 = 0x0004_04b2;
/// PolicySecret of the endorsement hierarchy: the policy of TCG's templates with the low handles.
const EK_POLICY: Sha256Digest = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

/// The name of an object: its name algorithm, SHA-256, and the digest of its public area.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name([u8; 34]);

impl Name {
    /// Of the object or NV index whose public area has these octets.
    pub(super) fn of(public: &[u8]) -> Self {
        let mut name = [0; 34];
        name[..2].copy_from_slice(&SHA256.to_be_bytes());
        name[2..].copy_from_slice(&sha256(public));
        Self(name)
    }

    /// As a TPM writes it.
    #[must_use]
    pub fn octets(&self) -> &[u8; 34] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Name({})", hex::encode(&self.0))
    }
}

/// The public area of an RSA key whose name algorithm is SHA-256. Octets and value stand for each other: there is one
/// encoding.
#[derive(Clone, PartialEq, Eq)]
pub struct Public {
    octets: Vec<u8>,
    attributes: u32,
    auth_policy: Vec<u8>,
    symmetric: Option<Symmetric>,
    scheme: Scheme,
    key_bits: u16,
    exponent: u32,
    modulus: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Symmetric {
    key_bits: u16,
    mode: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scheme {
    algorithm: u16,
    hash: Option<u16>,
}

impl Scheme {
    const NULL: Self = Self {
        algorithm: NULL,
        hash: None,
    };
}

/// Why octets are no public area that this profile has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicError {
    /// An elliptic curve; the TPM has an RSA endorsement key too, or can make one.
    #[error("the public area is of an ECC key; this profile has RSA keys with 2048 bits")]
    EllipticCurve,
    /// Another structure.
    #[error("malformed public area (TPMT_PUBLIC): {0}")]
    Structure(#[from] StructureError),
    /// The key itself is not acceptable.
    #[error("the key of the public area: {0}")]
    Key(#[from] PublicKeyError),
    /// Not made from the template.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// A public area was not made from the template that it has to be made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the public area differs from the template of {template} in {field}")]
pub struct TemplateError {
    /// What the template makes.
    pub template: &'static str,
    /// The first field that differs.
    pub field: &'static str,
}

impl Public {
    /// Reads a TPMT_PUBLIC.
    ///
    /// # Errors
    /// When it is not of an RSA key, has another name algorithm than SHA-256, or is not complete.
    pub fn parse(octets: &[u8]) -> Result<Self, PublicError> {
        let mut reader = Reader::new(octets);
        match reader.u16("type")? {
            RSA => {}
            ECC => return Err(PublicError::EllipticCurve),
            other => return Err(number("type", other.into()).into()),
        }
        reader.expect_u16(SHA256, "nameAlg")?;
        let attributes = reader.u32("objectAttributes")?;
        let auth_policy = reader.sized("authPolicy")?.to_vec();
        if !matches!(auth_policy.len(), 0 | 32) {
            return Err(size("authPolicy", auth_policy.len()).into());
        }
        let symmetric = match reader.u16("symmetric.algorithm")? {
            NULL => None,
            AES => Some(Symmetric {
                key_bits: reader.u16("symmetric.keyBits")?,
                mode: reader.u16("symmetric.mode")?,
            }),
            other => return Err(number("symmetric.algorithm", other.into()).into()),
        };
        let algorithm = reader.u16("scheme.scheme")?;
        let hash = match algorithm {
            NULL => None,
            RSASSA | RSAPSS | OAEP => Some(reader.u16("scheme.hashAlg")?),
            other => return Err(number("scheme.scheme", other.into()).into()),
        };
        let key_bits = reader.u16("keyBits")?;
        let exponent = reader.u32("exponent")?;
        let modulus = reader.sized("unique")?.to_vec();
        reader.end("TPMT_PUBLIC")?;
        // Empty in the templates of keys that have no `unique` of their own.
        if !modulus.is_empty() && modulus.len() * 8 != usize::from(key_bits) {
            return Err(size("unique", modulus.len()).into());
        }
        Ok(Self {
            octets: octets.to_vec(),
            attributes,
            auth_policy,
            symmetric,
            scheme: Scheme { algorithm, hash },
            key_bits,
            exponent,
            modulus,
        })
    }

    /// The TPMT_PUBLIC as it was read.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The object attributes (TPMA_OBJECT).
    #[must_use]
    pub fn attributes(&self) -> u32 {
        self.attributes
    }

    /// The digest of the policy that uses of the key must satisfy; empty for none.
    #[must_use]
    pub fn auth_policy(&self) -> &[u8] {
        &self.auth_policy
    }

    /// The name that a TPM gives an object with this public area.
    #[must_use]
    pub fn name(&self) -> Name {
        Name::of(&self.octets)
    }

    /// The RSA key, checked for strength.
    ///
    /// # Errors
    /// When it is too short or weak, or when this is a template, which has none.
    pub fn rsa_key(&self) -> Result<PublicKey, PublicKeyError> {
        let exponent = match self.exponent {
            // TPM 2.0 Library, part 2, 12.2.3.5: zero is the default.
            0 => 65537,
            exponent => exponent,
        };
        PublicKey::from_numbers(&self.modulus, &exponent.to_be_bytes())
    }

    /// TCG's template L-1 for an endorsement key with RSA-2048.
    #[must_use]
    pub fn ek_template() -> Self {
        Self::storage(EK_ATTRIBUTES, EK_POLICY.to_vec())
    }

    /// TCG's template for a storage root key with RSA-2048.
    #[must_use]
    pub fn srk_template() -> Self {
        Self::storage(SRK_ATTRIBUTES, Vec::new())
    }

    fn storage(attributes: u32, auth_policy: Vec<u8>) -> Self {
        let aes_128_cfb = Symmetric {
            key_bits: 128,
            mode: CFB,
        };
        let zeros = vec![0; 256];
        Self::build(
            attributes,
            auth_policy,
            Some(aes_128_cfb),
            Scheme::NULL,
            zeros,
        )
    }

    fn build(
        attributes: u32,
        auth_policy: Vec<u8>,
        symmetric: Option<Symmetric>,
        scheme: Scheme,
        modulus: Vec<u8>,
    ) -> Self {
        let mut octets = [RSA, SHA256].map(u16::to_be_bytes).concat();
        octets.extend(attributes.to_be_bytes());
        octets.extend(sized(&auth_policy));
        let mut numbers = match symmetric {
            Some(symmetric) => vec![AES, symmetric.key_bits, symmetric.mode],
            None => vec![NULL],
        };
        numbers.push(scheme.algorithm);
        numbers.extend(scheme.hash);
        numbers.push(2048);
        octets.extend(numbers.into_iter().flat_map(u16::to_be_bytes));
        octets.extend(0u32.to_be_bytes());
        octets.extend(sized(&modulus));
        Self {
            octets,
            attributes,
            auth_policy,
            symmetric,
            scheme,
            key_bits: 2048,
            exponent: 0,
            modulus,
        }
    }

    /// Whether this is `template`, `unique` included, as a command has it.
    pub(super) fn check_is(
        &self,
        template: &Self,
        name: &'static str,
    ) -> Result<(), TemplateError> {
        self.check_template(template, name)?;
        match self.modulus == template.modulus {
            true => Ok(()),
            false => Err(TemplateError {
                template: name,
                field: "unique",
            }),
        }
    }

    /// Whether this has been made from `template`: everything but `unique` is equal.
    fn check_template(&self, template: &Self, name: &'static str) -> Result<(), TemplateError> {
        let equal = [
            (self.attributes == template.attributes, "objectAttributes"),
            (self.auth_policy == template.auth_policy, "authPolicy"),
            (self.symmetric == template.symmetric, "symmetric"),
            (self.scheme == template.scheme, "scheme"),
            (self.key_bits == template.key_bits, "keyBits"),
            (self.exponent == template.exponent, "exponent"),
        ];
        match equal.into_iter().find(|(equal, _)| !equal) {
            None => Ok(()),
            Some((_, field)) => Err(TemplateError {
                template: name,
                field,
            }),
        }
    }
}

impl fmt::Debug for Public {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Public({:#010x}, {:?})",
            self.attributes,
            self.name()
        )
    }
}

fn number(field: &'static str, found: u32) -> StructureError {
    StructureError::Number { field, found }
}

fn size(field: &'static str, found: usize) -> StructureError {
    StructureError::Size { field, found }
}

/// The public area of an endorsement key: made from template L-1, and its RSA key is strong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndorsementKey {
    public: Public,
    key: PublicKey,
}

impl EndorsementKey {
    /// Reads a TPMT_PUBLIC that differs from TCG's template L-1 in `unique` alone.
    ///
    /// # Errors
    /// When it is malformed or differs, or when the key is weak.
    pub fn parse(octets: &[u8]) -> Result<Self, PublicError> {
        let public = Public::parse(octets)?;
        public.check_template(
            &Public::ek_template(),
            "an endorsement key (L-1, RSA with 2048 bits)",
        )?;
        let key = public.rsa_key()?;
        Ok(Self { public, key })
    }

    /// The public area.
    #[must_use]
    pub fn public(&self) -> &Public {
        &self.public
    }

    /// The RSA key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// SHA-256 of the TPMT_PUBLIC, by which a host is known.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        sha256(self.public.octets())
    }
}

/// The public area of a storage root key, made from TCG's template: keys below it with fixedParent and fixedTPM never leave
/// the TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageRootKey(Public);

impl StorageRootKey {
    /// Reads a TPMT_PUBLIC that differs from TCG's template in `unique` alone.
    ///
    /// # Errors
    /// When it is malformed or differs, or when the key is weak.
    pub fn parse(octets: &[u8]) -> Result<Self, PublicError> {
        let parsed = Self::parse_shape(octets)?;
        parsed.0.rsa_key()?;
        Ok(parsed)
    }

    /// Reads one to which nothing is encrypted: a verifier needs its name alone. Whether the key is weak, which takes more time
    /// than all else, is not looked at.
    ///
    /// # Errors
    /// When it is malformed or differs from the template.
    pub fn parse_shape(octets: &[u8]) -> Result<Self, PublicError> {
        let public = Public::parse(octets)?;
        public.check_template(
            &Public::srk_template(),
            "a storage root key (RSA with 2048 bits)",
        )?;
        Ok(Self(public))
    }

    /// The public area.
    #[must_use]
    pub fn public(&self) -> &Public {
        &self.0
    }
}

/// What a key that a host makes for itself is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyPurpose {
    /// Decryption with RSA-OAEP and SHA-256: the identity key.
    Encryption,
    /// Signatures with RSASSA-PKCS1-v1_5 and SHA-256.
    Signing,
}

impl KeyPurpose {
    fn template_name(self) -> &'static str {
        match self {
            Self::Encryption => "an identity key for encryption",
            Self::Signing => "an identity key for signing",
        }
    }
}

/// From which a key of a host is made: it never leaves the TPM, and works only while its policy is satisfied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTemplate {
    /// What the key is for.
    pub purpose: KeyPurpose,
    /// The digest of its policy, such as [`policy_pcr`](super::policy_pcr).
    pub policy: Sha256Digest,
}

impl KeyTemplate {
    /// As it stands in TPM2_Create.
    #[must_use]
    pub fn public(&self) -> Public {
        let (attributes, algorithm) = match self.purpose {
            KeyPurpose::Encryption => (ENCRYPTION_ATTRIBUTES, OAEP),
            KeyPurpose::Signing => (SIGNING_ATTRIBUTES, RSASSA),
        };
        let hash = Some(SHA256);
        let scheme = Scheme { algorithm, hash };
        Public::build(attributes, self.policy.to_vec(), None, scheme, Vec::new())
    }

    /// The template that `public` is, as TPM2_Create has it.
    pub(super) fn read(public: &Public) -> Result<Self, TemplateError> {
        let purpose = match public.attributes {
            SIGNING_ATTRIBUTES => KeyPurpose::Signing,
            _ => KeyPurpose::Encryption,
        };
        let policy = public.auth_policy[..]
            .try_into()
            .map_err(|_| TemplateError {
                template: purpose.template_name(),
                field: "authPolicy",
            })?;
        let template = Self { purpose, policy };
        public.check_is(&template.public(), purpose.template_name())?;
        Ok(template)
    }

    /// Whether `public` has been made from this template.
    ///
    /// # Errors
    /// When it differs in more than `unique`.
    pub fn check(&self, public: &Public) -> Result<(), TemplateError> {
        public.check_template(&self.public(), self.purpose.template_name())
    }
}
