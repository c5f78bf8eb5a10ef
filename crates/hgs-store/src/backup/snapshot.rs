//! One generation of a state, read beside whoever writes it.

use std::io::{self, Write};
use std::path::Path;

use hgs_custody::SoftwareKey;
use hgs_custody::seal::MasterKey;
use hgs_pki::Time;
use rusqlite::Connection;

use super::document::{Configuration, Header, KeyText, SecretText, write_line};
use crate::engine::{self, MIGRATIONS, StoredRow, Whole, check_schema};
use crate::model::SealedKey;
use crate::place::visit;
use crate::record::Keys;
use crate::{Finding, OpenError, State, StoreError, Tampered, audit, lineage, opening};

/// A state as it is on the disk at one moment, verified. A server may hold it and go on writing.
pub struct Snapshot {
    // Within one read transaction, until this is dropped.
    connection: Connection,
    keys: Keys,
    state: State,
    whole: Whole,
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
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(directory: &Path, master_key: &MasterKey) -> Result<Self, OpenError> {
        let not_initialised = || OpenError::NotInitialised {
            directory: directory.to_owned(),
        };
        let connection = engine::open_reader(&visit(directory)?)?;
        let keys = Keys::derive(master_key);
        connection.execute_batch("BEGIN")?;
        let row = StoredRow::read(&connection, master_key)?.ok_or_else(not_initialised)?;
        let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
        let found = row.schema_version;
        match found {
            _ if found > known => return Err(OpenError::NewerSchema { found, known }),
            _ if found < known => return Err(OpenError::OlderSchema { found, known }),
            _ => check_schema(&connection, MIGRATIONS)?,
        }
        let (state, whole) = opening::verify(&connection, &keys, &row)?;
        if whole.generation == 0 {
            return Err(not_initialised());
        }
        Ok(Self {
            connection,
            keys,
            state,
            whole,
        })
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Writes the document, with private keys in clear, and returns its header.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub fn write(&self, about: About<'_>, out: &mut impl Write) -> Result<Header, ExportError> {
        let header = self.header(&about)?;
        write_line(out, "header", &header)?;
        if let Some(configuration) = &about.configuration {
            write_line(out, "configuration", configuration)?;
        }
        self.write_records(out)?;
        lineage::carry_out(&self.connection, &self.keys, |protector| {
            write_line(out, "protector", protector).map_err(ExportError::from)
        })?;
        self.write_audit(out)?;
        Ok(header)
    }

    fn header(&self, about: &About<'_>) -> Result<Header, StoreError> {
        let name = self.state.settings().name.clone();
        Ok(Header {
            generation: self.whole.generation,
            records: self.whole.records.count(),
            protectors: lineage::count(&self.connection)?,
            audit_records: self.whole.audit.sequence,
            ..Header::new(about.time, about.program, about.node, name)
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

    fn write_audit(&self, out: &mut impl Write) -> Result<(), ExportError> {
        let mut written = Ok(());
        let verified = audit::verify(&self.connection, &self.keys.audit, |text| {
            if written.is_ok() {
                // It is JSON already.
                written = writeln!(out, "{{\"audit\":{text}}}");
            }
        });
        written?;
        verified.map(drop).map_err(|error| {
            let reason = error.to_string();
            ExportError::Store(StoreError::Unavailable { reason })
        })
    }
}
