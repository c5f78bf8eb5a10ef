//! The store of a guardian that runs, as asynchronous code sees it: each answer comes when the record is on the disk.

use std::convert::Infallible;
use std::ops::Deref;

use hgs_crypto::random::System;
use hgs_custody::seal::MasterKey;
use hgs_store::{
    Act, Attempted, AuditEntry, Committed, Failure, OpenError, Opening, Refusal, Store, StoreError,
    Transaction, master_key_file,
};
use tokio::sync::{mpsc, oneshot};

use super::GuardianError;
use crate::config::Config;

/// An open store, shared by all parts of a guardian.
pub(crate) struct OpenStore {
    store: Store,
    // Dropped after the store: the shutdown waits for it, and then finds the state closed.
    _open: mpsc::Sender<()>,
}

impl OpenStore {
    /// Opens the state that `config` names. It blocks.
    pub(crate) fn open(config: &Config, open: mpsc::Sender<()>) -> Result<Self, GuardianError> {
        let directory = config.state_folder();
        // Where there is a master key, its high-water mark tells a state that is gone from one that never was.
        if !Store::is_in(&directory) && !config.master_key_file().exists() {
            return Err(OpenError::NotInitialised { directory }.into());
        }
        // A rotation of the master key may have been interrupted.
        let master_key = master_key_file::read_settled(&config.master_key_file(), &directory);
        let master_key: MasterKey = master_key.map_err(|error| match error {
            OpenError::MasterKey(error) => GuardianError::MasterKey(error),
            other => GuardianError::Store(other),
        })?;
        let store = Store::open(Opening {
            directory: &directory,
            master_key: &master_key,
            node: &config.server.name,
            high_water_mark: config.high_water_mark_file(),
            random: Box::new(System::new()),
            order: None,
        })?;
        Ok(Self { store, _open: open })
    }

    /// Commits what a host has caused, such as that it has attested: all of it or nothing. The answer has the number of the last
    /// record.
    pub(crate) async fn commit(
        &self,
        transactions: Vec<Transaction>,
        act: Act,
    ) -> Result<Committed, Failure<Refusal>> {
        let (sender, receiver) = oneshot::channel();
        self.store.submit(transactions, act, move |result| {
            drop(sender.send(result));
        })?;
        receiver
            .await
            .unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// Records something that changes no state; the answer is the number of the record.
    pub(crate) async fn record(&self, entry: AuditEntry) -> Result<u64, StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.store
            .note(entry, move |result: Result<u64, Failure<Infallible>>| {
                drop(sender.send(result))
            })?;
        match receiver.await {
            Ok(Ok(sequence)) => Ok(sequence),
            Ok(Err(Failure::Store(error))) => Err(error),
            Ok(Err(Failure::Refused(never))) => match never {},
            Err(_) => Err(StoreError::Closed),
        }
    }

    /// Keeps how an attempt of a host to attest went that no transaction is the record of.
    pub(crate) async fn keep_attempt(&self, attempted: Attempted) -> Result<(), StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.store
            .keep_attempt(attempted, move |result: Result<(), Failure<Infallible>>| {
                drop(sender.send(result))
            })?;
        match receiver.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Failure::Store(error))) => Err(error),
            Ok(Err(Failure::Refused(never))) => match never {},
            Err(_) => Err(StoreError::Closed),
        }
    }
}

impl Deref for OpenStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}
