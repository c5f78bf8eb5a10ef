//! A cluster as its clients know it.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http_body_util::BodyExt as _;
use rustls::ClientConfig;
use tokio::time::{Instant, timeout};

use crate::Code;
use crate::connection::{Member, Method, Turn, chain};
use crate::error::{Error, MemberError};
use crate::grpc::{Frames, frame, status};
use crate::members::{Alarm, AlarmKind, MemberId, MemberStatus, Members};
use crate::txn::{Committed, Found, Keys, Range, Revision, Txn};
use crate::watch::{Watch, WatchError};
use crate::wire;

/// Octets of the longest answer. etcd takes requests of 1.5 MiB; a range that is longer is read in parts.
pub(crate) const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// How long compaction, defragmentation and a piece of a snapshot may take.
const UPKEEP: Duration = Duration::from_secs(60);

const COMPACT: &str = "/etcdserverpb.KV/Compact";

/// What a client is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses of all members, such as `node-1:2379`, in the order in which they are asked: the one on this machine first.
    pub members: Vec<String>,
    /// How members prove who they are, and this client to them; plain HTTP/2 unless given.
    pub tls: Option<Arc<ClientConfig>>,
    /// How long a member may take to answer.
    pub patience: Duration,
    /// How long all members together may take.
    pub budget: Duration,
}

/// A client of a cluster. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Client {
    members: Arc<RwLock<Arc<[Arc<Member>]>>>,
    patience: Duration,
    budget: Duration,
}

/// Whether a request may be sent again when it is not known whether it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It changes nothing, or what it compares lets it happen once only.
    Safe,
    /// It might be done twice.
    Never,
}

impl Client {
    /// A client, which connects when it is asked for something.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let Settings {
            members,
            tls,
            patience,
            budget,
        } = settings;
        let client = Self {
            members: Arc::default(),
            patience,
            budget,
        };
        client.set_members(members, tls.as_ref());
        client
    }

    /// Asks these members from now on, also by its clones: after others have joined, or with another certificate.
    pub fn set_members(&self, addresses: Vec<String>, tls: Option<&Arc<ClientConfig>>) {
        let members = addresses
            .into_iter()
            .map(|address| Arc::new(Member::new(address, tls.cloned())));
        *self.members.write().unwrap_or_else(PoisonError::into_inner) = members.collect();
    }

    /// The same client, which waits so long for all members together.
    #[must_use]
    pub fn within(&self, budget: Duration) -> Self {
        Self {
            budget,
            ..self.clone()
        }
    }

    fn all_members(&self) -> Arc<[Arc<Member>]> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&members)
    }

    /// Commits a transaction, or learns why its comparisons do not hold. With [`Repeat::Safe`], the next member is asked
    /// after an outcome that is not known.
    ///
    /// # Errors
    /// When no member answers for sure; [`Error::may_be_done`] says what is known.
    pub async fn commit(&self, txn: &Txn, repeat: Repeat) -> Result<Committed, Error> {
        let request = wire::TxnRequest::from(txn);
        let answer: wire::TxnResponse = self.ask("/etcdserverpb.KV/Txn", &request, repeat).await?;
        Ok(answer.into())
    }

    /// Reads keys.
    ///
    /// # Errors
    /// When no member answers, or the revision is gone.
    pub async fn range(&self, range: &Range) -> Result<Found, Error> {
        let request = wire::RangeRequest::from(range);
        let method = Method {
            path: "/etcdserverpb.KV/Range",
            without_leader: range.stale,
        };
        let answer: wire::RangeResponse = self.ask_by(method, &request, Repeat::Safe).await?;
        Ok(answer.into())
    }

    /// Lets go of the history before a revision. Its space is used again some time later.
    ///
    /// # Errors
    /// When no member answers, or it is gone already.
    pub async fn compact(&self, before: Revision) -> Result<(), Error> {
        let request = wire::CompactionRequest {
            revision: before.0,
            physical: false,
        };
        self.ask::<wire::HeaderOnly>(COMPACT, &request, Repeat::Safe)
            .await
            .map(drop)
    }

    /// The same, and returns when the member that is asked has removed it from its database, within a minute.
    ///
    /// # Errors
    /// When no member answers, or it is gone already.
    pub async fn compact_at_once(&self, before: Revision) -> Result<(), Error> {
        let request = wire::CompactionRequest {
            revision: before.0,
            physical: true,
        };
        let patient = Self {
            members: Arc::clone(&self.members),
            patience: UPKEEP,
            budget: UPKEEP,
        };
        let answer = patient.ask::<wire::HeaderOnly>(COMPACT, &request, Repeat::Safe);
        answer.await.map(drop)
    }

    /// Tells changes of keys from a revision on.
    ///
    /// # Errors
    /// When no member takes the request.
    pub async fn watch(&self, keys: Keys, from: Revision) -> Result<Watch, WatchError> {
        let mut last = WatchError::Ended("there is no member".to_owned());
        for (_, member) in self.in_order() {
            match Watch::begin(&member, keys.clone(), from, self.patience).await {
                Ok(watch) => return Ok(watch),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The members of the cluster.
    ///
    /// # Errors
    /// When no member answers.
    pub async fn members(&self) -> Result<Members, Error> {
        let answer: wire::MembersResponse = self
            .ask(
                "/etcdserverpb.Cluster/MemberList",
                &wire::Nothing {},
                Repeat::Safe,
            )
            .await?;
        Ok(answer.into())
    }

    /// Adds a member that has no vote yet: it learns what the others have.
    ///
    /// # Errors
    /// When no member answers, or the cluster is not ready for it.
    pub async fn add_learner(&self, peer_url: &str) -> Result<(MemberId, Members), Error> {
        let request = wire::MemberAddRequest {
            peer_urls: vec![peer_url.to_owned()],
            is_learner: true,
        };
        let answer: wire::MemberAddResponse = self
            .ask("/etcdserverpb.Cluster/MemberAdd", &request, Repeat::Never)
            .await?;
        let id = MemberId(answer.member.map_or(0, |member| member.id));
        let members = wire::MembersResponse {
            members: answer.members,
        };
        Ok((id, members.into()))
    }

    /// Gives a learner its vote.
    ///
    /// # Errors
    /// When no member answers, or it has not learnt enough yet.
    pub async fn promote(&self, member: MemberId) -> Result<Members, Error> {
        let request = wire::MemberId { id: member.0 };
        let path = "/etcdserverpb.Cluster/MemberPromote";
        let answer: wire::MembersResponse = self.ask(path, &request, Repeat::Never).await?;
        Ok(answer.into())
    }

    /// Removes a member.
    ///
    /// # Errors
    /// When no member answers, or there is no such member.
    pub async fn remove(&self, member: MemberId) -> Result<Members, Error> {
        let request = wire::MemberId { id: member.0 };
        let path = "/etcdserverpb.Cluster/MemberRemove";
        let answer: wire::MembersResponse = self.ask(path, &request, Repeat::Never).await?;
        Ok(answer.into())
    }

    /// Alarms that are on: with them etcd refuses writes.
    ///
    /// # Errors
    /// When no member answers.
    pub async fn alarms(&self) -> Result<Vec<Alarm>, Error> {
        let request = wire::AlarmRequest::default();
        let path = "/etcdserverpb.Maintenance/Alarm";
        let answer: wire::AlarmResponse = self.ask(path, &request, Repeat::Safe).await?;
        Ok(answer.alarms.into_iter().map(Into::into).collect())
    }

    /// Turns an alarm off, once its cause is gone.
    ///
    /// # Errors
    /// When no member answers.
    pub async fn disarm(&self, alarm: Alarm) -> Result<(), Error> {
        let kind = match alarm.kind {
            AlarmKind::NoSpace => wire::AlarmType::NoSpace,
            AlarmKind::Corrupt => wire::AlarmType::Corrupt,
        };
        let request = wire::AlarmRequest {
            action: wire::AlarmAction::Deactivate.into(),
            member_id: alarm.member.0,
            alarm: kind.into(),
        };
        let path = "/etcdserverpb.Maintenance/Alarm";
        self.ask::<wire::AlarmResponse>(path, &request, Repeat::Safe)
            .await
            .map(drop)
    }

    /// How many members this client was told.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all_members().len()
    }

    /// How one member stands, by its place among those that this client was told. It answers without a quorum.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self, member: usize) -> Result<MemberStatus, MemberError> {
        let method = of_member("/etcdserverpb.Maintenance/Status");
        let answer: wire::StatusResponse = self
            .member(member)?
            .ask(method, &wire::Nothing {}, MAX_ANSWER, self.patience)
            .await?;
        Ok(answer.into())
    }

    /// Looks whether a member that does not answer refuses the certificate of this client. It takes a second where it does not.
    ///
    /// # Errors
    /// When it can't be reached, is somebody else, or refuses.
    pub async fn try_certificate(&self, member: usize) -> Result<(), MemberError> {
        self.member(member)?.try_certificate().await
    }

    /// Has one member give back the space that it does not use. It answers nothing else meanwhile.
    ///
    /// # Errors
    /// When it does not answer within a minute.
    pub async fn defragment(&self, member: usize) -> Result<(), MemberError> {
        let method = of_member("/etcdserverpb.Maintenance/Defragment");
        self.member(member)?
            .ask::<wire::HeaderOnly>(method, &wire::Nothing {}, MAX_ANSWER, UPKEEP)
            .await
            .map(drop)
    }

    /// Has the leader, which is at this place, hand on to another member.
    ///
    /// # Errors
    /// When it does not answer, or is not the leader.
    pub async fn move_leader(&self, leader: usize, to: MemberId) -> Result<(), MemberError> {
        let method = of_member("/etcdserverpb.Maintenance/MoveLeader");
        let request = wire::MemberId { id: to.0 };
        self.member(leader)?
            .ask::<wire::HeaderOnly>(method, &request, MAX_ANSWER, UPKEEP)
            .await
            .map(drop)
    }

    /// Reads the whole store of one member, as `etcdctl snapshot save` writes it: its file, and the SHA-256 of that.
    ///
    /// # Errors
    /// When the member ends early, or what comes can't be taken.
    pub async fn snapshot(
        &self,
        member: usize,
        take: &mut (dyn FnMut(&[u8]) -> io::Result<()> + Send),
    ) -> Result<(), MemberError> {
        let method = of_member("/etcdserverpb.Maintenance/Snapshot");
        let answer = self
            .member(member)?
            .send(method, frame(&wire::Nothing {}), UPKEEP)
            .await?;
        let mut body = answer.into_body();
        let mut frames = Frames::new(MAX_ANSWER);
        loop {
            let part = timeout(UPKEEP, body.frame()).await;
            let part = part.map_err(|_| MemberError::Late(UPKEEP))?;
            let part = part.ok_or_else(|| MemberError::Broken("it ends early".to_owned()))?;
            let part = part.map_err(|error| MemberError::Broken(chain(&error)))?;
            match part.into_data() {
                Ok(data) => frames.take(&data),
                Err(part) => {
                    return match part.trailers_ref().and_then(status) {
                        Some(status) if status.code == Code::Ok && frames.is_empty() => Ok(()),
                        Some(status) => Err(MemberError::of(status)),
                        None => Err(MemberError::Broken("it ends without a status".to_owned())),
                    };
                }
            }
            while let Some(piece) = frames.next::<wire::SnapshotResponse>()? {
                take(&piece.blob).map_err(|error| MemberError::Broken(error.to_string()))?;
            }
        }
    }

    fn member(&self, place: usize) -> Result<Arc<Member>, MemberError> {
        let absent = || MemberError::Connect(format!("there is no member {place}"));
        self.all_members().get(place).cloned().ok_or_else(absent)
    }

    /// The members in the order in which they are asked: those that failed lately later, those that are silent last.
    fn in_order(&self) -> Vec<(Turn, Arc<Member>)> {
        let mut members: Vec<_> = self
            .all_members()
            .iter()
            .map(|member| (member.turn(), Arc::clone(member)))
            .collect();
        members.sort_by_key(|(turn, _)| *turn);
        members
    }

    async fn ask<A: prost::Message + Default>(
        &self,
        path: &'static str,
        request: &impl prost::Message,
        repeat: Repeat,
    ) -> Result<A, Error> {
        let method = Method {
            path,
            without_leader: false,
        };
        self.ask_by(method, request, repeat).await
    }

    /// Asks one member after the other, until one answers for sure.
    async fn ask_by<A: prost::Message + Default>(
        &self,
        method: Method,
        request: &impl prost::Message,
        repeat: Repeat,
    ) -> Result<A, Error> {
        let until = Instant::now() + self.budget;
        let mut members = Vec::new();
        for (turn, member) in self.in_order() {
            let patience = self
                .patience
                .min(until.saturating_duration_since(Instant::now()));
            let answer = match turn {
                _ if patience.is_zero() => Err(MemberError::Unreachable(
                    "not asked, as the others took too long".to_owned(),
                )),
                Turn::Never => Err(MemberError::Unreachable(
                    "silent, and not asked again before it answers".to_owned(),
                )),
                Turn::First | Turn::Later => {
                    member.ask(method, request, MAX_ANSWER, patience).await
                }
            };
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let stop =
                !error.is_of_this_member() || (repeat == Repeat::Never && error.may_be_done());
            members.push((member.address().to_owned(), error));
            if stop {
                break;
            }
        }
        Err(Error { members })
    }
}

const fn of_member(path: &'static str) -> Method {
    Method {
        path,
        without_leader: true,
    }
}
