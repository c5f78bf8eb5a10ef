//! `guarded-host vm console`: this terminal and a VM's serial port.

use std::io::{self, Read, Write};
use std::thread;

use hgs_agent::Client;
use hgs_terminal::{AtFault, Exit, Failure, Terminal};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

use crate::agent::client_failure;

/// Control and `]`, as telnet and virsh have it.
const LEAVE: u8 = 0x1d;

/// Connects until the VM ends, standard input does, or the escape character is typed.
pub(crate) fn run(client: &Client, name: &str, terminal: &Terminal) -> Result<Exit, Failure> {
    let failed = |error: io::Error| Failure::of(&error).at_fault(AtFault::Operator);
    let mut port = client.console(name).map_err(client_failure)?;
    let mut input = port.get_ref().try_clone().map_err(failed)?;
    terminal.note(format_args!("Connected to {name}. Control and ] leaves."));
    let _raw = RawMode::begin().map_err(failed)?;
    let leaving = port.get_ref().try_clone().map_err(failed)?;
    thread::spawn(move || {
        // Whatever ends the input ends the connection, and with it the loop below.
        let _ = pass_on_input(&mut input);
        let _ = leaving.shutdown(std::net::Shutdown::Both);
    });
    let mut output = io::stdout().lock();
    let mut octets = [0; 4096];
    loop {
        match port.read(&mut octets) {
            Ok(0) | Err(_) => return Ok(Exit::Done),
            Ok(read) => {
                output.write_all(&octets[..read]).map_err(failed)?;
                output.flush().map_err(failed)?;
            }
        }
    }
}

fn pass_on_input(port: &mut impl Write) -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut octets = [0; 256];
    loop {
        let read = input.read(&mut octets)?;
        let typed = &octets[..read];
        let end = typed.iter().position(|octet| *octet == LEAVE);
        port.write_all(&typed[..end.unwrap_or(read)])?;
        if read == 0 || end.is_some() {
            return Ok(());
        }
    }
}

/// A terminal that passes every key on, until this is dropped.
struct RawMode(Option<Termios>);

impl RawMode {
    fn begin() -> io::Result<Self> {
        if !isatty(io::stdin()) {
            return Ok(Self(None));
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
