//! From the name of a host to its addresses.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use crate::url::Host;

/// Resolves names; tests bring their own.
pub trait Resolve: Debug + Send + Sync {
    /// The addresses of `host`, in the resolver's order of preference.
    ///
    /// # Errors
    /// When the name does not exist or the resolver fails.
    fn resolve<'a>(&'a self, host: &'a Host, port: u16) -> Addresses<'a>;
}

/// Addresses that are being looked up.
pub type Addresses<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// The operating system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a Host, port: u16) -> Addresses<'a> {
        Box::pin(async move {
            match host {
                Host::Address(address) => Ok(vec![SocketAddr::new(*address, port)]),
                Host::Name(name) => {
                    let addresses = tokio::net::lookup_host((name.as_str(), port)).await?;
                    Ok(addresses.collect())
                }
            }
        })
    }
}
