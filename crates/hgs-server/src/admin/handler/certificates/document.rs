//! The public half of a lineage's head, for owners to import.

use hgs_admin::types::GuardianDocument;
use hgs_admin::{AdminError, ErrorCode};
use hgs_kps::CertificateKind;
use hgs_pki::Thumbprint;
use hgs_protector::suite::KeyEncryption;
use hgs_protector::{GuardianCertificates, SealError, metadata};
use hgs_store::{CertificateRecord, State};

use super::super::AdminHandler;
use super::find;

impl AdminHandler<'_> {
    /// The document of the lineage that the certificate belongs to.
    pub(in super::super) fn document_of_head(
        &self,
        thumbprint: &Thumbprint,
    ) -> Result<GuardianDocument, AdminError> {
        let snapshot = self.snapshot()?;
        let state = &snapshot.state;
        let record = find(state, thumbprint)?;
        let signing = head(state, record, CertificateKind::Signing)?;
        let encryption = head(state, record, CertificateKind::Encryption)?;
        let document = self
            .parts
            .certification
            .with_keys(&snapshot.holdings.keys, |keys| {
                let guardian = GuardianCertificates::certify(
                    signing.certificate.clone(),
                    encryption.certificate.clone(),
                    KeyEncryption::default(),
                    keys,
                )?;
                // As guardians' own files: signed by the guardian itself, not by the service.
                metadata::write(&guardian, &[], guardian.signing_certificate(), keys)
            });
        let document = document.map_err(not_written)?;
        Ok(GuardianDocument {
            lineage: record.lineage.to_string(),
            signing: signing.thumbprint().to_string(),
            encryption: encryption.thumbprint().to_string(),
            document: String::from_utf8_lossy(&document).into_owned(),
        })
    }
}

fn not_written(error: SealError) -> AdminError {
    match error {
        SealError::Key { .. } => AdminError::new(
            ErrorCode::Unavailable,
            "a private key of the pair can't be used now",
        ),
        error => AdminError::new(ErrorCode::Internal, error),
    }
}

/// The head of one kind of the lineage of `record`.
fn head<'s>(
    state: &'s State,
    record: &CertificateRecord,
    kind: CertificateKind,
) -> Result<&'s CertificateRecord, AdminError> {
    let mut records = state.certificates();
    let head =
        records.find(|other| other.head && other.kind == kind && other.lineage == record.lineage);
    head.ok_or_else(|| {
        let lineage = &record.lineage;
        let message = format!("lineage {lineage} has no {kind} certificate as head");
        AdminError::new(ErrorCode::Conflict, message)
            .with_remedy("add one, and make it the head with `hgs certificate set --head`")
    })
}
