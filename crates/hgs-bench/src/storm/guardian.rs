//! The guardian of a storm: the program `hgs`, in a folder.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::http::Target;
use crate::measure::Outcome;

/// Until a program that was started serves.
const START: Duration = Duration::from_secs(60);
/// What Linux counts processor time in for programs, whatever it does itself.
const TICK: Duration = Duration::from_millis(10);
/// How often it is looked whether it does.
const LOOK: Duration = Duration::from_millis(5);

/// A guardian in a folder, and its process while it runs.
pub(super) struct Site {
    program: PathBuf,
    folder: PathBuf,
    address: SocketAddr,
    process: Option<Child>,
}

impl Site {
    /// Makes a guardian.
    pub(super) fn new(folder: &Path) -> Outcome<Self> {
        let program = std::env::current_exe()?.with_file_name("hgs");
        if !program.exists() {
            let reason = format!(
                "{} is not there: build it with the same profile, `cargo build -p hgs`",
                program.display()
            );
            return Err(reason.into());
        }
        // The same after the blackout, where hosts look for it.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let site = Self {
            program,
            folder: folder.to_owned(),
            address,
            process: None,
        };
        let shown = folder.display();
        let configuration = format!(
            "[server]\nname = \"node-1\"\nstate = \"{shown}/guardian\"\n\
             [listen.http]\naddress = \"{address}\"\n\
             [listen.metrics]\nenabled = false\n\
             [listen.admin]\nsocket = \"{shown}/run/admin.sock\"\n"
        );
        fs::write(folder.join("hgs.toml"), configuration)?;
        let initialised = site
            .command("init")
            .args(["--name", "guardian.example", "--bits", "2048"])
            .stdout(Stdio::null())
            .status()?;
        if !initialised.success() {
            return Err(format!("hgs init ended with {initialised}").into());
        }
        Ok(site)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg(name)
            .arg("--config")
            .arg(self.folder.join("hgs.toml"));
        command
    }

    /// Where hosts and administrators reach it.
    pub(super) fn target(&self) -> Target {
        Target {
            address: self.address,
            socket: self.folder.join("run/admin.sock"),
        }
    }

    /// A folder for folders of hosts.
    pub(super) fn folder_of_hosts(&self) -> Outcome<PathBuf> {
        let folder = self.folder.join("hosts");
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// Starts the guardian, and waits until it serves.
    pub(super) fn start(&mut self) -> Outcome<()> {
        let log = File::create(self.folder.join("log"))?;
        let process = self.command("serve").stderr(log).spawn()?;
        let process = self.process.insert(process);
        let deadline = Instant::now() + START;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = process.try_wait()? {
                let log = fs::read_to_string(self.folder.join("log"))?;
                return Err(format!("hgs serve ended with {status}: {log}").into());
            }
            if Instant::now() > deadline {
                return Err("hgs serve does not serve".into());
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Has it end, and waits for that.
    pub(super) fn stop(&mut self) -> Outcome<()> {
        if let Some(mut process) = self.process.take() {
            kill_process(Pid::from_child(&process), Signal::TERM)?;
            let status = process.wait()?;
            if !status.success() {
                return Err(format!("hgs serve ended with {status}").into());
            }
        }
        Ok(())
    }

    /// What it, and the processes that it has started, have used of the processors.
    pub(super) fn processor_time(&self) -> Outcome<Duration> {
        let Some(process) = &self.process else {
            return Ok(Duration::ZERO);
        };
        let processes = processes()?;
        let mut tree = vec![process.id()];
        let mut ticks = 0u32;
        while let Some(parent) = tree.pop() {
            for process in &processes {
                if process.number == parent {
                    ticks += process.ticks;
                } else if process.parent == parent {
                    tree.push(process.number);
                }
            }
        }
        Ok(ticks * TICK)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A process of this machine.
struct Process {
    number: u32,
    parent: u32,
    /// Processor time, in clock ticks.
    ticks: u32,
}

fn processes() -> Outcome<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        // Others end meanwhile.
        if let Some(number) = number
            && let Ok(text) = fs::read_to_string(path.join("stat"))
            && let Some(process) = process(number, &text)
        {
            found.push(process);
        }
    }
    Ok(found)
}

/// By proc_pid_stat(5). The name of the program, in parentheses, may have spaces.
fn process(number: u32, text: &str) -> Option<Process> {
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u32>().ok();
    Some(Process {
        number,
        parent: fields.get(1)?.parse().ok()?,
        ticks: ticks(11)? + ticks(12)?,
    })
}
