//! Faults that tests seed into the code that decides, to see that they are found.
//!
//! The model of a cluster drives that code. That it finds nothing is worth as much as what it does find: so each fault here
//! changes one line of the code, for one thread of one test, and the model must show what comes of it.
//!
//! ```text
//!   if !seeded(Fault::GateNotWritten) { ... }      shipped: `seeded` is the constant `false`
//! ```
//!
//! In builds without debug assertions or without the feature `seeded`, which only tests name, there is no switch: [`seeded`]
//! is a constant function, and nothing of this crate is in the program.

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// An administrator's commit does not write the gate again.
    GateNotWritten,
    /// A release does not depend on the gate.
    GateNotExpected,
    /// A release does not depend on the protectors that it was decided from.
    ProtectorsNotExpected,
    /// The removal of a certificate does not depend on the protectors that it was looked up in.
    TreeNotExpected,
    /// What a batch did before it was refused stays.
    RefusedBatchNotUndone,
    /// A superseded protector is released though the settings forbid it.
    SupersededReleased,
    /// The commit does not check the host again.
    HostNotCheckedAgain,
    /// The commit does not check whether a certificate was compromised meanwhile.
    CompromiseNotCheckedAgain,
    /// The commit does not check whether the pair that opened was disabled meanwhile.
    PairNotCheckedAgain,
    /// The parent of a protector that comes back stays the head.
    ParentNotSuperseded,
    /// A protector whose sibling came back is called the head.
    SiblingCalledHead,
    /// An egress protector is not tied to its ingress protector.
    EgressWithoutParent,
    /// A protector that comes back stays one that was only issued.
    StageNotRaised,
    /// A batch that follows another keeps the audit tags that it was decided with.
    AuditTagsNotFollowed,
    /// A batch that follows another takes the generation back to where it was decided.
    GenerationNotFollowed,
    /// The tag of the whole leaves the lineage out.
    LineageNotInWhole,
    /// A record that was removed stays in memory.
    RemovedStaysInMemory,
    /// A backup that knows nothing of a revocation lifts it.
    BackupLiftsRevocation,
    /// A backup that knows nothing of a compromise lifts it.
    BackupLiftsCompromise,
    /// A backup brings a host back that was removed.
    BackupReturnsHost,
    /// The former head of a lineage stays one beside the new head.
    FormerHeadStays,
    /// The head of a lineage may be marked as compromised.
    HeadMayBeCompromised,
    /// A certificate that protectors need is removed.
    NeededMayBeRemoved,
    /// A retired certificate opens nothing.
    RetiredIsDisabled,
    /// A revoked host attests.
    RevokedHostAttests,
    /// A host is certified for an identity key that was superseded.
    SupersededIdentityAccepted,
    /// A roll hands on to the head of the fabric, whoever's protector it is.
    HeadOfFabricAppended,
    /// A roll does not hand on to the head of the lineage.
    HeadNotAppended,
    /// A roll does not shut out compromised pairs.
    NothingShutOut,
    /// A compromised pair signs what it has opened.
    CompromisedPairSigns,
    /// A wrapping that is shut out gets the key all the same.
    ShutOutGetsKey,
    /// The egress protector has the old transport key.
    KeyNotRolled,
    /// A batch that the order has refused is proposed again as it was decided.
    StaleBatchProposed,
    /// A node carries out its own batch as it was decided, and not behind what others did before.
    OwnNotFollowed,
    /// A node does not keep with its copy how far it has taken in the order.
    PositionNotKept,
    /// A node does not tell the order what it writes.
    WritesNotTold,
    /// The order takes a proposal though the entry just after what it has seen has written what it depends on.
    OrderComparesTooLate,
    /// The order does not compare what the node has written last.
    OrderIgnoresItsNode,
    /// The order takes proposals though a node has found that it was put back.
    OrderIgnoresHalt,
}

impl Fault {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::GateNotWritten,
        Self::GateNotExpected,
        Self::ProtectorsNotExpected,
        Self::TreeNotExpected,
        Self::RefusedBatchNotUndone,
        Self::SupersededReleased,
        Self::HostNotCheckedAgain,
        Self::CompromiseNotCheckedAgain,
        Self::PairNotCheckedAgain,
        Self::ParentNotSuperseded,
        Self::SiblingCalledHead,
        Self::EgressWithoutParent,
        Self::StageNotRaised,
        Self::AuditTagsNotFollowed,
        Self::GenerationNotFollowed,
        Self::LineageNotInWhole,
        Self::RemovedStaysInMemory,
        Self::BackupLiftsRevocation,
        Self::BackupLiftsCompromise,
        Self::BackupReturnsHost,
        Self::FormerHeadStays,
        Self::HeadMayBeCompromised,
        Self::NeededMayBeRemoved,
        Self::RetiredIsDisabled,
        Self::RevokedHostAttests,
        Self::SupersededIdentityAccepted,
        Self::HeadOfFabricAppended,
        Self::HeadNotAppended,
        Self::NothingShutOut,
        Self::CompromisedPairSigns,
        Self::ShutOutGetsKey,
        Self::KeyNotRolled,
        Self::StaleBatchProposed,
        Self::OwnNotFollowed,
        Self::PositionNotKept,
        Self::WritesNotTold,
        Self::OrderComparesTooLate,
        Self::OrderIgnoresItsNode,
        Self::OrderIgnoresHalt,
    ];
}

/// Whether this fault is seeded in this thread.
#[cfg(not(all(feature = "seeded", debug_assertions)))]
#[must_use]
pub const fn seeded(_: Fault) -> bool {
    false
}

/// Whether this program plays the next version of itself, so that tests have two neighbouring versions: it reads one more level of the
/// format, and has one more step of the schema.
#[cfg(not(all(feature = "seeded", debug_assertions)))]
#[must_use]
pub const fn is_next_version() -> bool {
    false
}

/// Has this program play the next version from now on, where tests have built it.
#[cfg(not(all(feature = "seeded", debug_assertions)))]
pub const fn become_next_version() {}

#[cfg(all(feature = "seeded", debug_assertions))]
pub use switch::{become_next_version, is_next_version, seeded, with};

#[cfg(all(feature = "seeded", debug_assertions))]
mod switch {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::Fault;

    static NEXT_VERSION: AtomicBool = AtomicBool::new(false);

    /// Whether this program plays the next version of itself.
    #[must_use]
    pub fn is_next_version() -> bool {
        NEXT_VERSION.load(Ordering::Relaxed)
    }

    /// Has this program play the next version from now on.
    pub fn become_next_version() {
        NEXT_VERSION.store(true, Ordering::Relaxed);
    }

    thread_local! {
        static SEEDED: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// Whether this fault is seeded in this thread.
    #[must_use]
    pub fn seeded(fault: Fault) -> bool {
        SEEDED.get() == Some(fault)
    }

    /// Does `work` with this fault in it.
    pub fn with<T>(fault: Option<Fault>, work: impl FnOnce() -> T) -> T {
        struct Restore(Option<Fault>);

        impl Drop for Restore {
            fn drop(&mut self) {
                SEEDED.set(self.0);
            }
        }

        let _restore = Restore(SEEDED.replace(fault));
        work()
    }
}
