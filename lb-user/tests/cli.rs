//! The command line from outside: what is printed where, and the exit status. The agent is a stand-in on a real control
//! socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in its helpers too")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lb_user::control::api::{
    Action, Answer, Applied, Captured, CertificateEntry, CertificateFacts, CertificateSet, Configure,
    Connection, Connections, Count, EventRecord, Explanation, FarmExplanation, FileFacts, GenerationEntry,
    InterfaceStatus, NodeExplanation, NodeStatus, Nodes, Operated, ProxyStatus, Recalled, Reloaded, Request,
    RequestExplanation, RuleStatus, Sample, ServerExplanation, ServerStatus, ServiceStatus, Shown, Status,
    Step, TableStatus, TestStatus,
};
use lb_user::control::server::{Lines, Reply, Sockets, serve};
use lb_user::dataplane::link::{Interface, Link, Lock};
use lb_user::shared::origin::Local;
use lb_user::wall::WallTime;
use rustix::thread::{UnshareFlags, unshare_unsafe};

#[test]
fn a_wrong_configuration_ends_with_2_and_the_rest_with_1() {
    let folder = Folder::new("exit");
    let missing = rollcall(&["check", "/nonexistent/cluster.toml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert_eq!(stdout(&missing), "");
    assert!(
        stderr(&missing).starts_with("error: /nonexistent/cluster.toml: cannot be read"),
        "{}",
        stderr(&missing)
    );

    let usage = rollcall(&["check"]);
    assert_eq!(usage.status.code(), Some(2));

    let no_agent = rollcall(&["status", "--run-dir", folder.path()]);
    assert_eq!(no_agent.status.code(), Some(1));
    assert!(
        stderr(&no_agent).contains("\nhint: start it: rollcall run --config FILE"),
        "{}",
        stderr(&no_agent)
    );
}

#[test]
fn with_json_an_error_is_an_object_with_its_hint() {
    let folder = Folder::new("json-errors");
    let wrong = folder.0.join("wrong.toml");
    std::fs::write(&wrong, "[cluster]\nip = 5\nmode = \"igmp\"\ncolour = 1\n").unwrap();
    let wrong = wrong.to_str().unwrap();
    for (arguments, status, expected) in [
        (
            &["status", "--json", "--run-dir", folder.path()][..],
            1,
            &[("", "start it: rollcall run --config FILE")][..],
        ),
        (
            &["check", "--json", wrong],
            2,
            &[("wrong type: integer `5`", "expected here: text"), ("unknown key `colour`", "known here: ")],
        ),
        (
            &["check", "--json", "/nonexistent/c.toml"],
            2,
            &[("cannot be read: No such file", "copy it from another")],
        ),
        (&["explain", "--json", "x"], 2, &[("", "--help")]),
        (&["fram", "--json"], 2, &[("unrecognized subcommand 'fram'", "'farm'")]),
    ] {
        let output = rollcall(arguments);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(status), ""), "{arguments:?}");
        let text = stderr(&output);
        assert_eq!(text.lines().count(), expected.len(), "{text}");
        for (line, (error, hint)) in text.lines().zip(expected) {
            let told: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(
                told["error"].as_str().is_some_and(|text| text.starts_with(error) && !text.is_empty()),
                "{line}"
            );
            assert!(told["hint"].as_str().is_some_and(|text| text.contains(hint)), "{line}");
        }
    }
}

#[test]
fn a_first_error_says_the_next_step() {
    for arguments in [
        &["status", "--run-dir", "/nonexistent"][..],
        &["check", "/nonexistent/c.toml"],
        &["cleanup", "--config", "/nonexistent/c.toml"],
        &["check"],
        &["fram"],
        &["explain", "203.0.113.1", "192.168.50.8:443"],
    ] {
        let output = rollcall(arguments);
        let text = stderr(&output);
        assert!(text.starts_with("error: "), "{text}");
        assert!(["\nhint: ", "try '--help'", "\n  tip: "].iter().any(|step| text.contains(step)), "{text}");
    }
}

#[test]
fn schemas_completions_and_pages_are_printed() {
    for (arguments, begins, names) in [
        (&["schema"][..], "{", "\"exchange\""),
        (&["schema", "--node"], "{", "\"xdp_interface\""),
        (&["completions", "bash"], "_rollcall()", "rolling-restart"),
        (&["completions", "zsh"], "#compdef rollcall", "rolling-restart"),
        (&["completions", "fish"], "#", "rolling-restart"),
        (&["completions", "powershell"], "", "rolling-restart"),
        (&["completions", "elvish"], "", "rolling-restart"),
        (&["man"], "", ".SH \"EXIT STATUS\""),
    ] {
        let output = rollcall(arguments);
        let text = stdout(&output);
        assert!(output.status.success() && stderr(&output).is_empty(), "{arguments:?}: {}", stderr(&output));
        assert!(text.starts_with(begins) && text.contains(names), "{arguments:?}: {text}");
    }
    let schema: serde_json::Value = serde_json::from_str(&stdout(&rollcall(&["schema"]))).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

#[test]
fn tables_of_a_check_fit_80_columns_with_long_names() {
    let folder = Folder::new("wide");
    let file = folder.configuration();
    let long = "n".repeat(63);
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("arr1", &long)
        .replace(".8/24\"", ".8/24\"\nips = [\"fd00:50:1234:5678:9abc:def0:1234:5678/64\"]");
    let rules = format!(
        "[[rule]]\nports = \"10000-20000\"\nip = \"fd00:50:1234:5678:9abc:def0:1234:5678\"\nprotocol = \"both\"\naffinity = \"network\"\n\
         weights = {{ {long} = 70 }}\nstickiness_timeout = \"20min\"\ncheck = {{ http = \"/{long}\" }}\n"
    );
    std::fs::write(&file, text + &rules).unwrap();
    let node = folder.0.join("node.toml");
    std::fs::write(&node, std::fs::read_to_string(&node).unwrap().replace("arr1", &long)).unwrap();
    let output = rollcall(&["check", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let tables = text.split("\nnodes\n").nth(1).unwrap().split("\nsites").next().unwrap();
    let wide: Vec<&str> = tables.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty() && tables.lines().count() >= 5, "{wide:#?}\n{text}");
}

#[test]
fn check_says_what_a_closed_ecp_stops() {
    let folder = Folder::new("ecp");
    let testdata = |name: &str| format!("{}/testdata/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    let (certificate, key) = (testdata("site.crt"), testdata("site.pkcs8.key"));
    let file = folder.configuration();
    let cluster = std::fs::read_to_string(&file).unwrap();
    for (ecp, says) in [
        ("", Some("are not published; ecp = [\"10.0.0.0/8\"] opens them to a network")),
        ("ecp = [\"10.0.0.0/8\"]\n", Some("are published to clients in those alone")),
        ("ecp = \"open\"\n", None),
    ] {
        let exchange = format!(
            "[exchange]\nnames = [\"mail.example.test\"]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n\
             servers = [\"10.0.0.36\"]\n{ecp}"
        );
        std::fs::write(&file, format!("{cluster}{exchange}")).unwrap();
        let output = rollcall(&["check", file.to_str().unwrap()]);
        assert!(output.status.success(), "{}", stderr(&output));
        let text = stdout(&output);
        let line = text.lines().find(|line| line.starts_with("    refuses /ecp and all below: "));
        assert_eq!(line.is_some(), says.is_some(), "{text}");
        let json = stdout(&rollcall(&["check", "--json", file.to_str().unwrap()]));
        assert_eq!(json.contains("OWA's options"), says.is_some(), "{json}");
        if let (Some(line), Some(says)) = (line, says) {
            assert!(line.contains("OWA's options, which lie under /ecp") && line.contains(says), "{line}");
        }
    }
}

#[test]
fn status_opens_with_what_is_wrong_and_fits_80_columns() {
    let folder = Folder::new("status");
    let _agent = agent(&folder.0);
    let output = rollcall(&["status", "--run-dir", folder.path()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert_eq!(text.lines().next(), Some("arr2 is silent for 12 s: does UDP port 7644 reach it?"));
    let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:#?}\n{text}");
    for shown in [
        "tcp 25, tcp 80",
        "240 min, 4096",
        "left to others",
        "18.4 E",
        "deaf",
        "sbex1",
        "pass-mine",
        "a-very-long-n…",
        "UDP 7644 heartbeats, TCP 7645",
        "has stood by for 3 min 7 s",
        "has the weight 0 instead of 100",
        "proxy, command",
        "certificates that end soon, or have",
        "in 2 days, at 2026-11-24",
        "by far",
    ] {
        assert!(text.contains(shown), "{shown}\n{text}");
    }
    assert!(!text.contains("never-counted") && !text.contains('\x1b'), "{text}");
}

#[test]
fn farms_are_tables_that_fit_80_columns_or_a_line_of_json_a_server() {
    let folder = Folder::new("farm");
    let _agent = agent(&folder.0);
    let output = rollcall(&["farm", "exchange", "--run-dir", folder.path()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:#?}\n{text}");
    for shown in ["farm exchange", "sbex1", "disabled", "1 of 2", "no connection", "/ews/healthcheck.htm"] {
        assert!(text.contains(shown), "{shown}\n{text}");
    }
    let json = stdout(&rollcall(&["farm", "--json", "--run-dir", folder.path()]));
    assert_eq!(serde_json::from_str::<ServerStatus>(&json).unwrap(), server("sbex1", "disabled"));
    let unknown = rollcall(&["farm", "web", "--run-dir", folder.path()]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        stderr(&unknown).contains("no farm is named web; the farms are exchange"),
        "{}",
        stderr(&unknown)
    );
}

#[test]
fn a_server_is_given_a_state_or_it_is_told_why_not() {
    let folder = Folder::new("farm-set");
    let _agent = agent(&folder.0);
    let set = |arguments: &[&str]| {
        rollcall(&[&["farm", "set", "exchange"], arguments, &["--run-dir", folder.path()]].concat())
    };
    let done = set(&["sbex1", "drain"]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(stdout(&done), "server sbex1 of farm exchange is drain on this node; it was active\n");
    let json = stdout(&set(&["sbex1", "disabled", "--json"]));
    assert_eq!(serde_json::from_str::<ServerStatus>(&json).unwrap(), server("sbex1", "disabled"));
    let refused = set(&["sbex9", "drain"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("no server of farm exchange is named sbex9"), "{}", stderr(&refused));
    assert_eq!(set(&["sbex1", "asleep"]).status.code(), Some(2), "no such state");
}

#[test]
fn status_json_is_one_line_that_reads_back() {
    let folder = Folder::new("json");
    let _agent = agent(&folder.0);
    let output = rollcall(&["status", "--json", "--run-dir", folder.path()]);
    let text = stdout(&output);
    assert_eq!(text.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status());
}

#[test]
fn explain_says_it_in_a_sentence_and_then_in_tables() {
    let folder = Folder::new("explain");
    let _agent = agent(&folder.0);
    let explain = |more: &[&str]| {
        let args = ["explain", "203.0.113.110:40000", "192.168.50.8:443", "--run-dir", folder.path()];
        rollcall(&[&args, more].concat())
    };
    let output = explain(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert_eq!(text.lines().next(), Some("arr1 drops it: other, because it is; arr2 holds bucket 77"));
    for shown in [
        "  packet    tcp 203.0.113.110:40000 > 192.168.50.8:443, syn",
        "  bucket    77 of table 1",
        "  arr2: passes it if its kernel has the connection",
    ] {
        assert!(text.lines().any(|line| line == shown), "{shown}\n{text}");
    }
    let json = stdout(&explain(&["--json", "--flags", "ack,rst"]));
    assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), explanation());
    for (wrong, said) in [
        (&["explain", "mail:443", "192.168.50.8:443"][..], "write ADDRESS:PORT"),
        (&["explain", "203.0.113.1:1", "192.168.50.8:443", "--flags", "urg"], "possible values: syn, ack"),
        (&["capture", "--every", "0"], "0 is not in 1.."),
        (&["capture", "--seconds", "86401"], "86401 is not in 1..=86400"),
        (&["connections", "--bucket", "70000"], "70000 is not in 0..=65535"),
    ] {
        let output = rollcall(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(stderr(&output).contains(said), "{wrong:?}: {}", stderr(&output));
    }
    let no_port = rollcall(&["explain", "203.0.113.1", "192.168.50.8:443"]);
    assert_eq!(stderr(&no_port), "error: 203.0.113.1 needs a port\nhint: 203.0.113.1:443\n");
}

#[test]
fn a_request_is_explained_by_its_url_or_by_its_number_and_fits_80_columns() {
    let folder = Folder::new("explain-request");
    let _agent = agent(&folder.0);
    let explain = |args: &[&str]| rollcall(&[&["explain"], args, &["--run-dir", folder.path()]].concat());
    let url = "https://mail.example.test/owa/";
    let by_url = explain(&[url, "--method", "HEAD", "--header", "A: b", "--from", "203.0.113.7"]);
    let said = "sbex1 gets HEAD https://mail.example.test/owa/ of 203.0.113.7";
    let by_number = explain(&["--request", "1"]);
    for (output, shown) in [
        (&by_url, [said, "mail.example.test: the handshake", "networks let the client in", "no, keeps"]),
        (
            &by_number,
            [
                "1: 502 to POST https://mail.example.test/ews/",
                "connect_failed",
                "in all 5000.0 ms",
                "sbex1 gets POST",
            ],
        ),
    ] {
        assert!(output.status.success(), "{}", stderr(output));
        let text = stdout(output);
        let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(wide.is_empty(), "{wide:#?}\n{text}");
        for shown in shown {
            assert!(text.contains(shown), "{shown}\n{text}");
        }
    }
    let json = stdout(&explain(&[url, "--json"]));
    let explanation: RequestExplanation = serde_json::from_str(&json).unwrap();
    assert_eq!(explanation.farm, request_explanation().farm);
    for (args, status, said) in [
        (&["--request", "2"][..], 1, "request 2 is not among the last ones"),
        (&[url, "192.0.2.1:443"], 1, "has no DESTINATION"),
        (&["192.0.2.1:443"], 1, "needs a DESTINATION"),
        (&[url, "--header", "no colon"], 2, "write Name: value"),
        (&[url, "--request", "1"], 2, "cannot be used with"),
    ] {
        let output = explain(args);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn connections_are_counted_first_and_fit_a_terminal() {
    let folder = Folder::new("connections");
    let _agent = agent(&folder.0);
    let output = rollcall(&["connections", "--run-dir", folder.path()]);
    let text = stdout(&output);
    assert_eq!(text.lines().next(), Some("12,345 connections, 12,300 established"));
    assert_eq!(text.lines().last(), Some("  and 12,344 more: see --limit"));
    let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    let json = stdout(&rollcall(&["connections", "--json", "--run-dir", folder.path()]));
    assert_eq!(serde_json::from_str::<Connections>(&json).unwrap(), connections());
}

#[test]
fn a_capture_prints_samples_to_standard_output_and_remarks_beside() {
    let folder = Folder::new("capture");
    let _agent = agent(&folder.0);
    let output = rollcall(&["capture", "--reason", "new-mine", "--run-dir", folder.path()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let line =
        "00:00:01.000 tcp     203.0.113.110:40000 > 192.168.50.8:443      S      74 tcp 443  new-mine\n";
    assert_eq!(stdout(&output), line);
    assert_eq!(
        stderr(&output),
        "2,000 more in this second: at most 1000 are shown\n1 of 2,001 packets shown\n"
    );
    let json = stdout(&rollcall(&["capture", "--reason", "new-mine", "--json", "--run-dir", folder.path()]));
    let answers: Vec<Answer> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers, samples());

    let refused = rollcall(&["capture", "--run-dir", folder.path()]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(stderr(&refused), "error: a capture is running\nhint: end it\n");
}

#[test]
fn events_are_lines_with_time_and_mark_that_fit_80_columns() {
    let folder = Folder::new("events");
    let _agent = agent(&folder.0);
    let output = rollcall(&["events", "--run-dir", folder.path()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines = "\
2026-11-24 12:31:01   arr2 is heard (3 times)
2026-11-24 12:31:02 ! arr2 is silent and so is its data path: its share is taken
                      over [31m
2026-11-24 12:31:03   converged: owner table 7 of 1 nodes is in force
";
    assert_eq!(stdout(&output), lines);
    let shown = |options: &[&str]| {
        let words = ["events", "--json", "--run-dir", folder.path()];
        let text = stdout(&rollcall(&[&words, options].concat()));
        text.lines().map(|line| serde_json::from_str::<EventRecord>(line).unwrap().seq).collect::<Vec<_>>()
    };
    assert_eq!(shown(&[]), [1, 2, 3]);
    assert_eq!(shown(&["--last", "2", "--node", "arr2"]), [1, 2]);
    assert_eq!(shown(&["--warnings"]), [2]);
    assert_eq!(shown(&["--since", "2026-11-24 12:31:03"]), [3]);
}

#[test]
fn events_that_are_followed_come_after_the_latest_and_an_agent_that_ends_is_an_error() {
    let folder = Folder::new("follow");
    let _agent = agent(&folder.0);
    let output = rollcall(&["events", "--follow", "--last", "1", "--run-dir", folder.path()]);
    let lines = "\
2026-11-24 12:31:03   converged: owner table 7 of 1 nodes is in force
2026-11-24 12:31:20   arr2 is heard
";
    assert_eq!(stdout(&output), lines);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("error: the agent has ended\nhint: "), "{}", stderr(&output));
}

#[test]
fn without_an_agent_the_file_is_read_and_told_of() {
    let folder = Folder::new("left");
    let words = ["events", "--json", "--run-dir", folder.path(), "--state-dir", folder.path()];
    let nothing = rollcall(&words);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(stderr(&nothing).contains("no agent is running"), "{}", stderr(&nothing));

    let lines: String = events().iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect();
    std::fs::write(folder.0.join("events.jsonl"), &lines).unwrap();
    let left = rollcall(&words);
    assert_eq!(stdout(&left), lines.replace("\x1b", ""));
    let remark = format!("no agent is running; this is what it left in {}/events.jsonl\n", folder.path());
    assert_eq!(stderr(&left), remark);
    let follow = rollcall(&[&words[..], &["--follow"]].concat());
    assert_eq!(follow.status.code(), Some(1));
}

#[test]
fn the_history_tells_what_each_convergence_took_and_why() {
    let folder = Folder::new("history");
    let _agent = agent(&folder.0);
    let lines = "  \
  epoch  when                  took ms  nodes   moved  because
      7  2026-11-24 12:31:03        93      1    2048  arr2 fell silent, the
                                                       operator changed the
                                                       weight of arr1
";
    assert_eq!(stdout(&rollcall(&["history", "--run-dir", folder.path()])), lines);
    let json = stdout(&rollcall(&["history", "--json", "--run-dir", folder.path()]));
    let told: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&told["epoch"], &told["moved"], &told["duration_ms"]), (&7.into(), &2048.into(), &93.into()));
    assert_eq!(told["causes"][0], "arr2 fell silent");
}

#[test]
fn each_nodes_answer_is_a_line_and_one_that_did_not_do_it_ends_with_1() {
    let folder = Folder::new("operate");
    let _agent = agent(&folder.0);
    let done = rollcall(&["drain", "--run-dir", folder.path()]);
    assert_eq!((done.status.code(), stdout(&done).as_str()), (Some(0), "arr1 drains\n"));
    let refused = rollcall(&["resume", "arr9", "--run-dir", folder.path()]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(stderr(&refused), "error: there is no node arr9\nhint: see rollcall status\n");
    let half = rollcall(&["stop", "--all", "--rule", "443", "--run-dir", folder.path()]);
    assert_eq!(half.status.code(), Some(1));
    assert_eq!(stdout(&half), "arr1 stops, for 443\narr2 did not: it is not heard\n");
    assert_eq!(stderr(&half), "error: not done by 1 of 2: arr2\n");
    let json = rollcall(&["stop", "--all", "--rule", "443", "--json", "--run-dir", folder.path()]);
    let lines: Vec<Operated> =
        stdout(&json).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines, json.status.code()), (half_done(), Some(1)));
}

#[test]
fn a_weight_or_priority_is_set_or_given_back() {
    let folder = Folder::new("set");
    let _agent = agent(&folder.0);
    for (arguments, sentence) in [
        (&["set", "weight", "0", "arr2"][..], "SetWeight { weight: Some(0) } Named(\"arr2\")"),
        (&["set", "weight", "default", "--all"], "SetWeight { weight: None } All"),
        (&["set", "priority", "9"], "SetPriority { priority: Some(9) } This"),
        (&["forget", "arr2"], "Forget { node: \"arr2\" } All"),
    ] {
        let done = rollcall(&[arguments, &["--run-dir", folder.path()]].concat());
        assert_eq!(stdout(&done), format!("arr1 {sentence}\n"), "{}", stderr(&done));
    }
    let wrong = rollcall(&["set", "weight", "many", "--run-dir", folder.path()]);
    assert_eq!(wrong.status.code(), Some(2));
    let both = rollcall(&["stop", "arr2", "--all", "--run-dir", folder.path()]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn a_drain_that_is_waited_for_in_vain_says_what_is_left_and_ends_with_1() {
    let folder = Folder::new("wait");
    let _agent = agent(&folder.0);
    let waits = rollcall(&["drain", "arr1", "--wait", "--timeout", "1s", "--run-dir", folder.path()]);
    assert_eq!(waits.status.code(), Some(1));
    let expected = "error: arr1 still has 4096 buckets and 3 connections left after 1s; it goes on draining\n\
                    hint: `rollcall stop arr1` ends them\n";
    assert_eq!((stdout(&waits).as_str(), stderr(&waits).as_str()), ("arr1 drains\n", expected));
    let alone = rollcall(&["rolling-restart", "--run-dir", folder.path()]);
    assert_eq!(alone.status.code(), Some(1));
    assert!(stderr(&alone).starts_with("error: fewer than two nodes serve"), "{}", stderr(&alone));
}

#[test]
fn cleanup_takes_away_what_a_killed_agent_left_and_refuses_while_one_runs() {
    let folder = Folder::new("cleanup");
    let file = folder.configuration();
    let thread = std::thread::spawn(move || {
        // SAFETY: only the network namespace is left, on which no other thread's memory or descriptors depend.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("these tests need root");
        run("ip link add nic type veth peer name peer");
        let clean = run("ip -o address show dev lo") + &run("ip maddress show dev nic");
        let config = lb_user::config::load(&file, None).unwrap();
        let nic = Interface::inspect("nic").unwrap();
        drop(Link::setup(&config, &nic, [0x03, 0xbf, 192, 168, 50, 8]).unwrap());
        let cleanup = || rollcall(&["cleanup", "--config", file.to_str().unwrap()]);

        let lock = Lock::take(&nic).unwrap();
        let refused = cleanup();
        assert_eq!(refused.status.code(), Some(1));
        let expected = format!("an agent is running on interface nic already (pid {})", std::process::id());
        assert!(stderr(&refused).contains(&expected), "{}", stderr(&refused));
        drop(lock);

        let agent = agent(&config.local.run_dir);
        assert!(stderr(&cleanup()).contains("\nhint: stop it"));
        drop(agent);

        assert_eq!(stdout(&cleanup()), "this host is as it was before the agent\n");
        assert_eq!(run("ip -o address show dev lo") + &run("ip maddress show dev nic"), clean);
        assert!(!config.local.run_dir.exists());
        assert_eq!(stdout(&cleanup()), "nothing was left\n");
        let json = rollcall(&["cleanup", "--json", "--config", file.to_str().unwrap()]);
        assert_eq!(stdout(&json), "{\"removed\":false}\n");
    });
    thread.join().unwrap();
}

#[test]
fn an_upgrade_that_is_refused_says_why_and_names_the_whole_path() {
    let folder = Folder::new("upgrade");
    let _agent = agent(&folder.0);
    let refused = rollcall(&["upgrade", "--binary", "new", "--run-dir", folder.path()]);
    assert_eq!(refused.status.code(), Some(1));
    let path = std::env::current_dir().unwrap().join("new");
    assert!(stderr(&refused).contains(&format!("cannot start {}", path.display())), "{}", stderr(&refused));
}

#[test]
fn metrics_are_printed_as_they_come() {
    let folder = Folder::new("metrics");
    let _agent = agent(&folder.0);
    let printed = rollcall(&["metrics", "--run-dir", folder.path()]);
    assert_eq!((printed.status.code(), stdout(&printed).as_str()), (Some(0), METRICS));
}

const METRICS: &str = "# TYPE rollcall_packets counter\nrollcall_packets_total{reason=\"mine\"} 3\n# EOF\n";

#[test]
fn a_reload_says_what_changed_and_what_the_operator_should_know() {
    let folder = Folder::new("reload");
    let _agent = agent(&folder.0);
    let reload =
        |arguments: &[&str]| rollcall(&[&["reload", "--run-dir", folder.path()], arguments].concat());
    assert_eq!(
        stdout(&reload(&[])),
        "applied: configuration 0123456789abcdef; changed: sites, limits\nwarning: a certificate is about to expire\n"
    );
    let json: serde_json::Value = serde_json::from_str(&stdout(&reload(&["--json"]))).unwrap();
    assert_eq!(json["changed"], serde_json::json!(["sites", "limits"]));
    let refused = reload(&["--replace-worker"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("no other worker took over\nhint: look at its log"),
        "{}",
        stderr(&refused)
    );
}

fn reloaded() -> Reloaded {
    Reloaded {
        hash: "0123456789abcdef".to_owned(),
        changed: vec!["sites".to_owned(), "limits".to_owned()],
        warnings: vec!["a certificate is about to expire".to_owned()],
        waits_for: None,
    }
}

#[test]
fn the_shared_configuration_is_shown_listed_and_changed_in_words() {
    let folder = Folder::new("config");
    let _agent = agent(&folder.0);
    let config =
        |arguments: &[&str]| rollcall(&[&["config"], arguments, &["--run-dir", folder.path()]].concat());
    let id = "0123456789abcdef".repeat(4);
    let shown = format!(
        "#: generation {id}\n#: number 3 by arr1, {}: new certificate\n#: holds /root/mail.pfx (2.5 KB)\n\
         #:   for mail.example.test, until {}\n#:   sha256:00\n[cluster]\nmode = \"igmp\"\n",
        time().local(),
        time().local()
    );
    assert_eq!(stdout(&config(&["show"])), shown);
    let log = stdout(&config(&["log"]));
    assert!(log.contains("   3  0123456789ab  at work  arr1  "), "{log}");
    assert!(log.lines().all(|line| line.chars().count() <= 80), "{log}");
    let applied = stdout(&config(&["apply", "/root/new.toml"]));
    assert_eq!(
        applied,
        "generation 0123456789ab is in force; changed: sites\n  at work on: arr2\n  \
         not reached, and follow once they are: arr3\n\
         not read again: /root/mail.pfx, whose content on this disk is another; --reread takes it\n"
    );
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&config(&["apply", "/root/new.toml", "--dry-run", "--json"]))).unwrap();
    assert_eq!((json["dry_run"].as_bool(), json["unreached"][0].as_str()), (Some(true), Some("arr3")));
    let tried = stdout(&config(&["apply", "/root/new.toml", "--confirm-within", "2min"]));
    assert!(
        tried.starts_with(
            "generation 0123456789ab is on trial on this node alone; changed: sites\n  \
             in 120 s it goes back, unless: rollcall config confirm\n  sound on: arr2\n"
        ),
        "{tried}"
    );
    for wrong in ["1s", "2h", "soon"] {
        assert_eq!(config(&["apply", "/root/new.toml", "--confirm-within", wrong]).status.code(), Some(2));
    }
    assert!(stderr(&config(&["confirm"])).contains("nothing is on trial"));
    let refused = config(&["rollback", "ff"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(stderr(&refused), "error: there is no generation ff\nhint: rollcall config log lists them\n");
    let token = rollcall(&["token", "--valid", "5", "--run-dir", folder.path()]);
    assert_eq!(stdout(&token), "rollcall join 192.168.50.6 --token word-300\n");
    assert!(stderr(&token).contains("within 5 minutes"), "{}", stderr(&token));
}

/// The answer to a certificate that was set.
fn replaced(generation: String, same: bool, dry_run: bool) -> Answer {
    let applied = Applied {
        generation,
        changed: vec!["certificates, keys or other files".into()],
        warnings: Vec::new(),
        kept: Vec::new(),
        on: vec!["arr2".into()],
        unreached: Vec::new(),
        renewed: Vec::new(),
        restart: Vec::new(),
        dry_run,
        confirm_within: None,
        canary: None,
    };
    let [old, new] = [served("aa", 2), served("bb", 90)];
    Answer::CertificateSet(Box::new(CertificateSet {
        old: Some(old),
        new,
        remarks: vec!["the servers of exchange need the same certificate".into()],
        applied: (!same).then_some(applied),
    }))
}

fn configured(asked: Configure) -> Answer {
    let id = "0123456789abcdef".repeat(4);
    let entry = GenerationEntry {
        id: id.clone(),
        parent: None,
        height: 3,
        author: "arr1".into(),
        time: time(),
        comment: "new certificate".into(),
        restores: None,
        standing: "current".into(),
        at_work: true,
        whole: true,
    };
    let certificate = CertificateFacts {
        sites: vec!["mail.example.test".into()],
        names: vec!["mail.example.test".into()],
        not_after: Some(time()),
        fingerprint: "sha256:00".into(),
    };
    match asked {
        Configure::Show { .. } => {
            let (path, digest) = ("/root/mail.pfx".into(), "d".into());
            let files = vec![FileFacts { path, bytes: 2500, digest, certificate: Some(certificate) }];
            Answer::Shown(Box::new(Shown { entry, text: "[cluster]\nmode = \"igmp\"\n".into(), files }))
        }
        Configure::Log => Answer::Generations { generations: vec![entry] },
        Configure::Confirm => Answer::Error { text: "nothing is on trial on this node".into() },
        Configure::Apply { dry_run, confirm_within, .. } => Answer::Applied(Box::new(Applied {
            generation: id,
            changed: vec!["sites".into()],
            warnings: Vec::new(),
            kept: vec!["/root/mail.pfx".into()],
            on: vec!["arr2".into()],
            unreached: vec!["arr3".into()],
            renewed: Vec::new(),
            restart: Vec::new(),
            dry_run,
            confirm_within,
            canary: None,
        })),
        Configure::SetCertificate { site, .. } if site == "owa.example.test" => Answer::Error {
            text: "no site has the name owa.example.test; hint: the sites are: mail.example.test".into(),
        },
        Configure::SetCertificate { certificate, dry_run, .. } => {
            replaced(id, certificate.ends_with("same.pem"), dry_run)
        }
        Configure::Token { seconds } => {
            Answer::Token { token: format!("word-{seconds}"), address: [192, 168, 50, 6].into() }
        }
        Configure::RollBack { generation, .. } => Answer::Error {
            text: format!("there is no generation {generation}; hint: rollcall config log lists them"),
        },
        Configure::Remove { .. } | Configure::Leave { .. } | Configure::RotateSecret { .. } => {
            Answer::Error { text: "nobody asks that here".into() }
        }
    }
}

/// A certificate whose fingerprint repeats two digits.
fn served(digits: &str, days: i64) -> CertificateEntry {
    CertificateEntry {
        sites: vec!["mail.example.test".into(), "a-long-name-of-a-site.that-has.parts.example.test".into()],
        names: vec!["mail.example.test".into(), "autodiscover.example.test".into()],
        issuer: "CN=Issuing CA".into(),
        not_after: Some(time()),
        days_left: Some(days),
        fingerprint: format!("sha256:{}", digits.repeat(32)),
        file: "/etc/rollcall/certificates/mail.pfx".into(),
        same_on: vec!["exchange".into()],
    }
}

#[test]
fn certificates_are_a_table_that_fits_80_columns_and_one_is_replaced_in_words() {
    let folder = Folder::new("certificate");
    let _agent = agent(&folder.0);
    let certificate =
        |arguments: &[&str]| rollcall(&[&["certificate"], arguments, &["--run-dir", folder.path()]].concat());
    let table = stdout(&certificate(&[]));
    assert_eq!(table, stdout(&certificate(&["list"])));
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(table.contains("2026-11-24") && table.contains("aaaaaaaaaaaa"), "{table}");
    let json: Vec<CertificateEntry> =
        serde_json::from_str(&stdout(&certificate(&["list", "--json"]))).unwrap();
    assert_eq!(json, [served("aa", 2)]);
    let set = stdout(&certificate(&["set", "mail.example.test", "/etc/new.pem"]));
    let end = time().local();
    let about = |digits: &str, days: u8| {
        format!(
            "  names    mail.example.test, autodiscover.example.test\n  issuer   CN=Issuing CA\n  expires  {end}, in {days} days\n  sha256:{}\n",
            digits.repeat(32)
        )
    };
    let expected = format!(
        "was served for mail.example.test, a-long-name-of-a-site.that-has.parts.example.test:\n{}is now:\n{}\
         generation 0123456789ab is in force; changed: certificates, keys or other files\n  at work on: arr2\n\
         note: the servers of exchange need the same certificate\n",
        about("aa", 2),
        about("bb", 90)
    );
    assert_eq!(set, expected);
    let same = certificate(&["set", "mail.example.test", "/etc/same.pem"]);
    assert_eq!(same.status.code(), Some(0));
    assert!(stdout(&same).contains("has this certificate already: nothing changes"), "{}", stdout(&same));
    let json = stdout(&certificate(&["set", "mail.example.test", "/etc/new.pem", "--dry-run", "--json"]));
    let json: CertificateSet = serde_json::from_str(&json).unwrap();
    assert!(json.applied.unwrap().dry_run);
    let refused = certificate(&["set", "owa.example.test", "/etc/new.pem"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(
        stderr(&refused),
        "error: no site has the name owa.example.test\nhint: the sites are: mail.example.test\n"
    );
}

/// On a host of its own, which has an address and nothing else.
#[test]
fn an_exported_cluster_is_restored_on_a_bare_host_with_new_keys() {
    let folder = Folder::new("portable");
    let at = |name: &str| folder.0.join(name).to_str().unwrap().to_owned();
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(["mail.example.test".to_owned()]).unwrap();
    std::fs::write(at("mail.pem"), parameters.self_signed(&key).unwrap().pem() + &key.serialize_pem())
        .unwrap();
    std::fs::write(at("passphrase"), "four words and more\n").unwrap();
    std::fs::write(at("wrong"), "four other words\n").unwrap();
    let paths =
        ["one", "two", "mail.pem", "cluster.rollcall", "passphrase", "wrong", "cut", "newer", "none"].map(at);
    let thread = std::thread::spawn(move || {
        // SAFETY: only the network namespace is left, on which no other thread's memory or descriptors depend.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("these tests need root");
        restored(paths.each_ref().map(String::as_str));
    });
    thread.join().unwrap();
}

fn restored([one, two, certificate, file, passphrase, wrong, cut, newer, none]: [&str; 9]) {
    run("ip link add nic type veth peer name peer");
    run("ip address add 192.168.50.6/24 dev nic");
    run("ip address add 192.168.50.66/24 dev nic");
    let on = |folder: &str, arguments: &[&str]| {
        let state = format!("{folder}/state");
        let host = ["--interface", "nic", "--proxy-user", "nobody", "--peer-user", "nobody"];
        let places = ["--dir", folder, "--state-dir", &state, "--run-dir", folder];
        rollcall(&[arguments, &host, &places].concat())
    };
    let init = ["init", "--name", "arr1", "--ip", "192.168.50.8/24", "--mode", "unicast"];
    let publish = ["--mail", "mail.example.test", "--server", "10.0.0.36", "--certificate", certificate];
    let done = on(one, &[&init[..], &publish].concat());
    assert!(done.status.success(), "{}", stderr(&done));
    let node_file = format!("{one}/node.toml");
    let export = |more: &[&str]| {
        let command = ["config", "export", file, "--node-file", &node_file];
        rollcall(&[&command[..], more].concat())
    };
    let nobody = export(&[]);
    assert!(stderr(&nobody).ends_with("hint: --passphrase-file FILE\n"), "{}", stderr(&nobody));
    let short = format!("{none}.short");
    std::fs::write(&short, "short\n").unwrap();
    assert!(
        stderr(&export(&["--passphrase-file", &short])).contains("has 5 characters, and 8 are the least")
    );
    let exported = export(&["--passphrase-file", passphrase]);
    assert!(exported.status.success(), "{}", stderr(&exported));
    assert!(stdout(&exported).contains("; files that it holds: 1\n"), "{}", stdout(&exported));
    let again = export(&["--passphrase-file", passphrase]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).ends_with("hint: --force writes over it\n"), "{}", stderr(&again));
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The certificate's own file is not needed any more.
    std::fs::remove_file(certificate).unwrap();
    refusals(file, [cut, newer, wrong, passphrase, none], |file, passphrase| {
        on(two, &["config", "import", file, "--passphrase-file", passphrase, "--node", "arr1"])
    });
    let import = ["config", "import", file, "--passphrase-file", passphrase];
    let unknown = on(two, &[&import[..], &["--node", "arr9"]].concat());
    assert!(stderr(&unknown).ends_with("has no node arr9\nhint: it has arr1\n"), "{}", stderr(&unknown));
    let imported = on(two, &[&import[..], &["--node", "arr1", "--address", "192.168.50.66"]].concat());
    assert!(imported.status.success(), "{}", stderr(&imported));
    assert!(stdout(&imported).starts_with("arr1 is the first node of the restored cluster\n"));
    let open = |folder: &str| Local::open(&PathBuf::from(format!("{folder}/node.toml"))).unwrap();
    let (before, after) = (open(one), open(two));
    let (old, new) = (before.in_force().unwrap(), after.in_force().unwrap());
    assert_eq!(new.secrets, old.secrets);
    assert_ne!(after.keys.public(), before.keys.public());
    assert_eq!(new.config.me().address.to_string(), "192.168.50.66");
    let text = |local: &Local, id| local.history.generation(id).unwrap().content.text;
    let same = text(&before, old.id)
        .replace(&before.keys.public().word(), &after.keys.public().word())
        .replace("\"192.168.50.6\"", "\"192.168.50.66\"");
    assert_eq!(text(&after, new.id), same);
    let occupied = on(two, &import);
    assert!(stderr(&occupied).contains("this host belongs to a cluster already"), "{}", stderr(&occupied));
}

/// Files that are not what was exported: each is told apart, and nothing is left of any.
fn refusals(good: &str, [cut, newer, wrong, right, none]: [&str; 5], import: impl Fn(&str, &str) -> Output) {
    let bytes = std::fs::read(good).unwrap();
    std::fs::write(cut, &bytes[..bytes.len() - 100]).unwrap();
    std::fs::write(newer, [b"rollcall portable 2\n", &bytes[20..]].concat()).unwrap();
    let flipped = format!("{cut}.flipped");
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 1;
    std::fs::write(&flipped, changed).unwrap();
    for (file, passphrase, expected) in [
        (cut, right, "it is not whole: its end is missing\nhint: copy it again\n"),
        (flipped.as_str(), right, "it is damaged: it is not what was written\n"),
        (newer, right, "it has format 2, and this version of rollcall reads format 1\n"),
        (good, wrong, "the passphrase is wrong\n"),
        (wrong, right, "it is no file that `rollcall config export` wrote\n"),
        (none, right, "No such file or directory\n"),
    ] {
        let refused = import(file, passphrase);
        assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
        assert!(stderr(&refused).contains(expected), "{expected}: {}", stderr(&refused));
    }
}

fn time() -> WallTime {
    WallTime::read("2026-11-24 12:31:07").unwrap()
}

#[test]
fn a_program_tells_the_format_that_it_takes_over_as_one_number() {
    let format = rollcall(&["upgrade-check"]);
    assert_eq!(stdout(&format).trim().parse(), Ok(lb_user::agent::upgrade::FORMAT));
}

#[test]
fn an_import_that_can_be_used_ends_with_0_and_passes_the_check() {
    let folder = Folder::new("import");
    let testdata = |name: &str| format!("{}/testdata/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    let certificates = folder.0.join("certificates");
    std::fs::create_dir_all(&certificates).unwrap();
    for name in ["site.crt", "site.pkcs8.key"] {
        std::fs::copy(testdata(name), certificates.join(name)).unwrap();
    }
    let golden = |path: &str| format!("{}/tests/iis/{path}", env!("CARGO_MANIFEST_DIR"));
    let (from, out) = (golden("exported-folder"), format!("{}/cluster.toml", folder.path()));
    let (nlb, hosts) = (golden("exported-folder/nlb.txt"), golden("exported-folder/hosts"));
    let certificates = certificates.to_str().unwrap();
    let arguments = ["import-iis", &from, "--certificates", certificates, "--nlb", &nlb, "--hosts", &hosts];

    let imported = rollcall(&[&arguments[..], &["--out", &out]].concat());

    let report = stderr(&imported);
    assert_eq!((imported.status.code(), stdout(&imported).as_str()), (Some(0), ""), "{report}");
    for file in [
        "applicationHost.config: 0 refused",
        "administration.config: ",
        "configEncKey.key: ",
        "nlb.txt: 0 refused",
    ] {
        assert!(report.contains(file), "{file}: {report}");
    }
    std::fs::write(folder.0.join("node.toml"), "name = \"arr1\"\ninterface = \"eth0\"\n").unwrap();
    let checked = rollcall(&["check", &out]);
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));

    let again = rollcall(&[&arguments[..], &["--out", &out]].concat());
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("\nhint: --force writes over it"), "{}", stderr(&again));

    let json = rollcall(&[&arguments[..], &["--json"]].concat());
    let object: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!((json.status.code(), &object["complete"]), (Some(0), &true.into()));
    assert_eq!(object["configuration"].as_str(), Some(std::fs::read_to_string(&out).unwrap().as_str()));

    let plan = rollcall(&["plan", "cutover", "--config", &out, "--spare-ip", "192.168.50.9"]);
    assert_eq!(plan.status.code(), Some(0), "{}", stderr(&plan));
    let plan = stdout(&plan);
    assert!(
        plan.contains(
            "--resolve mail.example.test:443:192.168.50.9 https://mail.example.test/owa/healthcheck.htm"
        ),
        "{plan}"
    );
    let elsewhere = rollcall(&["plan", "cutover", "--config", &out, "--spare-ip", "10.9.9.9"]);
    assert_eq!((elsewhere.status.code(), stdout(&elsewhere).as_str()), (Some(1), ""));
}

#[test]
fn an_import_that_cannot_be_used_yet_ends_with_2_and_names_the_lines() {
    let golden = |path: &str| format!("{}/tests/iis/{path}", env!("CARGO_MANIFEST_DIR"));
    let blank = rollcall(&["import-iis", &golden("nothing-known/applicationHost.config")]);
    let (text, report) = (stdout(&blank), stderr(&blank));
    let marked: Vec<String> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.contains("# FILL IN:"))
        .map(|(at, _)| (at + 1).to_string())
        .collect();
    assert_eq!(blank.status.code(), Some(2));
    assert!(
        report.contains(&format!("lines to fill in: {}", marked.join(", "))) && marked.len() > 5,
        "{report}"
    );

    let refused = rollcall(&["import-iis", &golden("encrypted/applicationHost.config")]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(!format!("{}{}", stdout(&refused), stderr(&refused)).contains("sEcReT"));

    let none = rollcall(&["import-iis", &golden("encrypted/hosts")]);
    assert_eq!((none.status.code(), stdout(&none).as_str()), (Some(2), ""));
    assert!(stderr(&none).starts_with("error: hosts: line 1: no"), "{}", stderr(&none));
}

fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", stderr(&output));
    stdout(&output)
}

async fn answer(request: Request) -> Reply {
    match request {
        Request::Status => Answer::Status(Box::new(status())).into(),
        Request::Operate { action: Action::Drain, .. } => {
            Answer::Operated { nodes: vec![operated("arr1", true, "drains")] }.into()
        }
        Request::Operate { action: Action::Stop, .. } => Answer::Operated { nodes: half_done() }.into(),
        Request::Operate { action: Action::Resume, nodes: Nodes::Named(node), .. } => {
            Answer::Error { text: format!("there is no node {node}; hint: see rollcall status") }.into()
        }
        Request::Operate { action, nodes, .. } => {
            Answer::Operated { nodes: vec![operated("arr1", true, &format!("{action:?} {nodes:?}"))] }.into()
        }
        Request::SetServer { server: named, state, .. } if named == "sbex1" => {
            let server = Box::new(server(&named, state.as_str()));
            Answer::ServerSet { was: "active".into(), server }.into()
        }
        Request::SetServer { server, .. } => {
            Answer::Error { text: format!("no server of farm exchange is named {server}") }.into()
        }
        Request::Upgrade { binary } => {
            let binary = binary.unwrap_or_default();
            Answer::Error { text: format!("cannot start {}; hint: name another", binary.display()) }.into()
        }
        Request::Reload { replace_worker: true } => {
            Answer::Error { text: "no other worker took over; hint: look at its log".to_owned() }.into()
        }
        Request::Reload { replace_worker: false } => Answer::Reloaded(reloaded()).into(),
        Request::Explain(_) => Answer::Explanation(Box::new(explanation())).into(),
        Request::Connections { .. } => Answer::Connections(connections()).into(),
        Request::Capture { reasons, .. } if reasons.is_empty() => {
            Answer::Error { text: "a capture is running; hint: end it".into() }.into()
        }
        Request::Capture { .. } => {
            let (sender, answers) = tokio::sync::mpsc::channel(8);
            samples().into_iter().for_each(|answer| sender.try_send(answer).unwrap());
            Reply::Many(Lines { answers, enough: tokio::sync::watch::Sender::new(false) })
        }
        Request::Configuration(asked) => configured(asked).into(),
        Request::Certificates => Answer::Certificates { certificates: vec![served("aa", 2)] }.into(),
        Request::Metrics => Answer::Metrics { text: METRICS.to_owned() }.into(),
        Request::Recall { id } if id == "1" => {
            Answer::Recalled { request: Some(Box::new(recalled())) }.into()
        }
        Request::Recall { id } if id == "2" => Answer::Recalled { request: None }.into(),
        Request::ExplainRequest(asked) => {
            let summary = format!("sbex1 gets {} {} of {}", asked.method, asked.url, asked.from);
            Answer::RequestExplanation(Box::new(RequestExplanation { summary, ..request_explanation() }))
                .into()
        }
        Request::Recall { id } => Answer::Error { text: format!("there is no request {id}") }.into(),
        Request::Events { follow: false } => Answer::Events { records: events() }.into(),
        Request::Events { follow: true } => {
            let (sender, answers) = tokio::sync::mpsc::channel(8);
            let parts = [events(), vec![event(20, "joined", false, "arr2 is heard")]];
            parts.into_iter().for_each(|records| sender.try_send(Answer::Events { records }).unwrap());
            Reply::Many(Lines { answers, enough: tokio::sync::watch::Sender::new(false) })
        }
    }
}

fn event(seq: u64, kind: &str, warning: bool, text: &str) -> EventRecord {
    EventRecord {
        seq,
        time: WallTime::read(&format!("2026-11-24 12:31:{seq:02}")).unwrap(),
        monotonic_ms: seq * 1000,
        node: "arr1".into(),
        kind: kind.into(),
        warning,
        about: kind.starts_with(['j', 's']).then(|| "arr2".to_owned()),
        text: text.into(),
        count: 1,
        missed: 0,
        details: std::collections::BTreeMap::new(),
    }
}

fn events() -> Vec<EventRecord> {
    let details = serde_json::json!({
        "epoch": 7, "nodes": 1, "moved": 2048, "duration_ms": 93,
        "causes": ["arr2 fell silent", "the operator changed the weight of arr1"],
    });
    let converged = event(3, "converged", false, "converged: owner table 7 of 1 nodes is in force");
    vec![
        EventRecord { count: 3, ..event(1, "joined", false, "arr2 is heard") },
        event(2, "suspect", true, "arr2 is silent and so is its data path: its share is taken over \x1b[31m"),
        EventRecord { details: serde_json::from_value(details).unwrap(), ..converged },
    ]
}

fn explanation() -> Explanation {
    let node = |name: &str, action: &str, unsure: Option<&str>| NodeExplanation {
        name: name.into(),
        action: action.into(),
        unsure: unsure.map(Into::into),
        ..NodeExplanation::default()
    };
    let unsure = "passes it if its kernel has the connection";
    Explanation {
        summary: "arr1 drops it: other, because it is; arr2 holds bucket 77".into(),
        for_cluster: true,
        rule: Some("tcp 443".into()),
        affinity: Some("none: 203.0.113.110:40000".into()),
        table: Some(1),
        bucket: Some(77),
        nodes: vec![node("arr1", "drops", None), node("arr2", "asks its kernel", Some(unsure))],
    }
}

/// With texts that are longer than a line.
fn request_explanation() -> RequestExplanation {
    let step = |what: &str, result: &str| Step { what: what.into(), result: result.into() };
    let server = ServerExplanation {
        name: "a-very-long-name-of-a-server".into(),
        state: "disabled".into(),
        health: "unhealthy".into(),
        finding: Some("no connection".into()),
        tested_ms: Some(1_000_000),
        takes_new: false,
        keeps: true,
    };
    RequestExplanation {
        site: Some("mail.example.test".into()),
        site_why: "the handshake names mail.example.test, and that is a name of the site".into(),
        steps: vec![step("networks", "let the client in"), step("rule old", &"is long, ".repeat(20))],
        farm: Some(FarmExplanation {
            name: "exchange".into(),
            target: "/owa/".into(),
            test: "default".into(),
            idle_seconds: 900,
            body_bytes: u64::MAX,
            servers: vec![server],
            ..FarmExplanation::default()
        }),
        remarks: vec!["limits are not looked at; ".repeat(5)],
        ..RequestExplanation::default()
    }
}

fn recalled() -> Recalled {
    Recalled {
        id: "1".into(),
        client: "203.0.113.9".into(),
        method: "POST".into(),
        host: "mail.example.test".into(),
        path: "/ews/".into(),
        status: 502,
        cause: "connect_failed".into(),
        total_us: 5_000_000,
        whole: true,
        ..Recalled::default()
    }
}

fn connections() -> Connections {
    let connection = Connection {
        client: "203.0.113.110:40000".parse().unwrap(),
        service: "192.168.150.108:65535".parse().unwrap(),
        state: "established".into(),
        table: 31,
        bucket: 4095,
        bucket_state: "departing".into(),
        holder: Some("a-very-long-name-of-a-node".into()),
    };
    Connections { connections: vec![connection], total: 12_345, established: 12_300 }
}

fn samples() -> Vec<Answer> {
    let sample = Sample {
        time_us: 1_000_000,
        protocol: "tcp".into(),
        source: Some("203.0.113.110".parse().unwrap()),
        source_port: 40_000,
        destination: Some("192.168.50.8".parse().unwrap()),
        destination_port: 443,
        flags: "S".into(),
        rule: Some("tcp 443".into()),
        reason: "new-mine".into(),
        length: 74,
    };
    let end = Captured { shown: 1, skipped: 2000, matched: 2001 };
    vec![Answer::Sample(sample), Answer::Skipped { packets: 2000 }, Answer::Captured(end)]
}

const MOST: Count = Count { packets: u64::MAX, bytes: u64::MAX };

/// Every field as wide as it may become.
fn operated(node: &str, done: bool, text: &str) -> Operated {
    Operated { node: node.into(), done, text: text.into() }
}

fn half_done() -> Vec<Operated> {
    vec![operated("arr1", true, "stops, for 443"), operated("arr2", false, "it is not heard")]
}

fn status() -> Status {
    let server = server("sbex1", "disabled");
    Status {
        node: "arr1".into(),
        problem: Some("arr2 is silent for 12 s: does UDP port 7644 reach it?".into()),
        state: "serving".into(),
        default_host: Some("arr1".into()),
        stands_by: Some("has stood by for 3 min 7 s, because it came back; more of it follows here".into()),
        adjusted: vec![
            "a-very-long-name-of-a-node has the weight 0 instead of 100 for tcp+udp 8000-8099".into(),
        ],
        nodes: nodes(),
        tables: vec![table()],
        rules: vec![rule()],
        interface: InterfaceStatus {
            name: "enp0s31f6np1vf3".into(),
            xdp: "generic".into(),
            why: Some("the driver has no XDP".into()),
            cluster_mac: "03:bf:c0:a8:32:08".into(),
            ..InterfaceStatus::default()
        },
        counters: [("pass-mine".into(), MOST), ("never-counted".into(), Count::default())].into(),
        proxy: Some(ProxyStatus {
            alive: true,
            pid: Some(4_194_304),
            servers: vec![server],
            ..ProxyStatus::default()
        }),
        certificates: vec![served("aa", 2)],
        heartbeat_port: 7644,
        peer_port: 7645,
        events: vec!["arr2 joined".into(), "a sentence that does not fit, ".repeat(9)],
        ..Status::default()
    }
}

fn server(name: &str, state: &str) -> ServerStatus {
    let test = |name: &str, health: &str| TestStatus {
        name: name.into(),
        what: format!("/{name}/healthcheck.htm"),
        health: health.into(),
        finding: Some("no connection".into()),
        tested_ms: Some(1_000_000),
    };
    ServerStatus {
        farm: "exchange".into(),
        name: name.into(),
        address: "192.168.150.107:65535".into(),
        state: state.into(),
        configured: "active".into(),
        weight: 1000,
        backup: true,
        requests: 12_345,
        total: u64::MAX,
        failed: u64::MAX,
        response_us: 59_999_000,
        tests: vec![test("autodiscover", "unhealthy"), test("ews", "healthy")],
        ..ServerStatus::default()
    }
}

fn nodes() -> Vec<NodeStatus> {
    let own = NodeStatus {
        name: "arr1".into(),
        state: "draining".into(),
        shares: vec![4096],
        connections: Some(3),
        ..NodeStatus::default()
    };
    let node = NodeStatus {
        name: "a-very-long-name-of-a-node".into(),
        priority: 64,
        address: "192.168.150.107".into(),
        state: "draining".into(),
        holds: 4096,
        silent_ms: Some(123_456),
        ready: false,
        deaf: true,
        passed: Some(MOST),
        ..NodeStatus::default()
    };
    vec![own, node]
}

fn table() -> TableStatus {
    let service = ServiceStatus {
        tests: vec!["proxy".into(), "command /usr/local/lib/rollcall/checks/exchange".into()],
        works: Some(false),
        trouble: Some("a sentence that does not fit into what is left of the line, by far".into()),
    };
    TableStatus {
        filtering: "multiple".into(),
        ports: "tcp 25, tcp 80, tcp 443, tcp+udp 8000-8099 at 192.168.50.8".into(),
        sticky_seconds: 240 * 60,
        sticking: 4096,
        mine: 4096,
        arriving: 4096,
        departing: 4096,
        intent: "draining".into(),
        service: Some(service),
        states: "m".repeat(4096),
    }
}

fn rule() -> RuleStatus {
    RuleStatus {
        rule: "tcp+udp 8000-8099 at 192.168.50.8".into(),
        accepted: MOST,
        left_to_others: MOST,
        refused: MOST,
        ..RuleStatus::default()
    }
}

fn agent(run_dir: &Path) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sockets = runtime.block_on(async { Sockets::bind(run_dir).unwrap() });
    runtime.spawn(async move { serve(&sockets, answer).await });
    runtime
}

fn rollcall(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rollcall")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rollcall-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Folder {
    /// A cluster of this node alone, on `nic`, with its run folder in this one.
    fn configuration(&self) -> PathBuf {
        let file = self.0.join("cluster.toml");
        let cluster = "[cluster]\nip = \"192.168.50.8/24\"\nmode = \"multicast\"\n\
                       [[node]]\nname = \"arr1\"\naddress = \"192.168.50.6\"\npriority = 1\n";
        std::fs::write(&file, cluster).unwrap();
        let node = format!("name = \"arr1\"\ninterface = \"nic\"\nrun_dir = \"{}/run\"\n", self.path());
        std::fs::write(self.0.join("node.toml"), node).unwrap();
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
