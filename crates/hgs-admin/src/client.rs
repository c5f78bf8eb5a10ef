//! The client of the API: over the Unix socket of a server, or over its `[listen.api]`.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::poll_fn;
use hgs_trace::Problem;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::call::{LastEventId, Outgoing};
use crate::event_stream::{EventMessage, EventStream, HEARTBEAT, MessageReader};
use crate::server_address::ServerAddress;
use crate::{AdminError, ErrorCode};

/// Time for one request and its answer.
const TIME_LIMIT: Duration = Duration::from_mins(1);

/// Octets of the largest answer: a thousand audit records, or all hosts of a large site.
const MAX_OCTETS: usize = 64 * 1024 * 1024;

/// For how long a stream of events may be silent.
const SILENCE: Duration = HEARTBEAT.saturating_mul(3);

/// Messages of a stream that wait to be taken.
const WAITING_MESSAGES: usize = 16;

/// Asks a server, with a new connection for each call. Calls block; make them on any thread that the server itself does
/// not need.
#[derive(Debug, Clone)]
pub struct Client {
    way: Way,
    time_limit: Duration,
}

/// How the server is reached.
#[derive(Debug, Clone)]
enum Way {
    Socket(PathBuf),
    Network(ServerAddress, Arc<ClientConfig>),
}

impl Client {
    /// A client of the server at `socket`. It connects with the first call.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self::by(Way::Socket(socket.into()))
    }

    /// A client of the server whose `[listen.api]` is at `address`. The settings say who may vouch for the server, and
    /// have the certificate that this client shows. It connects with the first call.
    #[must_use]
    pub fn over_network(address: ServerAddress, settings: Arc<ClientConfig>) -> Self {
        Self::by(Way::Network(address, settings))
    }

    fn by(way: Way) -> Self {
        Self {
            way,
            time_limit: TIME_LIMIT,
        }
    }

    /// The same client with another time limit for each request and its answer.
    #[must_use]
    pub fn within(&self, time_limit: Duration) -> Self {
        Self {
            time_limit,
            ..self.clone()
        }
    }

    /// Sends a request and reads the answer.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        method: &Method,
        outgoing: Outgoing,
    ) -> Result<T, AdminError> {
        let (status, body) = self.exchange(self.request(method, outgoing)?)?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(no_answer);
        }
        Err(refused(status, &body))
    }

    /// Sends a request and returns the events of its answer, as they come. A thread of its own reads them, until the stream
    /// is dropped.
    pub(crate) fn events_of(
        &self,
        method: &Method,
        outgoing: Outgoing,
    ) -> Result<EventStream, AdminError> {
        let request = self.request(method, outgoing)?;
        let (client, (messages, mut received)) = (self.clone(), mpsc::channel(WAITING_MESSAGES));
        let (head, opened) = std::sync::mpsc::sync_channel(1);
        let follow = move || {
            let followed = block_on(client.follow(request, &messages, &head));
            if let Err(failure) = followed.and_then(|followed| followed) {
                // Whoever waits is told once: of the answer's head, or in the stream.
                let _ = head.try_send(Err(failure.clone()));
                let _ = messages.blocking_send(Err(failure));
            }
        };
        thread::Builder::new()
            .name("events".to_owned())
            .spawn(follow)
            .map_err(no_answer)?;
        opened.recv().map_err(no_answer)??;
        Ok(EventStream::new(poll_fn(move |context| {
            received.poll_recv(context)
        })))
    }

    fn request(
        &self,
        method: &Method,
        outgoing: Outgoing,
    ) -> Result<Request<Full<Bytes>>, AdminError> {
        let host = match &self.way {
            Way::Socket(_) => "hgs",
            Way::Network(address, _) => address.authority(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(outgoing.target())
            .header(HOST, host)
            .header(CONTENT_TYPE, "application/json");
        if let LastEventId(Some(sequence)) = outgoing.last_event_id {
            request = request.header("last-event-id", sequence);
        }
        request.body(Full::new(outgoing.body)).map_err(no_answer)
    }

    /// A runtime can't be waited for on a thread of another, so the exchange has a thread of its own.
    fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), AdminError> {
        let exchange = async {
            let answer = async {
                let response = self.way.open(request).await?;
                Ok((response.status(), whole(response).await?))
            };
            self.in_time(answer).await
        };
        thread::scope(|scope| {
            let exchange = scope.spawn(|| block_on(exchange)?);
            exchange
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, AdminError>>,
    ) -> Result<T, AdminError> {
        timeout(self.time_limit, answer).await.unwrap_or_else(|_| {
            let seconds = self.time_limit.as_secs();
            Err(no_answer(format_args!(
                "the server did not answer within {seconds} s"
            )))
        })
    }

    /// Sends `request` and hands on the events of its answer, until `messages` are not received any more. `head` is told that
    /// events follow.
    async fn follow(
        &self,
        request: Request<Full<Bytes>>,
        messages: &mpsc::Sender<Result<EventMessage, AdminError>>,
        head: &SyncSender<Result<(), AdminError>>,
    ) -> Result<(), AdminError> {
        let response = self.in_time(self.way.open(request)).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(refused(status, &self.in_time(whole(response)).await?));
        }
        let _ = head.try_send(Ok(()));
        let (mut body, mut reader) = (response.into_body(), MessageReader::default());
        loop {
            let frame = tokio::select! {
                frame = timeout(SILENCE, body.frame()) => frame,
                () = messages.closed() => return Ok(()),
            };
            let frame = frame.map_err(|_| no_answer("the server has fallen silent"))?;
            let Some(frame) = frame.transpose().map_err(no_answer)? else {
                return Ok(());
            };
            let octets = frame.into_data().unwrap_or_default();
            for message in reader.read(&octets)? {
                if messages.send(Ok(message)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

impl Way {
    /// Connects, sends `request`, and waits for the head of its answer.
    async fn open(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, AdminError> {
        match self {
            Self::Socket(socket) => {
                let stream = UnixStream::connect(socket).await;
                let stream = stream.map_err(|failure| self.not_connected(&failure))?;
                open(stream, request).await.map_err(no_answer)
            }
            Self::Network(address, settings) => {
                let stream = TcpStream::connect(address.to_connect_to()).await;
                let stream = stream.map_err(|failure| self.not_connected(&failure))?;
                let connector = TlsConnector::from(Arc::clone(settings));
                let stream = connector.connect(address.name(), stream).await;
                let stream = stream.map_err(|failure| address.refused(&failure))?;
                let answer = open(stream, request).await;
                // In TLS 1.3 the server looks at the client's certificate after the handshake was done for the client.
                answer.map_err(|failure| address.refused(&*failure))
            }
        }
    }

    fn not_connected(&self, failure: &io::Error) -> AdminError {
        let place = match self {
            Self::Socket(socket) => socket.display().to_string(),
            Self::Network(address, _) => address.to_string(),
        };
        match (self, failure.kind()) {
            (Self::Socket(_), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                let message = format!("no server listens at {place}");
                AdminError::new(ErrorCode::NotRunning, message)
                    .with_remedy("start it with `hgs serve`, or name its socket with --socket")
            }
            (Self::Socket(_), io::ErrorKind::PermissionDenied) => {
                let message = format!("this user may not connect to {place}");
                AdminError::new(ErrorCode::Forbidden, message)
                    .with_remedy("run it as root or as a member of the group of the socket")
            }
            (Self::Network(..), io::ErrorKind::ConnectionRefused) => {
                let message = format!("no server listens at {place}");
                AdminError::new(ErrorCode::NotRunning, message)
                    .with_remedy("see that the guardian runs, and the address of its [listen.api]")
            }
            _ => no_answer(format_args!("{place}: {failure}")),
        }
    }
}

impl ServerAddress {
    /// Why there was no answer over TLS.
    fn refused(&self, failure: &(dyn Error + 'static)) -> AdminError {
        let (code, message, remedy) = match tls_error(failure) {
            Some(rustls::Error::AlertReceived(AlertDescription::AccessDenied)) => (
                ErrorCode::Forbidden,
                format!("{self} does not know the client certificate"),
                "have it put into the file of [listen.api] on the guardian",
            ),
            Some(rustls::Error::AlertReceived(AlertDescription::CertificateExpired)) => (
                ErrorCode::Forbidden,
                format!("{self} refused the client certificate: it is not valid now"),
                "have a new one issued and put into the file of [listen.api] on the guardian; see also that both clocks are right",
            ),
            Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)) => (
                ErrorCode::Forbidden,
                format!("{self} asks for a client certificate"),
                "name one with --client-certificate",
            ),
            Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => (
                ErrorCode::NoAnswer,
                format!("no trusted certification authority has issued the certificate of {self}"),
                "name its authority, or its own certificate, with --server-ca",
            ),
            Some(rustls::Error::InvalidCertificate(refused)) => (
                ErrorCode::NoAnswer,
                format!("the certificate of {self} is refused: {refused}"),
                "use a name that the certificate has, and name its authority with --server-ca",
            ),
            _ => return no_answer(format_args!("{self}: {}", Problem::of(failure).message)),
        };
        AdminError::new(code, message).with_remedy(remedy)
    }
}

/// The error of TLS that an error of a connection comes from.
fn tls_error<'e>(failure: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(failure);
    while let Some(error) = next {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref());
        if let Some(found) = error.downcast_ref().or(inner) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T, AdminError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(no_answer)?;
    Ok(runtime.block_on(work))
}

/// What the body of an answer says that is no success.
fn refused(status: StatusCode, body: &[u8]) -> AdminError {
    serde_json::from_slice(body)
        .unwrap_or_else(|_| no_answer(format_args!("the server answered with status {status}")))
}

type Failed = Box<dyn Error + Send + Sync>;

/// Sends `request` and waits for the head of its answer. The rest is read by the runtime that this runs in.
async fn open(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, Failed> {
    let (mut sender, mut connection) = http1::handshake(TokioIo::new(stream)).await?;
    let response = tokio::select! {
        // When the connection ends first, the request has failed, and says why.
        biased;
        response = sender.send_request(request) => response?,
        ended = &mut connection => return Err(match ended {
            Ok(()) => "the server closed the connection".into(),
            Err(failure) => failure.into(),
        }),
    };
    tokio::spawn(connection);
    Ok(response)
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, AdminError> {
    let body = Limited::new(response.into_body(), MAX_OCTETS).collect();
    Ok(body.await.map_err(no_answer)?.to_bytes())
}

fn no_answer(failure: impl ToString) -> AdminError {
    AdminError::new(ErrorCode::NoAnswer, failure)
}
