//! From the libraries' errors to what an agent answers.

use hgs_client::Fault;
use hgs_crypto::CryptoError;
use hgs_vm::description::DescriptionError;
use hgs_vm::generation::StateError;
use hgs_vm::protection::ProtectionError;
use hgs_vm::qemu::command::CommandError;
use hgs_vm::qemu::process::ProcessError;
use hgs_vm::rekey::RekeyError;
use hgs_vm::swtpm::SwtpmError;

use crate::wire::AgentFailure;

/// Runs work that blocks on files and processes.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AgentFailure> + Send + 'static,
) -> Result<T, AgentFailure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(AgentFailure::failed(error).at_fault(Fault::Ourselves)),
    }
}

/// What is at fault in an error of a library, and whether it is a refusal.
macro_rules! failures {
    ($($error:ty => $fault:ident $(, $refused:ident)?;)*) => {$(
        impl From<$error> for AgentFailure {
            fn from(error: $error) -> Self {
                let failure = Self::failed(&error).at_fault(Fault::$fault);
                $(let failure = Self { $refused: true, ..failure };)?
                failure
            }
        }
    )*};
}

failures! {
    DescriptionError => Operator, refused;
    ProtectionError => Operator, refused;
    StateError => Operator;
    CommandError => Operator, refused;
    RekeyError => Host;
    SwtpmError => Host;
    ProcessError => Host;
    CryptoError => Ourselves;
}
