//! The state as one document, for backups and for moving to another machine.
//!
//! ```text
//!  Snapshot::open --> write --> JSON lines --> (encrypted by the caller) --> Document::open --> Store::restore
//!                                                                                           \-> Store::merge
//! ```
//!
//! A document has everything: settings, certificates, private keys *in clear*, hosts with those that are barred, their
//! identity keys, attestation signers, the tree of protectors, the text of the configuration, and the audit log. So it
//! never leaves a process but encrypted; what encrypts it also says that it is whole. Keys in tokens are named, not held.
//!
//! A snapshot is one generation of the state, read beside a server that runs. An import is one commit, or none.
//!
//! What this does not do: it encrypts nothing, and it says nothing about who made a document.

mod carried;
mod document;
mod merge;
mod snapshot;

pub use carried::Inconsistent;
pub use document::{
    Configuration, Document, DocumentError, Header, MAX_LINE_LENGTH, MAX_PROTECTORS, MAX_RECORDS,
};
pub use merge::{Conflict, Resolution};
pub use snapshot::{About, ExportError, Snapshot};

pub(crate) use carried::Carried;
pub(crate) use document::Item;
pub(crate) use merge::{Merged, merge};

/// Bodies for fuzzing: they take any octets, and panic only if this module is wrong.
#[doc(hidden)]
pub mod fuzzing {
    use super::{Carried, Document};

    /// Reads a document to its end, and all that an import checks before it looks at the state.
    pub fn fuzz_state_document(data: &[u8]) {
        let Ok(mut document) = Document::open(data) else {
            return;
        };
        let mut carried = Carried::default();
        while let Ok(Some(item)) = document.next() {
            if carried.take(item).is_err() {
                return;
            }
        }
        let _ = carried.check();
    }
}
