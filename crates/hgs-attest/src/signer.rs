//! The life of our own attestation signers, as a pure schedule.
//!
//! Nothing is kept but the signers' certificates, and what an administrator said of them (a deny-before date, or that
//! one shall sign no more): from these and the time, [`plan`] says who signs now, who is published and trusted, and whether a new signer is due. So a
//! server that was off for a week, or whose clock was put back, needs no repair.
//!
//! ```text
//!            made                                        successor made   successor signs         forgotten
//!  signer     |--- published for a day ---|--- signs -------------|--------------|--- published ---|
//!                                                                 '-- LEAD ------'-- 24 h ---------'
//! ```
//!
//! A new signer is published for [`LEAD`] before it signs, because those who fetch the list keep it for up to a day. It
//! signs at once when there is no other that could: at first start, and after a long rest.

use hgs_pki::health::{BACKDATED, MAXIMUM_VALIDITY};
use hgs_pki::issue::Template;
use hgs_pki::{Certificate, Seconds, Thumbprint, Time, Validity, profile};

use crate::signing_certificates;

/// How long a signer's certificate is valid.
pub const SIGNER_VALIDITY: Seconds = Seconds::from_days(365);

/// How long before the end of the newest signer a new one is made.
pub const RENEWED_BEFORE_END: Seconds = Seconds::from_days(30);

/// How long a signer is published before it signs, where another can sign meanwhile.
pub const LEAD: Seconds = Seconds::from_hours(24);

/// A signer of ours.
#[derive(Debug, Clone)]
pub struct OwnSigner {
    /// Its certificate, made by [`template`].
    pub certificate: Certificate,
    /// Certificates that it issued before this time are refused.
    pub deny_before: Option<Time>,
    /// Whether an administrator retired it. What it signed is still believed: to distrust it, set
    /// `deny_before`, or by leaving it out.
    pub retired: bool,
}

/// What a new signer's certificate shall say, when it is made at `now`.
///
/// It begins to be valid when the first health certificates under it do.
#[must_use]
pub fn template(now: Time) -> Template {
    profile::attestation_signer(Validity {
        not_before: now.checked_sub(BACKDATED).unwrap_or(Time::MIN),
        not_after: now.checked_add(SIGNER_VALIDITY).unwrap_or(Time::MAX),
    })
}

/// The list of signing certificates has no room for another signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{published} attestation signers are published, and with another one the list does not fit into one TLS record, \
     beyond which some clients do not read; remove one that is needed no longer with `hgs signer remove`"
)]
pub struct NoRoomForSigner {
    /// How many are published.
    pub published: usize,
}

/// Refuses a new signer with which the published list no longer [fits into one record of
/// TLS](signing_certificates::fits_one_record). Where nobody can sign at `now` it is accepted in spite of that: hosts come
/// before clients that do not read on.
///
/// # Errors
/// [`NoRoomForSigner`]. The fault is the operator's, who has more signers than are needed.
pub fn check_room(
    signers: &[OwnSigner],
    added: &Certificate,
    now: Time,
) -> Result<(), NoRoomForSigner> {
    let plan = plan(signers, now);
    let is_published = |signer: &&OwnSigner| {
        let thumbprint = signer.certificate.thumbprint();
        plan.published
            .iter()
            .any(|one| one.thumbprint == thumbprint)
    };
    let published = signers.iter().filter(is_published);
    let certificates: Vec<_> = published
        .map(|signer| &signer.certificate)
        .chain([added])
        .cloned()
        .collect();
    match plan.active().is_none() || signing_certificates::fits_one_record(&certificates) {
        true => Ok(()),
        false => Err(NoRoomForSigner {
            published: certificates.len() - 1,
        }),
    }
}

/// What is to be done with our signers at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Who is trusted, and published in signingCertificates, oldest first.
    pub published: Vec<PublishedSigner>,
    /// Whether a new signer is to be made now.
    pub new_signer_due: bool,
}

/// A signer that is trusted and published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedSigner {
    /// Its certificate.
    pub thumbprint: Thumbprint,
    /// Where it is in its life.
    pub stage: OwnSignerStage,
}

/// Where a signer is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnSignerStage {
    /// It will sign, when those who fetch the list have had time to learn of it.
    Pending,
    /// It signs.
    Active,
    /// It signs no more, but what it signed may be alive.
    Retired,
}

impl Plan {
    /// Who signs; `None` only if a new signer is due.
    #[must_use]
    pub fn active(&self) -> Option<Thumbprint> {
        let mut published = self.published.iter();
        let active = published.find(|signer| signer.stage == OwnSignerStage::Active);
        active.map(|signer| signer.thumbprint)
    }
}

/// The plan for `now`.
#[must_use]
pub fn plan(signers: &[OwnSigner], now: Time) -> Plan {
    let mut lives: Vec<_> = signers.iter().map(Life::of).collect();
    lives.sort_by_key(|life| (life.made, life.thumbprint));
    let active = active(&lives, now);
    let published = lives.iter().enumerate().filter(|(place, life)| {
        let successors = lives.get(place + 1..).unwrap_or_default();
        now <= life.last_use(successors)
    });
    Plan {
        published: published
            .map(|(place, life)| PublishedSigner {
                thumbprint: life.thumbprint,
                stage: stage(life, active == Some(place), now),
            })
            .collect(),
        new_signer_due: is_new_signer_due(&lives, now),
    }
}

/// What the schedule looks at.
#[derive(Debug, Clone, Copy)]
struct Life {
    thumbprint: Thumbprint,
    made: Time,
    not_after: Time,
    deny_before: Option<Time>,
    retired: bool,
}

impl Life {
    fn of(signer: &OwnSigner) -> Self {
        let Validity {
            not_before,
            not_after,
        } = signer.certificate.validity();
        Self {
            thumbprint: signer.certificate.thumbprint(),
            made: not_before.checked_add(BACKDATED).unwrap_or(Time::MAX),
            not_after,
            deny_before: signer.deny_before,
            retired: signer.retired,
        }
    }

    /// Whether what it issues at `now` is believed, and to its end: no health certificate outlives its signer.
    fn can_sign(&self, now: Time) -> bool {
        let denied = self.deny_before.is_some_and(|time| now < time);
        let last = now.checked_add(MAXIMUM_VALIDITY).unwrap_or(Time::MAX);
        self.made <= now && last <= self.not_after && !denied && !self.retired
    }

    /// When it has been published for long enough.
    fn led(&self) -> Time {
        self.made.checked_add(LEAD).unwrap_or(Time::MAX)
    }

    /// From when on no older signer signs.
    fn takes_over(&self) -> Time {
        self.led().max(self.deny_before.unwrap_or(Time::MIN))
    }

    /// The last second in which something that it signed can be alive. `successors` were made later.
    fn last_use(&self, successors: &[Self]) -> Time {
        let lasting = successors
            .iter()
            .filter(|successor| !successor.retired && successor.not_after >= self.not_after);
        let taken_over = lasting.map(Self::takes_over).min();
        let until = taken_over.and_then(|time| time.checked_add(MAXIMUM_VALIDITY));
        until.map_or(self.not_after, |until| until.min(self.not_after))
    }
}

/// Who signs, by place: the newest that can and was published for long enough; if none was, the oldest that can.
fn active(lives: &[Life], now: Time) -> Option<usize> {
    let can_sign = |life: &Life| life.can_sign(now);
    let led = |life: &Life| can_sign(life) && life.led() <= now;
    let newest_led = lives.iter().rposition(led);
    newest_led.or_else(|| lives.iter().position(can_sign))
}

fn stage(life: &Life, is_active: bool, now: Time) -> OwnSignerStage {
    if is_active {
        OwnSignerStage::Active
    } else if now < life.takes_over() && !life.retired {
        OwnSignerStage::Pending
    } else {
        OwnSignerStage::Retired
    }
}

fn is_new_signer_due(lives: &[Life], now: Time) -> bool {
    let in_time = now.checked_add(RENEWED_BEFORE_END).unwrap_or(Time::MAX);
    let lasts = |life: &Life| life.can_sign(now) && in_time < life.not_after;
    !lives.iter().any(lasts)
}
