//! The space that commits take in etcd, while they come as fast as they can, and in the state of a node.
//!
//! Nodes are stores of this process with real members of etcd. So the rate is that of the order and of the store alone:
//! nothing is decrypted or signed, which is most of what a release costs a guardian.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hgs_clock::{Clock as _, SystemClock};
use hgs_cluster::node::NodeName;
use hgs_cluster::order::{ClusterId, EtcdOrder, Keyspace, OrderSettings, admit, found};
use hgs_cluster::process::{MAX_TXN_OPERATIONS, QUOTA};
use hgs_cluster::upkeep::{INTERVAL, Report, Upkeep, publish};
use hgs_crypto::random::System;
use hgs_etcd::{Client, Keys, Range, Settings};
use hgs_pki::Seconds;
use hgs_server::StoppedNode;
use hgs_store::order::Ordered;
use hgs_store::{Act, Store};
use hgs_testkit::etcd::Etcd;
use tokio::runtime::Runtime;

use crate::measure::{Outcome, resident};
use crate::store::{Recorder, config, open_in};

/// The first page of `hgs-bench space`.
pub(crate) const HELP: &str = "\
Measure the space that a storm of releases takes in etcd, and each release in the state

Usage: hgs-bench space [--releases NUMBER] [--part NUMBER] [--nodes NUMBER] [--away] [--machines NUMBER]

Everything is done in proportion: a part of the releases, with the same part of etcd's quota, and all times of the
upkeep shorter in the same way. It needs etcd.

Options:
  --releases NUMBER  Of the whole storm [default: 1000000]
  --part NUMBER      One part of so many is done [default: 8]
  --nodes NUMBER     Nodes, each with a member of etcd [default: 1]
  --away             The last node is away from the beginning
  --machines NUMBER  Virtual machines in all [default: as many as releases are done]
";

const CLUSTER: ClusterId = [0xb1; 16];
/// Releases that share a commit, as with as many connections.
const GROUP: usize = 64;
/// Releases by which the octets of one are measured, before anything leaves.
const FIRST: usize = 6400;
/// How often a node reports, and takes in what others have committed.
const REPORT: Duration = Duration::from_secs(5);
const FOLLOW: Duration = Duration::from_millis(20);
/// Keys that are counted at a time.
const PAGE: usize = 20_000;
/// Until etcd has on its disk what it was told, and counts it.
const SETTLED: Duration = Duration::from_millis(500);

/// How large the storm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    releases: usize,
    part: usize,
    nodes: usize,
    away: bool,
    machines: Option<u64>,
}

impl Space {
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut space = Self {
            releases: 1_000_000,
            part: 8,
            nodes: 1,
            away: false,
            machines: None,
        };
        while let Some(word) = words.next() {
            let mut number = || {
                let number = words.next().and_then(|value| value.parse::<usize>().ok());
                number
                    .filter(|number| *number > 0)
                    .ok_or_else(|| format!("{word} needs a number"))
            };
            match word.as_str() {
                "--releases" => space.releases = number()?,
                "--part" => space.part = number()?,
                "--nodes" => space.nodes = number()?,
                "--machines" => space.machines = Some(number()? as u64),
                "--away" => space.away = true,
                _ => return Err(format!("unknown argument {word}")),
            }
        }
        if space.away && space.nodes < 3 {
            return Err("with fewer than three nodes, none can be away".to_owned());
        }
        Ok(space)
    }

    /// Makes the storm, and prints what it took.
    pub(crate) fn measure(self) -> Outcome<()> {
        let folder = tempfile::tempdir()?;
        let mut site = Site::new(folder.path(), self)?;
        let each = site.octets_of_a_release()?;
        println!("\noctets of a release in etcd, while all is kept: {each}\n");
        if self.away {
            site.lose_the_last();
        }
        let peak = site.storm()?;
        println!(
            "\nlargest database of etcd: {} of {} MiB; without anything that leaves it would be {} MiB",
            peak >> 20,
            self.quota() >> 20,
            (each * self.count() as u64) >> 20
        );
        let done = FIRST + self.count();
        let state = site.folders[0].clone();
        drop(site);
        in_the_state(&state, done)
    }

    /// Releases that are done.
    const fn count(&self) -> usize {
        self.releases.div_ceil(self.part)
    }

    const fn quota(&self) -> u64 {
        QUOTA / self.part as u64
    }

    fn hastened(&self, time: Duration) -> Duration {
        time / u32::try_from(self.part).unwrap_or(u32::MAX)
    }
}

/// Nodes, and members of etcd.
struct Site {
    space: Space,
    first: Recorder,
    others: Vec<Store>,
    etcd: Etcd,
    runtime: Runtime,
    folders: Vec<PathBuf>,
}

fn name(number: usize) -> String {
    format!("n{}", number + 1)
}

fn client(etcd: &Etcd, member: usize) -> Client {
    Client::new(Settings {
        members: etcd.addresses(member),
        tls: None,
        patience: Duration::from_secs(5),
        budget: Duration::from_secs(20),
    })
}

impl Site {
    fn new(folder: &Path, space: Space) -> Outcome<Self> {
        let quota = format!("--quota-backend-bytes={}", space.quota());
        // As a node starts it.
        let etcd = Etcd::with(space.nodes, &[&quota, "--snapshot-count=5000"]);
        let runtime = Runtime::new()?;
        let first = name(0).parse()?;
        runtime.block_on(found(
            &client(&etcd, 0),
            &Keyspace::default(),
            &CLUSTER,
            &first,
        ))?;
        let ordered = |member: usize| -> Outcome<Ordered> {
            let node = name(member).parse()?;
            let client = client(&etcd, member);
            runtime.block_on(admit(&client, &Keyspace::default(), &node))?;
            let order = EtcdOrder::new(OrderSettings {
                client,
                runtime: runtime.handle().clone(),
                keys: Keyspace::default(),
                cluster: CLUSTER,
                node,
                max_operations: MAX_TXN_OPERATIONS,
            });
            Ok(Ordered {
                order: Box::new(order),
                random: Box::new(System::new()),
            })
        };
        let folders: Vec<PathBuf> = (0..space.nodes)
            .map(|node| folder.join(name(node)))
            .collect();
        let machines = space.machines.unwrap_or_else(|| space.count() as u64);
        let recorder = Recorder::of_machines(&folders[0], machines, Some(ordered(0)?))?;
        let mut others = Vec::new();
        for (number, place) in folders.iter().enumerate().skip(1) {
            let copy = folder.join("copy");
            recorder.store().copy_to(&copy)?;
            let config = config(place);
            fs::create_dir_all(place)?;
            Store::adopt(&config.state_folder(), &copy)?;
            fs::copy(
                crate::store::config(&folders[0]).master_key_file(),
                config.master_key_file(),
            )?;
            others.push(open_in(&config, &name(number), Some(ordered(number)?))?);
        }
        Ok(Self {
            space,
            first: recorder,
            others,
            etcd,
            runtime,
            folders,
        })
    }

    fn octets_of_a_release(&mut self) -> Outcome<u64> {
        let before = self.used()?;
        for _ in 0..FIRST / GROUP {
            self.first.commit(GROUP)?;
        }
        Ok(self.used()?.saturating_sub(before) / FIRST as u64)
    }

    fn used(&self) -> Outcome<u64> {
        thread::sleep(SETTLED);
        let client = client(&self.etcd, 0);
        Ok(self.runtime.block_on(client.status(0))?.octets.1)
    }

    /// The last node reports once more, and then is away with its etcd.
    fn lose_the_last(&mut self) {
        let Some(store) = self.others.pop() else {
            return;
        };
        let last = self.others.len() + 1;
        report(&self.etcd, &self.runtime, last, &store);
        drop(store);
        self.etcd.kill(last);
    }

    /// Releases as fast as they are recorded, while the others follow and what may leave etcd leaves it: the octets of the
    /// largest database.
    fn storm(&mut self) -> Outcome<u64> {
        let Self {
            space,
            first,
            others,
            etcd,
            runtime,
            ..
        } = self;
        let node = name(0).parse()?;
        let (released, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        let (released, is_over) = (&released, &is_over);
        println!(
            "| s | releases | releases/s | entries that left | dependency keys that left | kept then | MiB used, largest | MiB of the file, largest | MiB of etcd in memory |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        thread::scope(|scope| {
            let (etcd, runtime, others) = (&*etcd, &*runtime, &*others);
            let space = *space;
            scope.spawn(move || follow(etcd, runtime, others, space, is_over));
            let watching = scope.spawn(move || {
                let watch = Watch {
                    etcd,
                    runtime,
                    space,
                    node,
                    released,
                };
                watch.run(is_over)
            });
            let stormed = (|| -> Outcome<()> {
                let mut reported = Instant::now();
                for _ in 0..space.count().div_ceil(GROUP) {
                    first.commit(GROUP)?;
                    released.fetch_add(GROUP as u64, Ordering::Relaxed);
                    if reported.elapsed() >= space.hastened(REPORT) {
                        reported = Instant::now();
                        report(etcd, runtime, 0, first.store());
                    }
                }
                Ok(())
            })();
            report(etcd, runtime, 0, first.store());
            is_over.store(true, Ordering::Relaxed);
            let peak = watching.join().map_err(|_| "the upkeep has failed")?;
            stormed?;
            Ok(peak)
        })
    }
}

/// Has the other nodes take in what was committed, and report.
fn follow(etcd: &Etcd, runtime: &Runtime, others: &[Store], space: Space, is_over: &AtomicBool) {
    let mut reported = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        others.iter().for_each(Store::refresh);
        if reported.elapsed() >= space.hastened(REPORT) {
            reported = Instant::now();
            for (number, store) in (1..).zip(others) {
                report(etcd, runtime, number, store);
            }
        }
        thread::sleep(FOLLOW);
    }
}

fn report(etcd: &Etcd, runtime: &Runtime, number: usize, store: &Store) {
    let reported = (|| -> Outcome<()> {
        let progress = store.progress()?.ok_or("no position")?;
        let report = Report::of(&progress);
        let (client, node) = (client(etcd, 0), name(number).parse()?);
        let keys = Keyspace::default();
        Ok(runtime.block_on(publish(&client, &keys, &node, &report))?)
    })();
    if let Err(error) = reported {
        eprintln!("{} did not report: {error}", name(number));
    }
}

/// What does the upkeep and looks at the first member of etcd.
struct Watch<'w> {
    etcd: &'w Etcd,
    runtime: &'w Runtime,
    space: Space,
    node: NodeName,
    released: &'w AtomicU64,
}

impl Watch<'_> {
    /// The octets of the largest database.
    fn run(&self, is_over: &AtomicBool) -> u64 {
        let client = client(self.etcd, 0);
        let (keys, quota) = (Keyspace::default(), self.space.quota());
        let mut upkeep = Upkeep::new(client.clone(), keys, self.node.clone(), quota);
        let begun = Instant::now();
        let (mut peak, mut before, mut last) = (0, (Instant::now(), 0), false);
        while !last {
            last = is_over.load(Ordering::Relaxed);
            let (mut largest, mut until) = ((0, 0), Instant::now());
            if !last {
                until += self.space.hastened(INTERVAL);
            }
            loop {
                if let Ok(status) = self.runtime.block_on(client.status(0)) {
                    let (file, used) = status.octets;
                    largest = (file.max(largest.0), used.max(largest.1));
                }
                if Instant::now() >= until || (!last && is_over.load(Ordering::Relaxed)) {
                    break;
                }
                thread::sleep(FOLLOW);
            }
            peak = peak.max(largest.0);
            // As if as much time had passed as the whole storm takes.
            let passed = begun.elapsed() * u32::try_from(self.space.part).unwrap_or(1);
            let round = self.runtime.block_on(upkeep.round((begun + passed).into()));
            let released = self.released.load(Ordering::Relaxed);
            let rate = (released - before.1) as f64 / before.0.elapsed().as_secs_f64();
            before = (Instant::now(), released);
            match round {
                Ok(round) => println!(
                    "| {:.0} | {released} | {rate:.0} | {} | {} | {} | {} | {} | {} |",
                    begun.elapsed().as_secs_f64(),
                    round.offloaded.entries,
                    round.offloaded.dependencies,
                    self.kept(&client).unwrap_or_default(),
                    largest.1 >> 20,
                    largest.0 >> 20,
                    self.in_memory() >> 20
                ),
                Err(error) => println!("upkeep: {error}"),
            }
        }
        peak
    }

    /// Dependency keys in etcd.
    fn kept(&self, client: &Client) -> Outcome<usize> {
        let (mut begin, end) = (Bytes::from("openhgs/v/"), Bytes::from("openhgs/v0"));
        let mut count = 0;
        loop {
            let mut range = Range::of(Keys::Between(begin, end.clone()));
            range.names_only = true;
            range.limit = PAGE;
            let found = self.runtime.block_on(client.range(&range))?;
            count += found.records.len();
            match found.records.last().filter(|_| found.more) {
                Some(last) => begin = [&last.key[..], &[0]].concat().into(),
                None => return Ok(count),
            }
        }
    }

    /// Octets of memory of etcd.
    fn in_memory(&self) -> u64 {
        resident(&self.etcd.process(0).to_string()).unwrap_or(0)
    }
}

/// Prints what releases take in the state of a node, and in archives of its audit log.
fn in_the_state(folder: &Path, releases: usize) -> Outcome<()> {
    let config = config(folder);
    let size = |file: PathBuf| -> Outcome<f64> { Ok(fs::metadata(file)?.len() as f64) };
    let whole = size(config.state_folder().join("state.db"))?;
    let act = || Act::new(SystemClock.now(), "hgs-bench");
    StoppedNode::open(&config)?.dissolve(act())?;
    let store = crate::store::open(&config)?;
    let tidy = folder.join("tidy");
    store.copy_to(&tidy)?;
    let whole_tidy = size(tidy)?;
    let archives = folder.join("archives");
    let later = act()
        .time
        .checked_add(Seconds::from_days(2))
        .ok_or("the time is too late")?;
    while let Some(archived) = store.archive_audit(&archives, later, act())? {
        // Each archive is put on record, so that there is always one more record to archive.
        if archived.last >= releases as u64 {
            break;
        }
    }
    let without_log = folder.join("without-log");
    store.copy_to(&without_log)?;
    let without_log = size(without_log)?;
    let mut archived = 0.0;
    for entry in fs::read_dir(&archives)? {
        archived += size(entry?.path())?;
    }
    let each = |octets: f64| octets / releases as f64;
    println!("\n| octets of a release | |\n|---|---|");
    println!("| in state.db, as it grew | {:.0} |", each(whole));
    println!("| the same, written anew | {:.0} |", each(whole_tidy));
    println!(
        "| of it in the audit log and its index | {:.0} |",
        each(whole_tidy - without_log)
    );
    println!("| of it in the lineage | {:.0} |", each(without_log));
    println!("| in archives of the audit log | {:.0} |", each(archived));
    Ok(())
}
