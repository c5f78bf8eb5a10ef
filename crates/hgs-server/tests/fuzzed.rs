//! Connections with octets that nearly are requests.

use hgs_server::fuzz_console_request;
use hgs_server::http::fuzzing::fuzz_connection;
use hgs_testkit::Mutations;

const TOKENS: [&[u8]; 20] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b":",
    b"\0",
    b"%",
    b"GET / HTTP/1.1\r\n",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"Host: a\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 18446744073709551616\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: keep-alive\r\n",
    b"Upgrade: h2c\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
];

fn corpus() -> Vec<Vec<u8>> {
    [
        "GET /hello?a=b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a.example/hello HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a.example:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
         POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nfirst",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;x=y\r\nabc\r\n0\r\nTrailer: t\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
    .map(|request| request.as_bytes().to_vec())
    .into()
}

#[test]
fn no_mutation_of_a_connection_reaches_a_service_in_a_form_that_it_was_not_promised() {
    let corpus = corpus();
    corpus.iter().for_each(|octets| fuzz_connection(octets));
    for octets in Mutations::of(&corpus, &TOKENS).take(5_000) {
        fuzz_connection(&octets);
    }
}

const OF_BROWSERS: [&[u8]; 16] = [
    b"GET / HTTP/1.1\r\n",
    b"POST /sign-out HTTP/1.1\r\n",
    b"Host: hgs.example:9444\r\n",
    b"Host: evil.example\r\n",
    b"Origin: https://hgs.example:9444\r\n",
    b"Origin: null\r\n",
    b"Sec-Fetch-Site: same-origin\r\n",
    b"Sec-Fetch-Site: cross-site\r\n",
    b"Sec-Fetch-Mode: navigate\r\n",
    b"Cookie: __Host-openhgs=\r\n",
    b"\r\n",
    b"; ",
    b":443",
    b"[::1]",
    b"@",
    b"%2f",
];

#[test]
fn no_mutation_of_a_browsers_request_passes_for_one_of_the_console() {
    let corpus = [
        "POST /add-host HTTP/1.1\r\nHost: hgs.example:9444\r\nOrigin: https://hgs.example:9444\r\n\
         Sec-Fetch-Site: same-origin\r\nCookie: a=b; __Host-openhgs=c\r\nContent-Length: 6\r\n\r\nname=a",
        "GET /hosts?notice=host-added HTTP/1.1\r\nHost: HGS.example\r\nSec-Fetch-Site: cross-site\r\n\
         Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n\r\n",
        "GET /sign-in/openid/callback?code=a&state=b HTTP/1.1\r\nHost: hgs.example\r\n\r\n\
         POST /sign-in/5f0c2a91 HTTP/1.1\r\nHost: hgs.example\r\nOrigin: https://hgs.example:443\r\n\
         Sec-Fetch-Site: same-origin\r\n\r\n",
    ];
    let corpus = corpus.map(|request| request.as_bytes().to_vec());
    corpus
        .iter()
        .for_each(|octets| fuzz_console_request(octets));
    for octets in Mutations::of(&corpus, &OF_BROWSERS).take(2_000) {
        fuzz_console_request(&octets);
    }
}
