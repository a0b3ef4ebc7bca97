//! What a configuration means can be written out, and what was written out means the same.

use proptest::prelude::*;

use super::*;

/// For each key, one of its lines or none.
fn some(keys: &'static [&'static [&'static str]]) -> impl Strategy<Value = String> {
    let line =
        |lines: &&'static [&'static str]| proptest::option::of(proptest::sample::select(lines.to_vec()));
    let lines: Vec<_> = keys.iter().map(line).collect();
    lines.prop_map(|lines| lines.into_iter().flatten().map(|line| format!("{line}\n")).collect())
}

const CLUSTER: &[&[&str]] = &[
    &["profile = \"fast\"", "profile = \"vm\""],
    &["period_ms = 7", "period_ms = 1000"],
    &["suspect_after = 3", "suspect_after = 100"],
    &["gateway = \"192.168.50.1\"", "gateway = \"fe80::1\""],
    &["observe = true"],
    &["unmatched = \"default-host\""],
    &["drain_timeout = \"1500ms\"", "drain_timeout = 0", "drain_timeout = \"1h\""],
    &["failback = \"manual\"", "failback = \"90s\"", "failback = 86400"],
    &["hold_down = \"0s\"", "hold_down = \"1d\""],
    &["ramp = \"61s\""],
    &["initial_state = \"started\"", "initial_state = \"stopped\"", "initial_state = \"suspended\""],
];

const RULES: &[&[&str]] = &[
    &[
        "[[rule]]\nports = 53\nprotocol = \"both\"\nip = \"fd00:50::8\"\nfiltering = \"single\"\nhandling_priorities = { \"arr.2\" = 60 }",
    ],
    &[
        "[[rule]]\nports = \"8000-8099\"\naffinity = \"network\"\nprefix_v4 = 20\nprefix_v6 = 48\nweights = { arr1 = 0, \"arr.2\" = 7 }\nstickiness_timeout = \"20min\"\nmax_hold = \"1d\"\nlocal = false",
    ],
    &[
        "[[rule]]\nports = 123\nprotocol = \"udp\"\ncheck = { command = \"/bin/ok  a \\\"b\", interval = \"100ms\" }",
    ],
    &[
        "[[rule]]\nports = 8181\nfiltering = \"disabled\"",
        "[[rule]]\nports = 8181\naffinity = \"single\"\ncheck = { tcp = true, failures = 1 }",
    ],
    &[
        "[[rule]]\nports = 9090\ncheck = { http = \"/up\", port = 80, address = \"127.0.0.1\", body = \"o\\nk\", status = 204 }",
        "[[rule]]\nports = 9090\ncheck = { http = \"/\", host = \"a.example.test\" }",
    ],
];

const SHARED: &[&[&str]] = &[
    &[
        "[limits]\nhead_size = \"32KiB\"\nhead = 7\nconnections = 1000\nbody_wait = \"61s\"",
        "[limits]\nidle = \"1h\"\ntarget_size = 1025\nconnections_per_client = 1",
    ],
    &[
        "[config]\nstore = \"etcd\"\nendpoints = [\"http://127.0.0.1:2379\"]",
        "[config]\nstore = \"etcd\"\nendpoints = [\"https://10.0.0.1:2379\", \"https://10.0.0.2:1/\"]\nprefix = \"/a\\\"b/\"\nca = \"/ca.pem\"\ncertificate = \"/c.pem\"\nkey = \"/k.pem\"\nuser = \"r \\\"x\"\npassword_file = \"/p\"",
    ],
    &["[log]\nformat = \"w3c\"\nquery = \"off\""],
    &[
        "[protection]\nrate = { requests = 9, per = \"1min\" }\nclient_prefix_v4 = 24\n[protection.logons]\nenabled = true\nspray_share = 75",
    ],
    &[
        "[[trusted_proxy]]\nnetworks = [\"192.0.2.0/24\"]\nclient_address = \"forwarded\"\none_client_per_connection = true",
    ],
];

const EXCHANGE: &[&[&str]] = &[
    &["ecp = \"open\"", "ecp = [\"10.0.0.0/8\", \"2001:db8::/32\"]"],
    &["rpc = true"],
    &["api = true"],
    &["redirect_http = false"],
    &["verify = \"none\"", "ca = \"/ca.pem\""],
    &["min_servers = 2"],
    &["hsts = \"365d\""],
    &["response_timeout = \"2h\""],
    &["rate = { requests = 5, per = \"1s\", burst = 7 }"],
    &[
        "maintenance = { text = \"sp\\u00e4ter \\\"x\\\"\\n\", retry_after = \"90s\", allow = [\"10.0.0.0/8\"] }",
    ],
    &[
        "health = { interval = \"7s\", host = \"up.example.test\" }",
        "health = { path = \"/up\", status = \"200-399,401\", body = \"\", live_failures = 0 }",
    ],
    &[
        "balance = { algorithm = \"least-requests\", slow_start = \"1min\", panic_threshold = 1 }",
        "balance = { hash_query = [\"a\", \"b\"], affinity_cookie = \"A\" }",
    ],
    &[
        "client_certificates = { ca = \"/c.pem\" }",
        "client_certificates = { ca = \"/c.pem\", mode = \"optional\" }",
    ],
    &["mitigations_off = []"],
    &["route = { owa = { body_limit = \"3MiB\", total_timeout = \"1h\" } }"],
    &["request_headers = { set = { X-A = \"{REMOTE_ADDR}\" }, remove = [\"X-B\"] }"],
];

const SITE: &[&[&str]] = &[
    &["protocols = [\"http/1.1\"]"],
    &["redirect_http = true\nacme = \"10.0.0.5\""],
    &["allow = [\"10.0.0.0/8\"]\ndeny = [\"10.1.0.0/16\"]"],
    &["rewrite_location = true"],
    &["mitigations = true"],
    &["maps.colours = { default = \"x\", entries = { \"a b\" = \"\\\\1\" } }"],
    &[
        "rewrite = [{ name = \"one\", match = \"^a/(.*)$\", rewrite = \"b/{R:1}\", conditions = [{ input = \"{HTTP_HOST}\", match = \"x\", negate = true }] }, { name = \"two\", match = \"*\", syntax = \"wildcard\", redirect = \"https://b.example.test/\", status = 301, stop = true }]",
    ],
    &[
        "route = [{ path = \"/a\", farm = \"web\", methods = [\"GET\"], idle_timeout = \"90s\" }, { exact = \"/b\", respond = \"<é>\\n\", status = 203 }, { path = \"/c\", refuse = \"why\" }, { path = \"/d\", redirect = \"/e\", status = 308, ignore_case = true }]",
    ],
];

const TCP: &[&[&str]] = &[
    &[
        "servers = [\"10.0.0.36\", { name = \"edge-2\", address = \"10.0.0.37:2525\", weight = 3, state = \"drain\", backup = true, connections = 4 }]",
    ],
    &["client_address = \"proxy-protocol-v1\""],
    &["idle_timeout = \"11min\""],
    &["max_connections = 1\nmax_connections_per_client = 2"],
    &["allow = [\"10.0.0.0/8\"]"],
];

/// Cluster files that are sound.
fn clusters() -> impl Strategy<Value = String> {
    let services = (any::<bool>(), some(EXCHANGE), some(SITE), some(TCP));
    (some(CLUSTER), some(RULES), some(SHARED), services).prop_map(|(cluster, rules, shared, services)| {
        let (exchange, profile, site, tcp) = services;
        let exchange = if exchange {
            format!("[exchange]\nnames = [\"mail.example.test\", \"*.example.test\"]\ncertificate = \"/m.pem\"\nservers = [\"10.0.0.36\", \"10.0.0.37:444\"]\n{profile}")
        } else {
            String::new()
        };
        let servers = if tcp.contains("servers") { "" } else { "sni = { \"imap.example.test\" = [\"10.0.0.36\"] }\n" };
        format!(
            "[cluster]\nips = [\"192.168.50.8/24\", \"fd00:50::8/64\"]\nmode = \"igmp\"\n{cluster}\
             [[node]]\nname = \"arr.2\"\naddress = \"192.168.50.7\"\npriority = 9\nweight = 0\nsecond_address = \"10.1.0.7\"\n\
             [[node]]\nname = \"arr1\"\naddress = \"192.168.50.6\"\npriority = 3\nsecond_address = \"10.1.0.6\"\n\
             [[rule]]\nports = [80]\n[[rule]]\nports = 8443\n[[rule]]\nports = 2525\n{rules}{shared}{exchange}\
             [[farm]]\nname = \"web\"\nservers = [\"10.0.0.40\"]\ntls = false\n\
             [[site]]\nnames = [\"www.example.org\"]\ncertificate = \"/w.pfx\"\npassword_file = \"/w \\\"p\\\"\"\nport = 8443\nfarm = \"web\"\n{site}\
             [[tcp]]\nname = \"smtp\"\nport = 2525\n{servers}{tcp}"
        )
        .replace("ports = [80]", "ports = 80")
    })
}

proptest! {
    #[test]
    fn what_is_written_out_is_read_as_the_same(text in clusters()) {
        let meant = cluster_text(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));

        let written = expanded(&meant);

        let again = cluster_text(&written).unwrap_or_else(|errors| panic!("{errors}\n{written}"));
        prop_assert_eq!(&again, &meant, "{}", written);
        prop_assert_eq!(expanded(&again), written);
    }

    #[test]
    fn lengths_of_time_are_written_as_they_are_read(millis in 0..10_u64.pow(12)) {
        let time = raw::Time(Duration::from_millis(millis));
        prop_assert_eq!(raw::Time::parse(&time.to_string()), Some(time));
    }
}
