//! Benchmarks: what a roll costs, as a ratio to the primitives it can't do without.
//!
//! ```sh
//! cargo run --release -p hgs-bench            # takes about a minute
//! cargo run --release -p hgs-bench -- --quick # a smoke test: the figures mean little
//! ```
//!
//! Each figure is taken in rounds that alternate with rounds of the floor, on the same core, and the median of the
//! rounds' ratios is shown: a noisy machine disturbs both alike. `docs/performance.md` explains the floor.

mod attestation;
mod floor;
mod http;
mod measure;
mod protectors;
mod roll;
mod tokens;

use measure::{Effort, Table};

fn main() {
    let effort = match std::env::args().nth(1).as_deref() {
        None => Effort::Full,
        Some(tokens::CHILD) => return tokens::by_number_of_sessions(),
        Some("--quick") => Effort::Quick,
        Some(other) => {
            eprintln!("hgs-bench: unknown argument {other}; --quick is the only one");
            std::process::exit(64);
        }
    };
    let mut table = Table::default();
    roll::in_process(effort, &mut table);
    protectors::by_number_of_wrappings(effort, &mut table);
    attestation::in_process(effort, &mut table);
    print!("{table}");
    if let Err(error) = http::by_number_of_connections(effort) {
        eprintln!("hgs-bench: {error}");
        std::process::exit(1);
    }
    tokens::in_a_process_of_its_own(effort);
}
