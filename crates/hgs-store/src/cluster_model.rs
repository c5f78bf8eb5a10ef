//! A model of several nodes that is the code: `stateright` drives what is shipped through what can happen to a cluster.
//!
//! Two nodes hold a copy each and share an order; two hosts ask them for the keys of one VM, whose tenant has guardians of his
//! own, beside another tenant and the fabric. Requests are decided by `hgs-kps`, commits by [`BatchPlanner`], and copies
//! are written by what follows an order. The model itself decides only what happens next. It explores every order in which that
//! can happen within a [`Scene`], which bounds how often each thing does.
//!
//! A wire that is cut, a node that is slow and a process that is frozen are states in which a message is not
//! delivered yet, or a node does nothing: they need no action.
//!
//! What is computed from the same input is computed once ([`Memo`]): states are cheap, so that there can be many.
//!
//! [`BatchPlanner`]: crate::planner::BatchPlanner

mod copy;
mod history;
mod job;
mod log;
mod machine;
mod memo;
mod scenes;
mod service;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use hgs_fault::{Fault, with};
use hgs_protector::VerifiedProtector;
use stateright::{Model, Property};

use crate::engine::View as _;
use crate::fixture::master_key;
use crate::record::Keys;
use crate::transaction::Act;
use crate::{State, StoreError, lineage};
use copy::{Copy, Name, name};
use job::{Job, Kind, Outcome, Task};
use log::{Log, Message};
use machine::{Committed, NotCommitted};
use memo::Memo;
use service::Roll;
use world::{Action, Answer, Left, Node, World, short};

// What must never be, as it is called in properties and in the documentation.
const RELEASED_AFTER_REVOCATION: &str = "a release is recorded after the revocation of its host";
const ANSWERED_AFTER_REVOCATION: &str =
    "a release is answered that was asked for after the revocation was acknowledged";
const ATTESTED_AFTER_REVOCATION: &str =
    "an attestation is recorded after the revocation of its host";
const ANSWERED_UNRECORDED: &str = "a release is answered and not recorded";
const ACKNOWLEDGED_UNDONE: &str = "a task is acknowledged and not done";
const RECORDED_TWICE: &str = "a request is recorded twice, with two egress protectors";
const NO_TREE: &str = "the lineage is not the tree of what was released";
const SUPERSEDED_IDENTITY: &str = "a superseded identity key of a host is accepted";
const REFUSED_AND_DONE: &str = "a refused task has changed something";
const HEAD_CANNOT_OPEN: &str = "a new protector can't be opened with the head of its lineage";
const SUPERSEDED_RELEASED: &str =
    "a superseded protector is released though the settings forbid it";
const NOT_SOUND: &str = "a tag, a sum or the state in memory is not that of what is kept";
const NOT_CARRIED_OUT: &str = "what was ordered can't be carried out";
const NOT_EQUAL: &str = "a node has something else than the order";
const CANNOT_START: &str = "a host in good standing can't start the VM";
const FOREIGN_WRAPPING: &str = "a tenant's protector has a foreign wrapping";
const COMPROMISED_PAIR_OPENS: &str = "a new protector can be opened with a compromised pair";
const COMPROMISED_PAIR_SIGNS: &str = "a new protector is signed by a compromised pair";
const KEY_NOT_ROLLED: &str = "a new protector has the old transport key";
const LAST_WRAPPING_LOST: &str = "a new protector has no wrapping that opens";
const DECIDED_BEFORE_COMPROMISE: &str =
    "a release is recorded after a compromise that it was decided without";
const DISABLED_PAIR_OPENED: &str = "a release by a disabled pair is recorded";
const REVOCATION_LIFTED: &str = "a revocation is lifted";
const COMPROMISE_LIFTED: &str = "a compromise is lifted";
const GENERATION_WENT_BACK: &str = "the generation goes back";
const PUT_BACK_UNNOTICED: &str = "an order that was put back is followed by all, unnoticed";
const ORDERED_AFTER_HALT: &str =
    "something is ordered after a node has found that the order was put back";

/// What must come up, or the test is empty.
const SOMETHING_HAPPENS: &str = "several commits were ordered";

/// What happens in the model, and how often at most.
#[derive(Debug, Clone)]
struct Scene {
    name: &'static str,
    /// Whether superseded protectors are refused.
    is_strict: bool,
    /// Jobs that may wait in one node.
    queue: usize,
    nodes: usize,
    left: Left,
    /// What must have come up, or the test would be empty.
    events: &'static [Event],
}

/// What the model has come across, for tests that are not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Released,
    RefusedAtRequest,
    RefusedAtCommit,
    TaskDone,
    TaskRefused,
    DecidedAgain,
    LearntLate,
    NotTaken,
    Kept,
    Stopped,
    StartedAgain,
    Attested,
    AttestationRefused,
}

struct Cluster {
    scene: Scene,
    fault: Option<Fault>,
    keys: Arc<Keys>,
    first: Arc<Copy>,
    rolls: Memo<Name, Result<Arc<Roll>, String>>,
    messages: Memo<Name, Result<Arc<Message>, String>>,
    logs: Memo<(Name, Name), Arc<Log>>,
    heard: Memo<Name, Arc<Result<Committed, String>>>,
    copies: Memo<Name, Result<Arc<Copy>, StoreError>>,
    sound: Memo<Name, bool>,
    starts: Memo<Name, bool>,
    events: Mutex<BTreeMap<Event, u64>>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Cluster({}, {:?})", self.scene.name, self.fault)
    }
}

impl Cluster {
    fn new(scene: Scene, fault: Option<Fault>) -> Self {
        let keys = Arc::new(Keys::derive(&master_key()));
        let first = with(fault, || first_copy(&scene, &keys));
        Self {
            scene,
            fault,
            keys,
            first: Arc::new(first),
            rolls: Memo::default(),
            messages: Memo::default(),
            logs: Memo::default(),
            heard: Memo::default(),
            copies: Memo::default(),
            sound: Memo::default(),
            starts: Memo::default(),
            events: Mutex::default(),
        }
    }

    fn came_across(&self, event: Event) {
        *self.events.lock().unwrap().entry(event).or_default() += 1;
    }

    /// The decision on a request at step `number`, by what a node has.
    fn roll(
        &self,
        copy: &Copy,
        host: u8,
        ingress: &VerifiedProtector,
        number: u8,
    ) -> Result<Arc<Roll>, String> {
        let seen = || lineage::seen(&copy.kept, &self.keys, &service::digest(ingress));
        let seen = copy
            .any_compromised
            .then(seen)
            .map(|seen| format!("{seen:?}"));
        let seen = seen.unwrap_or_default();
        let name = name(&[
            &short(ingress),
            &copy.for_rolls,
            &[host, number],
            seen.as_bytes(),
        ]);
        self.rolls.get(name, || {
            service::roll(&copy.state, &copy.kept, &self.keys, host, ingress, number).map(Arc::new)
        })
    }

    fn message(&self, node: &Node, log: &Arc<Log>) -> Result<Arc<Message>, String> {
        let name = log::name_of(&node.copy, node.name, &node.queue);
        self.messages.get(name, || {
            let message = machine::propose(&node.copy, &self.keys, node.name, log, &node.queue);
            message.map(Arc::new)
        })
    }

    fn log_with(&self, log: &Arc<Log>, message: &Arc<Message>) -> Arc<Log> {
        self.logs.get((log.name, message.name), || {
            Arc::new(log.with(message, &self.keys))
        })
    }

    /// What becomes of a node that hears of its proposal.
    fn heard(
        &self,
        copy: &Copy,
        log: &Arc<Log>,
        message: &Message,
        ordered: Option<u64>,
    ) -> Arc<Result<Committed, String>> {
        let place = ordered.unwrap_or_default().to_be_bytes();
        let name = name(&[&copy.name, &log.name, &message.name, &place]);
        self.heard.get(name, || {
            Arc::new(machine::hear(copy, &self.keys, log, message, ordered))
        })
    }

    /// A copy that has taken in all that was ordered.
    fn refreshed(
        &self,
        copy: &Copy,
        node: &'static str,
        log: &Arc<Log>,
    ) -> Result<Arc<Copy>, StoreError> {
        let name = name(&[&copy.name, &log.name, node.as_bytes()]);
        self.copies.get(name, || {
            machine::refresh(copy, &self.keys, node, log).map(Arc::new)
        })
    }

    /// Whether each host in good standing can start the VM, once a node has taken in all.
    fn can_start(&self, world: &World) -> bool {
        let truth = &world.log.truth;
        if self.scene.left.tasks.contains(&Task::Disable) {
            // It is the administrator who wants that.
            return true;
        }
        let node = truth.kept.node(&service::digest(&world.vm));
        let is_known = node.is_ok_and(|node| node.is_some());
        if self.scene.left.tasks.contains(&Task::Remove) && !is_known {
            // Nobody here knows what a protector needs that never came.
            return true;
        }
        self.starts
            .get(name(&[&truth.name, &short(&world.vm)]), || {
                [0, 1].into_iter().all(|host| {
                    let record = truth.state.host(&service::host_id(host));
                    if record.is_none_or(|record| record.revoked.is_some()) {
                        return true;
                    }
                    let number = 200;
                    let Ok(roll) = self.roll(truth, host, &world.vm, number) else {
                        return false;
                    };
                    let kind = Kind::Release {
                        roll,
                        host,
                        decided_from: truth.state.generation(),
                        too_late: false,
                    };
                    let job = Job::new(number, kind);
                    let log = Arc::new(Log::new(truth));
                    let proposed = machine::propose(truth, &self.keys, "observer", &log, &[job]);
                    proposed.is_ok_and(|message| message.outcomes == [Outcome::Done])
                })
            })
    }
}

fn first_copy(scene: &Scene, keys: &Arc<Keys>) -> Copy {
    let act = Act::new(service::time(0), "uid 0");
    machine::found(keys, &service::first_transactions(scene.is_strict), &act)
}

impl Model for Cluster {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let node = |name| Node {
            name,
            copy: Arc::clone(&self.first),
            queue: Vec::new(),
            waiting: None,
            is_stopped: false,
        };
        vec![World {
            log: Arc::new(Log::new(&self.first)),
            nodes: ["a", "b"]
                .into_iter()
                .take(self.scene.nodes)
                .map(node)
                .collect(),
            network: Vec::new(),
            vm: service::first_protector(),
            vm_copy: None,
            answers: Vec::new(),
            requests: 0,
            left: self.scene.left.clone(),
            acknowledged: Vec::new(),
            was_put_back: false,
            is_noticed: false,
            wrong: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.wrong.or(world.log.wrong).is_some() {
            return;
        }
        let left = &world.left;
        for (node, it) in world.nodes.iter().enumerate() {
            if !it.is_stopped {
                self.actions_of(world, node, actions);
            }
        }
        for place in 0..world.network.len() {
            let mut deliver = |heard, again| {
                actions.push(Action::Deliver {
                    place,
                    heard,
                    again,
                });
            };
            deliver(true, false);
            if left.lost > 0 {
                deliver(false, true);
            }
            if left.duplicates > 0 {
                deliver(true, true);
            }
        }
        if left.old_orders > 0 && world.log.revision() > 0 {
            actions.push(Action::OldOrder);
        }
        actions.extend((0..world.answers.len()).map(|answer| Action::Keep { answer }));
        if left.copies > 0 {
            actions.push(Action::CopyVm);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        with(self.fault, || self.step(world.clone(), action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "nothing is wrong with what was recorded",
                |_: &Self, world: &World| world.log.wrong.is_none(),
            ),
            Property::always(
                "nothing is wrong with what was answered",
                |_: &Self, world: &World| world.wrong.is_none(),
            ),
            Property::always(NOT_EQUAL, |_: &Self, world: &World| world.are_nodes_equal()),
            Property::always(CANNOT_START, |cluster: &Self, world: &World| {
                with(cluster.fault, || cluster.can_start(world))
            }),
            Property::sometimes(SOMETHING_HAPPENS, |_: &Self, world: &World| {
                world.log.revision() > 1
            }),
            Property::always(PUT_BACK_UNNOTICED, |_: &Self, world: &World| {
                !world.is_put_back_unnoticed()
            }),
        ]
    }
}

impl Cluster {
    /// What a node, or somebody who asks it, can do next.
    fn actions_of(&self, world: &World, node: usize, actions: &mut Vec<Action>) {
        let (left, it) = (&world.left, &world.nodes[node]);
        if it.waiting.is_none() && it.queue.len() < self.scene.queue {
            for host in [0, 1]
                .into_iter()
                .filter(|host| left.requests[usize::from(*host)] > 0)
            {
                let copy = false;
                actions.push(Action::Request { node, host, copy });
                if world.vm_copy.is_some() {
                    let copy = true;
                    actions.push(Action::Request { node, host, copy });
                }
            }
            let tasks = left.tasks.iter();
            actions.extend(tasks.map(|task| Action::Ask { node, task: *task }));
            let mut keys = left.attestations.clone();
            keys.dedup();
            actions.extend(keys.into_iter().map(|key| Action::Attest { node, key }));
        }
        if it.waiting.is_none() && !it.queue.is_empty() {
            actions.push(Action::Propose { node });
        }
        let is_behind = it.copy.position.revision != world.log.revision() || world.was_put_back;
        if is_behind && it.waiting.is_none() {
            actions.push(Action::CatchUp { node });
        }
        if it.waiting.is_some() && left.given_up > 0 {
            actions.push(Action::GiveUp { node });
        }
        if left.crashes > 0 {
            actions.push(Action::Crash { node });
        }
        if left.old_disks > 0 && it.copy.position.revision > 0 {
            actions.push(Action::OldDisk { node });
        }
        if left.clones > 0 {
            actions.push(Action::Clone { node });
        }
    }

    fn step(&self, mut world: World, action: Action) -> Option<World> {
        match action {
            Action::Request { node, host, copy } => {
                let asked = match copy {
                    true => world.vm_copy.clone()?,
                    false => Arc::clone(&world.vm),
                };
                self.request(&mut world, node, host, &asked);
            }
            Action::Ask { node, task } => {
                world.left.tasks.retain(|left| *left != task);
                let backup = Arc::new(self.first.state.clone());
                let job = Job::new(task as u8, Kind::Task(task, backup));
                world.nodes[node].queue.push(job);
            }
            Action::Attest { node, key } => {
                let left = &mut world.left.attestations;
                left.remove(left.iter().position(|left| *left == key)?);
                let job = Job::new(50 - left.len() as u8, Kind::Attest { key });
                world.nodes[node].queue.push(job);
            }
            Action::Propose { node } => self.propose(&mut world, node)?,
            Action::Deliver {
                place,
                heard,
                again,
            } => self.deliver(&mut world, place, heard, again),
            Action::CatchUp { node } => self.catch_up(&mut world, node),
            Action::GiveUp { node } => {
                world.left.given_up -= 1;
                world.nodes[node].waiting = None;
            }
            Action::Crash { node } => {
                world.left.crashes -= 1;
                self.start(&mut world, node);
            }
            Action::OldDisk { node } => {
                world.left.old_disks -= 1;
                world.nodes[node].copy = Arc::clone(&self.first);
                self.start(&mut world, node);
            }
            Action::Clone { node } => {
                world.left.clones -= 1;
                let clone = Node {
                    queue: Vec::new(),
                    waiting: None,
                    ..world.nodes[node].clone()
                };
                world.nodes.push(clone);
            }
            Action::OldOrder => {
                world.left.old_orders -= 1;
                world.was_put_back = true;
                world.log = Arc::new(Log::new(&self.first));
                // All members were stopped for it, and what they were sent is gone.
                world.network.clear();
                world.nodes.iter_mut().for_each(|node| node.waiting = None);
            }
            Action::Keep { answer } => {
                let Answer { ingress, egress } = world.answers.remove(answer);
                self.came_across(Event::Kept);
                match ingress == short(&world.vm) {
                    true => world.vm = egress,
                    false => world.vm_copy = Some(egress),
                }
                world.forget_answers();
            }
            Action::CopyVm => {
                world.left.copies -= 1;
                world.vm_copy = Some(Arc::clone(&world.vm));
            }
        }
        Some(world)
    }

    fn request(&self, world: &mut World, node: usize, host: u8, asked: &VerifiedProtector) {
        world.requests += 1;
        world.left.requests[usize::from(host)] -= 1;
        let number = world.requests;
        let too_late = host == 0 && world.acknowledged.contains(&Task::Revoke);
        let it = &mut world.nodes[node];
        let Ok(roll) = self.roll(&it.copy, host, asked, number) else {
            return self.came_across(Event::RefusedAtRequest);
        };
        world.wrong = world.wrong.or(roll.wrong);
        let kind = Kind::Release {
            roll,
            host,
            decided_from: it.copy.state.generation(),
            too_late,
        };
        it.queue.push(Job::new(number, kind));
    }

    /// `None` where nothing is to be proposed.
    fn propose(&self, world: &mut World, node: usize) -> Option<()> {
        let message = self.message(&world.nodes[node], &world.log).ok()?;
        let it = &mut world.nodes[node];
        it.queue.clear();
        it.waiting = Some(Arc::clone(&message));
        let network = &mut world.network;
        if !network.iter().any(|other| other.name == message.name) {
            network.push(message);
            network.sort_by_key(|it| (it.node, it.last.number, it.name));
        }
        Some(())
    }

    fn deliver(&self, world: &mut World, place: usize, heard: bool, again: bool) {
        let message = match again {
            true => Arc::clone(&world.network[place]),
            false => world.network.remove(place),
        };
        match heard {
            true if again => world.left.duplicates -= 1,
            true => {}
            false => world.left.lost -= 1,
        }
        let known = world.log.place(&message);
        if known.is_none() && world.log.takes(&message) {
            world.log = self.log_with(&world.log, &message);
        } else {
            self.came_across(Event::NotTaken);
        }
        let waits = |node: &Node| {
            let waiting = node.waiting.as_ref();
            waiting.is_some_and(|waiting| waiting.name == message.name)
        };
        let Some(node) = world.nodes.iter().position(waits).filter(|_| heard) else {
            return;
        };
        if known.is_some() {
            self.came_across(Event::LearntLate);
        }
        let it = &mut world.nodes[node];
        it.waiting = None;
        let place = world.log.place(&message);
        let committed = self.heard(&it.copy, &world.log, &message, place);
        let Ok(committed) = &*committed else {
            return self.stop(world, node);
        };
        it.copy = Arc::new(committed.copy.clone());
        world.log = Arc::clone(&committed.log);
        match &committed.outcomes {
            Ok(outcomes) => self.answer(world, &message.jobs, outcomes),
            Err(NotCommitted::Changed) => {
                // It is decided again, from what there is now.
                self.came_across(Event::DecidedAgain);
                it.queue.clone_from(&message.jobs);
            }
            Err(NotCommitted::Failed(_)) => self.stop(world, node),
        }
    }

    /// Has a node take in all that was ordered.
    fn catch_up(&self, world: &mut World, node: usize) {
        let it = &world.nodes[node];
        match self.refreshed(&it.copy, it.name, &world.log) {
            Ok(copy) => world.nodes[node].copy = copy,
            Err(_) => self.stop(world, node),
        }
    }

    /// A node says that it can't go on. That is right where the order was put back, or two machines run as one node.
    fn stop(&self, world: &mut World, node: usize) {
        self.came_across(Event::Stopped);
        world.nodes[node].is_stopped = true;
        if world.was_put_back {
            world.is_noticed = true;
            if !world.log.is_halted {
                world.log = Arc::new(world.log.halted());
            }
        } else if world.nodes.len() == self.scene.nodes {
            world.wrong = Some(NOT_CARRIED_OUT);
        }
    }

    fn start(&self, world: &mut World, node: usize) {
        let it = &mut world.nodes[node];
        it.queue.clear();
        it.waiting = None;
        self.came_across(Event::StartedAgain);
        let copy = &it.copy;
        if !self.sound.get(copy.name, || copy.can_be_opened(&self.keys)) {
            world.wrong = Some(NOT_SOUND);
        }
    }

    /// Tells those who have asked how it went.
    fn answer(&self, world: &mut World, jobs: &[Arc<Job>], outcomes: &[Outcome]) {
        for (job, outcome) in jobs.iter().zip(outcomes) {
            match (&job.kind, outcome) {
                (Kind::Release { roll, too_late, .. }, Outcome::Done) => {
                    self.came_across(Event::Released);
                    let recorded = world.log.history.release(roll.record.time);
                    if *too_late && !world.was_put_back {
                        world.wrong = Some(ANSWERED_AFTER_REVOCATION);
                    } else if recorded != Some(&roll.record.egress) {
                        world.wrong = Some(ANSWERED_UNRECORDED);
                    }
                    let ingress = roll.record.ingress;
                    world.answers.push(Answer {
                        ingress: std::array::from_fn(|place| ingress.as_bytes()[place]),
                        egress: Arc::clone(&roll.egress),
                    });
                    world.forget_answers();
                }
                (Kind::Release { .. }, _) => self.came_across(Event::RefusedAtCommit),
                (Kind::Task(task, _), Outcome::Done) => {
                    self.came_across(Event::TaskDone);
                    if !task.is_done(&world.log.truth.state) {
                        world.wrong = Some(ACKNOWLEDGED_UNDONE);
                    }
                    world.acknowledged.push(*task);
                    world.acknowledged.sort_unstable();
                }
                (Kind::Task(..), _) => self.came_across(Event::TaskRefused),
                (Kind::Attest { .. }, Outcome::Done) => self.came_across(Event::Attested),
                (Kind::Attest { .. }, _) => self.came_across(Event::AttestationRefused),
            }
        }
    }
}

impl World {
    /// Forgets answers that nobody has a use for any more.
    fn forget_answers(&mut self) {
        let held = [Some(&self.vm), self.vm_copy.as_ref()];
        let held = held.map(|protector| protector.map(|protector| short(protector)));
        self.answers
            .retain(|answer| held.contains(&Some(answer.ingress)));
    }

    /// Each node has what the order had where the node is.
    fn are_nodes_equal(&self) -> bool {
        self.nodes.iter().all(|node| {
            let revision = node.copy.position.revision;
            let Some(last) = revision.checked_sub(1) else {
                return true;
            };
            let last = usize::try_from(last).unwrap_or(usize::MAX);
            let ordered = self.log.entries.get(last);
            // After the order was put back, nodes are ahead of it until they ask.
            self.was_put_back || ordered.is_some_and(|ordered| ordered.content == node.copy.content)
        })
    }

    /// All nodes have asked an order that has lost an acknowledged task, and none of them has noticed.
    fn is_put_back_unnoticed(&self) -> bool {
        let mut acknowledged = self.acknowledged.iter();
        let is_lost = acknowledged.any(|task| !task.is_done(&self.log.truth.state));
        let is_current = |node: &Node| {
            let position = &node.copy.position;
            position.revision == self.log.revision() && self.log.since(position).is_ok()
        };
        is_lost && !self.is_noticed && self.nodes.iter().all(is_current)
    }
}

impl Task {
    /// Whether a state shows that it was done. A later task may have undone what is allowed to be.
    fn is_done(self, state: &State) -> bool {
        let host = state.host(&service::host_id(0));
        match self {
            Self::Revoke => host.is_none_or(|host| host.revoked.is_some()),
            Self::Compromise => !service::compromised(state).is_empty(),
            Self::RemoveHost => host.is_none(),
            _ => true,
        }
    }
}
