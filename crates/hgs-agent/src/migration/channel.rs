//! The connection of two agents: TLS 1.3 with a new key on each side. Its certificates prove nothing; they are what the
//! proofs of both ends are bound to.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hgs_client::Fault;
use hgs_pki::Certificate;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, PeerIncompatible, ServerConfig,
    SignatureScheme,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::authority::{Authority, DESTINATION_NAME};
use super::proof::LENGTH;
use crate::wire::AgentFailure;

/// How long the other end may take for one message: it may have to ask a guardian, or to start QEMU.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take while disk and memory move, when it has nothing to do but to answer.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(20);
const EXPORTER: &[u8] = b"EXPORTER-OpenHGS-migration";

/// Why the other end can't be spoken with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    /// The connection broke.
    #[error("the connection to the other host broke: {0}")]
    Broken(#[from] io::Error),
    /// It took too long.
    #[error("the other host did not answer within {} s", .0.as_secs())]
    Late(Duration),
    /// A message beyond its limit.
    #[error("the other host sent a message of {found} octets, where at most {limit} are expected")]
    TooLong {
        /// What it announced.
        found: usize,
        /// What was expected.
        limit: usize,
    },
    /// Not a message of the protocol.
    #[error("what the other host sent is not understood: {0}")]
    NotUnderstood(String),
    /// TLS without what is needed of it.
    #[error("the other host's TLS is not as it has to be: {0}")]
    Tls(String),
}

impl From<ChannelError> for AgentFailure {
    fn from(error: ChannelError) -> Self {
        let failure = Self::failed(&error);
        match error {
            ChannelError::Broken(_) | ChannelError::Late(_) => failure.at_fault(Fault::Network),
            _ => failure
                .at_fault(Fault::Host)
                .remedy("agents that migrate VMs to each other must be of one version"),
        }
    }
}

/// A connection of this end to the other one.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: Box<TlsStream<TcpStream>>,
}

/// What TLS says of a connection.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) exporter: [u8; LENGTH],
    pub(super) peer: Certificate,
}

impl Channel {
    /// To a destination that listens.
    pub(super) async fn connect(
        stream: TcpStream,
        authority: &Authority,
    ) -> Result<(Self, Ends), AgentFailure> {
        let (chain, key) = authority.for_tls()?;
        let verifier = Arc::new(AnyCertificate(provider()));
        let mut settings = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(tls)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(chain, key)
            .map_err(tls)?;
        settings.enable_sni = false;
        settings.resumption = Resumption::disabled();
        let name = ServerName::try_from(DESTINATION_NAME).map_err(tls)?;
        let connecting = TlsConnector::from(Arc::new(settings)).connect(name, stream);
        let stream = within(connecting).await?;
        Self::established(stream.into())
    }

    /// Of a source that has connected.
    pub(super) async fn accept(
        stream: TcpStream,
        authority: &Authority,
    ) -> Result<(Self, Ends), AgentFailure> {
        let (chain, key) = authority.for_tls()?;
        let mut settings = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(tls)?
            .with_client_cert_verifier(Arc::new(AnyCertificate(provider())))
            .with_single_cert(chain, key)
            .map_err(tls)?;
        settings.send_tls13_tickets = 0;
        let accepting = TlsAcceptor::from(Arc::new(settings)).accept(stream);
        let stream = within(accepting).await?;
        Self::established(stream.into())
    }

    fn established(stream: TlsStream<TcpStream>) -> Result<(Self, Ends), AgentFailure> {
        let (_, connection) = stream.get_ref();
        let certificates = connection.peer_certificates().unwrap_or_default();
        let [certificate] = certificates else {
            return Err(tls("it shows one certificate, and no chain").into());
        };
        let peer = Certificate::from_der(certificate).map_err(tls)?;
        let exporter = match &stream {
            TlsStream::Client(stream) => {
                let connection = stream.get_ref().1;
                connection.export_keying_material([0; LENGTH], EXPORTER, None)
            }
            TlsStream::Server(stream) => {
                let connection = stream.get_ref().1;
                connection.export_keying_material([0; LENGTH], EXPORTER, None)
            }
        };
        let ends = Ends {
            exporter: exporter.map_err(tls)?,
            peer,
        };
        let stream = Box::new(stream);
        Ok((Self { stream }, ends))
    }

    /// Sends a message.
    pub(crate) async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), ChannelError> {
        let octets = serde_json::to_vec(message).expect("a message is written to memory");
        self.send_octets(&octets).await
    }

    /// Receives a message of at most `limit` octets.
    pub(crate) async fn receive<T: DeserializeOwned>(
        &mut self,
        limit: usize,
    ) -> Result<T, ChannelError> {
        let octets = self.receive_octets(limit).await?;
        serde_json::from_slice(&octets)
            .map_err(|error| ChannelError::NotUnderstood(error.to_string()))
    }

    /// The same from an end that has nothing to do but to speak.
    pub(crate) async fn receive_soon<T: DeserializeOwned>(
        &mut self,
        limit: usize,
    ) -> Result<T, ChannelError> {
        let received = timeout(HEARTBEAT, self.receive(limit)).await;
        received.unwrap_or(Err(ChannelError::Late(HEARTBEAT)))
    }

    /// Sends octets behind their length.
    pub(crate) async fn send_octets(&mut self, octets: &[u8]) -> Result<(), ChannelError> {
        let length = u32::try_from(octets.len());
        let length = length.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let stream = &mut self.stream;
        within(async {
            stream.write_all(&length.to_be_bytes()).await?;
            stream.write_all(octets).await?;
            stream.flush().await
        })
        .await
    }

    /// Receives octets behind their length.
    pub(crate) async fn receive_octets(&mut self, limit: usize) -> Result<Vec<u8>, ChannelError> {
        let stream = &mut self.stream;
        let found = within(stream.read_u32()).await?;
        let found = usize::try_from(found).unwrap_or(usize::MAX);
        if found > limit {
            return Err(ChannelError::TooLong { found, limit });
        }
        let mut octets = vec![0; found];
        within(stream.read_exact(&mut octets)).await?;
        Ok(octets)
    }
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> Result<T, ChannelError> {
    match timeout(PATIENCE, work).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(ChannelError::Late(PATIENCE)),
    }
}

fn tls(error: impl std::fmt::Display) -> ChannelError {
    ChannelError::Tls(error.to_string())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Takes any certificate, of which the other end has the key. Who that is, the proofs say.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl AnyCertificate {
    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// TLS 1.2 is not offered.
fn no_tls12() -> rustls::Error {
    PeerIncompatible::Tls12NotOfferedOrEnabled.into()
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}
