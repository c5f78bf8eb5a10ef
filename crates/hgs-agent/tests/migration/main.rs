//! A running VM goes to another host, and to no host that has no right to it.

#[path = "../../../hgs-client/tests/guarded_host/guardian.rs"]
#[allow(dead_code, reason = "it serves the tests of other crates, too")]
mod guardian;
#[path = "../../../hgs-vm/tests/common/guest.rs"]
#[allow(dead_code, reason = "it serves the tests of other crates, too")]
mod guest;

mod failures;
mod moves;
mod namespaces;
mod proxy;
mod world;
