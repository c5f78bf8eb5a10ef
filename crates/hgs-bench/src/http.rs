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
use hgs_pki::{Certificate, CertificateCache, SignatureCache};
use hgs_protector::metadata::{Expired, Metadata, Trust};
use hgs_protector::{GuardianCertificates, TransportKey, create};
use hgs_server::{InitOptions, KeySize, Running};
use hgs_testkit::fixtures::{Guardian, Keys};

use crate::floor::{Caches, Floor};
use crate::measure::{Effort, Outcome, Percentiles, median, process_time, processor_time};
use crate::store::{self, Disk};

/// Prints what rolls over HTTP cost, by number of connections.
///
/// `sizes` are numbers of releases, and what a commit of so many writes. The floor's latency is that of one caller on an
/// idle machine: the floor, and what a commit of one release writes brought to the disk. With more connections than one,
/// each waits for processors that work for the others.
pub(crate) fn by_number_of_connections(effort: Effort, sizes: &[(usize, usize)]) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let mut disk = Disk::new(folder.path())?;
    let &(of, octets) = sizes.first().ok_or("there is no load")?;
    let octets = octets / of;
    let runtime = tokio::runtime::Runtime::new()?;
    let (running, target) = runtime.block_on(serve(folder.path()))?;
    let host = folder.path().join("host");
    let request = runtime.block_on(prepare(&host, &target, "bench"))?;
    let address = target.address;
    let floor = Floor::new(Guardian::named("fabric"), request.len(), Caches::Warm);
    floor.run();

    println!(
        "\n| connections | rolls/s | p50 ms | p99 ms | p99.9 ms | floor p50 ms, one caller | p50 / floor | server µs of processor per roll | generator µs per roll | floor µs | floor / server |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for &(connections, _) in sizes {
        let rounds: Vec<Round> = (0..effort.loads())
            .map(|_| {
                Ok(Round {
                    floor: floor_micros(effort, &floor),
                    floor_times: disk.round(effort, octets, || floor.run())?,
                    load: load(address, &request, connections, effort)?,
                })
            })
            .collect::<io::Result<_>>()?;
        let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
        println!(
            "| {connections} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {:.3} |",
            of(|round| round.load.per_second()),
            of(|round| round.load.times.millis(0.5)),
            of(|round| round.load.times.millis(0.99)),
            of(|round| round.load.times.millis(0.999)),
            of(|round| round.floor_times.millis(0.5)),
            of(|round| round.load.times.millis(0.5) / round.floor_times.millis(0.5)),
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
pub(crate) fn of_a_running_server(
    effort: Effort,
    target: &Target,
    only: Option<usize>,
) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let name = format!("bench-{}", std::process::id());
    let host = folder.path().join("host");
    let request = runtime.block_on(prepare(&host, target, &name))?;
    println!("| connections | rolls/s | p50 ms | p99 ms | p99.9 ms |");
    println!("|---|---|---|---|---|");
    for connections in store::groups(only) {
        let loads: Vec<Load> = (0..effort.loads())
            .map(|_| load(target.address, &request, connections, effort))
            .collect::<io::Result<_>>()?;
        let of = |figure: &dyn Fn(&Load) -> f64| median(loads.iter().map(figure));
        println!(
            "| {connections} | {:.0} | {:.2} | {:.2} | {:.2} |",
            of(&Load::per_second),
            of(&|load| load.times.millis(0.5)),
            of(&|load| load.times.millis(0.99)),
            of(&|load| load.times.millis(0.999)),
        );
    }
    Client::new(&target.socket).remove_host(&name.parse()?)?;
    Ok(())
}

/// The floor and a load, one right after the other.
struct Round {
    floor: f64,
    floor_times: Percentiles,
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

/// Starts a guardian.
pub(crate) async fn serve(folder: &Path) -> Outcome<(Running, Target)> {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = store::config(folder);
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
    Ok((running, target))
}

/// Registers a host of this name and attests it; the request for a roll that it would send.
pub(crate) async fn prepare(folder: &Path, target: &Target, name: &str) -> Outcome<Vec<u8>> {
    let (host, health) = attested(folder, target, name).await?;
    let fabric = fabric(&host, target).await?;
    let owner = Guardian::named("owner");
    let key = TransportKey::random(&mut System::new())?;
    let keys = Keys::of(&[owner]);
    let protector = create(&owner.certificates, &[fabric], &key, &mut &keys)?;
    let pending = PendingRoll::new(protector, health, Algorithms::default(), ServiceVersion::V2);
    Ok(pending.request())
}

/// The certificates of the guardian, for protectors that it opens.
pub(crate) async fn fabric(host: &GuardedHost, target: &Target) -> Outcome<GuardianCertificates> {
    let client = Client::new(&target.socket);
    let status = tokio::task::spawn_blocking(move || client.status()).await??;
    let signing = status
        .primary_signing
        .ok_or("the guardian has no primary certificates")?;
    let metadata = Metadata::read(
        &host.metadata().await?,
        &CertificateCache::new(8),
        &SignatureCache::new(8),
    )?;
    let trust = Trust::Thumbprint(signing.thumbprint.parse()?);
    Ok(metadata.import(&trust, Expired::Refuse, host.now())?)
}

/// A new host, registered under this name, and its health certificate.
pub(crate) async fn attested(
    folder: &Path,
    target: &Target,
    name: &str,
) -> Outcome<(GuardedHost, Certificate)> {
    let host = host(folder, target.address)?;
    let host_key = host.create_host_key(HostKeySize::Rsa2048)?.export(
        PublicForm::SubjectPublicKeyInfo,
        "bench",
        host.now(),
    )?;
    let registration = AddHost {
        name: name.to_owned(),
        host_key: Some(host_key),
        ..AddHost::default()
    };
    let client = Client::new(&target.socket);
    tokio::task::spawn_blocking(move || client.add_host(&registration)).await??;
    let health = host.attest(HealthKind::Encryption, Sides::Both).await?;
    Ok((host, health.certificate))
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
    /// How long each roll took.
    times: Percentiles,
    elapsed: Duration,
    /// Processor time of the threads that made the load.
    generator: Duration,
    /// Processor time of the whole process, load included.
    process: Duration,
}

impl Load {
    fn per_second(&self) -> f64 {
        self.times.count() as f64 / self.elapsed.as_secs_f64()
    }

    fn server_micros(&self) -> f64 {
        self.process.saturating_sub(self.generator).as_secs_f64() * 1e6 / self.times.count() as f64
    }

    fn generator_micros(&self) -> f64 {
        self.generator.as_secs_f64() * 1e6 / self.times.count() as f64
    }
}

/// Rolls on so many connections at once, each asking again as soon as it was answered.
fn load(
    address: SocketAddr,
    request: &[u8],
    connections: usize,
    effort: Effort,
) -> io::Result<Load> {
    let message = message(address, request);
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
    let generator = sums.iter().map(|(_, time)| *time).sum();
    let times: Vec<_> = sums.into_iter().map(|(times, _)| times).collect();
    Ok(Load {
        times: Percentiles::of(times.concat()),
        generator,
        elapsed: begun.elapsed(),
        process: process_time().saturating_sub(process),
    })
}

/// The request for a roll as HTTP has it.
pub(crate) fn message(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /KeyProtection/service/v2.0/rolltransportkey HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n",
        request.len()
    );
    [head.as_bytes(), request].concat()
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
        let status = read_response(&mut stream, &mut buffer)?;
        if status != 200 {
            return Err(io::Error::other(format!(
                "a roll was answered with {status}"
            )));
        }
        latencies.push(asked.elapsed());
    }
    Ok((latencies, processor_time()))
}

/// Reads one response whose head says how long it is; its status.
pub(crate) fn read_response(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<u16> {
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
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .parse::<usize>()
                .ok()
        });
        let whole = head.len() + 4 + length.ok_or_else(|| unexpected("no length"))?;
        if have >= whole {
            return status.ok_or_else(|| unexpected(head));
        }
    }
}
