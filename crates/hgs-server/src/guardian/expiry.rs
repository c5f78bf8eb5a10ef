//! The certificates that a guardian relies on, and when each of them ends.

use hgs_admin::types::CertificateRole;
use hgs_cluster::credentials;
use hgs_cluster::folder::ClusterFolder;
use hgs_kps::CertificateKind;
use hgs_pki::{Time, TlsCertificate, Validity};
use hgs_store::State;

use super::inspection::Inspection;
use super::signers::Signers;
use crate::http;

/// A certificate that a guardian relies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateInUse {
    pub(crate) role: CertificateRole,
    /// Its thumbprint, or the name of its file.
    pub(crate) name: String,
    pub(crate) validity: Validity,
}

impl Inspection {
    /// Every certificate that this node relies on and that has to be renewed one day: those of the state, and those in files of
    /// this machine. It reads the files. What can't be read is told by warnings and diagnoses.
    pub(crate) fn certificates_in_use(&self, state: &State, now: Time) -> Vec<CertificateInUse> {
        let mut found = of_state(state, now);
        let listen = &self.config.listen;
        let api = listen.api.enabled && (listen.api.certificate.is_some() || !listen.https.enabled);
        let files = [
            listen.https.enabled.then(|| listen.https.tls_files()),
            api.then(|| self.config.api_tls_files()),
        ];
        for files in files.into_iter().flatten() {
            if let Ok(leaf) = http::check_certificate(files)
                && let Ok(certificate) = TlsCertificate::from_der(&leaf)
            {
                let file = files.certificate.map(|file| file.display().to_string());
                found.push(CertificateInUse {
                    role: CertificateRole::Tls,
                    name: file.unwrap_or_default(),
                    validity: certificate.validity,
                });
            }
        }
        if let Some(clients) = self.api_clients.get() {
            let clients = clients.validities().into_iter();
            found.extend(clients.map(|client| CertificateInUse {
                role: CertificateRole::Client,
                name: client.name,
                validity: client.validity,
            }));
        }
        let folder = ClusterFolder::of_state(&self.config.state_folder());
        let of_cluster = match folder.facts() {
            Ok(Some(_)) => credentials::validities(&folder).unwrap_or_default(),
            Ok(None) | Err(_) => Vec::new(),
        };
        found.extend(
            of_cluster
                .into_iter()
                .map(|(name, validity)| CertificateInUse {
                    role: CertificateRole::Cluster,
                    name,
                    validity,
                }),
        );
        found
    }
}

/// Certificates that are disabled, and the guardian's own signers but the newest, are renewed by nobody. The authorities of all
/// makers of TPMs are hundreds: of them the next one to expire is told.
fn of_state(state: &State, now: Time) -> Vec<CertificateInUse> {
    let records = state.certificates().filter(|record| record.enabled);
    let mut found: Vec<_> = records
        .map(|record| CertificateInUse {
            role: match record.kind {
                CertificateKind::Signing => CertificateRole::Signing,
                CertificateKind::Encryption => CertificateRole::Encryption,
                CertificateKind::Communications => CertificateRole::Communications,
            },
            name: record.thumbprint().to_string(),
            validity: record.certificate.validity(),
        })
        .collect();
    let signers = Signers::at(state, now);
    let own = signers.newest().into_iter();
    let signers = own
        .map(|signer| (CertificateRole::AttestationSigner, signer))
        .chain(
            signers
                .foreign()
                .iter()
                .map(|signer| (CertificateRole::TrustedSigner, *signer)),
        );
    found.extend(signers.map(|(role, signer)| CertificateInUse {
        role,
        name: signer.thumbprint().to_string(),
        validity: signer.certificate.validity(),
    }));
    let roots = state.endorsement_roots().filter(|root| root.is_root);
    let valid = roots.filter(|root| now <= root.certificate.validity().not_after);
    let next = valid.min_by_key(|root| root.certificate.validity().not_after);
    found.extend(next.map(|root| CertificateInUse {
        role: CertificateRole::EndorsementRoot,
        name: root.thumbprint().to_string(),
        validity: root.certificate.validity(),
    }));
    found
}
