//! The recipe that this replaces, from its first step to its last, with one node that serves and one that stands by, and with two that
//! serve: two machines of IIS become two nodes, the router's NAT is moved to them, each machine and each server loses its power, a
//! certificate is replaced, and all of it comes back from an exported file on bare machines. Clients of OWA, ActiveSync, EWS and SMTP are
//! at work all the time, and count.
//!
//! What may fail is what was on the machine that lost its power, at that moment: of each client one request at most. Of a node the capture says
//! which those are.

mod clients;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use lb_common::table::BUCKETS;
use lb_user::clock::Time;
use lb_user::control::api::Status;
use rollcall_tests::backend::Backend;
use rollcall_tests::capture::{Capture, Flows, Gone};
use rollcall_tests::exchange::Exchange;
use rollcall_tests::exchange::background::Background;
use rollcall_tests::exchange::standin::Standin;
use rollcall_tests::lab::{CLUSTER_IP, GATEWAY, PUBLIC_NAME, Plan};
use rollcall_tests::node::{Node, PATIENCE, table_of, with_first_node_alone, workspace_root};
use rollcall_tests::postfix::{EDGE, Postfix, Upstream};
use rollcall_tests::report::line;
use rollcall_tests::sys::{find_program, output};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

use self::clients::{Asked, Clients};

#[test]
fn where_one_node_serves_the_recipe_costs_no_more_than_what_was_on_a_machine_that_fell() {
    follow("Single");
}

#[test]
fn where_both_nodes_serve_the_recipe_costs_no_more_than_what_was_on_a_machine_that_fell() {
    follow("Multiple");
}

/// All of it, in this mode of NLB's.
fn follow(mode: &str) {
    let mut site = Site::of_windows();
    let file = site.imported(mode);
    site.found(&file);
    site.move_nat();
    site.real_clients();
    let mut work = Work::start(&site);
    work.without_node(&mut site, "arr2");
    work.without_node(&mut site, "arr1");
    work.without_both(&mut site);
    work.without_server(&mut site, "sbex1");
    site.renew_certificate();
    work.clients.wait_for(3);
    work.finish();
    site.renew_servers();
    site.restore();
    let work = Work::start(&site);
    site.real_clients();
    work.clients.wait_for(3);
    work.finish();
    drop((site.windows, site.edge));
    assert_eq!(site.exchange.tear_down(), Vec::<String>::new());
}

const SERVERS: [&str; 2] = ["sbex1", "sbex3"];

/// The cluster IP of the machines of IIS.
const WINDOWS: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 18);

/// All that is published, and what publishes it.
struct Site {
    windows: Backend,
    edge: Postfix,
    exchange: Exchange,
}

impl Site {
    /// As it is before the recipe: the router's NAT leads to the machines of IIS.
    fn of_windows() -> Self {
        let plan = Plan { ports: vec![(25, CLUSTER_IP)], ..Plan::light(2) };
        let mut exchange = Exchange::raise_on(&plan, 3).unwrap();
        exchange.start_standins(&SERVERS).unwrap();
        let lab = &exchange.cluster.lab;
        let edge = Postfix::start(lab, Upstream::ProxyProtocol).unwrap();
        let machine = lab.stranger("windows", WINDOWS).unwrap();
        machine.ip(&format!("route add default via {GATEWAY}")).unwrap();
        let windows = Backend::start(lab, &machine, "windows", &exchange.cluster.certificates).unwrap();
        lab.publish(WINDOWS).unwrap();
        Self { windows, edge, exchange }
    }

    /// The cluster file that an operator makes of what Windows exported.
    fn imported(&self, mode: &str) -> PathBuf {
        let folder = self.exchange.cluster.lab.folder().join("import");
        let exported = exported(&folder);
        self.pfx(&folder);
        fs::write(folder.join("nlb.txt"), nlb(mode)).unwrap();
        fs::write(folder.join("hosts"), "192.168.50.6 arr1\n192.168.50.7 arr2\n").unwrap();
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let import = ["import-iis", &exported.to_string_lossy(), "--certificates", &path("pfx")];
        let (password, nlb, hosts) = (path("password"), path("nlb.txt"), path("hosts"));
        let known = ["--password-file", &password, "--nlb", &nlb, "--hosts", &hosts];
        let (out, report) = (path("imported.toml"), path("report.txt"));
        let results = ["--out", &out, "--report", &report];
        let node = &self.exchange.cluster.nodes[0];
        let done = node.rollcall(&[&import[..], &known, &results].concat()).unwrap();
        let told = fs::read_to_string(&report).unwrap_or_default();
        assert!(done.status.success(), "{}\n{told}", String::from_utf8_lossy(&done.stderr));
        let file = folder.join("cluster.toml");
        fs::write(&file, edited(&fs::read_to_string(&out).unwrap(), mode)).unwrap();
        file
    }

    /// The site's certificate as Windows exports it, in the folder `pfx`, and its password.
    fn pfx(&self, folder: &Path) {
        let certificates = &self.exchange.cluster.certificates;
        let password = folder.join("password");
        fs::create_dir(folder.join("pfx")).unwrap();
        fs::write(&password, "of the export\n").unwrap();
        let mut openssl = Command::new(find_program("openssl").unwrap());
        openssl.args(["pkcs12", "-export", "-in"]).arg(&certificates.certificate);
        openssl.arg("-inkey").arg(&certificates.key).arg("-out").arg(folder.join("pfx/mail.pfx"));
        openssl.arg("-passout").arg(format!("file:{}", password.display()));
        output(&mut openssl, None).unwrap();
    }

    /// `init`, `doctor`, `token`, `join`, and each node's doctor finds nothing wrong.
    fn found(&mut self, file: &Path) {
        let nodes = &mut self.exchange.cluster.nodes;
        nodes[0].become_one(&["init", "--from", &file.to_string_lossy()]).unwrap();
        nothing_is_wrong(&nodes[0]);
        self.serve_and_take_in_the_other();
        nothing_is_wrong(&self.exchange.cluster.nodes[1]);
    }

    /// Has the first node serve, and the other join it.
    fn serve_and_take_in_the_other(&mut self) {
        let cluster = &mut self.exchange.cluster;
        cluster.nodes[0].start().unwrap();
        cluster.nodes[0].wait_until("it serves", |status| status.lease).unwrap();
        let (of, token) = (cluster.nodes[0].place.address.to_string(), cluster.nodes[0].token().unwrap());
        cluster.nodes[1].become_one(&["join", &of, "--token", &token]).unwrap();
        cluster.nodes[1].start().unwrap();
        cluster.settle().unwrap();
    }

    /// New connections come to the nodes, and one that was there goes on.
    fn move_nat(&self) {
        let https = self.exchange.cluster.https().unwrap();
        let mut old = https.connect().unwrap();
        assert_eq!(old.get("/owa/").unwrap().server, "windows");
        self.exchange.cluster.lab.publish(CLUSTER_IP).unwrap();
        let new = https.connect().unwrap().get("/owa/").unwrap();
        assert_eq!((new.status, new.server.as_str()), (302, ""));
        assert_eq!(old.get("/owa/").unwrap().server, "windows");
    }

    /// exchangelib, a phone and a browser, each logged on as somebody else, do what they are for.
    fn real_clients(&self) {
        let programs = ["ews_client.py", "activesync_client.py", "owa_client.py"];
        let users = self.exchange.users.iter();
        let at_work: Vec<Background> = programs
            .iter()
            .zip(users)
            .map(|(program, user)| {
                let accounts = self.exchange.cluster.lab.folder().join(&user.name);
                fs::write(&accounts, format!("LAB:{}:{}\n", user.name, user.password)).unwrap();
                let mut client = self.exchange.client(program).unwrap();
                Background::start(&self.exchange, program, client.arg("--accounts").arg(accounts)).unwrap()
            })
            .collect();
        let said: Vec<Value> =
            at_work.into_iter().map(|client| client.finish(2 * PATIENCE).unwrap()).collect();
        assert_eq!(said[0]["events"], serde_json::json!(["StatusEvent", "NewMailEvent"]), "{said:?}");
        assert_eq!((&said[1]["vain"], &said[1]["woken"]), (&"1".into(), &"2".into()), "{said:?}");
        assert_eq!(said[2]["inside"], serde_json::json!(["/owa/", "Mail - user002"]), "{said:?}");
    }

    /// A new certificate on one node is served by both.
    fn renew_certificate(&mut self) {
        let cluster = &mut self.exchange.cluster;
        let renewed = cluster.certificates.renewed(&cluster.lab.folder().join("renewed")).unwrap();
        let (certificate, key) = (renewed.certificate.to_string_lossy(), renewed.key.to_string_lossy());
        let set = ["certificate", "set", PUBLIC_NAME, &certificate, "--key", &key, "--json"];
        let set: Value = serde_json::from_str(&cluster.nodes[1].control(&set).unwrap()).unwrap();
        assert_eq!(set["applied"]["on"], serde_json::json!(["arr1"]), "{set}");
        let https = cluster.https().unwrap();
        let before = cluster.certificates.clone();
        cluster.certificates = renewed;
        for (serves, other) in [("arr1", "arr2"), ("arr2", "arr1")] {
            cluster.node(other).drain().unwrap();
            let all = |status: &Status| {
                table_of(status, "443").is_ok_and(|table| (table.mine + table.arriving) as usize == BUCKETS)
            };
            cluster.node(serves).wait_until("it serves alone", all).unwrap();
            let presented = https.connect().unwrap().certificate().unwrap();
            assert_eq!(presented, leaf(&cluster.certificates.certificate), "by {serves}");
            assert_ne!(presented, leaf(&before.certificate), "by {serves}");
            cluster.node(other).resume().unwrap();
            cluster.converge().unwrap();
        }
    }

    /// The servers get the new certificate, too, without which they are strangers to nodes that know no other.
    fn renew_servers(&mut self) {
        for server in SERVERS {
            self.exchange.standins.retain(|standin| standin.server != server);
            self.exchange.standins.push(Standin::start(&self.exchange, server).unwrap());
        }
    }

    /// Everything is in one file; the machines get new disks; and the file is all that they are made of again.
    fn restore(&mut self) {
        let cluster = &mut self.exchange.cluster;
        let folder = cluster.lab.folder();
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let (file, passphrase) = (path("cluster.rollcall"), path("passphrase"));
        fs::write(&passphrase, "of the export\n").unwrap();
        let node_file = cluster.nodes[0].own_folder().join("node.toml").to_string_lossy().into_owned();
        let export = ["config", "export", &file, "--passphrase-file", &passphrase, "--node-file", &node_file];
        let exported = cluster.nodes[0].rollcall(&export).unwrap();
        assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
        let fingerprints = fingerprints(&cluster.nodes[0]);
        for name in ["arr1", "arr2"] {
            cluster.power_off(name).unwrap();
            cluster.node(name).wipe().unwrap();
            cluster.power_on(name).unwrap();
        }
        let import = ["config", "import", &file, "--passphrase-file", &passphrase];
        cluster.nodes[0].become_one(&import).unwrap();
        self.serve_and_take_in_the_other();
        let nodes = &self.exchange.cluster.nodes;
        assert!(nodes.iter().all(|node| self::fingerprints(node) == fingerprints), "{fingerprints:?}");
    }
}

/// Clients at work, what the nodes answer them, and what befell them so far.
struct Work {
    clients: Clients,
    capture: Capture,
    faults: Vec<Fault>,
}

/// What was gone, and so may have cost something.
enum Fault {
    /// A node without power.
    Node(Gone),
    /// A server without power, between the two times.
    Server(Time, Time),
    /// Both nodes without power, between the two times.
    Everything(Time, Time),
}

impl Work {
    fn start(site: &Site) -> Self {
        let cluster = &site.exchange.cluster;
        let capture = Capture::start(&cluster.lab).unwrap();
        let clients = Clients::start(&cluster.https().unwrap());
        clients.wait_for(3);
        Self { clients, capture, faults: Vec::new() }
    }

    /// A node loses its power and is back.
    fn without_node(&mut self, site: &mut Site, name: &str) {
        let cluster = &mut site.exchange.cluster;
        let gone = cluster.power_off(name).unwrap();
        self.clients.wait_for(3);
        cluster.power_on(name).unwrap();
        cluster.node(name).start().unwrap();
        cluster.converge().unwrap();
        self.clients.wait_for(3);
        self.faults.push(Fault::Node(gone));
    }

    /// Both nodes lose their power, and start together.
    fn without_both(&mut self, site: &mut Site) {
        let cluster = &mut site.exchange.cluster;
        let from = Time::now();
        let gone = ["arr1", "arr2"].map(|name| cluster.power_off(name).unwrap());
        ["arr1", "arr2"].iter().for_each(|name| cluster.power_on(name).unwrap());
        cluster.start_agents().unwrap();
        cluster.converge().unwrap();
        self.faults.push(Fault::Everything(from, Time::now()));
        self.faults.extend(gone.map(Fault::Node));
        self.clients.wait_for(3);
    }

    /// A server loses its power and is back.
    fn without_server(&mut self, site: &mut Site, name: &str) {
        let from = Time::now();
        site.exchange.cluster.lab.pull_server(name).unwrap();
        let by = Time::now();
        site.exchange.standins.retain(|standin| standin.server != name);
        self.clients.wait_for(3);
        self.faults.push(Fault::Server(from, by));
        site.exchange.cluster.lab.plug_server(name).unwrap();
        let standin = Standin::start(&site.exchange, name).unwrap();
        site.exchange.standins.push(standin);
        for node in &mut site.exchange.cluster.nodes {
            let healthy = |status: &Status| {
                status.proxy.as_ref().is_some_and(|proxy| proxy.servers.iter().all(|server| server.healthy))
            };
            node.wait_until("all servers are healthy", healthy).unwrap();
        }
        self.clients.wait_for(3);
    }

    /// Looks that nothing failed but what had to.
    fn finish(self) {
        let all = self.clients.finish();
        let flows = self.capture.finish().unwrap();
        let mut lost: BTreeMap<(usize, usize), &Asked> = BTreeMap::new();
        for asked in all.iter().filter(|asked| asked.trouble.is_some()) {
            let fault = self.faults.iter().position(|fault| fault.had(asked, &flows));
            let fault = fault.unwrap_or_else(|| panic!("failed, and nothing was gone: {asked:#?}"));
            if matches!(self.faults[fault], Fault::Everything(..)) {
                continue;
            }
            let other = lost.insert((fault, asked.client), asked);
            assert!(other.is_none(), "one client lost twice by one fault: {other:#?}, {asked:#?}");
        }
        let of = |fault: usize| lost.keys().filter(|(other, _)| *other == fault).count();
        let lost_by: Vec<_> = (0..self.faults.len()).map(of).collect();
        line(format!("{} requests; lost by each fault: {lost_by:?}", all.len()));
        let gone: Vec<Gone> = self.faults.iter().filter_map(Fault::node).collect();
        assert_eq!(flows.answered_twice(&gone), Vec::<String>::new());
    }
}

impl Fault {
    /// Whether a request that failed was on what was gone.
    fn had(&self, asked: &Asked, flows: &Flows) -> bool {
        match self {
            Self::Node(gone) => {
                let by = asked.flow().and_then(|flow| flows.answered_by(flow));
                by == Some(gone.mac) && asked.begun < gone.by && asked.ended > gone.from
            }
            Self::Server(from, by) => asked.begun < *by && asked.ended > *from,
            Self::Everything(from, until) => asked.begun < *until && asked.ended > *from,
        }
    }

    fn node(&self) -> Option<Gone> {
        match self {
            Self::Node(gone) => Some(*gone),
            Self::Server(..) | Self::Everything(..) => None,
        }
    }
}

/// A folder as IIS exports it. Its health tests come often enough for a test that has no time.
fn exported(folder: &Path) -> PathBuf {
    let exported = folder.join("exported");
    fs::create_dir_all(&exported).unwrap();
    let golden = workspace_root().join("lb-user/tests/iis/exported-folder");
    for name in ["applicationHost.config", "administration.config", "configEncKey.key"] {
        fs::copy(golden.join(name), exported.join(name)).unwrap();
    }
    let file = exported.join("applicationHost.config");
    let text = fs::read_to_string(&file).unwrap();
    let often = text
        .replace("interval=\"00:00:10\" timeout=\"00:00:05\"", "interval=\"00:00:01\" timeout=\"00:00:01\"");
    assert_ne!(often, text);
    fs::write(&file, often).unwrap();
    exported
}

/// What Get-NlbCluster and the like print of two hosts in this mode.
fn nlb(mode: &str) -> String {
    let rule =
        |port: u16| format!("All       Enabled   {port:<9} {port:<9} Tcp       {mode:<9} None      0\n");
    format!(
        "PS C:\\> Get-NlbCluster\n\n\
         Name              IPAddress     SubnetMask    Mode\n\
         ----              ---------     ----------    ----\n\
         mail.example.test {WINDOWS} 255.255.255.0 MULTICAST\n\n\
         PS C:\\> Get-NlbClusterNode\n\n\
         Name State              Interface HostID\n\
         ---- -----              --------- ------\n\
         ARR1 Converged(default) DMZ       1\n\
         ARR2 Converged          DMZ       2\n\n\
         PS C:\\> Get-NlbClusterPortRule\n\n\
         IPAddress State     Start     End       Protocol  Mode      Affinity  Timeout\n\
         --------- -----     -----     ---       --------  ----      --------  -------\n{}{}{}",
        rule(443),
        rule(80),
        rule(25)
    )
}

/// What an operator changes of it: the spare cluster IP, the first node alone, a node that is back serves at once, and mail by SMTP, which IIS did
/// not publish.
fn edited(imported: &str, mode: &str) -> String {
    let filtering = format!("filtering = \"{}\"", mode.to_lowercase());
    let says = imported.contains(&filtering) || mode == "Multiple";
    assert!(says, "{imported}");
    let spare = imported.replace(&format!("{WINDOWS}/24"), &format!("{CLUSTER_IP}/24"));
    let at_once = spare.replace("[cluster]\n", "[cluster]\nhold_down = \"0s\"\n");
    let smtp = format!(
        "\n[[tcp]]\nname = \"smtp\"\nport = 25\nclient_address = \"proxy-protocol\"\n\
         servers = [{{ name = \"edge1\", address = \"{EDGE}\" }}]\nhealth = {{ banner = \"220 \", interval = \"500ms\" }}\n"
    );
    with_first_node_alone(&at_once) + &smtp
}

fn nothing_is_wrong(node: &Node) {
    let node_file = node.own_folder().join("node.toml").to_string_lossy().into_owned();
    let said = node.rollcall(&["doctor", "--json", "--node-file", &node_file]).unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    let said: Value = serde_json::from_str(&text).unwrap();
    let findings = said["findings"].as_array().unwrap();
    assert!(!findings.is_empty(), "{text}");
    let problems: Vec<&Value> = findings.iter().filter(|finding| finding["severity"] == "problem").collect();
    assert!(problems.is_empty(), "{}: {problems:#?}", node.name());
}

/// The first certificate of a PEM file.
fn leaf(path: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}

/// The fingerprints of the certificates that a node serves.
fn fingerprints(node: &Node) -> Vec<String> {
    let text = node.control(&["certificate", "list", "--json"]).unwrap();
    let list: Vec<Value> = serde_json::from_str(&text).unwrap();
    list.iter().map(|entry| entry["fingerprint"].as_str().unwrap().to_owned()).collect()
}
