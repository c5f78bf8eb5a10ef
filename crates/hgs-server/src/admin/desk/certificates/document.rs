//! The public half of a lineage's head, for owners to import.

use hgs_protector::suite::KeyEncryption;
use hgs_protector::{GuardianCertificates, SealError, metadata};
use hgs_store::{CertificateKind, CertificateRecord, State};

use super::super::super::types::GuardianDocument;
use super::super::super::{AdminError, ErrorCode};
use super::super::Desk;
use super::{find, parse};
use crate::guardian::Undone;

impl Desk {
    /// The document of the lineage that the certificate belongs to.
    pub(in super::super) fn document_of_head(
        &self,
        thumbprint: &str,
    ) -> Result<GuardianDocument, AdminError> {
        let snapshot = self.snapshot()?;
        let state = &snapshot.state;
        let record = find(state, &parse(thumbprint)?)?;
        let signing = head(state, record, CertificateKind::Signing)?;
        let encryption = head(state, record, CertificateKind::Encryption)?;
        let keys = &snapshot.holdings.keys;
        let certify = GuardianCertificates::certify(
            signing.certificate.clone(),
            encryption.certificate.clone(),
            KeyEncryption::default(),
        );
        let guardian = self.guardian.drive(keys, certify).map_err(undone)?;
        // As guardians' own files: signed by the guardian itself, not by the service.
        let write = metadata::write(&guardian, &[], guardian.signing_certificate());
        let document = self.guardian.drive(keys, write).map_err(undone)?;
        Ok(GuardianDocument {
            lineage: record.lineage.to_string(),
            signing: signing.thumbprint().to_string(),
            encryption: encryption.thumbprint().to_string(),
            document: String::from_utf8_lossy(&document).into_owned(),
        })
    }
}

fn undone(undone: Undone<SealError>) -> AdminError {
    match undone {
        Undone::Refused(failure) => AdminError::new(ErrorCode::Internal, failure),
        Undone::KeyStore => AdminError::new(
            ErrorCode::Unavailable,
            "a private key of the pair can't be used now",
        ),
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
