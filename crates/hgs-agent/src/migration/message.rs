//! What the two agents of a migration say to each other: a length of four octets, the most significant first, and JSON.

use hgs_crypto::base64;
use serde::{Deserialize, Serialize};

use crate::wire::AgentFailure;

/// The version of the protocol.
pub(crate) const VERSION: u32 = 1;
/// Octets of the longest message, but for an offer.
pub(crate) const LIMIT: usize = 32 * 1024;
/// Octets of the longest offer: a protector, a sealed protection and a description, in Base64 and JSON.
pub(crate) const OFFER_LIMIT: usize = 2 * 1024 * 1024;
/// Octets of the largest piece of a file.
pub(crate) const PIECE: usize = 1024 * 1024;

/// Octets, which JSON has as Base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Octets(pub(crate) Vec<u8>);

impl TryFrom<String> for Octets {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        base64::decode(&text)
            .map(Self)
            .map_err(|_| "this is no Base64")
    }
}

impl From<Octets> for String {
    fn from(Octets(octets): Octets) -> Self {
        base64::encode(&octets)
    }
}

/// The first message of who connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Opening {
    /// It has a VM to move.
    Offer(Greeting),
    /// It wants to know how a migration ended.
    Question(Question),
}

/// How did a migration end?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    pub(crate) migration: Octets,
    /// Drawn for this question.
    pub(crate) nonce: Octets,
    /// That the source of that migration asks.
    pub(crate) tag: Octets,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settlement {
    pub(crate) outcome: Outcome,
    /// That the destination of that migration answers.
    pub(crate) tag: Octets,
}

/// What a destination knows of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// It is not decided.
    Pending,
    /// The VM is the destination's.
    Taken,
    /// The destination has deleted what it had, and will never run it.
    Discarded,
}

impl Outcome {
    pub(crate) fn octet(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Taken => 1,
            Self::Discarded => 2,
        }
    }
}

/// How a host is greeted that wants to move a VM, and how it greets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Greeting {
    pub(crate) version: u32,
    /// In DER.
    pub(crate) health_certificate: Octets,
}

/// The VM that is to move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Offer {
    /// `vm.toml`.
    pub(crate) description: String,
    /// The protector of the current generation.
    pub(crate) protector: Octets,
    /// The VM's protection, sealed under the same transport key.
    pub(crate) protection: Octets,
    /// The key of its swtpm, sealed in the same way, where that is not derived from the transport key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) migration_key: Option<Octets>,
    /// Who moves it.
    pub(crate) carrier: Carrier,
    /// That the source has the transport key.
    pub(crate) proof: Octets,
}

/// Who moves memory, disk and TPM after the pairing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    deny_unknown_fields
)]
pub(crate) enum Carrier {
    /// The agents.
    Agent(RunningMachine),
    /// libvirt, which the agents prepare only.
    Libvirt {},
}

/// The machine as it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunningMachine {
    /// QEMU's board, such as `pc-q35-7.2`.
    pub(crate) machine_type: String,
    /// The version of the QEMU that runs it.
    pub(crate) emulator: String,
    /// `kvm` or `tcg`.
    pub(crate) accelerator: String,
    /// SHA-256 of what the system says about the processor, where guests run on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) processor: Option<String>,
    /// Octets of each file but the disk, in the order in which they follow.
    pub(crate) files: Vec<OfferedFile>,
    /// Octets that the guest sees of its disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<u64>,
}

/// A file of the VM's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfferedFile {
    pub(crate) name: String,
    pub(crate) octets: u64,
}

/// The destination has a release of the same protector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acceptance {
    /// That the destination has the transport key.
    pub(crate) proof: Octets,
}

/// The destination waits for disk and memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ready {
    /// By this the destination knows the migration.
    pub(crate) migration: Octets,
    /// By this both know each other, should they have to ask how it ended.
    pub(crate) secret: Octets,
    /// What a connection begins with that brings the memory.
    pub(crate) memory: Octets,
    /// The same for the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<Octets>,
}

/// What a source says while disk and memory move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Command {
    /// How far is it?
    Stage,
    /// The source will not run the VM again: run it.
    Run,
    /// The source has deleted what it had, and asks no more.
    Forget,
}

/// How far a destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    /// It waits for disk and memory.
    Waits,
    /// It has all, on its disk what belongs there.
    Loaded,
    /// The VM runs there.
    Runs,
}

/// An answer, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer<T> {
    /// What was asked for.
    Done(T),
    /// It was not done, and will not be.
    Failed(AgentFailure),
}

/// Reads anything as every message, and never panics: the body of a fuzz target.
#[doc(hidden)]
pub fn fuzz_migration_message(data: &[u8]) {
    let _ = serde_json::from_slice::<Opening>(data);
    let _ = serde_json::from_slice::<Answer<Greeting>>(data);
    let _ = serde_json::from_slice::<Answer<Ready>>(data);
    let _ = serde_json::from_slice::<Answer<Settlement>>(data);
    let _ = serde_json::from_slice::<Answer<Stage>>(data);
    let _ = serde_json::from_slice::<Command>(data);
    let _ = serde_json::from_slice::<Answer<Acceptance>>(data);
    if let Ok(Answer::Done(offer)) = serde_json::from_slice::<Answer<Offer>>(data) {
        let again = serde_json::to_vec(&Answer::Done(&offer)).expect("an offer is written");
        let again = serde_json::from_slice::<Answer<Offer>>(&again);
        assert!(again.is_ok_and(|again| again == Answer::Done(offer)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = r#"{"done":{"description":"name = \"web1\"","protector":"PHA+","protection":"c2VhbGVk","carrier":{"agent":{"machine_type":"pc-q35-7.2","emulator":"7.2.22","accelerator":"tcg","files":[{"name":"firmware-vars.fd","octets":540672}],"disk":1048576}},"proof":"AAAA"}}"#;

    #[test]
    fn an_offer_is_read_as_it_was_written_and_no_other() {
        let read: Answer<Offer> = serde_json::from_str(OFFER).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), OFFER);
        let carrier = OFFER.find("{\"agent\"").unwrap()..OFFER.find(",\"proof\"").unwrap();
        let libvirt = OFFER.replace(&OFFER[carrier], r#"{"libvirt":{}}"#);
        serde_json::from_str::<Answer<Offer>>(&libvirt).unwrap();
        for (from, to) in [
            ("\"proof\"", "\"more\":1,\"proof\""),
            ("\"proof\":\"AAAA\"", "\"proof\":\"no Base64\""),
            ("\"octets\":540672", "\"octets\":-1"),
            ("\"agent\"", "\"nobody\""),
            ("\"disk\":1048576", "\"disk\":1048576,\"disks\":2"),
        ] {
            let changed = OFFER.replace(from, to);
            assert_ne!(changed, OFFER);
            serde_json::from_str::<Answer<Offer>>(&changed).unwrap_err();
        }
    }

    #[test]
    fn damaged_messages_never_panic() {
        let mut seed = OFFER.as_bytes().to_vec();
        for place in 0..seed.len() {
            for octet in [0, b'"', b'}', 0xff] {
                let before = std::mem::replace(&mut seed[place], octet);
                fuzz_migration_message(&seed);
                seed[place] = before;
            }
            fuzz_migration_message(&seed[..place]);
        }
    }
}
