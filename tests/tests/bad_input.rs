//! What bad input gets: each case provoked with the real binary on a node of the lab. One clear message with cause and cure,
//! exit status 2 for usage and configuration and 1 for the rest, and a host that is as it was.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails panics with its error")]

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rollcall_tests::lab::{CLUSTER_IP, GATEWAY, NODE_DMZ, Plan};
use rollcall_tests::node::{Cluster, Node, rollcall};
use rollcall_tests::sys::{find_program, signal};
use rustix::process::Signal;

/// Longer than any refusal takes; no measurement.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something wrong, and what the agent of arr1 has to say of it.
struct Case {
    name: &'static str,
    provoke: fn(&mut Cluster) -> Undo,
    /// The command that starts the agent's.
    around: &'static [&'static str],
    status: i32,
    /// What the `error:` lines say.
    causes: &'static [&'static str],
    /// What the `hint:` lines say.
    hints: &'static [&'static str],
}

/// Takes the provocation back; the node's files are put back anyhow.
type Undo = Box<dyn FnOnce()>;

/// A command that hides a folder from what it starts.
macro_rules! hiding {
    ($folder:literal) => {
        ["unshare", "-m", "sh", "-c", concat!("mount -t tmpfs none ", $folder, " && exec \"$0\" \"$@\"")]
    };
}
const CASES: &[Case] = &[
    Case {
        name: "an unknown key of the cluster file",
        provoke: |cluster| edit(cluster, "cluster.toml", "gateway =", "gatway ="),
        around: &[],
        status: 2,
        causes: &["cluster.toml:4:1: unknown key `gatway`"],
        hints: &["did you mean `gateway`?"],
    },
    Case {
        name: "an unknown key of the node's file",
        provoke: |cluster| edit(cluster, "node.toml", "interface =", "interfce ="),
        around: &[],
        status: 2,
        causes: &["node.toml:2:1: unknown key `interfce`"],
        hints: &["did you mean `interface`?"],
    },
    Case {
        name: "a wrong type",
        provoke: |cluster| edit(cluster, "cluster.toml", "priority = 1", "priority = \"one\""),
        around: &[],
        status: 2,
        causes: &["cluster.toml:11:12: wrong type: string \"one\""],
        hints: &["expected here: a whole number"],
    },
    Case {
        name: "no such file",
        provoke: |cluster| {
            fs::remove_file(&cluster.node("arr1").config).unwrap();
            nothing()
        },
        around: &[],
        status: 2,
        causes: &["cluster.toml: cannot be read: No such file"],
        hints: &["copy it from another one"],
    },
    Case {
        name: "an unknown interface",
        provoke: |cluster| edit(cluster, "node.toml", "\"dmz\"", "\"eth7\""),
        around: &[],
        status: 2,
        causes: &["no interface eth7"],
        hints: &["in node.toml to one of: dmz, lan"],
    },
    Case {
        name: "the loopback interface",
        provoke: |cluster| edit(cluster, "node.toml", "\"dmz\"", "\"lo\""),
        around: &[],
        status: 2,
        causes: &["interface lo is not an Ethernet interface"],
        hints: &["`interface` in node.toml to the one in the cluster IP's network"],
    },
    Case {
        name: "an interface that is down",
        provoke: |cluster| on_the_interface(cluster, "link set dmz down", "link set dmz up"),
        around: &[],
        status: 1,
        causes: &["interface dmz is down"],
        hints: &["ip link set dmz up"],
    },
    Case {
        name: "another node's name",
        provoke: |cluster| edit(cluster, "node.toml", "\"arr1\"", "\"arr2\""),
        around: &[],
        status: 2,
        causes: &["interface dmz has 192.168.50.6, not this node's address 192.168.50.7"],
        hints: &["`name` in node.toml"],
    },
    Case {
        name: "a cluster IP outside the nodes' network",
        provoke: |cluster| edit(cluster, "cluster.toml", "192.168.50.8/24", "192.168.51.8/24"),
        around: &[],
        status: 2,
        causes: &["cluster.toml:2:6: cluster IP 192.168.51.8 is in the network 192.168.51.0/24"],
        hints: &["correct the cluster IP"],
    },
    Case {
        name: "a cluster IP outside the interface's network",
        provoke: |cluster| {
            on_the_interface(
                cluster,
                "addr del 192.168.50.6/24 dev dmz\naddr add 192.168.50.6/29 dev dmz",
                "addr del 192.168.50.6/29 dev dmz\naddr add 192.168.50.6/24 dev dmz",
            )
        },
        around: &[],
        status: 2,
        causes: &[
            "cluster IP 192.168.50.8 is not in the network of interface dmz, which has 192.168.50.6/29",
        ],
        hints: &["`interface` in node.toml"],
    },
    Case {
        name: "a cluster IP that another machine answers",
        provoke: |cluster| {
            let other = cluster.node("arr2").place.namespace.clone();
            other.ip(&format!("addr add {CLUSTER_IP}/24 dev {NODE_DMZ}")).unwrap();
            Box::new(move || {
                other.ip(&format!("addr del {CLUSTER_IP}/24 dev {NODE_DMZ}")).unwrap();
            })
        },
        around: &[],
        status: 1,
        causes: &["another machine, 02:aa:c0:a8:32:07, answers for cluster IP 192.168.50.8"],
        hints: &["find it by that MAC address"],
    },
    Case {
        name: "a cluster IP that this host has already",
        provoke: |cluster| {
            let address = format!("{CLUSTER_IP}/24 dev {NODE_DMZ}");
            on_the_interface(cluster, &format!("addr add {address}"), &format!("addr del {address}"))
        },
        around: &[],
        status: 1,
        causes: &["cluster IP 192.168.50.8 is an address of interface dmz"],
        hints: &["ip address del 192.168.50.8/24 dev dmz"],
    },
    Case {
        name: "two nodes with one priority",
        provoke: |cluster| edit(cluster, "cluster.toml", "priority = 2", "priority = 1"),
        around: &[],
        status: 2,
        causes: &["cluster.toml:16:12: host priority 1 belongs to arr1 already"],
        hints: &["each must have its own"],
    },
    Case {
        name: "a certificate that is not there",
        provoke: |cluster| edit(cluster, "cluster.toml", "certificate = \"", "certificate = \"/nowhere"),
        around: &[],
        status: 2,
        causes: &["cannot be read: No such file or directory"],
        hints: &["give the right path"],
    },
    Case {
        name: "a certificate that is none",
        provoke: |cluster| {
            let file = replace_file(cluster, "certificate");
            fs::write(file, "MIIKYgIBAzCCCh4").unwrap();
            nothing()
        },
        around: &[],
        status: 2,
        causes: &["other.pem: damaged, or neither PEM nor PKCS#12"],
        hints: &["openssl pkcs12 -info -noout -in", "other.pem"],
    },
    Case {
        name: "a key that is none",
        provoke: |cluster| {
            let file = replace_file(cluster, "key");
            fs::write(file, "MIIKYgIBAzCCCh4").unwrap();
            nothing()
        },
        around: &[],
        status: 2,
        causes: &["other.pem: damaged, or neither PEM nor PKCS#12"],
        hints: &["openssl pkcs12 -info -noout -in", "other.pem"],
    },
    Case {
        name: "the key of another certificate",
        provoke: |cluster| {
            let file = replace_file(cluster, "key");
            fs::write(file, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
            nothing()
        },
        around: &[],
        status: 2,
        causes: &["the private key belongs to none of the certificates"],
        hints: &["name the key that the certificate was requested with"],
    },
    Case {
        name: "no cluster secret",
        provoke: |cluster| edit(cluster, "node.toml", "cluster.secret", "no.secret"),
        around: &[],
        status: 2,
        causes: &["cannot read the cluster secret", "No such file or directory"],
        hints: &["openssl rand -hex 32", "copy it to every node"],
    },
    Case {
        name: "a proxy user that does not exist",
        provoke: |cluster| edit(cluster, "node.toml", "\"64750\"", "\"rollcall-nobody\""),
        around: &[],
        status: 2,
        causes: &["no user `rollcall-nobody`"],
        hints: &["useradd --system", "`proxy_user` or `peer_user` in node.toml"],
    },
    Case {
        name: "a run folder that cannot be made",
        provoke: |cluster| edit(cluster, "node.toml", "run_dir = \"", "run_dir = \"/proc/nowhere"),
        around: &[],
        status: 1,
        causes: &["cannot make the run folder /proc/nowhere"],
        hints: &["`run_dir` in node.toml"],
    },
    Case {
        name: "a site's port that is taken",
        provoke: |cluster| {
            let namespace = &cluster.node("arr1").place.namespace;
            let taken = namespace.enter(|| TcpListener::bind("0.0.0.0:443"));
            let taken = taken.unwrap().unwrap();
            Box::new(|| drop(taken))
        },
        around: &[],
        status: 1,
        causes: &["TCP port 443 of 192.168.50.8 is taken"],
        hints: &["`ss -lpn sport = :443` names it"],
    },
    Case {
        name: "the heartbeats' port taken",
        provoke: |cluster| {
            let namespace = &cluster.node("arr1").place.namespace;
            let taken = namespace.enter(|| UdpSocket::bind("0.0.0.0:7644"));
            let taken = taken.unwrap().unwrap();
            Box::new(|| drop(taken))
        },
        around: &[],
        status: 1,
        causes: &["UDP port 7644 of 192.168.50.6 is taken"],
        hints: &["`ss -lpn sport = :7644` names it"],
    },
    Case {
        name: "one capability missing",
        provoke: |_| nothing(),
        around: &["setpriv", "--bounding-set", "-perfmon"],
        status: 1,
        causes: &["lacks CAP_PERFMON"],
        hints: &["run it as root"],
    },
    Case {
        name: "an ordinary user",
        provoke: |_| nothing(),
        // The user may not be able to walk the path to the binary, so it appears elsewhere, for this process alone.
        around: &[
            "unshare",
            "-m",
            "sh",
            "-c",
            "mount --bind \"$0\" /usr/bin/true && \
             exec setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/true \"$@\"",
        ],
        status: 1,
        causes: &["lacks CAP_BPF, CAP_NET_ADMIN"],
        hints: &["run it as root"],
    },
    Case {
        name: "too few file descriptors",
        provoke: |_| nothing(),
        around: &["prlimit", "--nofile=256:256"],
        status: 1,
        causes: &["only 256 open files are allowed"],
        hints: &["LimitNOFILE=65536", "ulimit -n 65536"],
    },
    Case {
        name: "next to no file descriptors",
        provoke: |_| nothing(),
        around: &["prlimit", "--nofile=6:6"],
        status: 1,
        causes: &["only 6 open files are allowed"],
        hints: &["LimitNOFILE=65536"],
    },
    Case {
        name: "a kernel without BTF",
        provoke: |_| nothing(),
        around: &hiding!("/sys/kernel/btf"),
        status: 1,
        causes: &["no /sys/kernel/btf/vmlinux"],
        hints: &["CONFIG_DEBUG_INFO_BTF=y"],
    },
    Case {
        name: "no BPF file system",
        provoke: |_| nothing(),
        around: &hiding!("/sys/fs/bpf"),
        status: 1,
        causes: &["is not on a BPF file system"],
        hints: &["mount -t bpf bpf /sys/fs/bpf"],
    },
];

#[test]
fn each_refusal_names_cause_and_cure_and_leaves_the_host_as_it_was() {
    let mut cluster = Cluster::raise(&Plan::light(2)).unwrap();
    let node = cluster.node("arr1");
    // An agent makes its run folder, and has to take it away again.
    fs::remove_dir(&node.run_dir).unwrap();
    let (files, untouched) = (texts(node), node.footprint().unwrap());
    let failures: Vec<String> = CASES
        .iter()
        .flat_map(|case| {
            let undo = (case.provoke)(&mut cluster);
            let wrong = refuse(cluster.node("arr1"), case);
            undo();
            for (path, text) in &files {
                fs::write(path, text).unwrap();
            }
            wrong.into_iter().map(|wrong| format!("{}: {wrong}", case.name))
        })
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));

    // Nothing of all that keeps the next agent from starting, or stays after it.
    let node = cluster.node("arr1");
    assert_eq!(node.footprint().unwrap(), untouched);
    node.start().unwrap();
    node.wait_until("it answers", |_| true).unwrap();
    assert!(node.stop().unwrap().success(), "{}", node.log_tail());
    assert_eq!(node.footprint().unwrap(), untouched);
    assert!(!node.run_dir.exists());
}

#[test]
fn a_second_agent_is_refused_and_the_first_goes_on() {
    let mut cluster = Cluster::raise(&Plan::light(2)).unwrap();
    let node = cluster.node("arr1");
    node.start().unwrap();
    node.wait_until("it answers", |_| true).unwrap();
    let pid = node.status().unwrap().pid;
    let (first, before) = (node.run_dir.clone(), node.footprint().unwrap());
    let second = run(node, &[]);
    let wrong = shortcomings(
        &second,
        1,
        &["an agent is running on interface dmz already (pid", &pid.to_string()],
        &["stop it first"],
    );
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(node.footprint().unwrap(), before);

    // On another interface, but with the first one's folder: it would undo the first one's settings.
    let other = cluster.node("arr2");
    let (node_file, untouched) = (other.config.with_file_name("node.toml"), other.footprint().unwrap());
    let text = fs::read_to_string(&node_file).unwrap();
    let (own, first) = (other.run_dir.to_string_lossy(), first.to_string_lossy());
    fs::write(&node_file, text.replace(&*own, &first)).unwrap();
    let wrong = shortcomings(
        &run(other, &[]),
        1,
        &["an agent is running with the run folder", &first],
        &["its own `run_dir` in node.toml"],
    );
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(other.footprint().unwrap(), untouched);
    let node = cluster.node("arr1");
    assert_eq!(node.footprint().unwrap(), before);
    assert!(node.stop().unwrap().success(), "{}", node.log_tail());
}

#[test]
fn a_peer_that_is_never_heard_is_told_with_the_port() {
    let mut cluster = Cluster::raise(&Plan::light(2)).unwrap();
    let node = cluster.node("arr1");
    node.start().unwrap();
    let status = node.wait_until("it misses arr2's heartbeats", |status| {
        let told =
            |event: &String| event.starts_with("no heartbeat from arr2") && event.contains("UDP port 7644");
        status.events.iter().any(told)
    });
    let problem = status.unwrap().problem.unwrap();
    assert!(problem.contains("arr2") && problem.contains("UDP port 7644"), "{problem}");
    let shown = node.control(&["status"]).unwrap();
    assert!(shown.starts_with(&problem), "{shown}");
    assert!(node.stop().unwrap().success(), "{}", node.log_tail());
}

#[test]
fn nodes_whose_files_give_them_one_priority_are_told_and_at_most_one_serves() {
    let mut cluster = Cluster::raise(&Plan::light(2)).unwrap();
    let other = &cluster.node("arr2").config.clone();
    let text = fs::read_to_string(other).unwrap();
    let swapped = text
        .replace("priority = 1", "priority = 0")
        .replace("priority = 2", "priority = 1")
        .replace("priority = 0", "priority = 2");
    fs::write(other, swapped).unwrap();
    cluster.start_agents().unwrap();
    for name in ["arr1", "arr2"] {
        let node = cluster.node(name);
        let told = node.wait_until("it tells of the priority", |status| {
            status.events.iter().any(|event| event.contains("this node's") && event.contains("priority"))
        });
        told.unwrap();
    }
    let leases = cluster.nodes.iter().filter(|node| node.status().unwrap().lease);
    assert!(leases.count() < 2, "both serve");
    for node in &mut cluster.nodes {
        assert!(node.stop().unwrap().success(), "{}", node.log_tail());
    }
}

#[test]
fn an_agent_whose_log_nobody_reads_any_more_goes_on() {
    let mut cluster = Cluster::raise(&Plan::light(1)).unwrap();
    let node = cluster.node("arr1");
    let mut command = node.place.namespace.command(rollcall().unwrap());
    command.arg("run").arg("--config").arg(&node.config);
    let mut agent = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(agent.stderr.take());
    node.wait_until("it answers", |_| true).unwrap();
    for _ in 0..3 {
        node.drain().unwrap();
        node.wait_until("it drains", |status| status.state == "draining").unwrap();
        node.resume().unwrap();
        node.wait_until("it serves", |status| status.state == "serving").unwrap();
    }
    signal(agent.id(), Signal::TERM);
    assert!(agent.wait().unwrap().success());
}

#[test]
fn colours_are_for_terminals_and_a_reader_that_leaves_is_no_error() {
    let mut cluster = Cluster::raise(&Plan::light(1)).unwrap();
    let script = find_program("script").unwrap();
    let node = cluster.node("arr1");
    let binary = rollcall().unwrap();
    let on_terminal = |arguments: &str| {
        let line = format!("{} {arguments}", binary.display());
        let output = Command::new(&script).args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let missing = "check /nowhere/cluster.toml";
    assert!(on_terminal(missing).starts_with("\x1b[1;31merror\x1b[0m: /nowhere/cluster.toml"));
    let piped = node.rollcall(&["check", "/nowhere/cluster.toml"]).unwrap();
    assert!(!piped.stderr.contains(&0x1b));

    node.start().unwrap();
    node.wait_until("it answers", |_| true).unwrap();
    let run_dir = node.run_dir.to_string_lossy().into_owned();
    assert!(on_terminal(&format!("status --run-dir {run_dir}")).contains("\x1b[1m"));
    assert!(!node.control(&["status"]).unwrap().contains('\x1b'));

    for arguments in [&["status"][..], &["status", "--json"]] {
        let mut status = Command::new(&binary);
        status.args(arguments).args(["--run-dir", &run_dir]);
        let mut status = status.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(status.stdout.take());
        let ended = status.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{arguments:?}");
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}");
    }
    assert!(node.stop().unwrap().success(), "{}", node.log_tail());
    let absent = node.rollcall(&["status", "--run-dir", &run_dir]).unwrap();
    let wrong = shortcomings(&absent, 1, &["no agent is running for"], &["rollcall run --config FILE"]);
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_right() {
    for (arguments, said) in [
        (&["rnu"][..], "Usage: rollcall <COMMAND>"),
        (&["run"], "--config FILE"),
        (&["run", "--conf", "x"], "'--config'"),
        (&["status", "--jsn"], "'--json'"),
    ] {
        let output = Command::new(rollcall().unwrap()).args(arguments).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.starts_with("error: ") && message.contains(said), "{message}");
    }
}

/// What is wrong with how the node's agent refuses.
fn refuse(node: &Node, case: &Case) -> Vec<String> {
    let before = node.footprint().unwrap();
    let output = run(node, case.around);
    let mut wrong = shortcomings(&output, case.status, case.causes, case.hints);
    let after = node.footprint().unwrap();
    wrong.extend(after.difference(&before).map(|left| format!("left behind: {left}")));
    wrong.extend(before.difference(&after).map(|lost| format!("taken away: {lost}")));
    if node.run_dir.exists() {
        wrong.push("left behind: the run folder".to_owned());
    }
    wrong
}

/// What is wrong with a refusal.
fn shortcomings(output: &Output, status: i32, causes: &[&str], hints: &[&str]) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    let mut wrong = Vec::new();
    if output.status.code() != Some(status) {
        wrong.push(format!("{} instead of {status}:\n{text}", output.status));
    }
    for (start, phrases) in [("error: ", causes), ("hint: ", hints)] {
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(start)).collect();
        for phrase in phrases {
            if !lines.iter().any(|line| line.contains(phrase)) {
                wrong.push(format!("no line `{start}..{phrase}..` in:\n{text}"));
            }
        }
    }
    // No debug formatting, no panic, no colours, nothing twice, no end of a page.
    for foreign in ["os error", "panicked", "Err(", "Error(", "kind:", "\x1b"] {
        if text.contains(foreign) {
            wrong.push(format!("{foreign:?} in:\n{text}"));
        }
    }
    let mut lines: Vec<&str> = text.lines().collect();
    if lines.len() > 12 || text.len() > 1500 {
        wrong.push(format!("too long:\n{text}"));
    }
    lines.sort_unstable();
    if lines.windows(2).any(|pair| pair[0] == pair[1]) {
        wrong.push(format!("something twice in:\n{text}"));
    }
    wrong
}

/// Runs an agent that is expected to end by itself.
fn run(node: &Node, around: &[&str]) -> Output {
    let config = node.config.to_string_lossy().into_owned();
    node.rollcall_under(around, &["run", "--config", &config], PATIENCE).unwrap()
}

fn nothing() -> Undo {
    Box::new(|| {})
}

/// Changes a file of arr1.
fn edit(cluster: &mut Cluster, file: &str, from: &str, to: &str) -> Undo {
    cluster.node("arr1").rewrite(file, from, to).unwrap();
    nothing()
}

/// Has arr1's cluster file name another file as its `certificate` or `key`, and gives its path.
fn replace_file(cluster: &mut Cluster, key: &str) -> PathBuf {
    let other = cluster.lab.folder().join("other.pem");
    let path = &cluster.node("arr1").config;
    let text = fs::read_to_string(path).unwrap();
    let start = format!("{key} = ");
    let changed: Vec<String> = text
        .lines()
        .map(|line| match line.starts_with(&start) {
            true => format!("{start}{other:?}"),
            false => line.to_owned(),
        })
        .collect();
    fs::write(path, changed.join("\n")).unwrap();
    other
}

/// Does something to arr1's interface, to be undone by `undo`; its route is restored too.
fn on_the_interface(cluster: &mut Cluster, commands: &str, undo: &str) -> Undo {
    let namespace = cluster.node("arr1").place.namespace.clone();
    namespace.ip(commands).unwrap();
    let undo = format!("{undo}\nroute replace default via {GATEWAY}");
    Box::new(move || {
        namespace.ip(&undo).unwrap();
    })
}

/// The node's files with their texts.
fn texts(node: &Node) -> Vec<(PathBuf, String)> {
    ["cluster.toml", "node.toml"]
        .map(|file| node.config.with_file_name(file))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path, text)
        })
        .into()
}
