//! The client of the API, over the Unix socket of a server.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::{AdminError, ErrorCode};

/// Time for one request and its answer.
const TIME_LIMIT: Duration = Duration::from_mins(1);

/// Octets of the largest answer: a thousand audit records, or all hosts of a large site.
const MAX_OCTETS: usize = 64 * 1024 * 1024;

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
        target: String,
        body: Bytes,
    ) -> Result<T, AdminError> {
        let request = Request::builder()
            .method(method)
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
                    let exchange = timeout(self.time_limit, exchange(&self.socket, request)).await;
                    exchange.map_err(|_| {
                        let seconds = self.time_limit.as_secs();
                        no_answer(format_args!("the server did not answer within {seconds} s"))
                    })?
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
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|failure| not_running(socket, &failure))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(no_answer)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(no_answer)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_OCTETS)
            .collect()
            .await;
        Ok((status, body.map_err(no_answer)?.to_bytes()))
    };
    tokio::select! {
        // When the connection ends first, the request has failed, and says why.
        biased;
        answer = answer => answer,
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
