//! Overload control: bounds on the requests that are handled, the requests that wait, the connections, and the octets of
//! bodies.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::rejection::{CloseReason, Rejection};
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

impl From<&Peer> for Network {
    fn from(peer: &Peer) -> Self {
        match peer {
            Peer::Tcp(address) | Peer::Node(address) => address.ip().into(),
            Peer::Client(client) => client.address.ip().into(),
            Peer::Unix(_) => Self(None),
        }
    }
}

/// Limits how many requests are handled at once. The others wait: networks take turns, and the requests of one network
/// keep their order. So a peer that sends many requests waits for its
/// own, and other peers wait for one of them at most.
#[derive(Debug, Clone)]
pub(super) struct RequestLimiter(Arc<Mutex<Queue>>);

#[derive(Debug)]
struct Queue {
    /// Requests that may begin now.
    free_permits: usize,
    /// Requests that may still be queued.
    free_places: usize,
    waiting: HashMap<Network, VecDeque<Waiting>>,
    /// The networks that wait, in the order of their turns.
    order: VecDeque<Network>,
    next_number: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    permit: oneshot::Sender<RequestPermit>,
}

/// Allows one request to be handled; goes to the next one in the queue when it is dropped.
#[derive(Debug)]
pub(super) struct RequestPermit(RequestLimiter);

impl Drop for RequestPermit {
    fn drop(&mut self) {
        let next = {
            let mut queue = self.0.lock();
            let next = queue.next();
            if next.is_none() {
                queue.free_permits += 1;
            }
            next
        };
        if let Some(waiting) = next {
            // A request that was given up meanwhile drops the permit, which goes to the next one.
            let _ = waiting.permit.send(Self(self.0.clone()));
        }
    }
}

impl Queue {
    fn next(&mut self) -> Option<Waiting> {
        let network = self.order.pop_front()?;
        let of_network = self.waiting.get_mut(&network)?;
        let next = of_network.pop_front();
        self.free_places += 1;
        if of_network.is_empty() {
            self.waiting.remove(&network);
        } else {
            self.order.push_back(network);
        }
        next
    }

    /// Makes place in the queue for a request of `network`, at the cost of the newest one of the network that has
    /// the most waiting.
    fn evict_for(&mut self, network: Network) -> bool {
        let own = self.waiting.get(&network).map_or(0, VecDeque::len);
        let longest = self
            .waiting
            .iter()
            .max_by_key(|(_, of_network)| of_network.len());
        match longest.map(|(network, of_network)| (*network, of_network.len())) {
            Some((longest, length)) if length > own + 1 => {
                if let Some(of_network) = self.waiting.get_mut(&longest) {
                    drop(of_network.pop_back());
                    self.free_places += 1;
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
        self.free_places += before - of_network.len();
        if of_network.is_empty() {
            self.waiting.remove(&network);
            self.order.retain(|other| *other != network);
        }
    }
}

impl RequestLimiter {
    pub(super) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Mutex::new(Queue {
            free_permits: limits.concurrent_requests,
            free_places: limits.queue,
            waiting: HashMap::new(),
            order: VecDeque::new(),
            next_number: 0,
        })))
    }

    /// Waits for a permit: not at all when the queue is full, and no longer than `deadline`.
    pub(super) async fn acquire(
        &self,
        network: Network,
        deadline: Instant,
    ) -> Result<RequestPermit, Rejection> {
        let (number, permit) = {
            let mut queue = self.lock();
            if queue.free_permits > 0 {
                queue.free_permits -= 1;
                return Ok(RequestPermit(self.clone()));
            }
            if queue.free_places == 0 && !queue.evict_for(network) {
                return Err(Rejection::QueueFull);
            }
            queue.free_places -= 1;
            queue.next_number += 1;
            let number = queue.next_number;
            let (sender, receiver) = oneshot::channel();
            if !queue.waiting.contains_key(&network) {
                queue.order.push_back(network);
            }
            let of_network = queue.waiting.entry(network).or_default();
            of_network.push_back(Waiting {
                number,
                permit: sender,
            });
            (number, receiver)
        };
        match timeout_at(deadline, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            // A request of another network has taken its place in the queue.
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

/// Bounds the octets of all bodies that are in memory, for all peers together and for each network.
#[derive(Debug, Clone)]
pub(super) struct BodyMemory(Arc<Mutex<BodyMemoryUse>>);

#[derive(Debug)]
struct BodyMemoryUse {
    free: usize,
    /// What is free for large bodies: half of all, so that they leave room for others.
    free_for_large: usize,
    by_network: HashMap<Network, usize>,
    most: usize,
}

/// The memory of one body; free again when it is dropped.
#[derive(Debug)]
pub(super) struct BodyReservation {
    memory: BodyMemory,
    network: Network,
    octets: usize,
    /// How many of them belong to a large body.
    large: usize,
    is_large: bool,
}

impl BodyMemory {
    pub(super) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Mutex::new(BodyMemoryUse {
            free: limits.body_memory,
            free_for_large: limits.body_memory / 2,
            by_network: HashMap::new(),
            most: limits.body_memory_per_address,
        })))
    }

    /// A reservation for a body of `network`, of no octets yet.
    pub(super) fn reserve(&self, network: Network) -> BodyReservation {
        BodyReservation {
            memory: self.clone(),
            network,
            octets: 0,
            large: 0,
            is_large: false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BodyMemoryUse> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BodyReservation {
    /// Reserves `octets` more.
    pub(super) fn grow(&mut self, octets: usize) -> Result<(), Rejection> {
        let mut usage = self.memory.lock();
        let of_network = usage.by_network.get(&self.network).copied().unwrap_or(0);
        if self.is_large && octets > usage.free_for_large {
            return Err(Rejection::BodyMemory);
        }
        if octets > usage.free || octets > usage.most.saturating_sub(of_network) {
            return Err(Rejection::BodyMemory);
        }
        usage.free -= octets;
        usage.by_network.insert(self.network, of_network + octets);
        self.octets += octets;
        if self.is_large {
            usage.free_for_large -= octets;
            self.large += octets;
        }
        Ok(())
    }

    /// From now on the octets belong to a large body.
    pub(super) fn become_large(&mut self) {
        self.is_large = true;
    }
}

impl Drop for BodyReservation {
    fn drop(&mut self) {
        let mut usage = self.memory.lock();
        usage.free += self.octets;
        usage.free_for_large += self.large;
        if let Some(of_network) = usage.by_network.get_mut(&self.network) {
            *of_network -= self.octets;
            if *of_network == 0 {
                usage.by_network.remove(&self.network);
            }
        }
    }
}

/// Limits how many connections one listener has open at once.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    permits: Arc<Semaphore>,
    size: usize,
}

/// Held by a connection as long as it is open.
pub(super) type ConnectionPermit = OwnedSemaphorePermit;

impl ConnectionLimit {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(limits.connections)),
            size: limits.connections,
        }
    }

    /// Waits until one more connection may be open.
    pub(super) async fn acquire(&self) -> ConnectionPermit {
        let permit = self.permits.clone().acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }

    /// Whether so few are left that no connection should be kept open for later requests.
    pub(super) fn is_nearly_reached(&self) -> bool {
        self.permits.available_permits() <= self.size / 8
    }
}

/// Counts connections by network, so that one peer can't use up what is there for all.
#[derive(Debug)]
pub(super) struct ConnectionCounts {
    connections: Mutex<HashMap<Network, usize>>,
    most: usize,
}

impl ConnectionCounts {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            connections: Mutex::default(),
            most: limits.connections_per_address,
        })
    }

    /// Counts a connection from `address` until the value returned is dropped.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Admission, CloseReason> {
        let network = Network::from(address);
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = connections.entry(network).or_insert(0);
        if *count >= self.most {
            return Err(CloseReason::ConnectionsPerAddress);
        }
        *count += 1;
        Ok(Admission {
            counts: self.clone(),
            network,
        })
    }
}

/// One counted connection.
#[derive(Debug)]
pub(super) struct Admission {
    counts: Arc<ConnectionCounts>,
    network: Network,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut connections = self
            .counts
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
        let counts = ConnectionCounts::new(&limits);
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let first = counts.admit("192.0.2.1".parse().unwrap()).unwrap();
        assert_eq!(
            counts.admit(mapped).unwrap_err(),
            CloseReason::ConnectionsPerAddress
        );
        drop(first);
        drop(counts.admit(mapped).unwrap());
        assert!(counts.connections.lock().unwrap().is_empty());
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

        let counts = ConnectionCounts::new(&Limits {
            connections_per_address: 1,
            ..Limits::default()
        });
        let _first = counts.admit("2001:db8::1".parse().unwrap()).unwrap();
        let second = counts.admit("2001:db8::2".parse().unwrap());
        assert_eq!(second.unwrap_err(), CloseReason::ConnectionsPerAddress);
    }

    #[test]
    fn body_memory_is_given_back() {
        let memory = BodyMemory::new(&Limits {
            body_memory: 10,
            body_memory_per_address: 10,
            ..Limits::default()
        });
        let (one, other) = (network("192.0.2.1"), network("192.0.2.2"));
        let mut held = memory.reserve(one);
        held.grow(6).unwrap();
        held.grow(4).unwrap();
        assert_eq!(memory.reserve(other).grow(1), Err(Rejection::BodyMemory));
        drop(held);
        assert_eq!(memory.reserve(other).grow(10), Ok(()));
        let usage = memory.lock();
        assert!(usage.by_network.is_empty() && usage.free == 10);
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
        let mut bodies: Vec<BodyReservation> = (0..4).map(|_| memory.reserve(one)).collect();
        for body in &mut bodies {
            body.grow(1).unwrap();
        }
        let mut more = memory.reserve(network("2001:db8::2"));
        assert_eq!(more.grow(1), Err(Rejection::BodyMemory));
        assert_eq!(memory.reserve(network("2001:db8:1::")).grow(4), Ok(()));
        bodies.pop();
        assert_eq!(more.grow(1), Ok(()));
    }

    /// Hosts that send their logs leave half of the memory to all others.
    #[test]
    fn large_bodies_have_half_of_the_memory_and_give_it_back() {
        let memory = BodyMemory::new(&Limits {
            body_memory: 10,
            body_memory_per_address: 10,
            ..Limits::default()
        });
        let mut large = memory.reserve(network("192.0.2.1"));
        large.grow(1).unwrap();
        large.become_large();
        assert_eq!(large.grow(5), Ok(()));
        assert_eq!(large.grow(1), Err(Rejection::BodyMemory));
        assert_eq!(memory.reserve(network("192.0.2.2")).grow(4), Ok(()));
        drop(large);
        let usage = memory.lock();
        assert!(usage.free_for_large == 5 && usage.free == 10);
    }

    /// Without taking turns, an honest request would wait for all that a flood has put before it.
    #[tokio::test(start_paused = true)]
    async fn networks_take_turns() {
        let limiter = RequestLimiter::new(&Limits {
            concurrent_requests: 1,
            ..Limits::default()
        });
        let deadline = Instant::now() + std::time::Duration::from_secs(1);
        let (flood, honest) = (network("192.0.2.1"), network("192.0.2.2"));
        let at_work = limiter.acquire(flood, deadline).await.unwrap();
        let served = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for network in [flood, flood, flood, honest, honest] {
            let (limiter, served) = (limiter.clone(), served.clone());
            tasks.spawn(async move {
                let _permit = limiter.acquire(network, deadline).await.unwrap();
                served.lock().unwrap().push(network);
            });
            tokio::task::yield_now().await;
        }
        drop(at_work);
        tasks.join_all().await;
        let served = served.lock().unwrap();
        assert_eq!(*served, [flood, honest, flood, honest, flood]);
        let queue = limiter.lock();
        assert!(queue.free_permits == 1 && queue.waiting.is_empty() && queue.order.is_empty());
        assert_eq!(queue.free_places, Limits::default().queue);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_turns_away_the_network_that_fills_it() {
        let limiter = RequestLimiter::new(&Limits {
            concurrent_requests: 1,
            queue: 3,
            ..Limits::default()
        });
        let deadline = Instant::now() + std::time::Duration::from_secs(1);
        let (flood, honest) = (network("192.0.2.1"), network("192.0.2.2"));
        let at_work = limiter.acquire(flood, deadline).await.unwrap();
        let acquire = |network| {
            let limiter = limiter.clone();
            tokio::spawn(async move { limiter.acquire(network, deadline).await.map(drop) })
        };
        let waiting = [flood, flood, flood].map(acquire);
        tokio::task::yield_now().await;
        let refused = limiter.acquire(flood, deadline).await;
        assert_eq!(refused.unwrap_err(), Rejection::QueueFull);
        let honest = acquire(honest);
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
        let limiter = RequestLimiter::new(&Limits {
            concurrent_requests: 1,
            queue: 1,
            ..Limits::default()
        });
        let one = network("192.0.2.1");
        let deadline = Instant::now() + std::time::Duration::from_secs(1);
        let at_work = limiter.acquire(one, deadline).await.unwrap();
        let waiting = {
            let limiter = limiter.clone();
            tokio::spawn(async move { limiter.acquire(one, deadline).await })
        };
        tokio::task::yield_now().await;
        assert_eq!(
            limiter.acquire(one, deadline).await.unwrap_err(),
            Rejection::QueueFull
        );
        assert_eq!(waiting.await.unwrap().unwrap_err(), Rejection::QueueTime);
        drop(at_work);
        assert!(limiter.acquire(one, deadline).await.is_ok());
    }
}
