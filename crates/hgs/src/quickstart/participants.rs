//! The participants: an owner, a fabric's guardian, hosts.

use std::fs::DirBuilder;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hgs_agent::AgentFolders;
use hgs_client::configuration::{Configuration, Endpoints, Services, TpmSettings};
use hgs_client::host_key::{HostKeySize, PublicForm};
use hgs_client::url::{ServiceUrls, Url};
use hgs_client::{Folders, GuardedHost, SealedPair};
use hgs_custody::HeldKeys;
use hgs_files::Readers;
use hgs_pki::Time;
use hgs_protector::GuardianCertificates;
use hgs_server::Config;
use hgs_server::config::Layout;
use hgs_terminal::Failure;

use super::failed;
use crate::bits::Bits;
use crate::certified::Pair;
use crate::failures::OrFail as _;
use crate::guardian;

/// The configuration of a guardian that lives in `folder` and listens on ports of the system's choosing.
pub(super) fn guardian_configuration(folder: &Path) -> Config {
    let mut config = Config::with_layout(Layout {
        configuration: folder.join("etc"),
        state: folder.join("guardian"),
        runtime: folder.join("run"),
        http_port: 0,
        https_port: 0,
    });
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.server.name = "quickstart".to_owned();
    config.listen.http.address = Some(any_port);
    config.listen.metrics.address = any_port;
    config
}

/// The URLs of both services.
#[derive(Debug, Clone)]
pub(super) struct Urls {
    pub(super) attestation: ServiceUrls,
    pub(super) key_protection: ServiceUrls,
}

impl Urls {
    pub(super) fn at(address: SocketAddr) -> Result<Self, Failure> {
        let url = |path: &str| {
            let url: Result<Url, _> = format!("http://{address}{path}").parse();
            url.map_err(failed)
        };
        Ok(Self {
            attestation: url("/Attestation")?.into(),
            key_protection: url("/KeyProtection")?.into(),
        })
    }
}

/// Who owns the virtual machine: a guardian whose keys never leave it.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) certificates: GuardianCertificates,
    pub(super) keys: HeldKeys,
}

impl Owner {
    pub(super) fn new(now: Time) -> Result<Self, Failure> {
        let Pair {
            signing,
            encryption,
        } = guardian::generate("Owner", Bits::Rsa2048, now)?;
        let mut keys = HeldKeys::default();
        keys.hold(&signing.certificate, Arc::new(signing.key));
        keys.hold(&encryption.certificate, Arc::new(encryption.key));
        let certificates = GuardianCertificates::certify(
            signing.certificate,
            encryption.certificate,
            hgs_protector::suite::KeyEncryption::RsaOaep,
            &mut &keys,
        )
        .or_fail()?;
        Ok(Self { certificates, keys })
    }
}

/// A host, with a folder of its own.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: &'static str,
    pub(super) host: GuardedHost,
    folder: PathBuf,
}

impl Host {
    /// Makes a host that uses `urls`, and its host key.
    pub(super) fn new(name: &'static str, folder: &Path, urls: &Urls) -> Result<Self, Failure> {
        let host = Self::with_tpm(name, folder, urls, &TpmSettings::default())?;
        let size = HostKeySize::Rsa2048;
        host.host.create_host_key(size).map_err(failed)?;
        Ok(host)
    }

    /// Makes a host that uses `urls`, with a TPM and without a host key.
    pub(super) fn with_tpm(
        name: &'static str,
        folder: &Path,
        urls: &Urls,
        tpm: &TpmSettings,
    ) -> Result<Self, Failure> {
        let folder = folder.join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(failed)?;
        let folders = Folders::inside(&folder);
        let services = Services {
            primary: Endpoints {
                attestation: urls.attestation.clone(),
                key_protection: urls.key_protection.clone(),
            },
            fallback: None,
            certificate_authorities: None,
            dangerous_accept_unsigned_responses: false,
        };
        let configuration = Configuration::HostGuardianService(services);
        configuration
            .store(&folders.configuration)
            .map_err(failed)?;
        tpm.store(&folders.configuration).map_err(failed)?;
        Ok(Self {
            name,
            host: GuardedHost::open(folders).map_err(failed)?,
            folder,
        })
    }

    /// The public half of its host key, as the administrator is given it.
    pub(super) fn host_key(&self) -> Result<String, Failure> {
        let key = self.host.host_key().map_err(failed)?;
        key.export(PublicForm::SubjectPublicKeyInfo, self.name, self.host.now())
            .map_err(failed)
    }

    /// The folders of its agent.
    pub(super) fn agent_folders(&self) -> AgentFolders {
        AgentFolders {
            host: Folders::inside(&self.folder),
            runtime: self.folder.join("run"),
        }
    }

    /// Puts a virtual machine on this host: its protector and the state that is sealed under it.
    pub(super) fn receive(&self, protector: &[u8], sealed: &[u8]) -> Result<(), Failure> {
        hgs_files::create(&self.protector_file(), protector, Readers::Owner)?;
        Ok(hgs_files::create(
            &self.sealed_file(),
            sealed,
            Readers::Owner,
        )?)
    }

    /// The virtual machine that is on this host.
    pub(super) fn machine(&self) -> Result<SealedPair, Failure> {
        SealedPair::open(&self.protector_file(), &self.sealed_file()).map_err(failed)
    }

    /// Drops the virtual machine.
    pub(super) fn give_up(&self) -> Result<(), Failure> {
        hgs_files::remove(&self.protector_file())?;
        Ok(hgs_files::remove(&self.sealed_file())?)
    }

    fn protector_file(&self) -> PathBuf {
        self.folder.join("protector.xml")
    }

    fn sealed_file(&self) -> PathBuf {
        self.folder.join("vtpm.sealed")
    }
}
