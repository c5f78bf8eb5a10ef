//! How much is taken on at once: so many requests at work, so many waiting, so many octets held.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::rejection::{Ending, Rejection};
use super::service::Peer;
use crate::config::Limits;

/// The part of the network that limits for one peer apply to: an IPv4 address, or the 64 bits of an IPv6 address within
/// which a peer chooses its addresses itself. Peers of a Unix socket are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Network(Option<IpAddr>);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(Some(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
            }
        }))
    }
}

impl From<Peer> for Network {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Tcp(address) => address.ip().into(),
            Peer::Unix(_) => Self(None),
        }
    }
}

/// Lets requests in: networks take turns, and within each the requests keep their order. So a peer that asks for much
/// waits for itself, and others wait for one of its requests at most.
#[derive(Debug, Clone)]
pub(super) struct Turnstile(Arc<Mutex<Queue>>);

#[derive(Debug)]
struct Queue {
    /// Requests that may be let in at once.
    free: usize,
    /// Requests that may still wait.
    room: usize,
    waiting: HashMap<Network, VecDeque<Waiting>>,
    /// The networks that wait, in the order of their turns.
    order: VecDeque<Network>,
    next_number: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    turn: oneshot::Sender<Turn>,
}

/// The right to be worked on; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Turnstile);

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut queue = self.0.lock();
            let next = queue.next();
            if next.is_none() {
                queue.free += 1;
            }
            next
        };
        if let Some(waiting) = next {
            // A request that was given up meanwhile drops the turn, which goes to the next one.
            let _ = waiting.turn.send(Self(self.0.clone()));
        }
    }
}

impl Queue {
    fn next(&mut self) -> Option<Waiting> {
        let network = self.order.pop_front()?;
        let of_network = self.waiting.get_mut(&network)?;
        let next = of_network.pop_front();
        self.room += 1;
        if of_network.is_empty() {
            self.waiting.remove(&network);
        } else {
            self.order.push_back(network);
        }
        next
    }

    /// Makes room for a request of `network`, at the cost of the newest one of the network that has the most waiting.
    fn make_room(&mut self, network: Network) -> bool {
        let own = self.waiting.get(&network).map_or(0, VecDeque::len);
        let longest = self
            .waiting
            .iter()
            .max_by_key(|(_, of_network)| of_network.len());
        match longest.map(|(network, of_network)| (*network, of_network.len())) {
            Some((longest, length)) if length > own + 1 => {
                if let Some(of_network) = self.waiting.get_mut(&longest) {
                    drop(of_network.pop_back());
                    self.room += 1;
                }
                true
            }
            _ => false,
        }
    }

    fn give_up(&mut self, network: Network, number: u64) {
        let Some(of_network) = self.waiting.get_mut(&network) else {
            return;
        };
        let before = of_network.len();
        of_network.retain(|waiting| waiting.number != number);
        self.room += before - of_network.len();
        if of_network.is_empty() {
            self.waiting.remove(&network);
            self.order.retain(|other| *other != network);
        }
    }
}

impl Turnstile {
    pub(super) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Mutex::new(Queue {
            free: limits.concurrent_requests,
            room: limits.queue,
            waiting: HashMap::new(),
            order: VecDeque::new(),
            next_number: 0,
        })))
    }

    /// Waits for a turn: not at all when the queue is full, and no longer than `deadline`.
    pub(super) async fn enter(
        &self,
        network: Network,
        deadline: Instant,
    ) -> Result<Turn, Rejection> {
        let (number, turn) = {
            let mut queue = self.lock();
            if queue.free > 0 {
                queue.free -= 1;
                return Ok(Turn(self.clone()));
            }
            if queue.room == 0 && !queue.make_room(network) {
                return Err(Rejection::QueueFull);
            }
            queue.room -= 1;
            queue.next_number += 1;
            let number = queue.next_number;
            let (sender, receiver) = oneshot::channel();
            if !queue.waiting.contains_key(&network) {
                queue.order.push_back(network);
            }
            let of_network = queue.waiting.entry(network).or_default();
            of_network.push_back(Waiting {
                number,
                turn: sender,
            });
            (number, receiver)
        };
        match timeout_at(deadline, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            // Another network needed the place.
            Ok(Err(_)) => Err(Rejection::QueueFull),
            Err(_) => {
                self.lock().give_up(network, number);
                Err(Rejection::QueueTime)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The octets of all bodies that are held.
#[derive(Debug, Clone)]
pub(super) struct BodyMemory(Arc<Mutex<Held>>);

#[derive(Debug)]
struct Held {
    free: usize,
    by_network: HashMap<Network, usize>,
    most: usize,
}

/// Memory for one body; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    memory: BodyMemory,
    network: Network,
    octets: usize,
}

impl BodyMemory {
    pub(super) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Mutex::new(Held {
            free: limits.body_memory,
            by_network: HashMap::new(),
            most: limits.body_memory_per_address,
        })))
    }

    /// Memory for a body of `network`, none of which is taken yet.
    pub(super) fn begin(&self, network: Network) -> Reserved {
        Reserved {
            memory: self.clone(),
            network,
            octets: 0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved {
    /// Takes so many octets more.
    pub(super) fn add(&mut self, octets: usize) -> Result<(), Rejection> {
        let mut held = self.memory.lock();
        let of_network = held.by_network.get(&self.network).copied().unwrap_or(0);
        if octets > held.free || octets > held.most.saturating_sub(of_network) {
            return Err(Rejection::BodyMemory);
        }
        held.free -= octets;
        held.by_network.insert(self.network, of_network + octets);
        self.octets += octets;
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut held = self.memory.lock();
        held.free += self.octets;
        if let Some(of_network) = held.by_network.get_mut(&self.network) {
            *of_network -= self.octets;
            if *of_network == 0 {
                held.by_network.remove(&self.network);
            }
        }
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

/// Connections by network, so that one peer can't use up what is there for all.
#[derive(Debug)]
pub(super) struct Addresses {
    connections: Mutex<HashMap<Network, usize>>,
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
        let network = Network::from(address);
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = connections.entry(network).or_insert(0);
        if *count >= self.most {
            return Err(Ending::ConnectionsPerAddress);
        }
        *count += 1;
        Ok(Admission {
            addresses: self.clone(),
            network,
        })
    }
}

/// One counted connection.
#[derive(Debug)]
pub(super) struct Admission {
    addresses: Arc<Addresses>,
    network: Network,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut connections = self
            .addresses
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = connections.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.network);
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

    fn network(address: &str) -> Network {
        address.parse::<IpAddr>().unwrap().into()
    }

    /// A peer that has a /64 of its own has 2^64 addresses.
    #[test]
    fn ipv6_addresses_of_one_64_bit_prefix_are_one_network() {
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));

        let addresses = Addresses::new(&Limits {
            connections_per_address: 1,
            ..Limits::default()
        });
        let _first = addresses.admit("2001:db8::1".parse().unwrap()).unwrap();
        let second = addresses.admit("2001:db8::2".parse().unwrap());
        assert_eq!(second.unwrap_err(), Ending::ConnectionsPerAddress);
    }

    #[test]
    fn body_memory_is_given_back() {
        let memory = BodyMemory::new(&Limits {
            body_memory: 10,
            body_memory_per_address: 10,
            ..Limits::default()
        });
        let (one, other) = (network("192.0.2.1"), network("192.0.2.2"));
        let mut held = memory.begin(one);
        held.add(6).unwrap();
        held.add(4).unwrap();
        assert_eq!(memory.begin(other).add(1), Err(Rejection::BodyMemory));
        drop(held);
        assert_eq!(memory.begin(other).add(10), Ok(()));
        let held = memory.lock();
        assert!(held.by_network.is_empty() && held.free == 10);
    }

    /// 515 unfinished bodies of one peer took all the memory there is for bodies.
    #[test]
    fn one_network_has_its_share_of_body_memory_and_no_more() {
        let memory = BodyMemory::new(&Limits {
            body_memory: 10,
            body_memory_per_address: 4,
            ..Limits::default()
        });
        let one = network("2001:db8::1");
        let mut bodies: Vec<Reserved> = (0..4).map(|_| memory.begin(one)).collect();
        for body in &mut bodies {
            body.add(1).unwrap();
        }
        let mut more = memory.begin(network("2001:db8::2"));
        assert_eq!(more.add(1), Err(Rejection::BodyMemory));
        assert_eq!(memory.begin(network("2001:db8:1::")).add(4), Ok(()));
        bodies.pop();
        assert_eq!(more.add(1), Ok(()));
    }

    /// Without taking turns, an honest request would wait for all that a flood has put before it.
    #[tokio::test(start_paused = true)]
    async fn networks_take_turns() {
        let turnstile = Turnstile::new(&Limits {
            concurrent_requests: 1,
            ..Limits::default()
        });
        let deadline = Instant::now() + std::time::Duration::from_secs(1);
        let (flood, honest) = (network("192.0.2.1"), network("192.0.2.2"));
        let at_work = turnstile.enter(flood, deadline).await.unwrap();
        let served = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for network in [flood, flood, flood, honest, honest] {
            let (turnstile, served) = (turnstile.clone(), served.clone());
            tasks.spawn(async move {
                let _turn = turnstile.enter(network, deadline).await.unwrap();
                served.lock().unwrap().push(network);
            });
            tokio::task::yield_now().await;
        }
        drop(at_work);
        tasks.join_all().await;
        let served = served.lock().unwrap();
        assert_eq!(*served, [flood, honest, flood, honest, flood]);
        let queue = turnstile.lock();
        assert!(queue.free == 1 && queue.waiting.is_empty() && queue.order.is_empty());
        assert_eq!(queue.room, Limits::default().queue);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_turns_away_the_network_that_fills_it() {
        let turnstile = Turnstile::new(&Limits {
            concurrent_requests: 1,
            queue: 3,
            ..Limits::default()
        });
        let deadline = Instant::now() + std::time::Duration::from_secs(1);
        let (flood, honest) = (network("192.0.2.1"), network("192.0.2.2"));
        let at_work = turnstile.enter(flood, deadline).await.unwrap();
        let enter = |network| {
            let turnstile = turnstile.clone();
            tokio::spawn(async move { turnstile.enter(network, deadline).await.map(drop) })
        };
        let waiting = [flood, flood, flood].map(enter);
        tokio::task::yield_now().await;
        let refused = turnstile.enter(flood, deadline).await;
        assert_eq!(refused.unwrap_err(), Rejection::QueueFull);
        let honest = enter(honest);
        tokio::task::yield_now().await;
        drop(at_work);
        assert_eq!(honest.await.unwrap(), Ok(()));
        let mut outcomes = Vec::new();
        for waiting in waiting {
            outcomes.push(waiting.await.unwrap());
        }
        assert_eq!(outcomes, [Ok(()), Ok(()), Err(Rejection::QueueFull)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_in_number_and_in_time() {
        let turnstile = Turnstile::new(&Limits {
            concurrent_requests: 1,
            queue: 1,
            ..Limits::default()
        });
        let one = network("192.0.2.1");
        let deadline = Instant::now() + std::time::Duration::from_secs(1);
        let at_work = turnstile.enter(one, deadline).await.unwrap();
        let waiting = {
            let turnstile = turnstile.clone();
            tokio::spawn(async move { turnstile.enter(one, deadline).await })
        };
        tokio::task::yield_now().await;
        assert_eq!(
            turnstile.enter(one, deadline).await.unwrap_err(),
            Rejection::QueueFull
        );
        assert_eq!(waiting.await.unwrap().unwrap_err(), Rejection::QueueTime);
        drop(at_work);
        assert!(turnstile.enter(one, deadline).await.is_ok());
    }
}
