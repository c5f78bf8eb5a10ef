//! `hgs init`.

mod tls;

use std::fmt;

use hgs_cluster::node::{Node, NodeAddress};
use hgs_server::{
    CertificateSource, GivenCertificate, GivenError, InitOptions, InitialiseError, Initialised,
    KeySize, PlacedKey, ReturnBlame, removal_of,
};
use hgs_terminal::{AtFault, Exit, Failure, Terminal};
use serde::Serialize;

use crate::bits::Bits;
use crate::certified::{CertifiedKey, PairOptions, SuppliedKey};
use crate::clock::now;
use crate::cluster::{EtcdOptions, NameOption};
use crate::config_option::ConfigOption;
use crate::failures::{IntoFailure, OrFail as _};
use crate::guardian::CertificateView;

use tls::TrialCertificate;

/// Make a guardian on this machine: its state, master key, certificates and attestation signer
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs init --name guardian.example
  hgs init --name guardian.example --cluster 192.0.2.1
  hgs init --name guardian.example --signing-certificate s.pfx --encryption-certificate e.pfx
  hgs init --signing-key 'pkcs11:token=hgs;object=signing' --encryption-key 'pkcs11:token=hgs;object=encryption'

A key in a token has to be there; with --new-keys it is made if it is not. Without a certificate, it signs its own. The
configuration names the modules that may be loaded: [[pkcs11.module]].")]
pub(crate) struct Arguments {
    /// What the guardian is called [default: server.name of the configuration]
    #[arg(long)]
    name: Option<String>,
    /// Bits of the keys that are generated
    #[arg(long, value_enum, default_value_t)]
    bits: Bits,
    /// Make the keys that are named in a token and are not there
    #[arg(long, requires = "signing_key")]
    new_keys: bool,
    #[command(flatten)]
    given: PairOptions,
    /// Make it the first node of a cluster, which other nodes reach at this IP address or name, and at the port of the
    /// cluster listener [port: 2382]. The etcd that it starts listens on the ports 3 and 2 below it.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    cluster: Option<NodeAddress>,
    #[command(flatten)]
    node: NameOption,
    #[command(flatten)]
    etcd: EtcdOptions,
    /// Make a self-signed certificate for HTTPS too, for a first trial: `tls.pem` in the state folder, which is used
    /// where the configuration names none
    #[arg(long)]
    tls: bool,
    /// DNS name or IP address under which hosts reach the guardian; may be given several times [default: its name]
    #[arg(long, value_name = "HOST", requires = "tls")]
    tls_name: Vec<String>,
    #[command(flatten)]
    config: ConfigOption,
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let config = self.config.load()?;
        let (signing, encryption) = match self.given.read_any(terminal)? {
            Some((signing, encryption)) => (source(signing)?, source(encryption)?),
            None => (CertificateSource::Generate, CertificateSource::Generate),
        };
        let name = self
            .name
            .clone()
            .unwrap_or_else(|| config.server.name.clone());
        let names = match self.tls_name.is_empty() {
            true => vec![name],
            false => self.tls_name,
        };
        // Before anything is made.
        let etcd = self.etcd.read()?;
        let node = match self.cluster {
            Some(address) => {
                hgs_server::check_etcd(etcd.as_ref()).or_fail()?;
                Some(self.node.node(address)?)
            }
            None if etcd.is_some() => {
                return Err(Failure::usage("etcd is of use to a cluster only")
                    .remedy("say with `--cluster ADDRESS` where other nodes reach this one"));
            }
            None => None,
        };
        let tls = self
            .tls
            .then(|| TrialCertificate::make(&names))
            .transpose()?;
        let options = InitOptions {
            name: self.name,
            signing,
            encryption,
            new_keys: self.new_keys,
            key_size: KeySize::of_bits(self.bits.number()).unwrap_or_default(),
            ..InitOptions::default()
        };
        let made = hgs_server::initialise(&config, options, now()).or_fail()?;
        let tls = tls.map(|tls| tls.keep(&made.state_folder)).transpose()?;
        let node = node
            .map(|node| hgs_server::found(&config, node, etcd, now()).or_fail())
            .transpose()?;
        terminal.report(&InitReport {
            node: node.map(|facts| facts.node),
            tls_certificate: tls.map(|path| path.display().to_string()),
            ..InitReport::new(&made)
        })?;
        Ok(Exit::Done)
    }
}

fn source(given: SuppliedKey) -> Result<CertificateSource, Failure> {
    match given {
        SuppliedKey::Files(CertifiedKey { certificate, key }) => {
            let given = GivenCertificate::new(certificate, key).or_fail()?;
            Ok(CertificateSource::Given(given))
        }
        SuppliedKey::InToken { key, certificate } => {
            Ok(CertificateSource::InToken { key, certificate })
        }
    }
}

impl IntoFailure for GivenError {
    fn into_failure(self) -> Failure {
        Failure::refused(self).at_fault(AtFault::Operator)
    }
}

impl IntoFailure for InitialiseError {
    fn into_failure(self) -> Failure {
        let failure = Failure::of(&self).at_fault(AtFault::Operator);
        match self {
            Self::AlreadyInitialised { .. } => failure
                .with_exit(Exit::Refused)
                .remedy("start it with `hgs serve`, or name another folder in the configuration"),
            Self::Name(_) => failure.with_exit(Exit::Refused),
            Self::Folder { .. } => {
                failure.remedy("name a folder that can be made: `server.state` or HGS_STATE")
            }
            Self::MasterKey(error) => error.into_failure(),
            Self::Store(error) => error.into_failure(),
            Self::Token { error, .. } => {
                let failure = failure.at_fault(at_fault(error.blame()));
                match error.remedy() {
                    Some(remedy) => failure.remedy(remedy),
                    None => failure,
                }
            }
            Self::NotThere { .. } => failure.with_exit(Exit::Refused).remedy(
                "name a key that is there, or add `--new-keys` to have one made under that name",
            ),
            Self::SameKey(_) => failure.with_exit(Exit::Refused),
            Self::AfterMaking { made, .. } => {
                let removals: Vec<String> = made.iter().map(removal_of).collect();
                failure.remedy(format!(
                    "mend it and try again with the same names, which are found then; or remove what was made with {}",
                    removals.join(" and ")
                ))
            }
            Self::Key(_) => failure.with_exit(Exit::Refused),
            _ => failure,
        }
    }
}

fn at_fault(blame: ReturnBlame) -> AtFault {
    match blame {
        ReturnBlame::Operator => AtFault::Operator,
        ReturnBlame::Token | ReturnBlame::Module => AtFault::KeyStore,
        ReturnBlame::Request => AtFault::Peer,
        ReturnBlame::Ourselves => AtFault::Ourselves,
    }
}

/// A private key, where it comes from, and where it is.
#[derive(Serialize)]
struct KeyView {
    origin: &'static str,
    place: String,
}

impl KeyView {
    fn new(key: &PlacedKey) -> Self {
        Self {
            origin: key.origin.name(),
            place: key.place.to_string(),
        }
    }
}

/// What was made, and what comes next.
#[derive(Serialize)]
struct InitReport {
    name: String,
    state_folder: String,
    master_key_file: String,
    signing: CertificateView,
    signing_key: KeyView,
    encryption: CertificateView,
    encryption_key: KeyView,
    communications: CertificateView,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_certificate: Option<String>,
    /// Where it is the first of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<Node>,
}

impl InitReport {
    fn new(made: &Initialised) -> Self {
        Self {
            name: made.name.clone(),
            state_folder: made.state_folder.display().to_string(),
            master_key_file: made.master_key_file.display().to_string(),
            signing: CertificateView::new(&made.signing),
            signing_key: KeyView::new(&made.signing_key),
            encryption: CertificateView::new(&made.encryption),
            encryption_key: KeyView::new(&made.encryption_key),
            communications: CertificateView::new(&made.communications),
            tls_certificate: None,
            node: None,
        }
    }
}

impl fmt::Display for InitReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            state_folder,
            master_key_file,
            signing,
            signing_key,
            encryption_key,
            ..
        } = self;
        writeln!(
            formatter,
            "Guardian `{name}` is made, with its state in {state_folder}."
        )?;
        for (what, key) in [("signing", signing_key), ("encryption", encryption_key)] {
            if key.place != "sealed" {
                writeln!(
                    formatter,
                    "The {what} key was {}: {}",
                    key.origin, key.place
                )?;
            }
        }
        writeln!(
            formatter,
            "Keep a copy of {master_key_file} apart from backups of the state: without it the state is lost, and with \
             it nothing in the state is secret."
        )?;
        writeln!(
            formatter,
            "\nOwners who import its metadata need to know the SHA-256 thumbprint of its signing certificate:\n  {}",
            signing.thumbprint
        )?;
        if let Some(certificate) = &self.tls_certificate {
            writeln!(
                formatter,
                "\nHosts that reach it by HTTPS trust {certificate}: `guarded-host configure --ca FILE`."
            )?;
        }
        if let Some(Node { name, address }) = &self.node {
            writeln!(
                formatter,
                "\nNode `{name}` at {address} is the first of a cluster. While it serves, `hgs cluster invite` lets others join."
            )?;
        }
        writeln!(
            formatter,
            "\nNext: `hgs serve`, then `hgs host add NAME --host-key FILE`."
        )
    }
}
