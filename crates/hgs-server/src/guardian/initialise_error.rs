//! Why no guardian was made, or no certificate of one.

use std::io;
use std::path::PathBuf;

use hgs_custody::{CertifyError, Pkcs11Uri};
use hgs_custody_pkcs11::TokenError;
use hgs_kps::NameError;
use hgs_store::{MasterKeyError, OpenError};

use super::proof::KeyProofError;

/// No guardian was made. Nothing but the folder and the master key may have been left behind; it can be tried again.
#[derive(Debug, thiserror::Error)]
pub enum InitialiseError {
    /// A guardian lives there already. It is not overwritten.
    #[error("there is a guardian in {} already", state_folder.display())]
    AlreadyInitialised {
        /// The folder of its state.
        state_folder: PathBuf,
    },
    /// The name does not fit into the certificates.
    #[error("a guardian's name has 1 to {MAX_NAME} printable characters")]
    Name(#[from] NameError),
    /// The folder can't be made.
    #[error("can't make the folder {}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The file of the master key.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// A certificate could not be made.
    #[error(transparent)]
    Certify(#[from] CertifyError),
    /// A key in a token can't be used.
    #[error("the key {uri} can't be used")]
    Token {
        /// Which key.
        uri: Box<Pkcs11Uri>,
        /// What is wrong.
        #[source]
        error: TokenError,
    },
    /// A key in a token is not there, and none is to be made.
    #[error("the key {uri} is not there, and is not made unasked")]
    NotThere {
        /// Which key.
        uri: Box<Pkcs11Uri>,
        /// What is there.
        #[source]
        error: TokenError,
    },
    /// One key is named for both uses.
    #[error("the signing key and the encryption key are the same, {0}; name two")]
    SameKey(Box<Pkcs11Uri>),
    /// Keys were made in tokens before something failed; they are still there.
    #[error("keys were made and are left in the token: {}", listed(made))]
    AfterMaking {
        /// Which.
        made: Vec<Pkcs11Uri>,
        /// What failed then.
        #[source]
        error: Box<Self>,
    },
    /// A key does not do what its certificate is for.
    #[error(transparent)]
    Key(#[from] KeyProofError),
    /// The store could not be made.
    #[error(transparent)]
    Store(OpenError),
}

/// Characters of a guardian's name: a common name has 64, and the words around it take 30.
pub const MAX_NAME: usize = 34;

fn listed(uris: &[Pkcs11Uri]) -> String {
    let uris: Vec<String> = uris.iter().map(Pkcs11Uri::to_string).collect();
    uris.join(", ")
}
