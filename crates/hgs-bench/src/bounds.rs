//! What one caller can cost the others, and what an old audit log costs.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hgs_clock::{Clock as _, SystemClock};
use hgs_crypto::Random as _;
use hgs_crypto::random::System;
use hgs_crypto::rsa::{PublicKey, SignatureScheme};
use hgs_kps::wire::{Algorithms, RollTransportKeyRequest};
use hgs_pki::issue::Issuer;
use hgs_pki::{Certificate, CertificateCache, SignatureCache, Time, profile};
use hgs_protector::suite::KeyEncryption;
use hgs_protector::{GuardianCertificates, Protector, TransportKey, create};
use hgs_store::Act;
use hgs_testkit::fixtures::{Guardian, Keys, private_key, self_signed, ten_years};

use crate::http::{self, message, read_response};
use crate::measure::{Effort, Outcome, Percentiles, resident};
use crate::store::{self, Recorder};

/// As many guardians with an encryption key of 8192 bits as the keys of one protector may be long.
const GUARDIANS: usize = 38;

/// Connections of the host that attacks.
const CONNECTIONS: usize = 400;

/// Prints all of it.
pub(crate) fn all(effort: Effort) -> Outcome<()> {
    let hostile = costly_protectors(effort);
    println!("\n| bound | measured |\n|---|---|");
    cost_of_one(&hostile);
    under_attack(effort, &hostile)?;
    opening(effort)
}

/// The costliest protector that is read: all of its signatures hold, no key or signature was seen before, and none of
/// its wrappings is ours.
fn cost_of_one(hostile: &[Vec<u8>]) {
    let times = |octets: &dyn Fn(&[u8]) -> Vec<u8>, holds: bool| {
        let times = hostile.iter().take(20).map(|protector| {
            let protector = octets(protector);
            let begun = Instant::now();
            let read = Protector::read(&protector, &CertificateCache::new(64));
            let verified = read.and_then(|read| read.verify(&SignatureCache::new(128)));
            assert_eq!(verified.is_ok(), holds);
            begun.elapsed()
        });
        Percentiles::of(times.collect()).millis(0.5)
    };
    let whole = times(&|protector| protector.to_vec(), true);
    let unsigned = times(&without_good_signature, false);
    println!("| costliest protector with good signatures, once | {whole:.1} ms |");
    println!("| the same without a good signature | {unsigned:.1} ms |");
}

/// The protector with another last octet in the first signature.
fn without_good_signature(protector: &[u8]) -> Vec<u8> {
    let mut changed = protector.to_vec();
    let tag = b"<SignatureValue>";
    let found = changed.windows(tag.len()).position(|window| window == tag);
    let place = found.expect("there is a signature") + tag.len();
    changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
    changed
}

fn costly_protectors(effort: Effort) -> Vec<Vec<u8>> {
    let processors = thread::available_parallelism().map_or(1, |count| count.get());
    let each = effort.costly_protectors().div_ceil(processors);
    thread::scope(|scope| {
        let makers: Vec<_> = (0..processors)
            .map(|_| scope.spawn(move || (0..each).map(|_| costly_protector()).collect()))
            .collect();
        let made = makers
            .into_iter()
            .map(|maker| maker.join().expect("it was made"));
        made.collect::<Vec<Vec<Vec<u8>>>>().concat()
    })
}

fn costly_protector() -> Vec<u8> {
    let owner = Guardian::named("owner");
    let signing = private_key(0);
    let authority = self_signed(profile::attestation_signer(ten_years()), &signing);
    let mut keys = Keys::of(&[owner]);
    let key = key_of_8192_bits();
    let serial: [u8; 16] = hgs_crypto::random::array(&mut System::new()).expect("randomness");
    let guardians: Vec<GuardianCertificates> = (0..GUARDIANS)
        .map(|number| {
            let name = format!("{number} {}", hgs_crypto::hex::encode(&serial[..8]));
            let certificate = self_signed(profile::guardian_signing(&name, ten_years()), &signing);
            keys.hold(&certificate, &signing);
            let template = profile::guardian_encryption(&name, ten_years());
            let issuer = Issuer::Certificate(&authority);
            let prepared =
                hgs_pki::issue::prepare(template, &key, issuer, serial).expect("a good template");
            let signature = signing
                .sign(SignatureScheme::Pkcs1Sha256, prepared.to_be_signed())
                .expect("a software key signs");
            let encryption = prepared.assemble(&signature).expect("a good signature");
            let wanted = KeyEncryption::RsaOaep;
            GuardianCertificates::certify(certificate, encryption, wanted, &mut &keys)
                .expect("the keys are at hand")
        })
        .collect();
    let transport = TransportKey::random(&mut System::new()).expect("randomness");
    let made = create(&owner.certificates, &guardians, &transport, &mut &keys);
    made.expect("it is just within the limits")
        .octets()
        .to_vec()
}

/// Some odd number of 8192 bits without a known weakness; its private key is not known.
fn key_of_8192_bits() -> PublicKey {
    loop {
        let mut modulus = [0; 1024];
        System::new().fill(&mut modulus).expect("randomness");
        modulus[0] |= 0x80;
        modulus[1023] |= 1;
        if let Ok(key) = PublicKey::from_numbers(&modulus, &[1, 0, 1]) {
            return key;
        }
    }
}

/// Honest rolls while another host sends costly protectors; and memory while strangers send certificates.
fn under_attack(effort: Effort, hostile: &[Vec<u8>]) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let (running, target) = runtime.block_on(http::serve(folder.path()))?;
    let honest = folder.path().join("honest");
    let honest = runtime.block_on(http::prepare(&honest, &target, "honest"))?;
    let attacker = folder.path().join("attacker");
    let (_, health) = runtime.block_on(http::attested(&attacker, &target, "attacker"))?;
    let hostile: Vec<Vec<u8>> = hostile
        .iter()
        .map(|protector| message(target.address, &request(protector, health.der())))
        .collect();

    let honest = message(target.address, &honest);
    let mut stream = runtime.block_on(connect_from_elsewhere(target.address))?;
    let alone = rolls_beside(&mut stream, &honest, effort, target.address, &[])?;
    let attacked = rolls_beside(&mut stream, &honest, effort, target.address, &hostile)?;
    for (rolls, what) in [
        (alone, "alone"),
        (
            attacked,
            "beside 400 connections of another host that send them",
        ),
    ] {
        println!(
            "| a host's rolls {what} | p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms |",
            rolls.millis(0.5),
            rolls.millis(0.99),
            rolls.millis(1.0)
        );
    }

    let before = resident("self")? >> 20;
    strangers(target.address, &health, effort.strangers())?;
    println!(
        "| resident memory before and after {} strangers' certificates | {before} MiB, {} MiB |",
        effort.strangers(),
        resident("self")? >> 20
    );
    let _ = runtime.block_on(running.shutdown());
    Ok(())
}

fn request(protector: &[u8], health: &[u8]) -> Vec<u8> {
    RollTransportKeyRequest {
        ingress_protector: protector.to_vec(),
        health_certificate: health.to_vec(),
        algorithms: Algorithms::default(),
    }
    .to_xml()
}

/// How long rolls took, one after the other, while others send `hostile` messages again and again.
fn rolls_beside(
    stream: &mut TcpStream,
    honest: &[u8],
    effort: Effort,
    address: SocketAddr,
    hostile: &[Vec<u8>],
) -> Outcome<Percentiles> {
    let (stop, next) = (AtomicBool::new(false), AtomicUsize::new(0));
    let connections = if hostile.is_empty() { 0 } else { CONNECTIONS };
    let times = thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| attack(&stop, address, hostile, &next));
        }
        // Until all of them have asked.
        while next.load(Ordering::Relaxed) < connections {
            thread::sleep(Duration::from_millis(1));
        }
        let times = rolls(stream, honest, 2 * effort.load());
        stop.store(true, Ordering::Relaxed);
        times
    })?;
    Ok(Percentiles::of(times))
}

/// A connection from another address than that of the attack, which has limits of its own.
async fn connect_from_elsewhere(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into())?;
    let stream = socket.connect(address).await?.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn rolls(stream: &mut TcpStream, message: &[u8], lasting: Duration) -> io::Result<Vec<Duration>> {
    let mut buffer = vec![0; 64 * 1024];
    let (until, mut times) = (Instant::now() + lasting, Vec::new());
    while times.is_empty() || Instant::now() < until {
        let asked = Instant::now();
        stream.write_all(message)?;
        let status = read_response(stream, &mut buffer)?;
        if status != 200 {
            let error = format!("an honest roll was answered with {status}");
            return Err(io::Error::other(error));
        }
        times.push(asked.elapsed());
    }
    Ok(times)
}

/// Asks again as soon as it was answered, or refused, and connects anew where it was cut off.
fn attack(stop: &AtomicBool, address: SocketAddr, hostile: &[Vec<u8>], next: &AtomicUsize) {
    let mut buffer = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(address) else {
            continue;
        };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        loop {
            let message = &hostile[next.fetch_add(1, Ordering::Relaxed) % hostile.len()];
            let sent = stream.write_all(message);
            if stop.load(Ordering::Relaxed)
                || sent.is_err()
                || read_response(&mut stream, &mut buffer).is_err()
            {
                break;
            }
        }
    }
}

/// Sends requests with health certificates that all differ, none of which is signed well.
fn strangers(address: SocketAddr, health: &Certificate, count: u32) -> Outcome<()> {
    let serial = health.serial_number();
    let der = health.der();
    let place = der.windows(serial.len()).position(|part| part == serial);
    let place = place.ok_or("a certificate has its serial number")? + serial.len() - 4;
    let mut stream = TcpStream::connect(address)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut der = der.to_vec();
    for number in 0..count {
        der[place..place + 4].copy_from_slice(&number.to_be_bytes());
        stream.write_all(&message(address, &request(b"<none/>", &der)))?;
        let status = read_response(&mut stream, &mut buffer)?;
        if status == 200 {
            return Err("a stranger got keys".into());
        }
    }
    Ok(())
}

/// How long a state with many audit records takes to be opened, before and after they were archived.
fn opening(effort: Effort) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let mut recorder = Recorder::new(folder.path())?;
    for _ in 0..effort.audit_records() / 64 {
        recorder.commit(64)?;
    }
    drop(recorder.into_store());
    let config = store::config(folder.path());
    let open = || {
        let begun = Instant::now();
        let store = store::open(&config)?;
        Ok::<_, Box<dyn std::error::Error>>((store, begun.elapsed()))
    };
    let (store, before) = open()?;
    let archives = folder.path().join("archives");
    let act = || Act::new(SystemClock.now(), "hgs-bench");
    // Each archive is on record itself, so that there is always something left.
    let newest = store.audit_extent()?.last;
    while store.audit_extent()?.archived + 1 < newest {
        store.archive_audit(&archives, Time::MAX, act())?;
    }
    let extent = store.audit_extent()?;
    drop(store);
    let (store, after) = open()?;
    println!(
        "| opening a state with {newest} audit records, and with the {} that are left after an archive | {:.2} s, {:.2} s |",
        extent.last - extent.first + 1,
        before.as_secs_f64(),
        after.as_secs_f64()
    );
    drop(store);
    Ok(())
}
