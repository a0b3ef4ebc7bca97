//! haproxy and nginx from Debian, configured to do what ours does.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};

use super::Profile;
use super::place::{Place, on_cpu};
use crate::backend::{start_haproxy, start_nginx, wait_for_port};
use crate::lab::{CLUSTER_IP, PUBLIC_NAME, SERVERS};
use crate::sys::Process;

/// Starts haproxy in the place, on the proxies' CPU.
pub(super) fn haproxy(place: &Place, profile: Profile, port: u16) -> Result<Process> {
    let folder = place.folder();
    let text = haproxy_file(place, profile, port)?;
    let start = || start_haproxy(&place.namespace, "haproxy", &folder.join("haproxy.cfg"), &text);
    let process = on_cpu(place.cpus.proxies, start)??;
    wait_for_port(&place.namespace, CLUSTER_IP, port, &process)?;
    Ok(process)
}

/// haproxy's file. In *exchange* each line stands for something that `[exchange]` does: unasked, but for the rate, which ours is told as
/// well and which nobody reaches.
pub(super) fn haproxy_file(place: &Place, profile: Profile, port: u16) -> Result<String> {
    let folder = place.folder();
    let [(name, server), _] = SERVERS;
    let most = Place::resting() + 100;
    let mut text =
        format!("global\n  nbthread 1\n  maxconn {most}\n  ssl-default-bind-options ssl-min-ver TLSv1.2\n");
    if profile == Profile::Exchange {
        text += "  log stdout format raw local0\n";
    }
    text += "defaults\n  mode http\n  timeout connect 5s\n  timeout client 15m\n  timeout server 15m\n";
    text += "  timeout http-request 30s\n  timeout http-keep-alive 100s\n  http-reuse never\n  option dontlognull\n";
    if profile == Profile::Exchange {
        text += "  log global\n";
    }
    let protocols = if profile == Profile::Plain { "h2,http/1.1" } else { "http/1.1" };
    write!(
        text,
        "frontend web\n  bind {CLUSTER_IP}:{port} ssl crt {} alpn {protocols}\n",
        folder.join("both.pem").display()
    )?;
    if profile == Profile::Exchange {
        text += EXCHANGE_FRONTEND;
    }
    text += "  default_backend farm\nbackend farm\n  balance roundrobin\n";
    let verify = match profile {
        Profile::Plain => "verify none".to_owned(),
        Profile::Exchange => {
            text += "  option httpchk\n  http-check send meth GET uri /owa/healthcheck.htm ver HTTP/1.1 hdr Host mail.example.test\n  http-check expect status 200\n";
            let ca = place.certificates.certificate.display();
            format!(
                "verify required ca-file {ca} verifyhost {PUBLIC_NAME} check inter 5s check-sni {PUBLIC_NAME}"
            )
        }
    };
    writeln!(text, "  server {name} {server}:443 ssl sni str({PUBLIC_NAME}) alpn http/1.1 {verify}")?;
    Ok(text)
}

/// Access log; a table of rates by client; request id; what clients may not say removed; mitigations; forwarded fields; routes.
const EXCHANGE_FRONTEND: &str = r#"  unique-id-format %{+X}o\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id
  log-format "access client=%ci method=%HM host=%[var(txn.host)] path=%HPO status=%ST bytes=%B server=%s ms=%Ta request=%ID cause=%ts"
  stick-table type ipv6 size 100k expire 2m store http_req_rate(10s),conn_cur
  http-request track-sc0 src
  http-request deny deny_status 429 if { sc_http_req_rate(0) gt 100000000 }
  http-request set-var(txn.host) req.hdr(host)
  http-request deny deny_status 421 unless { req.hdr(host),field(1,:) -i mail.example.test }
  http-request set-var(txn.raw) url,lower
  http-request set-var(txn.once) var(txn.raw),url_dec
  http-request set-var(txn.twice) var(txn.once),url_dec
  http-request set-var(txn.cookie) req.hdr(cookie),lower
  http-request deny if { var(txn.cookie) -m sub x-anonresource-backend }
  http-request deny if { var(txn.cookie) -m reg x-beresource=.+/.+~.+ }
  http-request deny if { var(txn.raw) -m sub autodiscover } { var(txn.raw) -m sub powershell }
  http-request deny if { var(txn.once) -m sub autodiscover } { var(txn.once) -m sub powershell }
  http-request deny if { var(txn.twice) -m sub autodiscover } { var(txn.twice) -m sub powershell }
  http-request deny if { var(txn.twice) -m reg autodiscover\.json.*\?.*(/mapi/|/powershell) }
  http-request deny if { var(txn.raw) -m sub x-rps-cat } or { var(txn.twice) -m sub x-rps-cat }
  http-request deny if { var(txn.twice) -m reg ^[^?]*/owa/[^?]*/powershell }
  http-request redirect location /owa/ code 302 if { path / }
  http-request deny unless { path_dir -i /owa /ews /microsoft-server-activesync /autodiscover /mapi /oab }
  http-request del-header x-forwarded- -m beg
  http-request del-header x_ -m beg
  http-request del-header forwarded
  http-request del-header x-real-ip
  http-request del-header x-arr- -m beg
  http-request del-header x-original- -m beg
  http-request del-header x-rewrite-url
  http-request del-header front-end-https
  http-request del-header x-commonaccesstoken
  http-request del-header x-isfromcafe
  http-request del-header x-beresource
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto https
"#;

/// Starts nginx in the place, on the proxies' CPU.
pub(super) fn nginx(place: &Place, profile: Profile, port: u16) -> Result<Process> {
    let folder = place.folder().join("nginx");
    fs::create_dir_all(&folder).context("cannot make nginx's folder")?;
    let text = nginx_file(place, profile, port)?;
    let process =
        on_cpu(place.cpus.proxies, || start_nginx(&place.namespace, "the proxy's CPU", &folder, &text))??;
    wait_for_port(&place.namespace, CLUSTER_IP, port, &process)?;
    Ok(process)
}

/// What nginx does of it: it has no server connection of a client's own, no health tests and no mitigations.
fn nginx_file(place: &Place, profile: Profile, port: u16) -> Result<String> {
    let certificates = &place.certificates;
    let (certificate, key) = (certificates.certificate.display(), certificates.key.display());
    let [(_, server), _] = SERVERS;
    let mut text = format!(
        "upstream farm {{ server {server}:443; keepalive 20000; keepalive_requests 100000000; keepalive_timeout 600s; }}\n\
         keepalive_requests 100000000; keepalive_timeout 600s; ssl_session_cache shared:clients:10m; ssl_protocols TLSv1.2 TLSv1.3; proxy_ssl_protocols TLSv1.2 TLSv1.3;\n"
    );
    let http2 = if profile == Profile::Plain { " http2" } else { "" };
    let (mut of_server, mut of_location) = (String::new(), String::new());
    if profile == Profile::Exchange {
        write!(
            text,
            "log_format exchange '$remote_addr $request_method $host $uri $status $body_bytes_sent $upstream_addr $request_time $request_id';\nlimit_req_zone $binary_remote_addr zone=rates:10m rate=1000000r/s;\n"
        )?;
        write!(
            of_server,
            "access_log {}/access.log exchange; limit_req zone=rates burst=1000000 nodelay;",
            place.folder().join("nginx").display()
        )?;
        write!(
            of_location,
            "proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto https; proxy_set_header X-Request-Id $request_id;\nproxy_ssl_verify on; proxy_ssl_trusted_certificate {certificate};"
        )?;
    }
    write!(
        text,
        "server {{ listen {CLUSTER_IP}:{port} ssl{http2} backlog=4096; ssl_certificate {certificate}; ssl_certificate_key {key}; {of_server}\n\
         location / {{ proxy_pass https://farm; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
         proxy_buffering off; proxy_request_buffering off; proxy_ssl_server_name on; proxy_ssl_name {PUBLIC_NAME}; {of_location} }} }}\n"
    )?;
    Ok(text)
}
