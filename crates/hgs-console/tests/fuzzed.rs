//! Forms, query strings and paths that nearly are some.

use hgs_console::fuzzing::fuzz_console_form;
use hgs_testkit::Mutations;

const TOKENS: [&[u8]; 12] = [
    b"&",
    b"=",
    b"+",
    b"%",
    b"%26",
    b"%00",
    b"%c3",
    b"/",
    b"//",
    b"..",
    b"\"",
    b"<script>",
];

#[test]
fn no_mutation_of_a_form_leaves_its_place() {
    let corpus = [
        "name=node-1&credential=MCow%2B%3D&group=rack-a&reason=stolen+here",
        "host=node-1&action=attest&outcome=refused&since=2026-01-01T00:00:00Z&before=17&alike=true",
        "component=kernel&alternative=6.1&tenant=a&after=b&group=default&until=5",
        "/hosts/node-1/revoke",
        "/sign-in/5f0c2a91",
        "session-revoked",
    ];
    let corpus = corpus.map(|text| text.as_bytes().to_vec());
    corpus.iter().for_each(|octets| fuzz_console_form(octets));
    for octets in Mutations::of(&corpus, &TOKENS).take(3_000) {
        fuzz_console_form(&octets);
    }
}
