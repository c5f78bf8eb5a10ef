//! The certificates that a guardian relies on, and when each of them ends.

use std::collections::BTreeSet;

use hgs_admin::types::CertificateRole;
use hgs_cluster::credentials;
use hgs_cluster::folder::ClusterFolder;
use hgs_kps::CertificateKind;
use hgs_pki::{Time, TlsCertificate, Validity};
use hgs_store::{AttestationSigner, State};

use super::inspection::Inspection;
use super::signers::Signers;
use crate::http;

/// A certificate that a guardian relies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateInUse {
    pub(crate) role: CertificateRole,
    /// Its thumbprint; for TLS the name of the listener, for a client its name, in a cluster the name of the file.
    pub(crate) name: String,
    /// Whose certificates follow each other, for those of the state that have a lineage.
    pub(crate) lineage: String,
    /// Whether it is the newest of its kind and lineage.
    pub(crate) is_current: bool,
    pub(crate) validity: Validity,
}

impl CertificateInUse {
    /// A certificate without a lineage that is the current one.
    pub(crate) fn new(role: CertificateRole, name: String, validity: Validity) -> Self {
        Self {
            role,
            name,
            lineage: String::new(),
            is_current: true,
            validity,
        }
    }
}

impl Inspection {
    /// Every certificate that this node relies on and that has to be renewed one day: those of the state, and those in files of
    /// this machine. It reads the files. What can't be read is told by warnings and diagnoses.
    pub(crate) fn certificates_in_use(&self, state: &State, now: Time) -> Vec<CertificateInUse> {
        let mut found = of_state(state, now);
        // The guardian's own signers before the newest are renewed by nobody.
        found.retain(|one| one.role != CertificateRole::AttestationSigner || one.is_current);
        let listen = &self.config.listen;
        let api = listen.api.enabled && self.config.api_has_own_certificate();
        let console = self.config.console_files();
        let files = [
            listen.https.enabled.then(|| listen.https.tls_files()),
            api.then(|| self.config.api_tls_files()),
            listen.console.enabled.then(|| console.tls_files()),
        ];
        for files in files.into_iter().flatten() {
            if let Ok(leaf) = http::check_certificate(files)
                && let Ok(certificate) = TlsCertificate::from_der(&leaf)
            {
                let listener = files.section.trim_start_matches("listen.").to_owned();
                let validity = certificate.validity;
                found.push(CertificateInUse::new(
                    CertificateRole::Tls,
                    listener,
                    validity,
                ));
            }
        }
        found.extend(self.certificates_of_peers());
        found
    }

    /// Those of clients, and those by which the nodes of a cluster know each other.
    pub(super) fn certificates_of_peers(&self) -> Vec<CertificateInUse> {
        let mut found = self.certificates_of_clients();
        let folder = ClusterFolder::of_state(&self.config.state_folder());
        let of_cluster = match folder.facts() {
            Ok(Some(_)) => credentials::validities(&folder).unwrap_or_default(),
            Ok(None) | Err(_) => Vec::new(),
        };
        let of_cluster = of_cluster.into_iter();
        found.extend(of_cluster.map(|(name, validity)| {
            CertificateInUse::new(CertificateRole::Cluster, name, validity)
        }));
        found
    }

    /// Those of clients: each once, also where two listeners have one file.
    pub(super) fn certificates_of_clients(&self) -> Vec<CertificateInUse> {
        let listeners = self.clients.get().into_iter().flatten();
        let found = listeners.flat_map(|clients| clients.certificates());
        let mut seen = BTreeSet::new();
        let is_new =
            |one: &CertificateInUse| seen.insert((one.name.clone(), one.validity.not_after));
        found.filter(is_new).collect()
    }
}

/// Those of the state but for disabled ones, which are renewed by nobody. The authorities of all makers of TPMs are hundreds: of them
/// the next one to expire is told.
pub(super) fn of_state(state: &State, now: Time) -> Vec<CertificateInUse> {
    let records = state.certificates().filter(|record| record.enabled);
    let mut found: Vec<_> = records
        .map(|record| CertificateInUse {
            role: match record.kind {
                CertificateKind::Signing => CertificateRole::Signing,
                CertificateKind::Encryption => CertificateRole::Encryption,
                CertificateKind::Communications => CertificateRole::Communications,
            },
            name: record.thumbprint().to_string(),
            lineage: record.lineage.to_string(),
            is_current: record.head,
            validity: record.certificate.validity(),
        })
        .collect();
    let signers = Signers::at(state, now);
    let newest = signers.newest().map(|signer| signer.thumbprint());
    let of_signer = |role, signer: &AttestationSigner| {
        let (name, validity) = (signer.thumbprint(), signer.certificate.validity());
        CertificateInUse::new(role, name.to_string(), validity)
    };
    found.extend(signers.own().iter().map(|(signer, _)| CertificateInUse {
        is_current: Some(signer.thumbprint()) == newest,
        ..of_signer(CertificateRole::AttestationSigner, signer)
    }));
    let foreign = signers.foreign().iter();
    found.extend(foreign.map(|signer| of_signer(CertificateRole::TrustedSigner, signer)));
    let roots = state.endorsement_roots().filter(|root| root.is_root);
    let valid = roots.filter(|root| now <= root.certificate.validity().not_after);
    let next = valid.min_by_key(|root| root.certificate.validity().not_after);
    found.extend(next.map(|root| {
        let name = root.thumbprint().to_string();
        let validity = root.certificate.validity();
        CertificateInUse::new(CertificateRole::EndorsementRoot, name, validity)
    }));
    found
}
