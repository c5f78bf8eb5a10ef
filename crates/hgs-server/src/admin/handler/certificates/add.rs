//! Certificates that are added: from outside, or made here.

use std::sync::Arc;

use hgs_admin::types::{AddCertificate, AddedCertificate, Finding, NewCertificate, Severity};
use hgs_admin::{AdminError, ErrorCode};
use hgs_crypto::rsa::OaepHash;
use hgs_crypto::text::is_invisible;
use hgs_custody::{KeyError, KeyReference, Pkcs11Uri, SoftwareKey, self_signed};
use hgs_kps::{CertificateKind, Label, Lineage};
use hgs_pki::issue::Template;
use hgs_pki::{Certificate as PkiCertificate, profile};
use hgs_store::{CertificateRecord, State, Transaction};
use hgs_trace::Problem;

use super::super::AdminHandler;
use super::super::given;
use super::super::signers::optional_label;
use crate::guardian::{
    CertifyError, InitialiseError, KeyOrigin, KeyProofError, KeySize, RenewalError,
    communications_template, findings, guardian_validity, removal_of,
};

/// What is wanted of a certificate, wherever it comes from.
struct Wanted<'w> {
    kind: CertificateKind,
    tenant: Option<&'w str>,
    label: Option<&'w str>,
    primary: bool,
}

impl AdminHandler<'_> {
    pub(in super::super) fn add_given(
        &self,
        given: &AddCertificate,
        key: Option<Arc<SoftwareKey>>,
    ) -> Result<AddedCertificate, AdminError> {
        let certificate = given::certificate(&given.certificate)?;
        let wanted = Wanted {
            kind: given.kind,
            tenant: given.tenant.as_deref(),
            label: given.label.as_deref(),
            primary: given.primary,
        };
        let reference = read_reference(given.key.as_deref())?;
        let sha1_only = match &reference {
            KeyReference::Sealed => false,
            KeyReference::Pkcs11(uris) => {
                let proved =
                    (self.parts.certification).prove_in_tokens(&certificate, wanted.kind, uris);
                proved.map_err(|error| unfit_key(&error, "--new-key"))? == OaepHash::Sha1
            }
        };
        self.add(&wanted, certificate, reference, key, sha1_only)
    }

    pub(in super::super) fn add_made(
        &self,
        given: &NewCertificate,
    ) -> Result<AddedCertificate, AdminError> {
        let wanted = Wanted {
            kind: given.kind,
            tenant: given.tenant.as_deref(),
            label: given.label.as_deref(),
            primary: given.primary,
        };
        let size = key_size(given.bits)?;
        let template = self.template(&wanted, given.subject.as_deref())?;
        if given.key.is_none() {
            let lineage = read_lineage(wanted.tenant)?;
            self.refuse_unasked_software_key(wanted.kind, &lineage, "--key", "--new-key")?;
        }
        let reference = read_reference(given.key.as_deref())?;
        let KeyReference::Pkcs11(uris) = &reference else {
            let (certificate, key) = self_signed(template, size.bits()).map_err(not_made)?;
            let key = Some(Arc::new(key));
            return self.add(&wanted, certificate, reference, key, false);
        };
        let certified = self
            .parts
            .certification
            .certify_in_token(
                &self.parts.store.state(),
                template,
                wanted.kind,
                uris,
                size,
                given.new_key,
            )
            .map_err(not_certified)?;
        let added = self.add(
            &wanted,
            certified.certificate,
            certified.place.clone(),
            None,
            certified.sha1_only,
        );
        // With the identifier, if the key was made.
        let KeyReference::Pkcs11(uris) = certified.place else {
            return added;
        };
        let uri = uris.primary;
        match (added, certified.origin) {
            (Ok(mut added), origin) => {
                added.findings.push(was_placed(&uri, origin));
                Ok(added)
            }
            (Err(mut error), KeyOrigin::Made) => {
                error.message = format!("{}; the key {uri} was made before that", error.message);
                Err(error.with_remedy(format!("remove the key with {}", removal_of(&uri))))
            }
            (error, _) => error,
        }
    }

    /// Whose keys are in a token does not find the next one outside of it because an option was forgotten.
    pub(super) fn refuse_unasked_software_key(
        &self,
        kind: CertificateKind,
        lineage: &Lineage,
        key_option: &str,
        new_option: &str,
    ) -> Result<(), AdminError> {
        let state = self.parts.store.state();
        match head(&state, lineage, kind).map(|record| &record.key) {
            Some(KeyReference::Pkcs11(uris)) => Err(AdminError::new(
                ErrorCode::Conflict,
                format_args!(
                    "the {kind} key is in a token ({}); a software key is not made unasked",
                    uris.primary
                ),
            )
            .with_remedy(format!(
                "name the new key with `{key_option} 'pkcs11:...'` (and `{new_option}` if it is to be made), or say \
                 `{key_option} software`"
            ))),
            _ => Ok(()),
        }
    }

    fn add(
        &self,
        wanted: &Wanted<'_>,
        certificate: PkiCertificate,
        key: KeyReference,
        software_key: Option<Arc<SoftwareKey>>,
        sha1_only: bool,
    ) -> Result<AddedCertificate, AdminError> {
        let state = self.parts.store.state();
        let now = self.parts.clock.now();
        let lineage = read_lineage(wanted.tenant)?;
        let findings = findings(wanted.kind, &certificate, &lineage, &state, now);
        let thumbprint = certificate.thumbprint();
        let record = CertificateRecord {
            kind: wanted.kind,
            certificate,
            key,
            enabled: true,
            // Without a head nothing is handed on, so a tenant's first certificate is it.
            head: lineage != Lineage::Fabric && head(&state, &lineage, wanted.kind).is_none(),
            lineage,
            compromised: None,
            retired: None,
            label: optional_label(wanted.label)?,
            sha1_only,
            added: now,
        };
        let mut transactions = vec![Transaction::AddCertificate {
            record,
            key: software_key,
        }];
        if wanted.primary {
            transactions.push(Transaction::SetHead {
                thumbprint,
                primary: true,
            });
        }
        self.transact_all(transactions)?;
        Ok(AddedCertificate {
            certificate: self.shown_certificate(&thumbprint)?,
            findings,
        })
    }

    /// What a new certificate says.
    fn template(&self, wanted: &Wanted<'_>, subject: Option<&str>) -> Result<Template, AdminError> {
        if subject.is_some_and(|subject| subject.chars().any(is_invisible)) {
            return Err(AdminError::invalid(
                "the subject has characters that can't be seen",
            ));
        }
        let validity = guardian_validity(self.parts.clock.now());
        let state = self.parts.store.state();
        let name = wanted
            .tenant
            .unwrap_or_else(|| state.settings().name.as_str());
        let template = match (wanted.kind, subject) {
            (CertificateKind::Signing, _) => profile::guardian_signing(name, validity),
            (CertificateKind::Encryption, _) => profile::guardian_encryption(name, validity),
            (CertificateKind::Communications, Some(subject)) => {
                return profile::communications(&[subject], validity).map_err(AdminError::invalid);
            }
            (CertificateKind::Communications, None) => {
                return communications_template(&self.parts.inspection.config, validity)
                    .map_err(AdminError::invalid);
            }
        };
        Ok(match subject {
            Some(subject) => Template {
                common_name: subject.to_owned(),
                ..template
            },
            None => template,
        })
    }
}

/// The head of one kind of a lineage.
pub(super) fn head<'s>(
    state: &'s State,
    lineage: &Lineage,
    kind: CertificateKind,
) -> Option<&'s CertificateRecord> {
    let mut records = state.certificates();
    records.find(|record| record.head && record.kind == kind && record.lineage == *lineage)
}

/// The size of a key that is made.
pub(super) fn key_size(bits: Option<usize>) -> Result<KeySize, AdminError> {
    let size = bits.map_or_else(|| Some(KeySize::default()), KeySize::of_bits);
    size.ok_or_else(|| AdminError::invalid("a key that is made has 2048, 3072 or 4096 bits"))
}

fn not_certified(error: RenewalError) -> AdminError {
    let message = error.to_string();
    match error {
        RenewalError::Making(error) => unfit_key(&error, "--new-key"),
        RenewalError::KnownKey { certificate, .. } => {
            AdminError::new(ErrorCode::Conflict, message).with_remedy(format!(
                "see it with `hgs certificate show {certificate}`; leave `--new-key` out to make another certificate \
                 over the same key, or name a key that is not there yet"
            ))
        }
        RenewalError::Recording { error, .. } => error,
    }
}

/// Whether a key in a token was found there or made.
pub(super) fn was_placed(uri: &Pkcs11Uri, origin: KeyOrigin) -> Finding {
    Finding {
        code: format!("key-{}", origin.name()),
        severity: Severity::Note,
        message: format!("the key {uri} was {}", origin.name()),
    }
}

pub(super) fn read_lineage(tenant: Option<&str>) -> Result<Lineage, AdminError> {
    tenant.map_or(Ok(Lineage::Fabric), |label| {
        let label = Label::given(label).map_err(AdminError::invalid)?;
        Ok(Lineage::Tenant(label))
    })
}

pub(super) fn read_reference(key: Option<&str>) -> Result<KeyReference, AdminError> {
    let reference = key.map_or(Ok(KeyReference::Sealed), str::parse);
    reference.map_err(AdminError::invalid)
}

/// Whatever was asked for, the fault is in the name, or ours.
fn not_made(error: CertifyError) -> AdminError {
    match error {
        CertifyError::Issue(issue) => AdminError::invalid(issue)
            .with_remedy("name it with `--subject`, in 1 to 64 characters"),
        other => AdminError::new(ErrorCode::Internal, other),
    }
}

/// A key in a token can't do what its certificate is for, or can't be reached.
pub(super) fn unfit_key(error: &InitialiseError, new_option: &str) -> AdminError {
    let remedy = match error {
        InitialiseError::NotThere { .. } => {
            format!(
                "name a key that is there; to have one made under that name, add `{new_option}`"
            )
        }
        InitialiseError::AfterMaking { made, .. } => {
            let removals: Vec<String> = made.iter().map(removal_of).collect();
            format!("remove what was made with {}", removals.join(" and "))
        }
        InitialiseError::Key(KeyProofError::Key {
            error: KeyError::Unsupported,
            ..
        }) => "name a key that was made for this: the key of an encryption certificate decrypts (CKA_DECRYPT), and that of a \
               signing certificate signs (CKA_SIGN)"
            .to_owned(),
        InitialiseError::Token { error, .. } => {
            error.remedy().unwrap_or_else(|| SEE_TRACE.to_owned())
        }
        _ => SEE_TRACE.to_owned(),
    };
    let message = Problem::of(error).message;
    AdminError::new(ErrorCode::Conflict, message).with_remedy(remedy)
}

const SEE_TRACE: &str = "see `hgs trace` for the token and its key; modules are named in `[pkcs11]` of the configuration";
