//! The profile of each kind of certificate of this system.
//!
//! All have version 3, an RSA key, a subject that is nothing but a common name, and basic
//! constraints and key usage marked critical.

use core::net::IpAddr;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5280::{
    ID_CE_BASIC_CONSTRAINTS, ID_CE_KEY_USAGE, ID_CE_SUBJECT_ALT_NAME, ID_KP_CLIENT_AUTH,
    ID_KP_SERVER_AUTH,
};
use der::asn1::{Any, Ia5String};
use der::{Decode, Encode, Tag};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};

use crate::endorsement::{
    TCG_KP_EK_CERTIFICATE, TPM_MANUFACTURER, TPM_MODEL, TPM_VERSION, TpmModel,
};
use crate::issue::{IssueError, Template};
use crate::{Extension, KeyUsage, Seconds, Validity};

// The arc 1.3.6.1.4.1.32473 is IANA's for examples, until a number of our own is registered.

/// Extended key usage of a health certificate whose key decrypts.
pub const HEALTH_ENCRYPTION: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.7.1.1");
/// Extended key usage of a health certificate whose key signs.
pub const HEALTH_SIGNING: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.7.1.2");
/// The extension `HealthStatement` of a health certificate.
pub const HEALTH_STATEMENT: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.7.2.1");

/// The extension basicConstraints, RFC 5280 section 4.2.1.9.
pub const BASIC_CONSTRAINTS: ObjectIdentifier = ID_CE_BASIC_CONSTRAINTS;
/// The extension keyUsage, RFC 5280 section 4.2.1.3.
pub const KEY_USAGE: ObjectIdentifier = ID_CE_KEY_USAGE;
/// Extended key usage of a TLS client, which host keys of Hyper-V hosts carry too.
pub const CLIENT_AUTHENTICATION: ObjectIdentifier = ID_KP_CLIENT_AUTH;
/// Extended key usage of a TLS server.
pub const SERVER_AUTHENTICATION: ObjectIdentifier = ID_KP_SERVER_AUTH;

/// How long guardians' certificates are valid: ten years with their leap days.
pub const GUARDIAN_VALIDITY: Seconds = Seconds::from_days(3_652);

/// The certificate of a guardian's signing key.
#[must_use]
pub fn guardian_signing(name: &str, validity: Validity) -> Template {
    let usage = KeyUsage::DIGITAL_SIGNATURE;
    leaf(
        format!("OpenHGS Guardian Signing ({name})"),
        validity,
        usage,
    )
}

/// The certificate of a guardian's encryption key.
#[must_use]
pub fn guardian_encryption(name: &str, validity: Validity) -> Template {
    let usage = KeyUsage::KEY_ENCIPHERMENT | KeyUsage::DATA_ENCIPHERMENT;
    leaf(
        format!("OpenHGS Guardian Encryption ({name})"),
        validity,
        usage,
    )
}

/// The certificate under which health certificates are issued: an authority, but over leaves only.
#[must_use]
pub fn attestation_signer(validity: Validity) -> Template {
    let usage = KeyUsage::DIGITAL_SIGNATURE | KeyUsage::KEY_CERT_SIGN;
    Template {
        certificate_authority: true,
        ..leaf("OpenHGS Attestation Signer".to_owned(), validity, usage)
    }
}

/// An authority for one certificate, over a key that can't sign its own; its private key is forgotten at once.
#[must_use]
pub fn one_time_authority(validity: Validity) -> Template {
    Template {
        certificate_authority: true,
        ..leaf(
            "OpenHGS One-Time Authority".to_owned(),
            validity,
            KeyUsage::KEY_CERT_SIGN,
        )
    }
}

/// The certificate of one end of a migration between hosts: it stands for a connection, and issues what QEMU shows there.
#[must_use]
pub fn migration_authority(validity: Validity) -> Template {
    Template {
        certificate_authority: true,
        ..leaf(
            "OpenHGS Migration".to_owned(),
            validity,
            KeyUsage::DIGITAL_SIGNATURE | KeyUsage::KEY_CERT_SIGN,
        )
    }
}

/// An authority of a cluster of guardians, over its nodes only: of `what` in the cluster of this name.
#[must_use]
pub fn cluster_authority(what: &str, cluster: &str, validity: Validity) -> Template {
    Template {
        certificate_authority: true,
        ..leaf(
            format!("OpenHGS {what} of {cluster}"),
            validity,
            KeyUsage::KEY_CERT_SIGN,
        )
    }
}

/// An authority for EK certificates of the TPMs that a VM owner makes: over leaves only, and for nothing else.
#[must_use]
pub fn endorsement_authority(name: &str, validity: Validity) -> Template {
    Template {
        certificate_authority: true,
        ..leaf(
            format!("OpenHGS vTPM Authority ({name})"),
            validity,
            KeyUsage::KEY_CERT_SIGN,
        )
    }
}

/// What an endorsement key is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndorsementKeyUse {
    /// It decrypts: RSA.
    Encipherment,
    /// It agrees on keys: an elliptic curve.
    Agreement,
}

/// The certificate of the endorsement key of a VM's TPM. The VM is its subject, so the name of the TPM is not critical.
///
/// # Errors
/// When the parts of the TPM's name are no text of a certificate.
pub fn endorsement(
    name: &str,
    tpm: &TpmModel,
    usage: EndorsementKeyUse,
    validity: Validity,
) -> Result<Template, IssueError> {
    let parts = [
        (TPM_MANUFACTURER, &tpm.manufacturer),
        (TPM_MODEL, &tpm.model),
        (TPM_VERSION, &tpm.version),
    ];
    let mut directory = RdnSequence::default();
    for (oid, value) in parts {
        if let Some(value) = value {
            let value = Any::new(Tag::Utf8String, value.as_bytes())?;
            let attribute = AttributeTypeAndValue { oid, value };
            directory.push(RelativeDistinguishedName::try_from(vec![attribute])?);
        }
    }
    let directory = Name::from_der(&directory.to_der()?)?;
    let names = SubjectAltName(vec![GeneralName::DirectoryName(directory)]);
    let usage = match usage {
        EndorsementKeyUse::Encipherment => KeyUsage::KEY_ENCIPHERMENT,
        EndorsementKeyUse::Agreement => KeyUsage::KEY_AGREEMENT,
    };
    Ok(Template {
        extended_key_usage: vec![TCG_KP_EK_CERTIFICATE],
        extensions: vec![Extension {
            oid: ID_CE_SUBJECT_ALT_NAME,
            critical: false,
            der: names.to_der()?,
        }],
        ..leaf(name.to_owned(), validity, usage)
    })
}

/// The certificate of a TLS server that is reached under `hosts`, which are DNS names and IP
/// addresses; the first is the common name too.
///
/// # Errors
/// When there is no host, or a name is not ASCII.
pub fn communications(hosts: &[&str], validity: Validity) -> Result<Template, IssueError> {
    let first = hosts.first().ok_or(IssueError::CommonName(0))?;
    let names = hosts.iter().map(|host| alternative_name(host));
    let names = SubjectAltName(names.collect::<Result<_, _>>()?);
    let usage = KeyUsage::DIGITAL_SIGNATURE | KeyUsage::KEY_ENCIPHERMENT;
    Ok(Template {
        extended_key_usage: vec![SERVER_AUTHENTICATION],
        extensions: vec![Extension {
            oid: ID_CE_SUBJECT_ALT_NAME,
            critical: false,
            der: names.to_der()?,
        }],
        ..leaf((*first).to_owned(), validity, usage)
    })
}

/// The certificate of the key by which a host is known in host-key mode. Only the key counts there;
/// the purposes are those that Windows asks of such a certificate.
#[must_use]
pub fn host_key(name: &str, validity: Validity) -> Template {
    let common_name = format!("OpenHGS Host Key ({name})");
    Template {
        extended_key_usage: vec![CLIENT_AUTHENTICATION],
        ..leaf(common_name, validity, KeyUsage::DIGITAL_SIGNATURE)
    }
}

fn leaf(common_name: String, validity: Validity, key_usage: KeyUsage) -> Template {
    Template {
        common_name,
        validity,
        key_usage,
        extended_key_usage: Vec::new(),
        certificate_authority: false,
        extensions: Vec::new(),
    }
}

fn alternative_name(host: &str) -> Result<GeneralName, IssueError> {
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) => Ok(GeneralName::DnsName(Ia5String::new(host)?)),
    }
}
