//! The client of the API, over the Unix socket of a server.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::poll_fn;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::call::{LastEventId, Outgoing};
use crate::event_stream::{EventMessage, EventStream, HEARTBEAT, MessageReader};
use crate::{AdminError, ErrorCode};

/// Time for one request and its answer.
const TIME_LIMIT: Duration = Duration::from_mins(1);

/// Octets of the largest answer: a thousand audit records, or all hosts of a large site.
const MAX_OCTETS: usize = 64 * 1024 * 1024;

/// For how long a stream of events may be silent.
const SILENCE: Duration = HEARTBEAT.saturating_mul(3);

/// Messages of a stream that wait to be taken.
const WAITING_MESSAGES: usize = 16;

/// Asks the server that listens at a Unix socket, with a new connection for each call. Calls block; make them on any
/// thread that the server itself does not need.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    time_limit: Duration,
}

impl Client {
    /// A client of the server at `socket`. It connects with the first call.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
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

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends a request and reads the answer.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        method: &Method,
        outgoing: Outgoing,
    ) -> Result<T, AdminError> {
        let (status, body) = self.exchange(request(method, outgoing)?)?;
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
        let request = request(method, outgoing)?;
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

    /// A runtime can't be waited for on a thread of another, so the exchange has a thread of its own.
    fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), AdminError> {
        let exchange = async {
            let answer = async {
                let response = open(&self.socket, request).await?;
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
        let response = self.in_time(open(&self.socket, request)).await?;
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

fn block_on<T>(work: impl Future<Output = T>) -> Result<T, AdminError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(no_answer)?;
    Ok(runtime.block_on(work))
}

fn request(method: &Method, outgoing: Outgoing) -> Result<Request<Full<Bytes>>, AdminError> {
    let mut request = Request::builder()
        .method(method)
        .uri(outgoing.target())
        .header(HOST, "hgs")
        .header(CONTENT_TYPE, "application/json");
    if let LastEventId(Some(sequence)) = outgoing.last_event_id {
        request = request.header("last-event-id", sequence);
    }
    request.body(Full::new(outgoing.body)).map_err(no_answer)
}

/// What the body of an answer says that is no success.
fn refused(status: StatusCode, body: &[u8]) -> AdminError {
    serde_json::from_slice(body)
        .unwrap_or_else(|_| no_answer(format_args!("the server answered with status {status}")))
}

/// Sends `request` and waits for the head of its answer. The rest is read by the runtime that this runs in.
async fn open(
    socket: &Path,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, AdminError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|failure| not_running(socket, &failure))?;
    let (mut sender, mut connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(no_answer)?;
    let response = tokio::select! {
        // When the connection ends first, the request has failed, and says why.
        biased;
        response = sender.send_request(request) => response.map_err(no_answer)?,
        ended = &mut connection => return Err(match ended {
            Ok(()) => no_answer("the server closed the connection"),
            Err(failure) => no_answer(failure),
        }),
    };
    tokio::spawn(connection);
    Ok(response)
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, AdminError> {
    let body = Limited::new(response.into_body(), MAX_OCTETS).collect();
    Ok(body.await.map_err(no_answer)?.to_bytes())
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
