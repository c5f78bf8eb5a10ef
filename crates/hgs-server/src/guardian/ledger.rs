//! The store as asynchronous code sees it: each answer comes when the record is on the disk.

use hgs_store::{
    Act, AuditEntry, Committed, Failure, Never, Recorded, Refusal, Release, ReleaseRefusal, Store,
    StoreError, Transaction,
};
use tokio::sync::oneshot;

/// Records a release; the answer is its proof.
pub(crate) async fn release(
    store: &Store,
    release: Release,
) -> Result<Recorded, Failure<ReleaseRefusal>> {
    let (sender, receiver) = oneshot::channel();
    store.release(release, move |result| drop(sender.send(result)))?;
    receiver
        .await
        .unwrap_or_else(|_| Err(StoreError::Closed.into()))
}

/// Carries out what a host has caused: that it has attested, or that a superseded identity key came back.
pub(crate) async fn transact(
    store: &Store,
    transaction: Transaction,
    act: Act,
) -> Result<Committed, Failure<Refusal>> {
    let (sender, receiver) = oneshot::channel();
    store.submit(vec![transaction], act, move |result| {
        drop(sender.send(result));
    })?;
    receiver
        .await
        .unwrap_or_else(|_| Err(StoreError::Closed.into()))
}

/// Records something that changes no state; the answer is the number of the record.
pub(crate) async fn note(store: &Store, entry: AuditEntry) -> Result<u64, StoreError> {
    let (sender, receiver) = oneshot::channel();
    store.note(entry, move |result: Result<u64, Failure<Never>>| {
        drop(sender.send(result))
    })?;
    match receiver.await {
        Ok(Ok(sequence)) => Ok(sequence),
        Ok(Err(Failure::Store(error))) => Err(error),
        Ok(Err(Failure::Refused(never))) => match never {},
        Err(_) => Err(StoreError::Closed),
    }
}
