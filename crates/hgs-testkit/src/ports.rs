//! Ports for programs that are told where to listen.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::process;

/// Below those that the kernel gives to connections (32768 and higher), any of which may have a port that was free a moment ago.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The lowest of `count` ports that follow one another and are free at 127.0.0.1. No other test gets them before this process
/// has ended, whether something listens there or not.
///
/// # Panics
///
/// If there are none, or the locks that keep them can't be made.
#[must_use]
pub fn free_ports(count: u16) -> u16 {
    let user = fs::metadata("/proc/self").expect("a process").uid();
    let folder = std::env::temp_dir().join(format!("openhgs-test-ports-{user}"));
    fs::create_dir_all(&folder).expect("a folder for locks");
    let (first, all) = (PORTS.start / count, PORTS.end / count);
    // Tests that start at the same time look in different places.
    let begin = process::id() % u32::from(all - first);
    let turned = (first..all).cycle().skip(begin as usize);
    for ports in turned.take(usize::from(all - first)) {
        let port = ports * count;
        let locks: Option<Vec<File>> = (port..port + count)
            .map(|port| {
                let lock = File::create(folder.join(port.to_string())).expect("a lock");
                // First the lock: to look for a listener takes the port for a moment from whoever has it.
                let is_ours = lock.try_lock().is_ok();
                let is_free = || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
                (is_ours && is_free()).then_some(lock)
            })
            .collect();
        if let Some(locks) = locks {
            // The locks end with the process.
            std::mem::forget(locks);
            return port;
        }
    }
    panic!(
        "there are no {count} free ports from {} to {}",
        PORTS.start, PORTS.end
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_given_once_and_can_be_used() {
        let mut given = Vec::new();
        for count in [4, 1, 2, 4, 1] {
            let port = free_ports(count);
            given.extend(port..port + count);
        }
        let listeners: Vec<_> = given
            .iter()
            .map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).unwrap())
            .collect();
        assert_eq!(listeners.len(), 12);
        let another = free_ports(1);
        assert!(!given.contains(&another));
    }
}
