//! What loads a proxy: wrk for requests and downloads, h2load for requests of HTTP/2, curl for one long download.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::place::Place;
use crate::lab::{CLUSTER_IP, PUBLIC_NAME};
use crate::sys::{find_program, output, with_host};

/// What one run did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Done {
    pub(super) requests: f64,
    pub(super) bytes: f64,
    pub(super) seconds: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// Runs wrk for `time` with so many connections, each one request after the other.
pub(super) fn wrk(place: &Place, port: u16, path: &str, connections: u32, time: Duration) -> Result<Done> {
    let script = place.folder().join("wrk.lua");
    fs::write(&script, SCRIPT).context("cannot write wrk's script")?;
    let mut command = with_host("wrk", &place.folder(), PUBLIC_NAME, CLUSTER_IP.into())?;
    command.args(["--threads", "1", "--timeout", "10s"]);
    command.arg("--connections").arg(connections.to_string());
    command.arg("--duration").arg(format!("{}s", time.as_secs().max(1)));
    command.arg("--script").arg(&script);
    for header in HEADERS {
        command.arg("--header").arg(header);
    }
    command.arg("--header").arg(format!("Host: {PUBLIC_NAME}"));
    command.arg(format!("https://{PUBLIC_NAME}:{port}{path}"));
    let text = place.as_client(|| output(&mut command, None))??;
    read_result(&text).with_context(|| format!("wrk said\n{text}"))
}

/// Runs h2load for `time` with so many connections, each with so many requests in flight.
pub(super) fn h2load(
    place: &Place,
    port: u16,
    path: &str,
    (connections, streams): (u32, u32),
    time: Duration,
) -> Result<Done> {
    let log = place.folder().join("h2load.log");
    // It adds to what is there.
    fs::write(&log, "").context("cannot write h2load's log")?;
    let mut command = Command::new(find_program("h2load")?);
    command.args(["--threads", "1", "--npn-list", "h2"]);
    command.arg("--clients").arg(connections.to_string());
    command.arg("--max-concurrent-streams").arg(streams.to_string());
    let seconds = time.as_secs().max(1);
    command.arg("--duration").arg(seconds.to_string());
    command.arg("--log-file").arg(&log);
    for header in HEADERS {
        command.arg("--header").arg(header);
    }
    command.arg("--header").arg(format!(":authority: {PUBLIC_NAME}"));
    command.arg(format!("--connect-to={CLUSTER_IP}:{port}"));
    command.arg(format!("https://{PUBLIC_NAME}:{port}{path}"));
    let text = place.as_client(|| output(&mut command, None))??;
    let log = fs::read_to_string(&log).context("cannot read h2load's log")?;
    read_h2load(&text, &log, seconds as f64).with_context(|| format!("h2load said\n{text}"))
}

/// Downloads `path` once; `bytes` is how long it is.
pub(super) fn download(place: &Place, port: u16, path: &str, bytes: u64) -> Result<Done> {
    let mut command = Command::new(find_program("curl")?);
    command.args(["--silent", "--show-error", "--fail", "--insecure", "--http1.1", "--output", "/dev/null"]);
    command.args(["--max-time", "120", "--write-out", "%{size_download} %{time_total}"]);
    command.arg("--resolve").arg(format!("{PUBLIC_NAME}:{port}:{CLUSTER_IP}"));
    command.arg("--header").arg(format!("Host: {PUBLIC_NAME}"));
    command.arg(format!("https://{PUBLIC_NAME}:{port}{path}"));
    let text = place.as_client(|| output(&mut command, None))??;
    let (got, seconds) = text.split_once(' ').context("curl said nothing")?;
    ensure!(got.parse() == Ok(bytes), "{got} of {bytes} bytes came");
    let seconds = seconds.parse().context("curl said no time")?;
    Ok(Done { requests: 1.0, bytes: bytes as f64, seconds, p50_ms: 0.0, p99_ms: 0.0 })
}

/// What a browser would say, too.
const HEADERS: [&str; 3] = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Cookie: ClientId=0123456789ABCDEF0123456789ABCDEF; UC=0123456789abcdef0123456789abcdef; X-OWA-CANARY=0123456789abcdef",
];

/// Prints `RESULT requests bytes microseconds p50 p99 errors`.
const SCRIPT: &str = r#"
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

fn read_result(text: &str) -> Result<Done> {
    let line = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    let numbers = line.context("no result")?.split(' ').map(str::parse::<f64>);
    let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
    let [requests, bytes, micros, p50, p99, errors] = numbers[..] else {
        bail!("not six numbers");
    };
    ensure!(requests > 0.0, "no request was answered");
    ensure!(errors == 0.0, "{errors} of {requests} requests failed");
    Ok(Done { requests, bytes, seconds: micros / 1e6, p50_ms: p50 / 1e3, p99_ms: p99 / 1e3 })
}

/// What h2load printed, and its log: a line for each request, `begin status microseconds`.
fn read_h2load(text: &str, log: &str, seconds: f64) -> Result<Done> {
    ensure!(text.contains("Application protocol: h2\n"), "it did not speak HTTP/2");
    ensure!(text.contains(" 0 failed, 0 errored, 0 timeout"), "requests failed");
    let mut micros = Vec::new();
    for line in log.lines() {
        let mut fields = line.split('\t').skip(1);
        let (status, took) = (fields.next(), fields.next());
        ensure!(status == Some("200"), "a request ended with {status:?}");
        micros.push(took.context("a request without a time")?.parse::<u64>()?);
    }
    micros.sort_unstable();
    let percentile = |percent: usize| {
        let at = (micros.len() * percent / 100).min(micros.len().saturating_sub(1));
        micros.get(at).map(|micros| *micros as f64 / 1e3).context("no request was answered")
    };
    let (p50_ms, p99_ms) = (percentile(50)?, percentile(99)?);
    Ok(Done { requests: micros.len() as f64, bytes: 0.0, seconds, p50_ms, p99_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_with_errors_is_none() {
        let good = read_result("Running\nRESULT 1000 5000 2000000 1500 9000 0\n").unwrap();
        let wanted = Done { requests: 1000.0, bytes: 5000.0, seconds: 2.0, p50_ms: 1.5, p99_ms: 9.0 };
        assert_eq!(good, wanted);
        assert!(read_result("RESULT 1000 5000 2000000 1500 9000 1\n").is_err());
        assert!(read_result("nothing").is_err());
    }

    #[test]
    fn percentiles_of_http_2_are_those_of_the_log() {
        let text = "Application protocol: h2\nrequests: 4 total, 4 done, 4 succeeded, 0 failed, 0 errored, 0 timeout\n";
        let log = "1\t200\t3000\n2\t200\t1000\n3\t200\t9000\n4\t200\t2000\n";
        let wanted = Done { requests: 4.0, bytes: 0.0, seconds: 2.0, p50_ms: 3.0, p99_ms: 9.0 };
        assert_eq!(read_h2load(text, log, 2.0).unwrap(), wanted);
        assert!(read_h2load(text, "1\t500\t3000\n", 2.0).is_err());
        assert!(read_h2load(text, "", 2.0).is_err());
        assert!(read_h2load(&text.replace("h2\n", "http/1.1\n"), log, 2.0).is_err());
        assert!(read_h2load(&text.replace("0 failed", "1 failed"), log, 2.0).is_err());
    }
}
