//! Benchmarks: what a roll costs, as a ratio to the cryptographic primitives that it needs.
//!
//! ```sh
//! cargo run --release -p hgs-bench            # takes minutes
//! cargo run --release -p hgs-bench -- --quick # a smoke test: the figures mean little
//! ```
//!
//! Each figure is taken in rounds that alternate with rounds of the floor, on the same core, and the median of the
//! rounds' ratios is shown: a noisy machine disturbs both alike. `docs/performance.md` explains the floor.

mod attestation;
mod attestation_tpm;
mod bounds;
mod floor;
mod http;
mod measure;
mod protectors;
mod roll;
mod space;
mod store;
mod storm;
mod tokens;
mod vm;
mod vm_start;

use std::iter::Skip;
use std::net::ToSocketAddrs as _;
use std::path::PathBuf;
use std::vec::IntoIter;

use http::Target;
use measure::{Effort, Table};
use mimalloc::MiMalloc;
use space::Space;
use storm::Storm;

/// The allocator of `hgs`, so that its cost is what is measured.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The first page, for people.
const HELP: &str = "\
Measure what rolls and attestations cost, beside the primitives that they can't do without

Usage: hgs-bench [--quick] [--only PART] [--connections NUMBER]
       hgs-bench [--quick] [--connections NUMBER] --server URL --socket PATH
       hgs-bench storm [--help]
       hgs-bench space [--help]

Without --server it starts a guardian of its own, in a temporary folder, and takes minutes. It uses all
processors; other programs disturb the figures. docs/performance.md of the sources explains the tables.

Options:
  --server URL   Put the load on a server that runs: its address for plain HTTP, such as http://[::1]:80.
                 Each roll is recorded there; the host that asks for them is registered, and removed at the end
  --socket PATH  The administrators' socket of that server
  --only PART    Only this part: rolls, protectors, attestations, store, http, tokens, vm or bounds
  --connections NUMBER
                 Only this load of the three: 1, 8 or 64 connections
  --quick        Only show that the benchmarks run: the figures mean little
  --help         Show this page
";

/// What can be measured apart from the rest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Rolls,
    Protectors,
    Attestations,
    Store,
    Http,
    Tokens,
    Vm,
    Bounds,
}

impl Part {
    fn named(name: &str) -> Result<Self, String> {
        Ok(match name {
            "rolls" => Self::Rolls,
            "protectors" => Self::Protectors,
            "attestations" => Self::Attestations,
            "store" => Self::Store,
            "http" => Self::Http,
            "tokens" => Self::Tokens,
            "vm" => Self::Vm,
            "bounds" => Self::Bounds,
            _ => return Err(format!("there is no part {name}")),
        })
    }
}

/// The arguments.
#[derive(Default)]
struct Arguments {
    quick: bool,
    only: Option<Part>,
    connections: Option<usize>,
    server: Option<String>,
    socket: Option<PathBuf>,
}

fn connections(number: &str) -> Result<usize, String> {
    let number = number.parse().ok();
    let number = number.filter(|number| store::GROUPS.contains(number));
    number.ok_or_else(|| "there are loads of 1, 8 and 64 connections".to_owned())
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self::default();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--quick" => arguments.quick = true,
                "--only" => arguments.only = Some(Part::named(&value()?)?),
                "--connections" => arguments.connections = Some(connections(&value()?)?),
                "--server" => arguments.server = Some(value()?),
                "--socket" => arguments.socket = Some(value()?.into()),
                _ => return Err(format!("unknown argument {word}")),
            }
        }
        Ok(arguments)
    }

    /// A running server as the target, if one is named.
    fn target(&self) -> Result<Option<Target>, String> {
        let (server, socket) = match (&self.server, &self.socket) {
            (None, None) => return Ok(None),
            (Some(server), Some(socket)) => (server, socket.clone()),
            _ => return Err("--server and --socket belong together".to_owned()),
        };
        let address = server
            .strip_prefix("http://")
            .ok_or("the URL of the server begins with http://")?
            .trim_end_matches('/');
        let mut addresses = address
            .to_socket_addrs()
            .map_err(|error| format!("{address}: {error}; the URL names a host and a port"))?;
        let address = addresses
            .next()
            .ok_or("the host of the server has no address")?;
        Ok(Some(Target { address, socket }))
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some(tokens::CHILD) => return tokens::by_number_of_sessions(),
        Some("--help" | "-h") => return print!("{HELP}"),
        Some("storm") => return alone(words, storm::HELP, Storm::read, Storm::measure),
        Some("space") => return alone(words, space::HELP, Space::read, Space::measure),
        _ => {}
    }
    let arguments = Arguments::read(words.into_iter())
        .and_then(|arguments| Ok((arguments.target()?, arguments)));
    let (target, arguments) = arguments.unwrap_or_else(|error| {
        eprintln!("hgs-bench: {error}; see hgs-bench --help");
        std::process::exit(64);
    });
    let effort = if arguments.quick {
        Effort::Quick
    } else {
        Effort::Full
    };
    let measured = match target {
        Some(target) => http::of_a_running_server(effort, &target, arguments.connections),
        None => embedded(effort, &arguments),
    };
    if let Err(error) = measured {
        eprintln!("hgs-bench: {error}");
        std::process::exit(1);
    }
}

/// A measurement with options of its own: `words` are its name and those.
fn alone<M>(
    words: Vec<String>,
    help: &str,
    read: impl FnOnce(Skip<IntoIter<String>>) -> Result<M, String>,
    measure: impl FnOnce(M) -> measure::Outcome<()>,
) {
    if words.iter().any(|word| word == "--help" || word == "-h") {
        return print!("{help}");
    }
    let name = words.first().cloned().unwrap_or_default();
    let measurement = read(words.into_iter().skip(1)).unwrap_or_else(|error| {
        eprintln!("hgs-bench: {error}; see hgs-bench {name} --help");
        std::process::exit(64);
    });
    if let Err(error) = measure(measurement) {
        eprintln!("hgs-bench: {error}");
        std::process::exit(1);
    }
}

/// All parts, or only one.
fn embedded(effort: Effort, arguments: &Arguments) -> measure::Outcome<()> {
    let is_wanted = |part| arguments.only.is_none_or(|only| only == part);
    let mut table = Table::default();
    if is_wanted(Part::Rolls) {
        roll::in_process(effort, &mut table);
    }
    if is_wanted(Part::Protectors) {
        protectors::by_number_of_wrappings(effort, &mut table);
    }
    if is_wanted(Part::Attestations) {
        attestation::in_process(effort, &mut table);
        attestation_tpm::by_size_of_the_log(effort, &mut table);
    }
    if !table.is_empty() {
        print!("{table}");
    }
    if is_wanted(Part::Store) || is_wanted(Part::Http) {
        let octets = store::commits(effort, arguments.connections)?;
        if is_wanted(Part::Http) {
            http::by_number_of_connections(effort, &octets)?;
        }
    }
    if is_wanted(Part::Tokens) {
        tokens::in_a_process_of_its_own(effort);
    }
    if is_wanted(Part::Vm) {
        vm::rekeys(effort)?;
        vm_start::by_the_agent(effort)?;
    }
    if is_wanted(Part::Bounds) {
        bounds::all(effort)?;
    }
    Ok(())
}
