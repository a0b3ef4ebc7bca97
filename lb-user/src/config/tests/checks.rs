//! Tests of services behind rules, and the programs that a node's file names.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn a_check_asks_where_clients_do_and_its_defaults_suit_a_service() {
    let check = checked("ports = \"25-26\"", "tcp = true").unwrap();

    let expected = Check {
        kind: CheckKind::Tcp { address: "192.168.50.8:25".parse().unwrap() },
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        failures: 3,
        successes: 2,
    };
    assert_eq!(check, expected);
}

#[test]
fn every_key_of_a_check_counts() {
    let check = checked(
        "ports = 25",
        "http = \"/up?x\", address = \"127.0.0.1\", port = 8080, host = \"web.example.test\", status = 204, \
         body = \"fine\", interval = \"100ms\", timeout = \"60s\", failures = 1, successes = 100",
    );

    let expected = Check {
        kind: CheckKind::Http {
            address: "127.0.0.1:8080".parse().unwrap(),
            path: "/up?x".into(),
            host: "web.example.test".into(),
            status: 204,
            body: "fine".into(),
        },
        interval: Duration::from_millis(100),
        timeout: Duration::from_secs(60),
        failures: 1,
        successes: 100,
    };
    assert_eq!(check.unwrap(), expected);
}

#[test]
fn a_check_of_a_rule_for_one_cluster_ip_asks_that_one() {
    let rule = "[[rule]]\nports = 80\nip = \"fd00:50::8\"\ncheck = { http = \"/\" }\n[exchange]";
    let text = REFERENCE
        .replace("ip = \"192.168.50.8/24\"", "ips = [\"192.168.50.8/24\", \"fd00:50::8/64\"]")
        .replace("[exchange]", rule);
    let check = cluster_from(&text).unwrap().rules[0].check.clone().unwrap();
    let address = "[fd00:50::8]:80".parse().unwrap();
    let host = "[fd00:50::8]:80".into();
    assert_eq!(
        check.kind,
        CheckKind::Http { address, path: "/".into(), host, status: 200, body: String::new() }
    );
}

#[test]
fn a_command_is_split_at_spaces_and_tests_udp_too() {
    let check = checked("ports = 53\nprotocol = \"udp\"", "command = \"/bin/ok  a.test '$b' \"").unwrap();
    let arguments = vec!["a.test".to_owned(), "'$b'".to_owned()];
    assert_eq!(check.kind, CheckKind::Command { program: "/bin/ok".into(), arguments });
    let error = checked("ports = 53\nprotocol = \"udp\"", "tcp = true").unwrap_err();
    assert!(error.contains("a rule for UDP alone cannot be checked by TCP or HTTP"), "{error}");
    assert!(checked("ports = 53\nprotocol = \"both\"", "tcp = true").is_ok());
}

#[test]
fn a_check_that_makes_no_sense_is_told_so() {
    for (check, expected) in [
        ("interval = \"5s\"", "`check` needs one of `tcp`, `http` and `command`"),
        ("tcp = true, http = \"/\"", "`check` needs one of"),
        ("tcp = true, command = \"/bin/true\"", "`check` needs one of"),
        ("http = \"/\", command = \"/bin/true\"", "`check` needs one of"),
        ("tcp = true, http = \"/\", command = \"/bin/true\"", "`check` needs one of"),
        ("tcp = false", "`tcp = false` tests nothing"),
        ("http = \"up\"", "check: \"up\" is not a path"),
        ("http = \"/a b\"", "check: \"/a b\" is not a path"),
        ("http = \"/\", status = 99", "`status` is 99, outside 100 to 599"),
        ("http = \"/\", host = \"A.test\"", "\"A.test\" is not a host name in lower case"),
        ("tcp = true, status = 200", "`status` means something only in a check by `http`"),
        ("tcp = true, body = \"x\"", "`body` means something only in a check by `http`"),
        ("tcp = true, host = \"a.test\"", "`host` means something only in a check by `http`"),
        ("command = \"/bin/true\", port = 25", "`port` means something only in a check by `tcp` or `http`"),
        (
            "command = \"/bin/true\", address = \"10.0.0.1\"",
            "`address` means something only in a check by `tcp`",
        ),
        ("command = \"true\"", "\"true\" is not a program's path from the root"),
        ("command = \" \"", "\" \" is not a program's path from the root"),
        ("command = \"/bin/true\\u0000\"", "is not a program's path from the root"),
        ("tcp = true, port = 0", "`port` is 0, outside 1 to 65535"),
        ("tcp = true, address = \"localhost\"", "\"localhost\" is not the address of a service"),
        ("tcp = true, address = \"0.0.0.0\"", "\"0.0.0.0\" is not the address of a service"),
        ("tcp = true, interval = \"99ms\"", "`interval` is 99 ms, outside 100 ms to 3600 s"),
        ("tcp = true, timeout = \"61s\"", "`timeout` is 61 s, outside 10 ms to 60 s"),
        ("tcp = true, failures = 0", "`failures` is 0, outside 1 to 100"),
        ("tcp = true, successes = 101", "`successes` is 101, outside 1 to 100"),
    ] {
        let error = checked("ports = 25", check).unwrap_err();
        assert!(error.contains(expected), "{check}: {error}");
    }
}

/// Like `WRONG` of the parent.
pub(super) const WRONG: &[(&str, &str, &str)] = &[
    (
        "[exchange]",
        "[[rule]]\nports = 25\ncheck = { udp = true }\n[exchange]",
        "17:11: unknown key `udp`\n  17 | check = { udp = true }\n     |           ^^^\nhint: known here: tcp, http, command, address, port, host, status, body, interval, timeout, failures, successes",
    ),
    (
        "[exchange]",
        "[[rule]]\nports = 25\nfiltering = \"disabled\"\ncheck = { tcp = true }\n[exchange]",
        "18:9: `check` means something only with filtering = \"multiple\" or \"single\"\n  18 | check = { tcp = true }\n     |         ^^^^^^^^^^^^^^\nhint: remove it",
    ),
    (
        "[exchange]",
        "[[rule]]\nports = 25\ncheck = { command = \"true\" }\n[exchange]",
        "17:21: \"true\" is not a program's path from the root with arguments\n  17 | check = { command = \"true\" }\n     |                     ^^^^^^\nhint: \"/usr/local/bin/dns-ok example.test\"; no shell reads it, words end at spaces",
    ),
];

#[test]
fn rules_checked_differently_count_as_different_where_tables_are_few() {
    let rule = |port: usize| format!("\n[[rule]]\nports = {port}\ncheck = {{ tcp = true }}\n");
    let with = |count: usize| {
        let rules: String = (0..count).map(|number| rule(1000 + number)).collect();
        cluster_from(&format!("{REFERENCE}{rules}")).map_err(|errors| errors.to_string())
    };
    // The default host's table and that of [exchange] have their places too.
    assert_eq!(with(30).unwrap().rules.len(), 32);
    assert!(with(31).unwrap_err().contains("checked in 33 different ways; there is room for 32"));
}

#[test]
fn a_node_says_where_its_events_go() {
    let lines = "state_dir = \"/srv/rollcall\"\non_event = \"/usr/local/bin/page\"\nsyslog = true\n";
    let local = local_from(&format!("{NODE}{lines}")).unwrap();
    assert_eq!(local.state_dir, Path::new("/srv/rollcall"));
    assert_eq!(local.on_event.as_deref(), Some(Path::new("/usr/local/bin/page")));
    assert!(local.syslog);
    for key in ["state_dir", "on_event"] {
        let error = local_from(&format!("{NODE}{key} = \"here\"\n")).unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}` is \"here\", not a path from the root")), "{error}");
    }
}

#[test]
fn a_program_for_events_that_cannot_run_is_an_error_and_one_of_a_check_a_warning() {
    let folder = Folder::new();
    let program = folder.write("program", b"#!/bin/sh\n");
    let other = folder.write("other", b"#!/bin/sh\n");
    let problems = |on_event: &Path, command: &Path| {
        let node = format!("{NODE}on_event = \"{}\"\n", on_event.display());
        let check = format!("check = {{ command = \"{} x\" }}", command.display());
        let text = format!("[[rule]]\nports = 25\n{check}\n[[node]]");
        let text = REFERENCE.split("[exchange]").next().unwrap().replacen("[[node]]", &text, 1);
        folder.write("node.toml", node.as_bytes());
        let cluster = folder.write("cluster.toml", text.as_bytes());
        load(&cluster, None).map(|config| warnings(&config)).map_err(|errors| errors.to_string())
    };
    let absent = folder.0.join("absent");
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    mode(&program, 0o755);
    mode(&other, 0o644);

    assert_eq!(problems(&program, &program).unwrap(), Vec::<String>::new());
    for (bad, expected) in [
        (&absent, "absent: cannot be read: No such file"),
        (&folder.0, ": is not a file"),
        (&other, "other: is not executable"),
    ] {
        let error = problems(bad, &program).unwrap_err();
        assert!(error.contains(expected) && error.contains("\nhint: give `on_event`"), "{error}");
        let warnings = problems(&program, bad).unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].starts_with("the check of tcp 25 will fail here: ") && warnings[0].contains(expected)
        );
    }
}

/// The check of a rule with these lines.
fn checked(lines: &str, check: &str) -> Result<Check, String> {
    let text =
        REFERENCE.replace("[exchange]", &format!("[[rule]]\n{lines}\ncheck = {{ {check} }}\n[exchange]"));
    let cluster = cluster_from(&text).map_err(|errors| errors.to_string())?;
    Ok(cluster.rules.into_iter().find_map(|rule| rule.check).unwrap())
}
