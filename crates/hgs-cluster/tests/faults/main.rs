//! Three nodes with their stores over three members of etcd, all of which are killed and frozen while clients are served.
//!
//! `OPENHGS_FAULTS_SEED` chooses other faults, `OPENHGS_FAULTS` how many there are.

#[path = "../common/mod.rs"]
mod common;
mod guardian;
mod history;

use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use common::{Fabric, LONG, named};
use guardian::{Client, HOSTS, Place, digest, host, log_of};
use hgs_cluster::order::{Keyspace, admit};
use hgs_store::{Digest, Store};
use hgs_testkit::etcd::Etcd;
use hgs_testkit::is_privileged;
use history::{Answer, Event, Request, faults};
use rustix::process::{Pid, Signal, kill_process};

/// Clients of each node.
const CLIENTS: u64 = 3;
/// Clients go on for so many answers after each fault.
const ANSWERS: usize = 60;
/// How long a fault lasts at least: longer than a lost leader takes to be replaced.
const LASTS: Duration = Duration::from_secs(3);

/// How long who was not answered waits before asking again.
const PAUSE: Duration = Duration::from_millis(20);

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
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    KillNode(usize),
    FreezeNode(usize),
    KillMember(usize),
    KillLeader,
    FreezeLeader,
    LoseQuorum(usize),
    /// Between this member and the next one.
    CutWire(usize),
    /// Between this member and both others.
    CutOff(usize),
}

impl Fault {
    fn draw(dice: &mut Dice, has_wires: bool) -> Self {
        let place = dice.below(3) as usize;
        match dice.below(if has_wires { 8 } else { 6 }) {
            0 => Self::KillNode(place),
            1 => Self::FreezeNode(place),
            2 => Self::KillMember(place),
            3 => Self::KillLeader,
            4 => Self::FreezeLeader,
            5 => Self::LoseQuorum(place),
            6 => Self::CutWire(place),
            _ => Self::CutOff(place),
        }
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
    _folder: tempfile::TempDir,
}

impl Cluster {
    fn new(has_wires: bool) -> Self {
        let fabric = Fabric::of(match has_wires {
            true => Etcd::in_networks(3),
            false => Etcd::new(3),
        });
        let folder = tempfile::tempdir().unwrap();
        let place = |(number, name): (usize, &'static str)| Place {
            name,
            folder: folder.path().join(name),
            members: fabric.etcd.addresses(number),
        };
        let places: Vec<_> = ["a", "b", "c"].into_iter().enumerate().map(place).collect();
        guardian::create(&places[0].folder);
        let mut processes = vec![Process(places[0].start())];
        let mut first = Client::new(&places[0]);
        for place in &places[1..] {
            let (client, keys, name) = (fabric.client(0), Keyspace::default(), named(place.name));
            let admitted = admit(&client, &keys, &name);
            fabric.runtime.block_on(admitted).unwrap();
            let copy = folder.path().join(format!("copy for {}", place.name));
            first.copy(&copy);
            Store::adopt(&place.folder, &copy).unwrap();
            processes.push(Process(place.start()));
        }
        Self {
            fabric,
            places,
            processes,
            _folder: folder,
        }
    }

    /// Begins a fault, and returns what ends it.
    fn begin(&mut self, fault: Fault) -> Box<dyn FnOnce(&mut Self)> {
        match fault {
            Fault::KillNode(place) => {
                let dead = self.processes[place].0.kill();
                dead.unwrap();
                self.processes[place].0.wait().unwrap();
                Box::new(move |cluster| {
                    cluster.processes[place] = Process(cluster.places[place].start());
                })
            }
            Fault::FreezeNode(place) => {
                self.processes[place].signal(Signal::STOP);
                Box::new(move |cluster| cluster.processes[place].signal(Signal::CONT))
            }
            Fault::KillMember(place) => {
                self.fabric.etcd.kill(place);
                Box::new(move |cluster| cluster.fabric.etcd.start(place))
            }
            Fault::KillLeader => {
                let leader = self.fabric.etcd.leader();
                self.begin(Fault::KillMember(leader))
            }
            Fault::FreezeLeader => {
                let leader = self.fabric.etcd.leader();
                self.fabric.etcd.signal(leader, Signal::STOP);
                Box::new(move |cluster| cluster.fabric.etcd.signal(leader, Signal::CONT))
            }
            Fault::CutWire(place) => {
                let next = (place + 1) % 3;
                self.fabric.etcd.cut(place, next);
                Box::new(move |cluster| cluster.fabric.etcd.mend(place, next))
            }
            Fault::CutOff(place) => {
                let others = [(place + 1) % 3, (place + 2) % 3];
                let etcd = &self.fabric.etcd;
                others.iter().for_each(|other| etcd.cut(place, *other));
                Box::new(move |cluster| {
                    let etcd = &cluster.fabric.etcd;
                    others.iter().for_each(|other| etcd.mend(place, *other));
                })
            }
            Fault::LoseQuorum(left) => {
                let lost = [(left + 1) % 3, (left + 2) % 3];
                lost.iter().for_each(|place| self.fabric.etcd.kill(*place));
                Box::new(move |cluster| {
                    lost.iter()
                        .for_each(|place| cluster.fabric.etcd.start(*place));
                })
            }
        }
    }
}

/// What clients share: the protector that each VM has now, and numbers of new ones.
struct Load {
    is_over: AtomicBool,
    heads: Vec<std::sync::Mutex<Digest>>,
    next: AtomicU64,
}

impl Load {
    fn serve(&self, place: &Place, seed: u64, events: &Sender<Event>) {
        let mut dice = Dice(seed);
        let mut client = Client::new(place);
        while !self.is_over.load(Ordering::SeqCst) {
            let head = &self.heads[dice.below(self.heads.len() as u64) as usize];
            let ingress = *head.lock().unwrap();
            let egress = digest(self.next.fetch_add(1, Ordering::SeqCst));
            let request = Request::Release {
                host: host(dice.below(u64::from(HOSTS)) as u8).to_string(),
                ingress,
                egress,
            };
            let begun = Instant::now();
            let answer = client.ask(&request);
            if matches!(answer, Answer::Done(_)) {
                *head.lock().unwrap() = egress;
            }
            if matches!(answer, Answer::Unknown(_)) {
                // As a host does, which asks again later.
                std::thread::park_timeout(PAUSE);
            }
            let ended = Instant::now();
            let event = Event {
                begun,
                ended,
                request,
                answer,
            };
            if events.send(event).is_err() {
                return;
            }
        }
    }
}

/// Takes what clients were told until so many releases are done.
fn wait_for(done: usize, events: &Receiver<Event>, history: &mut Vec<Event>, what: &str) {
    let deadline = Instant::now() + LONG;
    let mut count = 0;
    while count < done {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = events.recv_timeout(left).unwrap_or_else(|_| {
            panic!(
                "{what}: only {count} releases were done: {:?}",
                last_of(history)
            )
        });
        count += usize::from(matches!(event.answer, Answer::Done(_)));
        history.push(event);
    }
}

fn last_of(history: &[Event]) -> Option<&Event> {
    history
        .iter()
        .rfind(|event| matches!(event.answer, Answer::Unknown(_)))
}

/// Takes what clients are told for a time.
fn go_on_for(time: Duration, events: &Receiver<Event>, history: &mut Vec<Event>) {
    let end = Instant::now() + time;
    while let Ok(event) = events.recv_timeout(end.saturating_duration_since(Instant::now())) {
        history.push(event);
    }
}

/// Revokes a host: the answer may be lost, and then it is asked again.
fn revoke(place: &Place, number: u8) -> Vec<Event> {
    let mut client = Client::new(place);
    let request = Request::Revoke {
        host: host(number).to_string(),
    };
    let mut events = Vec::new();
    let deadline = Instant::now() + LONG;
    loop {
        let begun = Instant::now();
        let answer = client.ask(&request);
        assert!(
            begun < deadline,
            "host {number} was not revoked: {answer:?}"
        );
        let is_over = !matches!(answer, Answer::Unknown(_));
        events.push(Event {
            begun,
            ended: Instant::now(),
            request: request.clone(),
            answer,
        });
        if is_over {
            return events;
        }
        std::thread::park_timeout(PAUSE);
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
fn whatever_dies_no_release_follows_a_revocation_and_none_is_lost() {
    // On a thread of its own, which goes into another network where that is allowed.
    let has_wires = is_privileged("faults of wires between members of etcd");
    std::thread::spawn(move || play(has_wires)).join().unwrap();
}

fn play(has_wires: bool) {
    let seed = number_from("OPENHGS_FAULTS_SEED", u64::from(std::process::id()));
    let count = number_from("OPENHGS_FAULTS", 6);
    println!("OPENHGS_FAULTS_SEED={seed} OPENHGS_FAULTS={count}");
    let mut dice = Dice(seed);
    let mut cluster = Cluster::new(has_wires);
    let load = Load {
        is_over: AtomicBool::new(false),
        heads: (0..12)
            .map(|vm| std::sync::Mutex::new(digest(vm)))
            .collect(),
        next: AtomicU64::new(1000),
    };
    let (sender, events) = channel();
    let places = cluster.places.clone();
    let mut history = Vec::new();
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
        wait_for(ANSWERS, &events, &mut history, "at first");
        for round in 0..count {
            let fault = Fault::draw(&mut dice, has_wires);
            println!("fault {round}: {fault:?}");
            let end = cluster.begin(fault);
            // One host after the other is revoked, each by another node and in the middle of a fault; the last one stays.
            let revoker = &places[dice.below(3) as usize];
            let revoked = (round < u64::from(HOSTS) - 1)
                .then(|| scope.spawn(move || revoke(revoker, round as u8)));
            go_on_for(LASTS, &events, &mut history);
            end(&mut cluster);
            wait_for(ANSWERS, &events, &mut history, &format!("{fault:?}"));
            if let Some(revoked) = revoked {
                history.extend(revoked.join().unwrap());
            }
        }
    });
    history.extend(events.iter());
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
    let logs: Vec<_> = stores.iter().map(log_of).collect();
    assert!(
        logs[0] == logs[1] && logs[0] == logs[2],
        "the logs are not the same"
    );
    let ends: Vec<_> = stores
        .iter()
        .map(|store| store.progress().unwrap().unwrap())
        .map(|progress| (progress.audit_tag, progress.position.nodes))
        .collect();
    assert!(ends[0] == ends[1] && ends[0] == ends[2], "{ends:?}");
    let found = faults(&history, &logs[0]);
    assert!(found.is_empty(), "seed {seed}: {found:#?}");
}

struct Over<'l>(&'l Load);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}
