//! HTTP/2 by other people's clients.

use std::net::SocketAddrV4;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::backend::Backend;
use crate::setup::{Identity, NAME, Running, eventually, http2_too};

/// A proxy whose site speaks HTTP/2, and its server.
async fn running() -> (Running, Backend) {
    let identity = Identity::new(&[NAME]);
    let backend = Backend::start("a", &identity).await;
    let running = Running::start(&identity, &[backend.address], |snapshot| {
        // So that the server's connections are the requests'.
        snapshot.farms[0].tests[0].interval = Duration::from_secs(3600);
        http2_too(snapshot);
    })
    .await;
    (running, backend)
}

fn curl(address: SocketAddrV4, path: &str) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--insecure", "--http2", "--max-time", "60"]);
    curl.args(["--connect-to", &format!("::{address}"), &format!("https://{NAME}{path}")]);
    curl
}

/// What a program prints, and says beside it; it must succeed.
async fn output(mut command: Command, input: &[u8]) -> (Vec<u8>, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("a program that `cargo xtask setup` installs");
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    // A program that wants less of it has what it wants.
    let fed = tokio::spawn(async move { drop(stdin.write_all(&input).await) });
    let output = child.wait_with_output().await.unwrap();
    fed.await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    (output.stdout, errors)
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_speaks_http2_both_ways() {
    let (running, _backend) = running().await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let mut echo = curl(running.address, "/echo");
    echo.args(["--data-binary", "@-", "--write-out", "%{stderr}%{http_version} %{http_code}"]);
    let (got, told) = output(echo, &sent).await;
    assert_eq!(told, "2 200");
    assert!(got == sent, "{} bytes came back", got.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_logs_a_connection_on_is_served_over_http1() {
    let (running, _backend) = running().await;
    let mut negotiate = curl(running.address, "/who");
    negotiate.args(["--header", "Authorization: Negotiate YIIK"]);
    negotiate.args(["--write-out", "%{stderr}%{http_version} %{http_code}"]);
    let (got, told) = output(negotiate, b"").await;
    assert_eq!(told, "1.1 200");
    assert!(String::from_utf8(got).unwrap().contains("Negotiate YIIK"));
    let required = running.logged(r#""cause":"http_1_1_required""#).await;
    assert!(required.contains(r#""path":"/who""#) && required.contains(r#""status":505"#), "{required}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_a_drain_cuts_is_drained() {
    let identity = Identity::new(&[NAME]);
    let backend = Backend::start("a", &identity).await;
    let mut running = Running::start(&identity, &[backend.address], |snapshot| {
        snapshot.drain_timeout = Duration::from_millis(200);
        http2_too(snapshot);
    })
    .await;
    let mut client = curl(running.address, "/hang").stderr(Stdio::null()).spawn().unwrap();
    eventually("a stream is in flight", || running.proxy.load().requests() == 1).await;
    running.proxy.stop(true).await;
    assert!(!client.wait().await.unwrap().success());
    let line = running.logged(r#""path":"/hang""#).await;
    assert!(line.contains(r#""version":"HTTP/2""#), "{line}");
    assert!(line.contains(r#""status":503,"cause":"drained""#), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nghttp_has_a_hundred_answers_over_one_connection() {
    let (running, backend) = running().await;
    let mut nghttp = Command::new("nghttp");
    nghttp.args(["--no-verify-peer", "--null-out", "--stat", "--multiply=100"]);
    // Without a name in its greeting it meets the first site.
    nghttp.args(["--header", &format!(":authority: {NAME}"), &format!("https://{}/who", running.address)]);
    let (stat, _) = output(nghttp, b"").await;
    let stat = String::from_utf8(stat).unwrap();
    assert_eq!(
        stat.lines().filter(|line| line.contains(" 200 ") && line.ends_with("/who")).count(),
        100,
        "{stat}"
    );
    let connections = backend.state.connections.load(Ordering::SeqCst);
    assert!(connections <= 101, "{connections} for 100 streams and a health test");
}

#[tokio::test(flavor = "multi_thread")]
async fn h2load_loses_no_request() {
    let (running, _backend) = running().await;
    for (path, requests) in [("/who", 2000), ("/zeros?1000000", 40)] {
        let mut h2load = Command::new("h2load");
        h2load.args(["--clients=4", "--max-concurrent-streams=20", &format!("--requests={requests}")]);
        h2load.args([&format!("--connect-to={}", running.address), &format!("https://{NAME}{path}")]);
        let (report, _) = output(h2load, b"").await;
        let report = String::from_utf8(report).unwrap();
        assert!(report.contains("Application protocol: h2"), "{report}");
        assert!(
            report.contains(&format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout")),
            "{report}"
        );
        assert!(report.contains(&format!("status codes: {requests} 2xx")), "{report}");
    }
}
