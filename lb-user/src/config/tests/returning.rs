//! Heartbeats, second paths, and how nodes begin and come back.

use super::*;

#[test]
fn a_profile_is_a_period_and_a_multiplier_and_each_can_be_overridden() {
    for (lines, period, multiplier) in [
        ("profile = \"default\"", 20, 5),
        ("profile = \"fast\"", 5, 5),
        ("profile = \"vm\"", 200, 5),
        ("profile = \"vm\"\nperiod_ms = 100", 100, 5),
        ("profile = \"fast\"\nsuspect_after = 7", 5, 7),
        ("period_ms = 1000\nsuspect_after = 100", 1000, 100),
    ] {
        let expected = Timing { period: Duration::from_millis(period), multiplier };
        assert_eq!(with(lines).unwrap().timing, expected, "{lines}");
    }
}

#[test]
fn a_suspect_time_below_60_ms_needs_a_precise_lease() {
    for (period, multiplier, precise) in [(5, 5, true), (19, 3, true), (20, 3, false), (200, 5, false)] {
        let timing = Timing { period: Duration::from_millis(period), multiplier };
        assert_eq!(timing.needs_precise_lease(), precise, "{timing:?}");
    }
}

#[test]
fn nodes_come_back_as_the_operator_wants_it() {
    let seconds = Duration::from_secs;
    for (line, expected) in [
        ("failback = \"immediate\"", Failback::Immediate),
        ("failback = \"manual\"", Failback::Manual),
        ("failback = \"10min\"", Failback::After(seconds(600))),
        ("failback = \"24h\"", Failback::After(seconds(86_400))),
        ("failback = 1", Failback::After(seconds(1))),
    ] {
        assert_eq!(with(line).unwrap().failback, expected, "{line}");
    }
    for (name, expected) in [
        ("as-before", InitialState::AsBefore),
        ("started", InitialState::Started),
        ("stopped", InitialState::Stopped),
        ("suspended", InitialState::Suspended),
    ] {
        assert_eq!(with(&format!("initial_state = \"{name}\"")).unwrap().initial_state, expected);
    }
    let cluster = with("hold_down = \"0s\"\nramp = \"1h\"").unwrap();
    assert_eq!((cluster.hold_down, cluster.ramp), (Duration::ZERO, seconds(3600)));
}

#[test]
fn all_nodes_have_a_second_path_or_none() {
    let cluster = cluster_from(&seconds_of(Some("10.0.0.6"), Some("10.1.0.7"))).unwrap();
    let paths: Vec<_> = cluster.nodes.iter().map(|node| node.second_address).collect();
    assert_eq!(paths, [Some(Ipv4Addr::new(10, 0, 0, 6)), Some(Ipv4Addr::new(10, 1, 0, 7))]);
    assert!(
        cluster_from(&seconds_of(None, None)).unwrap().nodes.iter().all(|node| node.second_address.is_none())
    );
    let error = cluster_from(&seconds_of(Some("10.0.0.6"), None)).unwrap_err().to_string();
    assert!(error.contains("node arr2 has no `second_address`, but others have one\n"), "{error}");
    assert!(error.contains("\nhint: a second path leads to every node"), "{error}");
}

#[test]
fn a_second_path_leads_through_another_network() {
    for (first, second, expected) in [
        ("10.0.0.6", "10.0.0.6", "address 10.0.0.6 belongs to arr1 already"),
        ("192.168.50.7", "10.0.0.7", "address 192.168.50.7 belongs to arr2 already"),
        ("192.168.50.8", "10.0.0.7", "node arr1's second address 192.168.50.8 is a cluster IP"),
        (
            "192.168.50.9",
            "10.0.0.7",
            "node arr1's second address 192.168.50.9 is in 192.168.50.0/24, the network",
        ),
        ("127.0.0.1", "10.0.0.7", "node arr1's second address 127.0.0.1 is not that of a host"),
        ("224.0.0.5", "10.0.0.7", "node arr1's second address 224.0.0.5 is not that of a host"),
        ("fd00::6", "10.0.0.7", "\"fd00::6\" is an IPv6 address; an IPv4 address is needed here"),
    ] {
        let error = cluster_from(&seconds_of(Some(first), Some(second))).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("\nhint: "), "{first} {second}: {error}");
    }
}

#[test]
fn a_farm_needs_as_many_servers_as_are_said_to_and_has_them() {
    let needing = |count: &str| {
        let line = format!("min_servers = {count}\nservers");
        cluster_from(&REFERENCE.replace("servers", &line)).map(|cluster| cluster.farms[0].min_servers)
    };
    assert_eq!(needing("2").unwrap(), 2);
    for count in ["0", "3"] {
        let error = needing(count).unwrap_err().to_string();
        assert!(error.contains(&format!("`min_servers` is {count}, outside 1 to 2")), "{error}");
    }
}

/// Like `WRONG` of the parent.
pub(super) const WRONG: &[(&str, &str, &str)] = &[
    (
        "mode = \"multicast\"\n",
        "mode = \"multicast\"\nprofile = \"slow\"\n",
        "4:11: `profile` cannot be \"slow\"\n  4 | profile = \"slow\"\n    |           ^^^^^^\nhint: choose \"default\" or \"fast\" or \"vm\"",
    ),
    (
        "mode = \"multicast\"\n",
        "mode = \"multicast\"\nsuspect_after = 2\n",
        "4:17: `suspect_after` is 2, outside 3 to 100\n  4 | suspect_after = 2\n    |                 ^",
    ),
    (
        "mode = \"multicast\"\n",
        "mode = \"multicast\"\nfailback = \"later\"\n",
        "4:12: wrong value: string \"later\"\n  4 | failback = \"later\"\n    |            ^^^^^^^\nhint: expected here: \"immediate\", \"manual\" or a time such as \"10min\"",
    ),
    (
        "mode = \"multicast\"\n",
        "mode = \"multicast\"\nfailback = -1\n",
        "4:12: wrong value: integer `-1`\n  4 | failback = -1\n    |            ^^\nhint: expected here: \"immediate\", \"manual\" or a time such as \"10min\"",
    ),
    (
        "mode = \"multicast\"\n",
        "mode = \"multicast\"\nfailback = \"0s\"\n",
        "4:12: `failback` is 0 s, outside 1 s to 86400 s\n  4 | failback = \"0s\"\n    |            ^^^^",
    ),
    (
        "mode = \"multicast\"\n",
        "mode = \"multicast\"\nhold_down = \"25h\"\n",
        "4:13: `hold_down` is 90000 s, outside 0 s to 86400 s\n  4 | hold_down = \"25h\"\n    |             ^^^^^",
    ),
    (
        "mode = \"multicast\"\n",
        "mode = \"multicast\"\nramp = \"2h\"\n",
        "4:8: `ramp` is 7200 s, outside 0 s to 3600 s\n  4 | ramp = \"2h\"\n    |        ^^^^",
    ),
    (
        "mode = \"multicast\"\n",
        "mode = \"multicast\"\ninitial_state = \"draining\"\n",
        "4:17: `initial_state` cannot be \"draining\"\n  4 | initial_state = \"draining\"\n    |                 ^^^^^^^^^^\nhint: choose \"as-before\" or \"started\" or \"stopped\" or \"suspended\"",
    ),
];

/// The reference with these lines in `[cluster]`.
fn with(lines: &str) -> Result<Cluster, ConfigErrors> {
    cluster_from(&REFERENCE.replace("mode = \"multicast\"\n", &format!("mode = \"multicast\"\n{lines}\n")))
}

/// The reference, whose nodes have these second addresses.
fn seconds_of(first: Option<&str>, second: Option<&str>) -> String {
    let line = |address: Option<&str>| {
        address.map_or(String::new(), |address| format!("second_address = \"{address}\"\n"))
    };
    REFERENCE
        .replace("priority = 1\n", &format!("priority = 1\n{}", line(first)))
        .replace("priority = 2\n", &format!("priority = 2\n{}", line(second)))
}
