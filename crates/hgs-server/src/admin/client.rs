//! The API from the other end of the socket.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use hgs_custody::SoftwareKey;
use hgs_trace::guardian::{Inside, SyntheticRoll};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::changes::{
    AddCertificate, AddSigner, NewCertificate, SetCertificate, SetServer, SetSigner,
};
use super::query::EVEN_IF_NEEDED;
use super::routes::{ALL, Operation, is_item};
use super::types::{
    AddHost, AddedCertificate, AuditQuery, AuditRecord, Certificate, CertificateDetail,
    CertificateUsage, GuardianDocument, Host, HostDetail, RecordExport, RevokeHost, ServerSettings,
    Signer, Status,
};
use super::{AdminError, Administration, ErrorCode, private_key, query};

/// Time for one question and its answer.
const TIME: Duration = Duration::from_mins(1);

/// Octets of the largest answer: a thousand audit records, or all hosts of a large site.
const MOST_OCTETS: usize = 64 * 1024 * 1024;

/// Asks the server that listens at a socket, a new connection for each call. Calls block; they may be made from
/// anywhere but a thread that the server itself needs.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the server at `socket`; it connects when it is asked something.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn ask<T: DeserializeOwned>(&self, operation: Operation, item: &str) -> Result<T, AdminError> {
        self.call(operation, item, "", Bytes::new())
    }

    fn tell<T: DeserializeOwned>(
        &self,
        operation: Operation,
        item: &str,
        body: &impl Serialize,
    ) -> Result<T, AdminError> {
        let body = serde_json::to_vec(body).map_err(no_answer)?;
        self.call(operation, item, "", body.into())
    }

    fn call<T: DeserializeOwned>(
        &self,
        operation: Operation,
        item: &str,
        query: &str,
        body: Bytes,
    ) -> Result<T, AdminError> {
        let route = operation.route();
        let mut target = route.path_for(item);
        if !query.is_empty() {
            target = format!("{target}?{query}");
        }
        let request = Request::builder()
            .method(&route.method)
            .uri(target)
            .header(HOST, "hgs")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(no_answer)?;
        let (status, body) = self.exchange(request)?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(no_answer);
        }
        Err(serde_json::from_slice(&body).unwrap_or_else(|_| {
            no_answer(format_args!("the server answered with status {status}"))
        }))
    }

    /// A runtime can't be waited for on a thread of another, so the exchange has a thread of its own.
    fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), AdminError> {
        thread::scope(|scope| {
            let exchange = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(no_answer)?;
                runtime.block_on(async {
                    let exchange = timeout(TIME, exchange(&self.socket, request)).await;
                    exchange.map_err(|_| no_answer("the server did not answer in time"))?
                })
            });
            exchange
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

async fn exchange(
    socket: &Path,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), AdminError> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|failure| not_running(socket, &failure))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(no_answer)?;
    let asking = async {
        let response = sender.send_request(request).await.map_err(no_answer)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_OCTETS)
            .collect()
            .await;
        Ok((status, body.map_err(no_answer)?.to_bytes()))
    };
    tokio::select! {
        // When the connection ends first, the question has failed, and says why.
        biased;
        answer = asking => answer,
        ended = connection => Err(match ended {
            Ok(()) => no_answer("the server closed the connection"),
            Err(failure) => no_answer(failure),
        }),
    }
}

fn not_running(socket: &Path, failure: &io::Error) -> AdminError {
    let socket = socket.display();
    match failure.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            let message = format!("no server listens at {socket}");
            AdminError::new(ErrorCode::NotRunning, message)
                .with_remedy("start it with `hgs serve`, or name its socket with --socket")
        }
        io::ErrorKind::PermissionDenied => {
            let message = format!("this user may not connect to {socket}");
            AdminError::new(ErrorCode::Forbidden, message)
                .with_remedy("run it as root or as a member of the group of the socket")
        }
        _ => no_answer(format_args!("{socket}: {failure}")),
    }
}

fn no_answer(failure: impl ToString) -> AdminError {
    AdminError::new(ErrorCode::NoAnswer, failure)
}

/// What stands in a path must be able to stand there as it is.
fn plain<'t>(item: &'t str, what: &str) -> Result<&'t str, AdminError> {
    let sound = is_item(item).then_some(item);
    sound.ok_or_else(|| AdminError::invalid(format_args!("{item:?} is no {what}")))
}

/// A thumbprint as it stands in paths, however people write it.
fn compact(thumbprint: &str) -> Result<String, AdminError> {
    let thumbprint: hgs_pki::Thumbprint = thumbprint.parse().map_err(AdminError::invalid)?;
    Ok(thumbprint.to_string())
}

impl Administration for Client {
    fn status(&self) -> Result<Status, AdminError> {
        self.ask(Operation::Status, "")
    }

    fn server(&self) -> Result<ServerSettings, AdminError> {
        self.ask(Operation::Server, "")
    }

    fn set_server(&self, change: &SetServer) -> Result<ServerSettings, AdminError> {
        self.tell(Operation::SetServer, "", change)
    }

    fn certificates(&self) -> Result<Vec<Certificate>, AdminError> {
        self.ask(Operation::Certificates, "")
    }

    fn certificate(&self, thumbprint: &str) -> Result<CertificateDetail, AdminError> {
        self.ask(Operation::Certificate, &compact(thumbprint)?)
    }

    fn certificate_usage(&self) -> Result<Vec<CertificateUsage>, AdminError> {
        self.ask(Operation::CertificateUsage, "")
    }

    fn guardian_document(&self, thumbprint: &str) -> Result<GuardianDocument, AdminError> {
        self.ask(Operation::GuardianDocument, &compact(thumbprint)?)
    }

    fn add_certificate(
        &self,
        certificate: &AddCertificate,
        key: Option<Arc<SoftwareKey>>,
    ) -> Result<AddedCertificate, AdminError> {
        let body = private_key::write(certificate, key.as_deref())?;
        self.call(Operation::AddCertificate, "", "", body)
    }

    fn new_certificate(
        &self,
        certificate: &NewCertificate,
    ) -> Result<AddedCertificate, AdminError> {
        self.tell(Operation::NewCertificate, "", certificate)
    }

    fn set_certificate(
        &self,
        thumbprint: &str,
        change: &SetCertificate,
    ) -> Result<Certificate, AdminError> {
        self.tell(Operation::SetCertificate, &compact(thumbprint)?, change)
    }

    fn enable_certificate(&self, thumbprint: &str) -> Result<Certificate, AdminError> {
        self.ask(Operation::EnableCertificate, &compact(thumbprint)?)
    }

    fn disable_certificate(&self, thumbprint: &str) -> Result<Certificate, AdminError> {
        self.ask(Operation::DisableCertificate, &compact(thumbprint)?)
    }

    fn retire_certificate(&self, thumbprint: &str) -> Result<Certificate, AdminError> {
        self.ask(Operation::RetireCertificate, &compact(thumbprint)?)
    }

    fn remove_certificate(
        &self,
        thumbprint: &str,
        even_if_needed: bool,
    ) -> Result<Certificate, AdminError> {
        let query = query::write_flag(EVEN_IF_NEEDED, even_if_needed);
        let thumbprint = compact(thumbprint)?;
        self.call(
            Operation::RemoveCertificate,
            &thumbprint,
            &query,
            Bytes::new(),
        )
    }

    fn signers(&self) -> Result<Vec<Signer>, AdminError> {
        self.ask(Operation::Signers, "")
    }

    fn add_signer(&self, signer: &AddSigner) -> Result<Signer, AdminError> {
        self.tell(Operation::AddSigner, "", signer)
    }

    fn set_signer(&self, thumbprint: &str, change: &SetSigner) -> Result<Vec<Signer>, AdminError> {
        let thumbprint = match thumbprint {
            ALL => ALL.to_owned(),
            one => compact(one)?,
        };
        self.tell(Operation::SetSigner, &thumbprint, change)
    }

    fn remove_signer(&self, thumbprint: &str) -> Result<Signer, AdminError> {
        self.ask(Operation::RemoveSigner, &compact(thumbprint)?)
    }

    fn hosts(&self) -> Result<Vec<Host>, AdminError> {
        self.ask(Operation::Hosts, "")
    }

    fn host(&self, name: &str) -> Result<HostDetail, AdminError> {
        self.ask(Operation::Host, plain(name, "host name")?)
    }

    fn add_host(&self, host: &AddHost) -> Result<Host, AdminError> {
        self.tell(Operation::AddHost, "", host)
    }

    fn revoke_host(&self, name: &str, revocation: &RevokeHost) -> Result<Host, AdminError> {
        self.tell(Operation::RevokeHost, plain(name, "host name")?, revocation)
    }

    fn remove_host(&self, name: &str) -> Result<Host, AdminError> {
        self.ask(Operation::RemoveHost, plain(name, "host name")?)
    }

    fn audit(&self, wanted: &AuditQuery) -> Result<Vec<AuditRecord>, AdminError> {
        self.call(Operation::Audit, "", &query::write(wanted)?, Bytes::new())
    }

    fn audit_record(&self, sequence: u64) -> Result<AuditRecord, AdminError> {
        self.ask(Operation::AuditRecord, &sequence.to_string())
    }

    fn trace(&self) -> Result<Inside, AdminError> {
        self.ask(Operation::Trace, "")
    }

    fn synthetic_roll(&self) -> Result<SyntheticRoll, AdminError> {
        self.ask(Operation::SyntheticRoll, "")
    }

    fn record_export(&self, export: &RecordExport) -> Result<AuditRecord, AdminError> {
        self.tell(Operation::RecordExport, "", export)
    }
}
