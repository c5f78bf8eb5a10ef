//! The identity of a VM's TPM: its endorsement keys, and the certificates that the VM's owner issues for them.
//!
//! [`make`] makes a new TPM; [`replace`] makes one that was copied another one. Both run before the firmware of the VM
//! does, when the platform hierarchy has an empty password, and with the VM off. No storage root key is made: the operating
//! system of the VM makes the one that it wants.

use std::path::Path;

use hgs_crypto::random::System;
use hgs_crypto::rsa::SignatureScheme;
use hgs_crypto::{CryptoError, Random as _};
use hgs_custody_tpm::{EndorsementKeyKind, EndorsementKeys, Tpm, TpmError};
use hgs_pki::endorsement::{EndorsementCertificate, EndorsementCertificateError, TpmModel};
use hgs_pki::issue::{EndorsementSubject, IssueError, prepare_endorsement};
use hgs_pki::{Certificate, KeyError, KeyWork, Seconds, Time, Validity};

use crate::program::Program;
use crate::swtpm::{Channels, Contents, Settings, StateKey, Swtpm, SwtpmError};

/// The model that EK certificates of VMs name.
const MODEL: &str = "swtpm";

/// The authority of a VM owner for EK certificates. Its private key is wherever its owner keeps it.
pub struct Authority<'a> {
    /// Its certificate, as [`profile::endorsement_authority`](hgs_pki::profile::endorsement_authority) makes it.
    pub certificate: &'a Certificate,
    /// Signs with the key of that certificate.
    pub keys: &'a mut dyn KeyWork,
}

/// What the certificates say.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The VM: 1 to 64 characters.
    pub name: &'a str,
    /// How long the certificates are valid.
    pub validity: Validity,
}

/// How long the EK certificates of a vTPM are valid. A TPM's are for as long as it lives, and so are these.
const LIFE: Seconds = Seconds::from_days(50 * 365);
/// How far back validity begins, so that machines whose clocks are late accept it at once.
const BACK: Seconds = Seconds::from_minutes(5);

impl<'a> Subject<'a> {
    /// Of a VM that is made now, for as long as it lives.
    #[must_use]
    pub fn for_life(name: &'a str, now: Time) -> Self {
        let validity = Validity {
            not_before: now.checked_sub(BACK).unwrap_or(Time::MIN),
            not_after: now.checked_add(LIFE).unwrap_or(Time::MAX),
        };
        Self { name, validity }
    }
}

/// The certificates that are in the TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Of the endorsement key with RSA-2048, at NV index 0x01c00002.
    pub rsa: EndorsementCertificate,
    /// Of the endorsement key on P-384, at NV index 0x01c00016, in DER.
    pub ecc: Vec<u8>,
}

/// Why a TPM has no identity. A new TPM is removed; a copied one is not to be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// swtpm.
    #[error(transparent)]
    Swtpm(#[from] SwtpmError),
    /// The TPM refused a command.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// The authority can't issue such a certificate.
    #[error("the EK certificate can't be issued: {0}")]
    Issue(#[from] IssueError),
    /// The key of the authority did not sign.
    #[error("the EK certificate can't be signed: {0}")]
    Key(#[from] KeyError),
    /// What was issued is no EK certificate.
    #[error(transparent)]
    Certificate(#[from] EndorsementCertificateError),
    /// No randomness for serial numbers.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// Makes a new TPM in an empty folder: new seeds, PCRs with SHA-256 alone, endorsement keys, certificates.
///
/// # Errors
/// When swtpm, the TPM or the authority refuses. What is in the folder then is not to be used.
pub fn make(
    swtpm: &Program,
    folder: &Path,
    key: &StateKey,
    subject: Subject<'_>,
    authority: &mut Authority<'_>,
) -> Result<Identity, IdentityError> {
    with_tpm(swtpm, folder, Contents::New, key, |tpm| {
        tpm.allocate_sha256_bank()?;
        certify(tpm, subject, authority)
    })
}

/// Gives a copied TPM another endorsement seed, keys and certificates. What its owner hierarchy holds stays, and with it what
/// opens the VM's disk; so whoever owns one of the two can still open what is sealed for the other.
///
/// # Errors
/// When swtpm, the TPM or the authority refuses. The copy is not to be used then.
pub fn replace(
    swtpm: &Program,
    folder: &Path,
    key: &StateKey,
    subject: Subject<'_>,
    authority: &mut Authority<'_>,
) -> Result<Identity, IdentityError> {
    with_tpm(swtpm, folder, Contents::Kept, key, |tpm| {
        tpm.change_endorsement_seed()?;
        certify(tpm, subject, authority)
    })
}

fn with_tpm(
    program: &Program,
    folder: &Path,
    contents: Contents,
    key: &StateKey,
    work: impl FnOnce(&mut Tpm) -> Result<Identity, IdentityError>,
) -> Result<Identity, IdentityError> {
    let mut swtpm = Swtpm::start(&Settings {
        program,
        folder,
        contents,
        key,
        migration_key: None,
        channels: Channels::Private,
    })?;
    swtpm.initialise()?;
    let mut tpm = swtpm.open()?;
    tpm.start_up()?;
    let identity = work(&mut tpm)?;
    tpm.shut_down()?;
    drop(tpm);
    swtpm.shut_down()?;
    Ok(identity)
}

fn certify(
    tpm: &mut Tpm,
    subject: Subject<'_>,
    authority: &mut Authority<'_>,
) -> Result<Identity, IdentityError> {
    let EndorsementKeys { rsa, ecc } = tpm.make_endorsement_keys()?;
    let model = tpm.model(MODEL)?;
    let rsa = EndorsementSubject::Rsa(rsa.key().clone());
    let rsa = issue(rsa, &model, subject, authority)?;
    let ecc = EndorsementSubject::P384 { x: ecc.x, y: ecc.y };
    let ecc = issue(ecc, &model, subject, authority)?;
    tpm.write_endorsement_certificate(EndorsementKeyKind::Rsa, &rsa)?;
    tpm.write_endorsement_certificate(EndorsementKeyKind::Ecc, &ecc)?;
    let rsa = EndorsementCertificate::from_octets(&rsa)?;
    Ok(Identity { rsa, ecc })
}

fn issue(
    key: EndorsementSubject,
    model: &TpmModel,
    subject: Subject<'_>,
    authority: &mut Authority<'_>,
) -> Result<Vec<u8>, IdentityError> {
    let mut serial = [0; 16];
    System::new().fill(&mut serial)?;
    let Subject { name, validity } = subject;
    let prepared = prepare_endorsement(name, model, validity, key, authority.certificate, serial)?;
    let issuer = authority.certificate.thumbprint();
    let scheme = SignatureScheme::Pkcs1Sha256;
    let signature = authority
        .keys
        .sign(&issuer, scheme, prepared.to_be_signed())?;
    Ok(prepared.assemble(&signature)?)
}
