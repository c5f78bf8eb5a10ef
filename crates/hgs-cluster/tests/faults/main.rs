//! Three nodes with their stores over three members of etcd, to all of which everything happens that docs/model.md lists,
//! while clients are served.
//!
//! `OPENHGS_FAULTS_SEED` chooses other faults, `OPENHGS_FAULTS` how many there are, `OPENHGS_FAULTS_ONLY=KillNode,CutWire` of
//! which kinds, and `OPENHGS_FAULTS_HISTORY` a folder for what clients saw and what the nodes recorded.

#[path = "../common/mod.rs"]
mod common;
mod disk;
mod guardian;
mod history;
mod wires;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use common::{Fabric, LONG, named};
use guardian::{Client, Place, digest, host, log_of, socket_of};
use hgs_cluster::order::{Keyspace, admit};
use hgs_cluster::upkeep::{Upkeep, reports};
use hgs_store::Store;
use hgs_testkit::etcd::Etcd;
use hgs_testkit::{in_mount_namespace, is_privileged};
use history::{Answer, Event, Record, Request, faults};
use rustix::process::{Pid, Signal, kill_process};
use wires::Wire;

/// Clients of each node.
const CLIENTS: u64 = 3;
/// Clients go on for so many answers after each fault.
const ANSWERS: usize = 60;
/// And for so many in it, at each node that goes on.
const ANSWERS_IN_FAULT: usize = 5;
/// How long a fault lasts at least: longer than a lost leader takes to be replaced.
const LASTS: Duration = Duration::from_secs(3);
/// How long who was not answered waits before asking again.
const PAUSE: Duration = Duration::from_millis(20);
/// Seconds by which clocks jump: forward and back again, or back and forward again.
const JUMPS: [i64; 3] = [30, 5 * 3600, -3 * 3600];
/// A node that has not reported for so long is not waited for.
const AWAY: Duration = Duration::from_mins(11);
/// Which node, and which member, is on a small disk, of so many megabytes.
const ON_DISK: usize = 1;
const MEGABYTES: u32 = 512;
/// The nodes.
const NODES: [&str; 3] = ["a", "b", "c"];
/// Says that this process is in a mount namespace of its own.
const INSIDE: &str = "OPENHGS_TEST_MAY_MOUNT";

/// SplitMix64: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (number ^ (number >> 31)) % bound
    }

    /// All of them, in any order.
    fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// What happens, to which node or member.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillNode(usize),
    FreezeNode(usize),
    /// A node, from all members.
    CutNode(usize),
    /// A node, from its own member.
    CutFromOwn(usize),
    /// Between a node and all members.
    SlowNode(usize, Duration),
    /// The clock of a node is so many seconds ahead of the others'.
    JumpClock(usize, i64),
    /// A node is killed until what it has not seen has left etcd.
    Away(usize),
    KillMember(usize),
    KillLeader,
    FreezeLeader,
    LoseQuorum(usize),
    /// The log of a member that was killed has lost a bit: it is replaced.
    DamageMember(usize),
    /// Between this member and the next one.
    CutWire(usize),
    SlowWire(usize, Duration),
    /// Between this member and both others.
    CutOff(usize),
    SlowMember(usize, Duration),
    /// Of a node.
    FillDisk(usize),
    /// Of a member.
    FillMember(usize),
}

impl Fault {
    /// Each kind once, in any order.
    fn draw_all(dice: &mut Dice, has_networks: bool) -> Vec<Self> {
        let mut place = || dice.below(3) as usize;
        let mut kinds = vec![
            Self::KillNode(place()),
            Self::FreezeNode(place()),
            Self::CutNode(place()),
            Self::CutFromOwn(place()),
            Self::JumpClock(place(), JUMPS[place()]),
            Self::Away(place()),
            Self::KillMember(place()),
            Self::KillLeader,
            Self::FreezeLeader,
            Self::LoseQuorum(place()),
            // Not the one that is on a disk of its own.
            Self::DamageMember([0, 2][place() % 2]),
        ];
        if has_networks {
            kinds.extend([
                Self::CutWire(place()),
                Self::CutOff(place()),
                Self::FillDisk(ON_DISK),
                Self::FillMember(ON_DISK),
            ]);
        }
        let mut slow = || Duration::from_millis(5 + dice.below(196));
        let times = [slow(), slow(), slow()];
        let mut place = || dice.below(3) as usize;
        kinds.push(Self::SlowNode(place(), times[0]));
        if has_networks {
            kinds.push(Self::SlowWire(place(), times[1]));
            kinds.push(Self::SlowMember(place(), times[2]));
        }
        if let Ok(only) = std::env::var("OPENHGS_FAULTS_ONLY") {
            kinds.retain(|kind| {
                only.split(',')
                    .any(|one| format!("{kind:?}").starts_with(one))
            });
        }
        dice.shuffle(&mut kinds);
        kinds
    }

    /// The nodes that go on meanwhile.
    fn spares(self) -> Vec<usize> {
        let stopped = match self {
            Self::LoseQuorum(_) => return Vec::new(),
            Self::SlowWire(member, _) => return vec![(member + 2) % 3],
            Self::KillNode(node)
            | Self::FreezeNode(node)
            | Self::CutNode(node)
            | Self::Away(node)
            | Self::FillDisk(node) => Some(node),
            _ => None,
        };
        (0..3).filter(|node| Some(*node) != stopped).collect()
    }
}

/// The process of a node; it is killed when it is dropped.
struct Process(Child);

impl Process {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Cluster {
    fabric: Fabric,
    places: Vec<Place>,
    processes: Vec<Process>,
    /// Of each node to each member, its own first.
    node_wires: Vec<Vec<Wire>>,
    /// From one member to another.
    member_wires: BTreeMap<(usize, usize), Wire>,
    _folder: tempfile::TempDir,
}

/// What ends a fault.
type End = Box<dyn FnOnce(&mut Cluster)>;

impl Cluster {
    fn new(has_networks: bool, hosts: u8) -> Self {
        let mut member_wires = BTreeMap::new();
        let mut fabric = Fabric::of(match has_networks {
            true => Etcd::over_relays(3, |relay| {
                member_wires.insert((relay.from, relay.to), Wire::between(relay));
            }),
            false => Etcd::new(3),
        });
        let folder = tempfile::tempdir().unwrap();
        let wires_of = |node: usize| {
            let members = fabric.etcd.addresses(node).into_iter();
            members
                .map(|member| Wire::new(&fabric.runtime, member))
                .collect()
        };
        let node_wires: Vec<Vec<Wire>> = (0..3).map(wires_of).collect();
        let place = |(node, name): (usize, &'static str)| Place {
            name,
            folder: folder.path().join(name),
            members: node_wires[node].iter().map(Wire::address).collect(),
            others: NODES
                .into_iter()
                .filter(|other| *other != name)
                .map(|other| socket_of(&folder.path().join(other)))
                .collect(),
        };
        let places: Vec<_> = NODES.into_iter().enumerate().map(place).collect();
        guardian::create(&places[0].folder, hosts);
        let mut processes = vec![Process(places[0].start())];
        for place in &places[1..] {
            let (client, keys, name) = (fabric.client(0), Keyspace::default(), named(place.name));
            let admitted = admit(&client, &keys, &name);
            fabric.runtime.block_on(admitted).unwrap();
            hgs_files::private_folder(&place.folder).unwrap();
            place.take_copy();
            if has_networks && processes.len() == ON_DISK {
                disk::put_on_disk(&place.folder, MEGABYTES);
            }
            processes.push(Process(place.start()));
        }
        if has_networks {
            fabric.etcd.kill(ON_DISK);
            disk::put_on_disk(fabric.etcd.folder(ON_DISK), MEGABYTES);
            fabric.etcd.start(ON_DISK);
        }
        Self {
            fabric,
            places,
            processes,
            node_wires,
            member_wires,
            _folder: folder,
        }
    }

    fn begin(&mut self, fault: Fault) -> End {
        match fault {
            Fault::KillNode(node) | Fault::Away(node) => {
                self.processes[node].0.kill().unwrap();
                self.processes[node].0.wait().unwrap();
                Box::new(move |cluster| {
                    cluster.processes[node] = Process(cluster.places[node].start());
                })
            }
            Fault::FreezeNode(node) => {
                self.processes[node].signal(Signal::STOP);
                Box::new(move |cluster| cluster.processes[node].signal(Signal::CONT))
            }
            Fault::CutNode(node) => {
                self.change_wires(move |cluster| &cluster.node_wires[node], Wire::cut)
            }
            Fault::CutFromOwn(node) => {
                self.change_wires(move |cluster| &cluster.node_wires[node][..1], Wire::cut)
            }
            Fault::SlowNode(node, time) => self.change_wires(
                move |cluster| &cluster.node_wires[node],
                move |wire| wire.slow(time),
            ),
            Fault::SlowWire(member, time) => self.slow(&[(member, (member + 1) % 3)], time),
            Fault::SlowMember(member, time) => self.slow(
                &[(member, (member + 1) % 3), (member, (member + 2) % 3)],
                time,
            ),
            // Clients say what time it is.
            Fault::JumpClock(..) => Box::new(|_| ()),
            Fault::FillDisk(node) => {
                disk::fill(&self.places[node].folder);
                Box::new(move |cluster| {
                    disk::make_room(&cluster.places[node].folder);
                    let ended = cluster.processes[node].0.try_wait().unwrap();
                    assert_eq!(ended, None, "a node has ended as its disk was full");
                })
            }
            _ => self.begin_of_members(fault),
        }
    }

    fn change_wires(
        &self,
        wires: impl Fn(&Self) -> &[Wire] + 'static,
        change: impl Fn(&Wire),
    ) -> End {
        wires(self).iter().for_each(change);
        Box::new(move |cluster| wires(cluster).iter().for_each(Wire::mend))
    }

    /// Slows the wires between members, in both directions.
    fn slow(&self, pairs: &[(usize, usize)], time: Duration) -> End {
        let both: Vec<_> = pairs
            .iter()
            .flat_map(|(one, other)| [(*one, *other), (*other, *one)])
            .collect();
        both.iter()
            .for_each(|pair| self.member_wires[pair].slow(time));
        Box::new(move |cluster| {
            both.iter()
                .for_each(|pair| cluster.member_wires[pair].mend())
        })
    }

    fn begin_of_members(&mut self, fault: Fault) -> End {
        let etcd = &mut self.fabric.etcd;
        match fault {
            Fault::KillMember(place) => {
                etcd.kill(place);
                Box::new(move |cluster| cluster.fabric.etcd.start(place))
            }
            Fault::KillLeader => {
                let leader = etcd.leader();
                self.begin_of_members(Fault::KillMember(leader))
            }
            Fault::FreezeLeader => {
                let leader = etcd.leader();
                etcd.signal(leader, Signal::STOP);
                Box::new(move |cluster| cluster.fabric.etcd.signal(leader, Signal::CONT))
            }
            Fault::LoseQuorum(left) => {
                let lost = [(left + 1) % 3, (left + 2) % 3];
                lost.iter().for_each(|place| etcd.kill(*place));
                Box::new(move |cluster| {
                    lost.iter()
                        .for_each(|place| cluster.fabric.etcd.start(*place));
                })
            }
            Fault::DamageMember(place) => {
                etcd.kill(place);
                disk::damage_log(etcd.folder(place));
                etcd.start(place);
                Box::new(move |cluster| {
                    cluster.until_ended(place);
                    cluster.fabric.etcd.replace(place);
                })
            }
            Fault::FillMember(place) => {
                disk::fill(etcd.folder(place));
                Box::new(move |cluster| {
                    let etcd = &mut cluster.fabric.etcd;
                    disk::make_room(etcd.folder(place));
                    if etcd.has_ended(place) {
                        etcd.start(place);
                    }
                })
            }
            Fault::CutWire(place) => self.cut(vec![(place, (place + 1) % 3)]),
            Fault::CutOff(place) => {
                self.cut(vec![(place, (place + 1) % 3), (place, (place + 2) % 3)])
            }
            _ => unreachable!("{fault:?} happens to nodes"),
        }
    }

    fn cut(&self, pairs: Vec<(usize, usize)>) -> End {
        pairs
            .iter()
            .for_each(|(one, other)| self.fabric.etcd.cut(*one, *other));
        Box::new(move |cluster| {
            let etcd = &cluster.fabric.etcd;
            pairs
                .iter()
                .for_each(|(one, other)| etcd.mend(*one, *other));
        })
    }

    /// A member whose log is damaged does not serve: it ends.
    fn until_ended(&mut self, member: usize) {
        let deadline = Instant::now() + LONG;
        while !self.fabric.etcd.has_ended(member) {
            assert!(
                Instant::now() < deadline,
                "member {member} serves with a damaged log"
            );
            std::thread::park_timeout(PAUSE);
        }
    }

    /// Has all entries leave etcd that a node which was killed has not seen, as if it had been away for long.
    fn let_entries_leave(&self, away: usize) {
        let (client, keys) = (self.fabric.client(0), Keyspace::default());
        let now = tokio::time::Instant::now();
        let first = NODES[usize::from(away == 0)];
        let mut upkeep = Upkeep::new(client.clone(), keys.clone(), named(first), 2 << 30);
        let newest = || {
            let reports = self.fabric.runtime.block_on(reports(&client, &keys));
            let reports = reports.unwrap_or_default().into_iter();
            reports.map(|reported| reported.report.revision).max()
        };
        let deadline = Instant::now() + LONG;
        let mut until = None;
        let mut heard_at = now;
        loop {
            assert!(Instant::now() < deadline, "nothing has left etcd");
            until = until.or_else(newest);
            let round = self.fabric.runtime.block_on(upkeep.round(heard_at));
            heard_at = now + AWAY;
            if let (Ok(round), Some(until)) = (round, until)
                && round.offloaded.floor >= until
            {
                return;
            }
            std::thread::park_timeout(PAUSE);
        }
    }
}

/// What clients share: the protector that each VM has now, and numbers of new ones.
struct Load {
    begun: Instant,
    is_over: AtomicBool,
    hosts: u8,
    heads: Vec<std::sync::Mutex<String>>,
    next: AtomicU64,
    /// How far the clock of each node is from the right time, in seconds.
    clocks: [AtomicI64; 3],
}

impl Load {
    fn new(hosts: u8) -> Self {
        let heads = (0..12).map(|vm| std::sync::Mutex::new(digest(vm).to_string()));
        Self {
            begun: Instant::now(),
            is_over: AtomicBool::new(false),
            hosts,
            heads: heads.collect(),
            next: AtomicU64::new(1000),
            clocks: Default::default(),
        }
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// Asks a node, as one of its clients.
    fn ask(&self, node: &Place, client: &mut Client, request: Request) -> Event {
        let begun = self.now();
        let place = NODES.iter().position(|name| *name == node.name).unwrap();
        let ahead = self.clocks[place].load(Ordering::SeqCst);
        let answer = client.ask(&request, (begun / 1_000_000) as i64 + ahead);
        Event {
            node: node.name.to_owned(),
            begun,
            ended: self.now(),
            request,
            answer,
        }
    }

    fn serve(&self, place: &Place, seed: u64, events: &Sender<Event>) {
        let mut dice = Dice(seed);
        let mut client = Client::new(place);
        while !self.is_over.load(Ordering::SeqCst) {
            let head = &self.heads[dice.below(self.heads.len() as u64) as usize];
            let egress = digest(self.next.fetch_add(1, Ordering::SeqCst)).to_string();
            let request = Request::Release {
                host: host(dice.below(u64::from(self.hosts)) as u8).to_string(),
                protector: head.lock().unwrap().clone(),
                egress_protector: egress.clone(),
            };
            let event = self.ask(place, &mut client, request);
            match event.answer {
                Answer::Done(_) => *head.lock().unwrap() = egress,
                // As a host does, which asks again later.
                Answer::Unknown(_) => std::thread::park_timeout(PAUSE),
                Answer::Refused(_) => {}
            }
            if events.send(event).is_err() {
                return;
            }
        }
    }

    /// Revokes a host: the answer may be lost, and then it is asked again.
    fn revoke(&self, place: &Place, number: u8) -> Vec<Event> {
        let mut client = Client::new(place);
        let deadline = Instant::now() + LONG;
        let mut events = Vec::new();
        loop {
            let host = host(number).to_string();
            let event = self.ask(place, &mut client, Request::Revoke { host });
            let is_over = !matches!(event.answer, Answer::Unknown(_));
            assert!(Instant::now() < deadline, "not revoked: {event:?}");
            events.push(event);
            if is_over {
                return events;
            }
            std::thread::park_timeout(PAUSE);
        }
    }
}

/// What clients were told until now.
struct Seen {
    events: Receiver<Event>,
    history: Vec<Event>,
}

impl Seen {
    /// Takes what clients are told until so many releases are done, by one node or by any.
    fn wait_for(&mut self, done: usize, by: Option<&str>, what: &str) {
        let deadline = Instant::now() + LONG;
        let mut count = 0;
        while count < done {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left).unwrap_or_else(|_| {
                let is_last = |event: &&Event| matches!(event.answer, Answer::Unknown(_));
                let last = self.history.iter().rfind(is_last);
                panic!("{what}: only {count} releases were done by {by:?}: {last:?}")
            });
            let counts = by.is_none_or(|node| event.node == node);
            count += usize::from(counts && matches!(event.answer, Answer::Done(_)));
            self.history.push(event);
        }
    }

    /// Takes what clients are told for a time.
    fn go_on_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let left = || end.saturating_duration_since(Instant::now());
        while let Ok(event) = self.events.recv_timeout(left()) {
            self.history.push(event);
        }
    }
}

fn number_from(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// The process of a node of the test below, where it is one.
#[test]
fn node() {
    if let Some(place) = Place::of_this_process() {
        place.serve();
    }
}

#[test]
fn whatever_happens_no_release_follows_a_revocation_and_none_is_lost() {
    let what = "faults of disks, and of wires between members of etcd";
    let is_inside = std::env::var_os(INSIDE).is_some();
    if !is_inside && is_privileged(what) {
        let mut again = in_mount_namespace(what).unwrap();
        let name = std::thread::current().name().unwrap().to_owned();
        again.arg(std::env::current_exe().unwrap());
        again
            .args([&name, "--exact", "--nocapture"])
            .env(INSIDE, "1");
        assert!(again.status().unwrap().success());
        return;
    }
    // On a thread of its own, which goes into another network where that is allowed.
    std::thread::spawn(move || play(is_inside)).join().unwrap();
}

fn play(has_networks: bool) {
    let seed = number_from("OPENHGS_FAULTS_SEED", u64::from(std::process::id()));
    let count = number_from("OPENHGS_FAULTS", 6);
    println!("OPENHGS_FAULTS_SEED={seed} OPENHGS_FAULTS={count}");
    let mut dice = Dice(seed);
    // One more than are revoked.
    let hosts = 1 + count.min(40) as u8;
    let mut cluster = Cluster::new(has_networks, hosts);
    let load = Load::new(hosts);
    let (sender, events) = channel();
    let history = Vec::new();
    let mut seen = Seen { events, history };
    let places = cluster.places.clone();
    std::thread::scope(|scope| {
        for (node, place) in places.iter().enumerate() {
            for client in 0..CLIENTS {
                let (load, sender) = (&load, sender.clone());
                let seed = seed ^ ((node as u64 * CLIENTS + client + 1) << 32);
                scope.spawn(move || load.serve(place, seed, &sender));
            }
        }
        drop(sender);
        // Also when an assertion fails, the clients end, and then the test.
        let _over = Over(&load);
        seen.wait_for(ANSWERS, None, "at first");
        let mut kinds = Vec::new();
        for round in 0..count {
            let fault = kinds.pop().unwrap_or_else(|| {
                kinds = Fault::draw_all(&mut dice, has_networks);
                kinds.pop().unwrap()
            });
            println!("fault {round} at {:?}: {fault:?}", load.begun.elapsed());
            let end = cluster.begin(fault);
            if let Fault::JumpClock(node, seconds) = fault {
                load.clocks[node].store(seconds, Ordering::SeqCst);
            }
            // One host after the other is revoked, each by another node and in the middle of a fault; the last one stays.
            let revoker = &places[dice.below(3) as usize];
            let revokes = round + 1 < u64::from(hosts);
            let (load, host) = (&load, round as u8);
            let revoked = revokes.then(|| scope.spawn(move || load.revoke(revoker, host)));
            seen.go_on_for(LASTS);
            let what = format!("in {fault:?}");
            for node in fault.spares() {
                seen.wait_for(ANSWERS_IN_FAULT, Some(places[node].name), &what);
            }
            if let Fault::Away(node) = fault {
                cluster.let_entries_leave(node);
            }
            end(&mut cluster);
            for clock in &load.clocks {
                clock.store(0, Ordering::SeqCst);
            }
            seen.wait_for(ANSWERS, None, &format!("after {fault:?}"));
            if let Some(revoked) = revoked {
                seen.history.extend(revoked.join().unwrap());
            }
            // Each node has come back.
            for place in &places {
                seen.wait_for(1, Some(place.name), &format!("after {fault:?}"));
            }
            if let Fault::Away(node) = fault {
                assert!(places[node].has_replaced_state(), "no copy was fetched");
            }
        }
    });
    seen.history.extend(seen.events.iter());
    judge(cluster, &seen.history, seed);
}

/// That all promises were kept.
fn judge(cluster: Cluster, history: &[Event], seed: u64) {
    let count_of =
        |is: fn(&Answer) -> bool| history.iter().filter(|event| is(&event.answer)).count();
    println!(
        "{} done, {} refused, {} unknown",
        count_of(|answer| matches!(answer, Answer::Done(_))),
        count_of(|answer| matches!(answer, Answer::Refused(_))),
        count_of(|answer| matches!(answer, Answer::Unknown(_))),
    );
    let Cluster {
        mut fabric,
        places,
        processes,
        // What nodes are reached by lasts as long as they do.
        node_wires: _node_wires,
        member_wires: _member_wires,
        _folder,
    } = cluster;
    drop(processes);
    fabric.etcd.ready();
    // Opening verifies every record, every tag, and the whole.
    let stores: Vec<Store> = places
        .iter()
        .map(|place| place.open(fabric.runtime.handle()))
        .collect();
    for store in &stores {
        store.check().unwrap();
    }
    let logs: Vec<Vec<Record>> = stores
        .iter()
        .map(|store| log_of(store).iter().map(Record::from).collect())
        .collect();
    if let Some(folder) = std::env::var_os("OPENHGS_FAULTS_HISTORY") {
        keep(Path::new(&folder), history, &logs);
    }
    let ends: Vec<_> = stores
        .iter()
        .map(|store| store.progress().unwrap().unwrap())
        .map(|progress| (progress.audit_tag, progress.position.nodes))
        .collect();
    assert!(ends[0] == ends[1] && ends[0] == ends[2], "{ends:?}");
    let found = faults(history, &logs);
    assert!(found.is_empty(), "seed {seed}: {found:#?}");
}

/// Keeps what can be checked again, by this program or another.
fn keep(folder: &Path, history: &[Event], logs: &[Vec<Record>]) {
    fs::create_dir_all(folder).unwrap();
    let lines: Vec<_> = history
        .iter()
        .map(|event| serde_json::to_string(event).unwrap() + "\n")
        .collect();
    fs::write(folder.join("history.jsonl"), lines.concat()).unwrap();
    for (node, log) in NODES.iter().zip(logs) {
        let text = serde_json::to_string_pretty(log).unwrap();
        fs::write(folder.join(format!("audit-{node}.json")), text).unwrap();
    }
}

struct Over<'l>(&'l Load);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}
