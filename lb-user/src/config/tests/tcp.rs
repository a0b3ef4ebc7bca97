//! TCP services.

use std::collections::BTreeMap;

use super::*;

/// The reference with a rule for each of these ports, and these lines.
fn with(ports: &[u16], lines: &str) -> Result<Cluster, ConfigErrors> {
    let rules: String = ports.iter().map(|port| format!("[[rule]]\nports = {port}\n")).collect();
    cluster_text(&format!("{REFERENCE}{rules}{lines}"))
}

#[test]
fn a_service_listens_on_every_cluster_ip_and_its_servers_have_its_port() {
    let lines = r#"[[tcp]]
name = "imap"
port = 993
servers = ["10.0.0.36", { name = "old", address = "10.0.0.37:1993" }]
"#;
    let service = with(&[993], lines).unwrap_or_else(|errors| panic!("{errors}")).tcp.remove(0);
    let server = |name: &str, address: &str| Server {
        name: name.into(),
        address: address.parse().unwrap(),
        share: Share::default(),
    };
    let expected = TcpService {
        name: "imap".into(),
        listen: vec!["192.168.50.8:993".parse().unwrap()],
        servers: vec![server("10.0.0.36", "10.0.0.36:993"), server("old", "10.0.0.37:1993")],
        sni: BTreeMap::new(),
        client_address: ClientAddress::Hidden,
        idle_timeout: Duration::from_secs(1800),
        connect_timeout: Duration::from_secs(5),
        max_connections: 10_000,
        max_connections_per_client: 5000,
        allow: vec![],
        deny: vec![],
        health: TcpHealth {
            banner: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(3),
            failures: 2,
        },
    };
    assert_eq!(service, expected);
}

#[test]
fn mail_is_silent_for_ten_minutes_and_others_for_half_an_hour() {
    for (port, seconds) in [(25, 600), (587, 600), (993, 1800), (995, 1800)] {
        let lines = format!(
            "[[tcp]]\nname = \"a\"\nport = {port}\nservers = [\"10.0.0.36\"]\nclient_address = \"hidden\""
        );
        let cluster = with(&[port], &lines).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(cluster.tcp[0].idle_timeout.as_secs(), seconds, "{port}");
    }
}

#[test]
fn where_mail_comes_in_somebody_has_decided_what_servers_learn_of_the_sender() {
    for (port, server, decided) in [
        (25, "10.0.0.36", None),
        (2525, "10.0.0.36:25", None),
        (25, "10.0.0.36:2525", None),
        (587, "10.0.0.36", Some(ClientAddress::Hidden)),
    ] {
        let lines = format!("[[tcp]]\nname = \"mail\"\nport = {port}\nservers = [\"{server}\"]\n");
        let told = with(&[port], &lines).map(|cluster| cluster.tcp[0].client_address);
        match (told, decided) {
            (Ok(told), Some(decided)) => assert_eq!(told, decided),
            (Err(errors), None) => {
                let text = errors.to_string();
                for part in ["`client_address` is missing", "open relay", "SPF", "Exchange does not"] {
                    assert!(text.contains(part), "{part}: {text}");
                }
            }
            (told, _) => panic!("{port} {server}: {told:?}"),
        }
        for (written, chosen) in [
            ("hidden", ClientAddress::Hidden),
            ("proxy-protocol", ClientAddress::Header(HeaderVersion::V2)),
            ("proxy-protocol-v1", ClientAddress::Header(HeaderVersion::V1)),
        ] {
            let cluster = with(&[port], &format!("{lines}client_address = \"{written}\"")).unwrap();
            assert_eq!(cluster.tcp[0].client_address, chosen);
        }
    }
}

/// What is wrong with a service on port 993, and what is said of it.
const WRONG: &[(&str, &str)] = &[
    ("", "the service has neither `servers` nor `sni`\n"),
    ("servers = [\"a\"]", "\"a\" is not the address of a server"),
    (
        "servers = [\"10.0.0.36\", \"10.0.0.36:993\"]",
        "address 10.0.0.36:993 belongs to another server already",
    ),
    ("sni = { \"A.test\" = [\"10.0.0.36\"] }", "\"A.test\" is not a host name in lower case"),
    ("sni = { \"a.test\" = [] }", "\"a.test\" has no servers"),
    ("servers = [\"10.0.0.36\"]\nclient_address = \"transparent\"", "\"transparent\" is not supported yet"),
    (
        "servers = [\"10.0.0.36\"]\nclient_address = \"seen\"",
        "hint: choose \"hidden\" or \"proxy-protocol\" or \"proxy-protocol-v1\"",
    ),
    ("servers = [\"10.0.0.36\"]\nmax_connections = 0", "`max_connections` is 0, outside 1 to 1000000"),
    ("servers = [\"10.0.0.36\"]\nidle_timeout = 0", "`idle_timeout` is 0 s, outside 1 s to 86400 s"),
    ("servers = [\"10.0.0.36\"]\nallow = [\"10.0.0.1/8\"]", "10.0.0.1/8"),
    ("servers = [\"10.0.0.36\"]\nallow = [\"10.0.0.0/8\"]\ndeny = [\"10.0.0.0/8\"]", "10.0.0.0/8"),
    ("servers = [\"10.0.0.36\"]\nhealth = { tcp = false }", "`tcp = false` tests nothing"),
    (
        "servers = [\"10.0.0.36\"]\nhealth = { tcp = true, banner = \"+OK\" }",
        "`tcp` and `banner` exclude each other",
    ),
    ("servers = [\"10.0.0.36\"]\nhealth = { banner = \"\" }", "`banner` is not how a line begins"),
    ("servers = [\"10.0.0.36\"]\nhealth = { http = \"/\" }", "unknown key `http`"),
    (
        "sni = { \"a.test\" = [\"10.0.0.36\"] }\nhealth = { banner = \"220\" }",
        "`banner` with `sni`: with TLS the client speaks first",
    ),
];

#[test]
fn a_wrong_service_is_told_what_is_wrong() {
    for (lines, said) in WRONG {
        let errors = with(&[993], &format!("[[tcp]]\nname = \"imap\"\nport = 993\n{lines}")).unwrap_err();
        assert!(errors.to_string().contains(said), "{lines}: {errors}");
    }
    for (ports, name, port, said) in [
        (&[][..], "imap", 993, "no rule lets the service's port 993 through"),
        (&[993], "imap", 443, "port 443 belongs to a site already"),
        (&[993], "imap", 80, "port 80 belongs to a site already"),
        (&[993], "exchange", 993, "the name exchange belongs to a farm already"),
        (&[993], "i map", 993, "\"i map\" cannot name a service"),
    ] {
        let lines = format!("[[tcp]]\nname = \"{name}\"\nport = {port}\nservers = [\"10.0.0.36\"]");
        let errors = with(ports, &lines).unwrap_err();
        assert!(errors.to_string().contains(said), "{said}: {errors}");
    }
    let twice = "[[tcp]]\nname = \"a\"\nport = 993\nservers = [\"10.0.0.36\"]\n".repeat(2);
    let errors = with(&[993], &twice).unwrap_err().to_string();
    assert!(errors.contains("the name a belongs to another service already"), "{errors}");
    assert!(errors.contains("port 993 belongs to another service already"), "{errors}");
}

#[test]
fn services_can_be_written_out_and_mean_the_same() {
    let lines = r#"
[[tcp]]
name = "smtp"
port = 25
servers = [{ name = "edge1", address = "192.168.50.3" }]
client_address = "proxy-protocol"
health = { banner = "220", interval = "500ms" }
deny = ["198.51.100.0/24"]
[[tcp]]
name = "imap"
port = 993
sni = { "imap.example.test" = ["10.0.0.36"], "mail.example.org" = ["10.0.0.40:1993", "10.0.0.41"] }
idle_timeout = "45min"
[[tcp]]
name = "pop"
port = 995
servers = ["10.0.0.36"]
sni = { "pop.example.test" = ["10.0.0.37"] }
"#;
    let short = with(&[25, 993, 995], lines).unwrap_or_else(|errors| panic!("{errors}"));
    let long = cluster_text(&expanded(&short));
    assert_eq!(long.unwrap_or_else(|errors| panic!("{errors}")), short);
    let names: Vec<String> = short.tcp.iter().flat_map(TcpService::pools).map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["smtp", "imap/imap.example.test", "imap/mail.example.org", "pop", "pop/pop.example.test"]
    );
}
