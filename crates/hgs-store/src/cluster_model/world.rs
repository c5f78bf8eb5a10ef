//! Nodes, the network between them and their order, and what hosts hold: one state of the model.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use hgs_protector::VerifiedProtector;

use super::copy::{Copy, Name};
use super::job::{Job, Task};
use super::log::{Log, Message};
use super::service;

/// What may still happen. Each number is how often.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Left {
    /// Requests of the first and of the second host.
    pub(super) requests: [u8; 2],
    pub(super) tasks: Vec<Task>,
    pub(super) lost: u8,
    pub(super) duplicates: u8,
    pub(super) given_up: u8,
    pub(super) crashes: u8,
    /// Nodes whose disk is replaced by an old backup of it.
    pub(super) old_disks: u8,
    /// Nodes of which a second machine is started.
    pub(super) clones: u8,
    /// The order is replaced by an old snapshot of it.
    pub(super) old_orders: u8,
    /// Copies of the disk of the VM that are started.
    pub(super) copies: u8,
    /// Attestations of the first host with identity keys of its own, by their numbers.
    pub(super) attestations: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// A host asks a node for the keys of the VM, or of the copy of it. The VM moves to the host that keeps the answer.
    Request { node: usize, host: u8, copy: bool },
    /// The first host has attested to a node with this identity key.
    Attest { node: usize, key: u8 },
    /// An administrator asks a node for something.
    Ask { node: usize, task: Task },
    /// The node decides all that waits in one batch, and sends it to the order.
    Propose { node: usize },
    /// A proposal reaches the order. Its answer is heard, or lost; it may be in the network once more.
    Deliver {
        place: usize,
        heard: bool,
        again: bool,
    },
    /// The node asks the order for what it has not taken in.
    CatchUp { node: usize },
    /// The node waits for the outcome no longer. Whoever asked is told that it is not known.
    GiveUp { node: usize },
    /// The node loses its memory, and starts again from its disk.
    Crash { node: usize },
    /// The same, from a disk as it was at the beginning.
    OldDisk { node: usize },
    /// A second machine starts with a copy of the node's disk, and as the same node.
    Clone { node: usize },
    /// The order is as it was when nothing was ordered.
    OldOrder,
    /// The host keeps an egress protector in place of the VM's. What it does not keep is a start that failed, or a migration.
    Keep { answer: usize },
    /// Somebody copies the disk of the VM.
    CopyVm,
}

#[derive(Clone)]
pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) copy: Arc<Copy>,
    pub(super) queue: Vec<Arc<Job>>,
    /// What it has proposed and not heard of.
    pub(super) waiting: Option<Arc<Message>>,
    /// It has found out that it must not go on.
    pub(super) is_stopped: bool,
}

/// A release that was answered and not kept yet.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) ingress: Name,
    pub(super) egress: Arc<VerifiedProtector>,
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) log: Arc<Log>,
    pub(super) nodes: Vec<Node>,
    pub(super) network: Vec<Arc<Message>>,
    /// The protector on the VM's disk, and on a copy of that.
    pub(super) vm: Arc<VerifiedProtector>,
    pub(super) vm_copy: Option<Arc<VerifiedProtector>>,
    pub(super) answers: Vec<Answer>,
    /// Requests for the keys of the VM so far.
    pub(super) requests: u8,
    pub(super) left: Left,
    /// Acknowledged tasks.
    pub(super) acknowledged: Vec<Task>,
    /// The order was put back after it had acknowledged something, and which tasks are gone.
    pub(super) was_put_back: bool,
    /// A node has noticed that.
    pub(super) is_noticed: bool,
    pub(super) wrong: Option<&'static str>,
}

pub(super) fn short(protector: &VerifiedProtector) -> Name {
    let digest = service::digest(protector);
    std::array::from_fn(|place| digest.as_bytes()[place])
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.log.name.hash(hasher);
        for node in &self.nodes {
            (node.name, node.copy.name, node.is_stopped).hash(hasher);
            for job in &node.queue {
                job.name.hash(hasher);
            }
            node.waiting
                .as_ref()
                .map(|message| message.name)
                .hash(hasher);
        }
        for message in &self.network {
            message.name.hash(hasher);
        }
        short(&self.vm).hash(hasher);
        self.vm_copy.as_deref().map(short).hash(hasher);
        for answer in &self.answers {
            (answer.ingress, short(&answer.egress)).hash(hasher);
        }
        (self.requests, &self.left, &self.acknowledged).hash(hasher);
        (self.was_put_back, self.is_noticed, self.wrong).hash(hasher);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        let hash = |world: &Self| {
            let mut hasher = DefaultHasher::new();
            world.hash(&mut hasher);
            hasher.finish()
        };
        hash(self) == hash(other)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let positions: Vec<_> = self
            .nodes
            .iter()
            .map(|node| node.copy.position.revision)
            .collect();
        write!(
            formatter,
            "World({} ordered, nodes at {positions:?}, {} under way, {:?})",
            self.log.revision(),
            self.network.len(),
            self.wrong.or(self.log.wrong)
        )
    }
}
