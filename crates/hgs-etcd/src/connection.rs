//! One member of a cluster, and the connection to it.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, HeaderValue, TE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Code;
use crate::client::MAX_ANSWER;
use crate::error::{MemberError, Status};
use crate::grpc::{Frames, frame, status};
use crate::wire;

/// How long a connection may take: a member that starts accepts connections and stays silent.
const CONNECT: Duration = Duration::from_secs(1);
/// How often a connection in use is tried, and how long its answer may take. etcd ends those that ask every 5 s or oftener.
const PING: Duration = Duration::from_secs(10);
/// How long a member that failed is asked after the others.
const AVOIDED: Duration = Duration::from_secs(10);
/// How often a silent member is asked whether it is back.
const PROBE: Duration = Duration::from_millis(250);
/// For so long the end of a connection is waited for on which a request has failed.
const END: Duration = Duration::from_millis(100);
/// Octets that a member may send before it has to wait: an answer with large values comes at once.
const WINDOW: u32 = 4 * 1024 * 1024;

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What a request asks for beside its message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Method {
    /// Its path.
    pub(crate) path: &'static str,
    /// Whether a member without a leader answers it, too.
    pub(crate) without_leader: bool,
}

/// A member: where it listens for clients, and how it is spoken with.
#[derive(Debug)]
pub(crate) struct Member {
    address: String,
    tls: Option<Arc<ClientConfig>>,
    connection: tokio::sync::Mutex<Option<Connection>>,
    standing: Mutex<Standing>,
}

/// A connection to a member.
#[derive(Debug, Clone)]
struct Connection {
    requests: http2::SendRequest<Body>,
    /// Why it has ended, where certificates are the reason.
    refusal: watch::Receiver<Option<MemberError>>,
}

/// What is known of a member from its last answer.
#[derive(Debug, Clone, Copy)]
enum Standing {
    Good,
    /// It has answered with a failure, or refused the connection: asking it costs no time.
    Failed(Instant),
    /// It let a request wait for nothing. It is asked whether it is back, beside all requests.
    Silent,
}

/// In which order members are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Turn {
    First,
    Later,
    /// Not at all, as long as it is silent.
    Never,
}

impl Member {
    /// At an address such as `node-1:2379`.
    pub(crate) fn new(address: String, tls: Option<Arc<ClientConfig>>) -> Self {
        Self {
            address,
            tls,
            connection: tokio::sync::Mutex::default(),
            standing: Mutex::new(Standing::Good),
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn turn(&self) -> Turn {
        match *self.standing.lock().unwrap_or_else(PoisonError::into_inner) {
            Standing::Good => Turn::First,
            Standing::Failed(since) if since.elapsed() >= AVOIDED => Turn::First,
            Standing::Failed(_) => Turn::Later,
            Standing::Silent => Turn::Never,
        }
    }

    /// Remembers how the member answered. One that has just become silent is looked after.
    fn note(self: &Arc<Self>, answer: Result<(), &MemberError>) {
        let now = match answer {
            Ok(()) | Err(MemberError::Refused(_)) => Standing::Good,
            Err(MemberError::Late(_) | MemberError::Unreachable(_)) => Standing::Silent,
            Err(_) => Standing::Failed(Instant::now()),
        };
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *standing, now);
        if matches!(now, Standing::Silent) && !matches!(before, Standing::Silent) {
            tokio::spawn(look_after(Arc::downgrade(self)));
        }
    }

    /// Asks for one answer of at most `limit` octets, within `patience`.
    pub(crate) async fn ask<A: prost::Message + Default>(
        self: &Arc<Self>,
        method: Method,
        request: &impl prost::Message,
        limit: usize,
        patience: Duration,
    ) -> Result<A, MemberError> {
        let until = Instant::now() + patience;
        let answer = match self.send(method, frame(request), patience).await {
            Ok(answer) => timeout_at(until, one_message(answer, limit))
                .await
                .unwrap_or(Err(MemberError::Late(patience))),
            Err(error) => Err(error),
        };
        self.note(answer.as_ref().map(drop));
        if answer.as_ref().is_err_and(MemberError::is_of_this_member) {
            // Whatever it is, the next request gets a connection of its own.
            *self.connection.lock().await = None;
        }
        answer
    }

    /// Sends a request of one message, and returns when the head of the answer has come.
    pub(crate) async fn send(
        &self,
        method: Method,
        message: Bytes,
        patience: Duration,
    ) -> Result<Response<Incoming>, MemberError> {
        let until = Instant::now() + patience;
        let body = || Full::new(message.clone()).boxed_unsync();
        match self.send_body(method, body(), until).await {
            // The member was started again meanwhile, for instance: nothing was sent.
            Err(MemberError::Connect(_)) => self.send_body(method, body(), until).await,
            answer => answer,
        }
    }

    /// Sends a request on the connection that there is, or on a new one.
    pub(crate) async fn send_body(
        &self,
        Method {
            path,
            without_leader,
        }: Method,
        body: Body,
        until: Instant,
    ) -> Result<Response<Incoming>, MemberError> {
        let mut connection = timeout_at(until, self.connected())
            .await
            .unwrap_or_else(|_| Err(MemberError::Unreachable("no answer".to_owned())))?;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut request = Request::post(format!("{scheme}://{}{path}", self.address))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .header(TE, HeaderValue::from_static("trailers"));
        if !without_leader {
            // Without a leader the answer comes at once, and not after seconds.
            request = request.header("hasleader", HeaderValue::from_static("true"));
        }
        let request = request
            .body(body)
            .map_err(|error| MemberError::Connect(error.to_string()))?;
        let asked = Instant::now();
        let answer = timeout_at(until, connection.requests.try_send_request(request)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(mut error)) => {
                let unsent = error.take_message().is_some();
                let reason = chain(error.error());
                *self.connection.lock().await = None;
                return Err(match (connection.refusal().await, unsent) {
                    (Some(refusal), _) => refusal,
                    (None, true) => MemberError::Connect(reason),
                    (None, false) => MemberError::Broken(reason),
                });
            }
            Err(_) => return Err(MemberError::Late(asked.elapsed())),
        };
        match (answer.status(), status(answer.headers())) {
            (StatusCode::OK, None | Some(Status { code: Code::Ok, .. })) => Ok(answer),
            (_, Some(status)) => Err(MemberError::of(status)),
            (other, None) => Err(MemberError::Broken(format!("HTTP status {other}"))),
        }
    }

    async fn connected(&self) -> Result<Connection, MemberError> {
        let mut place = self.connection.lock().await;
        if let Some(connection) = place.as_ref()
            && !connection.requests.is_closed()
        {
            return Ok(connection.clone());
        }
        match timeout(CONNECT, self.connect()).await {
            Ok(Ok(connection)) => Ok(place.insert(connection).clone()),
            Ok(Err(error)) => Err(not_connected(&error)),
            Err(_) => Err(MemberError::Unreachable("no answer".to_owned())),
        }
    }

    async fn connect(&self) -> io::Result<Connection> {
        let stream = self.stream().await?;
        match &self.tls {
            None => over(stream).await,
            Some(tls) => over(self.secured(tls, stream).await?).await,
        }
    }

    async fn stream(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn secured(
        &self,
        tls: &Arc<ClientConfig>,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let host = self
            .address
            .rsplit_once(':')
            .map_or(&*self.address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(tls))
            .connect(name, stream)
            .await
    }

    /// Connects, says nothing, and listens whether the certificate of this client is refused. With TLS 1.3 that comes after the
    /// handshake, and is lost where a request is on its way already.
    pub(crate) async fn try_certificate(&self) -> Result<(), MemberError> {
        let Some(tls) = &self.tls else {
            return Ok(());
        };
        let listening = async {
            let mut stream = self.secured(tls, self.stream().await?).await?;
            stream.read(&mut [0; 1]).await
        };
        match timeout(CONNECT, listening).await {
            Ok(Err(error)) => Err(not_connected(&error)),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }
}

impl Connection {
    /// Waits for its end, which is there or about to come, and tells whether certificates are the reason.
    async fn refusal(&mut self) -> Option<MemberError> {
        let ended = self.refusal.wait_for(Option::is_some);
        let ended = timeout(END, ended).await.ok()?;
        ended.ok()?.clone()
    }
}

/// Asks a silent member how it stands, until it answers or nobody uses it any more.
async fn look_after(member: Weak<Member>) {
    let method = Method {
        path: "/etcdserverpb.Maintenance/Status",
        without_leader: true,
    };
    loop {
        tokio::time::sleep(PROBE).await;
        let Some(member) = member.upgrade() else {
            return;
        };
        let answer = member
            .ask::<wire::StatusResponse>(method, &wire::Nothing {}, MAX_ANSWER, CONNECT)
            .await;
        match member.turn() {
            Turn::Never => {}
            _ => {
                tracing::debug!(
                    member = member.address,
                    ok = answer.is_ok(),
                    "a silent member of etcd answers again"
                );
                return;
            }
        }
    }
}

/// HTTP/2 over a stream.
async fn over<S>(stream: S) -> io::Result<Connection>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .handshake(TokioIo::new(stream));
    let (requests, driver) = handshake.await.map_err(io::Error::other)?;
    let (ended, refusal) = watch::channel(None);
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "a connection to etcd has ended");
            // Nobody may be left to know.
            let _ = ended.send(tls_error(&error));
        }
    });
    Ok(Connection { requests, refusal })
}

/// The one message of an answer, and the status behind it.
async fn one_message<A: prost::Message + Default>(
    answer: Response<Incoming>,
    limit: usize,
) -> Result<A, MemberError> {
    let mut end = status(answer.headers());
    let mut body = answer.into_body();
    let (mut frames, mut message) = (Frames::new(limit), None);
    while let Some(part) = body.frame().await {
        let part = part.map_err(|error| MemberError::Broken(chain(&error)))?;
        match part.into_data() {
            Ok(data) => {
                frames.take(&data);
                if message.is_none() {
                    message = frames.next::<A>()?;
                }
            }
            Err(part) => end = part.trailers_ref().and_then(status).or(end),
        }
    }
    match (end, message) {
        (Some(Status { code: Code::Ok, .. }), Some(message)) if frames.is_empty() => Ok(message),
        (Some(Status { code: Code::Ok, .. }), _) => {
            Err(MemberError::Answer(crate::grpc::FrameError::Short))
        }
        (Some(status), _) => Err(MemberError::of(status)),
        (None, _) => Err(MemberError::Broken("an answer without a status".to_owned())),
    }
}

/// Why there is no connection.
fn not_connected(error: &io::Error) -> MemberError {
    tls_error(error).unwrap_or_else(|| MemberError::Connect(chain(error)))
}

/// What TLS says behind an error, where it is about certificates. With TLS 1.3 a member that does not accept that of this
/// client says so after the handshake, and before it takes any request.
fn tls_error(error: &(dyn std::error::Error + 'static)) -> Option<MemberError> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref());
        match error.downcast_ref().or(inner) {
            Some(rustls::Error::InvalidCertificate(reason)) => {
                return Some(MemberError::Stranger(reason.to_string()));
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                return Some(MemberError::NotAccepted(format!("{alert:?}")));
            }
            _ => next = error.source(),
        }
    }
    // h2 keeps the words of an error of the connection only: those of rustls for an alert that has come.
    let words = chain(error);
    let (_, alert) = words.split_once("received fatal alert: ")?;
    Some(MemberError::NotAccepted(alert.to_owned()))
}

/// An error with what is behind it: hyper's own words name no cause.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
