//! How much is taken on at once: so many requests at work, so many waiting, so many octets held.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::rejection::{Ending, Rejection};
use crate::config::Limits;

/// Lets requests in, in the order in which they came.
#[derive(Debug)]
pub(super) struct Turnstile {
    workers: Arc<Semaphore>,
    queue: Semaphore,
}

/// The right to be worked on; held until the work is done.
pub(super) type Turn = OwnedSemaphorePermit;

impl Turnstile {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            workers: Arc::new(Semaphore::new(limits.concurrent_requests)),
            queue: Semaphore::new(limits.queue),
        }
    }

    /// Waits for a turn: not at all when the queue is full, and no longer than `deadline`.
    pub(super) async fn enter(&self, deadline: Instant) -> Result<Turn, Rejection> {
        if let Ok(turn) = self.workers.clone().try_acquire_owned() {
            return Ok(turn);
        }
        let _place = self.queue.try_acquire().map_err(|_| Rejection::QueueFull)?;
        timeout_at(deadline, self.workers.clone().acquire_owned())
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or(Rejection::QueueTime)
    }
}

/// The octets of all bodies that are held.
#[derive(Debug, Clone)]
pub(super) struct BodyMemory(Arc<Semaphore>);

impl BodyMemory {
    pub(super) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Semaphore::new(
            limits.body_memory.min(Semaphore::MAX_PERMITS),
        )))
    }

    /// Adds `octets` to what `held` stands for.
    pub(super) fn reserve(
        &self,
        octets: usize,
        held: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<(), Rejection> {
        let more = u32::try_from(octets)
            .ok()
            .and_then(|octets| self.0.clone().try_acquire_many_owned(octets).ok())
            .ok_or(Rejection::BodyMemory)?;
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        Ok(())
    }
}

/// Room for the connections of one listener.
#[derive(Debug)]
pub(super) struct Room {
    slots: Arc<Semaphore>,
    size: usize,
}

/// The place of one connection; held as long as it is open.
pub(super) type Slot = OwnedSemaphorePermit;

impl Room {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(limits.connections)),
            size: limits.connections,
        }
    }

    /// Waits until there is room for one more.
    pub(super) async fn slot(&self) -> Slot {
        let slot = self.slots.clone().acquire_owned().await;
        slot.expect("the semaphore is never closed")
    }

    /// Whether there is so little room left that no connection should be kept for later requests.
    pub(super) fn is_scarce(&self) -> bool {
        self.slots.available_permits() <= self.size / 8
    }
}

/// Connections by address, so that one peer can't use up what is there for all.
#[derive(Debug)]
pub(super) struct Addresses {
    connections: Mutex<HashMap<IpAddr, usize>>,
    most: usize,
}

impl Addresses {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            connections: Mutex::default(),
            most: limits.connections_per_address,
        })
    }

    /// Counts a connection from `address` until the value returned is dropped.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Admission, Ending> {
        let address = address.to_canonical();
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = connections.entry(address).or_insert(0);
        if *count >= self.most {
            return Err(Ending::ConnectionsPerAddress);
        }
        *count += 1;
        Ok(Admission {
            addresses: self.clone(),
            address,
        })
    }
}

/// One counted connection.
#[derive(Debug)]
pub(super) struct Admission {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut connections = self
            .addresses
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = connections.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_let_in_again_when_a_connection_ends_and_is_then_forgotten() {
        let limits = Limits {
            connections_per_address: 1,
            ..Limits::default()
        };
        let addresses = Addresses::new(&limits);
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let first = addresses.admit("192.0.2.1".parse().unwrap()).unwrap();
        assert_eq!(
            addresses.admit(mapped).unwrap_err(),
            Ending::ConnectionsPerAddress
        );
        drop(first);
        drop(addresses.admit(mapped).unwrap());
        assert!(addresses.connections.lock().unwrap().is_empty());
    }

    #[test]
    fn body_memory_is_given_back() {
        let memory = BodyMemory::new(&Limits {
            body_memory: 10,
            ..Limits::default()
        });
        let mut held = None;
        memory.reserve(6, &mut held).unwrap();
        memory.reserve(4, &mut held).unwrap();
        assert_eq!(memory.reserve(1, &mut None), Err(Rejection::BodyMemory));
        drop(held);
        assert_eq!(memory.reserve(10, &mut None), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_in_number_and_in_time() {
        let turnstile = Arc::new(Turnstile::new(&Limits {
            concurrent_requests: 1,
            queue: 1,
            ..Limits::default()
        }));
        let deadline = Instant::now() + std::time::Duration::from_secs(1);
        let at_work = turnstile.enter(deadline).await.unwrap();
        let waiting = {
            let turnstile = turnstile.clone();
            tokio::spawn(async move { turnstile.enter(deadline).await })
        };
        tokio::task::yield_now().await;
        assert_eq!(
            turnstile.enter(deadline).await.unwrap_err(),
            Rejection::QueueFull
        );
        assert_eq!(waiting.await.unwrap().unwrap_err(), Rejection::QueueTime);
        drop(at_work);
        assert!(turnstile.enter(deadline).await.is_ok());
    }
}
