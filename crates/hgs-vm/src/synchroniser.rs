//! Making what swtpm writes last, while a VM runs.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use crate::swtpm::PERMANENT_STATE;

/// swtpm writes a state beside the old one and renames it, and synchronises neither: a loss of power soon afterwards can
/// leave an empty file in the place of both, and with it a VM whose disk nothing but the recovery key opens. A
/// synchroniser waits for the rename and synchronises file and folder. What remains is the moment between the two.
#[derive(Debug)]
#[must_use = "it works until it is dropped"]
pub struct Synchroniser {
    changes: Arc<OwnedFd>,
    watch: i32,
    thread: Option<JoinHandle<()>>,
}

impl Synchroniser {
    /// Watches the folder of a TPM that runs.
    ///
    /// # Errors
    /// When the system watches no more folders.
    pub fn watch(folder: &Path) -> io::Result<Self> {
        let changes = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
        let watch = inotify::add_watch(&changes, folder, WatchFlags::MOVED_TO)?;
        let (folder, watched) = (folder.to_owned(), Arc::clone(&changes));
        let name = "synchroniser".to_owned();
        let thread = thread::Builder::new().name(name);
        Ok(Self {
            thread: Some(thread.spawn(move || synchronise_each(&watched, folder))?),
            changes,
            watch,
        })
    }
}

/// What was renamed before this is synchronised when it returns.
impl Drop for Synchroniser {
    fn drop(&mut self) {
        // It is told of the end in turn, after the changes that came before. A folder that is gone is watched no more.
        let _ = inotify::remove_watch(&self.changes, self.watch);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn synchronise_each(changes: &OwnedFd, folder: PathBuf) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut changes = inotify::Reader::new(changes, &mut buffer);
    let state = folder.join(PERMANENT_STATE);
    loop {
        let written = match changes.next() {
            Ok(change) if change.events().contains(ReadFlags::IGNORED) => return,
            Ok(change) => change
                .file_name()
                .is_some_and(|name| name.to_bytes() == PERMANENT_STATE.as_bytes()),
            Err(rustix::io::Errno::INTR) => false,
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "the TPM's state is not watched any more");
                return;
            }
        };
        if written {
            for place in [&state, &folder] {
                let synchronised = File::open(place).and_then(|place| place.sync_all());
                if let Err(error) = synchronised {
                    tracing::warn!(path = %place.display(), %error, "the TPM's state is not synchronised");
                }
            }
        }
    }
}
