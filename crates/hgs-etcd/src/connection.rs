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
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

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
    connection: tokio::sync::Mutex<Option<http2::SendRequest<Body>>>,
    standing: Mutex<Standing>,
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
        let answer = timeout_at(until, connection.try_send_request(request)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(mut error)) => {
                let unsent = error.take_message().is_some();
                let reason = chain(error.error());
                *self.connection.lock().await = None;
                return Err(match unsent {
                    true => MemberError::Connect(reason),
                    false => MemberError::Broken(reason),
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

    async fn connected(&self) -> Result<http2::SendRequest<Body>, MemberError> {
        let mut place = self.connection.lock().await;
        if let Some(connection) = place.as_ref()
            && !connection.is_closed()
        {
            return Ok(connection.clone());
        }
        match timeout(CONNECT, self.connect()).await {
            Ok(Ok(connection)) => Ok(place.insert(connection).clone()),
            Ok(Err(error)) => Err(MemberError::Connect(chain(&error))),
            Err(_) => Err(MemberError::Unreachable("no answer".to_owned())),
        }
    }

    async fn connect(&self) -> io::Result<http2::SendRequest<Body>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return over(stream).await;
        };
        let host = self
            .address
            .rsplit_once(':')
            .map_or(&*self.address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::clone(tls))
            .connect(name, stream)
            .await?;
        over(stream).await
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
async fn over<S>(stream: S) -> io::Result<http2::SendRequest<Body>>
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
    let (connection, driver) = handshake.await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "a connection to etcd has ended");
        }
    });
    Ok(connection)
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
