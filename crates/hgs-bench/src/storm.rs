//! The storm after a blackout: all hosts attest, and all their virtual machines are released.
//!
//! The guardian is the program `hgs`, in processes of its own, so that its processor time is told from the load's. Each
//! host asks for one machine after the other, over a new connection each time, as hosts do; what is released is not
//! opened, which is work of the hosts.

mod guardian;
mod host;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::measure::{Outcome, Percentiles, process_time};
use guardian::{Site, Spent, Victim};
use host::{Host, HostReport};

/// The first page of `hgs-bench storm`.
pub(crate) const HELP: &str = "\
Measure the storm after a blackout: hosts attest, and all their virtual machines are released

Usage: hgs-bench storm [--hosts NUMBER] [--vms NUMBER] [--nodes NUMBER] [--kill follower|leader]
                       [--etcd] [--tokens] [--take-token] [--quick]

The guardian is the program `hgs` that lies beside this program, in a temporary folder. Making the protectors takes a
minute and is not measured.

Options:
  --hosts NUMBER  How many hosts there are [default: 64]
  --vms NUMBER    How many virtual machines there are in all [default: 8000]
  --nodes NUMBER  On how many nodes the guardian runs [default: 1]
  --etcd          Also a single node has an etcd, as the first node of a cluster has
  --kill NODE     Kill a node when half of the machines are released: follower, or the leader of etcd
  --tokens        The keys are in tokens of SoftHSM, one for each node
  --take-token    Take the token of a node that runs away when half of the machines are released
  --quick         4 hosts and 40 virtual machines: the figures mean little
";

/// How often it is looked how many machines were released.
const LOOK: Duration = Duration::from_millis(5);

/// How large the storm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Storm {
    hosts: usize,
    machines: usize,
    nodes: usize,
    kill: Option<Victim>,
    has_etcd: bool,
    has_tokens: bool,
    takes_token: bool,
}

impl Storm {
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut storm = Self {
            hosts: 64,
            machines: 8000,
            nodes: 1,
            kill: None,
            has_etcd: false,
            has_tokens: false,
            takes_token: false,
        };
        while let Some(word) = words.next() {
            let number = |value: Option<String>| {
                let number = value.and_then(|value| value.parse().ok());
                number
                    .filter(|number| *number > 0)
                    .ok_or_else(|| format!("{word} needs a number"))
            };
            match word.as_str() {
                "--hosts" => storm.hosts = number(words.next())?,
                "--vms" => storm.machines = number(words.next())?,
                "--nodes" => storm.nodes = number(words.next())?,
                "--kill" => storm.kill = Some(victim(words.next())?),
                "--etcd" => storm.has_etcd = true,
                "--tokens" => storm.has_tokens = true,
                "--take-token" => (storm.has_tokens, storm.takes_token) = (true, true),
                "--quick" => (storm.hosts, storm.machines) = (4, 40),
                _ => return Err(format!("unknown argument {word}")),
            }
        }
        if storm.kill.is_some() && storm.nodes < 3 {
            return Err("with fewer than three nodes, none can be lost".to_owned());
        }
        if storm.takes_token && storm.nodes < 2 {
            return Err("without its token, a single node releases nothing".to_owned());
        }
        Ok(storm)
    }

    /// Makes the site, and prints what the storm was.
    pub(crate) fn measure(self) -> Outcome<()> {
        let runtime = tokio::runtime::Runtime::new()?;
        let folder = tempfile::tempdir()?;
        let mut site = Site::new(folder.path(), self.nodes, self.has_tokens, self.has_etcd)?;
        let per_host = self.machines.div_ceil(self.hosts);
        let prepared = runtime.block_on(host::prepare(&site, self.hosts, per_host))?;
        // The blackout: nothing of the guardian is in memory any more.
        site.stop()?;
        let begun = Instant::now();
        site.start()?;
        let started = begun.elapsed();

        let (before, commits) = (site.spent()?, site.commits()?);
        let generator = process_time();
        let begun = Instant::now();
        let released = Arc::new(AtomicUsize::new(0));
        let storm = runtime.spawn(weather(prepared, Arc::clone(&released)));
        if self.kill.is_some() || self.takes_token {
            while released.load(Ordering::Relaxed) < self.machines / 2 && !storm.is_finished() {
                thread::sleep(LOOK);
            }
        }
        if let Some(victim) = self.kill {
            site.kill(victim)?;
        }
        if self.takes_token {
            site.take_token()?;
        }
        let reports = runtime.block_on(storm)?;
        let elapsed = begun.elapsed();
        let guardian = site.spent()?.since(before);
        let generator = process_time().saturating_sub(generator);
        let commits = site.commits()?.saturating_sub(commits);
        site.stop()?;
        let costs = Costs {
            guardian,
            generator,
            commits,
        };
        print(&reports, begun, elapsed, started, &costs);
        Ok(())
    }
}

fn victim(name: Option<String>) -> Result<Victim, String> {
    match name.as_deref() {
        Some("follower") => Ok(Victim::Follower),
        Some("leader") => Ok(Victim::Leader),
        _ => Err("--kill needs follower or leader".to_owned()),
    }
}

/// All hosts at once, each until all its machines are released or refused.
async fn weather(hosts: Vec<Host>, released: Arc<AtomicUsize>) -> Vec<HostReport> {
    let mut running = tokio::task::JoinSet::new();
    for host in hosts {
        running.spawn(host.power_on(Arc::clone(&released)));
    }
    running.join_all().await
}

/// What a storm has cost.
struct Costs {
    guardian: Spent,
    generator: Duration,
    /// Of the nodes that were not killed. Those of a killed one since its start are missing.
    commits: u64,
}

fn print(
    reports: &[HostReport],
    begun: Instant,
    elapsed: Duration,
    started: Duration,
    Costs {
        guardian,
        generator,
        commits,
    }: &Costs,
) {
    let times: Vec<_> = reports
        .iter()
        .flat_map(|report| report.releases.iter().map(|release| release.took))
        .collect();
    let times = Percentiles::of(times);
    let mut answers: Vec<_> = reports
        .iter()
        .flat_map(|report| report.releases.iter().map(|release| release.at))
        .chain(reports.iter().filter_map(|report| report.attested))
        .collect();
    answers.sort_unstable();
    let stall = answers
        .iter()
        .scan(begun, |last, at| {
            Some(at.duration_since(std::mem::replace(last, *at)))
        })
        .max()
        .unwrap_or(elapsed);
    let failed: usize = reports.iter().map(|report| report.failures.len()).sum();
    let per_release = |time: Duration| time.as_secs_f64() * 1e3 / times.count().max(1) as f64;
    println!(
        "| hosts | released | failed | s | p50 ms | p99 ms | slowest ms | longest without an answer ms | guardian s of processor | ms of processor per release | workers | writers | connections | etcd | releases in a commit | generator s | start s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    println!(
        "| {} | {} | {failed} | {:.2} | {:.1} | {:.1} | {:.1} | {:.0} | {:.2} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.1} | {:.2} | {:.2} |",
        reports.len(),
        times.count(),
        elapsed.as_secs_f64(),
        times.millis(0.5),
        times.millis(0.99),
        times.millis(1.0),
        stall.as_secs_f64() * 1e3,
        guardian.all().as_secs_f64(),
        per_release(guardian.all()),
        per_release(guardian.workers),
        per_release(guardian.writers),
        per_release(guardian.connections),
        per_release(guardian.etcd),
        times.count() as f64 / *commits as f64,
        generator.as_secs_f64(),
        started.as_secs_f64(),
    );
    for failure in reports.iter().flat_map(|report| &report.failures).take(10) {
        println!("\nfailed: {failure}");
    }
}
