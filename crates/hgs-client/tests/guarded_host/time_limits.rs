//! Services that keep silent: every request of a host ends by itself, says for how long it waited, and for whom.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hgs_client::configuration::Endpoints;
use hgs_client::http::Timing;
use hgs_client::service::{Side, Sides};
use hgs_client::{Error, Fault};
use hgs_kps::ServiceVersion;
use hgs_pki::health::HealthKind;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::guardian::{TestClock, TestGuardian, TestHost};

const SHORT: Timing = Timing {
    stagger: Duration::from_millis(250),
    connect: Duration::from_secs(1),
    patience: Duration::from_secs(1),
    unable: Duration::from_secs(1),
    exchange: Duration::from_secs(1),
};

fn endpoints(address: SocketAddr) -> Endpoints {
    Endpoints::below(&format!("http://{address}")).unwrap()
}

/// For a host that one service hangs for and another one serves, on a machine that may be busy.
const LONGER: Timing = Timing {
    exchange: Duration::from_secs(5),
    ..SHORT
};

/// A listener that takes connections and says nothing.
async fn hanging() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { while stream.read_u8().await.is_ok() {} });
        }
    });
    address
}

/// An address that drops every packet: a listener whose queue is full, and whom nobody serves. What fills the queue is
/// kept for as long as the address is needed.
async fn black_hole() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    loop {
        let connecting = TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(300), connecting).await {
            Ok(connected) => filling.push(connected.unwrap()),
            Err(_) => return (address, listener, filling),
        }
    }
}

async fn attest(host: &TestHost) -> Result<Side, Error> {
    let attestation = host.host.attest(HealthKind::Encryption, Sides::Both);
    Ok(attestation.await?.side)
}

fn says_how_long(error: &Error, address: SocketAddr) {
    says_limit(error, address, "within 1 s");
}

fn says_limit(error: &Error, address: SocketAddr, limit: &str) {
    let said = error.to_string();
    assert!(said.contains(limit), "{said}");
    assert!(said.contains(&address.to_string()), "{said}");
    assert_eq!(error.fault(), Fault::Network);
    assert!(error.remedy().is_some());
}

#[tokio::test]
async fn a_service_that_hangs_ends_every_request_in_time() {
    let address = hanging().await;
    let clock = TestClock::new();
    let host = TestHost::new(&clock, endpoints(address), None).with_timing(SHORT);
    let begin = Instant::now();
    says_how_long(&attest(&host).await.unwrap_err(), address);
    let published = host.host.signing_certificates().await;
    says_how_long(&published.unwrap_err(), address);
    says_how_long(&host.host.metadata().await.unwrap_err(), address);
    let rehearsal = host.host.rehearse_attestation(&[], Sides::Both).await;
    let message = rehearsal.unwrap().services[0].message.clone().unwrap();
    assert!(message.contains("within 1 s"), "{message}");
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_black_hole_ends_the_request_in_time() {
    let (address, _listener, _filling) = black_hole().await;
    let clock = TestClock::new();
    let host = TestHost::new(&clock, endpoints(address), None).with_timing(SHORT);
    says_how_long(&attest(&host).await.unwrap_err(), address);
}

/// The service of keys alone hangs, after the host was attested.
#[tokio::test]
async fn a_key_protection_service_that_hangs_ends_the_start_of_a_machine_in_time() {
    let clock = TestClock::new();
    let guardian = TestGuardian::start(&clock, 12).await;
    let address = hanging().await;
    let endpoints = Endpoints {
        key_protection: endpoints(address).key_protection,
        ..guardian.endpoints()
    };
    let host = TestHost::new(&clock, endpoints, None).with_timing(LONGER);
    guardian.register(&host);
    let vm = crate::unwrap::Vm::of("fabric");
    let protector = std::fs::read(vm.protector()).unwrap();
    let error = host.host.unwrap(&protector, ServiceVersion::V2).await;
    says_limit(&error.unwrap_err(), address, "within 5 s");
}

#[tokio::test]
async fn the_fallback_is_asked_when_the_primary_hangs() {
    let clock = TestClock::new();
    let fallback = TestGuardian::start(&clock, 13).await;
    let primary = endpoints(hanging().await);
    let host = TestHost::new(&clock, primary, Some(fallback.endpoints())).with_timing(LONGER);
    fallback.register(&host);
    assert_eq!(attest(&host).await.unwrap(), Side::Fallback);
}
