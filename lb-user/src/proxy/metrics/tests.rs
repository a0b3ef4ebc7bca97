//! What is counted is what is written, and labels are the configuration's.

use super::*;

fn metrics() -> Metrics {
    let named = |name: &str, parts: &[&str]| Named {
        name: name.to_owned(),
        parts: parts.iter().map(|part| (*part).to_owned()).collect(),
    };
    Metrics::new(Layout {
        sites: vec![named("mail.example.test", &["/owa", "/ews"]), named("www.example.test", &["/"])],
        farms: vec![named("exchange", &["192.168.50.21:443", "192.168.50.22:443"])],
        services: vec!["smtp".to_owned()],
    })
}

/// The event changes these samples, and beside the other samples of their histograms no others.
fn assert_counts(event: impl Fn(&Metrics), samples: &[&str]) {
    let metrics = metrics();
    let before = metrics.text();
    event(&metrics);
    let after = metrics.text();
    let changed: Vec<_> = before
        .lines()
        .zip(after.lines())
        .filter(|(before, after)| before != after)
        .map(|(_, after)| after.strip_prefix("rollcall_proxy_").unwrap())
        // The sum says what these say.
        .filter(|line| !line.contains("_bucket") && !line.contains("_count"))
        .collect();
    assert_eq!(changed, samples);
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_befalls_a_connection_counts_in_its_own_sample() {
    assert_counts(|metrics| metrics.connections_open(1), &["connections 1"]);
    assert_counts(Metrics::connection_accepted, &["accepted_connections_total 1"]);
    for (refused, sample) in [
        (ConnectionRefused::PerClient { limit: 1 }, "refused_connections_total{reason=\"client\"} 1"),
        (ConnectionRefused::InAll { limit: 1 }, "refused_connections_total{reason=\"all\"} 1"),
    ] {
        assert_counts(|metrics| metrics.connection_refused(refused), &[sample]);
    }
    let resumed = "handshake_seconds_sum{resumed=\"true\"} 1.000000000";
    assert_counts(|metrics| metrics.handshake(SECOND, true), &[resumed]);
    let full = "handshake_seconds_sum{resumed=\"false\"} 1.000000000";
    assert_counts(|metrics| metrics.handshake(SECOND, false), &[full]);
    for (why, reason) in [
        (HandshakeFailed::Timeout, "timeout"),
        (HandshakeFailed::ClientGone, "client_gone"),
        (HandshakeFailed::Tls, "tls"),
    ] {
        let sample = format!("failed_handshakes_total{{reason=\"{reason}\"}} 1");
        assert_counts(|metrics| metrics.handshake_failed(why), &[&sample]);
    }
    assert_counts(|metrics| metrics.requests_in_flight(2), &["requests_in_flight 2"]);
    assert_counts(|metrics| metrics.log_lost(3), &["log_lost_lines_total 3"]);
}

#[test]
fn what_befalls_a_request_counts_at_its_site_and_route() {
    let finished = Finished { status: 404, took: SECOND, received: 10, sent: 20 };
    assert_counts(
        |metrics| metrics.request(Place { of: 0, part: 1 }, finished),
        &[
            "requests_total{site=\"mail.example.test\",route=\"/ews\",code=\"4xx\"} 1",
            "request_seconds_sum{site=\"mail.example.test\",route=\"/ews\"} 1.000000000",
            "received_bytes_total{site=\"mail.example.test\",route=\"/ews\"} 10",
            "sent_bytes_total{site=\"mail.example.test\",route=\"/ews\"} 20",
        ],
    );
    for cause in Cause::ALL {
        let sample = format!("own_answers_total{{site=\"www.example.test\",cause=\"{cause}\"}} 1");
        assert_counts(|metrics| metrics.own_answer(Some(1), cause), &[&sample]);
        let sample = format!("own_answers_total{{site=\"\",cause=\"{cause}\"}} 1");
        assert_counts(|metrics| metrics.own_answer(None, cause), &[&sample]);
    }
    for (class, name) in [(Class::General, "general"), (Class::Authentication, "authentication")] {
        let sample = format!("rate_refused_total{{site=\"mail.example.test\",class=\"{name}\"}} 1");
        assert_counts(|metrics| metrics.rate_refused(0, class), &[&sample]);
    }
}

#[test]
fn what_befalls_a_logon_counts_by_verdict_and_outcome() {
    for (judged, name) in [
        (Judged::Passed, "passed"),
        (Judged::Delayed, "delayed"),
        (Judged::Refused(Refused::Pair), "refused_pair"),
        (Judged::Refused(Refused::Network), "refused_network"),
        (Judged::Crowded, "refused_crowd"),
    ] {
        let sample = format!("logons_total{{verdict=\"{name}\"}} 1");
        assert_counts(|metrics| metrics.logon_judged(judged), &[&sample]);
    }
    for (outcome, name) in
        [(Outcome::Failed, "failed"), (Outcome::Succeeded, "succeeded"), (Outcome::Unknown, "unknown")]
    {
        let sample = format!("logon_outcomes_total{{outcome=\"{name}\"}} 1");
        assert_counts(|metrics| metrics.logon_ended(outcome), &[&sample]);
    }
}

#[test]
fn what_a_server_does_counts_at_its_farm_and_server() {
    let server = Place { of: 0, part: 1 };
    let sample = |name: &str, more: &str, value: &str| {
        format!("{name}{{farm=\"exchange\",server=\"192.168.50.22:443\"{more}}} {value}")
    };
    let healthy = sample("server_healthy", "", "1");
    assert_counts(|metrics| metrics.server_healthy(server, true), &[&healthy]);
    let connect = sample("server_connect_seconds_sum", "", "1.000000000");
    assert_counts(|metrics| metrics.server_connected(server, SECOND), &[&connect]);
    let first_byte = sample("server_first_byte_seconds_sum", "", "1.000000000");
    let response = sample("server_responses_total", ",code=\"2xx\"", "1");
    let answered = |metrics: &Metrics| metrics.server_answered(server, 200, SECOND);
    assert_counts(answered, &[&first_byte, &response]);
    for cause in FAILURES {
        let failure = sample("server_failures_total", &format!(",cause=\"{cause}\""), "1");
        assert_counts(|metrics| metrics.server_failed(server, cause), &[&failure]);
    }
}

#[test]
fn a_request_that_is_over_counts_at_all_that_it_met() {
    let ended = Ended { status: 200, took: SECOND, ..Ended::default() };
    let parties = Parties { site: Some(0), route: Some(0), farm: Some(0), server: Some(0) };
    let of_route = "{site=\"mail.example.test\",route=\"/owa\"";
    let of_server = "{farm=\"exchange\",server=\"192.168.50.21:443\"";
    assert_counts(
        |metrics| {
            let first_byte = Some(SECOND);
            let connect = (Some(SECOND / 4), Some(SECOND / 4));
            metrics.ended(parties, &Ended { first_byte, connect: connect.0, greet: connect.1, ..ended });
        },
        &[
            &format!("requests_total{of_route},code=\"2xx\"}} 1"),
            &format!("request_seconds_sum{of_route}}} 1.000000000"),
            &format!("server_connect_seconds_sum{of_server}}} 0.500000000"),
            &format!("server_first_byte_seconds_sum{of_server}}} 1.000000000"),
            &format!("server_responses_total{of_server},code=\"2xx\"}} 1"),
        ],
    );
    assert_counts(
        |metrics| metrics.ended(parties, &Ended { status: 504, cause: Some(Cause::Timeout), ..ended }),
        &[
            "own_answers_total{site=\"mail.example.test\",cause=\"timeout\"} 1",
            &format!("requests_total{of_route},code=\"5xx\"}} 1"),
            &format!("request_seconds_sum{of_route}}} 1.000000000"),
            &format!("server_failures_total{of_server},cause=\"timeout\"}} 1"),
        ],
    );
    assert_counts(
        |metrics| {
            let cut = Ended { cause: Some(Cause::Drained), first_byte: Some(SECOND), ..ended };
            metrics.ended(parties, &cut);
        },
        &[
            "own_answers_total{site=\"mail.example.test\",cause=\"drained\"} 1",
            &format!("requests_total{of_route},code=\"2xx\"}} 1"),
            &format!("request_seconds_sum{of_route}}} 1.000000000"),
            &format!("server_first_byte_seconds_sum{of_server}}} 1.000000000"),
            &format!("server_responses_total{of_server},code=\"2xx\"}} 1"),
        ],
    );
    assert_counts(
        |metrics| {
            let refused = Ended { status: 421, cause: Some(Cause::UnknownHost), ..ended };
            metrics.ended(Parties::default(), &refused);
        },
        &[
            "own_answers_total{site=\"\",cause=\"unknown_host\"} 1",
            "requests_total{site=\"\",route=\"\",code=\"4xx\"} 1",
            "request_seconds_sum{site=\"\",route=\"\"} 1.000000000",
        ],
    );
}

#[test]
fn what_befalls_a_farm_or_a_tcp_service_counts_there() {
    assert_counts(|metrics| metrics.waiting(0, 2), &["farm_waiting{farm=\"exchange\"} 2"]);
    assert_counts(|metrics| metrics.retried(0), &["retries_total{farm=\"exchange\"} 1"]);
    for (cause, name) in [(None, ""), (Some(Cause::Limit), "limit")] {
        let ended = Ended { cause, took: SECOND, received: 1, sent: 2, ..Ended::default() };
        assert_counts(
            |metrics| metrics.tcp_ended("smtp", &ended),
            &[
                &format!("tcp_connections_total{{service=\"smtp\",cause=\"{name}\"}} 1"),
                "tcp_connection_seconds_sum{service=\"smtp\"} 1.000000000",
                "tcp_received_bytes_total{service=\"smtp\"} 1",
                "tcp_sent_bytes_total{service=\"smtp\"} 2",
            ],
        );
    }
}

#[test]
fn what_keeps_its_name_is_counted_on_under_another_configuration() {
    let before = metrics();
    let mut layout = (**before.layout()).clone();
    layout.sites.remove(1);
    layout.sites[0].parts.insert(0, "/new".to_owned());
    layout.farms[0].parts.swap(0, 1);
    let ended = Ended { status: 200, ..Ended::default() };
    let first = Parties { site: Some(0), route: Some(0), farm: Some(0), server: Some(0) };
    before.ended(first, &ended);
    before.server_failed(Place { of: 0, part: 0 }, Cause::ConnectFailed);
    let after = Metrics::following(layout, Some(&before));
    // What began before ends where it began, and stands where it is looked for.
    before.ended(first, &ended);
    after.ended(Parties { route: Some(1), ..first }, &ended);
    let text = after.text();
    for sample in [
        "rollcall_proxy_requests_total{site=\"mail.example.test\",route=\"/owa\",code=\"2xx\"} 3",
        "rollcall_proxy_requests_total{site=\"mail.example.test\",route=\"/new\",code=\"2xx\"} 0",
        "rollcall_proxy_server_failures_total{farm=\"exchange\",server=\"192.168.50.21:443\",cause=\"connect_failed\"} 1",
    ] {
        assert!(text.lines().any(|line| line == sample), "{sample} in {text}");
    }
    assert!(!text.contains("www.example.test"));
}

#[test]
fn what_is_not_configured_is_not_counted() {
    let metrics = metrics();
    let before = metrics.text();
    let finished = Finished { status: 200, took: Duration::ZERO, received: 1, sent: 1 };
    for place in [Place { of: 0, part: 3 }, Place { of: 2, part: 1 }, Place { of: 9, part: 9 }] {
        metrics.request(place, finished);
        metrics.server_failed(place, Cause::Timeout);
    }
    metrics.own_answer(Some(9), Cause::Timeout);
    metrics.rate_refused(9, Class::General);
    assert_eq!(metrics.text(), before);
}

#[test]
fn any_status_has_a_code() {
    for (status, wanted) in
        [(0, "1xx"), (100, "1xx"), (200, "2xx"), (302, "3xx"), (499, "4xx"), (503, "5xx"), (u16::MAX, "5xx")]
    {
        assert_eq!(CODES[code(status)], wanted, "{status}");
    }
}

#[test]
fn each_family_is_begun_once_and_each_sample_is_unique_and_of_the_family_before_it() {
    let text = metrics().text();
    let mut family = "";
    for line in text.lines() {
        if let Some(begun) = line.strip_prefix("# TYPE ") {
            family = begun.split(' ').next().unwrap();
        } else if !line.starts_with('#') {
            assert!(line.starts_with(family), "{line} in {family}");
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines() {
        let name = if line.starts_with('#') { line } else { line.rsplit_once(' ').unwrap().0 };
        assert!(seen.insert(name), "{line}");
    }
    assert!(text.ends_with("# EOF\n"));
}
