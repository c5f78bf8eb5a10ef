//! The life of attestation signers: whatever happens, somebody signs, and whatever is alive is believed.

mod common;

use common::after;
use hgs_attest::signer::{
    LEAD, NoRoomForSigner, OwnSigner, OwnSignerStage, Plan, RENEWED_BEFORE_END, SIGNER_VALIDITY,
    check_room, plan, template,
};
use hgs_attest::signing_certificates;
use hgs_pki::health::MAXIMUM_VALIDITY;
use hgs_pki::{Seconds, Thumbprint, Time};
use hgs_testkit::fixtures::{now, private_key, self_signed};
use proptest::collection::vec;
use proptest::prelude::*;

fn made(time: Time) -> OwnSigner {
    OwnSigner {
        certificate: self_signed(template(time), &private_key(2)),
        deny_before: None,
        retired: false,
    }
}

fn plus(time: Time, seconds: Seconds) -> Time {
    time.checked_add(seconds).unwrap()
}

fn minus(time: Time, seconds: Seconds) -> Time {
    time.checked_sub(seconds).unwrap()
}

fn thumbprint(signer: &OwnSigner) -> Thumbprint {
    signer.certificate.thumbprint()
}

fn stages(plan: &Plan) -> Vec<OwnSignerStage> {
    plan.published.iter().map(|signer| signer.stage).collect()
}

#[test]
fn at_first_start_a_signer_is_due_and_signs_at_once() {
    let nobody = plan(&[], now());
    assert!(nobody.new_signer_due);
    assert_eq!(nobody.active(), None);
    let first = made(now());
    let plan = plan(std::slice::from_ref(&first), now());
    assert!(!plan.new_signer_due);
    assert_eq!(plan.active(), Some(thumbprint(&first)));
    assert_eq!(stages(&plan), [OwnSignerStage::Active]);
}

#[test]
fn a_successor_is_made_a_month_before_the_end_and_not_earlier() {
    let first = [made(now())];
    let end = first[0].certificate.validity().not_after;
    assert_eq!(end, after(SIGNER_VALIDITY));
    let due = minus(end, RENEWED_BEFORE_END);
    assert!(!plan(&first, minus(due, Seconds::new(1))).new_signer_due);
    assert!(plan(&first, due).new_signer_due);
}

#[test]
fn a_successor_is_published_for_a_day_before_it_signs_and_its_predecessor_for_a_day_after() {
    let second = Seconds::new(1);
    let takes_over = plus(after(Seconds::from_days(100)), LEAD);
    let signers = [made(now()), made(minus(takes_over, LEAD))];
    let (old, new) = (thumbprint(&signers[0]), thumbprint(&signers[1]));

    let before = plan(&signers, minus(takes_over, second));
    assert_eq!(before.active(), Some(old));
    assert_eq!(
        stages(&before),
        [OwnSignerStage::Active, OwnSignerStage::Pending]
    );

    let last = plus(takes_over, MAXIMUM_VALIDITY);
    for when in [takes_over, last] {
        let plan = plan(&signers, when);
        assert_eq!(plan.active(), Some(new));
        assert_eq!(
            stages(&plan),
            [OwnSignerStage::Retired, OwnSignerStage::Active]
        );
    }
    let gone = plan(&signers, plus(last, second));
    assert_eq!(gone.active(), Some(new));
    assert_eq!(gone.published.len(), 1);
}

#[test]
fn after_a_long_rest_the_new_signer_signs_at_once() {
    let old = made(now());
    let late = after(Seconds::from_days(400));
    assert!(plan(std::slice::from_ref(&old), late).new_signer_due);
    let new = made(late);
    let plan = plan(&[old, new.clone()], late);
    assert_eq!(plan.active(), Some(thumbprint(&new)));
    assert_eq!(plan.published.len(), 1);
}

#[test]
fn a_signer_stops_in_time_for_its_last_certificate_to_end_before_it() {
    let signers = [made(now())];
    let end = signers[0].certificate.validity().not_after;
    let last = minus(end, MAXIMUM_VALIDITY);
    assert!(plan(&signers, last).active().is_some());
    assert_eq!(plan(&signers, plus(last, Seconds::new(1))).active(), None);
}

#[test]
fn a_signer_that_is_denied_from_now_on_does_not_sign() {
    let mut signers = vec![made(now())];
    signers[0].deny_before = Some(after(Seconds::from_hours(1)));
    let denied = plan(&signers, now());
    assert_eq!(denied.active(), None);
    assert!(denied.new_signer_due);
    // What it issues from that time on is believed again.
    let later = plan(&signers, after(Seconds::from_hours(1)));
    assert!(later.active().is_some());

    signers.push(made(now()));
    let plan = plan(&signers, now());
    assert_eq!(plan.active(), Some(thumbprint(&signers[1])));
}

#[test]
fn a_successor_that_is_denied_takes_over_when_it_is_believed() {
    let mut signers = [made(now()), made(after(Seconds::from_days(100)))];
    let believed = after(Seconds::from_days(105));
    signers[1].deny_before = Some(believed);
    let (old, new) = (thumbprint(&signers[0]), thumbprint(&signers[1]));
    let last_of_the_old = minus(believed, Seconds::new(1));
    assert_eq!(plan(&signers, last_of_the_old).active(), Some(old));
    let end = plus(believed, MAXIMUM_VALIDITY);
    for when in [believed, end] {
        let plan = plan(&signers, when);
        assert_eq!(plan.active(), Some(new));
        assert_eq!(
            stages(&plan),
            [OwnSignerStage::Retired, OwnSignerStage::Active]
        );
    }
    let gone = plan(&signers, plus(end, Seconds::new(1)));
    assert_eq!(stages(&gone), [OwnSignerStage::Active]);
}

#[test]
fn a_signer_that_is_retired_by_hand_signs_no_more_and_is_believed() {
    let mut signers = vec![made(now()), made(after(Seconds::from_days(100)))];
    let later = after(Seconds::from_days(200));
    let (old, new) = (thumbprint(&signers[0]), thumbprint(&signers[1]));
    assert_eq!(plan(&signers, later).active(), Some(new));
    // The older one is still good for signing, so it steps in.
    signers[1].retired = true;
    let stepped_in = plan(&signers, later);
    assert_eq!(stepped_in.active(), Some(old));
    assert!(!stepped_in.new_signer_due);
    let expected = [OwnSignerStage::Active, OwnSignerStage::Retired];
    assert_eq!(stages(&stepped_in), expected);

    signers[0].retired = true;
    let nobody = plan(&signers, later);
    assert_eq!(nobody.active(), None);
    assert!(nobody.new_signer_due);
    let newest = made(later);
    signers.push(newest.clone());
    let renewed = plan(&signers, later);
    assert_eq!(renewed.active(), Some(thumbprint(&newest)));
    let expected = [
        OwnSignerStage::Retired,
        OwnSignerStage::Retired,
        OwnSignerStage::Active,
    ];
    assert_eq!(stages(&renewed), expected);
}

/// One that somebody made elsewhere, for instance. Its predecessor has to step in again, and must be known then.
#[test]
fn a_successor_that_ends_earlier_does_not_retire_its_predecessor() {
    let day = |number| after(Seconds::from_days(number));
    let mut short = template(day(100));
    short.validity.not_after = day(110);
    let short = OwnSigner {
        certificate: self_signed(short, &private_key(3)),
        deny_before: None,
        retired: false,
    };
    let signers = [made(now()), short];
    let (old, new) = (thumbprint(&signers[0]), thumbprint(&signers[1]));
    assert_eq!(plan(&signers, day(105)).active(), Some(new));
    let later = plan(&signers, plus(day(109), Seconds::new(1)));
    assert_eq!(later.active(), Some(old));
    assert_eq!(
        stages(&later),
        [OwnSignerStage::Active, OwnSignerStage::Retired]
    );
    for number in 100..120 {
        let plan = plan(&signers, day(number));
        assert!(plan.published.iter().any(|signer| signer.thumbprint == old));
    }
}

#[test]
fn a_clock_that_is_put_back_finds_somebody_to_sign() {
    let signers = [made(now()), made(after(Seconds::from_days(300)))];
    let back = after(Seconds::from_days(10));
    let plan = plan(&signers, back);
    assert_eq!(plan.active(), Some(thumbprint(&signers[0])));
    assert!(!plan.new_signer_due);
}

/// Seconds until the server looks again: minutes to hours, sometimes weeks, seldom a year.
/// Some clients read one TLS record of the list, so a signer that does not fit is refused, unless nobody else could sign.
#[test]
fn a_signer_that_does_not_fit_into_the_list_is_refused_while_another_can_sign() {
    const MADE: u64 = 12;
    let mut signers: Vec<_> = (0..MADE)
        .map(|second| made(plus(now(), Seconds::new(second))))
        .collect();
    let added = made(now()).certificate;
    let time = plus(now(), Seconds::new(MADE));
    for count in 0..=signers.len() {
        let own = &signers[..count];
        assert_eq!(plan(own, time).published.len(), count);
        let listed = own.iter().map(|signer| signer.certificate.clone());
        let listed: Vec<_> = listed.chain([added.clone()]).collect();
        let fits = signing_certificates::fits_one_record(&listed);
        assert!(fits || count > 1);
        let refused = NoRoomForSigner { published: count };
        let expected = if fits { Ok(()) } else { Err(refused) };
        assert_eq!(check_room(own, &added, time), expected);
    }
    assert!(check_room(&signers, &added, time).is_err());
    // Those that have ended, and are published no more, take no room.
    let later = after(Seconds::from_days(2000));
    let with_successor = [signers.as_slice(), &[made(later)]].concat();
    assert_eq!(plan(&with_successor, later).published.len(), 1);
    assert_eq!(check_room(&with_successor, &added, later), Ok(()));

    for signer in &mut signers {
        signer.retired = true;
    }
    let retired = plan(&signers, time);
    assert_eq!(
        (retired.active(), retired.published.len()),
        (None, signers.len())
    );
    assert_eq!(check_room(&signers, &added, time), Ok(()));
}

fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![
        5 => 600..20_000u64,
        2 => 20_000..2_000_000u64,
        1 => 2_000_000..40_000_000u64,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A server runs for years, rests now and then, and is told at odd times to make a new signer, or that its newest
    /// shall sign no more. At every step one signs, and what is alive was signed by one that is published.
    #[test]
    fn whatever_is_alive_is_believed(steps in vec((pause(), any::<u8>()), 1..60)) {
        let mut signers: Vec<OwnSigner> = Vec::new();
        let mut alive: Vec<(Time, Thumbprint)> = Vec::new();
        let mut time = now();
        for (pause, odd) in steps {
            time = plus(time, Seconds::new(pause));
            let told = odd < 16;
            if (16..24).contains(&odd) && let Some(signer) = signers.last_mut() {
                signer.retired = true;
            }
            if plan(&signers, time).new_signer_due || told {
                signers.push(made(time));
            }
            let plan = plan(&signers, time);
            prop_assert!(!plan.new_signer_due);
            let active = plan.active();
            prop_assert!(active.is_some());
            alive.retain(|(ends, _)| time <= *ends);
            for (_, signer) in &alive {
                prop_assert!(plan.published.iter().any(|known| known.thumbprint == *signer));
            }
            let active_ones = stages(&plan).into_iter().filter(|stage| *stage == OwnSignerStage::Active);
            prop_assert_eq!(active_ones.count(), 1);
            let ends = plus(time, MAXIMUM_VALIDITY);
            let signer = signers.iter().find(|signer| Some(thumbprint(signer)) == active);
            let signer = signer.unwrap();
            prop_assert!(signer.certificate.validity().contains(time));
            prop_assert!(signer.certificate.validity().contains(ends));
            alive.push((ends, thumbprint(signer)));
        }
    }
}
