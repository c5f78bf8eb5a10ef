//! What lies between two hosts: it passes everything on, late if it is told so, until it is cut.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// How late that is.
const LATE: Duration = Duration::from_secs(2);

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    control: Arc<Control>,
    task: tokio::task::JoinHandle<()>,
}

struct Control {
    to: Mutex<SocketAddr>,
    late: AtomicBool,
    closed: AtomicBool,
    /// How often it was cut.
    cuts: watch::Sender<u32>,
}

impl Proxy {
    /// In front of `to`.
    pub(crate) async fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let control = Arc::new(Control {
            to: Mutex::new(to),
            late: AtomicBool::default(),
            closed: AtomicBool::default(),
            cuts: watch::Sender::new(0),
        });
        let accepting = Arc::clone(&control);
        let task = tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                if accepting.closed.load(Ordering::SeqCst) {
                    continue;
                }
                let control = Arc::clone(&accepting);
                tokio::spawn(async move {
                    let mut cuts = control.cuts.subscribe();
                    let to = *control.to.lock().unwrap();
                    if let Ok(there) = TcpStream::connect(to).await {
                        tokio::select! {
                            _ = cuts.changed() => {}
                            () = pass(here, there, &control) => {}
                        }
                    }
                });
            }
        });
        Self {
            address,
            control,
            task,
        }
    }

    /// From now on what the agents say to each other comes late.
    pub(crate) fn late(&self, late: bool) {
        self.control.late.store(late, Ordering::SeqCst);
    }

    /// Ends every connection, and takes no other one.
    pub(crate) fn cut(&self) {
        self.control.closed.store(true, Ordering::SeqCst);
        self.control.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Takes connections again.
    pub(crate) fn mend(&self) {
        self.control.closed.store(false, Ordering::SeqCst);
    }

    /// It is in front of another address.
    pub(crate) fn redirect(&self, to: SocketAddr) {
        *self.control.to.lock().unwrap() = to;
    }

    /// What is needed to cut it from elsewhere.
    pub(crate) fn handle(&self) -> Self {
        Self {
            address: self.address,
            control: Arc::clone(&self.control),
            task: tokio::spawn(async {}),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(here: TcpStream, there: TcpStream, control: &Control) {
    let mut first = [0];
    let _ = here.peek(&mut first).await;
    // What the agents say to each other is in TLS; what their QEMUs say begins otherwise.
    let speaks = first == [0x16];
    let (from_here, to_here) = here.into_split();
    let (from_there, to_there) = there.into_split();
    tokio::join!(
        one_way(from_here, to_there, control, speaks),
        one_way(from_there, to_here, control, speaks)
    );
}

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, control: &Control, speaks: bool) {
    let (queue, mut waiting) = mpsc::channel::<(Instant, Vec<u8>)>(64);
    let reading = async {
        let mut octets = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut octets).await {
            let late = speaks && control.late.load(Ordering::SeqCst);
            let due = Instant::now() + if late { LATE } else { Duration::ZERO };
            if queue.send((due, octets[..read].to_vec())).await.is_err() {
                break;
            }
        }
        drop(queue);
    };
    let writing = async {
        while let Some((due, octets)) = waiting.recv().await {
            sleep_until(due).await;
            if to.write_all(&octets).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}
