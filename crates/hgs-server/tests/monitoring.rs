//! The metrics listener.

mod support;

use hgs_server::Readiness;
use support::{TestServer, send, status};

#[tokio::test]
async fn metrics_have_a_listener_of_their_own() {
    let server = TestServer::start(support::WITH_METRICS);
    send(server.http(), "GET /hello HTTP/1.0\r\n\r\n").await;
    let text = send(server.monitoring(), "GET /metrics HTTP/1.0\r\n\r\n").await;
    assert!(text.contains("content-type: text/plain; version=0.0.4"));
    assert!(
        text.contains(r#"hgs_http_requests_total{listener="http",route="hello",status="200"} 1"#)
    );
    let elsewhere = send(server.http(), "GET /metrics HTTP/1.0\r\n\r\n").await;
    assert_eq!(status(&elsewhere), 404);
}

#[tokio::test]
async fn a_server_that_can_do_its_work_is_live_and_ready() {
    let server = TestServer::start(support::WITH_METRICS);
    for path in ["/health/live", "/health/ready"] {
        let response = send(server.monitoring(), format!("GET {path} HTTP/1.0\r\n\r\n")).await;
        assert_eq!(status(&response), 200, "{path}");
    }
    let posted = send(server.monitoring(), "POST /health/live HTTP/1.0\r\n\r\n").await;
    assert_eq!(status(&posted), 405);
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_live_and_says_why() {
    for readiness in [
        Readiness::new(|| Err("the store is read-only".to_owned())),
        Readiness::new(|| panic!("the store is gone")),
        Readiness::always().and(Readiness::new(|| Err("the store is read-only".to_owned()))),
        Readiness::new(|| Err("the store is read-only".to_owned())).and(Readiness::always()),
    ] {
        let server = TestServer::start_with(support::WITH_METRICS, readiness);
        let live = send(server.monitoring(), "GET /health/live HTTP/1.0\r\n\r\n").await;
        assert_eq!(status(&live), 200);
        let ready = send(server.monitoring(), "GET /health/ready HTTP/1.0\r\n\r\n").await;
        assert_eq!(status(&ready), 503);
        assert!(ready.ends_with("the store is read-only\n") || ready.ends_with("failed itself\n"));
    }
}
