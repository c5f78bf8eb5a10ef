//! One generation of a state, read while the writer goes on.

use std::io::{self, Write};
use std::path::Path;

use hgs_custody::SoftwareKey;
use hgs_custody::seal::MasterKey;
use hgs_pki::Time;

use super::document::{Configuration, Header, KeyText, SecretText, write_line};
use crate::engine::{View, open_snapshot};
use crate::lineage::CarriedProtector;
use crate::model::SealedKey;
use crate::record::{Integrity, Keys};
use crate::{Finding, OpenError, State, StoreError, Tampered, audit, opening};

/// A state as it is on the disk at one moment, verified. A server may hold it and go on writing.
pub struct Snapshot {
    view: Box<dyn View>,
    keys: Keys,
    state: State,
    integrity: Integrity,
}

/// What a document says of itself.
#[derive(Debug, Clone)]
pub struct About<'a> {
    /// When it is written.
    pub time: Time,
    /// The version of the program that writes it.
    pub program: &'a str,
    /// The node that writes it.
    pub node: &'a str,
    /// The text of its configuration.
    pub configuration: Option<Configuration>,
}

/// The state was not written. What was written of it is worth nothing.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The state can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Whatever it is written to fails.
    #[error(transparent)]
    Out(#[from] io::Error),
}

impl Snapshot {
    /// Reads the state in `directory`, of which all is checked as when a store is opened.
    pub fn open(directory: &Path, master_key: &MasterKey) -> Result<Self, OpenError> {
        let view = open_snapshot(directory, master_key)?;
        let keys = Keys::derive(master_key);
        let (state, integrity) = opening::verify(&*view, &keys)?;
        if integrity.generation == 0 {
            let directory = directory.to_owned();
            return Err(OpenError::NotInitialised { directory });
        }
        Ok(Self {
            view,
            keys,
            state,
            integrity,
        })
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Writes the document, with private keys in clear, and returns its header.
    pub fn write(&self, about: About<'_>, out: &mut impl Write) -> Result<Header, ExportError> {
        let header = self.header(&about)?;
        write_line(out, "header", &header)?;
        if let Some(configuration) = &about.configuration {
            write_line(out, "configuration", configuration)?;
        }
        self.write_records(out)?;
        self.view.each_node(|stored| -> Result<(), ExportError> {
            let (node, _) = stored.verified(&self.keys).map_err(StoreError::from)?;
            write_line(out, "protector", &CarriedProtector::from(node))?;
            Ok(())
        })?;
        audit::verify(
            &*self.view,
            &self.keys.audit,
            |row| -> Result<(), ExportError> {
                let record = audit::read(&row).map_err(StoreError::from)?;
                write_line(out, "audit", &record)?;
                Ok(())
            },
        )?;
        Ok(header)
    }

    fn header(&self, about: &About<'_>) -> Result<Header, StoreError> {
        let name = self.state.settings().name.clone();
        Ok(Header {
            generation: self.integrity.generation,
            records: self.integrity.records.count()
                - self.state.count_host_attestations()
                - self.state.count_formats(),
            protectors: self.view.count_nodes()?,
            audit_records: self.integrity.audit.sequence
                - audit::Boundary::of(&*self.view, &self.keys.audit)?
                    .left
                    .sequence,
            ..Header::new(
                self.state.level(),
                about.time,
                about.program,
                about.node,
                name,
            )
        })
    }

    fn write_records(&self, out: &mut impl Write) -> Result<(), ExportError> {
        write_line(out, "settings", self.state.settings())?;
        for record in self.state.certificates() {
            write_line(out, "certificate", record)?;
        }
        for (sealed, generation) in self.state.private_keys() {
            write_line(out, "private-key", &self.open_key(sealed, generation)?)?;
        }
        for host in self.state.hosts() {
            write_line(out, "host", host)?;
        }
        for identity in self.state.all_host_identities() {
            write_line(out, "host-identity", identity)?;
        }
        for signer in self.state.attestation_signers() {
            write_line(out, "attestation-signer", signer)?;
        }
        for removed in self.state.removed_hosts() {
            write_line(out, "removed-host", removed)?;
        }
        for denied in self.state.denied_hosts() {
            write_line(out, "denied-host", denied)?;
        }
        for root in self.state.endorsement_roots() {
            write_line(out, "endorsement-root", root)?;
        }
        for group in self.state.host_groups() {
            write_line(out, "host-group", group)?;
        }
        for document in self.state.policy_documents() {
            write_line(out, "policy-document", document)?;
        }
        for measurements in self.state.all_host_measurements() {
            write_line(out, "host-measurements", measurements)?;
        }
        Ok(())
    }

    fn open_key(&self, sealed: &SealedKey, generation: u64) -> Result<KeyText, StoreError> {
        let (public_key, sealer) = (sealed.public_key, &self.keys.private_keys);
        let name = public_key.to_string();
        let key = SoftwareKey::unseal(sealer, &name, generation, &sealed.sealed);
        let key = key.map_err(|_| Tampered::new("private-key", &name, Finding::Changed))?;
        let pkcs8 = SecretText(key.to_backup_text());
        Ok(KeyText { public_key, pkcs8 })
    }
}
