//! The agent's socket: who may ask, and how requests are read and answered.

use std::sync::Arc;

use hgs_client::Fault;
use serde::Serialize;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
    copy_bidirectional, join,
};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Duration, timeout};

use crate::progress::Progress;
use crate::service::Service;
use crate::wire::{AgentFailure, Line, MAX_REQUEST, Request};

/// Requests that are worked on at once; more wait in the kernel.
const CONNECTIONS: usize = 64;
/// How long a caller may take for its request.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// How long the agent waits before it accepts again when the system could not.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers callers until it is dropped. Work that a caller has asked for goes on when the caller leaves.
pub(crate) async fn serve(listener: UnixListener, agent: Arc<Service>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let agent = Arc::clone(&agent);
                tokio::spawn(async move {
                    // A caller that has gone needs no answer.
                    let _ = converse(stream, agent).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a caller could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, agent: Arc<Service>) -> std::io::Result<()> {
    let allowed = may_ask(&stream);
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let request = match allowed {
        Ok(()) => read(&mut reader).await,
        Err(failure) => Err(failure),
    };
    let answer = match request {
        Ok(Request::Console { name }) => match agent.console(&name).await {
            Ok(mut port) => {
                write(&mut writer, &Line::Done(())).await?;
                copy_bidirectional(&mut join(reader, writer), &mut port).await?;
                return Ok(());
            }
            Err(failure) => Err(failure),
        },
        Ok(request) => work(&agent, request, &mut writer).await?,
        Err(failure) => Err(failure),
    };
    match answer {
        Ok(document) => write(&mut writer, &Line::Done(document)).await,
        Err(failure) => write(&mut writer, &Line::<()>::Failed(failure)).await,
    }
}

/// Root, and the user that the agent runs as.
fn may_ask(stream: &UnixStream) -> Result<(), AgentFailure> {
    let peer = stream.peer_cred().map_err(AgentFailure::failed)?.uid();
    if peer == 0 || peer == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(
        AgentFailure::refused(format!("user {peer} may ask this agent nothing"))
            .at_fault(Fault::Operator)
            .remedy("run the command as root, or as the user that the agent runs as"),
    )
}

async fn read(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Request, AgentFailure> {
    let not_understood = |why: &dyn std::fmt::Display| {
        AgentFailure::refused(format!("the request is not understood: {why}"))
            .at_fault(Fault::Operator)
            .remedy("use the version of guarded-host that the agent has")
    };
    let mut line = Vec::new();
    let mut limited = reader.take(MAX_REQUEST as u64);
    match timeout(REQUEST_TIME, limited.read_until(b'\n', &mut line)).await {
        Err(_) => Err(not_understood(&"it takes too long")),
        Ok(Err(error)) => Err(not_understood(&error)),
        Ok(Ok(_)) if line.last() != Some(&b'\n') => {
            Err(not_understood(&"it is cut short, or too long"))
        }
        Ok(Ok(_)) => serde_json::from_slice(&line).map_err(|error| not_understood(&error)),
    }
}

/// Has a request worked on, and passes on what is being done.
async fn work(
    agent: &Arc<Service>,
    request: Request,
    writer: &mut OwnedWriteHalf,
) -> std::io::Result<Result<serde_json::Value, AgentFailure>> {
    let (sender, mut steps) = mpsc::unbounded_channel();
    let agent = Arc::clone(agent);
    let work = tokio::spawn(async move { agent.answer(request, &Progress::to(sender)).await });
    let mut written = Ok(());
    while let Some(step) = steps.recv().await {
        if written.is_ok() {
            written = write(writer, &Line::<()>::Progress(step)).await;
        }
    }
    let answer = work.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request ended in a fault of this program");
        Err(
            AgentFailure::failed("the agent has a fault; its log says more")
                .at_fault(Fault::Ourselves),
        )
    });
    written.map(|()| answer)
}

async fn write<T: Serialize>(writer: &mut OwnedWriteHalf, line: &Line<T>) -> std::io::Result<()> {
    let mut octets = serde_json::to_vec(line)?;
    octets.push(b'\n');
    writer.write_all(&octets).await
}
