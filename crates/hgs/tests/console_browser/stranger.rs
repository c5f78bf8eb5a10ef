//! A page of somebody else, at another origin.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

/// A server that answers every request with one page.
pub(crate) struct Stranger {
    address: SocketAddr,
    page: Arc<Mutex<String>>,
}

impl Stranger {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let page = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&page);
        // It ends with the test.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut lines = BufReader::new(&stream).lines();
                while lines
                    .next()
                    .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
                {}
                let body = shown.lock().unwrap().clone();
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close";
                let length = body.len();
                let _ = write!(&stream, "{head}\r\nContent-Length: {length}\r\n\r\n{body}");
            }
        });
        Self { address, page }
    }

    /// Has it show this from now on, and says where.
    pub(crate) fn showing(&self, body: &str) -> String {
        *self.page.lock().unwrap() = format!(
            "<!doctype html><html lang=en><link rel=icon href=data:,><title>elsewhere</title>{body}"
        );
        format!("http://localhost:{}/", self.address.port())
    }
}
