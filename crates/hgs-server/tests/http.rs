//! The plain listener before peers that follow HTTP/1.1, and before those that do not.

mod support;

use std::time::Duration;

use support::{Client, TestServer, eventually, send, status};
use tokio::time::timeout;

#[tokio::test]
async fn a_request_is_answered_with_length_type_and_id() {
    let mut server = TestServer::start("");
    let response = send(
        server.http(),
        "GET /hello?a=b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(status(&response), 200);
    for field in [
        "content-length: 5\r\n",
        "content-type: text/plain\r\n",
        "x-request-id: ",
    ] {
        assert!(response.contains(field), "{field} is not in {response}");
    }
    assert!(response.ends_with("\r\n\r\nhello"), "{response}");

    let request = server.watcher.entered.recv().await.unwrap();
    assert_eq!(request.path, "/hello");
    assert_eq!(request.query.as_deref(), Some("a=b"));
    assert!(response.contains(&request.id.to_string()));
    assert_eq!(
        server.metric(r#"hgs_http_requests_total{listener="http",route="hello",status="200"}"#),
        1
    );
}

#[tokio::test]
async fn a_connection_carries_many_requests() {
    let server = TestServer::start("");
    let mut client = Client::connect(server.http()).await;
    for _ in 0..3 {
        client
            .send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            .await;
        assert!(client.response().await.ends_with("\r\n\r\nabc"));
    }
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order() {
    let server = TestServer::start("");
    let answers = send(
        server.http(),
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfirst\
         POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecond",
    )
    .await;
    let first = answers.find("first").unwrap();
    assert!(first < answers.find("second").unwrap());
}

#[tokio::test]
async fn a_proxy_may_send_the_whole_uri_and_head_is_answered_without_a_body() {
    let mut server = TestServer::start("");
    let response = send(
        server.http(),
        "HEAD http://a.example/hello HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(response.contains("content-length: 5\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\n"), "{response}");
    assert_eq!(server.watcher.entered.recv().await.unwrap().path, "/hello");
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let server = TestServer::start("");
    let response = send(server.http(), "GET /hello HTTP/1.0\r\n\r\n").await;
    assert_eq!(status(&response), 200);
}

/// RFC 9110, 2.5.
#[tokio::test]
async fn a_later_minor_version_is_answered_in_1_1() {
    let server = TestServer::start("");
    let mut client = Client::connect(server.http()).await;
    for _ in 0..2 {
        client.send("GET /hello HTTP/1.2\r\nHost: a\r\n\r\n").await;
        let response = client.response().await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    }
    let without_host = send(server.http(), "GET /hello HTTP/1.2\r\n\r\n").await;
    assert_eq!(status(&without_host), 400);
}

#[tokio::test]
async fn other_versions_are_refused() {
    let server = TestServer::start("");
    for line in ["GET /hello HTTP/2.0", "GET /hello HTTP/1.17", "GET /hello"] {
        let response = send(server.http(), format!("{line}\r\nHost: a\r\n\r\n")).await;
        assert!(
            response.is_empty() || status(&response) == 400,
            "{line}: {response}"
        );
    }
    let preface = send(server.http(), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(!preface.contains("hello"));
    assert!(server.rejected("malformed_header") >= 3);
}

#[tokio::test]
async fn a_chunked_body_is_read_and_its_connection_closed() {
    let server = TestServer::start("");
    let response = send(
        server.http(),
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: t\r\n\r\n",
    )
    .await;
    assert_eq!(status(&response), 200);
    assert!(response.ends_with("\r\n\r\nabcde"), "{response}");
}

#[tokio::test]
async fn a_peer_that_asks_before_it_sends_is_told_to_go_on() {
    let server = TestServer::start("");
    let mut client = Client::connect(server.http()).await;
    client
        .send("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .await;
    assert_eq!(status(&client.response().await), 100);
    client.send("hi").await;
    assert!(client.response().await.ends_with("hi"));
}

#[tokio::test]
async fn a_peer_that_asks_to_send_too_much_is_told_so_at_once() {
    let server = TestServer::start("limits.body = \"1KiB\"");
    let response = send(
        server.http(),
        "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1025\r\n\r\n",
    )
    .await;
    assert_eq!(status(&response), 413);
}

#[tokio::test]
async fn a_host_is_a_host_and_maybe_a_port() {
    let server = TestServer::start("");
    for request in [
        "GET /hello HTTP/1.1\r\nHost: a b@c\r\n",
        "GET /hello HTTP/1.1\r\nHost: a@c\r\n",
        "GET /hello HTTP/1.1\r\nHost: a:b\r\n",
        "GET /hello HTTP/1.1\r\nHost: [::1\r\n",
        "GET /hello HTTP/1.1\r\nHost: a/b\r\n",
        "GET /hello HTTP/1.0\r\nHost: a b\r\n",
        "GET http://user@a/hello HTTP/1.1\r\nHost: a\r\n",
    ] {
        let response = send(server.http(), format!("{request}\r\n")).await;
        assert_eq!(status(&response), 400, "{request}: {response}");
    }
    assert_eq!(server.rejected("authority"), 7);
    for host in ["", "a.example:443", "[::1]:80", "192.0.2.1"] {
        let request = format!("GET /hello HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&send(server.http(), request).await), 200, "{host}");
    }
}

/// RFC 9110, 9.1: where there is GET there is HEAD, also in `Allow`.
#[tokio::test]
async fn head_is_answered_as_get_without_the_body() {
    let mut server = TestServer::start("");
    let ask = |method| {
        send(
            server.http(),
            format!("{method} /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        )
    };
    let (got, head) = (ask("GET").await, ask("HEAD").await);
    let fields = |response: &str| {
        let (head, _) = response.split_once("\r\n\r\n").unwrap();
        let lines = head.lines().filter(|line| {
            let line = line.to_ascii_lowercase();
            !line.starts_with("x-request-id") && !line.starts_with("date")
        });
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(fields(&got), fields(&head));
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    for _ in 0..2 {
        let seen = server.watcher.entered.recv().await.unwrap();
        assert_eq!(seen.method, "GET");
    }
    let refused = send(
        server.http(),
        "POST /get-only HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(refused.contains("allow: GET, HEAD\r\n"), "{refused}");
}

#[tokio::test]
async fn tls_at_the_plain_port_is_answered_in_plain_text() {
    let server = TestServer::start("");
    let hello = [0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0];
    let response = send(server.http(), hello).await;
    assert_eq!(status(&response), 400);
    assert!(response.contains("http://"), "{response}");
    assert_eq!(server.rejected("tls_to_plain"), 1);
    assert_eq!(server.rejected("malformed_header"), 0);
}

#[tokio::test]
async fn a_stream_is_sent_in_parts_as_they_come() {
    let server = TestServer::start("");
    let mut client = Client::connect(server.http()).await;
    client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = client.until("\r\n\r\n").await;
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    server.watcher.parts.send("one".into()).unwrap();
    assert_eq!(client.until("one\r\n").await, "3\r\none\r\n");
    server.watcher.parts.send("two!".into()).unwrap();
    assert_eq!(client.until("two!\r\n").await, "4\r\ntwo!\r\n");
}

#[tokio::test]
async fn a_stream_ends_at_once_when_the_server_is_told_to_stop() {
    let mut server = TestServer::start("limits.drain_time = \"1h\"");
    let mut client = Client::connect(server.http()).await;
    client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    server.watcher.parts.send("one".into()).unwrap();
    client.until("one\r\n").await;
    server.order_stop();
    // The last chunk, and the end of the connection.
    assert_eq!(client.rest().await, "0\r\n\r\n");
    assert!(server.stopped().await.finished);
}

/// Nobody waits for a peer that takes nothing.
#[tokio::test]
async fn nor_does_a_stream_that_is_not_read_hold_up_the_stop() {
    let mut server = TestServer::start("limits.drain_time = \"1h\"\nlimits.write_time = \"10min\"");
    let mut client = Client::connect(server.http()).await;
    client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    for _ in 0..32 {
        let part = vec![b'x'; 1 << 20].into();
        server.watcher.parts.send(part).unwrap();
    }
    client.until("x").await;
    server.order_stop();
    let stopped = timeout(Duration::from_mins(5), server.stopped()).await;
    assert!(stopped.expect("it stops").finished);
}

/// The request itself has its deadlines; a stream that is silent does not hold its connection for ever.
#[tokio::test]
async fn a_silent_stream_ends_after_the_idle_time() {
    let server = TestServer::start("limits.idle_time = \"1s\"");
    let mut client = Client::connect(server.http()).await;
    client
        .send("GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    client.until("\r\n\r\n").await;
    assert_eq!(client.rest().await, "0\r\n\r\n");
}

/// A peer that does not take what it asked for is let go, as with any other answer.
#[tokio::test]
async fn a_stream_that_is_not_read_is_cut_off() {
    let server = TestServer::start("limits.write_time = \"1s\"");
    let mut client = Client::connect(server.http()).await;
    client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    for _ in 0..32 {
        server
            .watcher
            .parts
            .send(vec![b'x'; 1 << 20].into())
            .unwrap();
    }
    eventually(|| server.rejected("slow_reader") == 1).await;
}

#[tokio::test]
async fn only_so_many_streams_are_sent_at_once() {
    let server = TestServer::start("limits.connections_per_address = 128");
    let mut streams = Vec::new();
    for _ in 0..64 {
        let mut client = Client::connect(server.http()).await;
        client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(status(&client.until("\r\n\r\n").await), 200);
        streams.push(client);
    }
    let one_more = "GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&send(server.http(), one_more).await), 503);
    assert_eq!(server.rejected("streams"), 1);
    // What is no stream is answered.
    let hello = "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&send(server.http(), hello).await), 200);
}

#[tokio::test]
async fn a_request_needs_exactly_one_host() {
    let server = TestServer::start("");
    for hosts in ["", "Host: a\r\nHost: b\r\n"] {
        let response = send(server.http(), format!("GET /hello HTTP/1.1\r\n{hosts}\r\n")).await;
        assert_eq!(status(&response), 400);
    }
    assert_eq!(server.rejected("host"), 2);
}

#[tokio::test]
async fn k1_targets_that_are_no_paths_are_refused() {
    let mut server = TestServer::start("");
    for target in [
        "*",
        "a.example:443",
        "/a\\..\\b",
        "/%zz",
        "/hello?{",
        "hello",
    ] {
        let response = send(
            server.http(),
            format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"),
        )
        .await;
        assert_eq!(status(&response), 400, "{target}");
    }
    assert!(server.watcher.entered.try_recv().is_err());
}

#[tokio::test]
async fn a_length_beside_a_transfer_coding_is_refused_and_nothing_after_it_is_read() {
    let mut server = TestServer::start("");
    for fields in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
    ] {
        let answers = send(
            server.http(),
            format!(
                "POST /echo HTTP/1.1\r\nHost: a\r\n{fields}\r\n0\r\n\r\n\
                 GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
            ),
        )
        .await;
        assert_eq!(status(&answers), 400, "{fields}");
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{answers}");
    }
    assert!(server.watcher.entered.try_recv().is_err());
}

#[tokio::test]
async fn transfer_codings_other_than_chunked_are_refused() {
    let server = TestServer::start("");
    for codings in [
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let request = format!("POST /echo HTTP/1.1\r\nHost: a\r\n{codings}\r\n0\r\n\r\n");
        assert_eq!(
            status(&send(server.http(), request).await),
            501,
            "{codings}"
        );
    }
}

#[tokio::test]
async fn an_ambiguous_request_is_noticed_behind_others() {
    let server = TestServer::start("");
    let answers = send(
        server.http(),
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\
         POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\n",
    )
    .await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 1, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 400").count(), 1, "{answers}");
    assert_eq!(server.rejected("ambiguous_length"), 1);
}

#[tokio::test]
async fn a_line_that_ends_without_carriage_return_is_refused() {
    let server = TestServer::start("");
    let response = send(server.http(), "GET /hello HTTP/1.1\nHost: a\n\n").await;
    assert_eq!(status(&response), 400);
    assert_eq!(server.rejected("bare_line_feed"), 1);
}

#[tokio::test]
async fn k13_a_body_over_the_limit_is_refused_with_413() {
    let mut server = TestServer::start("limits.body = \"1KiB\"");
    let body = "x".repeat(1025);
    let plain = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n{body}");
    let chunked = format!(
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n{body}\r\n0\r\n\r\n"
    );
    for request in [plain, chunked] {
        assert_eq!(status(&send(server.http(), request).await), 413);
    }
    assert!(server.watcher.entered.try_recv().is_err());
}

/// Logs of hosts are long; of a stranger, no more is read than of anybody's request.
#[tokio::test]
async fn k13_a_long_body_is_read_only_when_its_beginning_is_admitted() {
    let server = TestServer::start("limits.body = \"1KiB\"");
    let posted = async |path: &str, start: &str, octets: usize, chunked: bool| {
        let body = format!("{start}{}", "x".repeat(octets - start.len()));
        let request = match chunked {
            false => format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {octets}\r\n\r\n{body}"
            ),
            true => format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{octets:x}\r\n{body}\r\n0\r\n\r\n"
            ),
        };
        let response = send(server.http(), request).await;
        assert!(status(&response) != 200 || response.ends_with(&body));
        status(&response)
    };
    for chunked in [false, true] {
        for (path, start, octets, expected) in [
            ("/large-echo", "stranger", 1024, 200),
            ("/large-echo", "stranger", 1025, 413),
            ("/large-echo", "known", 1025, 200),
            ("/large-echo", "known", 4096, 200),
            ("/large-echo", "known", 4097, 413),
            ("/echo", "known", 1025, 413),
        ] {
            let status = posted(path, start, octets, chunked).await;
            assert_eq!(status, expected, "{path} {start} {octets} {chunked}");
        }
    }
}

#[tokio::test]
async fn k13_a_body_without_end_is_cut_off() {
    let server = TestServer::start("limits.body = \"1KiB\"");
    let mut client = Client::connect(server.http()).await;
    client
        .send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let (mut reader, mut writer) = client.0.into_split();
    let sender = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
        while writer.write_all(chunk.as_bytes()).await.is_ok() {}
    });
    let mut answer = vec![0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut reader, &mut answer)
        .await
        .unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
    sender.await.unwrap();
}

#[tokio::test]
async fn k13_a_header_over_the_limit_is_refused_with_431() {
    let server = TestServer::start("limits.headers = \"2KiB\"");
    let long = format!(
        "GET /hello HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(4096)
    );
    let many = format!(
        "GET /hello HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: y\r\n".repeat(100)
    );
    for request in [long, many] {
        assert_eq!(status(&send(server.http(), request).await), 431);
    }
}

#[tokio::test]
async fn k14_all_bodies_together_are_bounded() {
    let server = TestServer::start("limits.body_memory = \"1KiB\"");
    let mut holder = Client::connect(server.http()).await;
    holder
        .send(format!(
            "POST /gate HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{}",
            "x".repeat(1000)
        ))
        .await;
    let mut server = server;
    server.watcher.entered.recv().await.unwrap();

    let request = format!(
        "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{}",
        "x".repeat(100)
    );
    let refused = send(server.http(), &request).await;
    assert_eq!(status(&refused), 503);
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");

    server.watcher.gate.add_permits(1);
    assert_eq!(status(&holder.response().await), 200);
    assert_eq!(status(&send(server.http(), &request).await), 200);
}

#[tokio::test]
async fn k16_a_panic_is_a_500_and_a_metric_and_nothing_more() {
    let server = TestServer::start("");
    let mut client = Client::connect(server.http()).await;
    for _ in 0..2 {
        client.send("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!(status(&response), 500);
        assert!(!response.contains("asked to"), "{response}");
    }
    client.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(status(&client.response().await), 200);
    assert_eq!(server.metric("hgs_http_panics_total{listener=\"http\"}"), 2);
    assert_eq!(
        server.metric(r#"hgs_http_requests_total{listener="http",route="panic",status="500"}"#),
        2
    );
}

#[tokio::test]
async fn a_slow_header_ends_the_connection() {
    let server = TestServer::start("limits.header_time = \"50ms\"");
    assert_eq!(
        send(server.http(), "GET /hello HTTP/1.1\r\nHost: a\r\n").await,
        ""
    );
    assert_eq!(server.rejected("slow_header"), 1);
}

#[tokio::test]
async fn a_peer_that_never_speaks_is_let_go() {
    let server = TestServer::start("limits.header_time = \"50ms\"");
    assert_eq!(send(server.http(), "").await, "");
}

#[tokio::test]
async fn an_idle_connection_is_let_go_but_not_while_its_request_is_answered() {
    let mut server = TestServer::start("limits.idle_time = \"50ms\"");
    let mut client = Client::connect(server.http()).await;
    client.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.watcher.entered.recv().await.unwrap();
    // A second one shows that the time has passed.
    let mut idle = Client::connect(server.http()).await;
    idle.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    idle.response().await;
    assert_eq!(idle.rest().await, "");
    server.watcher.gate.add_permits(1);
    assert_eq!(status(&client.response().await), 200);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_slow_body_is_refused_with_408() {
    let mut server = TestServer::start("limits.body_time = \"50ms\"");
    let response = send(
        server.http(),
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
    )
    .await;
    assert_eq!(status(&response), 408);
    assert!(server.watcher.entered.try_recv().is_err());
    assert_eq!(server.rejected("slow_body"), 1);
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_answer_is_let_go() {
    let server = TestServer::start("limits.write_time = \"50ms\"");
    let mut client = Client::connect(server.http()).await;
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually(|| server.rejected("slow_reader") == 1).await;
    assert!(client.rest().await.len() < 32 << 20);
}

#[tokio::test]
async fn beyond_the_queue_requests_are_refused_with_503_and_those_taken_are_finished() {
    let mut server = TestServer::start("limits.concurrent_requests = 1\nlimits.queue = 1");
    let request = "GET /gate HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut at_work = Client::connect(server.http()).await;
    at_work.send(request).await;
    server.watcher.entered.recv().await.unwrap();
    let mut waiting = Client::connect(server.http()).await;
    waiting.send(request).await;
    eventually(|| server.metric("hgs_http_requests_in_flight{listener=\"http\"}") == 2).await;

    let mut refused = Client::connect(server.http()).await;
    refused.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let response = refused.response().await;
    assert_eq!(status(&response), 503);
    assert!(response.contains("retry-after: 1\r\n"), "{response}");
    server.watcher.gate.add_permits(2);
    assert_eq!(status(&at_work.response().await), 200);
    assert_eq!(status(&waiting.response().await), 200);
    assert_eq!(server.rejected("queue_full"), 1);
}

#[tokio::test]
async fn a_request_that_takes_too_long_gives_its_turn_back() {
    let server =
        TestServer::start("limits.concurrent_requests = 1\nlimits.request_time = \"50ms\"");
    let mut client = Client::connect(server.http()).await;
    client.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(status(&client.response().await), 503);
    client.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(status(&client.response().await), 200);
    assert_eq!(server.rejected("request_time"), 1);
}

#[tokio::test]
async fn a_request_is_finished_although_its_peer_has_gone() {
    let mut server = TestServer::start("");
    let mut client = Client::connect(server.http()).await;
    client.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.watcher.entered.recv().await.unwrap();
    drop(client);
    server.watcher.gate.add_permits(1);
    server.watcher.left.recv().await.unwrap();
}

#[tokio::test]
async fn one_address_has_only_so_many_connections() {
    let server = TestServer::start("limits.connections_per_address = 1");
    let mut first = Client::connect(server.http()).await;
    first.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    first.response().await;
    assert_eq!(
        send(server.http(), "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await,
        ""
    );
    assert_eq!(server.rejected("connections_per_address"), 1);
    first.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(status(&first.response().await), 200);
}

#[tokio::test]
async fn beyond_the_limit_connections_wait_and_none_is_kept_for_later() {
    let mut server = TestServer::start("limits.connections = 1");
    let mut first = Client::connect(server.http()).await;
    first.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.watcher.entered.recv().await.unwrap();
    let mut second = Client::connect(server.http()).await;
    second.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.watcher.gate.add_permits(1);
    assert_eq!(status(&first.rest().await), 200);
    assert_eq!(status(&second.rest().await), 200);
}

#[tokio::test]
async fn stopping_finishes_what_was_taken_and_takes_no_more() {
    let mut server = TestServer::start("");
    let address = server.http();
    let mut idle = Client::connect(address).await;
    idle.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    idle.response().await;
    let mut client = Client::connect(address).await;
    client.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n").await;
    while server.watcher.entered.recv().await.unwrap().path != "/gate" {}

    server.order_stop();
    assert_eq!(
        idle.rest().await,
        "",
        "an idle connection is closed at once"
    );
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    server.watcher.gate.add_permits(1);
    let last = client.rest().await;
    assert_eq!(status(&last), 200);
    assert!(last.ends_with("through"));
    assert!(server.stopped().await.finished);
}

#[tokio::test]
async fn stopping_waits_for_work_whose_peer_has_gone() {
    let mut server = TestServer::start("limits.drain_time = \"50ms\"");
    let mut client = Client::connect(server.http()).await;
    client.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.watcher.entered.recv().await.unwrap();
    drop(client);
    // The gate stays shut, so the wait is in vain, which shows that there was one.
    assert!(!server.stopped().await.finished);
}

#[tokio::test]
async fn stopping_ends_in_bounded_time() {
    let mut server = TestServer::start("limits.drain_time = \"50ms\"");
    let mut client = Client::connect(server.http()).await;
    client.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.watcher.entered.recv().await.unwrap();
    assert!(!server.stopped().await.finished);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn servers_in_one_process_do_not_share_anything() {
    let (one, other) = (TestServer::start(""), TestServer::start(""));
    assert_ne!(one.http(), other.http());
    send(one.http(), "GET /hello HTTP/1.0\r\n\r\n").await;
    let count = r#"hgs_http_requests_total{listener="http",route="hello",status="200"}"#;
    assert_eq!((one.metric(count), other.metric(count)), (1, 0));
}
