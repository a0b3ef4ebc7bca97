//! What a configuration means, and what a wrong one is told. Files are written to a folder of the test's own.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lb_common::table::Affinity;
use proptest::prelude::*;

use super::model::*;
use super::*;
use crate::proxy::access::LogSettings;
use crate::proxy::protect::Protection;
use crate::proxy::protect::limits::Limits;

mod checks;
mod intake;
mod publish;
mod returning;
mod roundtrip;
mod schema;
mod store;
mod tcp;

const REFERENCE: &str = r#"[cluster]
ip = "192.168.50.8/24"
mode = "multicast"

[[node]]
name = "arr1"
address = "192.168.50.6"
priority = 1

[[node]]
name = "arr2"
address = "192.168.50.7"
priority = 2

[exchange]
names = ["mail.example.test", "autodiscover.example.test"]
certificate = "/etc/rollcall/mail.pem"
key = "/etc/rollcall/mail.key"
servers = ["10.0.0.36", { name = "sbex3", address = "10.0.0.37" }]
"#;

const NODE: &str = "name = \"arr1\"\ninterface = \"eth0\"\n";

#[test]
fn the_reference_cluster_is_25_lines_and_every_default_is_exchanges() {
    assert!(REFERENCE.lines().count() <= 25);

    let cluster = cluster_from(REFERENCE).unwrap();

    assert_eq!(cluster, reference());
}

#[test]
fn a_node_file_needs_only_name_and_interface() {
    let local = local_from(NODE).unwrap();

    let expected = Local {
        name: "arr1".into(),
        interface: "eth0".into(),
        secret_file: "/etc/rollcall/cluster.secret".into(),
        key_file: "/etc/rollcall/node.key".into(),
        proxy_user: "rollcall-proxy".into(),
        peer_user: "rollcall-peer".into(),
        xdp_interface: None,
        vlans: vec![],
        run_dir: "/run/rollcall".into(),
        state_dir: "/var/lib/rollcall".into(),
        on_event: None,
        access_log: None,
        syslog: false,
        xdp: XdpChoice::Auto,
    };
    assert_eq!(local, expected);
}

#[test]
fn files_of_windows_are_read_and_their_places_are_right() {
    let windows = REFERENCE.replace('\n', "\r\n");
    let wrong = windows.replace("priority = 2", "priority = 1 # f\u{fc}r").replace("arr1", "\u{fc}");
    let utf8 = |text: &str| [b"\xef\xbb\xbf", text.as_bytes()].concat();
    let utf16 = |text: &str| -> Vec<u8> {
        [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
    };
    let read = |bytes: &[u8]| cluster(&Folder::new().write("cluster.toml", bytes));
    for encoded in [utf8, utf16] as [fn(&str) -> Vec<u8>; 2] {
        assert_eq!(read(&encoded(&windows)).unwrap(), reference());
        let errors = read(&encoded(&wrong)).unwrap_err().0;
        let places: Vec<_> = errors.iter().flat_map(|error| &error.place).collect();
        assert_eq!((places[0].line, places[0].column, places[0].width), (6, 8, 3), "{errors:?}");
        assert_eq!(places[0].text, "name = \"\u{fc}\"");
    }
}

/// Text of the reference, what it is changed to, and the first error with place and hint.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "mode =",
        "modes =",
        "3:1: unknown key `modes`\n  3 | modes = \"multicast\"\n    | ^^^^^\nhint: did you mean `mode`?",
    ),
    (
        "priority = 1",
        "priority = 1\ncolour = 1",
        "9:1: unknown key `colour`\n  9 | colour = 1\n    | ^^^^^^\nhint: known here: name, address, second_address, priority, weight, keys",
    ),
    (
        "priority = 1",
        "priority = \"1\"",
        "8:12: wrong type: string \"1\"\n  8 | priority = \"1\"\n    |            ^^^\nhint: expected here: a whole number, not negative",
    ),
    (
        "priority = 1",
        "priority = 65",
        "8:12: `priority` is 65, outside 1 to 64\n  8 | priority = 65\n    |            ^^",
    ),
    (
        "priority = 2",
        "priority = 1",
        "13:12: host priority 1 belongs to arr1 already\n  13 | priority = 1\n     |            ^\nhint: each must have its own",
    ),
    (
        "\"arr2\"",
        "\"arr1\"",
        "11:8: the name arr1 belongs to another node already\n  11 | name = \"arr1\"\n     |        ^^^^^^\nhint: each must have its own",
    ),
    (
        "\"arr2\"",
        "\"arr 2\"",
        "11:8: \"arr 2\" cannot name a node\n  11 | name = \"arr 2\"\n     |        ^^^^^^^\nhint: 1 to 63 letters, digits, `-`, `_`, `.`",
    ),
    (
        "50.7\"",
        "50.6\"",
        "12:11: address 192.168.50.6 belongs to arr1 already\n  12 | address = \"192.168.50.6\"\n     |           ^^^^^^^^^^^^^^\nhint: each must have its own",
    ),
    (
        "50.7\"",
        "51.7\"",
        "12:11: node arr2's address 192.168.51.7 is no host of 192.168.50.0/24, the network of cluster IP 192.168.50.8\n  12 | address = \"192.168.51.7\"\n     |           ^^^^^^^^^^^^^^\nhint: correct one of the two, or the prefix length",
    ),
    (
        "50.7\"",
        "50.8\"",
        "12:11: node arr2's own address 192.168.50.8 is the cluster IP\n  12 | address = \"192.168.50.8\"\n     |           ^^^^^^^^^^^^^^\nhint: each node keeps an address of its own beside it",
    ),
    (
        "50.8/24",
        "50.8",
        "2:6: cluster IP 192.168.50.8 lacks the prefix length of its network\n  2 | ip = \"192.168.50.8\"\n    |      ^^^^^^^^^^^^^^\nhint: \"192.168.50.8/24\", if the network's mask is 255.255.255.0",
    ),
    (
        "50.8/24",
        "50.255/24",
        "2:6: \"192.168.50.255/24\" is not the address of a host with a prefix length of 8 to 30, or 8 to 126 for IPv6\n  2 | ip = \"192.168.50.255/24\"\n    |      ^^^^^^^^^^^^^^^^^^^\nhint: \"192.168.50.8/24\" and \"2001:db8::8/64\" are such",
    ),
    (
        "192.168.50.8/24",
        "fd00::8/64",
        "2:6: no cluster IP is an IPv4 address: by one, nodes ask each other whether they still serve\n  2 | ip = \"fd00::8/64\"\n    |      ^^^^^^^^^^^^\nhint: add one of the nodes' network to `ips`",
    ),
    (
        "ip = \"192.168.50.8/24\"\n",
        "",
        ": the cluster has no IP address: `ip` is missing in [cluster]\nhint: ip = \"192.168.50.8/24\", with the prefix length of its network",
    ),
    (
        "mode = \"multicast\"\n",
        "",
        ": `mode` is missing in [cluster]: it says how frames reach all nodes\nhint: mode = \"multicast\", as NLB's multicast mode; the router must accept a multicast MAC",
    ),
    (
        "\"multicast\"",
        "\"steer\"",
        "3:8: mode \"steer\" is not supported yet\n  3 | mode = \"steer\"\n    |        ^^^^^^^\nhint: mode = \"multicast\", \"igmp\" or \"unicast\"",
    ),
    (
        "mode = \"multicast\"\n",
        "mode = \"multicast\"\nperiod_ms = 1\n",
        "4:13: `period_ms` is 1, outside 5 to 1000\n  4 | period_ms = 1\n    |             ^",
    ),
    (
        "mode = \"multicast\"\n",
        "mode = \"multicast\"\nunmatched = \"pass\"\n",
        "4:13: `unmatched` cannot be \"pass\"\n  4 | unmatched = \"pass\"\n    |             ^^^^^^\nhint: choose \"drop\" or \"default-host\"",
    ),
    (
        "mode = \"multicast\"\n",
        "mode = \"multicast\"\ngateway = \"10.0.0.1\"\n",
        "4:11: gateway 10.0.0.1 is not in the cluster IP's network 192.168.50.0/24\n  4 | gateway = \"10.0.0.1\"\n    |           ^^^^^^^^^^\nhint: name the router's address in the network of the nodes",
    ),
    (
        "mode = \"multicast\"\n",
        "mode = \"multicast\"\ngateway = \"router\"\n",
        "4:11: \"router\" is not an IP address\n  4 | gateway = \"router\"\n    |           ^^^^^^^^\nhint: write the router's as \"192.168.50.1\", \"fd00:50::1\" or \"fe80::1\"",
    ),
    (
        "mode = \"multicast\"\n",
        "mode = \"multicast\"\ngateway = \"fd00:50::1\"\n",
        "4:11: gateway fd00:50::1 is in no cluster IP's network\n  4 | gateway = \"fd00:50::1\"\n    |           ^^^^^^^^^^^^\nhint: name the router's address in the network of an IPv6 cluster IP, its link-local one (fe80:..), or its IPv4 address",
    ),
    (
        "mode = \"multicast\"\n",
        "mode = \"multicast\"\ndrain_timeout = \"2h\"\n",
        "4:17: `drain_timeout` is 7200 s, outside 0 s to 3600 s\n  4 | drain_timeout = \"2h\"\n    |                 ^^^^",
    ),
    (
        "mode = \"multicast\"\n",
        "mode = \"multicast\"\ndrain_timeout = \"soon\"\n",
        "4:17: wrong value: string \"soon\"\n  4 | drain_timeout = \"soon\"\n    |                 ^^^^^^\nhint: expected here: a time such as \"500ms\", \"5s\" or \"2min\", or whole seconds",
    ),
    (
        "\"mail.example.test\",",
        "\"Mail.example.test\",",
        "16:10: \"Mail.example.test\" is not a host name in lower case\n  16 | names = [\"Mail.example.test\", \"autodiscover.example.test\"]\n     |          ^^^^^^^^^^^^^^^^^^^\nhint: \"mail.example.test\"",
    ),
    (
        "\"10.0.0.36\"",
        "\"sbex1\"",
        "19:12: \"sbex1\" is not the address of a server\n  19 | servers = [\"sbex1\", { name = \"sbex3\", address = \"10.0.0.37\" }]\n     |            ^^^^^^^\nhint: \"10.0.0.36\" or \"10.0.0.36:8443\"; names of up to 63 visible characters, weights of 1 to 1000",
    ),
    (
        "\"10.0.0.36\"",
        "36",
        "19:12: wrong type: integer `36`\n  19 | servers = [36, { name = \"sbex3\", address = \"10.0.0.37\" }]\n     |            ^^\nhint: expected here: an address such as \"10.0.0.36\", or { name = \"..\", address = \"..\" }",
    ),
    (
        "key = \"/etc",
        "key = \"etc",
        "18:7: `key` is \"etc/rollcall/mail.key\", not a path from the root\n  18 | key = \"etc/rollcall/mail.key\"\n     |       ^^^^^^^^^^^^^^^^^^^^^^^\nhint: write it with a leading /",
    ),
    (
        "[exchange]",
        "[[rule]]\nports = \"440-450\"\nfiltering = \"disabled\"\n\n[exchange]",
        "21:15: the site's port 443 is in a rule with filtering = \"disabled\"\n  21 | certificate = \"/etc/rollcall/mail.pem\"\n     |               ^^^^^^^^^^^^^^^^^^^^^^^^\nhint: [[rule]] with ports = 443",
    ),
    (
        "[exchange]",
        "[[rule]]\nports = \"80-90\"\n[[rule]]\nports = 85\n[exchange]",
        "18:9: the rule for tcp 85 overlaps with that for tcp 80-90\n  18 | ports = 85\n     |         ^^\nhint: each port belongs to one rule",
    ),
    (
        "[exchange]",
        "[[rule]]\nports = 53\nprotocol = \"both\"\n[[rule]]\nports = 53\nprotocol = \"udp\"\nip = \"192.168.50.8\"\n[exchange]",
        "19:9: the rule for udp 53 at 192.168.50.8 overlaps with that for tcp+udp 53\n  19 | ports = 53\n     |         ^^\nhint: each port belongs to one rule",
    ),
    (
        "[exchange]",
        "[[rule]]\nports = 53\nip = \"192.168.50.9\"\n[exchange]",
        "17:6: \"192.168.50.9\" is no cluster IP\n  17 | ip = \"192.168.50.9\"\n     |      ^^^^^^^^^^^^^^\nhint: one of 192.168.50.8; without `ip` the rule is for all",
    ),
    (
        "[exchange]",
        "[[rule]]\nports = 53\nweights = { arr1 = 70, arr3 = 30 }\n[exchange]",
        "17:31: `weights` names \"arr3\", which is no node\n  17 | weights = { arr1 = 70, arr3 = 30 }\n     |                               ^^\nhint: its nodes: arr1, arr2",
    ),
    (
        "[exchange]",
        "[[rule]]\nports = 53\nweights = { arr1 = 101 }\n[exchange]",
        "17:20: `weights` is 101, outside 0 to 100\n  17 | weights = { arr1 = 101 }\n     |                    ^^^",
    ),
    (
        "[exchange]",
        "[[rule]]\nports = 53\nfiltering = \"single\"\nhandling_priorities = { arr1 = 2 }\n[exchange]",
        "18:23: handling priority 2 is that of arr1 and of arr2\n  18 | handling_priorities = { arr1 = 2 }\n     |                       ^^^^^^^^^^^^\nhint: give each node its own; one that is not named has its host priority",
    ),
    (
        "[exchange]",
        "[[rule]]\nports = 53\nhandling_priorities = { arr1 = 7 }\n[exchange]",
        "17:23: `handling_priorities` mean something only with filtering = \"single\"\n  17 | handling_priorities = { arr1 = 7 }\n     |                       ^^^^^^^^^^^^\nhint: remove them",
    ),
    (
        "[exchange]",
        "[[rule]]\nports = 53\nstickiness_timeout = \"20min\"\n[exchange]",
        "17:22: clients stay with a node only with filtering = \"multiple\" and affinity = \"single\" or \"network\"\n  17 | stickiness_timeout = \"20min\"\n     |                      ^^^^^^^\nhint: remove `stickiness_timeout`, or change the other",
    ),
    (
        "[exchange]",
        "[[rule]]\nports = 53\naffinity = \"single\"\nstickiness_timeout = \"20min\"\nmax_hold = \"5min\"\n[exchange]",
        "19:12: `max_hold` is 300 s, outside 1200 s to 604800 s\n  19 | max_hold = \"5min\"\n     |            ^^^^^^",
    ),
    (
        "[exchange]",
        "[[rule]]\nports = 53\nprefix_v4 = 33\n[exchange]",
        "17:13: `prefix_v4` is 33, outside 8 to 32\n  17 | prefix_v4 = 33\n     |             ^^",
    ),
    (
        "[exchange]",
        "[[rule]]\nports = 0\n[exchange]",
        "16:9: wrong value: integer `0`\n  16 | ports = 0\n     |         ^\nhint: expected here: a port from 1 to 65535, or a range such as \"8000-8099\"",
    ),
];

#[test]
fn a_wrong_value_is_told_with_its_place_and_the_cure() {
    for (from, to, expected) in WRONG.iter().chain(returning::WRONG).chain(checks::WRONG) {
        assert!(REFERENCE.contains(from), "{from}");
        let text = REFERENCE.replacen(from, to, 1);
        let path = Path::new("FILE");
        let error = match cluster_from(&text) {
            Ok(_) => panic!("accepted: {to}"),
            Err(errors) => errors.0[0].clone(),
        };
        let error = ConfigError { path: path.to_owned(), ..error }.to_string();
        let expected =
            if expected.starts_with(':') { format!("FILE{expected}") } else { format!("FILE:{expected}") };
        assert_eq!(error, expected, "\n--- got ---\n{error}\n--- expected ---\n{expected}\n");
    }
}

#[test]
fn everything_wrong_is_told_at_once() {
    let text = REFERENCE
        .replace("priority = 2", "priority = 1")
        .replace("\"multicast\"", "\"broadcast\"")
        .replace("10.0.0.36", "10.0.0.360");
    assert_eq!(cluster_from(&text).unwrap_err().0.len(), 3);
}

#[test]
fn a_missing_node_file_is_told_with_the_lines_to_write() {
    let folder = Folder::new();
    let path = folder.write("cluster.toml", REFERENCE.as_bytes());
    let error = load(&path, None).unwrap_err().to_string();
    for part in [
        "node.toml: cannot be read",
        "name = \"arr1\" ",
        "arr1 or arr2",
        "interface = \"eth0\"",
        "192.168.50.0/24",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_node_file_names_a_node_of_the_cluster() {
    let error = local_from("name = \"arr3\"\ninterface = \"eth0\"\n").unwrap_err().to_string();
    assert!(error.contains("1:8: the cluster has no node named \"arr3\""), "{error}");
    assert!(error.ends_with("hint: its nodes: arr1, arr2"), "{error}");
}

#[test]
fn the_proxy_does_not_run_as_root() {
    let error = local_from(&format!("{NODE}proxy_user = \"root\"\n")).unwrap_err().to_string();
    assert!(error.contains("the proxy cannot run as root"), "{error}");
}

#[test]
fn a_tool_needs_no_node_file() {
    let folder = Folder::new();
    let path = folder.write("cluster.toml", REFERENCE.as_bytes());
    assert_eq!(load_for(&path, None).unwrap().me().name, "arr1");
    assert_eq!(load_for(&path, Some("arr2")).unwrap().me().name, "arr2");
    assert!(load_for(&path, Some("arr3")).is_err());
}

#[test]
fn port_rules_say_for_what_they_are_and_how_they_spread() {
    let more = r#"
[[rule]]
ports = 53
protocol = "both"
ip = "fd00:50::8"
filtering = "single"
handling_priorities = { arr1 = 9 }
[[rule]]
ports = "8000-8099"
affinity = "network"
prefix_v4 = 20
weights = { arr2 = 0 }
stickiness_timeout = "20min"
local = false
"#;
    let ips = "ips = [\"192.168.50.8/24\", \"fd00:50::8/64\"]";
    let text = format!("{REFERENCE}{more}").replace("ip = \"192.168.50.8/24\"", ips);
    let cluster = cluster_from(&text).unwrap();
    let [arr1, arr2] = [1, 2].map(|number| Priority::new(number).unwrap());
    let dns = &cluster.rules[0];
    assert_eq!(dns.to_string(), "tcp+udp 53 at fd00:50::8");
    assert_eq!(dns.spread.handling_priorities, [(arr1, 9)].into());
    let web = &cluster.rules[3];
    assert_eq!(web.affinity, Affinity::Network { v4: 20, v6: 64 });
    assert_eq!((web.local, &web.spread.weights), (false, &[(arr2, 0)].into()));
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let stays = Stickiness { timeout: minutes(20), max_hold: minutes(12 * 60) };
    assert_eq!(web.spread.stickiness, Some(stays));
    let listens: Vec<String> = cluster.sites[0].listen.iter().map(ToString::to_string).collect();
    assert_eq!(listens, ["192.168.50.8:443", "[fd00:50::8]:443"]);
}

#[test]
fn there_are_as_many_rules_and_ways_to_spread_as_the_data_path_has_room_for() {
    let rule =
        |port: usize, weight: usize| format!("\n[[rule]]\nports = {port}\nweights = {{ arr1 = {weight} }}\n");
    let with = |count: usize, weights: usize| {
        let rules: String = (0..count).map(|number| rule(1000 + number, number % weights)).collect();
        cluster_from(&format!("{REFERENCE}{rules}")).map_err(|errors| errors.to_string())
    };
    // Rule 0, the default host's table and what [exchange] brings have their places too.
    assert_eq!(with(125, 30).unwrap().rules.len(), 127);
    assert!(with(126, 30).unwrap_err().contains("more than 127 port rules"));
    assert!(
        with(40, 31).unwrap_err().contains("spread or checked in 33 different ways; there is room for 32")
    );
}

#[test]
fn a_vlan_needs_the_interface_on_which_its_frames_come() {
    let tagged = |lines: &str| local_from(&format!("{NODE}{lines}\n")).map_err(|errors| errors.to_string());
    let local = tagged("xdp_interface = \"eth1\"\nvlans = [100, 7]").unwrap();
    assert_eq!((local.xdp_interface.as_deref(), local.vlans), (Some("eth1"), vec![100, 7]));
    for lines in ["vlans = [100]", "xdp_interface = \"eth1\"\nvlans = [1, 2, 3]"] {
        assert!(tagged(lines).unwrap_err().contains("names one or two tags"), "{lines}");
    }
    assert!(tagged("xdp_interface = \"eth1\"\nvlans = [4095]").unwrap_err().contains("outside 1 to 4094"));
}

#[test]
fn a_key_belongs_to_its_certificate_and_the_certificate_to_its_names() {
    let folder = Folder::new();
    let [mine, other] =
        [(); 2].map(|()| rcgen::generate_simple_self_signed(["mail.example.test".to_owned()]).unwrap());
    let pem = folder.write("mail.pem", mine.cert.pem().as_bytes());
    let key = folder.write("mail.key", mine.signing_key.serialize_pem().as_bytes());
    let foreign = folder.write("other.key", other.signing_key.serialize_pem().as_bytes());

    let good = load(&folder.config(&pem, &key), None).unwrap();
    let warnings = warnings(&good);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("is not for autodiscover.example.test"), "{warnings:?}");

    for (pem, key, expected) in [
        (&pem, &foreign, "mail.pem: the private key belongs to none of the certificates"),
        (&key, &key, "mail.key: no certificate found"),
        (&pem, &pem, "mail.pem: no private key found"),
        (&pem, &folder.0.join("none"), "none: cannot be read: No such file or directory"),
    ] {
        let error = load(&folder.config(pem, key), None).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("\nhint: "), "{error}");
    }
}

#[test]
fn an_expired_certificate_is_a_warning() {
    let folder = Folder::new();
    let names = ["mail.example.test".to_owned(), "autodiscover.example.test".to_owned()];
    let mut parameters = rcgen::CertificateParams::new(names).unwrap();
    parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = folder.write("mail.pem", parameters.self_signed(&key).unwrap().pem().as_bytes());
    let key = folder.write("mail.key", key.serialize_pem().as_bytes());

    let warnings = warnings(&load(&folder.config(&pem, &key), None).unwrap());

    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].ends_with("has expired: clients will warn or refuse"), "{warnings:?}");
}

#[test]
fn an_ocsp_response_that_expires_within_a_day_is_a_warning() {
    let testdata = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tls").join(name);
    let response = std::fs::read(testdata("good.ocsp")).unwrap();
    // nextUpdate [0] EXPLICIT GeneralizedTime.
    let mark = b"\xa0\x11\x18\x0f";
    let at = response.windows(4).position(|bytes| bytes == mark).unwrap() + mark.len();
    let now = crate::wall::WallTime::now().unix_ms();
    for (hours, says) in [(-1, Some("expired at")), (12, Some("expires at")), (25, None)] {
        let end = crate::wall::WallTime::from_unix_ms(now.saturating_add_signed(hours * 3_600_000));
        let [year, month, day, hour, minute, second] = end.utc();
        let mut response = response.clone();
        let text = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
        response[at..at + text.len()].copy_from_slice(text.as_bytes());
        let folder = Folder::new();
        let path = folder.write("mail.ocsp", &response);
        let file = folder.config(&testdata("site.crt"), &testdata("site.pkcs8.key"));
        let key = format!("key = \"{}\"\n", testdata("site.pkcs8.key").display());
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replacen(&key, &format!("{key}ocsp = \"{}\"\n", path.display()), 1))
            .unwrap();

        let warnings = warnings(&load(&file, None).unwrap());

        let told = warnings.iter().find(|warning| warning.contains("OCSP"));
        assert_eq!(told.is_some(), says.is_some(), "{warnings:?}");
        if let (Some(told), Some(says)) = (told, says) {
            let end = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000Z");
            let wanted = format!("the OCSP response {} {says} {end} and is not stapled", path.display());
            assert!(told.starts_with(&wanted) && told.contains("ask the responder"), "{told}");
        }
    }
}

#[test]
fn a_file_cannot_steer_the_terminal() {
    let error = cluster_from("[cluster]\n\"a\u{1b}[2J\" = 1\n").unwrap_err().to_string();
    assert!(error.chars().all(|c| c == '\n' || !c.is_control()), "{error:?}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_told_apart_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(text) = encoding::decode(&bytes) {
            let _ = cluster_text(&text).map_err(|errors| errors.to_string());
        }
    }

    #[test]
    fn a_damaged_file_is_told_apart_without_panic(at in 0..REFERENCE.len(), with in "\\PC{0,3}|[\\[\\]\"=\n0-9]{0,4}", len in 0..20_usize) {
        let end = (at + len).min(REFERENCE.len());
        let text = format!("{}{with}{}", &REFERENCE[..at], &REFERENCE[end..]);
        let _ = cluster_text(&text).map_err(|errors| errors.to_string());
    }
}

fn rule(port: u16) -> PortRule {
    PortRule {
        ip: None,
        protocol: Protocol::Tcp,
        first_port: port,
        last_port: port,
        affinity: Affinity::None,
        local: true,
        spread: Spread::plain(Filtering::Multiple),
        check: None,
    }
}

fn reference() -> Cluster {
    let node = |name: &str, priority, last| Node {
        name: name.into(),
        priority: Priority::new(priority).unwrap(),
        address: Ipv4Addr::new(192, 168, 50, last),
        second_address: None,
        weight: 50,
        keys: None,
    };
    let server = |name: &str, last| Server {
        name: name.into(),
        address: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), 443),
        share: Share::default(),
    };
    let vip = Ipv4Addr::new(192, 168, 50, 8);
    Cluster {
        cluster_ips: vec![ClusterIp { address: vip.into(), prefix: 24 }],
        mode: Mode::Multicast,
        nodes: vec![node("arr1", 1, 6), node("arr2", 2, 7)],
        rules: vec![rule(80), rule(443)],
        unmatched: Unmatched::Drop,
        timing: Timing { period: Duration::from_millis(20), multiplier: 5 },
        gateway: None,
        observe: false,
        store: None,
        sites: vec![Site {
            names: vec!["mail.example.test".into(), "autodiscover.example.test".into()],
            listen: vec![SocketAddr::new(vip.into(), 443)],
            certificate: "/etc/rollcall/mail.pem".into(),
            key: "/etc/rollcall/mail.key".into(),
            tls: SiteTls::default(),
            redirect: vec![SocketAddr::new(vip.into(), 80)],
            service: exchange_profile(""),
        }],
        farms: vec![Farm {
            name: "exchange".into(),
            servers: vec![server("10.0.0.36", 36), server("sbex3", 37)],
            balance: Balance::default(),
            min_servers: 1,
            verify: Verify::SameCertificate,
            tests: exchange_tests(),
            connect_timeout: Duration::from_secs(5),
            reuse: Reuse::Own,
        }],
        limits: Limits::default(),
        log: LogSettings::default(),
        protection: Protection::default(),
        trusted_proxies: Vec::new(),
        tcp: Vec::new(),
        drain_timeout: Duration::from_secs(300),
        failback: Failback::Immediate,
        hold_down: Duration::from_secs(300),
        ramp: Duration::ZERO,
        initial_state: InitialState::AsBefore,
    }
}

/// The tests of the reference: OWA's for all routes that have none of their own, and one for each other directory.
fn exchange_tests() -> Vec<HealthTest> {
    let own = HealthTest::plain("mail.example.test");
    let directory = |(name, path): (&str, &str)| HealthTest {
        name: name.to_owned(),
        path: format!("/{path}/healthcheck.htm"),
        ..own.clone()
    };
    let directories = [
        ("activesync", "microsoft-server-activesync"),
        ("autodiscover", "autodiscover"),
        ("ews", "ews"),
        ("mapi", "mapi"),
        ("oab", "oab"),
    ];
    std::iter::once(own.clone()).chain(directories.map(directory)).collect()
}

/// What the site of an `[exchange]` with these lines more does.
pub(crate) fn exchange_profile(lines: &str) -> Service {
    let text = REFERENCE.replace("[exchange]", &format!("[exchange]\n{lines}"));
    cluster_text(&text).unwrap_or_else(|errors| panic!("{errors}")).sites.remove(0).service
}

/// What a site of two names does that has these lines, beside a farm `web`.
pub(crate) fn site_service(lines: &str) -> Result<Service, ConfigErrors> {
    site_cluster(lines).map(|mut cluster| cluster.sites.remove(1).service)
}

/// The reference cluster, with that site.
fn site_cluster(lines: &str) -> Result<Cluster, ConfigErrors> {
    site_cluster_of("\"www.example.test\", \"shop.example.test\"", lines)
}

/// Likewise, with these names.
fn site_cluster_of(names: &str, lines: &str) -> Result<Cluster, ConfigErrors> {
    let text = format!(
        "{REFERENCE}[[farm]]\nname = \"web\"\nservers = [\"10.0.0.40\"]\nverify = \"none\"\n[[rule]]\nports = 8443\n\
         [[site]]\nnames = [{names}]\ncertificate = \"/w.pem\"\nport = 8443\n\
         farm = \"web\"\n{lines}"
    );
    cluster_text(&text)
}

fn cluster_text(text: &str) -> Result<Cluster, ConfigErrors> {
    let source = Source { path: Path::new("cluster.toml"), text };
    let raw = parse::parse::<raw::ClusterFile>(text).map_err(|problems| source.errors(problems))?;
    check::cluster(&raw).map_err(|problems| source.errors(problems))
}

fn cluster_from(text: &str) -> Result<Cluster, ConfigErrors> {
    let folder = Folder::new();
    cluster(&folder.write("cluster.toml", text.as_bytes()))
}

fn local_from(text: &str) -> Result<Local, ConfigErrors> {
    let folder = Folder::new();
    local(&folder.write("node.toml", text.as_bytes()), &reference())
}

/// A folder of the test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rollcall-config-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The reference with these files, and a node file beside it.
    fn config(&self, certificate: &Path, key: &Path) -> PathBuf {
        self.write("node.toml", NODE.as_bytes());
        let text = REFERENCE
            .replace("/etc/rollcall/mail.pem", &certificate.to_string_lossy())
            .replace("/etc/rollcall/mail.key", &key.to_string_lossy());
        self.write("cluster.toml", text.as_bytes())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
