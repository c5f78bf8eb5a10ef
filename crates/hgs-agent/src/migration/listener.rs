//! The port at which other agents bring VMs.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hgs_client::Fault;
use hgs_crypto::hash::{Sha256Digest, sha256};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use super::authority::Authority;
use super::channel::Channel;
use super::destination;
use super::message::{Answer, Command, LIMIT, Opening, Outcome, Question};
use super::pairing::{Arrival, Credentials, refuse};
use super::records::Records;
use super::wiring::{DATA_MAGIC, TOKEN};
use crate::failure::blocking;
use crate::service::Service;
use crate::wire::AgentFailure;

/// The port at which agents listen for each other.
pub const DEFAULT_PORT: u16 = 7790;
/// Connections of which nothing is proved yet; more wait in the kernel.
const STRANGERS: usize = 16;
/// VMs that arrive at once.
const ARRIVALS: usize = 4;
/// How long a connection may take to say what it is for.
const OPENING: Duration = Duration::from_secs(10);
/// How long the agent waits before it accepts again when the system could not.
const PAUSE: Duration = Duration::from_millis(100);

/// The connections that VMs wait for which are on their way.
#[derive(Debug, Default)]
pub(crate) struct Expected(Mutex<HashMap<Sha256Digest, mpsc::Sender<TcpStream>>>);

impl Expected {
    fn lock(&self) -> MutexGuard<'_, HashMap<Sha256Digest, mpsc::Sender<TcpStream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, a connection that begins with `token` is passed on; one only.
    pub(crate) fn expect(&self, token: &[u8]) -> mpsc::Receiver<TcpStream> {
        let (sender, receiver) = mpsc::channel(1);
        self.lock().insert(sha256(token), sender);
        receiver
    }

    pub(crate) fn forget(&self, token: &[u8]) {
        self.lock().remove(&sha256(token));
    }

    fn pass_on(&self, token: &[u8], connection: TcpStream) {
        if let Some(waiting) = self.lock().remove(&sha256(token)) {
            let _ = waiting.try_send(connection);
        }
    }
}

/// Takes what other agents bring.
pub(crate) struct Listener {
    service: Arc<Service>,
    expected: Arc<Expected>,
    strangers: Arc<Semaphore>,
    arrivals: Semaphore,
    /// Made in advance, for making keys takes time that a stranger should not cost. The first that is none uses it up.
    authority: tokio::sync::Mutex<Option<Arc<Authority>>>,
}

impl Listener {
    pub(crate) fn new(service: Arc<Service>) -> Self {
        Self {
            service,
            expected: Arc::default(),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            arrivals: Semaphore::new(ARRIVALS),
            authority: tokio::sync::Mutex::default(),
        }
    }

    /// Works until it is dropped. A VM that is on its way then is the source's again.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let this = Arc::new(self);
        let mut connections = tokio::task::JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let place = Arc::clone(&this.strangers).acquire_owned().await;
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let this = Arc::clone(&this);
                    connections.spawn(async move {
                        let place = Mutex::new(Some(place));
                        let paired = || drop(place.lock().map(|mut place| place.take()));
                        if let Err(failure) = this.converse(stream, paired).await {
                            tracing::info!(%peer, %failure, "a connection of another host came to nothing");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection of another host could not be accepted");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn converse(&self, mut stream: TcpStream, paired: impl Fn()) -> Result<(), AgentFailure> {
        let late = || {
            AgentFailure::failed("it did not say in time what it is for").at_fault(Fault::Network)
        };
        let mut first = [0];
        let peeked = timeout(OPENING, stream.peek(&mut first)).await;
        if peeked.map_err(|_| late())?.map_err(AgentFailure::failed)? == 0 {
            return Ok(());
        }
        if first[0] == DATA_MAGIC[0] {
            let mut opening = [0; DATA_MAGIC.len() + TOKEN];
            let read = timeout(OPENING, stream.read_exact(&mut opening)).await;
            read.map_err(|_| late())?.map_err(AgentFailure::failed)?;
            if let Some(token) = opening.strip_prefix(DATA_MAGIC) {
                self.expected.pass_on(token, stream);
            }
            return Ok(());
        }
        let authority = self.authority().await?;
        let (arrival, opening) = Arrival::receive(stream, authority).await?;
        match opening {
            Opening::Question(question) => self.answer(question, arrival.into_channel()).await,
            Opening::Offer(greeting) => {
                let Ok(_place) = self.arrivals.try_acquire() else {
                    let full = AgentFailure::failed(format_args!(
                        "{ARRIVALS} VMs arrive at this host already"
                    ));
                    let mut channel = arrival.into_channel();
                    return Err(refuse(&mut channel, full.at_fault(Fault::Host)).await);
                };
                let host = &self.service.surroundings().host;
                let credentials = match Credentials::of(host).await {
                    Ok(credentials) => credentials,
                    Err(failure) => {
                        return Err(refuse(&mut arrival.into_channel(), failure).await);
                    }
                };
                let incoming = arrival.offer(&greeting, &credentials).await?;
                // The next one gets keys of its own.
                *self.authority.lock().await = None;
                destination::take(&self.service, &self.expected, incoming, paired).await
            }
        }
    }

    async fn authority(&self) -> Result<Arc<Authority>, AgentFailure> {
        let mut place = self.authority.lock().await;
        if let Some(authority) = &*place {
            return Ok(Arc::clone(authority));
        }
        let made = Arc::new(blocking(Authority::new).await?);
        *place = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Tells the source of a migration how it ended.
    async fn answer(&self, question: Question, mut channel: Channel) -> Result<(), AgentFailure> {
        let records = Records::in_state(&self.service.surroundings().folders.host.state);
        let found = records.find(&question.migration.0)?;
        let known = match found.and_then(|record| Some((record.identity()?, record))) {
            // Only its source is told, and decides by asking.
            Some((identity, record))
                if record.libvirt && identity.settle(&question, record.outcome).is_some() =>
            {
                let outcome = self.service.settle_arrival(&record, &identity).await?;
                Some((identity, outcome))
            }
            known => known.map(|(identity, record)| (identity, record.outcome)),
        };
        let settled = known.and_then(|(identity, outcome)| {
            Some((identity.settle(&question, outcome)?, identity, outcome))
        });
        let Some((settlement, identity, outcome)) = settled else {
            let unknown = AgentFailure::failed("this host knows of no such migration")
                .at_fault(Fault::Host)
                .remedy("if this host has lost what it knew and does not run the VM, have it go on with `guarded-host vm reclaim` where it was");
            return Err(refuse(&mut channel, unknown).await);
        };
        channel.send(&Answer::Done(settlement)).await?;
        if let Ok(Command::Forget) = channel.receive(LIMIT).await
            && outcome != Outcome::Pending
        {
            records.forget_arrived(&identity)?;
        }
        Ok(())
    }
}

/// Listens at an address.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, AgentFailure> {
    TcpListener::bind(address).await.map_err(|error| {
        AgentFailure::failed(format_args!("{address}: {error}"))
            .at_fault(Fault::Operator)
            .remedy("give another address with `--listen`")
    })
}
