//! What other nodes ask of this one: to join, for a copy of the state, to become a member.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use hgs_cluster::credentials::Authorities;
use hgs_cluster::folder::ClusterFolder;
use hgs_cluster::join::{self, JOIN, MAX_REQUEST, MEMBER, Nodes, NotAdmitted, STATE};
use hgs_cluster::membership::MembershipError;
use hgs_cluster::node::Node;
use hgs_files::FileError;
use hgs_store::{Act, Action};
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::Cluster;
use super::error::ClusterError;
use crate::http::{Peer, Request, Response, Service};

/// Copies of the state that are sent at a time.
pub(super) const MAX_COPIES: usize = 2;
/// Octets of a part of it.
const PART: usize = 256 * 1024;
const STATE_OCTETS: HeaderName = HeaderName::from_static("x-state-octets");
/// Files of copies that are being sent.
const COPY: &str = "copy-";

/// The service behind the cluster listener.
pub(super) struct ClusterService(pub(super) Arc<Cluster>);

impl Service for ClusterService {
    fn handle(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let answered = match self.route(&request.method, &request.path) {
                "join" => self.join(&request).await,
                "member" => self.member(&request).await,
                "state" => self.state(&request).await,
                _ => return Response::text(StatusCode::NOT_FOUND, "there is no such path"),
            };
            let response = answered.unwrap_or_else(|error| {
                let status = status_of(&error);
                // Strangers can cause as many of some as they like.
                if status != StatusCode::FORBIDDEN && status != StatusCode::BAD_REQUEST {
                    warn!(%error, peer = %request.peer, "another node was not answered");
                }
                Response::text(status, error)
            });
            response.with_header(CACHE_CONTROL, HeaderValue::from_static("no-store"))
        })
    }

    fn route(&self, method: &Method, path: &str) -> &'static str {
        match (method, path) {
            (&Method::POST, JOIN) => "join",
            (&Method::POST, MEMBER) => "member",
            (&Method::GET, STATE) => "state",
            _ => "unknown",
        }
    }
}

fn status_of(error: &ClusterError) -> StatusCode {
    match error {
        ClusterError::NotAdmitted(NotAdmitted::Malformed(_)) => StatusCode::BAD_REQUEST,
        ClusterError::NotAdmitted(NotAdmitted::NotInvited(_)) => StatusCode::FORBIDDEN,
        ClusterError::NotAdmitted(NotAdmitted::Level(_)) => StatusCode::CONFLICT,
        ClusterError::Membership(
            MembershipError::NameTaken(_)
            | MembershipError::AddressTaken(_)
            | MembershipError::Full,
        ) => StatusCode::CONFLICT,
        ClusterError::Membership(_)
        | ClusterError::NotServing
        | ClusterError::Busy
        | ClusterError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What only nodes with a certificate of the cluster get.
fn require_node(request: &Request) -> Result<(), ClusterError> {
    match request.peer {
        Peer::Node(_) => Ok(()),
        Peer::Tcp(_) | Peer::Unix(_) | Peer::Client(_) => {
            Err(NotAdmitted::from(hgs_cluster::invitation::NotInvited::NotOpen).into())
        }
    }
}

impl ClusterService {
    async fn join(&self, request: &Request) -> Result<Response, ClusterError> {
        let cluster = Arc::clone(&self.0);
        let (id, body) = (request.id, request.body.clone());
        let answering = spawn_blocking(move || -> Result<Vec<u8>, ClusterError> {
            let now = cluster.clock.now();
            let format = cluster.store()?.state().format();
            let admission = {
                let mut invitations = cluster
                    .invitations
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                join::admit(&body, &mut invitations, &format, now)?
            };
            let node = &admission.request.node;
            cluster.runtime.block_on(cluster.check_free(node))?;
            let authorities = Authorities::read(&cluster.folder, &cluster.master_key)?;
            let sealed =
                admission.answer(&cluster.facts(), &authorities, &cluster.master_key, now)?;
            info!(node = %node.name, address = %node.address, "a node joins the cluster");
            let about = json!({"node": node.name, "address": node.address, "version": admission.request.version.version});
            let act = Act::new(cluster.clock.now(), "cluster").by_request(id);
            cluster.record(&act, Action::AdmitNode, about)?;
            Ok(sealed)
        });
        let sealed = joined(answering.await)?;
        Ok(Response::new(
            StatusCode::OK,
            "application/octet-stream",
            sealed,
        ))
    }

    async fn member(&self, request: &Request) -> Result<Response, ClusterError> {
        require_node(request)?;
        let malformed = |error: serde_json::Error| NotAdmitted::Malformed(error.to_string());
        if request.body.len() > MAX_REQUEST {
            return Err(NotAdmitted::Malformed("it is too long".to_owned()).into());
        }
        let node: Node = serde_json::from_slice(&request.body).map_err(malformed)?;
        let nodes = self.0.add(&node).await?;
        info!(node = %node.name, "there is a place for a new node");
        let body = serde_json::to_vec(&Nodes { nodes }).map_err(malformed)?;
        Ok(Response::new(StatusCode::OK, "application/json", body))
    }

    async fn state(&self, request: &Request) -> Result<Response, ClusterError> {
        require_node(request)?;
        let permit = Arc::clone(&self.0.copies).try_acquire_owned();
        let permit = permit.map_err(|_| ClusterError::Busy)?;
        let cluster = Arc::clone(&self.0);
        let (file, octets) = joined(spawn_blocking(move || copy(&cluster)).await)?;
        info!(peer = %request.peer, octets, "another node fetches a copy of the state");
        let parts = stream::unfold((file, permit), next_part);
        Ok(Response::stream("application/octet-stream", parts)
            .with_header(STATE_OCTETS, HeaderValue::from(octets)))
    }
}

fn joined<T>(outcome: Result<T, tokio::task::JoinError>) -> T {
    outcome.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()))
}

/// A copy of the state in a file that has no name any more, and its length.
fn copy(cluster: &Cluster) -> Result<(File, u64), ClusterError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = cluster.folder.file(&format!("{COPY}{number}"));
    let at = |error: io::Error| FileError::at(&path, error);
    cluster.store()?.copy_to(&path)?;
    let file = File::open(&path).map_err(at)?;
    fs::remove_file(&path).map_err(at)?;
    let octets = file.metadata().map_err(at)?.len();
    Ok((file, octets))
}

/// A copy that can't be read ends early, which the other node finds by its length.
async fn next_part(
    (mut file, permit): (File, OwnedSemaphorePermit),
) -> Option<(Bytes, (File, OwnedSemaphorePermit))> {
    let read = spawn_blocking(move || -> io::Result<(Vec<u8>, File)> {
        let mut part = Vec::with_capacity(PART);
        file.by_ref().take(PART as u64).read_to_end(&mut part)?;
        Ok((part, file))
    });
    match read.await {
        Ok(Ok((part, file))) if !part.is_empty() => Some((part.into(), (file, permit))),
        Ok(Ok(_)) => None,
        Ok(Err(error)) => {
            warn!(%error, "a copy of the state can't be read");
            None
        }
        Err(_) => None,
    }
}

/// Removes what a crash has left of copies.
pub(super) fn remove_old_copies(folder: &ClusterFolder) {
    let entries = fs::read_dir(folder.path()).into_iter().flatten().flatten();
    let old: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(COPY))
        .map(|entry| entry.path())
        .collect();
    for path in old {
        if let Err(error) = fs::remove_file(&path) {
            warn!(path = %path.display(), %error, "an old copy of the state can't be removed");
        }
    }
}
