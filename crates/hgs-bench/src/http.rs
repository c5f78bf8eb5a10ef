//! Rolls through a real server on loopback, with connections that stay open.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::num::NonZero;
use std::path::Path;
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
use hgs_crypto::random::System;
use hgs_kps::wire::Algorithms;
use hgs_kps::{PendingRoll, ServiceVersion};
use hgs_pki::health::HealthKind;
use hgs_pki::{CertificateCache, SignatureCache};
use hgs_protector::metadata::{Expired, Metadata, Trust};
use hgs_protector::{TransportKey, create};
use hgs_server::config::Layout;
use hgs_server::{Clock as _, Config, InitOptions, KeySize, Running, SystemClock};
use hgs_testkit::fixtures::{Guardian, Keys};
use rustix::time::{ClockId, clock_gettime};

use crate::floor::{Caches, Floor};
use crate::measure::{Effort, median, processor_time};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Prints what rolls over HTTP cost, by number of connections.
pub(crate) fn by_number_of_connections(effort: Effort) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let (running, request) = runtime.block_on(serve(folder.path()))?;
    let address = running.addresses().http.ok_or("it does not listen")?;
    let floor = Floor::new(Guardian::named("fabric"), request.len(), Caches::Warm);
    floor.run();

    println!(
        "\n| connections | rolls/s | server µs of processor per roll | generator µs per roll | floor µs | floor / server |"
    );
    println!("|---|---|---|---|---|---|");
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
            "| {connections} | {:.0} | {:.0} | {:.0} | {:.0} | {:.3} |",
            of(|round| round.load.per_second()),
            of(|round| round.load.server_micros()),
            of(|round| round.load.generator_micros()),
            of(|round| round.floor),
            of(|round| round.floor / round.load.server_micros()),
        );
    }
    let _ = runtime.block_on(running.shutdown());
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

/// Starts a guardian, registers and attests a host, and makes the request that it would send.
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
    let initialised = hgs_server::initialise(&config, options, SystemClock.now())?;
    let running = hgs_server::start(&config, Arc::new(SystemClock)).await?;

    let address = running.addresses().http.ok_or("it does not listen")?;
    let host = host(&folder.join("host"), address)?;
    let socket = running
        .addresses()
        .admin
        .clone()
        .ok_or("there is no socket")?;
    let host_key = host.create_host_key(HostKeySize::Rsa2048)?;
    let host_key = host_key.export(PublicForm::SubjectPublicKeyInfo, "bench", host.now())?;
    let registration = AddHost {
        name: "bench".to_owned(),
        host_key,
    };
    tokio::task::spawn_blocking(move || Client::new(socket).add_host(&registration)).await??;

    let health = host
        .attest(HealthKind::Encryption, Sides::Both)
        .await?
        .certificate;
    let metadata = Metadata::read(
        &host.metadata().await?,
        &CertificateCache::new(8),
        &SignatureCache::new(8),
    )?;
    let trust = Trust::Thumbprint(initialised.signing.thumbprint());
    let fabric = metadata.import(&trust, Expired::Refuse, host.now())?;
    let owner = Guardian::named("owner");
    let key = TransportKey::random(&mut System::new())?;
    let keys = Keys::of(&[owner]);
    let protector = create(&owner.certificates, &[fabric], &key, &mut &keys)?;
    let pending = PendingRoll::new(protector, health, Algorithms::default(), ServiceVersion::V2);
    Ok((running, pending.request()))
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

/// What came of a load.
struct Load {
    rolls: u64,
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
        joined.collect::<io::Result<Vec<(u64, Duration)>>>()
    })?;
    Ok(Load {
        rolls: sums.iter().map(|(rolls, _)| rolls).sum(),
        generator: sums.iter().map(|(_, time)| *time).sum(),
        elapsed: begun.elapsed(),
        process: process_time().saturating_sub(process),
    })
}

fn ask_until(
    stop: &AtomicBool,
    address: SocketAddr,
    message: &[u8],
) -> io::Result<(u64, Duration)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut rolls = 0;
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(message)?;
        read_response(&mut stream, &mut buffer)?;
        rolls += 1;
    }
    Ok((rolls, processor_time()))
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
