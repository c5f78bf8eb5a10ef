//! Extensions of a certificate, RFC 5280 section 4.2: kept as they are, and the few that we act on
//! read once.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5280::{
    ID_CE_AUTHORITY_KEY_IDENTIFIER, ID_CE_BASIC_CONSTRAINTS, ID_CE_EXT_KEY_USAGE, ID_CE_KEY_USAGE,
    ID_CE_NAME_CONSTRAINTS, ID_CE_SUBJECT_ALT_NAME, ID_CE_SUBJECT_KEY_IDENTIFIER,
};
use der::Decode;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    self, BasicConstraints, ExtendedKeyUsage, SubjectAltName, SubjectKeyIdentifier,
};

use crate::{CertificateError, KeyUsage};

/// One extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// What it is.
    pub oid: ObjectIdentifier,
    /// Whether a relying party that does not know it must refuse the certificate.
    pub critical: bool,
    /// The content of `extnValue`, DER of a type that `oid` names.
    pub der: Vec<u8>,
}

/// All extensions of one certificate.
#[derive(Debug, Default)]
pub(crate) struct Extensions {
    all: Vec<Extension>,
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) extended_key_usage: Option<Vec<ObjectIdentifier>>,
    pub(crate) certificate_authority: bool,
    /// How many intermediate certificates may follow an authority's on a path.
    pub(crate) path_length: Option<u8>,
    pub(crate) subject_key_identifier: Option<Vec<u8>>,
}

/// Extensions that this crate, or path validation, acts on.
const RECOGNISED: [ObjectIdentifier; 7] = [
    ID_CE_AUTHORITY_KEY_IDENTIFIER,
    ID_CE_BASIC_CONSTRAINTS,
    ID_CE_EXT_KEY_USAGE,
    ID_CE_KEY_USAGE,
    ID_CE_NAME_CONSTRAINTS,
    ID_CE_SUBJECT_ALT_NAME,
    ID_CE_SUBJECT_KEY_IDENTIFIER,
];

impl Extensions {
    pub(crate) fn parse(encoded: Vec<x509_cert::ext::Extension>) -> Result<Self, CertificateError> {
        let mut extensions = Self::default();
        for extension in encoded {
            extensions.add(Extension {
                oid: extension.extn_id,
                critical: extension.critical,
                der: extension.extn_value.into_bytes().into(),
            })?;
        }
        Ok(extensions)
    }

    fn add(&mut self, extension: Extension) -> Result<(), CertificateError> {
        if self.find(&extension.oid).is_some() {
            return Err(CertificateError::DuplicateExtension(extension.oid));
        }
        match extension.oid {
            ID_CE_KEY_USAGE => self.key_usage = Some(read_key_usage(&extension)?),
            ID_CE_EXT_KEY_USAGE => {
                self.extended_key_usage = Some(read_extended_key_usage(&extension)?);
            }
            ID_CE_BASIC_CONSTRAINTS => {
                let constraints = read::<BasicConstraints>(&extension)?;
                self.certificate_authority = constraints.ca;
                self.path_length = constraints.path_len_constraint;
            }
            ID_CE_SUBJECT_KEY_IDENTIFIER => {
                let identifier = read::<SubjectKeyIdentifier>(&extension)?;
                self.subject_key_identifier = Some(identifier.0.into_bytes().into());
            }
            _ => {}
        }
        self.all.push(extension);
        Ok(())
    }

    pub(crate) fn all(&self) -> &[Extension] {
        &self.all
    }

    pub(crate) fn find(&self, oid: &ObjectIdentifier) -> Option<&Extension> {
        self.all.iter().find(|extension| extension.oid == *oid)
    }

    /// The DNS names of subjectAltName.
    pub(crate) fn dns_names(&self) -> Result<Vec<String>, CertificateError> {
        let dns_names = self
            .alternative_names()?
            .into_iter()
            .filter_map(|name| match name {
                GeneralName::DnsName(name) => Some(name.to_string()),
                _ => None,
            });
        Ok(dns_names.collect())
    }

    /// All names of subjectAltName.
    pub(crate) fn alternative_names(&self) -> Result<Vec<GeneralName>, CertificateError> {
        let Some(extension) = self.find(&ID_CE_SUBJECT_ALT_NAME) else {
            return Ok(Vec::new());
        };
        Ok(read::<SubjectAltName>(extension)?.0)
    }

    pub(crate) fn unrecognised_critical(&self) -> impl Iterator<Item = &ObjectIdentifier> {
        self.all
            .iter()
            .filter(|extension| extension.critical && !RECOGNISED.contains(&extension.oid))
            .map(|extension| &extension.oid)
    }
}

fn read_key_usage(extension: &Extension) -> Result<KeyUsage, CertificateError> {
    let flags = read::<pkix::KeyUsage>(extension)?.0;
    if flags.is_empty() {
        return Err(CertificateError::MalformedExtension(extension.oid));
    }
    Ok(KeyUsage::from_flags(flags))
}

/// attacks.md A11: a list without a purpose is against RFC 5280 (`SIZE (1..MAX)`). To take
/// its first element, or to read it as "no restriction", would be dangerous.
fn read_extended_key_usage(
    extension: &Extension,
) -> Result<Vec<ObjectIdentifier>, CertificateError> {
    let purposes = read::<ExtendedKeyUsage>(extension)?.0;
    if purposes.is_empty() {
        return Err(CertificateError::EmptyExtendedKeyUsage);
    }
    Ok(purposes)
}

fn read<'d, T: Decode<'d>>(extension: &'d Extension) -> Result<T, CertificateError> {
    T::from_der(&extension.der).map_err(|_| CertificateError::MalformedExtension(extension.oid))
}
