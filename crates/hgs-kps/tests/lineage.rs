//! Succession, compromise and tenants: section 5 of the protocol profile, rules 4 to 6.

mod common;

use std::collections::BTreeSet;

use common::{Member, Service, guardian, protector, ring, tenant, transport_key};
use hgs_kps::{Code, HeldCertificate, KeyRing, KeyRingError, Lineage, Released, ServiceVersion};
use hgs_pki::{Seconds, Time};
use hgs_protector::{VerifiedProtector, WrappingId, open};
use hgs_testkit::fixtures::{Forge, ForgedWrapping, Guardian, Host, Keys, key_octets, now};
use proptest::prelude::*;

/// Whether the keys of a guardian give the transport key of a protector.
fn opens(protector: &VerifiedProtector, guardian: &Guardian) -> bool {
    let keys = Keys::of(&[guardian]);
    open(protector, &[guardian.held()], &mut &keys).is_ok()
}

fn shape(protector: &VerifiedProtector) -> Vec<(u32, u32)> {
    protector
        .wrappings()
        .iter()
        .map(|wrapping| (wrapping.id().number(), wrapping.parent().number()))
        .collect()
}

fn earlier() -> Time {
    now().checked_sub(Seconds::from_hours(1)).unwrap()
}

fn later() -> Time {
    now().checked_add(Seconds::from_hours(1)).unwrap()
}

fn roll(service: &Service, ingress: &VerifiedProtector) -> Released {
    service.power_on(ingress).unwrap()
}

#[test]
fn a_rotation_reaches_virtual_machines_without_their_owners() {
    let service = Service::new(&[
        Member::fabric("fabric"),
        Member::fabric("fabric-next").head(),
    ]);
    let ingress = protector(guardian("owner"), &[guardian("fabric")]);
    let first = roll(&service, &ingress).egress;
    assert_eq!(shape(&first), [(1, 1), (2, 1), (3, 2)]);
    // The pair that opened signs, the head will be tried first from now on.
    assert_eq!(first.guardian().id(), WrappingId::new(2));
    assert!(opens(&first, guardian("fabric-next")));
    let second = roll(&service, &first).egress;
    assert_eq!(shape(&second), shape(&first));
    assert_eq!(second.guardian().id(), WrappingId::new(3));

    // Then the old pair can go.
    let service = Service::new(&[Member::fabric("fabric-next").head()]);
    roll(&service, &second);
}

/// The signatures that a succession takes are made once for a key ring, not once for each protector.
#[test]
fn a_thousand_virtual_machines_need_one_endorsement() {
    let service = Service::new(&[
        Member::fabric("fabric"),
        Member::fabric("fabric-next").head(),
    ]);
    for rolls in 1..=4 {
        let ingress = protector(guardian("owner"), &[guardian("fabric")]);
        assert!(opens(
            &roll(&service, &ingress).egress,
            guardian("fabric-next")
        ));
        // Two that make the head a guardian, one that endorses it.
        assert_eq!(service.keys.signatures(), rolls + 3);
    }
}

#[test]
fn a_rotation_of_the_signing_certificate_alone_reaches_protectors() {
    // The encryption key of the head opens the old wrapping as well.
    let mut certificates: Vec<HeldCertificate> = Vec::new();
    let old = Member::fabric("fabric").certificates();
    let new = Member::fabric("fabric-next").head().certificates();
    certificates.push(old[0].clone());
    certificates.push(HeldCertificate {
        head: true,
        ..old[1].clone()
    });
    certificates.push(new[0].clone());
    let mut service = Service::new(&[Member::fabric("fabric")]);
    let next = guardian("fabric-next");
    service.keys.hold(&next.signing, &next.signing_key);
    service.ring = KeyRing::new(certificates).unwrap().into();
    let ingress = protector(guardian("owner"), &[guardian("fabric")]);
    let first = roll(&service, &ingress).egress;
    assert_eq!(shape(&first), [(1, 1), (2, 1), (3, 2)]);
    assert_eq!(
        first.wrappings()[2].signing_certificate(),
        &guardian("fabric-next").signing
    );
    // The head signs from now on, and nothing more is appended.
    let second = roll(&service, &first).egress;
    assert_eq!(shape(&second), shape(&first));
    assert_eq!(second.guardian().id(), WrappingId::new(3));
}

#[test]
fn there_is_no_succession_where_there_is_no_room() {
    let service = Service::new(&[
        Member::fabric("fabric"),
        Member::fabric("fabric-next").head(),
    ]);
    let mut forge = Forge::new(guardian("owner"), &[guardian("fabric")], key_octets(7));
    forge.wrappings[1].id = u32::MAX.to_string();
    let host = Host::numbered(0);
    let ask = |protector: String| {
        let request = hgs_kps::wire::RollTransportKeyRequest {
            ingress_protector: protector.into_bytes(),
            health_certificate: host.healthy().der().to_vec(),
            algorithms: Default::default(),
        };
        service.release(&request.to_xml(), ServiceVersion::V2)
    };
    let refusal = ask(forge.seal(guardian("owner"))).unwrap_err();
    assert_eq!(refusal.code(), Code::LimitExceeded);

    let mut full = Forge::new(guardian("owner"), &[guardian("fabric")], key_octets(7));
    let another = ForgedWrapping::new(
        0,
        guardian("stranger"),
        1,
        guardian("owner"),
        &key_octets(7),
    );
    full.wrappings
        .extend((3..=64).map(|id: u32| ForgedWrapping {
            id: id.to_string(),
            ..another.clone()
        }));
    assert_eq!(
        ask(full.seal(guardian("owner"))).unwrap_err().code(),
        Code::LimitExceeded
    );
}

#[test]
fn a_compromised_pair_hands_on_and_is_shut_out() {
    let service = Service::new(&[
        Member::fabric("fabric").compromised(later()),
        Member::fabric("fabric-next").head(),
    ]);
    let [owner, old, head, tenant] = ["owner", "fabric", "fabric-next", "tenant"].map(guardian);
    let ingress = protector(owner, &[old, tenant]);
    let first = roll(&service, &ingress);
    assert_eq!(first.ingress_key, transport_key());
    assert_eq!(shape(&first.egress), [(1, 1), (2, 1), (3, 1), (4, 2)]);
    assert_eq!(first.egress.guardian().id(), WrappingId::new(4));
    // The next roll, which the head opens, does not give back what this one took.
    let second = roll(&service, &first.egress);
    for egress in [&first.egress, &second.egress] {
        assert!(!opens(egress, old));
        for others in [owner, head, tenant] {
            assert!(opens(egress, others), "{others:?}");
        }
    }
}

/// Disabled as well, it opens nothing; but where another pair opens, it still gets nothing.
#[test]
fn a_compromised_pair_that_is_disabled_is_shut_out_too() {
    let compromised = Member::fabric("fabric").compromised(later()).disabled();
    let service = Service::new(&[compromised, Member::fabric("fabric-next").head()]);
    let ingress = protector(
        guardian("owner"),
        &[guardian("fabric"), guardian("fabric-next")],
    );
    let egress = roll(&service, &ingress).egress;
    assert!(!opens(&egress, guardian("fabric")));
    assert!(opens(&egress, guardian("fabric-next")));
}

#[test]
fn whoever_descends_from_a_compromised_pair_is_shut_out_but_for_the_head() {
    let [owner, old, head, stranger] = ["owner", "fabric", "fabric-next", "stranger"].map(guardian);
    // With the stolen key someone vouched for himself.
    let mut forge = Forge::new(owner, &[old], key_octets(7));
    forge
        .wrappings
        .push(ForgedWrapping::new(3, stranger, 2, old, &key_octets(7)));
    forge
        .wrappings
        .push(ForgedWrapping::new(4, head, 3, stranger, &key_octets(7)));
    let ingress = verified(&forge.seal(owner));
    let service = Service::new(&[
        Member::fabric("fabric").compromised(later()),
        Member::fabric("fabric-next").head(),
    ]);
    let first = roll(&service, &ingress).egress;
    let second = roll(&service, &first).egress;
    for egress in [&first, &second] {
        assert!(!opens(egress, old) && !opens(egress, stranger));
        assert!(opens(egress, owner) && opens(egress, head));
    }
}

/// The pair that opens is not the only one that must not lose its keys: each lineage has a head.
#[test]
fn the_heads_of_other_lineages_are_not_shut_out_either() {
    let [owner, old, head, tenant] = ["owner", "fabric", "fabric-next", "tenant"].map(guardian);
    let mut forge = Forge::new(owner, &[old, head], key_octets(7));
    forge
        .wrappings
        .push(ForgedWrapping::new(4, tenant, 2, old, &key_octets(7)));
    let ingress = verified(&forge.seal(owner));
    let service = Service::new(&[
        Member::fabric("fabric").compromised(later()),
        Member::fabric("fabric-next").head(),
        Member::tenant("tenant").head(),
    ]);
    let egress = roll(&service, &ingress).egress;
    assert!(!opens(&egress, old));
    for others in [owner, head, tenant] {
        assert!(opens(&egress, others), "{others:?}");
    }
}

/// A pair of a lineage without a head has no successor: shut out, it would lose its virtual machines for good.
#[test]
fn a_pair_without_a_head_that_opens_is_not_shut_out() {
    let [owner, old, tenant] = ["owner", "fabric", "tenant"].map(guardian);
    let mut forge = Forge::new(owner, &[old], key_octets(7));
    forge
        .wrappings
        .push(ForgedWrapping::new(3, tenant, 2, old, &key_octets(7)));
    let ingress = verified(&forge.seal(owner));
    let service = Service::new(&[
        Member::fabric("fabric").disabled().compromised(later()),
        Member::fabric("fabric-next").head(),
        Member::tenant("tenant"),
    ]);
    let first = roll(&service, &ingress).egress;
    let second = roll(&service, &first).egress;
    for egress in [&first, &second] {
        assert!(opens(egress, tenant) && !opens(egress, old));
    }
}

fn verified(document: &str) -> VerifiedProtector {
    hgs_protector::Protector::read(document.as_bytes(), &hgs_pki::CertificateCache::new(8))
        .unwrap()
        .verify(&hgs_pki::SignatureCache::new(8))
        .unwrap()
}

/// What a stolen signing key signs is refused, unless it was known before the theft was.
#[test]
fn a_protector_signed_by_a_compromised_pair_must_have_been_seen() {
    let [owner, old] = ["owner", "fabric"].map(guardian);
    let mut forge = Forge::new(owner, &[old], key_octets(7));
    forge.guardian = "2".to_owned();
    let ingress = verified(&forge.seal(old));
    let members = [
        Member::fabric("fabric").compromised(now()),
        Member::fabric("fabric-next").head(),
    ];
    let service = Service::new(&members);
    let refusal = service.power_on(&ingress).unwrap_err();
    assert_eq!(refusal.code(), Code::CompromisedGuardian);
    assert_eq!(service.keys.decryptions(), 0);

    for (first_seen, accepted) in [(earlier(), true), (now(), false), (later(), false)] {
        let seen = hgs_kps::SeenProtector {
            first_seen,
            superseded: false,
        };
        service.seen.borrow_mut().insert(ingress.digest(), seen);
        assert_eq!(service.power_on(&ingress).is_ok(), accepted);
    }
    let window = Service {
        rekey_window: true,
        ..Service::new(&members)
    };
    assert!(window.power_on(&ingress).is_ok());
}

/// One step aside: the stolen key vouches for another, and that one signs.
#[test]
fn a_protector_signed_through_a_compromised_pair_must_have_been_seen() {
    let [owner, old, stranger] = ["owner", "fabric", "stranger"].map(guardian);
    let mut forge = Forge::new(owner, &[old], key_octets(7));
    forge
        .wrappings
        .push(ForgedWrapping::new(3, stranger, 2, old, &key_octets(7)));
    forge.guardian = "3".to_owned();
    let ingress = verified(&forge.seal(stranger));
    let service = Service::new(&[
        Member::fabric("fabric").compromised(now()),
        Member::fabric("fabric-next").head(),
    ]);
    let refusal = service.power_on(&ingress).unwrap_err();
    assert_eq!(refusal.code(), Code::CompromisedGuardian);
}

/// An older head that descends from the compromised pair is ours and not compromised: what it has signed holds.
#[test]
fn a_later_head_of_a_compromised_lineage_can_retire_in_turn() {
    let [owner, old, next, last] = ["owner", "fabric", "fabric-next", "tenant-next"].map(guardian);
    let service = Service::new(&[
        Member::fabric("fabric").compromised(now()),
        Member::fabric("fabric-next").head(),
    ]);
    let ingress = roll(&service, &protector(owner, &[old])).egress;
    assert_eq!(ingress.guardian().signing_certificate(), &next.signing);

    let later = Service::new(&[
        Member::fabric("fabric").compromised(now()),
        Member::fabric("fabric-next"),
        Member::fabric("tenant-next").head(),
    ]);
    // The same service later, so it does not draw the keys of before again.
    later.random.swap(&service.random);
    let first = roll(&later, &ingress).egress;
    assert_eq!(first.guardian().signing_certificate(), &last.signing);
    let second = roll(&later, &first).egress;
    for egress in [&first, &second] {
        assert!(opens(egress, owner) && opens(egress, last) && !opens(egress, old));
    }
}

#[test]
fn succession_stays_in_the_lineage() {
    let service = Service::new(&[
        Member::fabric("fabric").head(),
        Member::tenant("tenant"),
        Member::tenant("tenant-next").head(),
    ]);
    let ingress = protector(guardian("owner"), &[guardian("tenant")]);
    let egress = roll(&service, &ingress).egress;
    assert_eq!(egress.wrappings().len(), 3);
    assert!(opens(&egress, guardian("tenant-next")));
    assert!(!opens(&egress, guardian("fabric")));
}

/// A signing certificate of one lineage beside an encryption certificate of another is no pair.
#[test]
fn a_pair_is_of_one_lineage() {
    let [fabric, tenant] = ["fabric", "tenant"].map(guardian);
    let mixed = Guardian::from_parts(
        "mixed",
        (fabric.signing.clone(), fabric.signing_key.clone()),
        (tenant.encryption.clone(), tenant.encryption_key.clone()),
    );
    let service = Service::new(&[
        Member::fabric("fabric").head(),
        Member::tenant("tenant").head(),
    ]);
    let refusal = service
        .power_on(&protector(guardian("owner"), &[&mixed]))
        .unwrap_err();
    assert_eq!(refusal.code(), Code::WrappingNotFound);
}

#[test]
fn key_rings_that_can_not_be() {
    let ring = |members: &[Member]| {
        KeyRing::new(members.iter().flat_map(Member::certificates).collect()).unwrap_err()
    };
    let thumbprint = |name: &str| guardian(name).signing.thumbprint();
    assert_eq!(
        ring(&[Member::fabric("fabric"), Member::tenant("fabric")]),
        KeyRingError::Duplicate(thumbprint("fabric"))
    );
    assert_eq!(
        ring(&[
            Member::fabric("fabric").head(),
            Member::fabric("tenant").head()
        ]),
        KeyRingError::TwoHeads {
            lineage: Lineage::Fabric,
            first: thumbprint("fabric"),
            second: thumbprint("tenant"),
        }
    );
    for unfit in [
        Member::fabric("fabric").head().disabled(),
        Member::fabric("fabric").head().compromised(now()),
    ] {
        assert_eq!(
            ring(&[unfit]),
            KeyRingError::UnfitHead(thumbprint("fabric"))
        );
    }
    // The head of another lineage is no successor.
    assert_eq!(
        ring(&[
            Member::tenant("tenant").compromised(now()),
            Member::fabric("fabric").head()
        ]),
        KeyRingError::NoSuccessor {
            compromised: thumbprint("tenant"),
            lineage: tenant(),
        }
    );
}

#[test]
fn the_heads_of_lineages() {
    let ring = ring(&[Member::fabric("fabric").head(), Member::tenant("tenant")]);
    let head = ring.head(&Lineage::Fabric).unwrap();
    assert_eq!(head.signing_certificate(), &guardian("fabric").signing);
    assert_eq!(
        head.encryption_certificate(),
        &guardian("fabric").encryption
    );
    assert!(ring.head(&tenant()).is_none());
}

const NAMES: [&str; 6] = [
    "owner",
    "fabric",
    "fabric-next",
    "tenant",
    "tenant-next",
    "stranger",
];

/// What a guardian is to the service.
#[derive(Debug, Clone, Copy)]
struct Role {
    /// Fabric, tenant, or unknown.
    lineage: u8,
    head: bool,
    enabled: bool,
    compromised: bool,
}

prop_compose! {
    fn role()(lineage in 0_u8..4, head: bool, enabled in prop::bool::weighted(0.8), compromised in prop::bool::weighted(0.3)) -> Role {
        Role { lineage, head, enabled, compromised }
    }
}

/// A key ring of these roles that can be: one head at most to a lineage, and none compromised without.
fn members(roles: &[Role]) -> Vec<Member> {
    let mut heads = BTreeSet::new();
    let mut members: Vec<Member> = NAMES
        .iter()
        .zip(roles)
        .filter(|(_, role)| role.lineage > 0)
        .map(|(name, role)| {
            let lineage = if role.lineage == 1 {
                tenant()
            } else {
                Lineage::Fabric
            };
            let member = Member::of(name, lineage.clone());
            if role.head && heads.insert(lineage) {
                return member.head();
            }
            let member = if role.enabled {
                member
            } else {
                member.disabled()
            };
            if role.compromised {
                member.compromised(later())
            } else {
                member
            }
        })
        .collect();
    for member in members
        .iter_mut()
        .filter(|member| !heads.contains(&member.lineage))
    {
        member.compromised = None;
    }
    members
}

/// A protector of all six names, or fewer: each has an earlier one for a parent.
fn forged(size: usize, order: &[&str], parents: &[usize], guardian_of: usize) -> VerifiedProtector {
    let named: Vec<&Guardian> = order[..size].iter().map(|name| guardian(name)).collect();
    let mut forge = Forge::new(named[0], &[], key_octets(7));
    for (place, member) in named.iter().enumerate().skip(1) {
        let parent = parents[place] % place;
        let (id, parent_id) = (place as u32 + 1, parent as u32 + 1);
        let wrapping = ForgedWrapping::new(id, member, parent_id, named[parent], &key_octets(7));
        forge.wrappings.push(wrapping);
    }
    let signer = guardian_of % size;
    forge.guardian = (signer + 1).to_string();
    verified(&forge.seal(named[signer]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Any key ring, any protector, three rolls one after the other.
    #[test]
    fn invariant_rolls_lose_nobody_give_nothing_to_the_compromised_and_never_cross_lineages(
        roles in proptest::collection::vec(role(), 6),
        order in Just(NAMES.to_vec()).prop_shuffle(),
        size in 1_usize..=6, parents: [usize; 6], guardian_of: usize,
    ) {
        let members = members(&roles);
        let mut service = Service::new(&members);
        // What was signed before the theft was known.
        service.rekey_window = true;
        let mut protector = forged(size, &order, &parents, guardian_of);
        let before: BTreeSet<_> = order[..size].iter().copied().collect();
        let member = |name: &str| members.iter().find(|member| member.guardian.name == name);
        let compromised = |name: &str| member(name).is_some_and(|member| member.compromised.is_some());

        for round in 0..3 {
            let host = Host::numbered(0);
            let pending = common::pending(&protector, &host, ServiceVersion::V2);
            let release = match service.release(&pending.request(), ServiceVersion::V2) {
                Ok(release) => release,
                Err(refusal) => {
                    // Whoever rolled it once rolls it again.
                    prop_assert_eq!(round, 0, "{}", refusal);
                    prop_assert_eq!(refusal.code(), Code::WrappingNotFound);
                    return Ok(());
                }
            };
            service.rekey_window = false;
            let facts = release.facts().clone();
            let recorded = hgs_kps::Recorded::after_commit(facts.egress);
            let answer = release.into_response(&recorded).unwrap();
            // The host's checks are in here: same owner, nobody lost, both keys right.
            let egress = common::receive(&pending, &host, &answer).egress;

            for name in NAMES {
                let wrapped = egress.wrappings().iter().any(|wrapping| {
                    wrapping.is_for(&guardian(name).signing, &guardian(name).encryption)
                });
                if compromised(name) {
                    prop_assert!(!opens(&egress, guardian(name)), "{} is compromised", name);
                }
                if wrapped && !before.contains(name) {
                    let appended = member(name).unwrap();
                    prop_assert!(appended.head, "{} was appended", name);
                    prop_assert_eq!(&appended.lineage, &facts.lineage);
                }
                // Nobody is cut off but the compromised and those below them.
                let shut_out = egress.wrappings().iter().any(|wrapping| {
                    wrapping.is_for(&guardian(name).signing, &guardian(name).encryption)
                        && facts.shut_out.contains(&wrapping.id())
                });
                prop_assert_eq!(opens(&egress, guardian(name)), wrapped && !shut_out);
            }
            if !members.iter().any(|member| member.compromised.is_some()) {
                prop_assert!(facts.shut_out.is_empty());
            }
            protector = egress;
        }
    }
}
