//! The options that name a server on another machine.

use std::path::{Path, PathBuf};

use hgs_admin::{Client, ServerAddress};
use hgs_client::http::{TlsSettingsError, tls_settings};
use hgs_crypto::SecretBytes;
use hgs_custody::Bundle;
use hgs_custody::bundle::KeyedChain;
use hgs_terminal::{AtFault, Failure, PassphraseSource, passphrase, read_input};

use super::LONGEST_FILE;
use crate::failures::{IntoFailure, OrFail as _};

/// A server on another machine, and the certificate with which it is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct NetworkOption {
    /// URL of the server's [listen.api], in the place of its socket, such as `https://hgs.example`
    #[arg(
        long = "server",
        global = true,
        value_name = "URL",
        env = "HGS_SERVER",
        conflicts_with = "socket"
    )]
    url: Option<String>,
    /// With --server: file with the certificate that the server knows this caller by, PEM or PFX
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "HGS_CLIENT_CERTIFICATE"
    )]
    client_certificate: Option<PathBuf>,
    /// With --server: PEM file with its private key [default: the file of the certificate]
    #[arg(long, global = true, value_name = "FILE", env = "HGS_CLIENT_KEY")]
    client_key: Option<PathBuf>,
    /// With --server: where the passphrase of that key is: file:PATH, env:NAME or credential:NAME
    #[arg(
        long,
        global = true,
        value_name = "SOURCE",
        env = "HGS_CLIENT_PASSPHRASE_FROM"
    )]
    client_passphrase_from: Option<PassphraseSource>,
    /// With --server: PEM file with the only certification authorities to trust, or the server's own certificate
    /// [default: the system's authorities]
    #[arg(long, global = true, value_name = "FILE", env = "HGS_SERVER_CA")]
    server_ca: Option<PathBuf>,
}

impl NetworkOption {
    pub(crate) fn is_given(&self) -> bool {
        self.url.is_some()
    }

    /// A client of the server that is named. Nothing is asked yet.
    pub(crate) fn client(&self) -> Result<Option<Client>, Failure> {
        let Some(url) = &self.url else {
            return Ok(None);
        };
        let address: ServerAddress = url.parse().or_fail()?;
        let file = self.client_certificate.as_deref().ok_or_else(|| {
            Failure::usage("`--server` goes with a client certificate").remedy(
                "name it with `--client-certificate FILE`, and its key with `--client-key FILE`",
            )
        })?;
        let certificate = self.certificate(file)?;
        let settings = tls_settings(self.server_ca.as_deref(), Some(certificate)).or_fail()?;
        Ok(Some(Client::over_network(address, settings)))
    }

    /// The private key, and the certificates of the files.
    fn certificate(&self, file: &Path) -> Result<KeyedChain, Failure> {
        let key_file = self.client_key.as_deref().unwrap_or(file);
        let mut files = vec![file, key_file];
        files.dedup();
        let mut contents = Vec::new();
        for file in files {
            let octets =
                read_input(file, LONGEST_FILE)?.complete(file, "a certificate and its key")?;
            contents.push(SecretBytes::new(octets));
        }
        let read = |passphrase: Option<&SecretBytes>| {
            let mut bundle = Bundle::default();
            for octets in &contents {
                bundle.add(octets.expose(), passphrase)?;
            }
            bundle.keyed_chain(passphrase)
        };
        let keyed = match read(None) {
            Err(error) if error.needs_passphrase() => {
                let source = self.client_passphrase_from.as_ref();
                read(Some(&passphrase(source, "the client's key")?))
            }
            read => read,
        };
        keyed
            .or_fail()
            .map_err(|failure| failure.while_doing(key_file.display()))
    }
}

impl IntoFailure for TlsSettingsError {
    fn into_failure(self) -> Failure {
        let remedy = match &self {
            Self::ClientCertificate(_) => {
                "name the client's certificate and the key that belongs to it, RSA or ECDSA"
            }
            _ => {
                "name the authority of the server, or its own certificate, with `--server-ca FILE`"
            }
        };
        Failure::of(&self)
            .at_fault(AtFault::Operator)
            .remedy(remedy)
    }
}
