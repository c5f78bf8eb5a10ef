//! A rotation: the signing and the encryption certificate of a lineage are renewed at once.

use std::sync::Arc;

use hgs_admin::types::{AddedCertificate, RotateCertificates, RotatedCertificates};
use hgs_admin::{AdminError, ErrorCode};
use hgs_custody::KeyReference;
use hgs_kps::CertificateKind;
use hgs_kps::Lineage;
use hgs_pki::Thumbprint;
use hgs_store::{CertificateRecord, State, Transaction};

use super::super::AdminHandler;
use super::super::signers::optional_label;
use super::add::{head, key_size, read_lineage, read_reference, unfit_key, was_placed};
use crate::guardian::{
    CertificateSource, Certified, Pair, PairRequest, RenewalError, findings, removal_of,
};

impl AdminHandler<'_> {
    pub(in super::super) fn rotate(
        &self,
        given: &RotateCertificates,
    ) -> Result<RotatedCertificates, AdminError> {
        let lineage = read_lineage(given.tenant.as_deref())?;
        let label = optional_label(given.label.as_deref())?;
        let size = key_size(given.bits)?;
        let state = self.parts.store.state();
        let previous = |kind| head(&state, &lineage, kind).map(CertificateRecord::thumbprint);
        let (signing, encryption) = (
            previous(CertificateKind::Signing),
            previous(CertificateKind::Encryption),
        );
        if signing.is_none() && encryption.is_none() {
            return Err(AdminError::new(
                ErrorCode::Conflict,
                format_args!("{lineage} has no certificates that could be rotated"),
            )
            .with_remedy("make its first ones with `hgs certificate new --tenant`"));
        }
        let sources = Pair {
            signing: self.source(CertificateKind::Signing, &given.signing_key, &lineage)?,
            encryption: self.source(
                CertificateKind::Encryption,
                &given.encryption_key,
                &lineage,
            )?,
        };
        let name = match &lineage {
            Lineage::Fabric => state.settings().name.as_str(),
            Lineage::Tenant(label) => label.as_str(),
        };
        let now = self.parts.clock.now();
        let request = PairRequest {
            name,
            sources,
            size,
            make_in_tokens: given.new_keys,
            now,
        };
        let added = self
            .parts
            .certification
            .renew_pair(&state, request, |made| {
                let record = |kind, certified: &Certified| CertificateRecord {
                    kind,
                    certificate: certified.certificate.clone(),
                    key: certified.place.clone(),
                    lineage: lineage.clone(),
                    enabled: true,
                    head: false,
                    compromised: None,
                    retired: None,
                    label: label.clone(),
                    sha1_only: certified.sha1_only,
                    added: now,
                };
                let halves = [
                    (CertificateKind::Signing, made.signing),
                    (CertificateKind::Encryption, made.encryption),
                ];
                self.record_rotation(
                    halves.map(|(kind, half)| (record(kind, &half), half)),
                    &state,
                )
            })
            .map_err(not_rotated)?;
        let text = |thumbprint: Option<Thumbprint>| thumbprint.map(|one| one.to_string());
        Ok(RotatedCertificates {
            signing: added.signing,
            encryption: added.encryption,
            previous_signing: text(signing),
            previous_encryption: text(encryption),
        })
    }

    /// Where the new key of one half is to come from. Nothing is made outside of a token because an option was forgotten.
    fn source(
        &self,
        kind: CertificateKind,
        key: &Option<String>,
        lineage: &Lineage,
    ) -> Result<CertificateSource, AdminError> {
        if key.is_none() {
            let option = format!("--{kind}-key");
            self.refuse_unasked_software_key(kind, lineage, &option, "--new-keys")?;
        }
        Ok(match read_reference(key.as_deref())? {
            KeyReference::Sealed => CertificateSource::Generate,
            KeyReference::Pkcs11(uris) => CertificateSource::InToken {
                key: uris,
                certificate: None,
            },
        })
    }

    /// Puts both halves on record and makes them heads, in one commit.
    fn record_rotation(
        &self,
        halves: [(CertificateRecord, Certified); 2],
        before: &State,
    ) -> Result<Pair<AddedCertificate>, AdminError> {
        let mut transactions = Vec::new();
        let [signing, encryption] = halves.map(|(record, made)| {
            let (thumbprint, lineage) = (record.thumbprint(), record.lineage.clone());
            let mut findings = findings(
                record.kind,
                &record.certificate,
                &lineage,
                before,
                record.added,
            );
            if let KeyReference::Pkcs11(uris) = &record.key {
                findings.push(was_placed(&uris.primary, made.origin));
            }
            let key = made.key.map(Arc::new);
            transactions.push(Transaction::AddCertificate { record, key });
            transactions.push(Transaction::SetHead {
                thumbprint,
                primary: lineage == Lineage::Fabric,
            });
            (thumbprint, findings)
        });
        self.transact_all(transactions)?;
        let added = |(thumbprint, findings)| -> Result<_, AdminError> {
            Ok(AddedCertificate {
                certificate: self.shown_certificate(&thumbprint)?,
                findings,
            })
        };
        Ok(Pair {
            signing: added(signing)?,
            encryption: added(encryption)?,
        })
    }
}

fn not_rotated(error: RenewalError) -> AdminError {
    let message = error.to_string();
    match error {
        RenewalError::Making(error) => unfit_key(&error, "--new-keys"),
        RenewalError::KnownKey { .. } => AdminError::new(ErrorCode::Conflict, message).with_remedy(
            "name a key that no certificate has; with `--new-keys` it is made under that name",
        ),
        RenewalError::Recording { made, error } if made.is_empty() => error,
        RenewalError::Recording { made, mut error } => {
            let removals: Vec<String> = made.iter().map(removal_of).collect();
            error.message = format!("{message}; keys were made in the token before that");
            error.with_remedy(format!("remove them with {}", removals.join(" and ")))
        }
    }
}
