//! `hgs cluster`: several nodes that are one guardian.

mod create;
mod dissolve;
mod invite;
mod join;
mod remove;
mod status;

use std::path::PathBuf;

use clap::Subcommand;
use hgs_cluster::existing::{EtcdFiles, EtcdPlace, EtcdUrl, ExistingEtcd, ExistingEtcdError};
use hgs_cluster::join::JoinError;
use hgs_cluster::node::{Node, NodeAddress, NodeName};
use hgs_cluster::order::Keyspace;
use hgs_server::{ClusterError, default_node_name};
use hgs_terminal::{AtFault, Exit, Failure, Terminal};

use crate::failures::{IntoFailure, OrFail as _};

pub(crate) use invite::invite;

/// Make a cluster of this guardian, let other machines join it, and see how it stands
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs init --name guardian.example --cluster 192.0.2.1     (the first node; then: hgs serve)
  hgs init --name guardian.example --cluster 192.0.2.1 --etcd https://etcd.example:2379 --etcd-ca ca.pem \
    --etcd-certificate client.pem --etcd-key client.key    (with an etcd that runs already)
  hgs cluster invite                                       (on a node that serves)
  hgs cluster join hgs-join-1... --address 192.0.2.2       (on a new machine; then: hgs serve)
  hgs cluster status")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(create::Arguments),
    Invite(invite::Arguments),
    Join(join::Arguments),
    Status(status::Arguments),
    Remove(remove::Arguments),
    Dissolve(dissolve::Arguments),
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        match self.verb {
            Verb::Create(arguments) => arguments.run(terminal),
            Verb::Invite(arguments) => arguments.run(terminal),
            Verb::Join(arguments) => arguments.run(terminal),
            Verb::Status(arguments) => arguments.run(terminal),
            Verb::Remove(arguments) => arguments.run(terminal),
            Verb::Dissolve(arguments) => arguments.run(terminal),
        }
    }
}

/// What a node is called.
#[derive(Debug, clap::Args)]
pub(crate) struct NameOption {
    /// What this node is called [default: the name of this machine]
    #[arg(long = "node", value_name = "NAME")]
    node_name: Option<NodeName>,
}

impl NameOption {
    /// This node, at an address.
    pub(crate) fn node(self, address: NodeAddress) -> Result<Node, Failure> {
        let name = self.node_name.or_else(default_node_name).ok_or_else(|| {
            Failure::usage("the name of this machine can't be that of a node")
                .remedy("give it one with `--node NAME`: small letters, digits, `-` and `.`")
        })?;
        Ok(Node { name, address })
    }
}

/// An etcd that runs already, in the place of members that the nodes start.
#[derive(Debug, clap::Args)]
pub(crate) struct EtcdOptions {
    /// Use an etcd that runs already, and start none: the URL of a member, such as `https://etcd-1.example:2379`; given once for
    /// each member. http:// is for loopback addresses only
    #[arg(long = "etcd", value_name = "URL")]
    etcd_urls: Vec<EtcdUrl>,
    /// What the keys of this cluster begin with in it: `openhgs/NAME` where several clusters use one etcd [default: openhgs]
    #[arg(long, value_name = "PREFIX", requires = "etcd_urls")]
    etcd_prefix: Option<Keyspace>,
    #[command(flatten)]
    files: EtcdFilesOptions,
}

impl EtcdOptions {
    /// The etcd that is named, if one is.
    pub(crate) fn read(self) -> Result<Option<ExistingEtcd>, Failure> {
        let files = self.files.read()?;
        if self.etcd_urls.is_empty() {
            return match files {
                Some(_) => Err(
                    Failure::usage("there are certificates for etcd, and no etcd")
                        .remedy("name its members with `--etcd URL`"),
                ),
                None => Ok(None),
            };
        }
        let place = EtcdPlace {
            urls: self.etcd_urls,
            prefix: self.etcd_prefix.unwrap_or_default(),
        };
        let existing = ExistingEtcd::new(place, files).map_err(ClusterError::from);
        Ok(Some(existing.or_fail()?))
    }
}

/// The files by which this machine and an etcd that runs already know each other.
#[derive(Debug, clap::Args)]
pub(crate) struct EtcdFilesOptions {
    /// The authority that has issued the certificates of the members of an etcd that runs already: PEM. This file and the next
    /// two are read again when they change
    #[arg(long, value_name = "FILE", requires_all = ["etcd_certificate", "etcd_key"])]
    etcd_ca: Option<PathBuf>,
    /// The certificate by which that etcd knows this machine: PEM
    #[arg(long, value_name = "FILE", requires_all = ["etcd_ca", "etcd_key"])]
    etcd_certificate: Option<PathBuf>,
    /// Its private key: PEM, without a passphrase
    #[arg(long, value_name = "FILE", requires_all = ["etcd_ca", "etcd_certificate"])]
    etcd_key: Option<PathBuf>,
}

impl EtcdFilesOptions {
    /// The files, by names that hold from wherever `hgs serve` is started.
    pub(crate) fn read(self) -> Result<Option<EtcdFiles>, Failure> {
        let absolute = |path: PathBuf| {
            std::path::absolute(&path)
                .map_err(|error| Failure::of(&error).at_fault(AtFault::Operator))
        };
        let (Some(ca), Some(certificate), Some(key)) =
            (self.etcd_ca, self.etcd_certificate, self.etcd_key)
        else {
            return Ok(None);
        };
        Ok(Some(EtcdFiles {
            ca: absolute(ca)?,
            certificate: absolute(certificate)?,
            key: absolute(key)?,
        }))
    }
}

impl IntoFailure for ClusterError {
    fn into_failure(self) -> Failure {
        let failure = Failure::of(&self).at_fault(match &self {
            Self::Join(JoinError::OwnEtcd | JoinError::ExistingEtcd(_)) => AtFault::Operator,
            Self::Join(_) | Self::Membership(_) | Self::Nodes(_) => AtFault::Peer,
            _ => AtFault::Operator,
        });
        let failure = match &self {
            Self::IsNode(_)
            | Self::NoCluster
            | Self::Runs(_)
            | Self::ExistingEtcd(
                ExistingEtcdError::Urls(_)
                | ExistingEtcdError::Mixed
                | ExistingEtcdError::WithoutCertificate(_)
                | ExistingEtcdError::NeedlessCertificate(_),
            ) => failure.with_exit(Exit::Refused),
            _ => failure,
        };
        match self.remedy() {
            Some(remedy) => failure.remedy(remedy),
            None => failure,
        }
    }
}
