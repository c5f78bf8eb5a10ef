//! What must be known of a migration when an agent comes back: on a destination, whether the VM is its own; on a source,
//! whom to ask.

use std::fs;
use std::path::{Path, PathBuf};

use hgs_client::Fault;
use hgs_crypto::hash::{HmacKey, hmac_sha256};
use hgs_crypto::random::System;
use hgs_crypto::{CryptoError, SecretBytes, hex};
use hgs_files::{FileError, Readers};
use hgs_vm::description::VmName;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::message::{Octets, Outcome, Question, Ready, Settlement};
use crate::wire::AgentFailure;

/// Octets of the largest record.
const LIMIT: usize = 4096;
/// Records of migrations that came to nothing, of which no source has to ask. The oldest go first.
const DISCARDED: usize = 256;
/// Octets of what a migration is known by, and of its secret.
const ID: usize = 16;
const SECRET: usize = 32;

/// What a migration is known by, and by what its two ends know each other afterwards. It opens nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) migration: Vec<u8>,
    pub(crate) secret: SecretBytes,
}

/// A migration that another host began to this one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arrived {
    /// The VM here.
    pub(crate) name: VmName,
    /// In hexadecimal.
    migration: String,
    secret: String,
    /// What became of it.
    pub(crate) outcome: Outcome,
    /// Whether libvirt brings it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) libvirt: bool,
}

/// A migration of which this host has said that it will not run the VM again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Departed {
    /// Where it went: an address and a port.
    pub(crate) destination: String,
    migration: String,
    secret: String,
}

/// The records of one host.
#[derive(Debug, Clone)]
pub(crate) struct Records(PathBuf);

impl Identity {
    pub(crate) fn random() -> Result<Self, CryptoError> {
        let random = &mut System::new();
        Ok(Self {
            migration: SecretBytes::random(ID, random)?.expose().to_vec(),
            secret: SecretBytes::random(SECRET, random)?,
        })
    }

    /// What a destination has sent.
    ///
    /// # Errors
    /// When it is not of the right form.
    pub(crate) fn of(ready: &Ready) -> Result<Self, AgentFailure> {
        let (Octets(migration), Octets(secret)) = (&ready.migration, &ready.secret);
        Self::from_octets(migration.clone(), secret.clone()).ok_or_else(|| {
            AgentFailure::failed("the destination names its migration in another way than agreed")
                .at_fault(Fault::Host)
        })
    }

    fn from_octets(migration: Vec<u8>, secret: Vec<u8>) -> Option<Self> {
        let secret = SecretBytes::new(secret);
        let right = migration.len() == ID && secret.len() == SECRET;
        right.then_some(Self { migration, secret })
    }

    /// Asks how the migration ended.
    pub(crate) fn question(&self, nonce: &[u8]) -> Question {
        Question {
            migration: Octets(self.migration.clone()),
            nonce: Octets(nonce.to_vec()),
            tag: Octets(hmac_sha256(&self.secret, &self.question_parts(nonce)).to_vec()),
        }
    }

    /// Answers a question, if the source of the migration asks.
    pub(crate) fn settle(&self, question: &Question, outcome: Outcome) -> Option<Settlement> {
        let key = HmacKey::new(&self.secret);
        let Octets(nonce) = &question.nonce;
        let asked = key.verify(&self.question_parts(nonce), &question.tag.0);
        let tag = key.tag(&self.settlement_parts(nonce, &[outcome.octet()]));
        asked.is_ok().then(|| Settlement {
            outcome,
            tag: Octets(tag.to_vec()),
        })
    }

    /// The outcome, if the destination of the migration answers this very question.
    pub(crate) fn outcome(&self, nonce: &[u8], settlement: &Settlement) -> Option<Outcome> {
        let outcome = [settlement.outcome.octet()];
        let parts = self.settlement_parts(nonce, &outcome);
        let answered = HmacKey::new(&self.secret).verify(&parts, &settlement.tag.0);
        answered.is_ok().then_some(settlement.outcome)
    }

    fn question_parts<'p>(&'p self, nonce: &'p [u8]) -> [&'p [u8]; 3] {
        [b"OpenHGS migration question", &self.migration, nonce]
    }

    fn settlement_parts<'p>(&'p self, nonce: &'p [u8], outcome: &'p [u8]) -> [&'p [u8]; 4] {
        [
            b"OpenHGS migration outcome",
            &self.migration,
            nonce,
            outcome,
        ]
    }

    fn read(migration: &str, secret: &str) -> Option<Self> {
        Self::from_octets(hex::decode(migration)?, hex::decode(secret)?)
    }
}

impl Arrived {
    pub(crate) fn new(name: VmName, identity: &Identity, outcome: Outcome) -> Self {
        Self {
            name,
            migration: hex::encode(&identity.migration),
            secret: hex::encode(identity.secret.expose()),
            outcome,
            libvirt: false,
        }
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        Identity::read(&self.migration, &self.secret)
    }
}

impl Departed {
    pub(crate) fn new(destination: String, identity: &Identity) -> Self {
        Self {
            destination,
            migration: hex::encode(&identity.migration),
            secret: hex::encode(identity.secret.expose()),
        }
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        Identity::read(&self.migration, &self.secret)
    }
}

impl Records {
    /// Those in the state folder of a host.
    pub(crate) fn in_state(state: &Path) -> Self {
        Self(state.join("migrations"))
    }

    fn arrived_file(&self, migration: &[u8]) -> PathBuf {
        self.0.join(format!("from-{}.json", hex::encode(migration)))
    }

    fn departed_file(&self, name: &VmName) -> PathBuf {
        self.0.join(format!("to-{}.json", name.as_str()))
    }

    fn keep<T: Serialize>(&self, path: &Path, record: &T) -> Result<(), AgentFailure> {
        hgs_files::private_folder(&self.0)?;
        let json = serde_json::to_vec(record).expect("a record is written to memory");
        Ok(hgs_files::replace(path, &json, Readers::Owner)?)
    }

    /// Keeps what became of a migration to this host. When this returns, it lasts.
    pub(crate) fn arrived(
        &self,
        identity: &Identity,
        name: &VmName,
        outcome: Outcome,
    ) -> Result<(), AgentFailure> {
        let record = Arrived::new(name.clone(), identity, outcome);
        self.keep(&self.arrived_file(&identity.migration), &record)
    }

    /// Keeps that libvirt may bring a VM.
    pub(crate) fn awaited(&self, identity: &Identity, name: &VmName) -> Result<(), AgentFailure> {
        let record = Arrived {
            libvirt: true,
            ..Arrived::new(name.clone(), identity, Outcome::Pending)
        };
        self.keep(&self.arrived_file(&identity.migration), &record)
    }

    /// The migration to this host that is known by this.
    pub(crate) fn find(&self, migration: &[u8]) -> Result<Option<Arrived>, AgentFailure> {
        match migration.len() {
            ID => read(&self.arrived_file(migration)),
            _ => Ok(None),
        }
    }

    /// Every migration to this host of which something is kept.
    pub(crate) fn all_arrived(&self) -> Result<Vec<Arrived>, AgentFailure> {
        let mut records = Vec::new();
        for (path, _) in self.files("from-")? {
            records.extend(read::<Arrived>(&path)?);
        }
        Ok(records)
    }

    /// Forgets a migration to this host.
    pub(crate) fn forget_arrived(&self, identity: &Identity) -> Result<(), AgentFailure> {
        forget(&self.arrived_file(&identity.migration))
    }

    /// Removes the oldest records of migrations that came to nothing.
    pub(crate) fn prune(&self) -> Result<(), AgentFailure> {
        let mut discarded = Vec::new();
        for (path, written) in self.files("from-")? {
            let record: Option<Arrived> = read(&path)?;
            if record.is_some_and(|record| record.outcome == Outcome::Discarded) {
                discarded.push((written, path));
            }
        }
        discarded.sort();
        let surplus = discarded.len().saturating_sub(DISCARDED);
        discarded[..surplus]
            .iter()
            .try_for_each(|(_, path)| forget(path))
    }

    fn files(&self, prefix: &str) -> Result<Vec<(PathBuf, std::time::SystemTime)>, AgentFailure> {
        if !hgs_files::exists(&self.0)? {
            return Ok(Vec::new());
        }
        let at = |error| FileError::at(&self.0, error);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(at)? {
            let entry = entry.map_err(at)?;
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with(prefix)) {
                let written = entry.metadata().and_then(|meta| meta.modified());
                files.push((entry.path(), written.map_err(at)?));
            }
        }
        Ok(files)
    }

    /// Keeps that a VM may run elsewhere. When this returns, it lasts.
    pub(crate) fn departed(&self, name: &VmName, record: &Departed) -> Result<(), AgentFailure> {
        self.keep(&self.departed_file(name), record)
    }

    /// Where a VM may run, if that is not known.
    pub(crate) fn where_to(&self, name: &VmName) -> Result<Option<Departed>, AgentFailure> {
        read(&self.departed_file(name))
    }

    fn offered_file(&self, name: &VmName) -> PathBuf {
        self.0.join(format!("offered-{}.json", name.as_str()))
    }

    /// Keeps that libvirt may move a VM to another host.
    pub(crate) fn offer(&self, name: &VmName, record: &Departed) -> Result<(), AgentFailure> {
        self.keep(&self.offered_file(name), record)
    }

    /// Where libvirt may move a VM.
    pub(crate) fn offered(&self, name: &VmName) -> Result<Option<Departed>, AgentFailure> {
        read(&self.offered_file(name))
    }

    pub(crate) fn forget_offer(&self, name: &VmName) -> Result<(), AgentFailure> {
        forget(&self.offered_file(name))
    }

    /// It is known.
    pub(crate) fn forget_departed(&self, name: &VmName) -> Result<(), AgentFailure> {
        forget(&self.departed_file(name))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, AgentFailure> {
    let Some(octets) = hgs_files::optional(hgs_files::read(path, LIMIT))? else {
        return Ok(None);
    };
    serde_json::from_slice(&octets).map(Some).map_err(|error| {
        AgentFailure::failed(format_args!("{}: {error}", path.display())).at_fault(Fault::Operator)
    })
}

fn forget(path: &Path) -> Result<(), AgentFailure> {
    hgs_files::optional(hgs_files::remove(path))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_ends_of_a_migration_ask_and_answer() {
        let known = Identity::random().unwrap();
        let stranger = Identity {
            migration: known.migration.clone(),
            ..Identity::random().unwrap()
        };
        let question = known.question(b"nonce");
        let settlement = known.settle(&question, Outcome::Taken).unwrap();
        assert_eq!(known.outcome(b"nonce", &settlement), Some(Outcome::Taken));
        assert_eq!(known.outcome(b"other", &settlement), None);
        let forged = Settlement {
            outcome: Outcome::Discarded,
            ..settlement
        };
        assert_eq!(known.outcome(b"nonce", &forged), None);
        assert_eq!(stranger.settle(&question, Outcome::Discarded), None);
        let forged = known.settle(&question, Outcome::Discarded).unwrap();
        assert_eq!(stranger.outcome(b"nonce", &forged), None);
    }

    #[test]
    fn records_last_and_those_of_nothing_are_pruned() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::in_state(folder.path());
        let name: VmName = "web1".parse().unwrap();
        let taken = Identity::random().unwrap();
        records.arrived(&taken, &name, Outcome::Pending).unwrap();
        records.arrived(&taken, &name, Outcome::Taken).unwrap();
        for _ in 0..DISCARDED + 3 {
            let identity = Identity::random().unwrap();
            records
                .arrived(&identity, &name, Outcome::Discarded)
                .unwrap();
        }
        records.prune().unwrap();
        let all = records.all_arrived().unwrap();
        assert_eq!(all.len(), DISCARDED + 1);
        let found = records.find(&taken.migration).unwrap().unwrap();
        assert_eq!(found.outcome, Outcome::Taken);
        assert_eq!(found.identity(), Some(taken.clone()));
        records.forget_arrived(&taken).unwrap();
        assert!(records.find(&taken.migration).unwrap().is_none());
        assert!(records.find(b"../x").unwrap().is_none());

        let departed = Departed::new("192.0.2.1:7790".to_owned(), &taken);
        records.departed(&name, &departed).unwrap();
        let found = records.where_to(&name).unwrap().unwrap();
        assert_eq!(found.identity(), Some(taken));
        records.forget_departed(&name).unwrap();
        assert!(records.where_to(&name).unwrap().is_none());
    }
}
