//! Rolls through a real server on loopback, with connections that stay open.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hgs_admin::types::AddHost;
use hgs_admin::{Administration as _, Client};
use hgs_client::configuration::{Configuration, Endpoints, Services};
use hgs_client::host_key::{HostKeySize, PublicForm};
use hgs_client::service::Sides;
use hgs_client::{Folders, GuardedHost};
use hgs_clock::{Clock as _, SystemClock};
use hgs_crypto::random::System;
use hgs_kps::wire::Algorithms;
use hgs_kps::{PendingRoll, ServiceVersion};
use hgs_pki::health::HealthKind;
use hgs_pki::{CertificateCache, SignatureCache};
use hgs_protector::metadata::{Expired, Metadata, Trust};
use hgs_protector::{TransportKey, create};
use hgs_server::config::Layout;
use hgs_server::{Config, InitOptions, KeySize, Running};
use hgs_testkit::fixtures::{Guardian, Keys};
use rustix::time::{ClockId, clock_gettime};

use crate::floor::{Caches, Floor};
use crate::measure::{Effort, median, processor_time};

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Prints what rolls over HTTP cost, by number of connections.
pub(crate) fn by_number_of_connections(effort: Effort) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let (running, request) = runtime.block_on(serve(folder.path()))?;
    let address = running.addresses().http.ok_or("it does not listen")?;
    let floor = Floor::new(Guardian::named("fabric"), request.len(), Caches::Warm);
    floor.run();

    println!(
        "\n| connections | rolls/s | p50 ms | p99 ms | p99.9 ms | server µs of processor per roll | generator µs per roll | floor µs | floor / server |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for connections in [1, 8, 64] {
        let rounds: Vec<Round> = (0..effort.loads())
            .map(|_| {
                Ok(Round {
                    floor: floor_micros(effort, &floor),
                    load: load(address, &request, connections, effort)?,
                })
            })
            .collect::<io::Result<_>>()?;
        let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
        println!(
            "| {connections} | {:.0} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {:.3} |",
            of(|round| round.load.per_second()),
            of(|round| round.load.percentile(0.5)),
            of(|round| round.load.percentile(0.99)),
            of(|round| round.load.percentile(0.999)),
            of(|round| round.load.server_micros()),
            of(|round| round.load.generator_micros()),
            of(|round| round.floor),
            of(|round| round.floor / round.load.server_micros()),
        );
    }
    let _ = runtime.block_on(running.shutdown());
    Ok(())
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Target {
    /// Where it listens for plain HTTP.
    pub(crate) address: SocketAddr,
    /// The socket of its administrators: a host is registered for the time of the benchmark.
    pub(crate) socket: PathBuf,
}

/// Prints how fast a running server answers rolls, by number of connections. The processor time of the server is not
/// known here.
pub(crate) fn of_a_running_server(effort: Effort, target: &Target) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let name = format!("bench-{}", std::process::id());
    let host = folder.path().join("host");
    let request = runtime.block_on(prepare(&host, target, &name))?;
    println!("| connections | rolls/s | p50 ms | p99 ms | p99.9 ms |");
    println!("|---|---|---|---|---|");
    for connections in [1, 8, 64] {
        let loads: Vec<Load> = (0..effort.loads())
            .map(|_| load(target.address, &request, connections, effort))
            .collect::<io::Result<_>>()?;
        let of = |figure: &dyn Fn(&Load) -> f64| median(loads.iter().map(figure));
        println!(
            "| {connections} | {:.0} | {:.2} | {:.2} | {:.2} |",
            of(&Load::per_second),
            of(&|load| load.percentile(0.5)),
            of(&|load| load.percentile(0.99)),
            of(&|load| load.percentile(0.999)),
        );
    }
    Client::new(&target.socket).remove_host(&name.parse()?)?;
    Ok(())
}

/// The floor and a load, one right after the other.
struct Round {
    floor: f64,
    load: Load,
}

/// Processor time of the floor of one roll, with every processor at work on it as they are under the load: where two
/// share a core, each is slower than one alone.
fn floor_micros(effort: Effort, floor: &Floor) -> f64 {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let until = Instant::now() + effort.load();
    let times = thread::scope(|scope| {
        let workers: Vec<_> = (0..processors)
            .map(|_| scope.spawn(move || floor_until(until, floor)))
            .collect();
        let joined = workers.into_iter().filter_map(|worker| worker.join().ok());
        joined.collect::<Vec<f64>>()
    });
    times.iter().sum::<f64>() / times.len() as f64
}

/// Microseconds of this thread's processor time for each repetition.
fn floor_until(until: Instant, floor: &Floor) -> f64 {
    let (begun, mut repetitions) = (processor_time(), 0u32);
    while repetitions == 0 || Instant::now() < until {
        floor.run();
        repetitions += 1;
    }
    processor_time().saturating_sub(begun).as_secs_f64() * 1e6 / f64::from(repetitions)
}

/// Starts a guardian, and makes the request that a host of it would send.
async fn serve(folder: &Path) -> Outcome<(Running, Vec<u8>)> {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = Config::with_layout(Layout {
        configuration: folder.join("etc"),
        state: folder.join("guardian"),
        runtime: folder.join("run"),
        http_port: 0,
        https_port: 0,
    });
    config.listen.http.address = Some(any_port);
    config.listen.metrics.address = any_port;
    let options = InitOptions {
        key_size: KeySize::Rsa2048,
        ..InitOptions::default()
    };
    hgs_server::initialise(&config, options, SystemClock.now())?;
    let running = hgs_server::start(&config, Arc::new(SystemClock)).await?;

    let addresses = running.addresses();
    let target = Target {
        address: addresses.http.ok_or("it does not listen")?,
        socket: addresses.admin.clone().ok_or("there is no socket")?,
    };
    let request = prepare(&folder.join("host"), &target, "bench").await?;
    Ok((running, request))
}

/// Registers a host of this name and attests it; the request for a roll that it would send.
async fn prepare(folder: &Path, target: &Target, name: &str) -> Outcome<Vec<u8>> {
    let host = host(folder, target.address)?;
    let host_key = host.create_host_key(HostKeySize::Rsa2048)?;
    let host_key = host_key.export(PublicForm::SubjectPublicKeyInfo, "bench", host.now())?;
    let registration = AddHost {
        name: name.to_owned(),
        host_key,
    };
    let client = Client::new(&target.socket);
    let signing = tokio::task::spawn_blocking(move || {
        client.add_host(&registration)?;
        client.status()
    });
    let signing = signing
        .await??
        .primary_signing
        .ok_or("the guardian has no primary certificates")?;

    let health = host
        .attest(HealthKind::Encryption, Sides::Both)
        .await?
        .certificate;
    let metadata = Metadata::read(
        &host.metadata().await?,
        &CertificateCache::new(8),
        &SignatureCache::new(8),
    )?;
    let trust = Trust::Thumbprint(signing.thumbprint.parse()?);
    let fabric = metadata.import(&trust, Expired::Refuse, host.now())?;
    let owner = Guardian::named("owner");
    let key = TransportKey::random(&mut System::new())?;
    let keys = Keys::of(&[owner]);
    let protector = create(&owner.certificates, &[fabric], &key, &mut &keys)?;
    let pending = PendingRoll::new(protector, health, Algorithms::default(), ServiceVersion::V2);
    Ok(pending.request())
}

fn host(folder: &Path, address: SocketAddr) -> Outcome<GuardedHost> {
    std::fs::create_dir(folder)?;
    let folders = Folders::inside(folder);
    let primary = Endpoints {
        attestation: format!("http://{address}/Attestation").parse()?,
        key_protection: format!("http://{address}/KeyProtection").parse()?,
    };
    let services = Services {
        primary,
        fallback: None,
        certificate_authorities: None,
        dangerous_accept_unsigned_responses: false,
    };
    Configuration::HostGuardianService(services).store(&folders.configuration)?;
    Ok(GuardedHost::open(folders)?)
}

/// The result of a load.
struct Load {
    rolls: u64,
    /// How long each roll took, the shortest first.
    latencies: Vec<Duration>,
    elapsed: Duration,
    /// Processor time of the threads that made the load.
    generator: Duration,
    /// Processor time of the whole process, load included.
    process: Duration,
}

impl Load {
    fn per_second(&self) -> f64 {
        self.rolls as f64 / self.elapsed.as_secs_f64()
    }

    /// Milliseconds that this share of the rolls took at most.
    fn percentile(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let place = (last as f64 * share).round() as usize;
        self.latencies
            .get(place)
            .map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }

    fn server_micros(&self) -> f64 {
        self.process.saturating_sub(self.generator).as_secs_f64() * 1e6 / self.rolls as f64
    }

    fn generator_micros(&self) -> f64 {
        self.generator.as_secs_f64() * 1e6 / self.rolls as f64
    }
}

/// Rolls on so many connections at once, each asking again as soon as it was answered.
fn load(
    address: SocketAddr,
    request: &[u8],
    connections: usize,
    effort: Effort,
) -> io::Result<Load> {
    let message = [
        format!(
            "POST /KeyProtection/service/v2.0/rolltransportkey HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n",
            request.len()
        )
        .as_bytes(),
        request,
    ]
    .concat();
    let stop = AtomicBool::new(false);
    let (begun, process) = (Instant::now(), process_time());
    let sums = thread::scope(|scope| {
        let clients: Vec<_> = (0..connections)
            .map(|_| scope.spawn(|| ask_until(&stop, address, &message)))
            .collect();
        thread::sleep(effort.load());
        stop.store(true, Ordering::Relaxed);
        let joined = clients
            .into_iter()
            .map(|client| client.join().map_err(|_| io::ErrorKind::Other)?);
        joined.collect::<io::Result<Vec<(Vec<Duration>, Duration)>>>()
    })?;
    let mut latencies: Vec<Duration> = sums.iter().flat_map(|(times, _)| times).copied().collect();
    latencies.sort_unstable();
    Ok(Load {
        rolls: latencies.len() as u64,
        latencies,
        generator: sums.iter().map(|(_, time)| *time).sum(),
        elapsed: begun.elapsed(),
        process: process_time().saturating_sub(process),
    })
}

fn ask_until(
    stop: &AtomicBool,
    address: SocketAddr,
    message: &[u8],
) -> io::Result<(Vec<Duration>, Duration)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut latencies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        stream.write_all(message)?;
        read_response(&mut stream, &mut buffer)?;
        latencies.push(asked.elapsed());
    }
    Ok((latencies, processor_time()))
}

/// Reads one response of status 200 whose head says how long it is.
fn read_response(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    let unexpected = |what: &str| io::Error::other(format!("unexpected response: {what}"));
    let mut have = 0;
    loop {
        have += match stream.read(&mut buffer[have..])? {
            0 => return Err(unexpected("it ends early")),
            read => read,
        };
        let text = String::from_utf8_lossy(&buffer[..have]);
        let Some((head, _)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(unexpected(head));
        }
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .parse::<usize>()
                .ok()
        });
        let whole = head.len() + 4 + length.ok_or_else(|| unexpected("no length"))?;
        if have >= whole {
            return Ok(());
        }
    }
}

fn process_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
