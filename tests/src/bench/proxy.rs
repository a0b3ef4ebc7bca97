//! Requests a second and latency through a TLS reverse proxy: Rollcall's, nginx and HAProxy, on the same node, behind the same
//! router, in front of the same servers, one after the other in every round.
//!
//! All three run all the time, each on a public port of its own, and every one of them behind Rollcall's XDP program on that
//! node's interface; idle ones cost nothing.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Row, median, publish};
use crate::backend::{start_nginx, wait_for_port};
use crate::lab::Plan;
use crate::lab::{PUBLIC, PUBLIC_NAME, SERVERS};
use crate::node::Cluster;
use crate::report::Progress;
use crate::sys::{Process, find_program, output};

const NGINX_PORT: u16 = 8443;
const HAPROXY_PORT: u16 = 9443;

/// What a client does.
const CASES: [(&str, &str); 2] =
    [("small page, connections kept", ""), ("small page, a connection each", "Connection: close")];

/// Measures, prints and writes `target/bench/proxy.json`.
pub fn run(quick: bool, json: bool) -> Result<()> {
    let (rounds, seconds) = if quick { (1, 2) } else { (3, 5) };
    let progress = Progress::new();
    progress.step("raising the lab");
    let mut cluster = Cluster::raise(&plan())?;
    cluster.start_agents()?;
    cluster.converge()?;
    let nginx = nginx(&cluster)?;
    let haproxy = haproxy(&cluster)?;
    let subjects = [("rollcall", 443), ("nginx", NGINX_PORT), ("haproxy", HAPROXY_PORT)];
    let mut found: BTreeMap<(&str, &str), Vec<Found>> = BTreeMap::new();
    for round in 1..=rounds {
        for (case, header) in CASES {
            for (subject, port) in subjects {
                progress.step(format!("round {round} of {rounds}: {subject}, {case}"));
                let result =
                    wrk(&cluster, port, header, seconds).with_context(|| format!("{subject}, {case}"))?;
                found.entry((case, subject)).or_default().push(result);
            }
        }
    }
    drop(progress);
    drop((nginx, haproxy));
    let rows: Vec<_> = found.iter().flat_map(|((case, subject), found)| rows(case, subject, found)).collect();
    let left = cluster.tear_down();
    publish("proxy", &rows, json)?;
    ensure!(left.is_empty(), "the lab left behind: {}", left.join(", "));
    Ok(())
}

/// One node, whose peers of ours have public ports of their own.
fn plan() -> Plan {
    let arr1 = Ipv4Addr::new(192, 168, 50, 6);
    Plan { ports: vec![(NGINX_PORT, arr1), (HAPROXY_PORT, arr1)], xdp: "generic", ..Plan::nodes(1) }
}

/// What one run of wrk said.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Found {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

fn rows(case: &str, subject: &str, found: &[Found]) -> Vec<Row> {
    let of = |figure: fn(&Found) -> f64| median(&found.iter().map(figure).collect::<Vec<_>>());
    [
        ("requests", "1/s", of(|found| found.per_second)),
        ("latency p50", "ms", of(|found| found.p50_ms)),
        ("latency p99", "ms", of(|found| found.p99_ms)),
    ]
    .map(|(metric, unit, value)| Row {
        bench: "proxy",
        case: case.to_owned(),
        subject: subject.to_owned(),
        metric: metric.to_owned(),
        unit,
        value,
        runs: found.len(),
    })
    .to_vec()
}

fn nginx(cluster: &Cluster) -> Result<Process> {
    let folder = cluster.lab.folder().join("nginx-proxy");
    fs::create_dir_all(&folder).context("cannot make nginx's folder")?;
    let certificates = &cluster.certificates;
    let servers = SERVERS.map(|(_, address)| format!("server {address}:443; "));
    let text = format!(
        "upstream farm {{ {} keepalive 64; }}\n\
         server {{ listen {NGINX_PORT} ssl backlog=4096; ssl_certificate {}; ssl_certificate_key {};\n\
         location / {{ proxy_pass https://farm; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto https;\n\
         proxy_ssl_server_name on; proxy_ssl_name {PUBLIC_NAME}; proxy_ssl_verify on; proxy_ssl_trusted_certificate {}; }} }}\n",
        servers.concat(),
        certificates.certificate.display(),
        certificates.key.display(),
        certificates.certificate.display(),
    );
    let place = &cluster.nodes[0].place;
    let process = start_nginx(&place.namespace, "arr1, as a proxy", &folder, &text)?;
    wait_for_port(&place.namespace, place.address, NGINX_PORT, &process)?;
    Ok(process)
}

fn haproxy(cluster: &Cluster) -> Result<Process> {
    let folder = cluster.lab.folder();
    let certificate = cluster.certificates.certificate.display();
    let servers = SERVERS.map(|(name, address)| {
        format!("  server {name} {address}:443 ssl verify required ca-file {certificate} sni str({PUBLIC_NAME}) verifyhost {PUBLIC_NAME}\n")
    });
    let text = format!(
        "global\n  maxconn 2000\n  nbthread 2\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  option forwardfor\n\
         frontend web\n  bind :{HAPROXY_PORT} ssl crt {}\n  http-request set-header X-Forwarded-Proto https\n  default_backend farm\n\
         backend farm\n  balance roundrobin\n  http-reuse always\n{}",
        folder.join("both.pem").display(),
        servers.concat(),
    );
    let file = folder.join("haproxy.cfg");
    fs::write(&file, text).context("cannot write haproxy.cfg")?;
    let place = &cluster.nodes[0].place;
    let mut command = Command::new(find_program("haproxy")?);
    command.arg("-db").arg("-f").arg(&file);
    let process =
        Process::start("haproxy on arr1", &place.namespace, &mut command, &folder.join("haproxy.log"))?;
    wait_for_port(&place.namespace, place.address, HAPROXY_PORT, &process)?;
    Ok(process)
}

/// One run of wrk against a public port.
fn wrk(cluster: &Cluster, port: u16, header: &str, seconds: u32) -> Result<Found> {
    let folder = cluster.lab.folder();
    let hosts = folder.join("hosts");
    fs::write(&hosts, format!("{PUBLIC} {PUBLIC_NAME}\n")).context("cannot write a hosts file")?;
    let script = folder.join("wrk.lua");
    fs::write(&script, SCRIPT).context("cannot write wrk's script")?;
    // wrk takes the TLS name from the address it is given, so that has to be a name: with a hosts file of its own.
    let mut command = cluster.lab.client.command("unshare");
    command.args(["--mount", "sh", "-c"]);
    command.arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"").arg(&hosts);
    command.arg(find_program("wrk")?);
    command.args(["--threads", "1", "--connections", "16", "--timeout", "5s"]);
    command.arg("--duration").arg(format!("{seconds}s"));
    command.arg("--script").arg(&script);
    if !header.is_empty() {
        command.args(["--header", header]);
    }
    command.arg(format!("https://{PUBLIC_NAME}:{port}/owa/"));
    let text = output(&mut command, None)?;
    read_result(&text).with_context(|| format!("wrk said\n{text}"))
}

/// Prints `RESULT requests microseconds p50 p99 errors`.
const SCRIPT: &str = r#"
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

fn read_result(text: &str) -> Result<Found> {
    let line = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    let numbers = line.context("no result")?.split(' ').map(str::parse::<f64>);
    let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
    let [requests, micros, p50, p99, errors] = numbers[..] else {
        bail!("not five numbers");
    };
    ensure!(requests > 0.0, "no request was answered");
    ensure!(errors == 0.0, "{errors} of {requests} requests failed");
    Ok(Found { per_second: requests / micros * 1e6, p50_ms: p50 / 1000.0, p99_ms: p99 / 1000.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_with_errors_is_none() {
        let good = read_result("Running\nRESULT 1000 2000000 1500 9000 0\n").unwrap();
        assert_eq!((good.per_second, good.p50_ms, good.p99_ms), (500.0, 1.5, 9.0));
        assert!(read_result("RESULT 1000 2000000 1500 9000 1\n").is_err());
        assert!(read_result("nothing").is_err());
    }

    #[test]
    fn the_peers_answer_without_an_error() {
        let cluster = Cluster::raise(&plan()).unwrap();
        let _nginx = nginx(&cluster).unwrap();
        let _haproxy = haproxy(&cluster).unwrap();
        for (_, header) in CASES {
            for port in [NGINX_PORT, HAPROXY_PORT] {
                let found = wrk(&cluster, port, header, 1).unwrap();
                println!("port {port}, {header:?}: {found:?}");
            }
        }
    }
}
