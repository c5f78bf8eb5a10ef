//! A node: what it is called, and where it is reached.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The port of the cluster listener unless another is named.
pub const DEFAULT_PORT: u16 = 2382;
/// The longest name of a node. It stands in keys, certificates and audit records.
const MAX_NAME: usize = 63;
/// The longest name of a machine in the DNS.
const MAX_HOST: usize = 253;

/// What a node is called: small letters, digits, `-` and `.`, beginning with a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// Where the machine of a node is reached: an IP address, or a name in the DNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// By its address.
    Address(IpAddr),
    /// By its name.
    Name(String),
}

/// A host and the port of its cluster listener. etcd listens on the two ports below: 2379 for clients and 2380 for its
/// other members, where the cluster listener has 2382.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeAddress {
    /// The machine.
    pub host: Host,
    /// The port of the cluster listener.
    pub port: u16,
}

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// What it is called.
    pub name: NodeName,
    /// Where it is reached.
    pub address: NodeAddress,
}

/// A text that does not name a node or its address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a name.
    #[error(
        "{0:?} can't be the name of a node: it has up to {MAX_NAME} small letters, digits, `-` and `.`, and begins with a letter or digit"
    )]
    Name(String),
    /// Not a host.
    #[error("{0:?} is neither an IP address nor the name of a machine")]
    Host(String),
    /// An address under which no other machine reaches this one.
    #[error(
        "{0} is not the address of one machine: name the one under which the other nodes reach this one"
    )]
    Unspecified(IpAddr),
    /// Not a port.
    #[error("{0:?} is no port: the cluster listener has one from 1024 to 65535")]
    Port(String),
}

impl NodeName {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let is_letter =
            |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
        let fits = |character: char| is_letter(character) || "-.".contains(character);
        match text.starts_with(is_letter) && text.len() <= MAX_NAME && text.chars().all(fits) {
            true => Ok(Self(text.to_owned())),
            false => Err(AddressError::Name(text.to_owned())),
        }
    }
}

impl FromStr for Host {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>() {
            return match address.is_unspecified() || address.is_multicast() {
                true => Err(AddressError::Unspecified(address)),
                false => Ok(Self::Address(address)),
            };
        }
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .chars()
                    .all(|character| character.is_ascii_alphanumeric() || character == '-')
        };
        // A last label of digits would be read as an IPv4 address.
        let last_is_number = text
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|octet| octet.is_ascii_digit()));
        match text.len() <= MAX_HOST && text.split('.').all(is_label) && !last_is_number {
            true => Ok(Self::Name(text.to_ascii_lowercase())),
            false => Err(AddressError::Host(text.to_owned())),
        }
    }
}

impl FromStr for NodeAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.parse::<Ipv6Addr>().is_ok() {
            let host = text.parse()?;
            return Ok(Self {
                host,
                port: DEFAULT_PORT,
            });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => {
                let port = port.parse().ok().filter(|port| *port >= 1024);
                (
                    host,
                    port.ok_or_else(|| AddressError::Port(text.to_owned()))?,
                )
            }
            None => (text, DEFAULT_PORT),
        };
        Ok(Self {
            host: host.parse()?,
            port,
        })
    }
}

impl NodeAddress {
    /// The host with another port, as URLs write it.
    fn with_port(&self, port: u16) -> String {
        format!("{}:{port}", self.host)
    }

    /// Where etcd listens for clients: host and port.
    #[must_use]
    pub fn etcd_clients(&self) -> String {
        self.with_port(self.port - 3)
    }

    /// Where etcd listens for its other members, as a URL.
    #[must_use]
    pub fn etcd_peer_url(&self) -> String {
        format!("https://{}", self.with_port(self.port - 2))
    }

    /// What etcd listens on, for clients and for its other members: it wants addresses, and no names.
    pub(crate) fn etcd_listens(&self) -> [String; 2] {
        let host = match &self.host {
            Host::Address(_) => self.host.to_string(),
            Host::Name(_) => "0.0.0.0".to_owned(),
        };
        [self.port - 3, self.port - 2].map(|port| format!("https://{host}:{port}"))
    }

    /// Where etcd listens for clients, as a URL.
    #[must_use]
    pub fn etcd_client_url(&self) -> String {
        format!("https://{}", self.etcd_clients())
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V4(address)) => write!(formatter, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(formatter, "[{address}]"),
            Self::Name(name) => formatter.write_str(name),
        }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.with_port(self.port))
    }
}

/// For serde: what is written as text, and read back from it.
macro_rules! text {
    ($($type:ty: $error:ty),+) => {$(
        impl TryFrom<String> for $type {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )+};
}

pub(crate) use text;

text!(NodeName: AddressError, Host: AddressError, NodeAddress: AddressError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_their_port() {
        for (text, written) in [
            ("192.0.2.7", "192.0.2.7:2382"),
            ("192.0.2.7:4000", "192.0.2.7:4000"),
            ("2001:db8::7", "[2001:db8::7]:2382"),
            ("[2001:db8::7]:4000", "[2001:db8::7]:4000"),
            ("Node-1.Example", "node-1.example:2382"),
        ] {
            let address: NodeAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse::<NodeAddress>(), Ok(address));
        }
        let address: NodeAddress = "192.0.2.7".parse().unwrap();
        assert_eq!(address.etcd_client_url(), "https://192.0.2.7:2379");
        assert_eq!(address.etcd_peer_url(), "https://192.0.2.7:2380");
    }

    #[test]
    fn what_no_node_can_have_is_refused() {
        for text in [
            "",
            "0.0.0.0",
            "::",
            "192.0.2.300",
            "a b",
            "-a",
            "a..b",
            "node:80",
            "node:x",
            "node:70000",
            "a/b",
            "n,a",
        ] {
            assert!(text.parse::<NodeAddress>().is_err(), "{text}");
        }
        for text in [
            "",
            "-a",
            "a b",
            "a/b",
            "a=b",
            "A",
            "a_b",
            "é",
            &"a".repeat(64),
        ] {
            assert!(text.parse::<NodeName>().is_err(), "{text}");
        }
        assert!("n1.site-2".parse::<NodeName>().is_ok());
    }
}
