//! The program `guarded-host`: what an administrator of a host does by hand.
//!
//! Everything is in the library `hgs-client`; here are the words on the command line, tables, and
//! the exit status.

mod args;
mod attest;
mod configure;
mod failure;
mod host_key;
mod output;
mod pages;
mod protector;
mod status;

use std::process::ExitCode;

use clap::Parser as _;
use hgs_client::{Folders, GuardedHost};
use tracing_subscriber::EnvFilter;

use crate::args::{Arguments, Command, Global};
use crate::failure::{Failure, USAGE};
use crate::output::Output;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are errors to clap, but not to who asked for them.
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    log();
    let json = arguments.global.json;
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::print_failure(&failure, json);
            failure.exit_code()
        }
    }
}

/// Warnings go to the standard error; `HGS_LOG` asks for more.
fn log() {
    let filter = EnvFilter::try_from_env("HGS_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { global, command } = arguments;
    let context = Context::new(global);
    match command {
        Command::Configure(arguments) => configure::run(&context, *arguments),
        Command::Status => status::run(&context),
        Command::HostKey(command) => host_key::run(&context, command),
        Command::Attest(arguments) => attest::run(&context, &arguments),
        Command::Protector(command) => protector::run(&context, command),
        Command::Completions { shell } => pages::completions(shell),
        Command::Man => pages::man(&context.output),
    }
}

/// What every command works with.
struct Context {
    global: Global,
    output: Output,
}

impl Context {
    fn new(global: Global) -> Self {
        let output = Output::new(global.json, global.out.clone());
        Self { global, output }
    }

    /// Where this host keeps its things.
    fn folders(&self) -> Result<Folders, Failure> {
        let Global { config, state, .. } = &self.global;
        if let (Some(configuration), Some(state)) = (config.clone(), state.clone()) {
            return Ok(Folders {
                configuration,
                state,
            });
        }
        let default = Folders::of_this_machine().ok_or(Failure::NoFolders)?;
        Ok(Folders {
            configuration: config.clone().unwrap_or(default.configuration),
            state: state.clone().unwrap_or(default.state),
        })
    }

    fn host(&self) -> Result<GuardedHost, Failure> {
        Ok(GuardedHost::open(self.folders()?)?)
    }
}

/// Runs what waits for the network.
fn wait_for<T>(work: impl Future<Output = Result<T, hgs_client::Error>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Output)?;
    Ok(runtime.block_on(work)?)
}
