//! Commits of the store, beside what the disk takes for as many octets.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Instant;

use hgs_attest::Credential;
use hgs_clock::{Clock as _, SystemClock};
use hgs_crypto::hash::sha256;
use hgs_crypto::random::System;
use hgs_pki::SerialNumber;
use hgs_pki::health::HostId;
use hgs_server::{Config, InitOptions, KeySize};
use hgs_store::order::Ordered;
use hgs_store::{
    Act, Digest, NewHost, Opening, Platform, Recipient, ReleaseRecord, Store, Transaction,
    master_key_file,
};
use hgs_testkit::fixtures::private_key;

use crate::measure::{Effort, Outcome, Percentiles, median, process_time};

/// Where the file that is written for comparison starts over, as the store's log does.
const LOG: u64 = 16 << 20;

/// Releases that share a commit, as many as connections that ask for them.
pub(crate) const GROUPS: [usize; 3] = [1, 8, 64];

/// Releases of the commits that fill a store.
const MAX_RELEASES: usize = 500;

/// Commits of which the size is measured.
const COMMITS: usize = 100;

const HOST: HostId = HostId::from_bytes([0xb1; 16]);

/// Prints how long commits take, beside the floor: as many octets, written to a file in the same folder and brought to
/// the disk. Returns how many octets a commit of each of [`GROUPS`], or only of one of them, takes.
pub(crate) fn commits(effort: Effort, only: Option<usize>) -> Outcome<Vec<(usize, usize)>> {
    let folder = tempfile::tempdir()?;
    let mut recorder = Recorder::new(folder.path())?;
    // What a commit writes grows with the database, so that begins with as much on every machine.
    for _ in 0..effort.releases_before() / MAX_RELEASES {
        recorder.commit(MAX_RELEASES)?;
    }
    let mut disk = Disk::new(folder.path())?;
    println!(
        "\n| releases in a commit | octets | commit p50 ms | p99 ms | floor p50 ms | floor / commit | µs of processor per release |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut sizes = Vec::new();
    for releases in groups(only) {
        let octets = recorder.octets(releases)?;
        sizes.push((releases, octets));
        let rounds: Vec<(CommitRound, Percentiles)> = (0..effort.loads())
            .map(|_| {
                let commits = recorder.round(effort, releases)?;
                Ok((commits, disk.round(effort, octets, || ())?))
            })
            .collect::<Outcome<_>>()?;
        let of = |figure: fn(&(CommitRound, Percentiles)) -> f64| median(rounds.iter().map(figure));
        println!(
            "| {releases} | {octets} | {:.2} | {:.2} | {:.2} | {:.3} | {:.0} |",
            of(|(commits, _)| commits.times.millis(0.5)),
            of(|(commits, _)| commits.times.millis(0.99)),
            of(|(_, floor)| floor.millis(0.5)),
            of(|(commits, floor)| floor.millis(0.5) / commits.times.millis(0.5)),
            of(|(commits, _)| commits.micros_per_release),
        );
    }
    Ok(sizes)
}

/// All sizes, or one of them.
pub(crate) fn groups(only: Option<usize>) -> impl Iterator<Item = usize> {
    let groups = GROUPS.into_iter();
    groups.filter(move |group| only.is_none_or(|only| only == *group))
}

/// Commits of one size, one after the other.
struct CommitRound {
    times: Percentiles,
    micros_per_release: f64,
}

/// A store, and virtual machines whose keys are released again and again.
pub(crate) struct Recorder {
    store: Store,
    template: ReleaseRecord,
    /// The newest protector of each machine.
    machines: Vec<Digest>,
    next: usize,
    made: u64,
}

impl Recorder {
    pub(crate) fn new(folder: &Path) -> Outcome<Self> {
        Self::of_machines(folder, 1000, None)
    }

    /// With so many machines, and as one of several nodes where commits are `ordered`.
    pub(crate) fn of_machines(
        folder: &Path,
        machines: u64,
        ordered: Option<Ordered>,
    ) -> Outcome<Self> {
        let config = config(folder);
        let now = SystemClock.now();
        let options = InitOptions {
            key_size: KeySize::Rsa2048,
            ..InitOptions::default()
        };
        let guardian = hgs_server::initialise(&config, options, now)?;
        let store = open_in(&config, &config.server.name, ordered)?;
        let host = Transaction::AddHost(NewHost {
            id: HOST,
            name: "bench".parse()?,
            credential: Credential::HostKey(private_key(0).public().clone()),
            platform: Platform::default(),
            group: None,
        });
        let act = Act::new(now, "hgs-bench");
        store.transact(vec![host], act)?;
        let state = store.state();
        let signer = state.attestation_signers().next().ok_or("no signer")?;
        let template = ReleaseRecord {
            time: now,
            recipient: Recipient::Registered(HOST),
            signer: signer.certificate.thumbprint(),
            serial: SerialNumber::from_bytes(&[1; 16])?,
            issued: now,
            policy: digest(0),
            ingress: digest(0),
            egress: digest(0),
            owner: guardian.signing.thumbprint(),
            guardian: guardian.encryption.thumbprint(),
            guardian_signing: guardian.signing.thumbprint(),
            decided_from: state.generation(),
            offline_use: None,
            offline_unwraps: None,
            request: None,
        };
        let machines: Vec<Digest> = (1..=machines).map(digest).collect();
        Ok(Self {
            store,
            template,
            made: machines.len() as u64,
            machines,
            next: 0,
        })
    }

    /// The store.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The store alone.
    pub(crate) fn into_store(self) -> Store {
        self.store
    }

    /// Octets that one commit writes, on average of some: the log, and what it brings to the database.
    fn octets(&mut self, releases: usize) -> Outcome<usize> {
        let before = written()?;
        for _ in 0..COMMITS {
            self.commit(releases)?;
        }
        Ok((written()? - before) / COMMITS)
    }

    fn round(&mut self, effort: Effort, releases: usize) -> Outcome<CommitRound> {
        let (until, mut times) = (Instant::now() + effort.load(), Vec::new());
        let processor = process_time();
        while times.is_empty() || Instant::now() < until {
            let begun = Instant::now();
            self.commit(releases)?;
            times.push(begun.elapsed());
        }
        let commits = times.len();
        let processor = process_time().saturating_sub(processor);
        Ok(CommitRound {
            micros_per_release: processor.as_secs_f64() * 1e6 / (commits * releases) as f64,
            times: Percentiles::of(times),
        })
    }

    /// Records so many releases, each of another machine, in one commit.
    pub(crate) fn commit(&mut self, releases: usize) -> Outcome<()> {
        let (sender, receiver) = channel();
        let mut announced = Some(self.store.announce());
        for number in 1..=releases {
            self.next = (self.next + 1) % self.machines.len();
            self.made += 1;
            let egress = digest(self.made);
            let release = ReleaseRecord {
                ingress: std::mem::replace(&mut self.machines[self.next], egress),
                egress,
                ..self.template.clone()
            };
            // The commit waits for those that were announced: now there is none but this one.
            if number == releases {
                announced = None;
            }
            let sender = sender.clone();
            self.store
                .release(release, move |recorded| drop(sender.send(recorded)))?;
        }
        drop((announced, sender));
        for recorded in receiver {
            recorded?;
        }
        Ok(())
    }
}

/// The configuration of a guardian in `folder`.
pub(crate) fn config(folder: &Path) -> Config {
    Config::with_layout(hgs_server::config::Layout {
        configuration: folder.join("etc"),
        state: folder.join("guardian"),
        runtime: folder.join("run"),
        http_port: 0,
        https_port: 0,
    })
}

/// Opens the state of a guardian that does not run.
pub(crate) fn open(config: &Config) -> Outcome<Store> {
    open_in(config, &config.server.name, None)
}

/// The same, as a node of this name where commits are `ordered`.
pub(crate) fn open_in(config: &Config, node: &str, ordered: Option<Ordered>) -> Outcome<Store> {
    Ok(Store::open(Opening {
        directory: &config.state_folder(),
        master_key: &master_key_file::read(&config.master_key_file())?,
        node,
        high_water_mark: config.high_water_mark_file(),
        random: Box::new(System::new()),
        order: ordered,
    })?)
}

fn digest(number: u64) -> Digest {
    Digest::from_bytes(sha256(&number.to_be_bytes()))
}

/// Octets that this process has handed to the system to be written.
fn written() -> Outcome<usize> {
    let counters = fs::read_to_string("/proc/self/io")?;
    let written = counters
        .lines()
        .find_map(|line| line.strip_prefix("wchar: "));
    Ok(written.ok_or("the system does not count")?.parse()?)
}

/// A file that is written as the log of a database is.
pub(crate) struct Disk {
    file: File,
    /// Where the next octets go.
    place: u64,
}

impl Disk {
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        let file = File::create(folder.join("floor"))?;
        // The log of a store that has been at work for a while is overwritten, too.
        file.write_all_at(&vec![1; LOG as usize], 0)?;
        file.sync_all()?;
        Ok(Self { file, place: 0 })
    }

    /// Has so many octets on the disk when it returns.
    fn commit(&mut self, octets: usize) -> io::Result<()> {
        if self.place + octets as u64 > LOG {
            self.place = 0;
        }
        self.file.write_all_at(&vec![2; octets], self.place)?;
        self.place += octets as u64;
        self.file.sync_data()
    }

    /// How long `work` and a commit of so many octets take together, one after the other.
    pub(crate) fn round(
        &mut self,
        effort: Effort,
        octets: usize,
        work: impl Fn(),
    ) -> io::Result<Percentiles> {
        let (until, mut times) = (Instant::now() + effort.load(), Vec::new());
        while times.is_empty() || Instant::now() < until {
            let begun = Instant::now();
            work();
            self.commit(octets)?;
            times.push(begun.elapsed());
        }
        Ok(Percentiles::of(times))
    }
}
