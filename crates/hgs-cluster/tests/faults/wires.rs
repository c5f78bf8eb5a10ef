//! Wires that the test carries: it can slow and cut them.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use hgs_testkit::etcd::Relay;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Pieces that are on a wire at once; more wait with who sends them.
const PIECES: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carries {
    After(Duration),
    Nothing,
}

/// A wire in both directions. What is on it when it is cut arrives when it is mended, as octets of TCP do.
pub(crate) struct Wire {
    address: String,
    state: watch::Sender<Carries>,
}

impl Wire {
    /// To who listens at `to`, from all that connect to its address.
    pub(crate) fn new(runtime: &Runtime, to: String) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let wire = Self {
            address: listener.local_addr().unwrap().to_string(),
            state: watch::Sender::new(Carries::After(Duration::ZERO)),
        };
        runtime.spawn(carry(listener, to, wire.state.subscribe()));
        wire
    }

    /// Between two members, in the network of the first.
    pub(crate) fn between(relay: Relay) -> Self {
        let state = watch::Sender::new(Carries::After(Duration::ZERO));
        let (address, carried) = (relay.listen.clone(), state.subscribe());
        let (told, listens) = channel();
        thread::spawn(move || {
            relay.enter();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind(&relay.listen).await.unwrap();
                told.send(()).unwrap();
                carry(listener, relay.connect, carried).await;
            });
        });
        listens.recv().unwrap();
        Self { address, state }
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// From now on octets take so long.
    pub(crate) fn slow(&self, time: Duration) {
        self.state.send_replace(Carries::After(time));
    }

    pub(crate) fn cut(&self) {
        self.state.send_replace(Carries::Nothing);
    }

    pub(crate) fn mend(&self) {
        self.slow(Duration::ZERO);
    }
}

/// Carries until the wire is dropped.
async fn carry(listener: TcpListener, to: String, mut state: watch::Receiver<Carries>) {
    let connections = state.clone();
    let is_dropped = async move { while state.changed().await.is_ok() {} };
    let accepting = async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(connect(client, to.clone(), connections.clone()));
        }
    };
    tokio::select! {
        () = is_dropped => {}
        () = accepting => {}
    }
}

async fn connect(client: TcpStream, to: String, mut state: watch::Receiver<Carries>) {
    if state
        .wait_for(|carries| *carries != Carries::Nothing)
        .await
        .is_err()
    {
        return;
    }
    // Who can't be reached: the connection ends.
    let Ok(member) = TcpStream::connect(&to).await else {
        return;
    };
    for stream in [&client, &member] {
        let _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_member, to_member) = member.into_split();
    tokio::join!(
        pass(from_client, to_member, state.clone()),
        pass(from_member, to_client, state.clone())
    );
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<Carries>,
) {
    let (sender, mut pieces) = mpsc::channel(PIECES);
    let reading = async move {
        let mut buffer = vec![0; 65536];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            if sender
                .send((Instant::now(), buffer[..read].to_vec()))
                .await
                .is_err()
            {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((sent, octets)) = pieces.recv().await {
            let carries = state.wait_for(|carries| *carries != Carries::Nothing).await;
            let Ok(Carries::After(time)) = carries.map(|carries| *carries) else {
                return;
            };
            sleep_until(sent + time).await;
            if to.write_all(&octets).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
